# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ROS messages to frames, and what makes messages: reports become some in the pipeline."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vts_ros.errors import FrameError
from vts_ros.pipeline import report_messages
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.raw_images import Convert, RawImage

NO_CONVERTERS: Mapping[str, Convert] = {}
#: What ROS calls the node of a topic until DDS has told its name; others than ROS have none.
UNKNOWN_NODE = '_NODE_NAME_UNKNOWN_'


def to_ns(stamp: Time) -> int:
    """Return a stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def to_frame(message: Image | CompressedImage, camera: str, now_ns: int,
             converters: Mapping[str, Convert] = NO_CONVERTERS) -> Frame:
    """
    Take the picture out of a message as it is: no pixel is looked at before a window needs it.

    Parameters
    ----------
    message
        Compressed, or raw in one of the encodings of ``pipeline/raw_images.py``.
    now_ns
        Stamp of a picture that has none.
    converters
        What converts raw pictures of an encoding, where that is not left to ``raw_images``.

    Raises
    ------
    FrameError
        If the message holds no usable picture.

    """
    stamp_ns = to_ns(message.header.stamp) or now_ns
    if isinstance(message, CompressedImage):
        if not message.data:
            raise FrameError('empty picture')
        return Frame(camera, stamp_ns, message.data.tobytes())
    return Frame(camera, stamp_ns, RawImage.of(message, converters.get(message.encoding)))


def to_image(rgb: NDArray[np.uint8], header: Header) -> Image:
    """Return a picture, uint8 (height, width, 3), as a message."""
    height, width, channels = rgb.shape
    return Image(header=header, height=height, width=width, encoding='rgb8',
                 step=width * channels, data=array('B', rgb.tobytes()))


def to_status(name: str, level: bytes, message: str, hardware_id: str,
              values: Mapping[str, object]) -> DiagnosticStatus:
    """Return a diagnostic status; floats are shown with two decimals."""
    found: DiagnosticStatus = report_messages.status(
        make_message, name, level[0], message, hardware_id, values)
    return found


def make_message(msgtype: str, /, **fields: Any) -> Any:
    """Return a message of rclpy; fields that are not given are zero, empty or false."""
    kind = message_type(msgtype)
    if 'level' in fields:
        # A byte is a number elsewhere, and bytes in rclpy.
        fields['level'] = bytes([fields['level']])
    return kind(**fields)


@lru_cache(maxsize=64)
def message_type(name: str) -> Any:
    """Return the class of ``package/msg/Name``; ImportError where there is no such package."""
    package, kind, message = name.split('/')
    return getattr(import_module(f'{package}.{kind}'), message)
