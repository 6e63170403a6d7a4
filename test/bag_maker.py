# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives for the tests: small ones that are made here, and real ones."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, IMAGE
from vts_ros.tools.bag_types import TYPESTORE

COMPRESSED_TOPIC = '/camera/front/image_raw/compressed'
RAW_TOPIC = '/camera/front/image_raw'
START_NS = 1_760_000_000_000_000_000
STEP_NS = 200_000_000


def picture(number: int, height: int = 96, width: int = 160) -> NDArray[np.uint8]:
    """Return a picture with a box that moves to the right with the number; RGB."""
    rgb = np.full((height, width, 3), (90, 140, 200), np.uint8)
    rgb[height // 2:] = 80
    left = (4 * number) % (width - 24)
    rgb[height // 2 - 10:height // 2 + 14, left:left + 24] = (200, 30, 30)
    return rgb


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Return the picture as JPEG."""
    return cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()


def times(count: int) -> list[int]:
    """Return stamps at 5 Hz."""
    return [START_NS + i * STEP_NS for i in range(count)]


def header(stamp_ns: int, frame_id: str = 'camera_front_optical_frame') -> Any:
    """Return a std_msgs/Header."""
    types = TYPESTORE.types
    time = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    return types['std_msgs/msg/Header'](time, frame_id)


def compressed(stamp_ns: int, data: bytes, frame_id: str = 'camera_front_optical_frame') -> bytes:
    """Return a serialised CompressedImage."""
    message = TYPESTORE.types[COMPRESSED_IMAGE](
        header(stamp_ns, frame_id), 'jpeg', np.frombuffer(data, np.uint8))
    return bytes(TYPESTORE.serialize_cdr(message, COMPRESSED_IMAGE))


def raw(stamp_ns: int, pixels: NDArray[np.uint8], encoding: str, step: int | None = None,
        width: int | None = None) -> bytes:
    """Return a serialised Image; ``step`` and ``width`` may lie about the pixels."""
    width = pixels.shape[1] if width is None else width
    row_bytes = pixels.nbytes // pixels.shape[0]
    message = TYPESTORE.types[IMAGE](
        header(stamp_ns), pixels.shape[0], width, encoding, 0,
        row_bytes if step is None else step, pixels.reshape(-1))
    return bytes(TYPESTORE.serialize_cdr(message, IMAGE))


def write(path: Path, messages: Sequence[tuple[str, str, int, bytes]],
          storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write a bag of (topic, type, receive time, serialised message)."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, msgtype, received_ns, data in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=TYPESTORE)
            writer.write(connections[topic], received_ns, data)
    return path


def drive(path: Path, count: int = 30, storage: StoragePlugin = StoragePlugin.MCAP,
          broken: int | None = None) -> Path:
    """Write a drive of JPEG pictures at 5 Hz; one may be cut in the middle."""
    messages = []
    for number, stamp in enumerate(times(count)):
        data = jpeg(picture(number))
        if number == broken:
            data = data[:len(data) // 2]
        messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(stamp, data)))
    return write(path, messages, storage)


def real_bags() -> list[Path]:
    """Return the real recordings that this machine has; skip the test where it has none."""
    folder = os.environ.get('VTS_TEST_BAGS')
    if not folder:
        pytest.skip('VTS_TEST_BAGS is not set: no recorded drives here')
    bags = [path for path in sorted(Path(folder).iterdir()) if (path / 'metadata.yaml').exists()]
    assert bags
    return bags
