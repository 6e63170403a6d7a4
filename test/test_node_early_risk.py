# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node says the risk while the rest of the answer is still being written, over DDS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy')

from car import Car, STATUS, values_of
from conftest import Ros
from diagnostic_msgs.msg import DiagnosticStatus
from std_srvs.srv import SetBool
from test_node_promises import LiveCamera, start_as_shipped
from test_served import ANSWER, Server
from test_served import server as chat_server  # noqa: F401 (a fixture)

from vts_ros.nodes.conversions import to_ns

pytestmark = pytest.mark.slow


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    side = Car(own_ros.domain)
    yield side
    side.close()


@pytest.fixture
def camera(own_ros: Ros, car: Car, chat_server: Server) -> LiveCamera:  # noqa: F811
    """Return the camera of a node whose model is behind a server that can be held up."""
    start_as_shipped(own_ros, 'embedded', 'vlm.backend:=openai', f'vlm.url:={chat_server.url}',
                     'vlm.timeout_sec:=600.0', 'max_answer_age_sec:=600.0')
    car.wait_until_seen()
    return LiveCamera(car)


def test_the_level_the_object_and_then_the_report(
        car: Car, camera: LiveCamera, chat_server: Server) -> None:  # noqa: F811
    chat_server.held_at = '"high", '
    camera.until(lambda: car.early_risks)
    level, = car.early_risks
    assert level.status[0].level == DiagnosticStatus.ERROR
    assert values_of(level.status[0])['object'] == ''
    assert not car.risks
    assert not car.reports
    # One more about the same window, as soon as the object is there.
    chat_server.held_at = ''
    chat_server.go_on.set()
    camera.until(lambda: car.reports and car.risks)
    stamp = to_ns(level.header.stamp)
    both = car.early_risks[1]
    assert to_ns(both.header.stamp) == to_ns(car.risks[0].header.stamp) == stamp
    assert values_of(both.status[0])['object'] == ANSWER.label
    report = car.wait_for_report(stamp)
    assert car.risks[0].status[0].message == report.answer.explanation == ANSWER.explanation
    assert report.time_to_risk_ms is not None
    assert 0.0 < report.time_to_risk_ms < report.latency_ms['total']
    camera.until(lambda: STATUS + 'pipeline' in car.statuses
                 and values_of(car.status('pipeline'))['time_to_risk_ms'] != 'None')


def test_a_risk_is_taken_back_whose_reason_never_comes(
        car: Car, camera: LiveCamera, chat_server: Server) -> None:  # noqa: F811
    chat_server.held_at = '"high", '
    camera.until(lambda: car.early_risks)
    assert not car.retracted
    assert car.call(SetBool, '/vts_node/enable', SetBool.Request(data=False)).success
    car.until(lambda: car.retracted)
    assert car.retracted[-1].message == 'the node was disabled'
    chat_server.go_on.set()
    car.spin(1.0)
    assert not car.reports
    assert len(car.early_risks) == 1
