# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Videos of dashcams: their pictures, when they were taken, and which way up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import socket
import subprocess
import sys

import av
from bag_maker import picture
import numpy as np
import pytest
from video_maker import turn, write_video

from vts_ros.errors import VideoError
from vts_ros.tools.answer_video import AnswerVideo
from vts_ros.tools.videos import camera_of, read_video, shown, video_info

#: Quantisation, and colours that four pixels share.
NEAR = 3.0


def difference(picture: np.ndarray, other: np.ndarray) -> float:
    """Return the mean difference of two pictures, in levels of brightness."""
    assert picture.shape == other.shape
    return float(np.abs(picture.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize(('name', 'codec'), [
    ('drive.mp4', 'libx264'), ('drive.mkv', 'libx265'), ('drive.avi', 'mjpeg'),
    ('drive.mov', 'mpeg4')])
def test_pictures_come_with_their_time(tmp_path: Path, name: str, codec: str) -> None:
    video = write_video(tmp_path / name, range(0, 2000, 100), codec)
    counters: Counter[str] = Counter()
    frames = list(read_video(video, counters))
    assert counters == Counter(frames=20)
    assert {frame.camera for frame in frames} == {'drive'}
    assert [frame.stamp_ns for frame in frames] == [100_000_000 * i for i in range(20)]
    for number in (0, 7, 19):
        assert difference(frames[number].rgb(), picture(number)) < NEAR
    assert difference(frames[0].rgb(), picture(19)) > NEAR
    assert frames[0].size_bytes >= 96 * 160 * 3 // 2
    assert video_info(video)['size'] == '160x96'


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    """Pictures that refer to later ones are shown in their order, whenever that is."""
    times_ms = [0, 40, 80, 400, 1000, 1033, 1066, 3000, 3100]
    video = write_video(tmp_path / 'phone.mp4', times_ms, bf='2')
    frames = list(read_video(video))
    assert [frame.stamp_ns for frame in frames] == [1_000_000 * time for time in times_ms]
    assert difference(frames[5].rgb(), picture(5)) < NEAR


@pytest.mark.parametrize('quarters', [0, 1, 2, 3])
def test_pictures_stand_upright(tmp_path: Path, quarters: int) -> None:
    video = turn(write_video(tmp_path / 'phone.mp4', range(0, 300, 100)), quarters)
    frame = next(read_video(video))
    assert difference(frame.rgb(), np.rot90(picture(0), -quarters)) < NEAR


def test_a_video_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    video = write_video(tmp_path / 'drive.mkv', range(0, 20_000, 100))
    data = video.read_bytes()
    video.write_bytes(data[:len(data) // 2])
    frames = list(read_video(video))
    assert 40 < len(frames) < 160
    assert difference(frames[30].rgb(), picture(30)) < NEAR


@pytest.mark.parametrize('name', ['drive.mp4', 'drive.mkv'])
def test_damage_costs_some_pictures(tmp_path: Path, name: str) -> None:
    video = write_video(tmp_path / name, range(0, 20_000, 100), g='10')
    data = bytearray(video.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 600] = np.random.default_rng(0).bytes(600)
    video.write_bytes(data)
    counters: Counter[str] = Counter()
    frames = list(read_video(video, counters))
    assert 100 < len(frames) < 200
    assert frames[-1].stamp_ns == 19_900_000_000
    assert difference(frames[-1].rgb(), picture(199)) < NEAR
    # Matroska's reader may jump over what is damaged and say nothing. Where in the file the
    # damage is, and so whether it does, differs by the random number of the file.
    assert counters['damaged'] > 0 or name.endswith('.mkv')


def test_a_damaged_video_can_be_left_at_any_time(tmp_path: Path) -> None:
    """Decoders that find damage while they are closed once hung, and all of Python with them."""
    random = np.random.default_rng(0)
    noise = [random.integers(0, 255, (96, 160, 3), dtype=np.uint8) for _ in range(40)]
    video = write_video(tmp_path / 'drive.mp4', range(0, 4000, 100), pictures=noise, g='40')
    data = bytearray(video.read_bytes())
    for begin in range(len(data) // 5, len(data) * 9 // 10, 1000):
        data[begin:begin + 20] = random.bytes(20)
    video.write_bytes(data)
    subprocess.run([sys.executable, '-c', f"""
from vts_ros.tools.videos import read_video

for _ in range(100):
    frames = read_video({str(video)!r})
    for _ in range(3):
        next(frames)
    frames.close()
"""], check=True, timeout=300.0)


@pytest.mark.parametrize(('name', 'content', 'reason'), [
    ('missing.mp4', None, 'missing.mp4 does not exist'),
    ('noise.mp4', b'noise' * 1000, 'noise.mp4 is no video that can be read: '),
    ('empty.mkv', b'', 'is no video that can be read: '),
])
def test_what_is_no_video_is_one_line(tmp_path: Path, name: str, content: bytes | None,
                                      reason: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=reason) as told:
        list(read_video(path))
    assert '\n' not in str(told.value)


def test_what_a_file_names_is_not_fetched(tmp_path: Path) -> None:
    """A playlist under the name of a video."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = f'http://127.0.0.1:{server.getsockname()[1]}/a.ts'
        path = tmp_path / 'list.mp4'
        path.write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n')
        with pytest.raises(VideoError):
            list(read_video(path))
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.accept()


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
        stream = container.add_stream('aac', rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match='has no pictures'):
        list(read_video(tmp_path / 'sound.mp4'))


def test_passwords_of_streams_are_not_shown() -> None:
    """They are in the address of most cameras, and that is in logs and on the page."""
    address = 'rtsp://admin:secret@10.0.0.5:554/live?token=secret'
    assert shown(address) == 'rtsp://10.0.0.5:554/live'
    assert camera_of(address) == '10_0_0_5'
    with pytest.raises(VideoError) as told:
        list(read_video('rtsp://admin:secret@127.0.0.1:9/live?token=secret'))
    assert 'secret' not in str(told.value)
    assert 'rtsp://127.0.0.1:9/live cannot be reached' in str(told.value)


def test_the_video_of_answers_is_one_that_browsers_play(tmp_path: Path) -> None:
    """H.264 with colours that four pixels share, and the index before the pictures."""
    path = tmp_path / 'answers.mp4'
    with AnswerVideo(path) as video:
        for number in range(3):
            video.add(picture(number), 500_000_000 * number)
    data = path.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ('h264', 'yuv420p')
    frames = list(read_video(path))
    assert len(frames) == 20
    assert difference(frames[7].rgb(), picture(1)) < NEAR
