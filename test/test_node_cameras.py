# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several cameras, cameras that are lost, strange stamps, and publishers that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from bag_maker import compressed, COMPRESSED_TOPIC, drive, jpeg, picture, START_NS, times, write
from car import Car, start_node, STEP_NS
from conftest import Ros
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vts_ros.nodes.conversions import to_stamp
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.sparsify import token_budget

pytestmark = pytest.mark.slow

FRONT, REAR = '/front/image_raw/compressed', '/rear/image_raw/compressed'
TAKE_ALL = tuple(f'qos_overrides.{topic}.subscription.{policy}' for topic in (FRONT, REAR)
                 for policy in ('reliability:=reliable', 'depth:=200'))


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of a node that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


def two_cameras(path: Path, count: int, silent: range) -> Path:
    """Write a drive of two cameras, the rear one 20 ms late and silent for a while."""
    messages = []
    for number, stamp in enumerate(times(count)):
        data = jpeg(picture(number))
        messages.append((FRONT, COMPRESSED_IMAGE, stamp, compressed(stamp, data, 'front')))
        if number not in silent:
            stamp += 20_000_000
            messages.append((REAR, COMPRESSED_IMAGE, stamp, compressed(stamp, data, 'rear')))
    return write(path, messages)


def test_two_cameras_one_of_them_silent_for_a_while(
        own_ros: Ros, model: str, car: Car, tmp_path: Path) -> None:
    bag = two_cameras(tmp_path / 'drive', 100, range(20, 70))
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=8', 'cameras:=[front, rear]',
                         'max_frame_age_sec:=2.0', 'use_sim_time:=true',
                         'pipeline.period_sec:=0.5', 'buffer.interval_sec:=0.4', *TAKE_ALL)
    # Found out, not told: nobody publishes yet.
    process.wait_for_output('loaded')
    player = own_ros.start('vts_ros.nodes.replay_node', str(bag), '--clock', '--wait-sec', '60')
    car.wait_for_status('pipeline', DiagnosticStatus.WARN, 'without rear: no picture for')
    status = car.statuses['vts_node: camera rear']
    assert status.level == DiagnosticStatus.ERROR
    car.wait_for_status('pipeline', DiagnosticStatus.OK, 'enabled')
    assert player.wait(500.0) == 0
    alone = 0
    for report in car.reports:
        by_camera = {name: [frame.stamp for frame in report.frames if frame.camera == name]
                     for name in ('front', 'rear')}
        assert 1 <= len(by_camera['front']) <= 5
        for stamp in by_camera['rear']:
            assert min(abs(stamp - front) for front in by_camera['front']) <= 20_000_000
        alone += not by_camera['rear']
        # One budget for all cameras.
        assert len(report.keep) == token_budget(len(report.frames), report.grid, 0.6)
        assert report.tokens_total == len(report.frames) * report.grid[0] * report.grid[1]
    assert 0 < alone < len(car.reports)


def test_a_camera_that_publishes_raw_pictures_is_found_late(
        own_ros: Ros, model: str, car: Car) -> None:
    # It warns once: by then it must have found the topics of the others, too.
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=8', 'cameras:=[late]',
                         'no_image_warn_sec:=4.0',
                         'qos_overrides./late/image_raw.subscription.reliability:=reliable')
    process.wait_for_output('/late/image_raw/compressed: no picture for')
    process.wait_for_output('nobody publishes it; pictures are published on: '
                            f'/camera/front/image_raw, {COMPRESSED_TOPIC}')
    late = car.publisher(Image, '/late/image_raw')
    rgb = picture(0)
    stamps = [START_NS + number * STEP_NS for number in range(5)]
    for stamp in stamps:
        late.publish(Image(header=Header(stamp=to_stamp(stamp), frame_id='late'), height=96,
                           width=160, encoding='rgb8', step=480, data=rgb.tobytes()))
    assert car.wait_for_report(stamps[-1]).frames[0].camera == 'late'


def test_a_publisher_of_other_qos_is_named(own_ros: Ros, model: str, car: Car) -> None:
    process = start_node(
        own_ros, model, 'vlm.max_new_tokens:=8', 'cameras:=[front]', 'no_image_warn_sec:=1.0',
        f'qos_overrides.{FRONT}.subscription.reliability:=reliable')
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = car.node.create_publisher(CompressedImage, FRONT, best_effort)
    process.wait_for_output('no picture for')
    process.wait_for_output(
        'a publisher does not offer the reliability that this node asks for, so it is not heard: '
        'published by /car (sensor_msgs/msg/CompressedImage, best_effort, volatile); '
        'this node asks for reliable, volatile; change it with qos_overrides')
    car.wait_for_status('camera front', DiagnosticStatus.ERROR, 'incompatible QoS (reliability)')
    car.node.destroy_publisher(publisher)

    # By default the node takes what either kind of publisher offers.
    fitting = car.publisher(CompressedImage, FRONT)
    stamp = START_NS

    def show() -> None:
        nonlocal stamp
        stamp += STEP_NS
        fitting.publish(CompressedImage(
            header=Header(stamp=to_stamp(stamp), frame_id='front'), data=jpeg(picture(1))))

    car.wait_for_status('camera front', DiagnosticStatus.OK, 'pictures arrive', doing=show)


@pytest.mark.parametrize('reliability', ['RELIABLE', 'BEST_EFFORT'])
def test_either_reliability_of_a_publisher_fits(
        own_ros: Ros, model: str, car: Car, reliability: str) -> None:
    start_node(own_ros, model, 'vlm.max_new_tokens:=8', 'cameras:=[front]')
    publisher = car.publisher(CompressedImage, FRONT, QoSProfile(
        depth=5, reliability=ReliabilityPolicy[reliability]))
    stamp = START_NS

    def show() -> None:
        nonlocal stamp
        stamp += STEP_NS
        publisher.publish(CompressedImage(
            header=Header(stamp=to_stamp(stamp), frame_id='front'), data=jpeg(picture(1))))

    car.until(lambda: car.reports, doing=show, every_sec=0.2)


def test_stamps_of_zero_and_of_the_future(own_ros: Ros, model: str, car: Car) -> None:
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=8', 'cameras:=[front]', *TAKE_ALL)
    front = car.publisher(CompressedImage, FRONT)
    data = jpeg(picture(0))

    def show(stamp_ns: int) -> None:
        front.publish(CompressedImage(
            header=Header(stamp=to_stamp(stamp_ns), frame_id='front'), data=data))

    now_ns = car.node.get_clock().now().nanoseconds
    show(now_ns + 3600 * 1_000_000_000)
    process.wait_for_output('s ahead of this node: synchronise the clocks')
    car.wait_for_counters('camera front', future=1, admitted=0)
    # A camera without a clock is taken by the time at which its pictures come.
    car.until(lambda: car.reports, doing=lambda: show(0), every_sec=0.25)
    (zero,) = {frame.camera for frame in car.reports[0].frames}
    assert zero == 'front'
    assert min(frame.stamp for frame in car.reports[0].frames) > now_ns
    assert car.counter('camera front', 'no_stamp') >= 5


def test_a_replay_that_is_killed_leaves_a_node_that_takes_the_next(
        own_ros: Ros, model: str, car: Car, tmp_path: Path) -> None:
    bag = drive(tmp_path / 'drive', 100)
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=8', 'use_sim_time:=true',
                         'max_frame_age_sec:=2.0',
                         f'qos_overrides.{COMPRESSED_TOPIC}.subscription.reliability:=reliable',
                         f'qos_overrides.{COMPRESSED_TOPIC}.subscription.depth:=100')
    for publisher in (car.compressed, car.raw):
        car.node.destroy_publisher(publisher)
    process.wait_for_output('loaded')
    first = own_ros.start('vts_ros.nodes.replay_node', str(bag), '--clock', '--wait-sec', '60')
    car.until(lambda: len(car.reports) >= 2)
    first.kill()
    # What nobody sees any more is said, and the last answer is taken back.
    car.wait_for_status('camera camera_front', DiagnosticStatus.ERROR, 'no picture for')
    car.until(lambda: car.retracted and 'no picture for' in car.retracted[-1].message)
    seen = len(car.reports)
    own_ros.start('vts_ros.nodes.replay_node', str(bag), '--clock', '--wait-sec', '60')
    car.until(lambda: len(car.reports) >= seen + 2)
    assert car.reports[seen].stamp <= car.reports[seen - 1].stamp
    window = np.diff([frame.stamp for frame in car.reports[-1].frames])
    assert (window == STEP_NS).all()
