# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames and the rolling window."""

from collections import Counter
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps
import pytest

from vts_ros.errors import FrameError
from vts_ros.pipeline.compressed_images import decode_image
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.rgb import check_rgb

SECOND = 1_000_000_000
PICTURE = np.zeros((32, 48, 3), np.uint8)


def _jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', picture)[1].tobytes()


def _frame(seconds: float, camera: str = 'front') -> Frame:
    return Frame(camera, round(seconds * SECOND), PICTURE)


def _stamps(window: list[Frame] | None) -> list[float]:
    return [frame.stamp_ns / SECOND for frame in window or []]


def test_decoding_gives_rgb() -> None:
    red = np.zeros((32, 48, 3), np.uint8)
    red[:, :, 2] = 255  # OpenCV writes BGR
    rgb = decode_image(_jpeg(red))
    assert rgb.shape == (32, 48, 3)
    assert rgb[16, 24, 0] > 240
    assert rgb[16, 24, 2] < 15


def test_padding_after_a_jpeg_is_no_damage() -> None:
    data = _jpeg(np.full((64, 64, 3), 7, np.uint8)) + bytes(4096)
    assert decode_image(data).shape == (64, 64, 3)


def _grained() -> Image.Image:
    """Return a picture with as much detail as that of a camera."""
    grain = np.random.default_rng(0).normal(0, 12, (240, 321, 3))
    slope = np.linspace(40, 200, 321)[None, :, None]
    return Image.fromarray(np.clip(slope + grain, 0, 255).astype(np.uint8))


def _saved(picture: Image.Image, kind: str = 'JPEG', **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _by_opencv(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]


@pytest.mark.parametrize('size', [1400, 4000])
@pytest.mark.parametrize('zeroed', [True, False], ids=['zeroed', 'lost'])
@pytest.mark.parametrize('place', [0.2, 0.5, 0.8])
def test_a_jpeg_without_a_fragment_of_its_middle_is_refused(
        size: int, zeroed: bool, place: float) -> None:
    """Begin and end are there, and other decoders give a picture without a word."""
    data = _saved(_grained(), quality=90)
    begin = round(place * len(data))
    damaged = data[:begin] + bytes(size * zeroed) + data[begin + size:]
    assert _by_opencv(damaged).shape == (240, 321, 3)
    with pytest.raises(FrameError, match=r'damaged JPEG of [0-9]+ bytes: '):
        decode_image(damaged)


@pytest.mark.parametrize(('mode', 'options'), [
    ('L', {}), ('CMYK', {}), ('RGB', {'subsampling': '4:1:1'}), ('RGB', {'subsampling': 0}),
    ('RGB', {'subsampling': 1}), ('RGB', {'progressive': True}), ('RGB', {'keep_rgb': True}),
    ('RGB', {'restart_marker_blocks': 3})])
def test_every_kind_of_jpeg_is_read(mode: str, options: dict[str, Any]) -> None:
    data = _saved(_grained().convert(mode), **options)
    np.testing.assert_array_equal(decode_image(data), _by_opencv(data))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_pictures_are_turned_as_their_exif_data_say(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = np.zeros((64, 96, 3), np.uint8)
    corners[:32, :48, 0], corners[:32, 48:, 1], corners[32:, :48, 2] = 255, 255, 255
    stored = Image.fromarray(corners)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored), int)
    got = decode_image(_saved(stored, kind, exif=exif))
    assert got.shape == expected.shape
    # Away from the edges, where compression blurs.
    assert np.abs(got - expected)[::8, ::8].mean() < 20


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_jpeg_with_exif_data_is_decoded_once(
        orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _saved(_grained(), exif=exif)
    expected = _by_opencv(data)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded a second time'))
    np.testing.assert_array_equal(decode_image(data), expected)


def test_garbled_exif_data_do_not_spoil_a_picture() -> None:
    data = _saved(_grained())
    garbled = data[:2] + b'\xff\xe1\x00\x10Exif\0\0MM\xff\xff\xff\xff\xff\xff' + data[2:]
    np.testing.assert_array_equal(decode_image(garbled), decode_image(data))


@pytest.mark.parametrize(('start', 'kind'), [
    (_saved(_grained(), 'TIFF'), 'TIFF'), (_saved(_grained(), 'BMP'), 'BMP'),
    (_saved(_grained(), 'GIF'), 'GIF'), (_saved(_grained(), 'JPEG2000'), 'JPEG 2000'),
    (b'\0\0\0\x1cftypavif', 'AVIF'), (b'\0\0\0\x18ftypheic', 'HEIF'),
    (b'\0\0\0\x18ftypmp42', 'a video file'), (b'\0\0\0\1\x67\x42', 'packets of a video'),
    (b'\0\0\1\x67', 'packets of a video'), (b'\x28\xb5\x2f\xfd', 'data compressed with zstd'),
    (b'\0\0' + _saved(_grained()), 'a JPEG behind other bytes'),
    (bytes(12) + _saved(_grained(), 'PNG'), 'compressedDepth')])
def test_what_is_sent_in_the_place_of_a_picture_is_named(start: bytes, kind: str) -> None:
    with pytest.raises(FrameError) as raised:
        decode_image(start + bytes(100))
    assert str(raised.value).endswith(f' bytes): found {kind}, expected JPEG, PNG or WebP')


def test_webcams_may_leave_bytes_over_before_a_marker() -> None:
    """In every picture of some; more of them are the trace of what was lost."""
    data = _saved(_grained(), restart_marker_rows=1)
    for marker in (b'\xff\xd3', b'\xff\xd9'):
        before, _, after = data.partition(marker)
        surplus = before + bytes(8) + marker + after
        np.testing.assert_array_equal(decode_image(surplus), decode_image(data))
        with pytest.raises(FrameError, match='damaged JPEG'):
            decode_image(before + bytes(40) + marker + after)


@pytest.mark.parametrize('data', [
    b'', b'no picture at all', _jpeg(np.full((64, 64, 3), 7, np.uint8))[:200],
    _jpeg(np.zeros((1, 1, 3), np.uint8))])
def test_broken_pictures_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        Frame('front', 0, data).rgb()


@pytest.mark.parametrize('shape', [
    (0, 0, 3), (1, 1, 3), (32, 48), (32, 48, 4), (8, 48, 3), (16, 4000, 3)])
def test_unusable_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError):
        check_rgb(np.zeros(shape, np.uint8))


def test_window_slides_over_admitted_frames() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4)
    for tick in range(15):  # 10 Hz
        buffer.push(_frame(tick / 10))
    assert _stamps(buffer.window()) == [0.4, 0.8, 1.2]
    assert buffer.counters == {'admitted': 4, 'thinned': 11}
    before = set(_stamps(buffer.window()))
    buffer.push(_frame(1.6))
    assert len(before & set(_stamps(buffer.window()))) == 2


@pytest.mark.parametrize('rate_hz', [5, 10, 30])
def test_jitter_costs_no_frame(rate_hz: int) -> None:
    buffer = FrameBuffer(frames=5, interval_sec=0.4)
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 4 * rate_hz)
    windows = [window for tick in range(4 * rate_hz)
               if (window := buffer.advance(_frame(10 + tick / rate_hz + jitter[tick]))[1])]
    # Sets at 10.0, 10.4, ... 13.6, and at 13.97 if the first may be early: five are a window.
    assert len(windows) == (7 if rate_hz == 30 else 6)
    for window in windows[1:]:
        # A frame of the wrong place of a camera of 30 Hz would be 0.033 s away.
        assert np.diff(_stamps(window)) == pytest.approx(0.4, abs=0.0081)


def test_no_window_before_it_is_full() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    assert buffer.window() is None
    buffer.push(_frame(0.0))
    assert buffer.window() is None
    assert _stamps(buffer.window(full=False)) == [0.0]


def test_time_that_jumps_back_clears_all_cameras() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    for seconds in (10.0, 10.4):
        buffer.push(_frame(seconds, 'left'))
        buffer.push(_frame(seconds, 'right'))
    assert buffer.push(_frame(1.0, 'left')) == 'late'
    assert buffer.push(_frame(1.1, 'left')) == 'back'
    assert _stamps(buffer.window(full=False)) == [1.1]


def test_a_jump_that_is_known_is_not_told_again() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    for seconds in (10.0, 10.4):
        buffer.push(_frame(seconds))
    buffer.clear()
    # The last picture before the jump was still on its way.
    outcomes = [buffer.push(_frame(seconds)) for seconds in (10.8, 1.0, 1.4, 1.8)]
    assert outcomes == ['admitted', 'late', 'admitted', 'admitted']
    assert _stamps(buffer.window()) == [1.4, 1.8]
    assert [buffer.push(_frame(seconds)) for seconds in (1.0, 1.1)] == ['late', 'back']


def test_a_stray_frame_from_the_past_costs_no_good_frame() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4)
    outcomes = [buffer.push(_frame(seconds)) for seconds in (9.6, 10.0, 0.0, 10.4, 10.0, 10.8)]
    assert outcomes == ['admitted', 'admitted', 'late', 'admitted', 'late', 'admitted']
    assert _stamps(buffer.window()) == [10.0, 10.4, 10.8]


def test_a_window_does_not_reach_over_a_gap() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4)
    for seconds in (0.0, 0.4, 0.8):
        buffer.push(_frame(seconds))
    assert buffer.push(_frame(600.0)) == 'gap'
    assert buffer.window() is None
    assert _stamps(buffer.window(full=False)) == [600.0]


def test_a_dead_camera_does_not_silence_the_others() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4)
    buffer.push(_frame(0.0, 'dead'))
    for tick in range(20):
        buffer.push(_frame(0.4 * tick, 'alive'))
    window = buffer.window() or []
    assert [frame.camera for frame in window] == ['alive'] * 3


def test_duplicates_are_counted_and_dropped() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    assert buffer.push(_frame(1.0)) == 'admitted'
    assert buffer.push(_frame(1.0)) == 'duplicate'
    assert buffer.counters == {'admitted': 1, 'duplicate': 1}


def test_cameras_merge_in_the_order_of_time() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    for seconds in (0.0, 0.4):
        buffer.push(_frame(seconds + 0.05, 'right'))
        buffer.push(_frame(seconds, 'left'))
    window = buffer.window() or []
    assert [frame.camera for frame in window] == ['left', 'right', 'left', 'right']


def test_a_discarded_frame_leaves_the_others() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    buffer.push(_frame(0.0))
    broken = _frame(0.4)
    buffer.push(broken)
    buffer.discard(broken)
    assert _stamps(buffer.window(full=False)) == [0.0]
    assert _stamps(buffer.window()) == [0.0]  # it was full, so nobody has to wait again


def _drive(buffer: FrameBuffer, *cameras: tuple[str, float, float], until: float = 4.0,
           start: float = 10.0) -> list[list[Frame]]:
    """Push (camera, rate, delay) merged in the order of time; return each new full window."""
    ticks = sorted((start + delay + tick / rate_hz, camera)
                   for camera, rate_hz, delay in cameras
                   for tick in range(int(until * rate_hz)))
    windows, settled = [], buffer.settled
    for seconds, camera in ticks:
        buffer.push(_frame(seconds, camera))
        window = buffer.window()
        if buffer.settled != settled and window:
            windows.append(window)
        settled = buffer.settled
    return windows


@pytest.mark.parametrize(('rate_hz', 'delay'), [(30, 0.013), (10, 0.05), (10, 0.3), (4, 0.1)])
def test_sets_hold_the_nearest_frames_of_all_cameras(rate_hz: int, delay: float) -> None:
    buffer = FrameBuffer(frames=4, interval_sec=0.4, max_skew_sec=0.15)
    windows = _drive(buffer, ('front', 30, 0.0), ('rear', rate_hz, delay))
    assert len(windows) >= 5
    for window in windows[1:]:
        front, rear = (np.array(_stamps([frame for frame in window if frame.camera == camera]))
                       for camera in ('front', 'rear'))
        assert np.abs(front - rear).max() <= 0.5 / rate_hz + 0.001
        assert np.diff(front) == pytest.approx(0.4, abs=1e-6)


def test_every_set_is_new_once() -> None:
    windows = _drive(FrameBuffer(frames=2, interval_sec=0.4), ('a', 30, 0.0), ('b', 10, 0.03))
    newest = [window[-1].stamp_ns for window in windows]
    assert newest == sorted(set(newest))
    assert len(windows) == 9  # 10 sets in 4 s


def test_a_lost_camera_holds_up_nobody_and_may_come_back() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4)
    both = [('front', 10, 0.0), ('rear', 10, 0.02)]
    assert {frame.camera for frame in _drive(buffer, *both)[-1]} == {'front', 'rear'}
    alone = _drive(buffer, both[0], start=14.0)
    # For one spacing it is waited for; then its frames run out.
    assert len(alone) == 10
    assert {frame.camera for frame in alone[-1]} == {'front'}
    again = _drive(buffer, *both, start=18.0)
    assert Counter(frame.camera for frame in again[-1]) == {'front': 3, 'rear': 3}
    assert buffer.counters['late'] == buffer.counters['back'] == buffer.counters['gap'] == 0


def test_frames_that_fit_no_set_are_counted_and_left_out() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4, max_skew_sec=0.05)
    windows = _drive(buffer, ('front', 10, 0.0), ('rear', 2.5, 0.15))
    assert {frame.camera for frame in windows[-1]} == {'front'}
    assert buffer.counters['unmatched'] == 10


def test_a_camera_far_behind_joins_the_sets_of_its_time() -> None:
    buffer = FrameBuffer(frames=3, interval_sec=0.4)
    for tick in range(20):
        buffer.push(_frame(10 + tick / 10, 'front'))
        buffer.push(_frame(10 + tick / 10 - 0.8, 'rear'))
    rear = [frame for frame in buffer.window() or [] if frame.camera == 'rear']
    assert _stamps(rear) == [10.7, 11.1]  # of the sets at 10.8 and 11.2
    assert buffer.counters['late'] == 0


def test_a_remnant_from_before_a_jump_does_not_block_for_ever() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    buffer.push(_frame(1000.0, 'dead'))
    windows = _drive(buffer, ('front', 30, 0.0))
    assert {frame.camera for frame in windows[-1]} == {'front'}
    assert buffer.counters['unmatched'] == FrameBuffer.STRAYS - 1


def test_impossible_windows_are_refused() -> None:
    for values in ((0, 0.4, 0.1), (5, -1.0, 0.1), (5, 0.4, -0.1)):
        with pytest.raises(ValueError, match='not possible'):
            FrameBuffer(*values)


@pytest.mark.parametrize('rate_hz', [5, 7, 10, 15, 20, 25, 29.97, 30, 60, 100])
def test_windows_are_as_long_as_they_are_asked_to_be(rate_hz: float) -> None:
    """Whatever the rate of the camera: a spacing is kept on the average, early or late."""
    buffer = FrameBuffer(frames=5, interval_sec=0.4)
    rng = np.random.default_rng(0)
    lengths = []
    for tick in range(round(40 * rate_hz)):
        _, window = buffer.advance(_frame(10.0 + tick / rate_hz + rng.normal(0.0, 0.001)))
        if window:
            lengths.append((window[-1].stamp_ns - window[0].stamp_ns) / SECOND)
    assert len(lengths) > 80
    assert np.mean(lengths) == pytest.approx(1.6, abs=0.01)
    # The first set may be early by a tenth of the spacing; the others keep to its grid.
    assert np.abs(np.array(lengths[1:]) - 1.6).max() <= 1.0 / rate_hz + 0.01


def test_a_window_is_told_once_when_it_is_complete() -> None:
    buffer = FrameBuffer(frames=2, interval_sec=0.4)
    told = [buffer.advance(_frame(tick / 10))[1] for tick in range(13)]
    assert [_stamps(window) for window in told if window] == [[0.0, 0.4], [0.4, 0.8], [0.8, 1.2]]


def test_what_a_buffer_says_that_it_will_not_take_it_does_not_take() -> None:
    """So pictures of a video can be left undecoded; in a steady stream most are."""
    random = np.random.default_rng(0)
    left_out = 0
    for _ in range(200):
        buffer = FrameBuffer(3, interval_sec=0.4, max_skew_sec=float(random.uniform(0, 0.2)))
        seconds = 100.0
        for _ in range(100):
            # Steady, with jitter, and now and then a gap, a step back or the same again.
            seconds += random.choice([0.05, 0.0, 30.0, -0.2, -40.0],
                                     p=[0.9, 0.025, 0.025, 0.025, 0.025])
            frame = _frame(seconds + float(random.uniform(-0.02, 0.02)))
            may_take = buffer.may_take(frame.camera, frame.stamp_ns)
            outcome = buffer.push(frame)
            left_out += not may_take
            assert may_take or outcome == 'thinned'
    assert left_out > 200 * 100 * 0.5


def test_with_several_cameras_any_frame_may_be_needed() -> None:
    buffer = FrameBuffer(3, interval_sec=0.4)
    for number in range(5):
        buffer.push(_frame(0.05 * number))
    assert not buffer.may_take('front', round(0.3 * SECOND))
    assert buffer.may_take('rear', round(0.3 * SECOND))
    buffer.push(_frame(0.3, 'rear'))
    assert buffer.may_take('front', round(0.32 * SECOND))
