# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pictures of a recording as frames, in the order in which they were received. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
import re
from typing import Any, TYPE_CHECKING, TypeVar

from rosbags.interfaces import Connection

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.picture_messages import (
    COMPRESSED_IMAGE,
    format_of,
    frame_id_of,
    IMAGE,
    is_packet,
    new_decoder,
    stamp_ns,
)
from vts_ros.pipeline.raw_images import camera_name, RawImage
from vts_ros.pipeline.report import FrameRef
from vts_ros.tools.bags import Bag
from vts_ros.tools.camera_topics import require_cameras
from vts_ros.tools.storages import one_line

if TYPE_CHECKING:
    from vts_ros.pipeline.video_packets import PacketDecoder

#: What counters of broken pictures are called: this, and why they are.
REASON = 'broken: '
#: More reasons than these are not told apart.
MOST_REASONS = 8

Item = TypeVar('Item')


def count_broken(counters: Counter[str], error: FrameError) -> None:
    """Count a picture that cannot be used, in all and for its reason."""
    counters['broken'] += 1
    # Every damaged picture has another size: those are one reason.
    reason = re.sub(r' of \d+ bytes| \(\d+ bytes\)', '', one_line(error.__cause__ if isinstance(
        error.__cause__, FrameError) else error))
    reason = REASON + re.sub(r'\d+(?= (?:extraneous )?bytes)', 'some', reason)
    known = sum(name.startswith(REASON) for name in counters)
    counters[reason if reason in counters or known < MOST_REASONS else f'{REASON}others'] += 1


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
        wanted = [camera.topic for camera in require_cameras(opened, topics)]
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
        elif kind == COMPRESSED_IMAGE and not is_packet(message, kind):
            yield Frame(ref.camera, ref.stamp, message.data.tobytes())
        else:
            topic = connection.topic
            if topic not in self._decoders:
                self._decoders[topic] = new_decoder(topic, format_of(message))
            decoder = self._decoders[topic]
            for stamp, picture in decoder.decode(message.data.tobytes(), ref.stamp):
                yield Frame(ref.camera, stamp, picture)
