# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node over time and under load: what it must not do is grow, starve or lose pictures."""

from __future__ import annotations

from collections.abc import Iterator
import os
import time

import pytest

pytest.importorskip('rclpy')

from bag_maker import jpeg
from car import Car, start_node
from conftest import Process, Ros
import cv2
from lifecycle_msgs.msg import Transition
import numpy as np
import psutil
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from vts_ros.nodes.conversions import to_stamp

pytestmark = pytest.mark.timeout(900)

ROUNDS, WARM = 20, 5
#: How long the soak runs; only where somebody asks for it.
SOAK_SEC = float(os.environ.get('VTS_SOAK_SEC', '0'))
#: For how long the cameras of the load run; the machine must have nothing else to do.
LOAD_SEC = float(os.environ.get('VTS_LOAD_SEC', '0'))
CAMERAS, RATE_HZ = ('front', 'rear', 'left', 'right'), 30
LIMIT_MS = 20.0


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of a node that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


def size(process: Process) -> tuple[float, int]:
    """Return memory in MiB and number of threads."""
    found = psutil.Process(process.pid)
    return found.memory_info().rss / 2**20, found.num_threads()


def test_round_trips_through_the_lifecycle_leave_nothing(
        own_ros: Ros, model: str, car: Car) -> None:
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=2',
                         'qos_overrides./camera/front/image_raw/compressed.subscription'
                         '.reliability:=reliable')
    process.wait_for_output('camera camera_front')
    sizes = []
    for _ in range(ROUNDS):
        car.begin()
        car.show_window()
        car.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
        sizes.append(size(process))
    memory, threads = zip(*sizes[WARM:])
    assert max(threads) == min(threads), sizes
    # The allocators settle; a model that stayed would be 17 MiB each time.
    assert memory[-1] - memory[0] < 40.0, sizes


@pytest.mark.skipif(not SOAK_SEC, reason='set VTS_SOAK_SEC=600 for ten minutes of it')
def test_soak(own_ros: Ros, model: str, car: Car) -> None:
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=64')
    process.wait_for_output('camera camera_front')
    car.until(lambda: car.reports, doing=car.show_good, every_sec=0.2)
    sizes = []
    for _ in range(10):
        end, before = time.monotonic() + SOAK_SEC / 10, len(car.reports)
        while time.monotonic() < end:
            car.show_good()
            car.spin(0.1)
        assert len(car.reports) > before
        sizes.append(size(process))
    memory, threads = zip(*sizes[2:])
    assert max(threads) - min(threads) <= 2, sizes
    assert memory[-1] - memory[0] < 40.0, sizes


@pytest.mark.skipif(not LOAD_SEC, reason='set VTS_LOAD_SEC=20 on an idle machine')
def test_cameras_are_heard_while_the_model_writes(own_ros: Ros, model: str, car: Car) -> None:
    start_node(own_ros, model, f'cameras:=[{", ".join(CAMERAS)}]', 'vlm.max_new_tokens:=64',
               'buffer.interval_sec:=0.4')
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    data = jpeg(np.asarray(cv2.resize(noise, (1280, 720)), np.uint8))
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = [car.publisher(CompressedImage, f'/{name}/image_raw/compressed', qos)
                  for name in CAMERAS]
    sent = 0
    begin = time.monotonic()
    while time.monotonic() < begin + LOAD_SEC:
        now = car.node.get_clock().now().nanoseconds
        for publisher, name in zip(publishers, CAMERAS):
            publisher.publish(CompressedImage(
                header=Header(stamp=to_stamp(now), frame_id=name), format='jpeg', data=data))
        sent += 1
        car.spin(max(0.0, begin + sent / RATE_HZ - time.monotonic()))
    assert car.reports
    for name in CAMERAS:
        values = {one.key: one.value for one in car.status(f'camera {name}').values}
        assert int(values['received']) == sent, values
        assert float(values['delivery_p99_ms']) < LIMIT_MS, values
