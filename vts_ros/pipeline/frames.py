# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frames and the rolling window: the input of the pipeline. No ROS here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vts_ros.pipeline.compressed_images import (
    decode_image,
    decode_reduced,
    Decoded,
    Reduction,
)
from vts_ros.rgb import check_rgb


class Unconverted(Protocol):
    """A picture that becomes RGB when a window needs it: a raw message, one of a video."""

    @property
    def nbytes(self) -> int:
        """Return its size in memory in bytes."""
        ...

    def rgb(self) -> NDArray[np.uint8]:
        """Return it as uint8 (height, width, 3); raise FrameError if that does not work."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One picture of one camera, still compressed where it came compressed.

    Attributes
    ----------
    camera
        Name of the camera.
    stamp_ns
        Acquisition time in nanoseconds.
    data
        Compressed bytes, a picture that is not yet converted, or a uint8 array of shape
        (height, width, 3), RGB.

    """

    camera: str
    stamp_ns: int
    data: bytes | Unconverted | NDArray[np.uint8]

    @property
    def key(self) -> tuple[str, int]:
        """Return the key of the frame in caches."""
        return self.camera, self.stamp_ns

    @property
    def size_bytes(self) -> int:
        """Return its size in memory in bytes."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture as uint8 (height, width, 3); raise FrameError if it is broken."""
        if isinstance(self.data, bytes):
            return decode_image(self.data)
        return check_rgb(self.data) if isinstance(self.data, np.ndarray) else self.data.rgb()

    def reduced(self, reduction: Reduction | None) -> Decoded:
        """Return the picture, smaller if it may be and decoding is then faster; as :meth:`rgb`."""
        if isinstance(self.data, bytes):
            return decode_reduced(self.data, reduction)
        rgb = self.rgb()
        return Decoded(rgb, (rgb.shape[0], rgb.shape[1]))


Window = Sequence[Frame]


@dataclass
class _Set:
    """The frames of one moment, one per camera; ``settled`` once no better ones are waited for."""

    stamp_ns: int
    frames: dict[str, Frame] = field(default_factory=dict)
    settled: bool = False

    def distance(self, frame: Frame) -> int:
        return abs(frame.stamp_ns - self.stamp_ns)

    def takes(self, frame: Frame) -> bool:
        """Return whether the frame is nearer than the one that it would replace."""
        return self.takes_at(frame.camera, frame.stamp_ns)

    def takes_at(self, camera: str, stamp_ns: int) -> bool:
        """Return the same of a frame that is not there yet."""
        rival = self.frames.get(camera)
        return rival is None or (
            not self.settled and abs(stamp_ns - self.stamp_ns) < self.distance(rival))


class FrameBuffer:
    """
    Rolling window over one or several cameras; safe to use from two threads.

    The window consists of sets at a fixed spacing, so consecutive windows share all frames but the
    new ones, and features of frames are reused. A set is opened by the first camera after it is
    due, and holds from every camera the frame nearest in time. So a lost camera delays nothing.

    Parameters
    ----------
    frames
        Frames of a window, per camera.
    interval_sec
        Spacing of the frames of a window in seconds.
    max_skew_sec
        Largest time difference to the frame that opened the set; at most half a spacing is used.

    Attributes
    ----------
    counters
        Number of frames that were ``admitted``, ``thinned`` (between two sets), ``duplicate``,
        ``late`` (a single frame older than the newest), ``unmatched`` (too far from the frames of
        the other cameras), came after a ``gap``, or after time went ``back``.
    settled
        Number of sets completed so far. When it grows there is a new window.

    """

    #: A frame counts as on time from this share of the spacing on: cameras jitter.
    TOLERANCE = 0.9
    #: After a silence of so many spacings, and so many seconds, the window starts empty: across
    #: the gap it would show a motion that never was.
    GAP_FRAMES, GAP_SEC = 10, 5.0
    #: After so many frames far behind the newest set, and none that continues it, that set is
    #: considered a remnant from before time went back.
    STRAYS = 50

    def __init__(self, frames: int = 5, interval_sec: float = 0.4,
                 max_skew_sec: float = 0.1) -> None:
        if frames < 1 or interval_sec < 0.0 or max_skew_sec < 0.0:
            raise ValueError(f'window of {frames} frames every {interval_sec} s, at most '
                             f'{max_skew_sec} s apart, is not possible')
        self.frames = frames
        self.interval_ns = round(interval_sec * 1e9)
        self.skew_ns = round(min(max_skew_sec, interval_sec / 2 or max_skew_sec) * 1e9)
        self._early_ns = (1.0 - self.TOLERANCE) * self.interval_ns
        self.gap_ns = max(self.GAP_FRAMES * self.interval_ns, round(self.GAP_SEC * 1e9))
        self.counters: Counter[str] = Counter()
        self.settled = 0
        # One more than a window has: the newest set may still be waiting for a camera.
        self._sets: deque[_Set] = deque(maxlen=frames + 1)
        # Per camera: its newest frame, the newest one that is in a set, and a lone late one.
        self._newest: dict[str, Frame] = {}
        self._admitted: dict[str, Frame] = {}
        self._late: dict[str, Frame] = {}
        # Whether there were enough sets for a window; one that is discarded later delays nothing.
        self._filled = False
        # The same since the last start anew, gaps or not.
        self._was_full = False
        self._strays = 0
        # When the next set is due.
        self._due_ns = 0
        self._lock = threading.Lock()

    def advance(self, frame: Frame) -> tuple[str, list[Frame] | None]:
        """Add a frame as :meth:`push` does; return also the window that it completed, if any."""
        before = self.settled
        outcome = self.push(frame)
        return outcome, self.window() if self.settled != before else None

    def may_take(self, camera: str, stamp_ns: int) -> bool:
        """
        Return whether a frame could become part of a set, before it is there.

        False is certain. With several cameras it is always possible: what is too early for one
        set may be what is nearest when another camera opens the next.
        """
        with self._lock:
            if len({*self._newest, camera}) > 1 or not self._sets:
                return True
            if stamp_ns < self._sets[-1].stamp_ns or stamp_ns >= self._due_ns - self._early_ns:
                return True
            nearest = min(self._sets, key=lambda held: abs(stamp_ns - held.stamp_ns))
            return (abs(stamp_ns - nearest.stamp_ns) <= self.skew_ns
                    and nearest.takes_at(camera, stamp_ns))

    def push(self, frame: Frame) -> str:
        """
        Add a frame.

        Returns
        -------
        What happened, also counted: `admitted`, `thinned`, `duplicate`, `late`, `unmatched`, `gap`
        or `back` (all frames before were dropped). After the last two the frame itself is
        admitted. Before the first full window since a start anew, time that goes back is not told
        again: pictures from before a jump may come after it.

        """
        with self._lock:
            outcome = self._push(frame)
            self.counters[outcome] += 1
            return outcome

    def _push(self, frame: Frame) -> str:
        admitted = self._admitted.get(frame.camera)
        late = self._late.pop(frame.camera, None)
        if admitted and frame.stamp_ns == admitted.stamp_ns:
            return 'duplicate'
        if admitted and frame.stamp_ns < admitted.stamp_ns:
            # One frame from the past is a stray, two in order are a clock that was set back.
            if late is None or frame.stamp_ns <= late.stamp_ns:
                self._late[frame.camera] = frame
                return 'late'
            outcome = 'back' if self._was_full else 'admitted'
            self._start_anew()
            self._open(frame)
        else:
            outcome = self._place(frame)
        newest = self._newest.setdefault(frame.camera, frame)
        if frame.stamp_ns > newest.stamp_ns:
            self._newest[frame.camera] = frame
        self._settle()
        return outcome

    def _place(self, frame: Frame) -> str:
        """Put a frame that is on time where it belongs."""
        nearest = min(self._sets, key=lambda held: held.distance(frame), default=None)
        if nearest is None:
            self._open(frame)
            return 'admitted'
        if nearest.distance(frame) <= self.skew_ns and nearest.takes(frame):
            self._admit(nearest, frame)
            return 'admitted'
        newest = self._sets[-1]
        ahead_ns = frame.stamp_ns - newest.stamp_ns
        if ahead_ns > self.gap_ns:
            self._sets.clear()
            self._filled = False
            self._open(frame)
            return 'gap'
        if ahead_ns > 0 and frame.stamp_ns >= self._due_ns - self._early_ns:
            self._open(frame)
            return 'admitted'
        if ahead_ns < -self.gap_ns:
            self._strays += 1
            if self._strays >= self.STRAYS:
                self._start_anew()
                self._open(frame)
                return 'admitted'
        in_time = any(frame.camera in held.frames for held in list(self._sets)[-2:])
        return 'thinned' if in_time else 'unmatched'

    def _open(self, frame: Frame) -> None:
        """Begin a set, with what the other cameras had at that time."""
        if self._sets:
            self._end(self._sets[-1])
        # Sets keep to a grid: a camera that is always a little early must not shorten windows.
        is_on_grid = abs(frame.stamp_ns - self._due_ns) <= self.interval_ns // 2
        self._due_ns = (self._due_ns if is_on_grid else frame.stamp_ns) + self.interval_ns
        opened = _Set(frame.stamp_ns)
        self._sets.append(opened)
        self._strays = 0
        self._admit(opened, frame)
        for camera, last in self._newest.items():
            used = self._admitted.get(camera)
            if camera != frame.camera and opened.distance(last) <= self.skew_ns and (
                    used is None or last.stamp_ns > used.stamp_ns):
                self._admit(opened, last)

    def _admit(self, to: _Set, frame: Frame) -> None:
        to.frames[frame.camera] = frame
        newest = self._admitted.setdefault(frame.camera, frame)
        if frame.stamp_ns > newest.stamp_ns:
            self._admitted[frame.camera] = frame

    def _settle(self) -> None:
        """End the newest set if no camera can have a nearer frame for it."""
        newest = self._sets[-1]
        last_ns = [frame.stamp_ns for frame in self._newest.values()]
        # A camera that was silent for a whole spacing is not waited for.
        waited_for = [stamp_ns for stamp_ns in last_ns
                      if stamp_ns >= newest.stamp_ns - self.interval_ns]
        if max(last_ns) > newest.stamp_ns + self.skew_ns or min(waited_for) >= newest.stamp_ns:
            self._end(newest)

    def _end(self, ended: _Set) -> None:
        if not ended.settled:
            ended.settled = True
            self.settled += 1
            if sum(each.settled for each in self._sets) >= self.frames:
                self._filled = self._was_full = True

    def _start_anew(self) -> None:
        for held in (self._sets, self._newest, self._admitted, self._late):
            held.clear()
        self._filled = self._was_full = False
        self._strays = self._due_ns = 0

    def clear(self) -> None:
        """Forget all frames; the counters stay."""
        with self._lock:
            self._start_anew()

    def discard(self, frame: Frame) -> None:
        """Forget one frame, for instance because it turned out to be broken."""
        with self._lock:
            for held in list(self._sets):
                if held.frames.get(frame.camera) is frame:
                    del held.frames[frame.camera]
                    if not held.frames:
                        self._sets.remove(held)
                        # Its place may be taken by a picture that comes next.
                        self._due_ns = self._sets[-1].stamp_ns + self.interval_ns \
                            if self._sets else 0

    def window(self, full: bool = True) -> list[Frame] | None:
        """
        Return the newest window in the order of time, oldest first.

        Parameters
        ----------
        full
            Whether to return nothing before there were enough sets, and to leave out a set that
            is still waiting for a camera.

        """
        with self._lock:
            if full and not self._filled:
                return None
            sets = [held for held in self._sets if held.settled or not full][-self.frames:]
            found = [frame for held in sets for frame in held.frames.values()]
        return sorted(found, key=lambda frame: (frame.stamp_ns, frame.camera)) or None
