# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What image messages of any origin mean: the name of the camera, and the picture. No ROS.

Every conversion is one call of OpenCV on the bytes as they came, made when a window needs the
picture and not when it arrives. The encodings that cv_bridge knows come out as cv_bridge has them,
bit by bit (``test/test_images.py`` compares them where it is installed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import re
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.rgb import check_rgb, check_size

#: What image_transport and drivers append to the name of a camera.
_TRANSPORT = re.compile(r'(/(compressed|ffmpeg|foxglove|h26[45]|video))?$')
_PICTURE = re.compile(r'/image(_(raw|color|mono|rect|rect_color))?$')

#: OpenCV's own names for what ROS drivers mean by others.
_ALIASES = {'8UC3': 'bgr8', '8UC1': 'mono8', '8UC4': 'bgra8', 'yuv422': 'uyvy',
            'yuv422_yuy2': 'yuyv'}
#: Channels of a pixel, and how they become RGB; None are RGB. OpenCV names a Bayer pattern after
#: its second row and column.
_CONVERSIONS: dict[str, tuple[int, int | None]] = {
    'rgb': (3, None), 'bgr': (3, cv2.COLOR_BGR2RGB), 'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB), 'mono': (1, cv2.COLOR_GRAY2RGB),
    'bayer_rggb': (1, cv2.COLOR_BayerBG2RGB), 'bayer_bggr': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg': (1, cv2.COLOR_BayerGR2RGB), 'bayer_grbg': (1, cv2.COLOR_BayerGB2RGB)}
#: Colours shared by two neighbours in a row.
_PACKED_YUV = {'uyvy': cv2.COLOR_YUV2RGB_UYVY, 'yuyv': cv2.COLOR_YUV2RGB_YUY2}
#: Full planes of luminance above half planes of colour.
_PLANAR_YUV = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}


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


@dataclass(frozen=True, eq=False)
class RawImage:
    """
    The picture of a raw image message as it came, not yet converted.

    Raises
    ------
    FrameError
        If encoding, sizes and number of bytes do not go together, or the encoding is not known;
        in one line, before anything is converted.

    """

    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    #: uint8 [bytes].
    data: NDArray[np.uint8]
    #: Takes the place of the conversion here.
    convert: Convert | None = None

    @classmethod
    def of(cls, message: ImageMessage, convert: Convert | None = None) -> RawImage:
        """Take the bytes of a message over, without a copy where it allows that."""
        return cls(message.height, message.width, message.encoding, bool(message.is_bigendian),
                   message.step, np.asarray(message.data, np.uint8), convert)

    def __post_init__(self) -> None:
        """Check what can be checked without a look at the pixels."""
        name = _ALIASES.get(self.encoding, self.encoding)
        kind, bits = (name, 8) if name in _PACKED_YUV or name in _PLANAR_YUV else _split(name)
        rows = self.height * 3 // 2 if kind in _PLANAR_YUV else self.height
        row_bytes = self.width * _pixel_bytes(kind, bits)
        if not bits:
            raise self._unusable('its encoding is no picture in 8 or 16 bits')
        if self.step < row_bytes:
            raise self._unusable(f'rows of {self.step} bytes are too short')
        if len(self.data) < rows * self.step:
            raise self._unusable(f'{rows * self.step} bytes were expected')
        if kind in _PACKED_YUV and self.width % 2:
            raise self._unusable('its colours come in pairs, so its width must be even')
        if kind in _PLANAR_YUV and (self.width % 2 or self.height % 2):
            raise self._unusable('its colours come in pairs, so its sides must be even')
        check_size(self.height, self.width)

    @property
    def nbytes(self) -> int:
        """Return its size in memory in bytes."""
        return self.data.nbytes

    def rgb(self) -> NDArray[np.uint8]:
        """
        Return the picture as uint8 (height, width, 3), RGB.

        Raises
        ------
        FrameError
            If it cannot be converted after all.

        """
        try:
            return check_rgb(self.convert(self) if self.convert else self._converted())
        except (cv2.error, TypeError, ValueError) as error:
            if isinstance(error, FrameError):
                raise
            raise self._unusable(' '.join(str(error).split())) from error

    def samples(self) -> NDArray[Any]:
        """
        Return the values of a picture that is neither shared colours nor planes of them.

        Returns
        -------
        uint8 or uint16 [height, width * channels], in the byte order of this machine.

        """
        kind, bits = _split(_ALIASES.get(self.encoding, self.encoding))
        rows = self._rows(self.height, _CONVERSIONS[kind][0] * bits // 8)
        if bits == 8:
            return rows
        return rows.view('>u2' if self.is_bigendian else '<u2').astype(np.uint16, copy=False)

    def _converted(self) -> NDArray[np.uint8]:
        name = _ALIASES.get(self.encoding, self.encoding)
        if name in _PLANAR_YUV:
            planes = self._rows(self.height * 3 // 2, 1)
            return np.asarray(cv2.cvtColor(planes, _PLANAR_YUV[name]), np.uint8)
        if name in _PACKED_YUV:
            pixels = self._rows(self.height, 2).reshape(self.height, self.width, 2)
            return np.asarray(cv2.cvtColor(pixels, _PACKED_YUV[name]), np.uint8)
        kind, bits = _split(name)
        channels, conversion = _CONVERSIONS[kind]
        samples = self.samples()
        if bits == 16:
            # Linearly, 65535 to 255, as cv_bridge does. Not by the brightest pixel: then what a
            # pixel means would change from frame to frame.
            if kind.startswith('bayer'):
                samples = np.asarray(cv2.cvtColor(samples, conversion or 0), np.uint16)
                conversion, channels = None, 3
            samples = np.asarray(cv2.convertScaleAbs(
                samples.reshape(self.height, -1), alpha=255 / 65535), np.uint8)
        pixels = samples.reshape(self.height, self.width, channels)
        if conversion is None:
            return np.ascontiguousarray(pixels)
        return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)

    def _rows(self, rows: int, pixel_bytes: int) -> NDArray[np.uint8]:
        """Return the bytes by row, without those that drivers pad rows with."""
        data = self.data[:rows * self.step].reshape(rows, self.step)
        return np.ascontiguousarray(data[:, :self.width * pixel_bytes])

    def _unusable(self, reason: str) -> FrameError:
        return FrameError(f'{self.width}x{self.height} {self.encoding!r} picture of '
                          f'{len(self.data)} bytes cannot be used: {reason}')


#: Converts a picture to uint8 (height, width, 3), RGB.
Convert = Callable[[RawImage], NDArray[np.uint8]]


def raw_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """Return the picture of a raw image message, see :class:`RawImage`."""
    return RawImage.of(message).rgb()


def _split(encoding: str) -> tuple[str, int]:
    """Return kind and bits of a channel; no bits where the encoding is no picture."""
    for bits in (8, 16):
        kind = encoding.removesuffix(str(bits))
        if kind != encoding and kind in _CONVERSIONS:
            return kind, bits
    return encoding, 0


def _pixel_bytes(kind: str, bits: int) -> int:
    if kind in _PACKED_YUV:
        return 2
    return _CONVERSIONS[kind][0] * bits // 8 if kind in _CONVERSIONS else 1
