# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What image messages of any origin mean: the name of the camera, and the picture. No ROS.

Not cv_bridge: it would convert the same encodings by the same functions of OpenCV, but that of apt
is built against NumPy 1 and fails beside NumPy 2, and offline there is none.
"""

from __future__ import annotations

from collections.abc import Callable
import re
from types import SimpleNamespace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.rgb import check_rgb

#: What image_transport and drivers append to the name of a camera.
_TRANSPORT = re.compile(r'(/compressed)?$')
_PICTURE = re.compile(r'/image(_(raw|color|mono|rect|rect_color))?$')

#: OpenCV's own names for what ROS drivers mean by others.
_ALIASES = {'8UC3': 'bgr8', '8UC1': 'mono8'}
#: Bytes per pixel, and how pixels become RGB.
_PLAIN: dict[str, tuple[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    'rgb8': (3, lambda pixels: pixels),
    'bgr8': (3, lambda pixels: pixels[..., ::-1]),
    'rgba8': (4, lambda pixels: pixels[..., :3]),
    'bgra8': (4, lambda pixels: pixels[..., 2::-1]),
    'mono8': (1, lambda pixels: pixels.repeat(3, axis=2)),
}
#: Full planes of luminance above half planes of colour.
_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that say what the picture is, from whatever library."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    #: Bytes: an array of numpy or of the standard library.
    data: Any


def camera_name(topic: str, frame_id: str = '') -> str:
    """
    Return the name of the camera behind a topic.

    ``/camera/front/image_raw/compressed`` is ``camera_front``. A topic that has no name besides
    what every camera is called takes the frame_id, without ``_optical_frame``.

    """
    stem = _PICTURE.sub('', _TRANSPORT.sub('', topic, count=1)).strip('/')
    if stem in ('', 'camera') and frame_id:
        stem = frame_id.removesuffix('_frame').removesuffix('_optical')
    return stem.strip('/').replace('/', '_') or 'camera'


def raw_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """
    Return the picture of a raw image message as uint8 (height, width, 3), RGB.

    Raises
    ------
    FrameError
        If encoding, sizes or number of bytes do not go together, or the encoding is neither one
        of 8-bit colour or grey nor mono16; in one line.

    """
    encoding = _ALIASES.get(message.encoding, message.encoding)
    try:
        if encoding in _PLAIN:
            channels, to_rgb = _PLAIN[encoding]
            rgb = to_rgb(_packed(message, channels).reshape(
                message.height, message.width, channels))
        elif encoding == 'mono16':
            rgb = _grey16_rgb(message)
        elif encoding in _PLANAR:
            rgb = _planar_rgb(message, _PLANAR[encoding])
        else:
            rgb = _other_rgb(message, encoding)
    except (cv2.error, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise FrameError(f'{message.width}x{message.height} {encoding!r} picture of '
                         f'{len(message.data)} bytes cannot be used: {reason}') from error
    return check_rgb(np.ascontiguousarray(rgb))


def _packed(message: ImageMessage, pixel_bytes: int, rows: int | None = None
            ) -> NDArray[np.uint8]:
    """Return the bytes by row, without those that drivers pad rows with."""
    rows = message.height if rows is None else rows
    data = np.asarray(message.data, np.uint8)[:rows * message.step]
    packed = data.reshape(rows, message.step)[:, :message.width * pixel_bytes]
    if packed.shape[1] < message.width * pixel_bytes:
        raise ValueError(f'rows of {message.step} bytes are too short')
    return np.ascontiguousarray(packed)


def _grey16_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """
    Scale 16-bit grey linearly, 65535 to 255, as cv_bridge does.

    Not by the brightest pixel: then what a pixel means would change from frame to frame.
    """
    pixels = _packed(message, 2).view('>u2' if message.is_bigendian else '<u2')
    grey = cv2.convertScaleAbs(pixels.astype(np.uint16), alpha=255 / 65535)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def _planar_rgb(message: ImageMessage, conversion: int) -> NDArray[np.uint8]:
    planes = _packed(message, 1, rows=message.height * 3 // 2)
    return np.asarray(cv2.cvtColor(planes, conversion), np.uint8)


def _other_rgb(message: ImageMessage, encoding: str) -> NDArray[np.uint8]:
    """Leave Bayer patterns and the like, which are rare, to rosbags-image."""
    from rosbags.image import ImageError, message_to_cvimage
    from rosbags.image.image import to_cvtype

    try:
        _, _, pixel_type, channels = to_cvtype(encoding)
        if pixel_type != 'uint8':
            raise ValueError('only encodings of 8 bits and mono16 are supported')
        plain = SimpleNamespace(
            height=message.height, width=message.width, encoding=encoding,
            is_bigendian=message.is_bigendian, data=_packed(message, channels))
        return np.asarray(message_to_cvimage(plain, 'rgb8'))  # type: ignore[arg-type]
    except ImageError as error:
        raise ValueError(str(error)) from error
