# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures through cv_bridge: used where it is right, left alone where it is not.

Packages of the same name stand for builds that do not fit their environment. The comparison with
the real one runs where it is installed (``apt install ros-jazzy-cv-bridge``).
"""

from __future__ import annotations

from pathlib import Path
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import Image

from vts_ros.nodes.conversions import to_frame
from vts_ros.nodes.cv_bridge_images import bridge_converter, ENCODINGS, find_converters
from vts_ros.pipeline.raw_images import raw_rgb, RawImage

#: All that both convert, with the channels of a pixel.
CHANNELS = {
    'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 1, 'rgb16': 3, 'bgr16': 3,
    'rgba16': 4, 'bgra16': 4, 'yuv422': 2, 'yuv422_yuy2': 2,
    **{f'bayer_{pattern}{bits}': 1
       for pattern in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16)}}

#: Does what cv_bridge does with the encodings of 16 bits.
RIGHT = """
import cv2
import numpy as np

CODES = {'rgb16': None, 'bgr16': cv2.COLOR_BGR2RGB, 'rgba16': cv2.COLOR_RGBA2RGB,
         'bgra16': cv2.COLOR_BGRA2RGB, 'bayer_rggb16': cv2.COLOR_BayerBG2RGB,
         'bayer_bggr16': cv2.COLOR_BayerRG2RGB, 'bayer_gbrg16': cv2.COLOR_BayerGR2RGB,
         'bayer_grbg16': cv2.COLOR_BayerGB2RGB}


class CvBridge:
    converted = []

    def imgmsg_to_cv2(self, message, encoding):
        assert encoding == 'rgb8' and not message.is_bigendian
        self.converted.append(message.encoding)
        pixels = message.data.reshape(message.height, message.width, -1)
        code = CODES[message.encoding]
        pixels = pixels if code is None else cv2.cvtColor(pixels, code)
        return np.rint(pixels * (255 / 65535)).astype(np.uint8)
"""
WRONG = {
    'it fails': ('raise ImportError("numpy.core.multiarray failed to import")',
                 'ImportError: numpy.core.multiarray failed to import'),
    'it ends the process': ('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)',
                            'it ends the process with signal 11'),
    'it swaps colours': (RIGHT.replace('COLOR_BGR2RGB', 'COLOR_BGR2XYZ'),
                         'ValueError: it converts bgr16 in another way'),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return what installs a package that is called cv_bridge."""
    def write(code: str) -> None:
        (tmp_path / 'cv_bridge.py').write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
        monkeypatch.delitem(sys.modules, 'cv_bridge', raising=False)

    return write


def message(encoding: str, padding: int = 0, is_bigendian: int = 0) -> Image:
    """Return a picture of random values, with so many bytes behind each row."""
    pixel_bytes = CHANNELS[encoding] * (2 if encoding.endswith('16') else 1)
    rows = np.random.default_rng(1).integers(0, 256, (32, 48 * pixel_bytes), np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(height=32, width=48, encoding=encoding, step=rows.shape[1],
                 is_bigendian=is_bigendian, data=rows.tobytes())


@pytest.mark.parametrize('encoding', CHANNELS)
def test_pictures_are_those_of_cv_bridge(encoding: str) -> None:
    """Bit by bit, for all encodings that both convert."""
    cv_bridge = pytest.importorskip('cv_bridge')
    sent = message(encoding)
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(sent, 'rgb8')
    np.testing.assert_array_equal(raw_rgb(sent), expected)


@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_it_makes_no_difference_whether_it_is_used(
        encoding: str, padding: int, is_bigendian: int) -> None:
    """Also where it fails by itself: padded rows, and bytes in the other order."""
    pytest.importorskip('cv_bridge')
    sent = message(encoding, padding, is_bigendian)
    bridged = RawImage.of(sent, bridge_converter()).rgb()
    np.testing.assert_array_equal(bridged, raw_rgb(sent))


def test_the_one_that_is_installed_is_found_to_be_right() -> None:
    pytest.importorskip('cv_bridge')
    assert set(find_converters(print)) == set(ENCODINGS)


def test_one_that_is_right_converts_what_comes(install: object) -> None:
    assert callable(install)
    install(RIGHT)
    lines: list[str] = []
    converters = find_converters(lines.append)
    assert lines == ['pictures of 16 bits are converted by cv_bridge']
    assert set(converters) == set(ENCODINGS)
    from cv_bridge import CvBridge
    for is_bigendian in (0, 1):
        for encoding in CHANNELS:
            sent = message(encoding, 4, is_bigendian)
            bridged = to_frame(sent, 'front', 0, converters).rgb()
            np.testing.assert_array_equal(bridged, raw_rgb(sent))
    assert CvBridge.converted == [encoding for encoding in CHANNELS if encoding in ENCODINGS] * 2


@pytest.mark.parametrize('fault', WRONG)
def test_one_that_is_wrong_is_not_used_and_does_no_harm(install: object, fault: str) -> None:
    assert callable(install)
    code, reason = WRONG[fault]
    install(code)
    lines: list[str] = []
    assert find_converters(lines.append) == {}
    assert lines == [f'cv_bridge does not work here ({reason}): pictures of 16 bits are '
                     'converted without it, which gives the same']


def test_where_there_is_none_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('vts_ros.nodes.cv_bridge_images.find_spec', lambda name: None)
    monkeypatch.setattr('subprocess.run', lambda *_, **__: pytest.fail('a process is started'))
    assert find_converters(pytest.fail) == {}
