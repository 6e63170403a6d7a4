# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives: read camera frames from rosbag2 bags and write answers into them. No ROS."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
import heapq
from itertools import count
import logging
from pathlib import Path
import re
import tempfile
from textwrap import shorten
from typing import Any, NamedTuple, TypeVar

from mcap.records import Channel, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer as McapWriter
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import get_typestore, Stores, TypesysError
from rosbags.typesys.store import Typestore

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.raw_images import camera_name, RawImage
from vts_ros.pipeline.report import FrameRef, RISK_STATUS_LEVELS, SceneReport

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
BAG_SUFFIXES = ('.mcap', '.db3')
#: Readers quote what they could not read, in full.
LONGEST_REASON = 200
#: What counters of broken pictures are called: this, and why they are.
REASON = 'broken: '
#: More reasons than these are not told apart.
MOST_REASONS = 8

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)

#: Image topics that are no camera: depth maps, and pictures that this package has drawn.
_NOT_A_CAMERA = re.compile(r'compressedDepth$|/image_annotated(/|$)')

LOG = logging.getLogger(__name__)

Item = TypeVar('Item')


class CameraTopic(NamedTuple):
    """An image topic of a bag."""

    topic: str
    msgtype: str
    pictures: int


class NodeInputs(NamedTuple):
    """What lets the node hear a bag: two parameters, and where its topics are remapped to."""

    image_transport: str
    cameras: list[str]
    remaps: dict[str, str]


class Bag:
    """
    A rosbag2 recording (MCAP or sqlite3), as a context manager.

    A recording that was cut off (no index, no metadata) is opened as far as it can be read;
    ``counters['truncated']`` then says how many of its files that concerned.

    Parameters
    ----------
    path
        The directory of the bag, or one of its storage files alone.
    counters
        Where to count what was wrong with the bag.

    Raises
    ------
    BagError
        On entering, if nothing can be read.

    """

    def __init__(self, path: str | Path, counters: Counter[str] | None = None) -> None:
        self.path = Path(path)
        self.counters = Counter() if counters is None else counters
        self._stack = ExitStack()
        self._reader: AnyReader

    def __enter__(self) -> Bag:
        """Open the recording."""
        try:
            self._reader = self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._stack.close()

    @property
    def connections(self) -> Sequence[Connection]:
        """Return topics and types."""
        return self._reader.connections

    def cameras(self) -> list[CameraTopic]:
        """Return the image topics that hold pictures of cameras, in the order of their names."""
        return sorted(
            CameraTopic(one.topic, one.msgtype, one.msgcount) for one in self.connections
            if one.msgtype in (IMAGE, COMPRESSED_IMAGE) and not _NOT_A_CAMERA.search(one.topic))

    def messages(self, topics: Iterable[str]) -> Iterator[tuple[Connection, int, bytes]]:
        """
        Yield connection, receive time (ns) and serialised message in the order of time.

        Raises
        ------
        BagError
            Where the storage is damaged, after everything before the damage.

        """
        wanted = set(topics)
        connections = [found for found in self.connections if found.topic in wanted]
        if not connections:
            return
        try:
            yield from self._reader.messages(connections)
        # Besides their own errors, the storages let out those of sqlite, zstd and struct.
        except Exception as error:
            raise BagError(f'{self.path} is damaged: {_one_line(error)}') from error

    @property
    def typestore(self) -> Typestore:
        """Return the message definitions of the bag."""
        return self._reader.typestore

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """Return the message; raise FrameError if the bytes are not one."""
        try:
            return self._reader.deserialize(data, msgtype)
        # What a garbled message or definition makes of it depends on the garbling.
        except Exception as error:
            raise FrameError(f'message cannot be read: {_one_line(error)}') from error

    def _open(self) -> AnyReader:
        if not self.path.exists():
            raise BagError(f'{self.path} does not exist')
        if self.path.suffix == '.bag':
            raise BagError(f'{self.path} is a ROS 1 bag; convert it with rosbags-convert')
        try:
            return self._enter([self.path])
        except Exception as error:
            files = self._storage_files()
            if not files and self.path.is_dir():
                raise BagError(f'{self.path} holds no rosbag2 bag (no .mcap, no .db3)') from None
            if not files:
                raise BagError(f'{self.path} is not a rosbag2 bag: {_one_line(error)}') from error
            # A recorder that was killed leaves no metadata and the last file without an index.
            return self._enter_repaired(files)

    def _enter(self, paths: Sequence[Path]) -> AnyReader:
        return self._stack.enter_context(AnyReader(paths, default_typestore=TYPESTORE))

    def _storage_files(self) -> list[Path]:
        if self.path.is_dir():
            return sorted(file for file in self.path.iterdir() if file.suffix in BAG_SUFFIXES)
        return [self.path] if self.path.suffix in BAG_SUFFIXES else []

    def _enter_repaired(self, files: Sequence[Path]) -> AnyReader:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='vts_bag_')))
        whole = []
        for file in files:
            try:
                with AnyReader([file], default_typestore=TYPESTORE):
                    whole.append(file)
            except Exception as error:
                self.counters['truncated'] += 1
                repaired = folder / file.name
                if file.suffix == '.mcap' and _repair(file, repaired):
                    whole.append(repaired)
                elif len(files) == 1:
                    raise BagError(f'{file} cannot be read: {_one_line(error)}') from error
        if not whole:
            raise BagError(f'no file of {self.path} can be read')
        try:
            return self._enter(whole)
        except Exception as error:
            raise BagError(f'{self.path} cannot be read: {_one_line(error)}') from error


def _repair(source: Path, target: Path) -> int:
    """Copy what can be read of an MCAP file; return the number of messages."""
    try:
        return _copy_sound_records(source, target)
    except OSError as error:
        raise BagError(f'{source} cannot be repaired: {error.strerror}') from error
    except Exception as error:
        raise BagError(f'{source} cannot be repaired: {_one_line(error)}') from error


def _copy_sound_records(source: Path, target: Path) -> int:
    messages = 0
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    with source.open('rb') as stream, target.open('wb') as sink:
        writer = McapWriter(sink)
        writer.start(profile='ros2')
        for record in _sound_records(StreamReader(stream)):
            if isinstance(record, Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(
                    record.name, record.encoding, record.data)
            elif isinstance(record, Channel) and record.id not in channels:
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schemas.get(record.schema_id, 0),
                    record.metadata)
            elif isinstance(record, Message) and record.channel_id in channels:
                writer.add_message(
                    channels[record.channel_id], record.log_time, record.data,
                    record.publish_time, record.sequence)
                messages += 1
        writer.finish()
    return messages


def _sound_records(reader: StreamReader) -> Iterator[McapRecord]:
    """Yield what comes before the first damage, which every codec reports in its own way."""
    try:
        yield from reader.records
    except Exception:
        return


def count_broken(counters: Counter[str], error: FrameError) -> None:
    """Count a picture that cannot be used, in all and for its reason."""
    counters['broken'] += 1
    # Every damaged picture has another size: those are one reason.
    reason = re.sub(r' of \d+ bytes| \(\d+ bytes\)', '', _one_line(error.__cause__ if isinstance(
        error.__cause__, FrameError) else error))
    reason = REASON + re.sub(r'\d+(?= (?:extraneous )?bytes)', 'some', reason)
    known = sum(name.startswith(REASON) for name in counters)
    counters[reason if reason in counters or known < MOST_REASONS else f'{REASON}others'] += 1


def _one_line(error: BaseException) -> str:
    return shorten(str(error), LONGEST_REASON, placeholder=' ...') or type(error).__name__


def camera_topics(bag: str | Path) -> list[CameraTopic]:
    """
    Return the camera topics of a bag.

    Raises
    ------
    BagError
        If it cannot be read or has no camera topic; the message names the topics there are.

    """
    with Bag(bag) as opened:
        return _require_cameras(opened)


def node_inputs(bag: str | Path) -> NodeInputs:
    """
    Return how the node is to be started for the cameras of a bag.

    All are to publish pictures of one kind, compressed ones if there are any; a warning names the
    topics of the other kind, which the node does not hear.

    Raises
    ------
    BagError
        As :func:`camera_topics`.

    """
    found = camera_topics(bag)
    # Not `auto`, which subscribes once somebody publishes: that is when the replay has begun, and
    # nobody could wait for the node before. Compressed pictures also arrive more surely.
    is_compressed = any(camera.msgtype == COMPRESSED_IMAGE for camera in found)
    suffix = 'image_raw/compressed' if is_compressed else 'image_raw'
    topics = {camera_name(camera.topic): camera.topic for camera in found
              if (camera.msgtype == COMPRESSED_IMAGE) == is_compressed}
    if left_out := [camera.topic for camera in found if camera.topic not in topics.values()]:
        LOG.warning('%s: the node hears the compressed pictures only, not %s (vts annotate takes '
                    'both)', bag, ', '.join(left_out))
    return NodeInputs('compressed' if is_compressed else 'raw', list(topics),
                      {f'{name}/{suffix}': topic for name, topic in topics.items()})


def _require_cameras(bag: Bag, topics: Sequence[str] | None = None) -> list[CameraTopic]:
    cameras = bag.cameras()
    if topics:
        wanted = [camera for camera in cameras if camera.topic in topics]
        missing = sorted(set(topics) - {camera.topic for camera in wanted})
        if missing:
            raise BagError(f'{bag.path} has no camera topic {", ".join(missing)}; '
                           f'it has: {", ".join(camera.topic for camera in cameras) or "none"}')
        return wanted
    if not any(camera.pictures for camera in cameras):
        found = sorted({connection.topic for connection in bag.connections})
        raise BagError(f'{bag.path} has no camera pictures; its topics: '
                       f'{", ".join(found) or "none"}')
    # The same camera raw and compressed is one camera: take the one that is cheaper to read.
    best: dict[str, CameraTopic] = {}
    for camera in sorted(cameras, key=lambda camera: camera.msgtype != COMPRESSED_IMAGE):
        if camera.pictures:
            best.setdefault(camera_name(camera.topic), camera)
    return sorted(best.values())


def read_frames(bag: str | Path, topics: Sequence[str] | None = None,
                counters: Counter[str] | None = None) -> Iterator[Frame]:
    """
    Yield the camera frames of a bag in the order in which they were received.

    Parameters
    ----------
    bag
        Directory or storage file.
    topics
        Camera topics to read; by default every camera once.
    counters
        Where to count ``frames``, ``no_stamp`` (header stamp zero: the receive time is taken),
        ``broken`` (raw pictures that cannot be read: left out), see :func:`count_broken`, and
        ``truncated`` (files).
        Compressed pictures are not opened here.

    Raises
    ------
    BagError
        If nothing can be read, or, after what can be read, where the storage is damaged.

    """
    counters = Counter() if counters is None else counters
    with Bag(bag, counters) as opened:
        wanted = [camera.topic for camera in _require_cameras(opened, topics)]
        for connection, received_ns, data in opened.messages(wanted):
            try:
                message = opened.deserialize(data, connection.msgtype)
                frame = _to_frame(message, connection, received_ns)
            except FrameError as error:
                count_broken(counters, error)
                continue
            counters['frames'] += 1
            counters['no_stamp'] += not _stamp_ns(message)
            yield frame


def until_damage(items: Iterator[Item], counters: Counter[str]) -> Iterator[Item]:
    """
    Yield what can be read of a damaged bag; ``counters['damaged']`` says that it is.

    Raises
    ------
    BagError
        If that is nothing.

    """
    empty = True
    try:
        for item in items:
            empty = False
            yield item
    except BagError:
        if empty:
            raise
        counters['damaged'] += 1


def read_windows(bag: str | Path, frames: int = 5, interval_sec: float = 0.4
                 ) -> Iterator[list[Frame]]:
    """
    Yield the windows of a recorded drive, each one frame further than the one before.

    Pictures are not decoded, so any of them may be broken; what comes after damage is left out.

    Raises
    ------
    BagError
        If the bag cannot be read or has no camera.

    """
    buffer = FrameBuffer(frames, interval_sec)
    for frame in until_damage(read_frames(bag), Counter()):
        # Of several cameras, the first picture of a moment does not make a window.
        _, window = buffer.advance(frame)
        if window:
            yield window


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _frame_ref(message: Any, connection: Connection, received_ns: int) -> FrameRef:
    return FrameRef(camera=camera_name(connection.topic, message.header.frame_id),
                    stamp=_stamp_ns(message) or received_ns)


def _to_frame(message: Any, connection: Connection, received_ns: int) -> Frame:
    ref = _frame_ref(message, connection, received_ns)
    is_compressed = connection.msgtype == COMPRESSED_IMAGE
    return Frame(ref.camera, ref.stamp,
                 message.data.tobytes() if is_compressed else RawImage.of(message))


class Answered(NamedTuple):
    """A report, and the file of the picture that shows it (JPEG)."""

    report: SceneReport
    overlay: Path


class _Due(NamedTuple):
    """An answer and when it was there; the number keeps those of the same time in order."""

    at_ns: int
    number: int
    answer: Answered
    frame_id: str


def write_annotated_bag(source: str | Path, target: str | Path, answers: Iterable[Answered],
                        node: str = '/vts_node', counters: Counter[str] | None = None) -> int:
    """
    Copy a bag and add the answers under the topics of the node.

    An answer is received when its newest frame was received, plus the measured latency.

    Parameters
    ----------
    source
        The bag the answers are about.
    target
        Directory of the new bag (MCAP); must not exist.
    answers
        Reports with their pictures, in the order in which they were given.
    node
        Name of the node, which the topics of the answers begin with.
    counters
        Where to count the topics that were ``not_copied``: nothing here knows their type.

    Returns
    -------
    Number of answers written; an answer whose newest frame is not in the bag is left out.

    Raises
    ------
    BagError
        If the source cannot be opened or the target cannot be written.

    """
    counters = Counter() if counters is None else counters
    try:
        with Bag(source) as bag, Writer(target, version=9,
                                        storage_plugin=StoragePlugin.MCAP) as writer:
            return _copy_with_answers(
                bag, writer, _copy_connections(bag, writer, node, counters),
                _output_connections(writer, node), answers)
    except WriterError as error:
        raise BagError(f'{target} cannot be written: {_one_line(error)}') from error


def _copy_with_answers(bag: Bag, writer: Writer, copies: dict[str, Connection],
                       outputs: dict[str, Connection], answers: Iterable[Answered]) -> int:
    # After the clock went back, a camera may have a second picture with the same stamp.
    waiting: dict[FrameRef, deque[Answered]] = defaultdict(deque)
    for answer in answers:
        waiting[answer.report.frames[-1]].append(answer)
    cameras = {camera.topic for camera in bag.cameras()}
    due: list[_Due] = []
    numbers = count()
    written = 0

    def write_due(until_ns: float) -> None:
        nonlocal written
        while due and due[0].at_ns <= until_ns:
            ready = heapq.heappop(due)
            for name, data in _serialise(ready.answer, ready.frame_id).items():
                writer.write(outputs[name], ready.at_ns, data)
            written += 1

    for connection, received_ns, data in until_damage(bag.messages(copies), Counter()):
        write_due(received_ns)
        writer.write(copies[connection.topic], received_ns, data)
        if connection.topic not in cameras:
            continue
        try:
            message = bag.deserialize(data, connection.msgtype)
        except FrameError:
            continue
        if found := waiting.get(_frame_ref(message, connection, received_ns)):
            answer = found.popleft()
            latency_ns = round(answer.report.latency_ms.get('total', 0.0) * 1e6)
            heapq.heappush(due, _Due(received_ns + latency_ns, next(numbers), answer,
                                     message.header.frame_id))
    write_due(float('inf'))
    return written


def _copy_connections(bag: Bag, writer: Writer, node: str, counters: Counter[str]
                      ) -> dict[str, Connection]:
    copies: dict[str, Connection] = {}
    for found in bag.connections:
        # Answers of an earlier run are replaced, and a topic with two publishers is one topic.
        if found.topic.startswith(f'{node}/') or found.topic in copies:
            continue
        try:
            copies[found.topic] = writer.add_connection(
                found.topic, found.msgtype, typestore=bag.typestore,
                offered_qos_profiles=getattr(found.ext, 'offered_qos_profiles', ()))
        except (TypesysError, KeyError):
            counters['not_copied'] += 1
    return copies


_OUTPUTS = {
    'report': 'std_msgs/msg/String',
    'scene_description': 'std_msgs/msg/String',
    'risk': 'diagnostic_msgs/msg/DiagnosticArray',
    'image_annotated/compressed': COMPRESSED_IMAGE,
}


def _output_connections(writer: Writer, node: str) -> dict[str, Connection]:
    return {name: writer.add_connection(f'{node}/{name}', msgtype, typestore=TYPESTORE)
            for name, msgtype in _OUTPUTS.items()}


def _serialise(answer: Answered, frame_id: str) -> dict[str, bytes]:
    report, types = answer.report, TYPESTORE.types
    header = types['std_msgs/msg/Header'](
        stamp=types['builtin_interfaces/msg/Time'](*divmod(report.stamp, 1_000_000_000)),
        frame_id=frame_id)
    string = types['std_msgs/msg/String']
    said = report.answer
    status = types['diagnostic_msgs/msg/DiagnosticStatus'](
        level=RISK_STATUS_LEVELS[said.risk], name='vts_node: risk', message=said.explanation,
        hardware_id=', '.join(report.cameras),
        values=[types['diagnostic_msgs/msg/KeyValue'](*item)
                for item in report.risk_values.items()])
    messages = {
        'report': string(report.to_json()),
        'scene_description': string(said.description),
        'risk': types['diagnostic_msgs/msg/DiagnosticArray'](header, [status]),
        'image_annotated/compressed': types[COMPRESSED_IMAGE](
            header, 'jpeg', np.fromfile(answer.overlay, np.uint8)),
    }
    return {name: bytes(TYPESTORE.serialize_cdr(message, _OUTPUTS[name]))
            for name, message in messages.items()}
