# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings that Foxglove's tools have made without ROS: Protobuf and JSON."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

from bag_maker import jpeg, picture, START_NS, STEP_NS, times
from mcap.reader import make_reader
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from test_bags import answered, report
from test_video_topics import assert_right
from video_maker import packets

from vts_ros.errors import BagError
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE
from vts_ros.tools.annotated_bag import write_annotated_bag
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.camera_topics import camera_topics

pytest.importorskip('foxglove_schemas_protobuf', reason="pip install 'vts_ros[tools,test]'")
pytest.importorskip('mcap_protobuf', reason="pip install 'vts_ros[tools]'")

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from mcap_protobuf.writer import Writer as ProtobufWriter

TOPIC = '/camera/front'
SCHEMAS: dict[str, Any] = {
    COMPRESSED_IMAGE: CompressedImage, COMPRESSED_VIDEO: CompressedVideo, IMAGE: RawImage}
COUNT = 6


def contents(kind: str, count: int = COUNT) -> list[dict[str, Any]]:
    """Return the fields of every message, without frame_id and timestamp."""
    if kind == IMAGE:
        return [{'width': 160, 'height': 96, 'encoding': 'bgr8', 'step': 480,
                 'data': np.ascontiguousarray(picture(number)[..., ::-1]).tobytes()}
                for number in range(count)]
    if kind == COMPRESSED_VIDEO:
        return [{'format': 'h264', 'data': packet} for packet in packets(count)]
    return [{'format': 'jpeg', 'data': jpeg(picture(number))} for number in range(count)]


def in_protobuf(path: Path, kind: str, fields: Sequence[dict[str, Any]]) -> Path:
    """Write a recording as Foxglove's library does."""
    with path.open('wb') as stream, ProtobufWriter(stream) as writer:
        for stamp, values in zip(times(len(fields)), fields):
            message = SCHEMAS[kind](frame_id='front_optical_frame', **values)
            message.timestamp.FromNanoseconds(stamp)
            writer.write_message(TOPIC, message, stamp, stamp)
    return path


def in_json(path: Path, kind: str, fields: Sequence[dict[str, Any]]) -> Path:
    """Write the same as JSON, in which bytes are text."""
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start()
        name = SCHEMAS[kind].DESCRIPTOR.full_name
        channel = writer.register_channel(
            TOPIC, 'json', writer.register_schema(name, 'jsonschema', b'{"type": "object"}'))
        for stamp, values in zip(times(len(fields)), fields):
            sec, nsec = divmod(stamp, 10**9)
            text = {**values, 'timestamp': {'sec': sec, 'nsec': nsec}, 'frame_id': 'front',
                    'data': b64encode(values['data']).decode()}
            writer.add_message(channel, stamp, json.dumps(text).encode(), stamp)
        writer.finish()
    return path


@pytest.mark.parametrize('write', [in_protobuf, in_json])
@pytest.mark.parametrize('kind', SCHEMAS)
def test_pictures_of_foxglove_are_read(tmp_path: Path, kind: str, write: Any) -> None:
    file = write(tmp_path / 'drive.mcap', kind, contents(kind))
    assert camera_topics(file) == [(TOPIC, kind, COUNT)]
    counters: Counter[str] = Counter()
    frames = list(read_frames(file, counters=counters))
    assert_right(frames, list(range(COUNT)))
    assert {frame.camera for frame in frames} == {'camera_front'}
    assert +counters == Counter(frames=COUNT)


@pytest.mark.parametrize(('write', 'broken'), [(in_protobuf, b'\xff\xff'),
                                               (in_json, b'{"timestamp": 7}'), (in_json, b'{')])
def test_what_is_no_message_is_counted_and_ends_nothing(
        tmp_path: Path, write: Any, broken: bytes) -> None:
    """The messages are read more than once, and told once."""
    whole = write(tmp_path / 'whole.mcap', COMPRESSED_IMAGE, contents(COMPRESSED_IMAGE, 3))
    file = tmp_path / 'drive.mcap'
    with whole.open('rb') as source, file.open('wb') as target:
        writer = McapWriter(target)
        writer.start()
        for number, (schema, channel, message) in enumerate(make_reader(source).iter_messages()):
            assert schema is not None
            id_ = writer.register_channel(
                TOPIC, channel.message_encoding,
                writer.register_schema(schema.name, schema.encoding, schema.data))
            writer.add_message(id_, message.log_time, broken if number == 0 else message.data,
                               message.log_time)
        writer.finish()
    counters: Counter[str] = Counter()
    assert_right(list(read_frames(file, counters=counters)), [1, 2])
    assert +counters == Counter(frames=2, damaged=1)


def test_a_topic_that_is_not_understood_is_named(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another schema, and one that is no schema; the camera is read all the same."""
    file = tmp_path / 'drive.mcap'
    with file.open('wb') as stream, ProtobufWriter(stream) as writer:
        broken = writer._writer.register_channel('/broken', 'protobuf', (
            writer._writer.register_schema('foxglove.RawImage', 'protobuf', b'\xff')))
        writer._writer.add_message(broken, START_NS, b'x', START_NS)
        for number, stamp in enumerate(times(3)):
            writer.write_message('/log', Log(message='a'), stamp, stamp)
            message = CompressedImage(format='jpeg', data=jpeg(picture(number)))
            message.timestamp.FromNanoseconds(stamp)
            writer.write_message(TOPIC, message, stamp, stamp)
    counters: Counter[str] = Counter()
    assert_right(list(read_frames(file, counters=counters)), [0, 1, 2])
    assert counters['not_understood'] == 2
    told, = caplog.messages
    assert told.endswith('are left out: /broken (protobuf), /log (protobuf)')


def test_nothing_that_is_understood_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / 'drive.mcap'
    with file.open('wb') as stream, ProtobufWriter(stream) as writer:
        writer.write_message('/log', Log(message='a'), START_NS, START_NS)
    with pytest.raises(BagError, match=r'no pictures of Foxglove, only /log \(protobuf\)'):
        list(read_frames(file))


def test_the_annotated_bag_has_them_as_messages_of_ros(tmp_path: Path) -> None:
    """Defined in the file, for RViz and `ros2 bag play`."""
    file = in_protobuf(tmp_path / 'drive.mcap', COMPRESSED_IMAGE, contents(COMPRESSED_IMAGE))
    told = [answered(tmp_path, report(START_NS + 3 * STEP_NS))]
    assert write_annotated_bag(file, tmp_path / 'out', told) == 1
    with AnyReader([tmp_path / 'out']) as reader:
        found: list[Any] = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == TOPIC]
    assert [image.data.tobytes() for image in found] == [
        jpeg(picture(n)) for n in range(COUNT)]
    assert found[3].header.frame_id == 'front_optical_frame'
