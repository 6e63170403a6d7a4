# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed pictures: JPEG, PNG and WebP to RGB, and why other bytes are refused. No ROS here."""

from __future__ import annotations

from collections.abc import Callable
import io
import re
from typing import NamedTuple, TYPE_CHECKING
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
import simplejpeg

from vts_ros.errors import FrameError
from vts_ros.rgb import check_rgb, check_size

if TYPE_CHECKING:
    from PIL import Image

#: More than any camera of a car has. A few bytes can claim to be a picture that fills the memory.
MAX_PIXELS = 2**26
#: What compressed pictures are in ROS. Fewer decoders are a smaller attack surface.
FORMATS = ('JPEG', 'PNG', 'WEBP')
#: Some webcams leave a few bytes over before the markers of every picture, which is whole. What
#: follows a fragment that was lost leaves more, or too little.
MAX_SURPLUS_BYTES = 16
_SURPLUS = re.compile(r'(\d+) extraneous bytes before marker 0xd[0-79]')
_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG'
#: The first bytes of what is sent in the place of a picture, and what that is.
_OTHERS = (
    (rb'II\*\0|MM\0\*', 'TIFF'), (rb'BM', 'BMP'), (rb'GIF8', 'GIF'),
    (rb'\0\0\0\x0cjP', 'JPEG 2000'), (rb'....ftypavi[fs]', 'AVIF'),
    (rb'....ftyp(hei|mif)', 'HEIF'), (rb'....ftyp', 'a video file'),
    (rb'\0\0\0?\x01', 'packets of a video'),
    (rb'\x28\xb5\x2f\xfd', 'data compressed with zstd'),
    (rb'.{1,16}' + _JPEG, 'a JPEG behind other bytes'), (rb'.{12}' + _PNG, 'compressedDepth'))
#: How a picture is turned that EXIF says is stored otherwise.
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: np.fliplr, 3: lambda rgb: np.rot90(rgb, 2), 4: np.flipud,
    5: lambda rgb: rgb.swapaxes(0, 1), 6: lambda rgb: np.rot90(rgb, -1),
    7: lambda rgb: np.rot90(rgb, 2).swapaxes(0, 1), 8: np.rot90}
_ORIENTATION = 0x0112
#: From here on EXIF orientations exchange height and width.
_LYING = 5
#: Returns by what a picture of this height and width may be divided; 1 leaves it.
Reduction = Callable[[int, int], int]


class Decoded(NamedTuple):
    """
    A picture that may have been made smaller while it was decoded.

    Attributes
    ----------
    rgb
        uint8 [H, W, 3].
    size
        Height and width of the whole picture.

    """

    rgb: NDArray[np.uint8]
    size: tuple[int, int]


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """
    Decode a compressed picture, one of ``FORMATS``, to RGB; turned as its EXIF data say.

    Returns
    -------
    uint8 array of shape (height, width, 3); errors are those of :func:`decode_reduced`.

    """
    return decode_reduced(data, None).rgb


def decode_reduced(data: bytes, reduction: Reduction | None) -> Decoded:
    """
    Decode a picture, a JPEG perhaps as a smaller one: the smaller it is, the less time it takes.

    Parameters
    ----------
    data
        One of ``FORMATS``, turned as its EXIF data say.
    reduction
        Returns 8, 4, 2 or 1; None decodes whole pictures.

    Raises
    ------
    FrameError
        If the bytes are not a complete picture of a usable size; the message names what they are
        where that can be told. A JPEG has no checksum: it is found that one was cut or lacks a
        fragment of the size that networks send, but not that a few bytes are wrong.

    """
    if not data:
        raise FrameError('empty picture')
    (height, width), orientation = _check_header(data)
    if data.startswith(_JPEG[:2]):
        turn = _TURNS.get(orientation)
        size = (width, height) if turn and orientation >= _LYING else (height, width)
        factor = reduction(*size) if reduction else 1
        rgb = _decode_jpeg(data, -(-height // factor), -(-width // factor))
        return Decoded(check_rgb(np.ascontiguousarray(turn(rgb)) if turn else rgb), size)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise FrameError(f'picture cannot be decoded: {error.err}') from error
    if bgr is None:
        raise _unreadable(data)
    rgb = check_rgb(np.ascontiguousarray(bgr[:, :, ::-1]))
    return Decoded(rgb, (rgb.shape[0], rgb.shape[1]))


def _decode_jpeg(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """
    Return the picture as stored, of this size; raise FrameError if some of it is missing.

    OpenCV and Pillow put grey or shifted blocks in the place of what is missing, and say nothing.
    """
    try:
        try:
            return simplejpeg.decode_jpeg(data, 'RGB', min_height=height, min_width=width)
        except ValueError as error:
            surplus = _SURPLUS.search(str(error))
            if not surplus or int(surplus[1]) > MAX_SURPLUS_BYTES:
                raise
            return simplejpeg.decode_jpeg(data, 'RGB', min_height=height, min_width=width,
                                          strict=False)
    except ValueError as error:
        raise FrameError(f'damaged JPEG of {len(data)} bytes: {error}') from error


def _check_header(data: bytes) -> tuple[tuple[int, int], int]:
    """Return height and width as stored, and the orientation by EXIF; raise FrameError."""
    # Here, as raw pictures need no Pillow.
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures; what is too large is decided below.
            warnings.simplefilter('ignore')
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                (width, height), orientation = picture.size, _orientation(picture)
    except Exception as error:
        # Whatever Pillow makes of a garbled header, the picture is of no use.
        raise _unreadable(data) from error
    if width * height > MAX_PIXELS:
        raise FrameError(f'picture of {width}x{height} px is larger than {MAX_PIXELS} px')
    check_size(height, width)
    return (height, width), orientation


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if there is none."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Garbled EXIF data do not spoil a picture.
        return 1


def _unreadable(data: bytes) -> FrameError:
    kind = next((name for pattern, name in _OTHERS if re.match(pattern, data, re.DOTALL)), '')
    found = f': found {kind}, expected JPEG, PNG or WebP' if kind else ''
    return FrameError(f'picture cannot be decoded ({len(data)} bytes){found}')
