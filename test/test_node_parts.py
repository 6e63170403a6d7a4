# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node inside of this process: what DDS could not bring about at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
import re
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
from lifecycle_msgs.msg import State
import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
import yaml

from vts_ros.errors import BagError
from vts_ros.nodes import camera as cameras
from vts_ros.nodes import diagnostics as health
from vts_ros.nodes import jobs
from vts_ros.nodes import replay_node as replay
from vts_ros.nodes.camera import Camera
from vts_ros.nodes.conversions import make_message, to_ns, to_stamp
from vts_ros.nodes.current_pictures import UNDECODABLE
from vts_ros.nodes.diagnostics import CameraHealth
from vts_ros.nodes.parameter_pages import FILE, PAGE, parameter_file, parameter_page
from vts_ros.nodes.parameter_table import OVERLAY_TABLE, Spec
from vts_ros.nodes.qos import INPUT_QOS
from vts_ros.nodes.vts_node import VtsNode
from vts_ros.nodes.vts_parameters import TABLE
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.vlm.answers import Answer

ACTIVE = LifecycleState('active', State.PRIMARY_STATE_ACTIVE)


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
    node.worker.submit('test', lambda stop: None).result()


def describe_now(node: VtsNode) -> Future[tuple[bool, str]]:
    """Ask for a description, as ~/describe_now does."""
    return node.scheduler.describe_now()


def let_stand(node: VtsNode) -> None:
    """Have an answer stand."""
    now_ns = node.get_clock().now().nanoseconds
    node.outputs.publish(SceneReport(
        stamp=now_ns, frames=(FrameRef('front', now_ns),), key_frame=KeyFrame('front', now_ns, 0),
        answer=Answer(risk='low'), keep=(0,), grid=(1, 1), latency_ms={'total': 1.0}),
        '', 'base_link', 10.0)


def published(node: VtsNode, topic: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets what the node publishes from now on, in whatever state it is."""
    publisher = next(
        publisher for publisher in node.publishers if publisher.topic_name == topic)
    messages: list[Any] = []
    monkeypatch.setattr(publisher, 'publish', messages.append)
    return messages


def test_an_unexpected_failure_is_an_error_and_no_answer(inside: VtsNode) -> None:
    worked, reason = inside.jobs.attempt(lambda stop: str(np.empty(0)[1]), lambda: False)
    assert not worked
    assert reason.startswith('IndexError')
    statuses = inside.health.statuses(make_message, 'vts_node', {}, 'enabled')
    status = next(status for status in statuses if status.name.endswith('pipeline'))
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == reason


def show_nothing(node: VtsNode) -> None:
    node.cameras.close()
    node.cameras.open(['front'], 'raw', node.scheduler.on_frame)
    node.monitor.tick()


@pytest.mark.parametrize(('event', 'reason'), [
    (lambda node: node.jobs.describe(True, lambda: False), 'the node is not active'),
    (lambda node: node.scheduler.enable(False), 'the node was disabled'),
    (lambda node: node.scheduler.start_anew(), 'time went back'),
    (lambda node: node.on_deactivate(ACTIVE), 'the node was deactivated'),
    (show_nothing, 'front: no picture yet')])
def test_whatever_ends_a_risk_takes_it_back_once(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, event: Callable[[VtsNode], None],
        reason: str) -> None:
    let_stand(inside)
    risks = published(inside, '/vts_node/risk', monkeypatch)
    for _ in range(2):
        event(inside)
    finish(inside)
    assert [(risk.status[0].level, risk.status[0].message) for risk in risks] == [
        (DiagnosticStatus.STALE, reason)]


def activate(node: VtsNode, **settings: object) -> None:
    node.set_parameters([Parameter('vlm.max_new_tokens', value=8)] + [
        Parameter(name, value=value) for name, value in settings.items()])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def show(node: VtsNode, *pictures: bytes, stamp_ns: int = 0, camera: int = 0) -> None:
    """Hand pictures over as a camera does, 0.4 s apart from the stamp on."""
    source = list(node.cameras)[camera]
    for number, data in enumerate(pictures):
        source.health.received(source.health.name)
        node.scheduler.on_frame(
            source, Frame(source.health.name, stamp_ns + number * 400_000_000, data))


def test_diagnostics_do_not_look_into_a_pipeline_that_runs(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    stats = Pipeline.stats

    def watched(pipeline: Pipeline) -> dict[str, float]:
        threads.add(threading.current_thread().name)
        return stats(pipeline)

    monkeypatch.setattr(Pipeline, 'stats', watched)
    diagnostics = published(inside, '/diagnostics', monkeypatch)
    activate(inside, max_frame_age_sec=0.0)
    inside.monitor.tick()
    show(inside, *[jpeg(picture(number)) for number in range(5)], stamp_ns=START_NS)
    finish(inside)
    inside.monitor.tick()
    assert threads == {'pipeline'}
    values = {pair.key: pair.value for status in diagnostics[-1].status for pair in status.values}
    assert int(values['frames_new']) == 5


def test_diagnostics_that_fail_do_not_end_the_node(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
        ) -> None:
    def fail(*_: object) -> None:
        raise AttributeError('length')

    monkeypatch.setattr(inside.health, 'statuses', fail)
    let_stand(inside)
    retracted = published(inside, '/vts_node/risk', monkeypatch)
    for _ in range(2):
        show_nothing(inside)
    finish(inside)
    assert len(retracted) == 1
    assert capfd.readouterr().err.count('no diagnostics: ') == 1


class HeldUpDescriptions:
    """Descriptions of a node that wait where they begin, and the risks that it publishes."""

    def __init__(self, node: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on, self.begun = threading.Event(), threading.Semaphore(0)
        self._describe = Pipeline.describe
        monkeypatch.setattr(Pipeline, 'describe', lambda *given, **how: self._hold(*given, **how))
        let_stand(node)
        self.risks: list[DiagnosticArray] = published(node, '/vts_node/risk', monkeypatch)

    def _hold(self, *given: Any, **how: Any) -> SceneReport:
        self.begun.release()
        assert self.go_on.wait(500.0)
        return self._describe(*given, **how)

    @property
    def levels(self) -> list[bytes]:
        """Return the levels of the risk so far."""
        return [risk.status[0].level for risk in self.risks]


def disable(node: VtsNode) -> None:
    node.scheduler.enable(False)


def lose_cameras(node: VtsNode) -> None:
    next(iter(node.cameras)).health.arrivals.clear()
    for _ in range(3):
        node.monitor.tick()


@pytest.mark.parametrize('event', [disable, lose_cameras])
def test_what_nobody_asked_for_is_given_up_when_the_node_falls_silent(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch, event: Callable[[VtsNode], None]
        ) -> None:
    held = HeldUpDescriptions(inside, monkeypatch)
    activate(inside)
    now_ns = inside.get_clock().now().nanoseconds
    # The last picture comes while the others are described, and waits.
    show(inside, *[jpeg(picture(number)) for number in range(5)], stamp_ns=now_ns - 1_600_000_000)
    assert held.begun.acquire(timeout=500.0)
    show(inside, jpeg(picture(5)), stamp_ns=now_ns + 400_000_000)
    event(inside)
    # At once, not when the long answer is there.
    assert held.levels == [DiagnosticStatus.STALE]
    held.go_on.set()
    finish(inside)
    assert held.levels == [DiagnosticStatus.STALE]
    assert not held.begun.acquire(blocking=False)
    assert inside.health.counters['described'] == 0


def test_what_was_asked_for_is_published_although_the_node_is_disabled(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldUpDescriptions(inside, monkeypatch)
    activate(inside)
    show(inside, jpeg(picture(0)), stamp_ns=inside.get_clock().now().nanoseconds)
    asked = describe_now(inside)
    assert held.begun.acquire(timeout=500.0)
    disable(inside)
    held.go_on.set()
    assert asked.result()[0]
    assert len(held.levels) == 2
    assert held.levels[0] == DiagnosticStatus.STALE


def test_what_was_described_is_not_described_again_while_newer_pictures_are_broken(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    risks: list[DiagnosticArray] = published(inside, '/vts_node/risk', monkeypatch)
    activate(inside, max_frame_age_sec=0.0)
    good, step_ns = [jpeg(picture(number)) for number in range(5)], 400_000_000
    show(inside, *good, stamp_ns=START_NS)
    assert describe_now(inside).result()[0]
    seen = len(risks)
    for number in (5, 6):
        show(inside, b'no picture', stamp_ns=START_NS + number * step_ns)
        finish(inside)
    # Pictures of any age will do: what was said of the last good one still stands.
    assert risks[seen:] == []
    assert describe_now(inside).result() == (
        False, UNDECODABLE)
    # A broken picture is no reason to say nothing of a newer one.
    show(inside, good[0], stamp_ns=START_NS + 7 * step_ns)
    finish(inside)
    assert to_ns(risks[-1].header.stamp) == START_NS + 7 * step_ns


def test_one_broken_picture_does_not_take_back_what_is_of_the_present(
        inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(inside, max_frame_age_sec=3600.0)
    risks: list[DiagnosticArray] = published(inside, '/vts_node/risk', monkeypatch)
    good, now_ns = jpeg(picture(0)), inside.get_clock().now().nanoseconds
    show(inside, *[good] * 5, b'no picture', stamp_ns=now_ns - 2_000_000_000)
    assert describe_now(inside).result() == (
        False, UNDECODABLE)
    assert to_ns(risks[-1].header.stamp) == now_ns - 400_000_000
    inside.set_parameters([Parameter('max_frame_age_sec', value=0.001)])
    assert not describe_now(inside).result()[0]
    assert risks[-1].status[0].level == DiagnosticStatus.STALE


def test_pictures_of_another_time_are_a_warning(
        inside: VtsNode, capfd: pytest.CaptureFixture[str]) -> None:
    activate(inside)
    an_hour_ago_ns = inside.get_clock().now().nanoseconds - 3600 * 10**9
    show(inside, *[jpeg(picture(0))] * 5, stamp_ns=an_hour_ago_ns)
    done, reason = describe_now(inside).result()
    assert not done
    assert 's old; for a recording set use_sim_time' in reason
    told = capfd.readouterr().err
    assert re.search(
        r'\[WARN\].* no answer: camera_front: pictures are \d{4}\.\d s old', told), told


def test_what_is_left_of_a_window_must_be_of_the_present(inside: VtsNode) -> None:
    activate(inside)
    now_ns = inside.get_clock().now().nanoseconds
    good = jpeg(picture(0))
    show(inside, good, *[b'no picture'] * 4, stamp_ns=now_ns - 4_000_000_000)
    show(inside, b'no picture', stamp_ns=now_ns)
    assert describe_now(inside).result() == (
        False, f'camera_front: {UNDECODABLE}, camera_rear: no picture yet')
    # What another camera shows is described.
    show(inside, good, stamp_ns=now_ns, camera=1)
    assert describe_now(inside).result()[0]
    assert inside.jobs.newest_described == ('camera_rear', now_ns)


def test_no_picture_ends_the_node(inside: VtsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError('64 TiB')

    monkeypatch.setattr(cameras, 'to_frame', fail)
    camera = Camera(inside, '', 'compressed', inside.scheduler.on_frame)
    driver = rclpy.create_node('driver')
    executor = SingleThreadedExecutor()
    executor.add_node(inside)
    try:
        pictures = driver.create_publisher(CompressedImage, '/image_raw/compressed', 10)
        deadline = time.monotonic() + 60.0
        while not camera.health.counters['refused']:
            assert time.monotonic() < deadline
            pictures.publish(CompressedImage(data=b'x'))
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        driver.destroy_node()
    assert camera.health.problem == 'MemoryError: 64 TiB'


def test_pictures_that_are_lost_are_counted_and_warned_of(inside: VtsNode) -> None:
    camera = Camera(inside, 'front', 'compressed', inside.scheduler.on_frame)
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
        return [subscription.topic_name for subscription in inside.subscriptions
                if 'image' in subscription.topic_name]

    def fail(node: VtsNode, namespace: str, *rest: Any) -> Camera:
        if namespace == 'camera/rear':
            raise RuntimeError('no such luck')
        return Camera(node, namespace, *rest)

    assert inside.trigger_configure() == TransitionCallbackReturn.SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(cameras, 'Camera', fail)
        assert inside.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert (topics(), list(inside.cameras)) == ([], [])
    assert inside.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert len(topics()) == 2
    assert inside.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert (topics(), list(inside.cameras), inside.jobs.pipeline) == ([], [], None)


def test_cameras_are_those_that_are_open(inside: VtsNode) -> None:
    opened = cameras.Cameras(inside)
    assert (len(opened), opened.frame_id('front')) == (0, '')
    opened.open(['front', 'rear'], 'raw', inside.scheduler.on_frame)
    front, rear = opened
    rear.health.received('rear_optical_frame')
    assert [camera.health.topic for camera in (front, rear)] == [
        '/front/image_raw', '/rear/image_raw']
    assert [opened.frame_id(name) for name in ('front', 'rear', 'left')] == [
        '', 'rear_optical_frame', '']
    # Who goes through them in another thread just now is not disturbed.
    going_through = iter(opened)
    opened.close()
    assert list(going_through) == [front, rear]
    assert list(opened) == []
    assert not [subscription for subscription in inside.subscriptions
                if 'image' in subscription.topic_name]


def test_errors_nobody_foresaw_are_logged_with_their_traceback() -> None:
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
        deadline = time.monotonic() + 500.0
        # In the middle: PyTorch is being loaded, and what needs it comes after.
        while 'libtorch' not in maps.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        output, _ = process.communicate(timeout=500.0)
    finally:
        process.kill()
    assert (process.returncode, output) == (0, '')


def test_overlay_does_not_load_what_it_does_not_need() -> None:
    """It runs beside the node on the same machine: no second PyTorch in memory."""
    code = 'import sys, vts_ros.nodes.overlay_node; print(*sys.modules)'
    loaded = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True,
                            text=True).stdout.split()
    assert not {'torch', 'transformers', 'onnxruntime', 'rosbags'} & set(loaded)
