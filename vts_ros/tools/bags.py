# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives: read camera frames from bags. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
import logging
from pathlib import Path
import re
import tempfile
from textwrap import shorten
from typing import Any, NamedTuple, TYPE_CHECKING, TypeVar

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import (
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
    Stores,
)
from rosbags.typesys.store import Typestore
import yaml

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.raw_images import camera_name, DECODE, is_video, new_decoder, RawImage
from vts_ros.pipeline.report import FrameRef
from vts_ros.tools.ros1_file import Ros1File
from vts_ros.tools.ros1_file import SUFFIX as ROS1
from vts_ros.tools.sqlite_file import SqliteFile
from vts_ros.tools.storages import (
    McapFile,
    plain,
    Storage,
    Topic,
    unpack,
    warn_once,
    ZSTD_SUFFIXES,
)

if TYPE_CHECKING:
    from vts_ros.pipeline.video_packets import PacketDecoder

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
BAG_SUFFIXES = ('.mcap', '.db3')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v', '.ts', '.mts', '.mpg', '.mpeg',
                  '.h264', '.h265', '.hevc')
#: Topics of packets of a video; no single one is a picture. Bags that do not define them are read
#: with these definitions.
VIDEO_TYPES = {
    'foxglove_msgs/msg/CompressedVideo':
        'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n',
    'ffmpeg_image_transport_msgs/msg/FFMPEGPacket':
        'std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n'
        'uint8 flags\nbool is_bigendian\nuint8[] data\n'}
_STORAGES: dict[str, Callable[[Path, Counter[str]], Storage]] = {
    '.mcap': McapFile, '.db3': SqliteFile, ROS1: Ros1File}
#: Languages in which ROS 2 defines messages; empty: not at all.
_LANGUAGES = ('ros2msg', 'ros2idl', 'omgidl', '')
#: Readers quote what they could not read, in full.
LONGEST_REASON = 200
#: What counters of broken pictures are called: this, and why they are.
REASON = 'broken: '
#: More reasons than these are not told apart.
MOST_REASONS = 8

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
for _name, _definition in VIDEO_TYPES.items():
    TYPESTORE.register(get_types_from_msg(_definition, _name))

#: Image topics that are no camera: forms of image_transport that cannot be read here, beside which
#: the same pictures are recorded in others, and pictures that this package has drawn.
_NOT_A_CAMERA = re.compile(r'/(compressedDepth|theora|zstd)$|/image_annotated(/|$)')
#: What is published beside pictures in colour: by depth cameras, by night vision, by networks.
_OTHER_NAME = re.compile(
    r'(^|[/_])(depth|disparity|infra(red)?\d*|ir\d*|thermal|lwir|masks?|segmentation|semantics?|'
    r'labels?|instances?|confidence)([/_]|$)')
#: Pictures that were made of those of a camera.
_MADE = re.compile(r'[/_](rect(ified)?|undist(orted)?)(?=[/_]|$)')
_DEPTH_KIND = re.compile(r'(16[US]|32[FS]|64F)C1\b')
#: Behind this the topics of one camera differ.
_OF_CAMERA = re.compile(r'(/image(_(raw|color|mono|rect(_(raw|color|mono))?))?)?'
                        r'(/(compressed|ffmpeg|foxglove|h26[45]|video))?$')

#: What these are, for people.
OTHERS = 'depth, infrared or masks'

LOG = logging.getLogger(__name__)

Item = TypeVar('Item')
#: A topic of a bag as rosbags has it, for those that do not know rosbags.
BagTopic = Connection


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
    A recording of rosbag2 (MCAP or sqlite3, compressed or not) or ROS 1, as a context manager.

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
        return 1e-9 * (max(one.end_ns for one in self._storages)
                       - min(one.start_ns for one in self._storages))

    def image_topics(self) -> list[CameraTopic]:
        """Return all image topics but drawn ones and those that only a plugin can decode."""
        return sorted(
            CameraTopic(connection.topic, connection.msgtype, connection.msgcount)
            for connection in self.connections
            if connection.msgtype in (IMAGE, COMPRESSED_IMAGE, *VIDEO_TYPES)
            and not _NOT_A_CAMERA.search(connection.topic))

    def cameras(self) -> list[CameraTopic]:
        """Return the image topics that hold pictures in colour, in the order of their names."""
        return [camera for camera in self.image_topics() if not self._is_other(camera)]

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
        connections = {(one.topic, one.msgtype): one for one in self.connections
                       if one.topic in wanted}
        failure: BagError | None = None
        for storage in self._storages:
            of = {id_: connections[key] for id_, one in storage.topics.items()
                  if (key := (one.topic, one.msgtype)) in connections}
            if not of:
                continue
            try:
                for id_, received_ns, data in storage.messages(of, since_ns):
                    yield of[id_], received_ns, plain(data)
            # Besides their own errors, the storages let out those of sqlite, zstd and struct.
            except Exception as error:
                failure = failure or BagError(f'{self.path} is damaged: {_one_line(error)}')
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
                stamp_ns(message), frame_id_of(message), _format_of(message), message.data
            return message
        # What a garbled message or definition makes of it depends on the garbling.
        except Exception as error:
            raise FrameError(f'message cannot be read: {_one_line(error)}') from error

    def _is_other(self, camera: CameraTopic) -> bool:
        """Return whether pictures are none in colour, by their name or the first of them."""
        if _OTHER_NAME.search(camera.topic):
            return True
        try:
            for connection, _, data in self.messages([camera.topic]):
                message = self.deserialize(data, connection.msgtype)
                return bool(_DEPTH_KIND.match(_format_of(message)))
        except (BagError, FrameError):
            pass
        return False

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
                    raise BagError(_one_line(error)) from error
                self.counters['truncated'] += 1
                warn_once(f'{_one_line(error)}; the other files are read')
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
                    if topics[0].serialization != 'cdr' or topics[0].language not in _LANGUAGES}
        if left_out:
            self.counters['not_understood'] += len(left_out)
            kinds = sorted(f'{topic.topic} ({topic.language or topic.serialization})'
                           for topic in left_out.values())
            if len(left_out) == len(found):
                is_ros_1 = any('ros1' in (topic.language, topic.serialization) or
                               topic.language == 'ros1msg' for topic in left_out.values())
                advice = '; give the .bag itself, not what it was converted to' \
                    if is_ros_1 else ''
                raise BagError(f'{self.path} cannot be read: no messages of ROS 2, only '
                               f'{_one_line(", ".join(kinds))}{advice}')
            warn_once(f'{self.path}: topics that are not of ROS 2 are left out: '
                      f'{_one_line(", ".join(kinds))}')
        used = {key: topics for key, topics in found.items() if key not in left_out}
        self._typestore = _types_of([topics[0] for topics in used.values()])
        self._connections = [
            Connection(number, topic, msgtype, MessageDefinition(MessageDefinitionFormat.NONE, ''),
                       '', sum(part.messages for part in topics),
                       ConnectionExtRosbag2('cdr', _qos(topics[0].qos)), self)
            for number, ((topic, msgtype), topics) in enumerate(used.items(), 1)]


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
        found = yaml.safe_load(metadata.read_text(encoding='utf-8'))
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


def _types_of(topics: Sequence[Topic]) -> Typestore:
    """Return the message types as the bag defines them, and those of ROS besides."""
    own: dict[str, Any] = {}
    unclear = []
    for topic in topics:
        try:
            own.update(_definitions(topic))
        # Parsers of text that may be anything raise anything.
        except Exception:
            unclear.append(topic.topic)
    needs_more = any(topic.msgtype not in own for topic in topics)
    try:
        store = get_typestore(Stores.EMPTY)
        store.register({**TYPESTORE.fielddefs, **own} if needs_more else own)
    except Exception:
        # One definition spoils all: that of ROS is taken for the types that it knows.
        unclear = [topic.topic for topic in topics if topic.msgtype not in TYPESTORE.fielddefs]
        store = TYPESTORE
    if unclear:
        warn_once(f'the type of {_one_line(", ".join(unclear))} is not understood')
    return store


def _definitions(topic: Topic) -> dict[str, Any]:
    if not topic.definition:
        return {}
    if topic.language == 'ros2msg':
        return dict(get_types_from_msg(topic.definition, topic.msgtype))
    found: dict[str, Any] = {}
    # Several files in one, each behind a line of its name.
    for part in topic.definition.split('=' * 80 + '\n'):
        text = part.split('\n', 1)[1] if part.startswith('IDL: ') else part
        if text.strip():
            found.update(get_types_from_idl(text))
    return found


def count_broken(counters: Counter[str], error: FrameError) -> None:
    """Count a picture that cannot be used, in all and for its reason."""
    counters['broken'] += 1
    # Every damaged picture has another size: those are one reason.
    reason = re.sub(r' of \d+ bytes| \(\d+ bytes\)', '', _one_line(error.__cause__ if isinstance(
        error.__cause__, FrameError) else error))
    reason = REASON + re.sub(r'\d+(?= (?:extraneous )?bytes)', 'some', reason)
    known = sum(name.startswith(REASON) for name in counters)
    counters[reason if reason in counters or known < MOST_REASONS else f'{REASON}others'] += 1


def _one_line(error: BaseException | str) -> str:
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


def node_inputs(bag: str | Path, transport: str = 'auto') -> NodeInputs:
    """
    Return how the node is to be started for the cameras of a bag.

    All are to publish pictures of one kind, compressed ones if there are any; a warning names the
    topics of the other kind, which the node does not hear.

    Parameters
    ----------
    bag
        Directory or storage file.
    transport
        ``compressed`` or ``raw`` takes pictures of that kind only.

    Raises
    ------
    BagError
        As :func:`camera_topics`.

    """
    kind = {'compressed': COMPRESSED_IMAGE, 'raw': IMAGE}.get(transport)
    with Bag(bag) as opened:
        found = _require_cameras(opened, msgtype=kind)
        if videos := [camera.topic for camera in found if camera.msgtype in VIDEO_TYPES]:
            LOG.warning('%s: the node does not hear the videos %s (vts annotate takes them)', bag,
                        ', '.join(videos))
            found = [camera for camera in found if camera.topic not in videos]
        if not found:
            raise BagError(f'{bag} has videos only; {DECODE}')
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


def _require_cameras(bag: Bag, topics: Sequence[str] | None = None, msgtype: str | None = None
                     ) -> list[CameraTopic]:
    images = [camera for camera in bag.image_topics() if msgtype in (None, camera.msgtype)]
    if topics:
        cameras = images
        wanted = [camera for camera in cameras if camera.topic in topics]
        missing = sorted(set(topics) - {camera.topic for camera in wanted})
        if missing:
            raise BagError(f'{bag.path} has no camera topic {", ".join(missing)}; '
                           f'it has: {", ".join(camera.topic for camera in cameras) or "none"}')
        return wanted
    cameras = [camera for camera in bag.cameras() if camera.pictures and camera in images]
    others = ', '.join(camera.topic for camera in images
                       if camera.pictures and camera not in cameras)
    if not cameras:
        raise BagError(_no_cameras(bag, others))
    if others:
        warn_once(f'{bag.path}: only pictures in colour are used, not {others} ({OTHERS}); '
                  'a topic that is named is used all the same')
    # The same camera raw and compressed is one camera: take the one that is cheaper to read. So
    # is one that was recorded as it is and rectified; as it is comes first.
    best: dict[str, CameraTopic] = {}
    order = (COMPRESSED_IMAGE, IMAGE, *VIDEO_TYPES)
    for camera in sorted(cameras, key=lambda camera: (
            order.index(camera.msgtype), bool(_MADE.search(camera.topic)), camera.topic)):
        best.setdefault(_MADE.sub('', _OF_CAMERA.sub('', camera.topic)), camera)
    used = {_stem(camera) for camera in best.values()}
    if left_out := [camera.topic for camera in cameras if _stem(camera) not in used]:
        warn_once(f'{bag.path}: one topic of each camera is used, not {", ".join(left_out)}')
    return sorted(best.values())


def _stem(camera: CameraTopic) -> str:
    return camera.topic.removesuffix('/compressed')


def _no_cameras(bag: Bag, others: str) -> str:
    if others:
        return (f'{bag.path} has no pictures in colour, only {others} ({OTHERS}); a topic that '
                'is named is used all the same')
    found = sorted({connection.topic for connection in bag.connections})
    return f'{bag.path} has no camera pictures; its topics: {", ".join(found) or "none"}'


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
    for _, frame in read_frames_from(0, bag, topics, counters):
        yield frame


def read_frames_from(since_ns: int, bag: str | Path, topics: Sequence[str] | None = None,
                     counters: Counter[str] | None = None) -> Iterator[tuple[int, Frame]]:
    """Yield frames from a receive time on, each with its own; otherwise as `read_frames`."""
    counters = Counter() if counters is None else counters
    with Bag(bag, counters) as opened:
        wanted = [camera.topic for camera in _require_cameras(opened, topics)]
        frames = _Frames()
        for connection, received_ns, data in opened.messages(wanted, since_ns):
            try:
                message = opened.deserialize(data, connection.msgtype)
                for frame in frames.of(message, connection, received_ns):
                    counters['frames'] += 1
                    counters['no_stamp'] += not stamp_ns(message)
                    yield received_ns, frame
            except FrameError as error:
                count_broken(counters, error)


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


def stamp_ns(message: Any) -> int:
    """Return the stamp of a message with pictures, 0 where it has none."""
    stamp = message.timestamp if hasattr(message, 'timestamp') else message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def frame_id_of(message: Any) -> str:
    """Return in which frame a message with pictures is."""
    return str(message.frame_id if hasattr(message, 'frame_id') else message.header.frame_id)


def _format_of(message: Any) -> str:
    """Return what a message says of the form of its picture."""
    return str(message.encoding if hasattr(message, 'encoding') else message.format)


def frame_ref(message: Any, connection: Connection, received_ns: int) -> FrameRef:
    """Return camera and stamp of a picture; without a stamp it has the receive time."""
    return FrameRef(camera=camera_name(connection.topic, frame_id_of(message)),
                    stamp=stamp_ns(message) or received_ns)


class _Frames:
    """Makes frames of messages; the video of a topic goes on from message to message."""

    def __init__(self) -> None:
        self._decoders: dict[str, PacketDecoder] = {}

    def of(self, message: Any, connection: Connection, received_ns: int) -> Iterator[Frame]:
        """Yield the pictures that a message completes; raise FrameError if it has none."""
        ref = frame_ref(message, connection, received_ns)
        kind = connection.msgtype
        if kind == IMAGE:
            yield Frame(ref.camera, ref.stamp, RawImage.of(message))
        elif kind == COMPRESSED_IMAGE and not is_video(message.format):
            yield Frame(ref.camera, ref.stamp, message.data.tobytes())
        else:
            topic = connection.topic
            if topic not in self._decoders:
                self._decoders[topic] = new_decoder(topic, _format_of(message))
            decoder = self._decoders[topic]
            for stamp, picture in decoder.decode(message.data.tobytes(), ref.stamp):
                yield Frame(ref.camera, stamp, picture)
