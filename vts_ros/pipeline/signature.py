# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The fixed pattern noise of the renderer, by which its pictures are known.

A camera is known by the pattern noise of its sensor (Lukas, Fridrich and Goljan, "Digital Camera
Identification from Sensor Pattern Noise", 2006). The renderer has no sensor, so it is given a
pattern: faint, the same in all its pictures, and laid over them at whatever size they are drawn.
Whether a picture has it is one correlation. Nothing else correlates with it but by chance, and
how far chance goes can be said beforehand, for photographs that nobody has seen as well.
"""

from __future__ import annotations

from functools import lru_cache
import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: Width and height at which the pattern is defined and looked for.
SIZE = (224, 128)
#: Shortest and longest waves of the pattern, in pixels at that size: short ones are lost in JPEG,
#: long ones drown in what the picture shows.
_WAVES_PX = (6.0, 14.0)
#: Standard deviation of the pattern in grey levels of 255; grain hides it.
_STRENGTH = 1.2
#: Before the search, brightness is taken relative to its surroundings (of this radius in pixels)
#: and cut off at so many grey levels: edges would outshout the pattern.
_RADIUS_PX, _CUT = 3.5, 2.5
#: All phases of the pattern follow from this name.
_NAME = 'vts_ros'

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


@lru_cache(maxsize=1)
def _pattern() -> Floats:
    """Return the pattern at its own size, float32 [128, 224], of standard deviation 1."""
    width, height = SIZE
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    band = (waves >= 1.0 / _WAVES_PX[1]) & (waves <= 1.0 / _WAVES_PX[0])
    # Of a hash, as generators of random numbers may change from version to version.
    blocks = (hashlib.sha256(f'{_NAME} {number}'.encode()).digest()
              for number in range(-(-band.size // 32)))
    phases = np.frombuffer(b''.join(blocks)[:band.size], np.uint8).reshape(band.shape)
    pattern = np.fft.irfft2(band * np.exp(2j * np.pi * phases / 256.0), s=(height, width))
    return (pattern / pattern.std()).astype(np.float32)


@lru_cache(maxsize=8)
def _at_size(width: int, height: int) -> Floats:
    """Return the pattern for pictures of a size, at its strength, float32 [H, W, 3]."""
    method = cv2.INTER_CUBIC if width >= SIZE[0] else cv2.INTER_AREA
    pattern = cv2.resize(_STRENGTH * _pattern(), (width, height), interpolation=method)
    return np.repeat(pattern[..., None], 3, axis=2)


@lru_cache(maxsize=1)
def _spectrum() -> NDArray[np.complex128]:
    return np.conj(np.fft.rfft2(_pattern()))


def sign(rgb: Picture) -> Picture:
    """
    Lay the pattern over a picture.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3], in whatever order of colours.

    Returns
    -------
    uint8 [H, W, 3].

    """
    height, width = rgb.shape[:2]
    return np.asarray(cv2.add(rgb, _at_size(width, height), dtype=cv2.CV_8U), np.uint8)


def remove(rgb: Picture) -> Picture:
    """Take the pattern out of a picture that has it; parameters and result as :func:`sign`."""
    height, width = rgb.shape[:2]
    return np.asarray(cv2.subtract(rgb, _at_size(width, height), dtype=cv2.CV_8U), np.uint8)


def strength(rgb: Picture) -> float:
    """
    Return how clearly a picture has the pattern.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3], of any size.

    Returns
    -------
    The correlation with the pattern, in standard deviations of that with the pattern moved to any
    other place. Of pictures without it these figures are normally distributed around 0 with a
    standard deviation of 1. A picture of one colour has 0.

    """
    grey: NDArray[Any] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if grey.shape != SIZE[::-1]:
        grey = cv2.resize(grey, SIZE, interpolation=cv2.INTER_AREA)
    grey = grey.astype(np.float32)
    detail = np.clip(grey - cv2.GaussianBlur(grey, (0, 0), _RADIUS_PX), -_CUT, _CUT)
    correlation = np.fft.irfft2(np.fft.rfft2(detail) * _spectrum(), s=SIZE[::-1])
    spread = float(correlation.std())
    return float(correlation[0, 0]) / spread if spread > 1e-6 else 0.0
