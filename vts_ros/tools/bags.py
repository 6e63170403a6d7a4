# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives: what is in a bag, read as far as it can be. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
import tempfile
from typing import Any

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys.store import Typestore
import yaml

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.picture_messages import format_of, frame_id_of, stamp_ns, VIDEO_TYPES
from vts_ros.tools.bag_types import LANGUAGES, types_of, TYPESTORE
from vts_ros.tools.foxglove_pictures import PictureMcapFile
from vts_ros.tools.ros1_file import Ros1File
from vts_ros.tools.ros1_file import SUFFIX as ROS1
from vts_ros.tools.sqlite_file import SqliteFile
from vts_ros.tools.storages import (
    one_line,
    plain,
    Storage,
    Topic,
    unpack,
    warn_once,
    ZSTD_SUFFIXES,
)

BAG_SUFFIXES = ('.mcap', '.db3')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v', '.ts', '.mts', '.mpg', '.mpeg',
                  '.h264', '.h265', '.hevc')
_STORAGES: dict[str, Callable[[Path, Counter[str]], Storage]] = {
    '.mcap': PictureMcapFile, '.db3': SqliteFile, ROS1: Ros1File}

#: A topic of a bag as rosbags has it, for those that do not know rosbags.
BagTopic = Connection


class Bag:
    """
    A recording of rosbag2 (MCAP or sqlite3, compressed or not) or ROS 1, as a context manager.

    MCAP files may also hold pictures of Foxglove, which become messages of ROS.

    It is opened as far as it can be read. What was wrong with it is counted: files that were
    ``truncated`` or cannot be read, files that are ``missing``, topics that are
    ``not_understood``, and, while messages are read, places that are ``damaged``.

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
        self._storages: list[Storage] = []
        self._connections: list[Connection] = []
        self._typestore = TYPESTORE

    def __enter__(self) -> Bag:
        """Open the recording."""
        try:
            self._open()
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
        return self._connections

    @property
    def duration_sec(self) -> float:
        """Return the time from the first message that was received to the last."""
        return 1e-9 * (max(storage.end_ns for storage in self._storages)
                       - min(storage.start_ns for storage in self._storages))

    def messages(self, topics: Iterable[str], since_ns: int = 0
                 ) -> Iterator[tuple[Connection, int, bytes]]:
        """
        Yield connection, receive time (ns) and serialised message in the order of time.

        Parameters
        ----------
        topics
            Their names.
        since_ns
            Receive time from which on; what is before it in the files is not read.

        Raises
        ------
        BagError
            After everything that can be read, if a file could not be read on from some place.

        """
        wanted = set(topics)
        connections = {(connection.topic, connection.msgtype): connection
                       for connection in self.connections
                       if connection.topic in wanted}
        failure: BagError | None = None
        for storage in self._storages:
            of = {id_: connections[key] for id_, topic in storage.topics.items()
                  if (key := (topic.topic, topic.msgtype)) in connections}
            if not of:
                continue
            try:
                for id_, received_ns, data in storage.messages(of, since_ns):
                    yield of[id_], received_ns, plain(data)
            # Besides their own errors, the storages let out those of sqlite, zstd and struct.
            except Exception as error:
                failure = failure or BagError(f'{self.path} is damaged: {one_line(error)}')
                failure.__cause__ = error
        if failure:
            raise failure

    @property
    def typestore(self) -> Typestore:
        """Return the message definitions of the bag."""
        return self._typestore

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """Return the message; raise FrameError if the bytes are not one."""
        try:
            message: Any = self._typestore.deserialize_cdr(data, msgtype)
            if msgtype in VIDEO_TYPES:
                # Of the one or the other kind, whatever the recording says of its type.
                stamp_ns(message), frame_id_of(message), format_of(message), message.data
            return message
        # What a garbled message or definition makes of it depends on the garbling.
        except Exception as error:
            raise FrameError(f'message cannot be read: {one_line(error)}') from error

    def _open(self) -> None:
        if not self.path.exists():
            raise BagError(f'{self.path} does not exist')
        if is_video_file(self.path):
            raise BagError(f'{self.path} is a video, not a rosbag2 bag; give it to --video')
        files = self._files()
        if not files and self.path.is_dir():
            advice = '; give one of its .bag files' if any(self.path.glob(f'*{ROS1}')) else ''
            raise BagError(f'{self.path} holds no rosbag2 bag (no .mcap, no .db3){advice}')
        if not files:
            raise BagError(f'{self.path} is not a rosbag2 bag (no .mcap, no .db3, no .bag)')
        for file in files:
            try:
                self._storages.append(self._open_file(file))
            except (BagError, OSError) as error:
                if len(files) == 1:
                    raise BagError(one_line(error)) from error
                self.counters['truncated'] += 1
                warn_once(f'{one_line(error)}; the other files are read')
        if not self._storages:
            raise BagError(f'no file of {self.path} can be read')
        self._storages.sort(key=lambda storage: storage.start_ns)
        self._understand()

    def _open_file(self, file: Path) -> Storage:
        if file.suffix in ZSTD_SUFFIXES:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix='vts_bag_'))
            try:
                return self._open_file(unpack(file, Path(folder)))
            except BagError as error:
                raise BagError(str(error).replace(folder, str(file.parent))) from error
        storage: Storage = _STORAGES[file.suffix](file, self.counters)
        self._stack.callback(storage.close)
        return storage

    def _files(self) -> list[Path]:
        """Return the storage files; what metadata names beyond them is told to be missing."""
        if not self.path.is_dir():
            return [self.path] if _is_storage(self.path) or self.path.suffix == ROS1 else []
        there = {file.name: file for file in sorted(self.path.iterdir()) if _is_storage(file)}
        if not there:
            # Several would be several drives.
            of_ros_1 = list(self.path.glob(f'*{ROS1}'))
            return of_ros_1 if len(of_ros_1) == 1 else []
        # A file that lies there both ways is one.
        for name in [name for name in there if Path(name).suffix in ZSTD_SUFFIXES]:
            if Path(name).stem in there:
                del there[name]
        listed = _listed_files(self.path / 'metadata.yaml')
        missing = [name for name in listed
                   if name not in there and Path(name).stem not in there]
        if listed and not missing:
            return [there.get(name) or there[Path(name).stem] for name in listed]
        # Where as many others are there, files have another name.
        if len(missing) > len(there.keys() - set(listed)):
            self.counters['missing'] += len(missing)
            warn_once(f'{self.path}: {", ".join(missing)} is missing; the other files are read')
        return list(there.values())

    def _understand(self) -> None:
        """Make connections of the topics of all files, and learn their types."""
        found: dict[tuple[str, str], list[Topic]] = {}
        for storage in self._storages:
            for topic in storage.topics.values():
                found.setdefault((topic.topic, topic.msgtype), []).append(topic)
        left_out = {key: topics[0] for key, topics in found.items()
                    if topics[0].serialization != 'cdr' or topics[0].language not in LANGUAGES}
        if left_out:
            self.counters['not_understood'] += len(left_out)
            kinds = sorted(f'{topic.topic} ({topic.language or topic.serialization})'
                           for topic in left_out.values())
            if len(left_out) == len(found):
                is_ros_1 = any('ros1' in (topic.language, topic.serialization) or
                               topic.language == 'ros1msg' for topic in left_out.values())
                advice = '; give the .bag itself, not what it was converted to' \
                    if is_ros_1 else ''
                raise BagError(f'{self.path} cannot be read: no messages of ROS 2, and '
                               'no pictures of Foxglove, only '
                               f'{one_line(", ".join(kinds))}{advice}')
            warn_once(f'{self.path}: topics that are not understood are left out: '
                      f'{one_line(", ".join(kinds))}')
        used = {key: topics for key, topics in found.items() if key not in left_out}
        self._typestore = types_of([topics[0] for topics in used.values()])
        self._connections = [
            Connection(number, topic, msgtype, MessageDefinition(MessageDefinitionFormat.NONE, ''),
                       '', sum(part.messages for part in topics),
                       ConnectionExtRosbag2('cdr', _qos(topics[0].qos)), self)
            for number, ((topic, msgtype), topics) in enumerate(used.items(), 1)]


#: Written in C where it is there: metadata are read for each of the recordings of a fleet.
_YAML = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


def is_video_file(path: str | Path) -> bool:
    """Return whether a recording is the file of a video and no bag."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _is_storage(path: Path) -> bool:
    if path.suffix in ZSTD_SUFFIXES:
        path = path.with_suffix('')
    return path.suffix in BAG_SUFFIXES


def _listed_files(metadata: Path) -> list[str]:
    """Return the names of the storage files that the metadata list; none where there are none."""
    try:
        found = yaml.load(metadata.read_text(encoding='utf-8'), _YAML)
        return [Path(name).name
                for name in found['rosbag2_bagfile_information']['relative_file_paths']]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return []


def _qos(text: str) -> list[Qos]:
    try:
        return parse_qos(text)
    # How a topic was published is of no use where it cannot be read.
    except Exception:
        return []
