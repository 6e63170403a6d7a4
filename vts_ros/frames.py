# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frames and the rolling window: what the pipeline is fed with. No ROS here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
import threading

import cv2
import numpy as np
from numpy.typing import NDArray

#: Smallest side of a picture that still holds one visual token of any supported model.
MIN_SIDE_PX = 16
#: Longer pictures are no camera's; image processors refuse them from 200 on.
MAX_ASPECT = 20


class FrameError(ValueError):
    """A picture that cannot be used; the message says why in one line."""


def check_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """
    Return the picture unchanged if a model can look at it.

    Parameters
    ----------
    image
        uint8 array of shape (height, width, 3), RGB.

    Raises
    ------
    FrameError
        If type or shape is wrong, a side is under ``MIN_SIDE_PX``, or one side is more than
        ``MAX_ASPECT`` times the other.

    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise FrameError(f'expected uint8 (height, width, 3), got {image.dtype} {image.shape}')
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise FrameError(f'picture of {width}x{height} px is smaller than {MIN_SIDE_PX} px')
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise FrameError(f'picture of {width}x{height} px is no camera picture')
    return image


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """
    Decode a compressed picture (JPEG, PNG, whatever OpenCV reads) to RGB.

    Returns
    -------
    uint8 array of shape (height, width, 3).

    Raises
    ------
    FrameError
        If the bytes are not a complete picture of a usable size.

    """
    if not data:
        raise FrameError('empty picture')
    # A JPEG that was cut off still decodes, with grey in place of what is missing: refuse it.
    # Drivers may pad what they send with zeros.
    if data[:2] == b'\xff\xd8' and b'\xff\xd9' not in data.rstrip(b'\0')[-64:]:
        raise FrameError('truncated JPEG (no end marker)')
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise FrameError(f'picture cannot be decoded: {error.err}') from error
    if bgr is None:
        raise FrameError(f'picture cannot be decoded ({len(data)} bytes)')
    return check_rgb(np.ascontiguousarray(bgr[:, :, ::-1]))


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
        Compressed bytes, or a uint8 array of shape (height, width, 3), RGB.

    """

    camera: str
    stamp_ns: int
    data: bytes | NDArray[np.uint8]

    @property
    def key(self) -> tuple[str, int]:
        """Return what identifies the frame in caches."""
        return self.camera, self.stamp_ns

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture as uint8 (height, width, 3); raise FrameError if it is broken."""
        if isinstance(self.data, bytes):
            return decode_image(self.data)
        return check_rgb(self.data)


Window = Sequence[Frame]


class FrameBuffer:
    """
    Rolling window over one or several cameras; safe to use from two threads.

    Frames are admitted at a fixed spacing, so that consecutive windows share all frames but the
    new ones and whatever was computed for a frame is used again.

    Parameters
    ----------
    frames
        Frames of a window, per camera.
    interval_sec
        Spacing of the frames of a window in seconds.

    Attributes
    ----------
    counters
        How often a frame was ``admitted``, ``thinned`` (closer than the spacing),
        ``duplicate``, ``late`` (older than the newest, and alone with that), came after a
        ``gap``, or with a time that really went ``back``.

    """

    #: A frame counts as on time from this share of the spacing on: cameras jitter.
    TOLERANCE = 0.9
    #: A camera that was silent for so many spacings, and so long, starts anew: a window over the
    #: gap would show a motion that never was. The others do not wait for it.
    GAP_FRAMES, GAP_SEC = 10, 5.0

    def __init__(self, frames: int = 5, interval_sec: float = 0.4) -> None:
        if frames < 1 or interval_sec < 0.0:
            raise ValueError(f'window of {frames} frames every {interval_sec} s is not possible')
        self.frames = frames
        self.interval_ns = round(interval_sec * 1e9)
        self.gap_ns = max(self.GAP_FRAMES * self.interval_ns, round(self.GAP_SEC * 1e9))
        self.counters: Counter[str] = Counter()
        self._cameras: dict[str, deque[Frame]] = {}
        self._late: dict[str, Frame] = {}
        # Cameras that have had all their frames: one that is discarded later delays no answer.
        self._filled: set[str] = set()
        # Whether any camera had all its frames since the last start anew.
        self._was_full = False
        self._lock = threading.Lock()

    def push(self, frame: Frame) -> str:
        """
        Add a frame.

        Returns
        -------
        What happened, also counted: `admitted`, `thinned`, `duplicate`, `late`, `gap` (the frames
        of this camera before the gap were dropped) or `back` (all frames were dropped). After the
        last two the frame itself is admitted. Before the first full window since a start anew,
        time that goes back is not told again: pictures from before a jump may come after it.

        """
        with self._lock:
            outcome = self._push(frame)
            self.counters[outcome] += 1
            return outcome

    def _push(self, frame: Frame) -> str:
        outcome = self._outcome(frame)
        late = self._late.pop(frame.camera, None)
        if outcome == 'late':
            # One frame from the past is a stray, two in order are a clock that was set back.
            if late is None or frame.stamp_ns <= late.stamp_ns:
                self._late[frame.camera] = frame
                return outcome
            outcome = 'back' if self._was_full else 'admitted'
            self._start_anew()
        elif outcome == 'gap':
            del self._cameras[frame.camera]
            self._filled.discard(frame.camera)
        if outcome in ('admitted', 'gap', 'back'):
            kept = self._cameras.setdefault(frame.camera, deque(maxlen=self.frames))
            kept.append(frame)
            if len(kept) == self.frames:
                self._filled.add(frame.camera)
                self._was_full = True
        return outcome

    def _outcome(self, frame: Frame) -> str:
        kept = self._cameras.get(frame.camera)
        if not kept:
            return 'admitted'
        ahead_ns = frame.stamp_ns - kept[-1].stamp_ns
        if ahead_ns == 0:
            return 'duplicate'
        if ahead_ns < 0:
            return 'late'
        if ahead_ns > self.gap_ns:
            return 'gap'
        return 'thinned' if ahead_ns < self.TOLERANCE * self.interval_ns else 'admitted'

    def _start_anew(self) -> None:
        self._cameras.clear()
        self._late.clear()
        self._filled.clear()
        self._was_full = False

    def clear(self) -> None:
        """Forget all frames; the counters stay."""
        with self._lock:
            self._start_anew()

    def discard(self, frame: Frame) -> None:
        """Forget one frame, for instance because it turned out to be broken."""
        with self._lock:
            kept = self._cameras.get(frame.camera)
            if kept and frame in kept:
                kept.remove(frame)

    def window(self, full: bool = True) -> list[Frame] | None:
        """
        Return the newest window in the order of time, oldest first.

        Parameters
        ----------
        full
            Whether to return nothing before every camera that is alive has had all its frames.

        """
        with self._lock:
            cameras = [list(kept) for kept in self._cameras.values() if kept]
            filled = set(self._filled)
        newest_ns = max((kept[-1].stamp_ns for kept in cameras), default=0)
        # A camera that has died must not silence the others.
        alive = [kept for kept in cameras if newest_ns - kept[-1].stamp_ns <= self.gap_ns]
        if not alive or (full and any(kept[-1].camera not in filled for kept in alive)):
            return None
        return sorted((frame for kept in alive for frame in kept),
                      key=lambda frame: (frame.stamp_ns, frame.camera))
