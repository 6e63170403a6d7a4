# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Packets of a video to pictures, outside of the callbacks that receive them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import threading
from typing import NamedTuple, TYPE_CHECKING

from rclpy.node import Node

from vts_ros.errors import FrameError
from vts_ros.pipeline.picture_messages import new_decoder

if TYPE_CHECKING:
    from vts_ros.pipeline.video_packets import PacketDecoder, VideoPicture

#: Three seconds of a fast camera. What waits longer is of no use.
MOST_WAITING = 90
#: A stamp so far back is of another recording; pictures that refer to later ones go back less.
BACK_NS = 1_000_000_000
#: How long the end waits for the packet that is being decoded.
CLOSE_SEC = 2.0


class Packet(NamedTuple):
    """A packet as it came; ``follows_loss`` says that the one before it is missing."""

    data: bytes
    stamp_ns: int
    format: str
    follows_loss: bool = False


class PacketQueue:
    """Packets that wait to be decoded, in their order; for two threads."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: deque[Packet] = deque()
        self._condition = threading.Condition()
        self.is_closed = False

    def put(self, packet: Packet) -> int:
        """Add a packet; return how many made room for it, as decoding is too slow."""
        with self._condition:
            dropped = len(self._waiting) if len(self._waiting) >= self._most else 0
            if dropped:
                self._waiting.clear()
                packet = packet._replace(follows_loss=True)
            self._waiting.append(packet)
            self._condition.notify()
        return dropped

    def get(self) -> Packet | None:
        """Wait for the next packet; None when there is none any more."""
        with self._condition:
            while not (self._waiting or self.is_closed):
                self._condition.wait()
            return None if self.is_closed else self._waiting.popleft()

    def close(self) -> None:
        """End what waits, and who waits."""
        with self._condition:
            self.is_closed = True
            self._condition.notify_all()


class VideoDecoding:
    """
    Decodes the video of one camera in a thread of its own.

    Its pictures are handed over in the thread of the callbacks, like any others. All packets that
    others need are decoded, once; those that none needs, only where their picture is wanted.

    Parameters
    ----------
    node
        Whose callbacks these are.
    topic
        For what is told.
    on_picture
        Called with the stamp (ns) and the picture.
    on_problem
        Called with a kind, the reason, and how many packets gave no picture: ``waiting`` for one
        that needs none before, ``broken``, ``overrun`` where they come too fast, ``refused``
        where the format is not known.
    is_wanted
        Whether a picture of this stamp may be used; asked in the thread that decodes.

    """

    def __init__(self, node: Node, topic: str,
                 on_picture: Callable[[int, VideoPicture], None],
                 on_problem: Callable[[str, str, int], None],
                 is_wanted: Callable[[int], bool]) -> None:
        self._node, self._topic = node, topic
        self._on_picture, self._on_problem, self._is_wanted = on_picture, on_problem, is_wanted
        self._queue = PacketQueue()
        self._decoder: PacketDecoder | None = None
        self._newest_ns = 0
        #: What the other thread has for that of the callbacks.
        self._done: deque[Callable[[], None]] = deque()
        self._guard = node.create_guard_condition(self._hand_over)
        self._thread = threading.Thread(target=self._run, name=f'video of {topic}', daemon=True)
        self._thread.start()

    def add(self, packet: Packet) -> None:
        """Take a packet; what becomes of it is told later."""
        if packet.stamp_ns < self._newest_ns - BACK_NS:
            packet = packet._replace(follows_loss=True)
            self._newest_ns = packet.stamp_ns
        self._newest_ns = max(self._newest_ns, packet.stamp_ns)
        if dropped := self._queue.put(packet):
            self._on_problem('overrun', 'the video comes faster than it can be decoded here',
                             dropped)

    def close(self) -> None:
        """Decode no more, and hand nothing over any more."""
        self._queue.close()
        self._thread.join(CLOSE_SEC)
        self._node.destroy_guard_condition(self._guard)
        self._done.clear()

    def _run(self) -> None:
        while packet := self._queue.get():
            try:
                for stamp_ns, picture in self._decode(packet):
                    self._tell(self._on_picture, stamp_ns, picture)
            except FrameError as error:
                self._tell(self._on_problem, self._kind_of(error), str(error), 1)
            except Exception as error:
                # Whatever it is: the next packet may be another.
                self._tell(self._on_problem, 'broken', f'{type(error).__name__}: {error}', 1)

    def _decode(self, packet: Packet) -> list[tuple[int, VideoPicture]]:
        if self._decoder is None:
            self._decoder = new_decoder(self._topic, packet.format)
        if packet.follows_loss:
            self._decoder.lost()
        return list(self._decoder.decode(
            packet.data, packet.stamp_ns, self._is_wanted(packet.stamp_ns)))

    def _kind_of(self, error: FrameError) -> str:
        if self._decoder is None:
            return 'refused'
        from vts_ros.pipeline.video_packets import NoKeyFrameError

        return 'waiting' if isinstance(error, NoKeyFrameError) else 'broken'

    def _tell(self, tell: Callable[..., None], *what: object) -> None:
        if self._queue.is_closed:
            return
        self._done.append(lambda: tell(*what))
        self._guard.trigger()

    def _hand_over(self) -> None:
        while self._done:
            self._done.popleft()()
