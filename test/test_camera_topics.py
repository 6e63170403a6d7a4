# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording are cameras, and which show something else or the same again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bag_maker import (
    compressed,
    COMPRESSED_TOPIC,
    header,
    jpeg,
    picture,
    raw,
    START_NS,
    STEP_NS,
    times,
    write,
)
import cv2
import numpy as np
import pytest

from vts_ros.errors import BagError
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, IMAGE
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.camera_topics import CAMERA_INFO, camera_topics, node_inputs

#: Topic, type, receive time, and the serialised message.
Message = tuple[str, str, int, bytes]


def numbers(bag: Path, topics: Sequence[str] | None = None) -> list[int]:
    """Return the numbers of the pictures that are read."""
    return [(frame.stamp_ns - START_NS) // STEP_NS for frame in read_frames(bag, topics)]


def depth_image(stamp: int) -> tuple[str, str, int, bytes]:
    """Return a depth map as PNG, under a name that does not tell."""
    png = cv2.imencode('.png', np.full((96, 160), 900, np.uint16))[1].tobytes()
    message = TYPESTORE.types[COMPRESSED_IMAGE](
        header(stamp), '16UC1; png compressed ', np.frombuffer(png, np.uint8))
    return ('/front/range/compressed', COMPRESSED_IMAGE, stamp,
            bytes(TYPESTORE.serialize_cdr(message, COMPRESSED_IMAGE)))


def test_only_colour_is_used_by_default(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a depth camera records beside its colour is named once, and read if it is asked for."""
    grey, wide = picture(0)[..., 0], np.zeros((96, 320), np.uint8)
    others = ('/camera/aligned_depth_to_color/image_raw', '/camera/depth/image_rect_raw',
              '/camera/infra1/image_rect_raw', '/tof/image_raw', '/front/segmentation/infra',
              '/camera_thermal/image_infra', '/net/front_mask/infra')
    bag = write(tmp_path / 'bag', [message for i, stamp in enumerate(times(4)) for message in (
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(stamp, jpeg(picture(i)))),
        depth_image(stamp),
        *((topic, IMAGE, stamp, raw(stamp, grey, 'mono8') if 'infra' in topic
           else raw(stamp, wide, '16UC1', width=160)) for topic in others))])
    assert [camera.topic for camera in camera_topics(bag)] == [COMPRESSED_TOPIC]
    assert node_inputs(bag).cameras == ['camera_front']
    assert numbers(bag) == list(range(4))
    told, = caplog.records
    for topic in (*others, '/front/range/compressed'):
        assert topic in told.getMessage()
    assert len(list(read_frames(bag, topics=['/camera/infra1/image_rect_raw']))) == 4


def test_depth_alone_is_told(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [depth_image(START_NS)])
    with pytest.raises(BagError, match=r'no pictures in colour, only /front/range/compressed'):
        numbers(bag)


@pytest.mark.parametrize('rectified', [
    '/front/image_rect_color/compressed', '/front_rect/image_raw/compressed',
    '/front/rectified/image/compressed', '/front_undistorted/compressed'])
def test_raw_and_rectified_are_one_camera(
        tmp_path: Path, caplog: pytest.LogCaptureFixture, rectified: str) -> None:
    front = '/front/image_raw/compressed'
    bag = write(tmp_path / 'bag', [
        (topic, COMPRESSED_IMAGE, START_NS, compressed(START_NS, jpeg(picture(0))))
        for topic in (rectified, front)])
    assert [camera.topic for camera in camera_topics(bag)] == [front]
    told, = caplog.records
    assert f'cameras are {front}, not {rectified} (of a camera that is used)' in told.getMessage()


def camera_info(stamp: int, topic: str, distortion: float, frame_id: str) -> Message:
    """Return a calibration; one of rectified pictures has no distortion."""
    types = TYPESTORE.types
    message = types[CAMERA_INFO](
        header(stamp, frame_id), 96, 160, 'plumb_bob', np.full(5, distortion), np.zeros(9),
        np.zeros(9), np.zeros(12), 0, 0,
        types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False))
    return topic, CAMERA_INFO, stamp, bytes(TYPESTORE.serialize_cdr(message, CAMERA_INFO))


def pictures(topic: str, frame_id: str, late_ns: int = 0) -> list[Message]:
    """Return the messages of a camera topic under a name that tells nothing."""
    return [(topic, COMPRESSED_IMAGE, stamp, compressed(
        stamp + late_ns, jpeg(picture(i)), frame_id)) for i, stamp in enumerate(times(4))]


def cameras_of(path: Path, *messages: Message) -> list[str]:
    """Return the cameras of a recording."""
    bag = write(path, sorted(messages, key=lambda message: message[2]))
    return [camera.topic for camera in camera_topics(bag)]


def test_what_was_made_of_a_camera_is_none(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By camera_info, frame and stamps: a drawn picture and a rectified one of any name."""
    front, rear = '/front/image_raw/compressed', '/rear/image_raw/compressed'
    drawn, flat = '/detector/debug/compressed', '/flat/left/image/compressed'
    assert cameras_of(
        tmp_path / 'bag', *pictures(front, 'front'), *pictures(rear, 'rear'),
        *pictures(drawn, 'front')[2:], *pictures(flat, 'front'),
        camera_info(START_NS, '/front/camera_info', 0.1, 'front'),
        camera_info(START_NS, '/rear/camera_info', 0.1, 'rear'),
        camera_info(START_NS, '/flat/left/camera_info', 0.0, 'front')) == [front, rear]
    told, = caplog.messages
    assert told.endswith(
        f'cameras are {front}, {rear}, not {drawn}, {flat} (of a camera that is used); a topic '
        'that is named is used all the same')
    assert numbers(tmp_path / 'bag', [drawn]) == [2, 3]


@pytest.mark.parametrize('case', ['calibrated', 'other stamps', 'other frame', 'unknown'])
def test_cameras_that_are_not_made_of_one_another_are_several(tmp_path: Path, case: str) -> None:
    """Drivers call their frames alike; only what is the same picture is left out."""
    front, other = '/front/image_raw/compressed', '/other/picture/compressed'
    messages = [*pictures(front, 'camera'), *pictures(
        other, 'another' if case == 'other frame' else 'camera',
        1 if case == 'other stamps' else 0)]
    if case != 'unknown':
        messages.append(camera_info(START_NS, '/front/camera_info', 0.1, 'camera'))
    if case == 'calibrated':
        messages.append(camera_info(START_NS, '/other/camera_info', 0.2, 'camera'))
    assert cameras_of(tmp_path / 'bag', *messages) == [front, other]


def test_the_frame_of_a_picture_tells_what_it_is(tmp_path: Path) -> None:
    front, other = '/front/image_raw/compressed', '/sensor7/compressed'
    assert cameras_of(tmp_path / 'bag', *pictures(front, 'front'),
                      *pictures(other, 'camera_infra1_optical_frame')) == [front]


def test_topics_that_only_look_alike_are_several_cameras(tmp_path: Path) -> None:
    topics = ['/cam/image_left', '/cam/image_right', '/side/left/image_raw',
              '/side/right/image_rect']
    bag = write(tmp_path / 'bag', [
        (topic, IMAGE, START_NS, raw(START_NS, picture(0), 'rgb8')) for topic in topics])
    assert [camera.topic for camera in camera_topics(bag)] == topics
