# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is computed once per frame or step: decoded, judged, proposed, encoded; kept while used."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.pipeline.compressed_images import Decoded, Reduction
from vts_ros.pipeline.events import carried_on, Event, frame_weights
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.pipeline.guard import Guard, holds
from vts_ros.pipeline.steps import Step, steps_of
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.selection import joined
from vts_ros.vlm import Encoded

Picture = NDArray[np.uint8]


class BrokenFrame(FrameError):
    """A frame of the window cannot be used: drop it and try again with the others."""

    def __init__(self, frame: Frame, reason: str) -> None:
        super().__init__(f'{frame.camera} at {frame.stamp_ns * 1e-9:.3f} s: {reason}')
        self.frame = frame


@dataclass
class Stopwatch:
    """Milliseconds per stage of one report."""

    clock: Callable[[], float] = time.perf_counter
    ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start."""
        self.started = self.clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage."""
        begin = self.clock()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + 1e3 * (self.clock() - begin)

    def total(self) -> dict[str, float]:
        """Return the stages and the time since the start as ``total``."""
        return {**self.ms, 'total': 1e3 * (self.clock() - self.started)}


class FrameLook(NamedTuple):
    """
    What is cheap to know of a frame: all but what the vision encoder sees.

    Attributes
    ----------
    size
        Height and width of the picture as it came; what is looked at may be smaller.
    evidence
        What the guard measured of the picture; None without one.
    picture
        What is still to be encoded; None where that was done.

    """

    frame: Frame
    size: tuple[int, int]
    proposal: Proposal
    evidence: NDArray[np.float64] | None
    picture: Picture | None


class StepEntry(NamedTuple):
    """
    The features of a step, for every window that holds it.

    Attributes
    ----------
    frames
        Of the step: one, or as a video two; one of these alone where it has no partner.
    size
        Height and width of its pictures.
    proposal
        What was seen in them; of two what was seen in either, see :func:`joined`.
    evidence
        What the guard measured of each picture; None without one.
    key_place
        Which of its frames is the most salient.

    """

    frames: Step
    size: tuple[int, int]
    proposal: Proposal
    features: Encoded
    evidence: tuple[NDArray[np.float64] | None, ...]
    key_place: int

    @property
    def frame(self) -> Frame:
        """Return the newest frame of the step."""
        return self.frames[-1]


def entry_weights(events: Sequence[Event], entries: Sequence[StepEntry]) -> NDArray[np.float64]:
    """Return how much the steps of a window matter, float64 [T], 0 to 1; see `carried_on`."""
    newest = {entry.frame.camera: entry.frame.stamp_ns for entry in sorted(
        entries, key=lambda entry: entry.frame.stamp_ns)}
    return carried_on(np.array([entry_weight(events, [entry]) for entry in entries]),
                      [newest[entry.frame.camera] == entry.frame.stamp_ns for entry in entries])


def entry_weight(events: Sequence[Event], moment: Sequence[StepEntry]) -> float:
    """Return how much a moment matters, 0 to 1: as its frame that does most."""
    stamps = [frame.stamp_ns for entry in moment for frame in entry.frames]
    return float(frame_weights(events, stamps).max(initial=0.0))


class FrameCache:
    """
    Computes the features of frames and steps, once each.

    As a window slides by one frame, the frames of a video are paired the other way: a frame is
    then in two steps, of which either is computed once.

    Parameters
    ----------
    sparsifier
        Proposes what is worth keeping.
    encode
        The vision encoder of the language model: uint8 [H, W, 3] to its features, of as many
        pictures as a step has.
    step_frames
        Frames of a step.
    reduction
        How much smaller pictures may be decoded; None for all of them as they are.
    is_video
        Whether the steps of a camera are one video; those of several frames always are.

    Attributes
    ----------
    guard
        Judges the pictures; None where nobody does.
    counters
        ``frames_new``: how often a frame was looked at; ``frames_cached``: how often it was known.

    """

    def __init__(self, sparsifier: Sparsifier, encode: Callable[..., Encoded],
                 step_frames: int = 1, reduction: Reduction | None = None,
                 is_video: bool = False) -> None:
        self._sparsifier, self._encode = sparsifier, encode
        self.step_frames, self._reduction = step_frames, reduction
        self._is_video = is_video or step_frames > 1
        self._entries: OrderedDict[tuple[tuple[str, int], ...], StepEntry] = OrderedDict()
        # As pictures, those that nobody has asked the vision encoder about; as a video, all: the
        # partner of a frame in the next window is still to come.
        self._looks: OrderedDict[tuple[str, int], FrameLook] = OrderedDict()
        self.guard: Guard | None = None
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many steps are held."""
        return len(self._entries)

    def get(self, step: Step, watch: Stopwatch) -> StepEntry:
        """
        Return the features of a step, on the grid of its own size.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded, or has another size than its partner.

        """
        key = tuple(frame.key for frame in step)
        cached = self._entries.get(key)
        if cached is not None:
            self._entries.move_to_end(key)
            self.counters['frames_cached'] += len(step)
            return cached
        looks = [self.look(frame, watch) for frame in step]
        newest = looks[-1]
        for frame, look in zip(step, looks):
            if look.size != newest.size:
                raise BrokenFrame(frame, 'has another size than the frame after it')
        with watch.stage('encode'):
            features = self._encode(*(look.picture for look in looks))
        if self.step_frames == 1:
            self._looks.pop(newest.frame.key)
        salient = [float(look.proposal.saliency.mean()) for look in looks]
        entry = StepEntry(step, newest.size, joined([look.proposal for look in looks]), features,
                          tuple(look.evidence for look in looks), int(np.argmax(salient)))
        self._entries[key] = entry
        return entry

    def look(self, frame: Frame, watch: Stopwatch) -> FrameLook:
        """Return what is cheap to know of a frame, without encoding it; otherwise as get."""
        entry = self._entries.get((frame.key,))
        if entry is not None and self.step_frames == 1:
            return FrameLook(frame, entry.size, entry.proposal, entry.evidence[0], None)
        look = self._looks.get(frame.key)
        if look is None:
            look = self._looks[frame.key] = self._new_look(frame, watch)
        return look

    def _new_look(self, frame: Frame, watch: Stopwatch) -> FrameLook:
        with watch.stage('read'):
            rgb, size = self._read(frame)
        evidence = None
        if self.guard:
            with watch.stage('guard'):
                evidence = self.guard.evidence(rgb)
                rgb = self.guard.clean(rgb, evidence)
        with watch.stage('propose'):
            proposal = self._sparsifier.propose(rgb)
        self.counters['frames_new'] += 1
        return FrameLook(frame, size, proposal, evidence, rgb)

    def _read(self, frame: Frame) -> Decoded:
        try:
            return frame.reduced(self._reduction)
        except FrameError as error:
            raise BrokenFrame(frame, str(error)) from error

    def get_all(self, window: Window, watch: Stopwatch) -> list[StepEntry]:
        """
        Return the features of the steps of a window; forget what is older than a set before it.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded, or of a video has another size than those after it.
        ValueError
            If there is no frame.

        """
        if not window:
            raise ValueError('a window needs at least one frame')
        steps = steps_of(window, self.step_frames, self._is_video)
        entries = [self.get(step, watch) for step in steps]
        if self._is_video:
            _check_sizes(steps, entries)
        self._shrink_to(window)
        return entries

    def look_all(self, window: Window, watch: Stopwatch) -> list[FrameLook]:
        """Return what is cheap to know of a window, without encoding it; as get_all."""
        if not window:
            raise ValueError('a window needs at least one frame')
        looks = [self.look(frame, watch) for frame in window]
        self._shrink_to(window)
        return looks

    def knows(self, evidence: Sequence[NDArray[np.float64] | None]) -> bool | None:
        """Return whether pictures with such evidence are known; None where nobody can tell."""
        if self.guard is None:
            return None
        return holds(self.guard, [measured for measured in evidence if measured is not None])

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is held, by camera and stamp."""
        held = (*(frame for entry in self._entries.values() for frame in entry.frames),
                *(look.frame for look in self._looks.values()))
        return next((frame for frame in held if frame.key == key), None)

    def shrink(self, bound: int) -> None:
        """Keep the newest frames only, so many: a window and the set that comes next."""
        for held in (self._entries, self._looks):
            while len(held) > bound:
                held.popitem(last=False)

    def _shrink_to(self, window: Window) -> None:
        self.shrink(len(window) + len({frame.camera for frame in window}))

    def clear(self) -> None:
        """Forget all frames."""
        self._entries.clear()
        self._looks.clear()


def _check_sizes(steps: Sequence[Step], entries: Sequence[StepEntry]) -> None:
    """See that the frames of each camera have one size, so that they can be one video."""
    sizes = {step[0].camera: entry.size for step, entry in zip(steps, entries)}
    for step, entry in zip(steps, entries):
        if entry.size != sizes[step[0].camera]:
            raise BrokenFrame(step[-1], 'has another size than the frames after it')


def moments(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Yield the frames in stretches that hold no camera twice."""
    moment: list[Frame] = []
    for frame in frames:
        if any(other.camera == frame.camera for other in moment):
            yield moment
            moment = []
        moment.append(frame)
    if moment:
        yield moment
