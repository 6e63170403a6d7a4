# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node as a process, fed over DDS from a recorded drive and with messages of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
import json
from pathlib import Path
import signal
import time
from typing import Any

import pytest

pytest.importorskip('rclpy')

from bag_maker import COMPRESSED_TOPIC, drive, jpeg, picture, RAW_TOPIC, START_NS, times
from conftest import Process, ROOT, Ros
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray
import yaml

from vts_ros.bags import BagError
from vts_ros.nodes import health, replay, vts_node
from vts_ros.nodes.conversions import RISK_STATUS, to_ns, to_stamp
from vts_ros.nodes.health import CameraHealth, HARDWARE_ID
from vts_ros.nodes.parameters import TABLE
from vts_ros.nodes.vts_node import LATCHED_QOS, MAX_QUESTION_CHARS, MAX_QUESTIONS, VtsNode
from vts_ros.report import RISK_LEVELS, SceneReport

STEP_NS = 200_000_000
#: After so long a window starts anew.
GAP_NS = 100 * 1_000_000_000
DRIVE = 20
RELIABLE = QoSProfile(depth=100)
STATUS = 'vts_node: '
CAMERA = 'camera camera_front'


class Car:
    """The other side of the node: publishes pictures, collects what comes back."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node('car', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.stamp_ns = START_NS + GAP_NS
        self.reports: list[SceneReport] = []
        self.risks: list[DiagnosticArray] = []
        self.retracted: list[DiagnosticStatus] = []
        self.markers: list[MarkerArray] = []
        self.statuses: dict[str, DiagnosticStatus] = {}
        listen = self.node.create_subscription
        listen(String, '/vts_node/report', self._on_report, RELIABLE)
        listen(DiagnosticArray, '/vts_node/risk', self._on_risk, RELIABLE)
        listen(MarkerArray, '/vts_node/markers', self.markers.append, RELIABLE)
        listen(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        self.compressed = self.node.create_publisher(CompressedImage, COMPRESSED_TOPIC, RELIABLE)
        self.raw = self.node.create_publisher(Image, RAW_TOPIC, RELIABLE)

    def close(self) -> None:
        """Leave the domain."""
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin_until(self, condition: Callable[[], Any], timeout_sec: float = 30.0) -> None:
        """Receive until the condition holds; fail after the timeout."""
        deadline = time.monotonic() + timeout_sec
        while not condition():
            assert time.monotonic() < deadline, 'nothing came in time'
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Receive for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)

    def call(self, kind: Any, name: str, request: Any, timeout_sec: float = 30.0) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, name)
        self.spin_until(client.service_is_ready, timeout_sec)
        answer = client.call_async(request)
        self.spin_until(answer.done, timeout_sec)
        self.node.destroy_client(client)
        return answer.result()

    def set_parameter(self, name: str, value: Any) -> Any:
        """Ask for another value; return success and reason."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, '/vts_node/set_parameters', request).results[0]

    def change_state(self, *transitions: int) -> None:
        """Take the node through transitions of its lifecycle."""
        for transition in transitions:
            request = ChangeState.Request(transition=Transition(id=transition))
            assert self.call(ChangeState, '/vts_node/change_state', request, 60.0).success

    def show(self, data: bytes, frame_id: str = 'camera_front') -> int:
        """Publish compressed bytes with the next stamp; return the stamp."""
        self.stamp_ns += STEP_NS
        header = Header(stamp=to_stamp(self.stamp_ns), frame_id=frame_id)
        self.compressed.publish(CompressedImage(header=header, format='jpeg', data=data))
        return self.stamp_ns

    def show_good(self, count: int) -> list[int]:
        """Publish good pictures slowly enough for every window to be described."""
        stamps = []
        for number in range(count):
            stamps.append(self.show(jpeg(picture(number))))
            self.spin(0.15)
        return stamps

    def show_raw(self, encoding: str, width: int, height: int, size: int) -> int:
        """Publish a raw picture of so many bytes; return the stamp."""
        self.stamp_ns += STEP_NS
        self.raw.publish(Image(
            header=Header(stamp=to_stamp(self.stamp_ns), frame_id='camera_front'), width=width,
            height=height, encoding=encoding, step=size // height if height else 0,
            data=bytes(size)))
        return self.stamp_ns

    def wait_for_report(self, stamp_ns: int) -> SceneReport:
        """Wait for the report about the frame with this stamp."""
        self.spin_until(lambda: any(report.stamp == stamp_ns for report in self.reports))
        return next(report for report in reversed(self.reports) if report.stamp == stamp_ns)

    def counter(self, status: str, name: str) -> int:
        """Return a counter from diagnostics that are newer than this call."""
        self.statuses.clear()
        self.spin_until(lambda: STATUS + status in self.statuses)
        values = {value.key: value.value for value in self.statuses[STATUS + status].values}
        return int(values.get(name, 0))

    def _on_report(self, message: String) -> None:
        self.reports.append(SceneReport.from_dict(json.loads(message.data)))

    def _on_risk(self, message: DiagnosticArray) -> None:
        # A risk names the camera; that it is no longer known comes from the node itself.
        if message.status[0].hardware_id == HARDWARE_ID:
            self.retracted.append(message.status[0])
        else:
            self.risks.append(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses.update({status.name: status for status in message.status})


@pytest.fixture(scope='module')
def car(ros: Ros) -> Iterator[Car]:
    """Return the other side, in the domain of this module."""
    side = Car(ros.domain)
    yield side
    side.close()


def start_node(ros: Ros, model: str, *parameters: str) -> Process:
    """Start the node on one camera with a short spacing of frames."""
    given = (f'vlm.model:={model}', 'cameras:=[camera/front]', 'max_frame_age_sec:=0.0',
             'buffer.interval_sec:=0.2', 'engine.threads:=1', *parameters)
    return ros.start('vts_ros.nodes.vts_node', '--ros-args',
                     *(word for one in given for word in ('-p', one)))


@pytest.fixture(scope='module')
def node(ros: Ros, model: str, car: Car) -> Iterator[Process]:
    """Return the running node; its start takes seconds, so the tests share it."""
    process = start_node(ros, model, 'vlm.max_new_tokens:=64')
    process.wait_for_output('camera camera_front')
    car.spin_until(lambda: car.compressed.get_subscription_count() == 1)
    yield process
    process.kill()


def test_a_replayed_bag_is_described(ros: Ros, node: Process, car: Car, tmp_path: Path) -> None:
    bag = drive(tmp_path / 'drive', DRIVE)
    stamps = times(DRIVE)
    player = ros.start('vts_ros.nodes.replay', str(bag), '--wait-sec', '30')
    car.wait_for_report(stamps[-1])
    assert player.wait(20.0) == 0
    assert f'{DRIVE} messages on {COMPRESSED_TOPIC}' in player.output

    answered = [report.stamp for report in car.reports]
    assert set(answered) <= set(stamps[4:])
    assert answered == sorted(set(answered))
    for report in car.reports:
        window = [frame.stamp for frame in report.frames]
        last = stamps.index(report.stamp)
        assert window == stamps[last - 4:last + 1]
        assert {frame.camera for frame in report.frames} == {'camera_front'}
        assert len(report.keep) == round(0.6 * report.tokens_total)
        assert list(report.keep) == sorted(set(report.keep))
        assert min(report.keep) >= 0
        assert max(report.keep) < report.tokens_total
        assert report.key_frame.stamp == window[report.key_frame.index]
        assert report.answer.risk in RISK_LEVELS
    # Every window was either described or gave way to a newer one.
    assert (car.counter('pipeline', 'described'), car.counter('pipeline', 'skipped')) == (
        len(answered), DRIVE - 4 - len(answered))
    assert car.counter(CAMERA, 'admitted') == DRIVE


def test_risk_and_markers_belong_to_the_report(node: Process, car: Car) -> None:
    report = car.reports[-1]
    car.spin_until(lambda: len(car.risks) == len(car.markers) == len(car.reports))
    risk, marker = car.risks[-1], car.markers[-1].markers[0]
    assert to_ns(risk.header.stamp) == to_ns(marker.header.stamp) == report.stamp
    assert risk.header.frame_id == 'camera_front_optical_frame'
    assert risk.status[0].level == RISK_STATUS[report.answer.risk]
    assert risk.status[0].message == report.answer.explanation
    assert marker.header.frame_id == 'base_link'
    assert report.answer.risk.upper() in marker.text


def test_who_joins_late_gets_the_last_answer(node: Process, car: Car) -> None:
    got: list[Any] = []
    late = [car.node.create_subscription(kind, f'/vts_node/{name}', got.append, LATCHED_QOS)
            for kind, name in ((String, 'scene_description'), (DiagnosticArray, 'risk'))]
    car.spin_until(lambda: len(got) == 2)
    for one in late:
        car.node.destroy_subscription(one)
    texts = [one.data for one in got if isinstance(one, String)]
    assert texts == [car.reports[-1].answer.description]


def test_describe_now_answers_about_the_newest_window(node: Process, car: Car) -> None:
    before = len(car.reports)
    answer = car.call(Trigger, '/vts_node/describe_now', Trigger.Request())
    car.spin_until(lambda: len(car.reports) == before + 1)
    assert answer.success
    assert answer.message == car.reports[-1].answer.description
    assert car.reports[-1].stamp == car.reports[-2].stamp


def test_a_question_is_answered(node: Process, car: Car) -> None:
    answers: list[String] = []
    car.node.create_subscription(String, '/vts_node/answer', answers.append, RELIABLE)
    asks = car.node.create_publisher(String, '/vts_node/question', RELIABLE)
    car.spin_until(lambda: asks.get_subscription_count() == 1)
    asks.publish(String(data='Is the road clear?'))
    car.spin_until(lambda: answers)


def test_questions_are_bounded_in_length_and_number(node: Process, car: Car) -> None:
    answers: list[String] = []
    listens = car.node.create_subscription(String, '/vts_node/answer', answers.append, RELIABLE)
    asks = car.node.create_publisher(String, '/vts_node/question', RELIABLE)
    car.spin_until(lambda: asks.get_subscription_count() == listens.get_publisher_count() == 1)
    for text in ('', ' ', '?' * (MAX_QUESTION_CHARS + 1)):
        asks.publish(String(data=text))
    car.spin_until(lambda: car.counter('pipeline', 'questions_refused') == 3)
    assert 'expected 1 to 500 characters' in node.output

    count = 3 * MAX_QUESTIONS
    for _ in range(count):
        asks.publish(String(data='?' * MAX_QUESTION_CHARS))
        car.spin(0.01)
    car.spin_until(
        lambda: len(answers) + car.counter('pipeline', 'questions_refused') == count + 3)
    assert MAX_QUESTIONS <= len(answers) < count


def test_a_silent_camera_takes_the_risk_back_once(node: Process, car: Car) -> None:
    car.retracted.clear()
    car.wait_for_report(car.show_good(5)[-1])
    car.spin_until(lambda: car.retracted)
    count, last = len(car.retracted), car.retracted[-1]
    car.spin(2.5)
    assert len(car.retracted) == count
    assert last.level == DiagnosticStatus.STALE
    assert last.message.startswith('camera_front: no picture for')
    late: list[DiagnosticArray] = []
    car.node.create_subscription(DiagnosticArray, '/vts_node/risk', late.append, LATCHED_QOS)
    car.spin_until(lambda: late)
    assert late[0].status[0] == last


def test_disabled_is_silent_until_asked(node: Process, car: Car) -> None:
    assert car.call(SetBool, '/vts_node/enable', SetBool.Request(data=False)).success
    stamps = car.show_good(6)
    car.spin(1.0)
    assert not {report.stamp for report in car.reports} & set(stamps)
    assert car.call(Trigger, '/vts_node/describe_now', Trigger.Request()).success
    assert car.wait_for_report(stamps[-1])
    assert car.call(SetBool, '/vts_node/enable', SetBool.Request(data=True)).success
    assert car.wait_for_report(car.show_good(1)[-1])


def test_parameters_are_refused_with_the_reason(node: Process, car: Car) -> None:
    for name, value, reason in (
            ('sparsify.keep_ratio', 1.5, 'out of range'),
            ('pipeline.period_sec', -1.0, 'out of range'),
            ('vlm.model', 'other', 'read on configure'),
            ('buffer.frames', 7, 'read on configure'),
            ('autostart', False, 'read-only')):
        result = car.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason
        assert name in result.reason


def test_keep_ratio_changes_live(node: Process, car: Car) -> None:
    assert car.set_parameter('sparsify.keep_ratio', 0.3).successful
    report = car.wait_for_report(car.show_good(5)[-1])
    assert len(report.keep) == round(0.3 * report.tokens_total)
    assert car.set_parameter('sparsify.keep_ratio', 0.6).successful


def test_broken_pictures_are_counted_and_left_out(node: Process, car: Car) -> None:
    refused = car.counter(CAMERA, 'refused')
    broken = car.counter(CAMERA, 'broken')
    whole = jpeg(picture(1))
    bad = []
    for data in (whole[:len(whole) // 2], b'no picture at all', b''):
        bad.append(car.show(data))
        good = car.show(whole)
        report = car.wait_for_report(good)
        assert not {frame.stamp for frame in report.frames} & set(bad)
    assert car.counter(CAMERA, 'refused') == refused + 1
    assert car.counter(CAMERA, 'broken') == broken + 2
    assert 'truncated JPEG (no end marker) (said once' in node.output
    car.show(b'')
    car.spin_until(lambda: car.statuses[STATUS + CAMERA].message == 'empty picture')
    assert car.statuses[STATUS + CAMERA].level == DiagnosticStatus.WARN


def test_period_spares_windows(node: Process, car: Car) -> None:
    car.wait_for_report(car.show_good(1)[-1])
    assert car.set_parameter('pipeline.period_sec', 60.0).successful
    before, skipped = len(car.reports), car.counter('pipeline', 'skipped')
    car.show_good(4)
    car.spin(0.5)
    assert len(car.reports) == before
    assert car.counter('pipeline', 'skipped') == skipped + 4
    assert car.set_parameter('pipeline.period_sec', 0.0).successful
    car.wait_for_report(car.show_good(1)[-1])


def test_old_pictures_are_not_described(node: Process, car: Car) -> None:
    assert car.set_parameter('max_frame_age_sec', 5.0).successful
    answer = car.call(Trigger, '/vts_node/describe_now', Trigger.Request())
    assert not answer.success
    assert 'use_sim_time' in answer.message
    # A picture that could not be used a moment ago is told first.
    car.spin_until(lambda: car.show_good(1) and (
        car.statuses[STATUS + CAMERA].level == DiagnosticStatus.ERROR))
    assert 'use_sim_time' in car.statuses[STATUS + CAMERA].message
    assert car.set_parameter('max_frame_age_sec', 0.0).successful


def test_time_going_back_starts_a_new_window(node: Process, car: Car) -> None:
    car.wait_for_report(car.show_good(1)[-1])
    car.stamp_ns = START_NS
    car.reports.clear()
    # A single picture from the past would be a stray.
    stamps = car.show_good(6)[1:]
    report = car.wait_for_report(stamps[-1])
    assert [frame.stamp for frame in report.frames] == stamps
    assert len(car.reports) == 1
    assert 'time went back' in node.output


def test_a_bag_in_a_loop_is_described_in_every_pass(ros: Ros, node: Process, car: Car,
                                                    tmp_path: Path) -> None:
    assert car.set_parameter('use_sim_time', True).successful
    bag, stamps = drive(tmp_path / 'drive', 2 * DRIVE), times(2 * DRIVE)
    car.reports.clear()
    player = ros.start('vts_ros.nodes.replay', str(bag), '--clock', '--loop', '--wait-sec', '30')
    car.spin_until(lambda: any(old.stamp > new.stamp for old, new in pairwise(car.reports)), 90.0)
    player.interrupt()
    assert player.wait(20.0) == 0
    for report in car.reports:
        last = stamps.index(report.stamp)
        assert [frame.stamp for frame in report.frames] == stamps[last - 4:last + 1]
    assert car.set_parameter('use_sim_time', False).successful
    car.stamp_ns += GAP_NS


def test_the_node_answers_after_every_way_through_its_lifecycle(node: Process, car: Car) -> None:
    car.wait_for_report(car.show_good(5)[-1])
    car.change_state(Transition.TRANSITION_DEACTIVATE)
    car.spin_until(lambda: car.compressed.get_subscription_count() == 0)
    refused = car.call(Trigger, '/vts_node/describe_now', Trigger.Request())
    assert (refused.success, refused.message) == (False, 'the node is not active')

    car.change_state(Transition.TRANSITION_ACTIVATE)
    car.spin_until(lambda: car.compressed.get_subscription_count() == 1)
    stamps = car.show_good(5)
    assert [frame.stamp for frame in car.wait_for_report(stamps[-1]).frames] == stamps

    car.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    assert car.set_parameter('buffer.frames', 3).successful
    car.change_state(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    car.spin_until(lambda: car.compressed.get_subscription_count() == 1)
    stamps = car.show_good(3)
    assert [frame.stamp for frame in car.wait_for_report(stamps[-1]).frames] == stamps


def test_sigint_ends_the_node(node: Process, car: Car) -> None:
    car.show_good(1)
    node.interrupt()
    assert node.wait(3.0) == 0
    assert 'Traceback' not in node.output


def test_managed_start_raw_pictures_and_sigterm_while_generating(
        ros: Ros, model: str, car: Car) -> None:
    process = start_node(ros, model, 'autostart:=false', 'image_transport:=raw',
                         'use_sim_time:=true', 'vlm.max_new_tokens:=4000')
    # Diagnostics come although no /clock ticks.
    name = STATUS + 'pipeline'
    car.statuses.clear()
    car.spin_until(lambda: name in car.statuses and car.statuses[name].message == 'not active',
                   90.0)
    refused = car.call(Trigger, '/vts_node/describe_now', Trigger.Request())
    assert (refused.success, refused.message) == (False, 'the node is not active')
    car.change_state(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    car.spin_until(lambda: car.raw.get_subscription_count() == 1)

    bad = [('rgb8', 0, 0, 0), ('bgr8', 0, 0, 0), ('mono8', 0, 0, 0), ('yuv422', 63, 64, 8064),
           ('mono16', 64, 64, 8192), ('rgb8', 64, 64, 5000), ('sonar', 64, 64, 4096)]
    for encoding, width, height, size in bad:
        car.show_raw(encoding, width, height, size)
        car.spin(0.2)
    for encoding, channels in (('rgb8', 3), ('bgr8', 3), ('bgra8', 4), ('mono8', 1)):
        car.show_raw(encoding, 64, 64, 64 * 64 * channels)
        car.spin(0.2)
    assert car.counter(CAMERA, 'refused') == len(bad)
    assert car.counter(CAMERA, 'admitted') == 4
    # The first reason is in the log, the last one in the diagnostics.
    assert '0x0' in process.output
    assert process.output.count('said once') == 1
    assert 'sonar' in car.statuses[STATUS + CAMERA].message

    clock = car.node.create_publisher(Clock, '/clock', RELIABLE)
    car.spin_until(lambda: clock.get_subscription_count() == 1)
    for sec in (100, 101, 50):
        assert 'time went back' not in process.output
        clock.publish(Clock(clock=to_stamp(sec * 1_000_000_000)))
        car.spin(0.2)
    process.wait_for_output('time went back')
    car.show_raw('rgb8', 64, 64, 64 * 64 * 3)
    client = car.node.create_client(Trigger, '/vts_node/describe_now')
    car.spin_until(client.service_is_ready)
    client.call_async(Trigger.Request())
    car.spin(0.5)
    process.interrupt(signal.SIGTERM)
    assert process.wait(3.0) == 0, process.output
    assert 'Traceback' not in process.output


def test_a_model_that_is_not_there_ends_the_start_with_the_reason(ros: Ros) -> None:
    process = start_node(ros, '/nowhere')
    assert process.wait(100.0) == 1
    assert 'on_configure failed' in process.output
    assert '/nowhere' in process.output
    assert 'Traceback' not in process.output


@pytest.fixture
def inside(ros: Ros, model: str) -> Iterator[VtsNode]:
    """Return a node of this process that nothing spins."""
    rclpy.init(domain_id=ros.domain, args=[
        '--ros-args', '-p', f'vlm.model:={model}', '-p', 'cameras:=[camera/front, camera/rear]'])
    node = VtsNode()
    try:
        yield node
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()


def test_an_unexpected_failure_is_an_error_and_no_answer(inside: VtsNode) -> None:
    worked, reason = inside._attempt(lambda: str(np.empty(0)[1]))
    assert not worked
    assert reason.startswith('IndexError')
    status = next(one for one in inside._health.statuses('vts_node', {}, 'enabled')
                  if one.name.endswith('pipeline'))
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == reason


def show_nothing(node: VtsNode) -> None:
    node._cameras = [CameraHealth('/front/image_raw')]
    node._publish_diagnostics()


@pytest.mark.parametrize(('event', 'reason'), [
    (lambda node: node._describe(full=True), 'the node is not active'),
    (lambda node: node._on_enable(SetBool.Request(), SetBool.Response()), 'the node was disabled'),
    (lambda node: node._on_time_jump(None), 'time went back'),
    (lambda node: node._stop('the node was deactivated'), 'the node was deactivated'),
    (show_nothing, 'front: no picture yet')])
def test_whatever_ends_a_risk_takes_it_back_once(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, event: Callable[[VtsNode], None],
        reason: str) -> None:
    said: list[DiagnosticArray] = []
    monkeypatch.setattr(inside._risk, 'publish', said.append)
    inside._risk_stands = True
    for _ in range(2):
        event(inside)
    inside._worker.submit(lambda: None).result()
    assert [(one.status[0].level, one.status[0].message) for one in said] == [
        (DiagnosticStatus.STALE, reason)]


def test_no_picture_ends_the_node(inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError('64 TiB')

    monkeypatch.setattr(vts_node, 'to_frame', fail)
    camera = CameraHealth('/image_raw')
    inside._on_image(camera, CompressedImage())
    assert camera.counters['refused'] == 1
    assert camera.problem == 'MemoryError: 64 TiB'


def test_shutdown_and_a_failed_activation_leave_nothing(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def topics() -> list[str]:
        return [one.topic_name for one in inside.subscriptions if 'image' in one.topic_name]

    def fail(namespace: str) -> None:
        if namespace == 'camera/rear':
            raise RuntimeError('no such luck')
        subscribe(namespace)

    subscribe = inside._subscribe
    assert inside.trigger_configure() == TransitionCallbackReturn.SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(inside, '_subscribe', fail)
        assert inside.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert (topics(), inside._cameras) == ([], [])
    assert inside.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert len(topics()) == 2
    assert inside.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert (topics(), inside._cameras, inside._pipeline) == ([], [], None)


def test_errors_nobody_foresaw_are_told_with_their_traceback() -> None:
    with pytest.raises(IndexError) as caught:
        np.empty(0)[1]
    assert 'Traceback' in vts_node.told(caught.value)
    assert vts_node.told(FileNotFoundError('no such model')) == 'no such model'


def test_a_camera_keeps_the_name_of_its_first_picture() -> None:
    camera = CameraHealth('/image_raw')
    for frame_id in ('front_optical_frame', 'rear_optical_frame'):
        camera.received(frame_id)
    assert (camera.name, camera.frame_id) == ('front', 'rear_optical_frame')


def test_a_problem_of_a_camera_is_news_once_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = CameraHealth('/front/image_raw', stamp_ns=1)
    camera.received('front')
    assert [camera.unusable('refused', reason) for reason in ('dark', 'torn')] == [True, False]
    status = camera.status('vts_node', 1, 0.0, 1)
    assert (status.level, status.message) == (DiagnosticStatus.WARN, 'torn')
    monkeypatch.setattr(health, 'PROBLEM_SEC', 0.0)
    assert camera.status('vts_node', 1, 0.0, 1).level == DiagnosticStatus.OK
    assert camera.counters['refused'] == 2


@pytest.mark.parametrize(('cameras', 'reason'), [
    ([''], None), (['camera/front', '/rear'], None), ([], 'one or more'),
    (['a/b', 'a_b'], 'name of its own'), (['front', '/front'], 'name of its own'),
    (['front/'], 'must not end'), (['a//b'], 'repeated'), (['a b'], 'characters'),
    (['1st'], 'number')])
def test_cameras_are_named_as_ros_allows(cameras: list[str], reason: str | None) -> None:
    problem = next(spec for spec in TABLE if spec.name == 'cameras').problem(cameras)
    assert problem is None if reason is None else problem and reason in problem


def test_replay_waits_for_listeners_although_the_bag_is_damaged(
        ros: Ros, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BagError('damaged')

    flushed: list[bool] = []
    monkeypatch.setattr(replay, '_play', fail)
    monkeypatch.setattr(replay.Player, 'flush', lambda _: flushed.append(True))
    monkeypatch.setenv('ROS_DOMAIN_ID', str(ros.domain))
    with pytest.raises(BagError, match='damaged'):
        replay.replay_bag(drive(tmp_path / 'drive', 2), wait_sec=0.0)
    assert flushed


def test_parameter_file_and_table_agree() -> None:
    def flat(tree: dict[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f'{prefix}{name}.')
            else:
                yield prefix + name, value

    with (ROOT / 'config' / 'vts.yaml').open() as file:
        given = yaml.safe_load(file)['/**/vts_node']['ros__parameters']
    assert dict(flat(given)) == {spec.name: spec.default for spec in TABLE}
