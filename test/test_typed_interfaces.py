# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The topics, the action and the service of other packages, over DDS on what is really built."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Any

import pytest
import yaml

pytest.importorskip('rclpy')

from action_msgs.msg import GoalStatus
from bag_maker import COMPRESSED_TOPIC, jpeg
from car import Car, LOSSLESS, RELIABLE, start_node
from conftest import Process, ROOT, Ros
from interface_builder import without
import layouts
from lifecycle_msgs.msg import Transition
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile
from rosbags.typesys.store import Typestore
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool

from vts_ros.lab.first_pictures import as_yaml
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.nodes.conversions import message_type, to_ns
from vts_ros.nodes.qos import LATCHED_QOS
from vts_ros.nodes.questions import CANCELLED, MAX_QUESTIONS
from vts_ros.nodes.typed_requests import ASK, DESCRIBE
from vts_ros.pipeline import report_messages as messages
from vts_ros.tools.foxglove_layout import foxglove_layout
from vts_ros.tools.message_definitions import DEFINITIONS, OWN, typestore
from vts_ros.vlm.answers import RISK_LEVELS

#: The first build takes minutes on a busy machine, and later ones none.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
TAUGHT = 'Is it safe to drive on?'


@pytest.fixture(scope='module')
def running(ros: Ros, model: str, built: dict[str, str]) -> Iterator[tuple[Process, Car]]:
    """Return the running node and its other side."""
    ros.env.update(built)
    side = Car(ros.domain)
    process = start_node(ros, model, *LOSSLESS)
    process.wait_for_output('camera camera_front')
    yield process, side
    side.close()
    process.kill()


@pytest.fixture
def car(running: tuple[Process, Car]) -> Car:
    """Return the other side of a node that has seen nothing yet."""
    running[1].begin()
    return running[1]


@pytest.fixture(scope='module')
def hazard() -> list[bytes]:
    """Return the pictures of a rendered scene with a risk."""
    scene = next(scene for scene in balanced_scenes('train', 40)
                 if render(scene, 480, 270).window_truth().risk == 'high')
    return [jpeg(rgb) for rgb in render(scene, 480, 270).frames[-5:]]


def listen(car: Car, *types: str, qos: QoSProfile = RELIABLE) -> list[list[Any]]:
    """Return what comes on the topic of each type."""
    topics = {messages.DETECTIONS: 'detections', messages.ANNOTATIONS: 'annotations',
              messages.SCENE: 'scene'}
    return [car.listen(message_type(kind), f'/vts_node/{topics[kind]}', qos) for kind in types]


def test_what_is_published_is_what_the_report_says(car: Car, hazard: list[bytes]) -> None:
    """In pixels, in the colour of the risk, and stamped with the newest picture."""
    detections, drawn, scenes = listen(
        car, messages.DETECTIONS, messages.ANNOTATIONS, messages.SCENE)
    kept = car.listen(Float64, '/vts_node/debug/tokens_kept')
    for data in hazard:
        stamp = car.show(data, 'front_optical')
    report = car.wait_for_report(stamp)
    car.until(lambda: detections and drawn and scenes and kept)
    found = report.risk_object
    assert report.size == (270, 480)
    assert found is not None
    assert found.box is not None
    detection, = detections[-1].detections
    for header in (detections[-1].header, detection.header, scenes[-1].header):
        assert (to_ns(header.stamp), header.frame_id) == (stamp, 'front_optical')
    assert detection.results[0].hypothesis.class_id == found.label
    assert detection.results[0].hypothesis.score == pytest.approx(report.confidence, abs=1e-3)
    left, top, right, bottom = found.box
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == pytest.approx(
        (240 * (left + right), 135 * (top + bottom)), abs=0.1)
    assert (detection.bbox.size_x, detection.bbox.size_y) == pytest.approx(
        (480 * (right - left), 270 * (bottom - top)), abs=0.1)
    headline, label = drawn[-1].texts
    assert headline.text == f'RISK {report.answer.risk.upper()}: {report.answer.action}'
    assert label.text == f'{found.label}, {report.answer.risk}'
    cells, box = drawn[-1].points
    assert len(cells.points) > 0
    assert len(box.points) == 4
    assert kept[-1].data == len(report.keep)
    scene = scenes[-1]
    assert RISK_LEVELS[scene.risk] == report.answer.risk
    assert scene.description == report.answer.description
    assert (scene.width, scene.height) == (480, 270)
    assert list(scene.keep) == list(report.keep)
    assert scene.pruning == report.pruning == 'exact'
    assert [(list(step.frames), step.rows, step.columns) for step in scene.steps] == [
        ([index], *report.grid) for index in range(len(report.frames))]
    assert (scene.objects[0].label, scene.objects[0].left) == (
        found.label, pytest.approx(left, abs=1e-6))
    assert {time.stage: time.ms for time in scene.latency} == pytest.approx(
        report.latency_ms, abs=0.01)


def test_an_integrator_reads_the_detections_by_their_name_alone(
        car: Car, hazard: list[bytes]) -> None:
    """As `ros2 topic echo` does: type and QoS are those of the publisher, who joins late reads.

    The docs show what that prints.
    """
    for data in hazard:
        stamp = car.show(data, 'front_optical')
    car.wait_for_report(stamp)
    topic = '/vts_node/detections'
    found, = car.node.get_publishers_info_by_topic(topic)
    got = car.listen(message_type(found.topic_type), topic, QoSProfile(
        depth=1, durability=found.qos_profile.durability,
        reliability=found.qos_profile.reliability))
    car.until(lambda: got)
    printed = yaml.safe_load(as_yaml(got[-1]))
    page = (ROOT / 'docs' / 'ros.md').read_text()
    block = page.split(f'ros2 topic echo {topic}\n')[1].split('```yaml\n')[1].split('```')[0]
    shown = yaml.safe_load(block)
    assert outline(printed) == outline(shown)
    assert printed['header']['frame_id'] == 'front_optical'


def outline(value: Any) -> Any:
    """Return the fields of what was printed, without what is in them."""
    if isinstance(value, dict):
        return {name: outline(part) for name, part in value.items()}
    return [outline(part) for part in value[:1]] if isinstance(value, list) else None


def test_what_is_taken_back_is_taken_back_in_every_type(car: Car, hazard: list[bytes]) -> None:
    """And who joins late gets that, not the answer before."""
    for data in hazard:
        stamp = car.show(data)
    car.wait_for_report(stamp)
    car.call(SetBool, '/vts_node/enable', SetBool.Request(data=False))
    car.until(lambda: car.retracted)
    detections, drawn, scenes = listen(
        car, messages.DETECTIONS, messages.ANNOTATIONS, messages.SCENE, qos=LATCHED_QOS)
    car.until(lambda: scenes and scenes[-1].risk == RISK_LEVELS.index('unknown'))
    assert scenes[-1].explanation == 'the node was disabled'
    assert isnan(scenes[-1].confidence)
    car.until(lambda: detections and not detections[-1].detections)
    car.until(lambda: drawn and not (drawn[-1].points or drawn[-1].texts))
    car.call(SetBool, '/vts_node/enable', SetBool.Request(data=True))


def test_describe_returns_the_whole_report(car: Car, hazard: list[bytes]) -> None:
    """Of the window that was described for it; without one, the reason."""
    kind = message_type(DESCRIBE)
    refused = car.call(kind, '/vts_node/describe', kind.Request())
    assert not refused.success
    assert refused.message
    for data in hazard:
        stamp = car.show(data)
    car.wait_for_report(stamp)
    found = car.call(kind, '/vts_node/describe', kind.Request())
    assert found.success
    assert found.message == found.report.description
    assert to_ns(found.report.header.stamp) == stamp


class Asking:
    """A client of the action, and what it hears."""

    def __init__(self, car: Car) -> None:
        self.car, self.kind = car, message_type(ASK)
        self.client = ActionClient(car.node, self.kind, '/vts_node/ask')
        self.pieces: list[Any] = []
        car.until(self.client.server_is_ready)

    def send(self, question: str) -> Any:
        """Ask; return the goal when it is accepted."""
        sent = self.client.send_goal_async(
            self.kind.Goal(question=question),
            feedback_callback=lambda message: self.pieces.append(message.feedback))
        self.car.until(sent.done)
        assert sent.result().accepted
        return sent.result()

    def result(self, goal: Any) -> Any:
        """Return status and result of a goal."""
        got = goal.get_result_async()
        self.car.until(got.done)
        return got.result()


@pytest.fixture
def asking(car: Car) -> Iterator[Asking]:
    """Return a client of the action."""
    client = Asking(car)
    yield client
    client.client.destroy()


def test_a_question_is_answered_piece_by_piece(asking: Asking, hazard: list[bytes]) -> None:
    """Under one number, on the action as on the topics."""
    car = asking.car
    answers, parts = (car.listen(String, f'/vts_node/{name}')
                      for name in ('answer', 'answer_partial'))
    for data in hazard:
        stamp = car.show(data)
    car.wait_for_report(stamp)
    done = asking.result(asking.send(TAUGHT))
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    assert done.result.answer
    assert not done.result.error
    car.until(lambda: ''.join(piece.text for piece in asking.pieces).strip()
              == done.result.answer)
    assert len(asking.pieces) > 2
    assert {piece.id for piece in asking.pieces} == {done.result.id}
    car.until(lambda: answers and len(parts) == len(asking.pieces))
    assert f'"id": {done.result.id}' in answers[-1].data


def test_a_question_that_has_no_answer_is_aborted_with_the_reason(asking: Asking) -> None:
    """Without pictures, in a form that is not taken, and in a node that is not active."""
    for question, reason in ((TAUGHT, 'no window of pictures yet'),
                             ('', 'expected 1 to 500 characters')):
        done = asking.result(asking.send(question))
        assert (done.status, done.result.error) == (GoalStatus.STATUS_ABORTED, reason)
    asking.car.change_state(Transition.TRANSITION_DEACTIVATE)
    done = asking.result(asking.send(TAUGHT))
    assert (done.status, done.result.error) == (
        GoalStatus.STATUS_ABORTED, 'the node is not active')
    assert done.result.id > 0


def test_questions_can_be_cancelled(asking: Asking, hazard: list[bytes]) -> None:
    """Those that wait at once, and the others are answered."""
    car = asking.car
    for data in hazard:
        stamp = car.show(data)
    car.wait_for_report(stamp)
    goals = [asking.send(TAUGHT) for _ in range(MAX_QUESTIONS)]
    cancelled = [goal.cancel_goal_async() for goal in goals[1::2]]
    car.until(lambda: all(request.done() for request in cancelled))
    done = [asking.result(goal) for goal in goals]
    states = [goal.status for goal in done]
    # One that was answered before it could be cancelled stays answered.
    assert set(states[::2]) == {GoalStatus.STATUS_SUCCEEDED}
    assert states.count(GoalStatus.STATUS_CANCELED) >= 1
    for goal in done:
        assert goal.result.error == (
            CANCELLED if goal.status == GoalStatus.STATUS_CANCELED else '')


@pytest.mark.parametrize('namespace', ['', '/car1'])
def test_a_running_node_has_all_that_the_layouts_show(own_ros: Ros, model: str, namespace: str,
                                                      built: dict[str, str]) -> None:
    """RViz is started in the namespace of the node, as the launch files do it."""
    own_ros.env.update(built)
    inside = ['--ros-args', '-r', f'__ns:={namespace or "/"}', '-p', 'cameras:=[camera/front]']
    for module in ('vts_node', 'overlay_node'):
        own_ros.start(f'vts_ros.nodes.{module}', *inside,
                      *([] if module == 'overlay_node' else ['-p', f'vlm.model:={model}']))
    camera = f'{namespace}{COMPRESSED_TOPIC}'
    side = Car(own_ros.domain)
    pictures = side.node.create_publisher(CompressedImage, camera, RELIABLE)
    shown = foxglove_layout(namespace, [camera])
    try:
        side.until(lambda: pictures.get_subscription_count() == 2)
        # Names of the namespace, not those that this side of the test listens to.
        layouts.check({topic: kinds[0] for topic, kinds in side.node.get_topic_names_and_types()
                       if side.node.count_publishers(topic)}, shown, namespace)
    finally:
        side.close()


def test_recordings_and_node_have_the_same_types(built: dict[str, str]) -> None:
    """Field by field, and of vts_interfaces those that are written with rosbags."""
    store: Typestore = typestore()
    for name in (*DEFINITIONS, *(f'vts_interfaces/msg/{name}' for name in OWN)):
        fields = message_type(name).get_fields_and_field_types()
        assert list(fields) == [field for field, _ in store.fielddefs[name][1]], name


def test_without_the_packages_the_node_says_so_once(own_ros: Ros, model: str,
                                                    built: dict[str, str]) -> None:
    """And does all else."""
    if not built:
        pytest.skip('the packages are installed here')
    own_ros.env['PYTHONPATH'] = without(built, own_ros.env.get('PYTHONPATH', ''))
    process = start_node(own_ros, model, 'autostart:=false')
    process.wait_for_output('autostart is false')
    assert process.output.count('~/detections (vision_msgs), ~/annotations (foxglove_msgs), '
                                '~/scene (vts_interfaces)') == 1
    process.interrupt()
    assert process.wait(120.0) == 0
