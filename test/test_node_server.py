# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A node whose server comes later than itself, over DDS and HTTP."""

from __future__ import annotations

from collections.abc import Iterator
import re
import socket

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('openai')

from car import Car
from conftest import Ros
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from test_node_promises import LiveCamera, start_as_shipped
from test_served import ANSWER, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    side = Car(own_ros.domain)
    yield side
    side.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return int(found.getsockname()[1])


def test_a_server_that_is_not_there_yet_is_waited_for(own_ros: Ros, car: Car) -> None:
    port = free_port()
    process = start_as_shipped(
        own_ros, 'embedded', 'vlm.backend:=openai', f'vlm.url:=http://127.0.0.1:{port}/v1',
        'vlm.timeout_sec:=600.0', 'max_answer_age_sec:=600.0')
    car.wait_until_seen()
    waits = f'no connection to http://127.0.0.1:{port}/v1: '
    camera = LiveCamera(car)
    for part in ('vlm', 'pipeline'):
        car.wait_for_status(part, DiagnosticStatus.ERROR, waits, doing=camera)
    told = car.describe_now()
    assert not told.success
    assert told.message.startswith(f'waiting for the server: {waits}')
    # In any state, and it goes on waiting afterwards.
    car.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                     Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    car.wait_until_seen()
    with serving(port) as server:
        server.list_refusals = [503] * 3
        camera.until(lambda: car.reports)
        assert car.reports[0].answer == ANSWER
        assert server.list_refusals == []
        car.wait_for_status('vlm', DiagnosticStatus.OK, 'answers')
        car.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    # Once in each wait, however often it was asked again.
    assert process.output.count('; asking again every 2 s') == 2
    # But for what was in work when it was deactivated.
    assert not re.search('no answer: (?!interrupted)', process.output)
    assert 'Traceback' not in process.output
