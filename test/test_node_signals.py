# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the car says of itself, over DDS: the node and the publishers are processes."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import time
from typing import Any

import pytest

pytest.importorskip('rclpy')

from bag_maker import jpeg, picture
from car import Car, LOSSLESS, parameters, STEP_NS, values_of
from conftest import Process, Ros
from diagnostic_msgs.msg import DiagnosticStatus
from test_served import Server
from test_served import server as chat_server  # noqa: F401 (a fixture)

from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import token_budget

pytestmark = pytest.mark.slow

SIGNALS = (
    'brake /vehicle/brake std_msgs/msg/Float32 data over=0.1',
    # Wrong, each in another way.
    'brake /vehicle/pedal std_msgs/msg/Float32 pressure',
    'wipers /vehicle/wipers nobody_msgs/msg/Wipers on',
    'horn /vehicle/horn std_msgs/msg/Bool data',
    'steering /not//a/name std_msgs/msg/Float32 data',
    # Right, but of a message that has no such place.
    'wipers /joy sensor_msgs/msg/Joy buttons[3]',
)
REFUSED = 4


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    side = Car(own_ros.domain)
    yield side
    side.close()


@pytest.fixture
def node(own_ros: Ros, car: Car, chat_server: Server) -> Process:  # noqa: F811
    """Return a node whose language model writes down what it is asked."""
    started = own_ros.start('vts_ros.nodes.vts_node', *parameters((
        'vlm.backend:=openai', f'vlm.url:={chat_server.url}', 'cameras:=[camera/front]',
        'sparsify.keep_ratio:=0.3', f'signals.topics:={list(SIGNALS)}', *LOSSLESS)))
    car.wait_until_seen()
    return started


def start_publisher(ros: Ros, *topics: str) -> Process:
    """Start a process that publishes what a car that brakes hard says of itself."""
    ros.env['PYTHONPATH'] = os.pathsep.join(
        [str(Path(__file__).parent), ros.env.get('PYTHONPATH', '')])
    return ros.start('signal_publisher', *topics)


class Camera:
    """Shows pictures of the present until something has happened."""

    def __init__(self, car: Car, server: Server) -> None:
        self._car, self._server, self._shown = car, server, 0

    def __call__(self) -> None:
        """Show the next picture."""
        self._car.stamp_ns = time.time_ns() - STEP_NS
        self._shown += 1
        self._car.show(jpeg(picture(self._shown)))

    def until(self, condition: Any) -> SceneReport:
        """Go on until a new report fulfils the condition; return it."""
        seen = len(self._car.reports)
        found: list[SceneReport] = []

        def fits() -> bool:
            found[:] = [report for report in self._car.reports[seen:] if condition(report)]
            return bool(found)

        self._car.until(fits, doing=self, every_sec=0.4)
        return found[-1]

    def told(self) -> str:
        """Return what the model was last asked."""
        content = self._server.chats[-1]['messages'][-1]['content']
        return str(next(part['text'] for part in reversed(content) if part['type'] == 'text'))


def is_full(report: SceneReport) -> bool:
    return len(report.frames) == 5


def per_frame(report: SceneReport) -> list[int]:
    cells = report.grid[0] * report.grid[1]
    return [sum(position // cells == frame for position in report.keep) for frame in range(5)]


def test_signals_move_tokens_and_are_told_and_broken_ones_stop_nothing(
        own_ros: Ros, node: Process, car: Car, chat_server: Server) -> None:  # noqa: F811
    camera = Camera(car, chat_server)
    plain = camera.until(is_full)
    assert plain.events == ()
    status = car.status('signals')
    assert status.level == DiagnosticStatus.WARN
    assert values_of(status) == {
        'topics': 'brake /vehicle/brake, wipers /joy', 'received': '0',
        'refused': str(REFUSED), 'unreadable': '0'}
    for line in ("signal brake (/vehicle/pedal): std_msgs/msg/Float32 has no field 'pressure'; "
                 'there are: data; the pictures are described without it',
                 'signal wipers (/vehicle/wipers): no message nobody_msgs/msg/Wipers here',
                 "signals.topics: no signal 'horn'",
                 'signal steering (/not//a/name) cannot be subscribed'):
        assert node.output.count(line) == 1, node.output
    assert 'Traceback' not in node.output

    # The car brakes: nothing is switched on, and nothing is different.
    start_publisher(own_ros, 'brake', 'imu', 'joy', 'twist')
    car.until(lambda: car.counter('signals', 'received') > 9, doing=camera)
    assert camera.until(is_full).events == ()
    assert 'brakes' not in camera.told()
    # A message without its number is counted, and goes by.
    assert car.counter('signals', 'unreadable') > 0
    assert 'signal wipers (/joy): a message has no such number' in node.output

    # As evidence alone.
    with car.parameter('signals.evidence', True):
        report = camera.until(lambda report: is_full(report) and report.events)
        event, = report.events
        assert (event.kind, event.strength, event.told) == ('hard_braking', 1.0, False)
        assert abs(event.end - report.stamp) < 20_000_000_000
        assert len(report.keep) == token_budget(5, report.grid, 0.3)
        assert 'brakes' not in camera.told()

    # Told alone.
    with car.parameter('vlm.tell_vehicle', True):
        camera.until(lambda report: is_full(report) and any(
            event.told and event.strength == 0.0 for event in report.events)
            and 'The car drives at 36 km/h. It brakes.' in camera.told())
        assert camera.told().startswith('The car brakes hard. The car drives at')


def test_the_frames_of_a_braking_keep_more(
        own_ros: Ros, node: Process, car: Car, chat_server: Server) -> None:  # noqa: F811
    camera = Camera(car, chat_server)
    with car.parameter('signals.evidence', True):
        plain = camera.until(is_full)
        start_publisher(own_ros, 'imu')
        # It brakes in one of the last three frames, not just after them: that moves nothing yet.
        braking = camera.until(lambda report: is_full(report) and report.events and (
            report.frames[1].stamp < report.events[0].start <= report.frames[4].stamp))
    assert len(braking.keep) == len(plain.keep)
    before = sum(frame.stamp < braking.events[0].start for frame in braking.frames)
    assert sum(per_frame(braking)[before:]) > sum(per_frame(plain)[before:]), (
        before, per_frame(plain), per_frame(braking))
