# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures of 16 bits through cv_bridge, where that is installed and works.

Builds of it are bound to one NumPy and OpenCV; beside others it fails, or ends the process. So a
process of its own tries it first. What it must give is what :class:`RawImage` gives without it:
the two are the same, bit by bit, and whichever is used makes no difference to the pictures.

``python -m vts_ros.nodes.cv_bridge_images`` is that try.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from vts_ros.pipeline.raw_images import Convert, RawImage

#: Those that industrial cameras send; the others need no more than a call of OpenCV.
ENCODINGS = (
    'rgb16', 'bgr16', 'rgba16', 'bgra16',
    *(f'bayer_{pattern}16' for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')))
CHECK_SEC = 30.0
_HEIGHT, _WIDTH = 32, 48


def find_converters(log: Callable[[str], object]) -> Mapping[str, Convert]:
    """
    Return a converter for each encoding.

    Parameters
    ----------
    log
        Called once with what is used, if cv_bridge is installed.

    Returns
    -------
    An empty dictionary if cv_bridge is not installed or fails its check.

    """
    if find_spec('cv_bridge') is None:
        return {}
    if reason := _failure():
        log(f'cv_bridge does not work here ({reason}): pictures of 16 bits are converted '
            'without it, which gives the same')
        return {}
    log('pictures of 16 bits are converted by cv_bridge')
    return dict.fromkeys(ENCODINGS, bridge_converter())


def bridge_converter() -> Convert:
    """Return a function that converts one of ENCODINGS to uint8 (height, width, 3), RGB."""
    from cv_bridge import CvBridge

    bridge = CvBridge()

    def convert(image: RawImage) -> NDArray[np.uint8]:
        # Without the padding of rows and in the byte order of this machine: with others cv_bridge
        # shears the picture, or fails.
        samples = image.samples()
        message = SimpleNamespace(
            height=image.height, width=image.width, encoding=image.encoding, data=samples,
            is_bigendian=int(sys.byteorder == 'big'), step=samples.nbytes // image.height)
        return np.asarray(bridge.imgmsg_to_cv2(message, 'rgb8'), np.uint8)

    return convert


def _failure() -> str:
    """Return why cv_bridge cannot be used, or ``''``."""
    try:
        done = subprocess.run(
            [sys.executable, '-m', __name__], capture_output=True, text=True, errors='replace',
            timeout=CHECK_SEC, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f'{type(error).__name__}'
    if done.returncode < 0:
        return f'it ends the process with signal {-done.returncode}'
    lines = done.stderr.strip().splitlines()
    return ' '.join((lines or ['no reason given'])[-1].split()) if done.returncode else ''


def check() -> None:
    """Raise an error if cv_bridge does not convert every one of ENCODINGS as it should."""
    convert = bridge_converter()
    random = np.random.default_rng(0)
    for encoding in ENCODINGS:
        channels = next((count for name, count in (('rgba', 4), ('bgra', 4), ('bayer', 1))
                         if encoding.startswith(name)), 3)
        data = random.integers(0, 256, _HEIGHT * _WIDTH * channels * 2, np.uint8)
        image = RawImage(_HEIGHT, _WIDTH, encoding, False, _WIDTH * channels * 2, data)
        if not np.array_equal(convert(image), image.rgb()):
            raise ValueError(f'it converts {encoding} in another way')


if __name__ == '__main__':
    check()
