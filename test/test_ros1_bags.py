# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1 are read as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bag_maker import jpeg, picture, times
import numpy as np
import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from test_bags import report

from vts_ros.errors import BagError
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, IMAGE
from vts_ros.tools.annotated_bag import write_annotated_bag
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bags import Bag
from vts_ros.tools.camera_topics import camera_topics
from vts_ros.tools.recorded_answers import Answered

TYPES = get_typestore(Stores.ROS1_NOETIC)
SPEED = 'car_msgs/msg/Speed'
TYPES.register(get_types_from_msg('std_msgs/Header header\nfloat64 mps\n', SPEED))
FRONT, REAR, SPEED_TOPIC = '/front/image_raw/compressed', '/rear/image_raw', '/speed'


def header(number: int, stamp_ns: int) -> Any:
    """Return a header, which has a number in ROS 1."""
    time = TYPES.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    return TYPES.types['std_msgs/msg/Header'](number, time, 'front_optical_frame')


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Write a drive of two cameras, beside a type of a maker of cars."""
    path = tmp_path / 'drive.bag'
    writer = Writer(path)
    writer.set_compression(Writer.CompressionFormat.BZ2)
    with writer:
        topics = {topic: writer.add_connection(topic, kind, typestore=TYPES) for topic, kind in (
            (FRONT, COMPRESSED_IMAGE), (REAR, IMAGE), (SPEED_TOPIC, SPEED))}
        for number, stamp in enumerate(times(8)):
            rgb, types = picture(number), TYPES.types
            head = header(number, stamp)
            for topic, message in (
                    (FRONT, types[COMPRESSED_IMAGE](
                        head, 'jpeg', np.frombuffer(jpeg(rgb), np.uint8))),
                    (REAR, types[IMAGE](head, *rgb.shape[:2], 'rgb8', 0, 3 * rgb.shape[1],
                                        rgb.reshape(-1))),
                    (SPEED_TOPIC, types[SPEED](head, 10.0 + number))):
                writer.write(topics[topic], stamp, TYPES.serialize_ros1(
                    message, message.__msgtype__))
    return path


def test_pictures_and_stamps_are_read(bag: Path) -> None:
    assert [camera.topic for camera in camera_topics(bag)] == [FRONT, REAR]
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag, counters=counters))
    assert +counters == Counter(frames=16)
    front, rear = ([frame for frame in frames if frame.camera == name]
                   for name in ('front', 'rear'))
    assert [frame.stamp_ns for frame in front] == [frame.stamp_ns for frame in rear] == times(8)
    assert front[3].data == jpeg(picture(3))
    np.testing.assert_array_equal(rear[3].rgb(), picture(3))


def test_a_type_of_its_own_is_read_and_copied(bag: Path, tmp_path: Path) -> None:
    """The annotated bag is one of ROS 2, with all that was recorded."""
    overlay = tmp_path / 'overlay.jpg'
    overlay.write_bytes(jpeg(picture(0)))
    write_annotated_bag(bag, tmp_path / 'out', [
        Answered(report(times(8)[4], camera='front'), overlay)])
    with Bag(tmp_path / 'out') as opened:
        count = {connection.topic: connection.msgcount for connection in opened.connections}
        speeds = [opened.deserialize(data, SPEED) for _, _, data in opened.messages([SPEED_TOPIC])]
    assert count[FRONT] == count[REAR] == count[SPEED_TOPIC] == 8
    assert count['/vts_node/risk'] == 1
    assert [speed.mps for speed in speeds] == [10.0 + number for number in range(8)]
    assert speeds[5].header.stamp.nanosec == times(8)[5] % 1_000_000_000


def test_one_that_was_cut_off_is_told(bag: Path) -> None:
    bag.write_bytes(bag.read_bytes()[:-2000])
    with pytest.raises(BagError, match=r'drive.bag cannot be read: .*rosbag reindex'):
        list(read_frames(bag))


def test_a_folder_with_a_single_bag_is_that_bag(bag: Path) -> None:
    """Several could be several drives."""
    assert len(list(read_frames(bag.parent))) == 16
    bag.with_name('other.bag').write_bytes(bag.read_bytes())
    with pytest.raises(BagError, match=r'holds no rosbag2 bag .*; give one of its \.bag files'):
        list(read_frames(bag.parent))
