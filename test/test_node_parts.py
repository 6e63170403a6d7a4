# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node inside of this process: what DDS could not bring about at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

pytest.importorskip('rclpy')

from bag_maker import compressed, COMPRESSED_TOPIC, drive, jpeg, picture, START_NS, write
from conftest import ROOT, Ros
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool
import yaml

from vts_ros.errors import BagError
from vts_ros.nodes import camera as cameras
from vts_ros.nodes import diagnostics as health
from vts_ros.nodes import jobs, vts_node
from vts_ros.nodes import replay_node as replay
from vts_ros.nodes.camera import Camera
from vts_ros.nodes.conversions import to_ns, to_stamp
from vts_ros.nodes.diagnostics import CameraHealth
from vts_ros.nodes.parameter_pages import FILE, PAGE, parameter_file, parameter_page
from vts_ros.nodes.parameter_table import OVERLAY_TABLE, Spec
from vts_ros.nodes.present import UNDECODABLE
from vts_ros.nodes.qos import INPUT_QOS
from vts_ros.nodes.vts_node import MAX_QUESTION_CHARS, MAX_QUESTIONS, VtsNode
from vts_ros.nodes.vts_parameters import TABLE
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bags import COMPRESSED_IMAGE, TYPESTORE


@pytest.fixture
def inside(ros: Ros, model: str) -> Iterator[VtsNode]:
    """Return a node of this process that nothing spins."""
    rclpy.init(domain_id=ros.domain, args=[
        '--ros-args', '-p', f'vlm.model:={model}', '-p', 'cameras:=[camera/front, camera/rear]',
        '-p', 'image_transport:=raw'])
    node = VtsNode()
    try:
        yield node
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()


def finish(node: VtsNode) -> None:
    """Wait until the worker has done what waits."""
    node._worker.submit('test', lambda stop: None).result()


def ask_for_one(node: VtsNode) -> Future[tuple[bool, str]]:
    """Ask for a description, as ~/describe_now does."""
    return node._worker.submit('describe now', lambda stop: node._jobs.describe(False, stop))


def let_stand(node: VtsNode) -> None:
    """Have the node believe that an answer stands."""
    node._outputs._said_ns = node._clock_of_node.now_ns()


def test_an_unexpected_failure_is_an_error_and_no_answer(inside: VtsNode) -> None:
    worked, reason = inside._jobs.attempt(lambda stop: str(np.empty(0)[1]), lambda: False)
    assert not worked
    assert reason.startswith('IndexError')
    status = next(one for one in inside._health.statuses('vts_node', {}, 'enabled')
                  if one.name.endswith('pipeline'))
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == reason


def test_questions_that_wait_are_bounded(inside: VtsNode) -> None:
    busy = threading.Event()
    inside._worker.submit('test', lambda stop: busy.wait())
    for _ in range(3 * MAX_QUESTIONS):
        inside._on_question(String(data='?' * MAX_QUESTION_CHARS))
    refused = inside._health.counters['questions_refused']
    busy.set()
    finish(inside)
    assert refused == 2 * MAX_QUESTIONS
    # Those that waited had their turn, and the places are free again.
    assert inside._health.counters['unanswered'] == MAX_QUESTIONS
    inside._on_question(String(data='?'))
    assert inside._health.counters['questions_refused'] == refused


def test_lazy_describes_only_for_those_who_listen(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    described = threading.Event()
    retracted: list[DiagnosticArray] = []
    monkeypatch.setattr(inside, '_describe_unasked', lambda stop: described.set())
    monkeypatch.setattr(inside._outputs._risk, 'publish', retracted.append)
    let_stand(inside)
    inside.set_parameters([Parameter('pipeline.lazy', value=True)])
    inside._present.buffer = FrameBuffer(frames=1)
    inside._present.buffer.push(Frame('front', 1, b''))

    inside._request()
    finish(inside)
    assert not described.is_set()
    assert [one.status[0].message for one in retracted] == ['nobody was listening']

    listener = rclpy.create_node('listener')
    try:
        listener.create_subscription(String, '/vts_node/report', print, 10)
        deadline = time.monotonic() + 60.0
        while not inside._is_heard():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        inside._request()
        assert described.wait(60.0)
    finally:
        listener.destroy_node()


def show_nothing(node: VtsNode) -> None:
    node._cameras = [Camera(node, 'front', 'raw', node._on_frame)]
    node._on_tick()


@pytest.mark.parametrize(('event', 'reason'), [
    (lambda node: node._jobs.describe(True, lambda: False), 'the node is not active'),
    (lambda node: node._on_enable(SetBool.Request(), SetBool.Response()), 'the node was disabled'),
    (lambda node: node._on_time_jump(None), 'time went back'),
    (lambda node: node._stop('the node was deactivated'), 'the node was deactivated'),
    (show_nothing, 'front: no picture yet')])
def test_whatever_ends_a_risk_takes_it_back_once(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, event: Callable[[VtsNode], None],
        reason: str) -> None:
    said: list[DiagnosticArray] = []
    monkeypatch.setattr(inside._outputs._risk, 'publish', said.append)
    let_stand(inside)
    for _ in range(2):
        event(inside)
    finish(inside)
    assert [(one.status[0].level, one.status[0].message) for one in said] == [
        (DiagnosticStatus.STALE, reason)]


def activate(node: VtsNode, **settings: object) -> None:
    node.set_parameters([Parameter('vlm.max_new_tokens', value=8)] + [
        Parameter(name, value=value) for name, value in settings.items()])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def show(node: VtsNode, *pictures: bytes, stamp_ns: int = 0, camera: int = 0) -> None:
    """Hand pictures over as a camera does, 0.4 s apart from the stamp on."""
    one = node._cameras[camera]
    for number, data in enumerate(pictures):
        one.health.received(one.health.name)
        node._on_frame(one, Frame(one.health.name, stamp_ns + number * 400_000_000, data))


def test_diagnostics_do_not_look_into_a_pipeline_that_runs(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    stats = Pipeline.stats

    def watched(pipeline: Pipeline) -> dict[str, float]:
        threads.add(threading.current_thread().name)
        return stats(pipeline)

    monkeypatch.setattr(Pipeline, 'stats', watched)
    told: list[DiagnosticArray] = []
    monkeypatch.setattr(inside._diagnostics, 'publish', told.append)
    activate(inside, max_frame_age_sec=0.0)
    inside._on_tick()
    show(inside, *[jpeg(picture(number)) for number in range(5)], stamp_ns=START_NS)
    finish(inside)
    inside._on_tick()
    assert threads == {'pipeline'}
    values = {one.key: one.value for status in told[-1].status for one in status.values}
    assert int(values['frames_new']) == 5


def test_diagnostics_that_fail_do_not_end_the_node(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
        ) -> None:
    def fail(*_: object) -> None:
        raise AttributeError('length')

    monkeypatch.setattr(inside._health, 'statuses', fail)
    retracted: list[DiagnosticArray] = []
    monkeypatch.setattr(inside._outputs._risk, 'publish', retracted.append)
    let_stand(inside)
    for _ in range(2):
        show_nothing(inside)
    finish(inside)
    assert len(retracted) == 1
    assert capfd.readouterr().err.count('no diagnostics: ') == 1


class Held:
    """Descriptions of a node, held up while they begin."""

    def __init__(self, node: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on, self.begun = threading.Event(), threading.Semaphore(0)
        self.risks: list[DiagnosticArray] = []
        self._describe = Pipeline.describe
        monkeypatch.setattr(Pipeline, 'describe', lambda *given: self._hold(*given))
        monkeypatch.setattr(node._outputs._risk, 'publish', self.risks.append)

    def _hold(self, *given: Any) -> SceneReport:
        self.begun.release()
        assert self.go_on.wait(100.0)
        return self._describe(*given)

    @property
    def told(self) -> list[bytes]:
        """Return the levels of the risk so far."""
        return [one.status[0].level for one in self.risks]


def disable(node: VtsNode) -> None:
    assert node._on_enable(SetBool.Request(data=False), SetBool.Response()).success


def lose_cameras(node: VtsNode) -> None:
    node._cameras[0].health.arrivals.clear()
    for _ in range(3):
        node._on_tick()


@pytest.mark.parametrize('event', [disable, lose_cameras])
def test_what_nobody_asked_for_is_given_up_when_the_node_falls_silent(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, event: Callable[[VtsNode], None]
        ) -> None:
    held = Held(inside, monkeypatch)
    activate(inside)
    let_stand(inside)
    now_ns = inside.get_clock().now().nanoseconds
    # The last picture comes while the others are described, and waits.
    show(inside, *[jpeg(picture(number)) for number in range(5)], stamp_ns=now_ns - 1_600_000_000)
    assert held.begun.acquire(timeout=100.0)
    show(inside, jpeg(picture(5)), stamp_ns=now_ns + 400_000_000)
    event(inside)
    # At once, not when the long answer is there.
    assert held.told == [DiagnosticStatus.STALE]
    held.go_on.set()
    finish(inside)
    assert held.told == [DiagnosticStatus.STALE]
    assert not held.begun.acquire(blocking=False)
    assert inside._health.counters['described'] == 0


def test_what_was_asked_for_is_told_although_the_node_is_disabled(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(inside, monkeypatch)
    activate(inside)
    let_stand(inside)
    show(inside, jpeg(picture(0)), stamp_ns=inside.get_clock().now().nanoseconds)
    asked = ask_for_one(inside)
    assert held.begun.acquire(timeout=100.0)
    disable(inside)
    held.go_on.set()
    assert asked.result()[0]
    assert len(held.told) == 2
    assert held.told[0] == DiagnosticStatus.STALE


def test_what_was_told_is_not_told_again_while_newer_pictures_are_broken(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    risks: list[DiagnosticArray] = []
    monkeypatch.setattr(inside._outputs._risk, 'publish', risks.append)
    activate(inside, max_frame_age_sec=0.0)
    good, step_ns = [jpeg(picture(number)) for number in range(5)], 400_000_000
    show(inside, *good, stamp_ns=START_NS)
    assert ask_for_one(inside).result()[0]
    seen = len(risks)
    for number in (5, 6):
        show(inside, b'no picture', stamp_ns=START_NS + number * step_ns)
        finish(inside)
    # Pictures of any age will do: what was said of the last good one still stands.
    assert risks[seen:] == []
    assert ask_for_one(inside).result() == (
        False, UNDECODABLE)
    # A broken picture is no reason to say nothing of a newer one.
    show(inside, good[0], stamp_ns=START_NS + 7 * step_ns)
    finish(inside)
    assert to_ns(risks[-1].header.stamp) == START_NS + 7 * step_ns


def test_one_broken_picture_does_not_take_back_what_is_of_the_present(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(inside, max_frame_age_sec=3600.0)
    risks: list[DiagnosticArray] = []
    monkeypatch.setattr(inside._outputs._risk, 'publish', risks.append)
    good, now_ns = jpeg(picture(0)), inside.get_clock().now().nanoseconds
    show(inside, *[good] * 5, b'no picture', stamp_ns=now_ns - 2_000_000_000)
    assert ask_for_one(inside).result() == (
        False, UNDECODABLE)
    assert to_ns(risks[-1].header.stamp) == now_ns - 400_000_000
    inside.set_parameters([Parameter('max_frame_age_sec', value=0.001)])
    assert not ask_for_one(inside).result()[0]
    assert risks[-1].status[0].level == DiagnosticStatus.STALE


def test_what_is_left_of_a_window_must_be_of_the_present(inside: VtsNode) -> None:
    activate(inside)
    now_ns = inside.get_clock().now().nanoseconds
    good = jpeg(picture(0))
    show(inside, good, *[b'no picture'] * 4, stamp_ns=now_ns - 4_000_000_000)
    show(inside, b'no picture', stamp_ns=now_ns)
    assert ask_for_one(inside).result() == (
        False, f'camera_front: {UNDECODABLE}, camera_rear: no picture yet')
    # What another camera shows is told.
    show(inside, good, stamp_ns=now_ns, camera=1)
    assert ask_for_one(inside).result()[0]
    assert inside._jobs.newest_told == ('camera_rear', now_ns)


def test_no_picture_ends_the_node(inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError('64 TiB')

    monkeypatch.setattr(cameras, 'to_frame', fail)
    camera = Camera(inside, '', 'compressed', inside._on_frame)
    camera._on_image(CompressedImage(), {'source_timestamp': 0})
    assert camera.health.counters['refused'] == 1
    assert camera.health.problem == 'MemoryError: 64 TiB'


def test_pictures_that_are_lost_are_counted_and_told(inside: VtsNode) -> None:
    camera = Camera(inside, 'front', 'compressed', inside._on_frame)
    driver = rclpy.create_node('driver')
    executor = SingleThreadedExecutor()
    executor.add_node(inside)
    try:
        front = driver.create_publisher(CompressedImage, '/front/image_raw/compressed', 50)
        deadline = time.monotonic() + 60.0
        while not front.get_subscription_count():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # The queue is shorter than what comes while nobody takes anything.
        depth, received, stamp_ns = INPUT_QOS.depth, 0, 0
        for count in (1, 50):
            for _ in range(count):
                stamp_ns += 1
                header = Header(stamp=to_stamp(stamp_ns))
                front.publish(CompressedImage(header=header, data=b'x'))
            assert front.wait_for_all_acked(Duration(seconds=10))
            received += min(count, depth)
            while camera.health.counters['received'] < received:
                assert time.monotonic() < deadline
                executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        driver.destroy_node()
    assert camera.health.counters['lost'] == 50 - depth
    status = camera.health.status('vts_node', stamp_ns, 0.0, '')
    assert status.level == DiagnosticStatus.WARN
    assert 'pictures are lost between' in status.message


def test_shutdown_and_a_failed_activation_leave_nothing(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def topics() -> list[str]:
        return [one.topic_name for one in inside.subscriptions if 'image' in one.topic_name]

    def fail(node: VtsNode, namespace: str, *rest: Any) -> Camera:
        if namespace == 'camera/rear':
            raise RuntimeError('no such luck')
        return Camera(node, namespace, *rest)

    assert inside.trigger_configure() == TransitionCallbackReturn.SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(vts_node, 'Camera', fail)
        assert inside.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert (topics(), inside._cameras) == ([], [])
    assert inside.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert len(topics()) == 2
    assert inside.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert (topics(), inside._cameras, inside._jobs.pipeline) == ([], [], None)


def test_errors_nobody_foresaw_are_told_with_their_traceback() -> None:
    with pytest.raises(IndexError) as caught:
        np.empty(0)[1]
    assert 'Traceback' in jobs.format_error(caught.value)
    assert jobs.format_error(FileNotFoundError('no such model')) == 'no such model'


def test_a_camera_keeps_the_name_of_its_first_picture() -> None:
    camera = CameraHealth('/image_raw')
    for frame_id in ('front_optical_frame', 'rear_optical_frame'):
        camera.received(frame_id)
    assert (camera.name, camera.frame_id) == ('front', 'rear_optical_frame')


def test_a_problem_of_a_camera_is_news_once_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = CameraHealth('/front/image_raw', stamp_ns=1)
    camera.received('front')
    assert [camera.unusable('refused', reason) for reason in ('dark', 'torn')] == [True, False]
    status = camera.status('vts_node', 1, 0.0, '')
    assert (status.level, status.message) == (DiagnosticStatus.WARN, 'torn')
    monkeypatch.setattr(health, 'PROBLEM_SEC', 0.0)
    assert camera.status('vts_node', 1, 0.0, '').level == DiagnosticStatus.OK
    assert camera.counters['refused'] == 2


@pytest.mark.parametrize(('cameras', 'reason'), [
    (None, 'has no value'), ([''], None), (['camera/front', '/rear'], None), ([], 'one or more'),
    (['a/b', 'a_b'], 'name of its own'), (['front', '/front'], 'name of its own'),
    (['front/image_raw', '/rear/image_raw/compressed', 'left/'], None),
    (['a//b'], 'repeated'), (['a b'], 'characters'),
    (['1st'], 'number')])
def test_cameras_are_named_as_ros_allows(cameras: list[str] | None, reason: str | None) -> None:
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


def test_replay_plays_nothing_that_others_would_obey_or_take_for_an_answer(
        ros: Ros, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = bytes(TYPESTORE.serialize_cdr(
        TYPESTORE.types[replay.STRING]('stop'), replay.STRING))
    drawn = compressed(START_NS, jpeg(picture(0)))
    texts = ('/vts/truth', '/robot_description', '/vehicle/command', '/vts_node/report',
             '/car/vts_node/report', '/car/vts_node/question')
    pictures = (COMPRESSED_TOPIC, '/car/vts_node/image_annotated/compressed',
                '/vts_overlay/image_annotated/compressed')
    bag = write(tmp_path / 'bag', [
        *((topic, replay.STRING, START_NS, text) for topic in texts),
        *((topic, COMPRESSED_IMAGE, START_NS, drawn) for topic in pictures)])
    monkeypatch.setenv('ROS_DOMAIN_ID', str(ros.domain))
    assert replay.replay_bag(bag, wait_sec=0.0) == {'/vts/truth': 1, COMPRESSED_TOPIC: 1}


def flat(tree: dict[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the parameters of a file by their full names."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


@pytest.mark.parametrize(('node', 'table'), [('vts_node', TABLE), ('vts_overlay', OVERLAY_TABLE)])
def test_parameter_file_and_table_agree(node: str, table: tuple[Spec, ...]) -> None:
    with (ROOT / 'config' / 'vts.yaml').open() as file:
        given = yaml.safe_load(file)[f'/**/{node}']['ros__parameters']
    assert dict(flat(given)) == {spec.name: spec.default for spec in table}


def test_file_and_page_are_those_of_the_table() -> None:
    """Made anew whenever the table changes: `make parameters`."""
    assert (ROOT / FILE).read_text() == parameter_file()
    assert (ROOT / PAGE).read_text() == parameter_page()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_importing_ends_without_a_word(number: int) -> None:
    """Of all places it is where somebody is most likely to press Ctrl-C again."""
    process = subprocess.Popen(
        [sys.executable, '-c', 'from vts_ros.nodes.executables import vts_node; vts_node()'],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        maps = Path(f'/proc/{process.pid}/maps')
        deadline = time.monotonic() + 100.0
        # In the middle: PyTorch is being loaded, and what needs it comes after.
        while 'libtorch' not in maps.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        said, _ = process.communicate(timeout=200.0)
    finally:
        process.kill()
    assert (process.returncode, said) == (0, '')


def test_overlay_does_not_load_what_it_does_not_need() -> None:
    """It runs beside the node on the same machine: no second PyTorch in memory."""
    code = 'import sys, vts_ros.nodes.overlay_node; print(*sys.modules)'
    loaded = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True,
                            text=True).stdout.split()
    assert not {'torch', 'transformers', 'onnxruntime', 'rosbags'} & set(loaded)
