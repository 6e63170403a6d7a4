# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the node promises about answers that no longer hold, over DDS and with its own defaults.

Pictures are stamped with the present here, so that nothing about their age is switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import time
from typing import Any

import pytest

pytest.importorskip('rclpy')

from bag_maker import jpeg
from car import Car, LOSSLESS, parameters, STATUS, STEP_NS
from conftest import Process, Ros
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import SetBool
from test_served import Server
from test_served import server as chat_server  # noqa: F401 (a fixture)
from visualization_msgs.msg import Marker, MarkerArray

from vts_ros.lab.scenes.clips import make_scene, render
from vts_ros.nodes.conversions import to_stamp
from vts_ros.nodes.qos import LATCHED_QOS
from vts_ros.pipeline.report_messages import HARDWARE_ID

pytestmark = pytest.mark.slow

#: A window of the embedded model's own world, so that it says something of it.
PICTURES = [jpeg(rgb) for rgb in render(make_scene(3, 'following', level='high')).frames]
#: What decides where pictures and keys go, each with a value that would be of use to a stranger.
STRANGERS_WISHES = {'vlm.url': 'http://192.0.2.1/v1', 'vlm.backend': 'openai',
                    'vlm.prompts': '/etc/hostname', 'vlm.local_files_only': False,
                    'pipeline.task': '/etc'}


def start_as_shipped(ros: Ros, model: str, *given: str) -> Process:
    """Start the node with the defaults of all that ages, and short answers."""
    return ros.start('vts_ros.nodes.vts_node', *parameters((
        f'vlm.model:={model}', 'cameras:=[camera/front]', 'vlm.threads:=1', *LOSSLESS,
        *given)))


class LiveCamera:
    """Shows pictures of the present, one for every frame of a window."""

    def __init__(self, car: Car) -> None:
        self._car = car
        self._shown = 0

    def __call__(self) -> int:
        """Show the next one."""
        self._car.stamp_ns = time.time_ns() - STEP_NS
        self._shown += 1
        return self._car.show(PICTURES[self._shown % len(PICTURES)])

    def until(self, condition: Any) -> None:
        """Go on until the condition holds."""
        self._car.until(condition, doing=self, every_sec=0.4)

    def until_answered(self) -> None:
        """Go on until a new answer stands."""
        seen = len(self._car.risks), len(self._car.reports)
        self.until(lambda: len(self._car.risks) > seen[0] and len(self._car.reports) > seen[1])


def check_late_joiner(car: Car, reason: str) -> None:
    """Who subscribes now learns that nothing is known, and sees no marker."""
    risks = car.listen(DiagnosticArray, '/vts_node/risk', LATCHED_QOS)
    markers = car.listen(MarkerArray, '/vts_node/markers', LATCHED_QOS)
    texts = car.listen(String, '/vts_node/scene_description', LATCHED_QOS)
    car.until(lambda: risks and markers and texts)
    (status,) = risks[-1].status
    assert status.level == DiagnosticStatus.STALE
    assert status.hardware_id == HARDWARE_ID
    assert reason in status.message
    assert [marker.action for marker in markers[-1].markers] == [Marker.DELETEALL]
    assert texts[-1].data == ''


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of a node that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


@pytest.fixture(scope='module')
def running(ros: Ros, model: str) -> Iterator[Car]:
    """Return the other side of a node that tests share."""
    side = Car(ros.domain)
    process = start_as_shipped(ros, model, 'vlm.max_new_tokens:=64')
    process.wait_for_output('camera camera_front')
    yield side
    side.close()


@pytest.fixture
def shared(running: Car) -> Car:
    """Return the other side of a node that has seen nothing yet."""
    running.begin()
    return running


def test_deactivation_takes_the_risk_back(shared: Car) -> None:
    camera = LiveCamera(shared)
    camera.until_answered()
    risks = shared.listen(DiagnosticArray, '/vts_node/risk', LATCHED_QOS)
    shared.until(lambda: risks)
    assert risks[-1].status[0].hardware_id == 'camera_front'
    shared.change_state(Transition.TRANSITION_DEACTIVATE)
    shared.until(lambda: shared.retracted)
    check_late_joiner(shared, 'the node was deactivated')
    assert len(shared.retracted) == 1


def test_an_answer_of_a_disabled_node_ages(shared: Car) -> None:
    camera = LiveCamera(shared)
    enable = SetBool.Request(data=False)
    assert shared.call(SetBool, '/vts_node/enable', enable).success
    with shared.parameter('max_answer_age_sec', 1.0):
        try:
            for _ in range(5):
                camera()
                shared.spin(0.4)
            assert not shared.risks
            answer = shared.describe_now()
            assert answer.success, answer.message
            shared.until(lambda: shared.risks)
            # Pictures go on, so that age alone can be the reason.
            camera.until(lambda: shared.retracted)
            check_late_joiner(shared, 'no answer for')
            assert len(shared.risks) == len(shared.retracted) == 1
        finally:
            enable.data = True
            assert shared.call(SetBool, '/vts_node/enable', enable).success


def test_a_model_that_hangs_does_not_leave_its_last_answer(
        own_ros: Ros, car: Car, chat_server: Server) -> None:  # noqa: F811
    start_as_shipped(own_ros, 'embedded', 'vlm.backend:=openai', f'vlm.url:={chat_server.url}',
                     'vlm.timeout_sec:=600.0', 'max_answer_age_sec:=2.0')
    car.wait_until_seen()
    camera = LiveCamera(car)
    camera.until_answered()
    assert car.risks[-1].status[0].level == DiagnosticStatus.ERROR
    asked = len(chat_server.chats)
    chat_server.pause_sec = 3600.0
    camera.until(lambda: len(chat_server.chats) > asked)
    # It may have been asked just before the pause, and answer once more.
    camera.until(lambda: car.retracted)
    check_late_joiner(car, 'no answer for')
    answers = len(car.risks)
    for _ in range(5):
        camera()
        car.spin(0.4)
    assert len(car.risks) == answers
    assert car.retracted[-1].message.startswith('no answer for')
    # The node itself still hears and answers.
    assert car.set_parameter('no_answer_warn_sec', 1.0).successful
    camera.until(lambda: (status := car.statuses.get(STATUS + 'pipeline')) is not None
                  and status.level == DiagnosticStatus.WARN
                  and 'no answer for' in status.message)


def test_where_pictures_go_cannot_be_set_over_dds(own_ros: Ros, model: str, car: Car) -> None:
    start_as_shipped(own_ros, model, 'autostart:=false', 'vlm.max_new_tokens:=8')
    names = list(STRANGERS_WISHES)

    def values() -> list[Any]:
        found = car.call(GetParameters, '/vts_node/get_parameters',
                         GetParameters.Request(names=names)).values
        return [parameter_value_to_python(value) for value in found]

    def check_refused(state: int) -> None:
        found = car.call(GetState, '/vts_node/get_state', GetState.Request()).current_state.id
        assert found == state
        for name, value in STRANGERS_WISHES.items():
            given = [Parameter(name, value=value).to_parameter_msg()]
            alone = car.call(SetParameters, '/vts_node/set_parameters',
                             SetParameters.Request(parameters=given)).results
            assert [result.successful for result in alone] == [False], name
            # Nor hidden among what may be set.
            given.insert(0, Parameter('sparsify.keep_ratio', value=0.5).to_parameter_msg())
            at_once = car.call(
                SetParametersAtomically, '/vts_node/set_parameters_atomically',
                SetParametersAtomically.Request(parameters=given)).result
            assert not at_once.successful, name
        assert values() == before

    before = values()
    assert not set(zip(names, before)) & set(STRANGERS_WISHES.items())
    check_refused(State.PRIMARY_STATE_UNCONFIGURED)
    car.change_state(Transition.TRANSITION_CONFIGURE)
    check_refused(State.PRIMARY_STATE_INACTIVE)
    car.change_state(Transition.TRANSITION_ACTIVATE)
    check_refused(State.PRIMARY_STATE_ACTIVE)
    car.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    check_refused(State.PRIMARY_STATE_UNCONFIGURED)


def test_a_question_is_replied_to_in_every_state(own_ros: Ros, model: str, car: Car) -> None:
    start_as_shipped(own_ros, model, 'autostart:=false', 'vlm.max_new_tokens:=8')
    answers = car.listen(String, '/vts_node/answer')
    questions = car.publisher(String, '/vts_node/question')
    expected = 0

    def ask(error: str) -> None:
        nonlocal expected
        expected += 1
        questions.publish(String(data=f'question {expected}?'))
        car.until(lambda: len(answers) >= expected)
        assert json.loads(answers[-1].data) == {
            'id': expected, 'question': f'question {expected}?', 'answer': '', 'error': error}

    ask('the node is not active')
    car.change_state(Transition.TRANSITION_CONFIGURE)
    ask('the node is not active')
    car.change_state(Transition.TRANSITION_ACTIVATE)
    ask('no window of pictures yet')
    car.change_state(Transition.TRANSITION_DEACTIVATE)
    ask('the node is not active')
    car.change_state(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    ask('the node is not active')
    assert len(answers) == expected


def test_two_nodes_of_one_car_have_names_of_their_own(own_ros: Ros, car: Car) -> None:
    for side in ('left', 'right'):
        own_ros.start('vts_ros.nodes.vts_node', '--ros-args', '-r', f'__ns:=/{side}',
                      '-p', 'autostart:=false')
    got = car.listen(DiagnosticArray, '/diagnostics')

    def names() -> dict[str, set[str]]:
        return {side: {status.name for message in got for status in message.status
                       if status.name.startswith(f'{side}/vts_node: ')}
                for side in ('left', 'right')}

    car.until(lambda: all(names().values()))
    left, right = names().values()
    assert {name.partition(': ')[2] for name in left} == {
        name.partition(': ')[2] for name in right}
    assert {status.name for message in got for status in message.status} == left | right


def test_a_simulated_time_that_does_not_come_and_one_that_pauses(
        own_ros: Ros, model: str, car: Car) -> None:
    process = start_as_shipped(own_ros, model, 'use_sim_time:=true', 'max_answer_age_sec:=3.0',
                               'vlm.max_new_tokens:=64')
    car.wait_until_seen()
    camera = LiveCamera(car)
    warning = 'no answers until that comes'
    camera.until(lambda: warning in process.output)
    for _ in range(10):
        camera()
        car.spin(0.4)
    assert process.output.count(warning) == 1
    assert car.reports == car.risks == []
    assert 'nobody publishes /clock' in car.status('pipeline').message

    # The time of a recording: it goes on with its pictures.
    clock = car.publisher(Clock, '/clock')
    begin_ns = car.stamp_ns
    car.stamp_ns = begin_ns + 10_000_000_000

    def play() -> None:
        car.stamp_ns += STEP_NS
        clock.publish(Clock(clock=to_stamp(car.stamp_ns + STEP_NS)))
        car.show(PICTURES[car.stamp_ns // (2 * STEP_NS) % len(PICTURES)])

    car.until(lambda: car.risks, doing=play, every_sec=0.4)
    # A pause lets what is being computed come to its end; then nothing changes any more.
    car.spin(3.0)
    paused_ns, stands = car.stamp_ns + STEP_NS, len(car.risks)
    risks = car.listen(DiagnosticArray, '/vts_node/risk', LATCHED_QOS)
    car.until(lambda: risks)

    def hold() -> None:
        clock.publish(Clock(clock=to_stamp(paused_ns)))

    deadline = time.monotonic() + 6.0
    car.until(lambda: time.monotonic() > deadline, doing=hold)
    assert not car.retracted
    assert [risk.status[0].hardware_id for risk in risks] == ['camera_front']
    assert len(car.risks) == stands

    # It is the time of the recording that counts: where that goes on, the answer ages.
    def go_on() -> None:
        nonlocal paused_ns
        paused_ns += 500_000_000
        hold()

    car.until(lambda: car.retracted, doing=go_on)
    check_late_joiner(car, 'no ')


def test_a_node_that_could_not_be_configured_can_be_put_right(
        own_ros: Ros, model: str, car: Car) -> None:
    process = start_as_shipped(
        own_ros, '/nowhere', 'autostart:=false', 'engine.frame_size:=wide', 'vlm.max_new_token:=9',
        'max_frame_age_sec:=3', 'buffer.interval_sec:=0', 'sparsify.keep_ratio:=1',
        'vlm.max_new_tokens:=8')
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))

    def configure() -> bool:
        return bool(car.call(ChangeState, '/vts_node/change_state', request).success)

    def state() -> int:
        found = car.call(GetState, '/vts_node/get_state', GetState.Request())
        return int(found.current_state.id)

    # A name that is not known is told with the one that was meant; nobody else is told of.
    process.wait_for_output('vlm.max_new_token is not known and has no effect; '
                            'did you mean vlm.max_new_tokens?')
    assert process.output.count('is not known') == 1

    assert not configure()
    assert state() == State.PRIMARY_STATE_UNCONFIGURED
    assert 'wide' in process.output
    assert car.set_parameter('engine.frame_size', '224x128').successful
    assert not configure()
    assert state() == State.PRIMARY_STATE_UNCONFIGURED
    car.wait_for_status('vlm', DiagnosticStatus.ERROR, '/nowhere')
    assert car.set_parameter('vlm.model', model).successful

    # Whole numbers are numbers, at start as later.
    for name, value in (('max_frame_age_sec', 4), ('buffer.interval_sec', 1),
                        ('buffer.interval_sec', 0.4), ('sparsify.keep_ratio', 1)):
        result = car.set_parameter(name, value)
        assert result.successful, result.reason
    for name, wrong in (('max_frame_age_sec', True), ('max_frame_age_sec', '4'),
                        ('sparsify.keep_ratio', 2), ('vlm.max_new_tokens', 8.0)):
        assert not car.set_parameter(name, wrong).successful, name

    assert configure()
    assert state() == State.PRIMARY_STATE_INACTIVE
    car.change_state(Transition.TRANSITION_ACTIVATE)
    car.wait_until_seen()
    LiveCamera(car).until_answered()
    assert len(car.reports[-1].keep) == car.reports[-1].tokens_total
    car.wait_for_status('vlm', DiagnosticStatus.OK, 'answers', doing=LiveCamera(car))
