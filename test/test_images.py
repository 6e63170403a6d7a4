# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages as drivers send them, and as they should not."""

from __future__ import annotations

from array import array
import subprocess
import sys
from types import SimpleNamespace

from bag_maker import picture
import cv2
import numpy as np
import pytest

from vts_ros.errors import FrameError
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.raw_images import camera_name, raw_rgb, RawImage


def message(encoding: str, height: int, width: int, step: int, data: bytes) -> SimpleNamespace:
    """Return the fields of sensor_msgs/Image."""
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=0,
                           step=step, data=np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(('topic', 'frame_id', 'name'), [
    ('/camera/front/image_raw/compressed', 'x', 'camera_front'),
    ('/camera/front/image_raw', 'x', 'camera_front'),
    ('/sensing/cam0/image_rect_color', '', 'sensing_cam0'),
    ('/dashcam', '', 'dashcam'),
    ('/image_raw', 'front_left_optical_frame', 'front_left'),
    ('/camera/image_raw', 'camera_front', 'camera_front'),
    ('/image_raw/compressed', '', 'camera'),
])
def test_camera_name(topic: str, frame_id: str, name: str) -> None:
    """A camera is called after its topic, and after its frame where the topic says nothing."""
    assert camera_name(topic, frame_id) == name


@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'yuv422_yuy2', 'bayer_rggb8', 'mono8'])
def test_encodings_of_cheap_cameras(encoding: str) -> None:
    """A grey picture stays what it was, whatever the encoding does with colours."""
    height, width, padding = 32, 48, 5
    grey = np.repeat(np.linspace(16, 235, height).astype(np.uint8)[:, None], width, axis=1)
    rows = {'nv12': np.vstack([grey, np.full((height // 2, width), 128, np.uint8)]),
            'yuv422_yuy2': np.dstack([grey, np.full_like(grey, 128)]).reshape(height, -1)}
    rows['nv21'] = rows['nv12']
    pixels = np.pad(rows.get(encoding, grey), ((0, 0), (0, padding)))
    rgb = raw_rgb(message(encoding, height, width, pixels.shape[1], pixels.tobytes()))
    assert rgb.shape == (height, width, 3)
    assert np.ptp(rgb[4:-4].astype(int), axis=2).max() <= 2
    assert (np.diff(rgb[4:-4, 4, 0].astype(int)) > 0).all()


@pytest.mark.parametrize(('encoding', 'code'), [('nv12', cv2.COLOR_YUV2RGB_NV12),
                                                ('nv21', cv2.COLOR_YUV2RGB_NV21)])
def test_planes_of_colour_are_not_cut_off(encoding: str, code: int) -> None:
    """Half as many rows again as the picture is high belong to it, from rclpy as well."""
    planes = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    sent = message(encoding, 32, 48, 48, b'')
    sent.data = array('B', planes.tobytes())
    np.testing.assert_array_equal(raw_rgb(sent), cv2.cvtColor(planes, code))


@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('padding', [0, 6])
def test_16_bit_grey_is_scaled_from_black_to_white(is_bigendian: int, padding: int) -> None:
    """Every one of the 65536 values, in either order of bytes, in rows with padding or without."""
    values = np.arange(65536).reshape(256, 256)
    rows = np.frombuffer(values.astype('>u2' if is_bigendian else '<u2').tobytes(), np.uint8)
    rows = np.pad(rows.reshape(256, 512), ((0, 0), (0, padding)), constant_values=77)
    sent = message('mono16', 256, 256, rows.shape[1], rows.tobytes())
    sent.is_bigendian = is_bigendian
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(raw_rgb(sent), np.dstack([expected] * 3))


@pytest.mark.parametrize('encoding', [
    'rgb8', 'bgr8', 'mono8', 'mono16', 'rgba8', 'bgra8', 'bayer_rggb8', 'yuv422', 'nv12',
    'secret9', ''])
@pytest.mark.parametrize('size', [(0, 0), (32, 5000), (33, 47), (2**32 - 1, 2**32 - 1)])
def test_pictures_that_lie_are_refused_in_one_line(encoding: str, size: tuple[int, int]) -> None:
    """Empty, too few bytes, and odd sizes where colours come in pairs."""
    height, width = size
    with pytest.raises(FrameError) as caught:
        raw_rgb(message(encoding, height, width, min(width, 40), bytes(32 * 40)))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('encoding', ['16UC1', '16UC3', '32FC1', '32FC3', '8SC3'])
def test_depth_is_refused(encoding: str) -> None:
    """Depth and raw sensor values are no picture; to squeeze them would be to make one up."""
    with pytest.raises(FrameError, match=f'{encoding}.*no picture in 8 or 16 bits'):
        raw_rgb(message(encoding, 32, 48, 48 * 12, bytes(32 * 48 * 12)))


@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('kind', ['rgb', 'bgr', 'rgba', 'bgra', 'mono', 'bayer_rggb',
                                  'bayer_bggr', 'bayer_gbrg', 'bayer_grbg'])
def test_16_bits_are_the_same_picture_as_8(kind: str, is_bigendian: int) -> None:
    """Industrial cameras: 257 times a value in 8 bits is that value in 16."""
    channels = {'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4}.get(kind, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48 * channels), np.uint8)
    wide = (pixels.astype(np.uint32) * 257).astype('>u2' if is_bigendian else '<u2')
    sent = message(f'{kind}16', 32, 48, 96 * channels, wide.tobytes())
    sent.is_bigendian = is_bigendian
    narrow = raw_rgb(message(f'{kind}8', 32, 48, 48 * channels, pixels.tobytes())).astype(int)
    # Interpolated colours of a Bayer pattern are rounded once more in 8 bits.
    assert np.abs(raw_rgb(sent) - narrow).max() <= int(kind.startswith('bayer'))


def test_nothing_is_converted_before_it_is_needed() -> None:
    sent = message('bgr8', 720, 1280, 3840, bytes(720 * 3840))
    frame = Frame('front', 0, RawImage.of(sent))
    assert isinstance(frame.data, RawImage)
    assert np.shares_memory(frame.data.data, sent.data)
    assert frame.rgb().shape == (720, 1280, 3)


def test_node_can_read_pictures_without_the_tools() -> None:
    """What a car needs does not load what draws and what reads recordings."""
    code = ('import sys, numpy; from vts_ros.pipeline.raw_images import raw_rgb; '
            'from types import SimpleNamespace as Message; '
            'raw_rgb(Message(height=32, width=48, encoding="bgr8", is_bigendian=0, step=144, '
            'data=numpy.zeros(144 * 32, numpy.uint8))); print(*sys.modules)')
    loaded = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True,
                            text=True).stdout.split()
    assert not {'rosbags', 'mcap', 'matplotlib', 'PIL', 'torch'} & set(loaded)
    assert raw_rgb(message('rgb8', 96, 160, 480, picture(0).tobytes())).shape == (96, 160, 3)
