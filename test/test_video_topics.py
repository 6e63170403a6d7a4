# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Topics of H.264 and H.265: every picture decoded once, none of them smeared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bag_maker import compressed, header, jpeg, picture, START_NS, STEP_NS, times, write
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from video_maker import packets

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.h264_numbers import PictureNumbers
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.video_packets import codec_of, is_key, PacketDecoder
from vts_ros.tools.annotated_bag import write_annotated_bag
from vts_ros.tools.bag_frames import read_frames, read_frames_from
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.bags import Bag
from vts_ros.tools.camera_topics import camera_topics, node_inputs
from vts_ros.tools.recorded_answers import Answered

FOXGLOVE = 'foxglove_msgs/msg/CompressedVideo'
FFMPEG = 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket'
TOPICS = {FOXGLOVE: '/camera/front/video', FFMPEG: '/camera/front/image_raw/ffmpeg',
          COMPRESSED_IMAGE: '/camera/front/image_raw/compressed'}
#: Every fifth packet needs none before.
GAP = 5
NEAR = 3.0


def message(kind: str, stamp_ns: int, data: bytes, name: str) -> bytes:
    """Return a serialised packet."""
    types, content = TYPESTORE.types, np.frombuffer(data, np.uint8)
    made: Any
    if kind == FOXGLOVE:
        made = types[kind](header(stamp_ns).stamp, 'camera_front', content, name)
    elif kind == FFMPEG:
        made = types[kind](header(stamp_ns), 160, 96, name, 0, 0, False, content)
    else:
        made = types[kind](header(stamp_ns), name, content)
    return bytes(TYPESTORE.serialize_cdr(made, kind))


def video_bag(path: Path, kind: str, data: list[bytes], name: str = 'h264',
              storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write a drive at 5 Hz; an empty packet is one that was lost."""
    return write(path, [(TOPICS[kind], kind, stamp, message(kind, stamp, packet, name))
                        for stamp, packet in zip(times(len(data)), data) if packet], storage)


def assert_right(frames: list[Frame], numbers: list[int]) -> None:
    """See that these pictures came, each with its own stamp."""
    assert [(frame.stamp_ns - START_NS) // STEP_NS for frame in frames] == numbers
    for frame, number in zip(frames, numbers):
        difference = np.abs(frame.rgb().astype(int) - picture(number).astype(int)).mean()
        assert difference < NEAR, number


@pytest.mark.parametrize('kind', list(TOPICS))
@pytest.mark.parametrize(('codec', 'name'), [('libx264', 'h264'), ('libx265', 'h265')])
def test_a_video_in_a_bag_is_a_camera(tmp_path: Path, kind: str, codec: str, name: str) -> None:
    bag = video_bag(tmp_path / 'bag', kind, packets(12, codec), name)
    assert camera_topics(bag) == [(TOPICS[kind], kind, 12)]
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag, counters=counters))
    assert_right(frames, list(range(12)))
    assert {frame.camera for frame in frames} == {'camera_front'}
    assert +counters == Counter(frames=12)


@pytest.mark.parametrize('name', ['libx264', 'h264_nvenc', 'H264', 'h264;yuv420p;bgr8;bgr8'])
def test_names_of_encoders_are_understood(name: str) -> None:
    assert codec_of(name) == 'h264'
    assert codec_of(name.replace('264', '265')) == 'hevc'
    assert codec_of('vp9') is None


def test_a_bag_without_definitions_is_read(tmp_path: Path) -> None:
    bag = video_bag(tmp_path / 'bag', FFMPEG, packets(6), 'libx264', StoragePlugin.SQLITE3)
    assert_right(list(read_frames(bag)), list(range(6)))


def test_who_joins_late_waits_for_a_whole_picture(tmp_path: Path) -> None:
    data = packets(13, gap=GAP)
    assert [is_key(packet, 'h264') for packet in data[:6]] == [True, *[False] * 4, True]
    bag = video_bag(tmp_path / 'bag', FOXGLOVE, [b'', b'', *data[2:]])
    counters: Counter[str] = Counter()
    assert_right(list(read_frames(bag, counters=counters)), list(range(5, 13)))
    assert counters == {'frames': 8, 'no_stamp': 0, 'broken': 3, 'truncated': 0, 'damaged': 0,
                        'broken: packet of a video without the ones before it': 3}
    # So does who begins in the middle of a recording.
    later = [frame for _, frame in read_frames_from(START_NS + 7 * STEP_NS, bag)]
    assert_right(later, [10, 11, 12])


#: Streams whose parameters are written differently.
STREAMS: dict[str, tuple[str, dict[str, str]]] = {
    'h264': ('libx264', {}), 'baseline': ('libx264', {'profile': 'baseline'}),
    'scaled': ('libx264', {'x264-params': f'keyint={GAP}:min-keyint={GAP}:scenecut=0:'
                                          'repeat-headers=1:cqm=jvt'}),
    'sliced': ('libx264', {'x264-params': f'keyint={GAP}:min-keyint={GAP}:scenecut=0:'
                                          'repeat-headers=1:slices=3'}),
    'hevc': ('libx265', {})}


@pytest.mark.parametrize('stream', STREAMS)
def test_after_a_lost_packet_no_picture_is_smeared(tmp_path: Path, stream: str) -> None:
    """What follows is left out up to the next whole picture; what is shown is right, to the bit.

    A recorder that drops a message tells nobody.
    """
    codec, options = STREAMS[stream]
    data = packets(20, codec, gap=GAP, **options)
    whole = {frame.stamp_ns: frame.rgb() for frame in read_frames(
        video_bag(tmp_path / 'whole', FOXGLOVE, data, codec))}
    assert len(whole) == 20
    for lost in (1, 7, 14):
        name = f'without_{lost}'
        bag = video_bag(tmp_path / name, FOXGLOVE, [
            b'' if number == lost else packet for number, packet in enumerate(data)], codec)
        frames = list(read_frames(bag))
        following = (lost // GAP + 1) * GAP
        assert [(frame.stamp_ns - START_NS) // STEP_NS for frame in frames] == [
            *range(lost), *range(following, 20)]
        for frame in frames:
            np.testing.assert_array_equal(frame.rgb(), whole[frame.stamp_ns])


def unit(kind: int, bits: str) -> bytes:
    """Return a unit of H.264."""
    bits += '1' + '0' * (-len(bits) % 8)
    bits = bits[:len(bits) // 8 * 8]
    return b'\x00\x00\x01' + bytes([kind]) + int(bits, 2).to_bytes(len(bits) // 8, 'big')


@pytest.mark.parametrize('has_gaps', [False, True])
def test_gaps_that_are_meant_are_none(has_gaps: bool) -> None:
    """A stream of several layers says that numbers may be missing."""
    # Baseline, numbers of four bits, and whether some are missing on purpose.
    parameters = unit(0x67, f'{0x42001e:024b}' + '1' + '1' + '011' + '010' + f'{has_gaps:d}')

    def picture_of(number: int, kind: int = 0x41) -> bytes:
        return unit(kind, '1' + '1' + '1' + f'{number:04b}' + '0' * 16)

    numbers = PictureNumbers()
    assert not numbers.lacks_one(parameters + picture_of(0, 0x65))
    # The second field of a picture has its number; after 15 comes 0; one that none refers to
    # (0x01) does not count on.
    for number in (1, 1, 2, *range(3, 16), 0, 1):
        assert not numbers.lacks_one(picture_of(number)), number
    assert not numbers.lacks_one(picture_of(2, 0x01))
    assert not numbers.lacks_one(picture_of(2))
    assert numbers.lacks_one(picture_of(4)) != has_gaps


def test_numbers_of_what_is_no_stream_are_not_missed() -> None:
    random = np.random.default_rng(0)
    numbers = PictureNumbers()
    for _ in range(2000):
        numbers.lacks_one(b'\x00\x00\x01' + bytes([random.choice([0x67, 0x41, 0x65])])
                          + random.bytes(int(random.integers(0, 40))))


def test_a_loss_that_is_known_waits_for_a_whole_picture() -> None:
    data = packets(12, gap=GAP)
    decoder = PacketDecoder('h264')
    shown = []
    for number, packet in enumerate(data):
        if number == 2:
            decoder.lost()
        if 2 <= number < GAP:
            with pytest.raises(FrameError, match='without the ones before it'):
                next(decoder.decode(packet, number))
        else:
            shown += [stamp for stamp, _ in decoder.decode(packet, number)]
    assert shown == [0, 1, 5, 6, 7, 8, 9, 10, 11]


def test_what_nobody_needs_is_not_decoded() -> None:
    """Pictures that none refers to are decoded where they are wanted; all others always are."""
    # Every second picture lies between two that refer to each other, and is sent behind them.
    data = packets(13, gap=12, bf='1', tune='', **{'x264-params': (
        'keyint=12:min-keyint=12:scenecut=0:repeat-headers=1:bframes=1:b-adapt=0:b-pyramid=none:'
        'weightp=0:rc-lookahead=0:sync-lookahead=0')})
    shown = {}
    for wanted in (True, False):
        decoder = PacketDecoder('h264')
        shown[wanted] = [stamp for number, packet in enumerate(data)
                         for stamp, _ in decoder.decode(packet, number, is_wanted=wanted)]
    # The decoder holds one back, as another might have to be shown before it.
    assert sorted(shown[True]) == list(range(12))
    assert shown[False] == [0, 1, 3, 5, 7, 9, 11]


def test_damaged_packets_are_left_out(tmp_path: Path) -> None:
    data = packets(20, gap=GAP)
    noise = np.random.default_rng(0)
    for number in (3, 11):
        data[number] = data[number][:12] + noise.bytes(len(data[number]))
    data[16] = noise.bytes(500)
    bag = video_bag(tmp_path / 'bag', FOXGLOVE, data)
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag, counters=counters))
    numbers = [(frame.stamp_ns - START_NS) // STEP_NS for frame in frames]
    assert {0, 1, 2, 5, 6, 10, 15} <= set(numbers)
    assert counters['broken'] == 20 - len(frames) > 2
    assert_right(frames, numbers)


def test_what_cannot_be_decoded_is_told_and_ends_nothing(tmp_path: Path) -> None:
    """A codec that is not known, and a type that says of itself what it is not."""
    rear = '/camera/rear/image_raw/compressed'
    odd = [('/camera/odd/video', FOXGLOVE, stamp, message(FOXGLOVE, stamp, b'x', 'vp9'))
           for stamp in times(3)]
    bag = write(tmp_path / 'bag', [*odd, *(
        (rear, COMPRESSED_IMAGE, stamp, compressed(stamp, jpeg(picture(number))))
        for number, stamp in enumerate(times(3)))])
    counters: Counter[str] = Counter()
    assert_right(list(read_frames(bag, counters=counters)), [0, 1, 2])
    reason, = (name for name in counters if name.startswith('broken: '))
    assert 'packets of a video (vp9); decode it first: ros2 run image_transport' in reason
    with Writer(tmp_path / 'other', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        video = writer.add_connection('/video', FOXGLOVE, msgdef='uint8[] data\n',
                                      rihs01='RIHS01_0')
        writer.write(video, START_NS, b'\x00\x01\x00\x00\x00\x00\x00\x00')
    counters.clear()
    assert list(read_frames(tmp_path / 'other', counters=counters)) == []
    assert counters['broken'] == 1


def test_one_camera_in_several_forms_is_read_once(tmp_path: Path) -> None:
    """The form that is cheapest to read is taken; the video is there by its name."""
    data = packets(3)
    bag = write(tmp_path / 'bag', [item for number, stamp in enumerate(times(3)) for item in (
        (TOPICS[FFMPEG], FFMPEG, stamp, message(FFMPEG, stamp, data[number], 'h264')),
        (TOPICS[COMPRESSED_IMAGE], COMPRESSED_IMAGE, stamp,
         compressed(stamp, jpeg(picture(number)))))])
    assert [camera.topic for camera in camera_topics(bag)] == [TOPICS[COMPRESSED_IMAGE]]
    frames = list(read_frames(bag, [TOPICS[FFMPEG]]))
    assert not isinstance(frames[0].data, bytes)
    assert_right(frames, [0, 1, 2])


def test_the_annotated_bag_of_a_video_has_its_answers(tmp_path: Path) -> None:
    from test_bags import report

    bag = video_bag(tmp_path / 'bag', FOXGLOVE, packets(6))
    overlay = tmp_path / 'overlay.jpg'
    overlay.write_bytes(jpeg(picture(0)))
    answers = [Answered(report(START_NS + 3 * STEP_NS), overlay)]
    assert write_annotated_bag(bag, tmp_path / 'out', answers) == 1
    with Bag(tmp_path / 'out') as opened:
        count = {connection.topic: connection.msgcount for connection in opened.connections}
        (_, _, risk), = opened.messages(['/vts_node/risk'])
        told = opened.deserialize(risk, 'diagnostic_msgs/msg/DiagnosticArray')
    assert count[TOPICS[FOXGLOVE]] == 6
    assert told.header.frame_id == 'camera_front'


@pytest.mark.parametrize(('kind', 'name'), [(FOXGLOVE, 'foxglove'), (FFMPEG, 'ffmpeg')])
def test_the_node_hears_a_video_under_the_name_of_its_transport(
        tmp_path: Path, kind: str, name: str) -> None:
    bag = video_bag(tmp_path / 'bag', kind, packets(3))
    assert node_inputs(bag) == (
        name, ['camera_front'], {f'camera_front/image_raw/{name}': TOPICS[kind]})
    with pytest.raises(BagError, match='no camera pictures'):
        node_inputs(bag, 'raw')
