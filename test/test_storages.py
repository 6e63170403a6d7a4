# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings that are damaged, incomplete, compressed or mixed: what is there is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
import shutil
import sqlite3
import tempfile
from typing import Any

from bag_maker import (
    compressed,
    COMPRESSED_TOPIC,
    drive,
    jpeg,
    picture,
    START_NS,
    STEP_NS,
    times,
    write,
)
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import yaml
import zstandard

from vts_ros.errors import BagError
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.camera_topics import camera_topics
from vts_ros.tools.storages import warn_once

STRING = 'std_msgs/msg/String'
DEFINITION = TYPESTORE.generate_msgdef(COMPRESSED_IMAGE, ros_version=2)[0].encode()
#: Topic, message encoding, name of the schema, its encoding, the schema.
Other = tuple[str, str, str, str, bytes]


@pytest.fixture(autouse=True)
def said_anew() -> None:
    warn_once.cache_clear()


def plain_mcap(path: Path, *others: Other, count: int = 60, profile: str = 'ros2',
               **settings: Any) -> Path:
    """Write an MCAP file of JPEG pictures in small chunks, and of other topics beside them."""
    with path.open('wb') as stream:
        writer = McapWriter(stream, chunk_size=10_000, **settings)
        writer.start(profile)
        channels = [writer.register_channel(
            COMPRESSED_TOPIC, 'cdr', writer.register_schema(
                COMPRESSED_IMAGE, 'ros2msg', DEFINITION))]
        channels += [writer.register_channel(topic, encoding, writer.register_schema(
            name, language, schema) if name else 0)
            for topic, encoding, name, language, schema in others]
        for i, stamp in enumerate(times(count)):
            for channel in channels:
                data = compressed(stamp, jpeg(picture(i))) if channel == channels[0] else b'{}'
                writer.add_message(channel, stamp, data, stamp)
        writer.finish()
    return path


def read(bag: Path) -> tuple[list[int], Counter[str]]:
    """Return the numbers of the pictures that are read, and what was counted."""
    counters: Counter[str] = Counter()
    numbers = [(frame.stamp_ns - START_NS) // STEP_NS
               for frame in read_frames(bag, counters=counters)]
    del counters['frames']
    return numbers, +counters


@pytest.mark.parametrize('has_index', [True, False])
@pytest.mark.parametrize('compression', [CompressionType.ZSTD, CompressionType.NONE])
def test_damage_costs_what_is_damaged(
        tmp_path: Path, compression: CompressionType, has_index: bool) -> None:
    file = plain_mcap(tmp_path / 'drive.mcap', compression=compression,
                      index_types=IndexType.ALL if has_index else IndexType.NONE)
    assert read(file) == (list(range(60)), Counter())
    data = bytearray(file.read_bytes())
    middle = len(data) * 35 // 100
    data[middle:middle + 64] = bytes(64)
    file.write_bytes(data)
    numbers, counters = read(file)
    assert read(file) == (numbers, counters)
    assert 45 <= len(numbers) < 60
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] == 59
    assert counters == Counter(damaged=1)


def test_a_garbled_length_costs_its_chunk_only(tmp_path: Path) -> None:
    """Where the records cannot be followed any more, the next chunk is searched."""
    file = plain_mcap(tmp_path / 'drive.mcap', index_types=IndexType.NONE)
    data = bytearray(file.read_bytes())
    chunk = data.index(b'\x04\0\0\0zstd', len(data) // 2)
    data[chunk - 34:chunk - 30] = b'\xff' * 4
    file.write_bytes(data)
    numbers, counters = read(file)
    assert 45 <= len(numbers) < 60
    assert numbers[-1] == 59
    assert counters == Counter(damaged=1)


def test_a_truncated_recording_is_not_copied(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plain_mcap(tmp_path / 'drive.mcap')
    file.write_bytes(file.read_bytes()[:-6000])
    monkeypatch.setattr(tempfile, 'tempdir', '/nowhere')
    numbers, counters = read(file)
    assert 40 < len(numbers) < 60
    assert numbers == list(range(len(numbers)))
    assert counters == Counter(truncated=1)
    assert camera_topics(file) == [(COMPRESSED_TOPIC, COMPRESSED_IMAGE, len(numbers))]


@pytest.mark.parametrize(('name', 'other'), [
    ('/grid (protobuf)', ('/grid', 'protobuf', 'foxglove.Grid', 'protobuf', b'\x0a\x01x')),
    ('/ctl (jsonschema)', ('/ctl', 'json', 'Ctl', 'jsonschema', b'{}')),
    ('/ctl (json)', ('/ctl', 'json', '', '', b'')),
    ('/old (ros1msg)', ('/old', 'ros1', 'std_msgs/String', 'ros1msg', b'string data')),
    ('/odd', ('/odd', 'cdr', 'a_msgs/msg/C', 'ros2msg', b'Unknown thing\nfloat32')),
])
def test_a_topic_that_is_not_understood_does_not_refuse_the_bag(
        tmp_path: Path, name: str, other: Other, caplog: pytest.LogCaptureFixture) -> None:
    file = plain_mcap(tmp_path / 'drive.mcap', other, count=8)
    for _ in range(2):
        assert read(file)[0] == list(range(8))
    told, = caplog.records
    assert name in told.getMessage()


def test_only_messages_of_ros_1_are_told(tmp_path: Path) -> None:
    file = tmp_path / 'old.mcap'
    with file.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros1')
        channel = writer.register_channel('/camera', 'ros1', writer.register_schema(
            'sensor_msgs/Image', 'ros1msg', b'uint32 height'))
        writer.add_message(channel, START_NS, b'1234', START_NS)
        writer.finish()
    with pytest.raises(BagError, match=r'only /camera \(ros1msg\); give the \.bag itself'):
        read(file)


def split(path: Path) -> list[Path]:
    """Write a drive in three files of ten pictures, as a recorder splits it."""
    path.mkdir()
    files, known = [], None
    for part in range(3):
        made = drive(path / 'part', 30)
        shutil.rmtree(made)
        write(made, [(COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(
            stamp, jpeg(picture(i)))) for i, stamp in enumerate(times(30))
            if i // 10 == part])
        files.append(path / f'drive_{part}.mcap')
        shutil.move(made / 'part.mcap', files[-1])
        known = yaml.safe_load((made / 'metadata.yaml').read_text())
        shutil.rmtree(made)
    assert known
    known['rosbag2_bagfile_information']['relative_file_paths'] = [file.name for file in files]
    (path / 'metadata.yaml').write_text(yaml.safe_dump(known))
    return files


@pytest.mark.parametrize('missing', [0, 1, 2])
def test_a_missing_file_of_a_split_recording_is_named(
        tmp_path: Path, missing: int, caplog: pytest.LogCaptureFixture) -> None:
    bag = tmp_path / 'bag'
    files = split(bag)
    assert read(bag) == (list(range(30)), Counter())
    assert camera_topics(bag)[0].pictures == 30
    files[missing].unlink()
    numbers, counters = read(bag)
    assert numbers == [i for i in range(30) if i // 10 != missing]
    assert counters == Counter(missing=1)
    assert camera_topics(bag)[0].pictures == 20
    told, = caplog.records
    assert f'drive_{missing}.mcap is missing' in told.getMessage()


def test_a_renamed_file_is_not_missed(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = drive(tmp_path / 'bag', 6)
    (bag / 'bag.mcap').rename(bag / 'evening drive.mcap')
    assert read(bag) == (list(range(6)), Counter())
    assert not caplog.records


def test_the_write_ahead_log_is_read(tmp_path: Path) -> None:
    """A recorder that is killed leaves its last messages beside the database."""
    whole = drive(tmp_path / 'bag', 12, StoragePlugin.SQLITE3) / 'bag.db3'
    base = sqlite3.connect(whole)
    rows = base.execute('SELECT topic_id, timestamp, data FROM messages').fetchall()
    base.execute('DELETE FROM messages WHERE id > 6')
    base.commit()
    base.execute('PRAGMA journal_mode=wal')
    base.execute('PRAGMA wal_autocheckpoint=0')
    base.executemany('INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)', rows[6:])
    base.commit()
    killed = tmp_path / 'killed'
    killed.mkdir()
    for file in whole.parent.glob('bag.db3*'):
        if not file.name.endswith('-shm'):
            shutil.copy(file, killed)
    base.close()
    before = {file: file.read_bytes() for file in killed.iterdir()}
    assert len(before) == 2
    assert read(killed)[0] == list(range(12))
    assert {file: file.read_bytes() for file in killed.iterdir()} == before


def database(path: Path, padding: int = 0) -> Path:
    """Write a database of 60 messages, some to a page, or each on some pages of its own."""
    write(path, [(COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp,
                  compressed(stamp, jpeg(picture(i)) + bytes(padding)))
                 for i, stamp in enumerate(times(60))], StoragePlugin.SQLITE3)
    (path / 'metadata.yaml').unlink()
    return next(path.glob('*.db3'))


#: The first byte of a page with messages of the table, and with times of the index.
TABLE, INDEX = 13, 10


def pages(data: bytes, kind: int) -> list[int]:
    """Return where the pages of a kind begin; those of the catalogue come first."""
    size = int.from_bytes(data[16:18], 'big')
    return [start for start in range(size, len(data), size) if data[start] == kind]


def overwrite(file: Path, *starts: int, length: int = 4096) -> None:
    data = bytearray(file.read_bytes())
    for start in starts:
        data[start:start + length] = b'\xff' * length
    file.write_bytes(data)


def test_damaged_pages_of_a_database_cost_their_messages(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = database(tmp_path / 'bag')
    assert read(file) == (list(range(60)), Counter())
    found = pages(file.read_bytes(), TABLE)
    overwrite(file, found[len(found) // 3], found[2 * len(found) // 3])
    numbers, counters = read(file)
    assert read(file) == (numbers, counters)
    assert 45 <= len(numbers) <= 58
    assert numbers == sorted(numbers)
    assert {0, 30, 59} <= {*numbers}
    assert counters == Counter(damaged=2)
    assert camera_topics(file) == [(COMPRESSED_TOPIC, COMPRESSED_IMAGE, len(numbers))]
    said, = caplog.messages
    assert said.endswith(f'{len(numbers)} messages can be read, {60 - len(numbers)} cannot')


def test_without_the_index_the_table_is_searched(tmp_path: Path) -> None:
    file = database(tmp_path / 'bag')
    data = file.read_bytes()
    found = pages(data, TABLE)
    overwrite(file, *pages(data, INDEX))
    assert read(file) == (list(range(60)), Counter(damaged=1))
    overwrite(file, found[len(found) // 2])
    numbers, counters = read(file)
    assert 50 <= len(numbers) < 60
    assert numbers == sorted(numbers)
    assert numbers[-1] == 59
    assert counters == Counter(damaged=1)


def test_damage_inside_a_message_costs_this_message(tmp_path: Path) -> None:
    """It shows while the messages are read, when others have been yielded."""
    file = database(tmp_path / 'bag', padding=20_000)
    data = file.read_bytes()
    size = int.from_bytes(data[16:18], 'big')
    # The second page of the message that begins in the middle leads to no page that there is.
    middle = data.index(jpeg(picture(30))[-200:])
    overwrite(file, (middle // size + 1) * size, length=4)
    assert read(file) == ([i for i in range(60) if i != 30], Counter(damaged=1))


def packed(path: Path, mode: CompressionMode) -> Path:
    """Write a drive that a recorder compresses by message or by file."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        camera = writer.add_connection(COMPRESSED_TOPIC, COMPRESSED_IMAGE, typestore=TYPESTORE)
        for i, stamp in enumerate(times(8)):
            writer.write(camera, stamp, compressed(stamp, jpeg(picture(i))))
    return path


@pytest.mark.parametrize('mode', [CompressionMode.MESSAGE, CompressionMode.FILE])
@pytest.mark.parametrize('alone', [
    lambda bag: bag,
    lambda bag: next(bag.glob('*.db3*')),
    lambda bag: (bag / 'metadata.yaml').unlink() or bag,
], ids=['whole', 'file', 'no metadata'])
def test_compressed_recordings_are_read(
        tmp_path: Path, mode: CompressionMode, alone: Callable[[Path], Path]) -> None:
    assert read(alone(packed(tmp_path / 'bag', mode))) == (list(range(8)), Counter())


def test_a_compressed_mcap_is_read(tmp_path: Path) -> None:
    plain = plain_mcap(tmp_path / 'drive.mcap', count=8)
    file = tmp_path / 'moved.mcap.zstd'
    file.write_bytes(zstandard.compress(plain.read_bytes()))
    assert read(file) == (list(range(8)), Counter())
    file.write_bytes(file.read_bytes()[:4] + b'\xff' * 200)
    with pytest.raises(BagError, match='damaged zstd file'):
        read(file)


@pytest.mark.parametrize(('name', 'advice'), [
    ('film.mp4', 'is a video, .* --video'),
    ('old.bag', 'old.bag cannot be read: ')])
def test_what_is_no_recording_of_ros_2_is_told_what_to_do(
        tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b'something')
    with pytest.raises(BagError, match=advice):
        read(tmp_path / name)
