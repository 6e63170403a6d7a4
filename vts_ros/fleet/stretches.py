# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Long recordings are cut into stretches, and the seams do not show.

Which frames make a window depends on all frames before: time that goes back, gaps, pictures that
are broken. So the recording is first gone through without any model, by the very code that
describes it: what stands in for the pipeline only decodes pictures. That says which windows there
are. All that the pipeline itself carries from window to window is the last key frame, which has an
advantage. At a seam it is found by going through some windows before with every key frame that
there may have been: as soon as all lead to the same one, it is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
import json
from pathlib import Path
from typing import NamedTuple

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.context import WindowReader
from vts_ros.pipeline.features import BrokenFrame
from vts_ros.pipeline.frames import Frame, FrameBuffer, Window
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.tools.bag_frames import read_frames_from, until_damage
from vts_ros.tools.bag_signals import BagSignals, NO_SIGNALS, SignalUse
from vts_ros.tools.bags import Bag
from vts_ros.tools.described_frames import describe_frames, Frames, Pair
from vts_ros.vlm.answers import Answer

#: A recording is cut if it is longer than so many stretches.
WORTH_CUTTING = 1.5


@dataclass(frozen=True)
class WindowSettings:
    """
    Which windows of a recording are described.

    Attributes
    ----------
    frames, interval_sec
        Of a window, see ``FrameBuffer``.
    every
        Every so many-th full window is described.
    topics
        Camera topics; none takes every camera.

    """

    frames: int = 5
    interval_sec: float = 0.4
    every: int = 1
    topics: tuple[str, ...] = ()

    def buffer(self) -> FrameBuffer:
        """Return an empty window."""
        return FrameBuffer(self.frames, self.interval_sec)


@dataclass(frozen=True, eq=False)
class NumberedFrame(Frame):
    """
    A frame that knows where in its recording it is.

    Attributes
    ----------
    number
        How many frames are before it.
    received_ns, first
        When it was received, and the number of the first frame that was received then.

    """

    number: int = 0
    received_ns: int = 0
    first: int = 0


class PlannedWindow(NamedTuple):
    """
    A window that is to be described.

    Attributes
    ----------
    numbers
        Of its frames, in their order.
    at
        Number of the frame with which it was complete.
    stamp_ns
        Of its newest frame.
    is_told
        Whether its answer counts: not if it was told before, and now lacks its newest frame.
    received_ns, first
        Those of its first frame.

    """

    numbers: tuple[int, ...]
    at: int
    stamp_ns: int
    is_told: bool
    received_ns: int
    first: int


@dataclass(frozen=True)
class Plan:
    """
    All windows of a recording.

    Attributes
    ----------
    backs
        Numbers of the frames with which time went back: all before is forgotten.
    cuts
        Where stretches begin: indices of windows, the first is 0.
    counters
        What happened to the frames.

    """

    windows: tuple[PlannedWindow, ...]
    backs: tuple[int, ...]
    cuts: tuple[int, ...]
    counters: dict[str, int]

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps({'windows': self.windows, 'backs': self.backs, 'cuts': self.cuts,
                           'counters': self.counters})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan back."""
        data = json.loads(text)
        windows = tuple(PlannedWindow(tuple(numbers), *others)
                        for numbers, *others in data['windows'])
        return cls(windows, tuple(data['backs']), tuple(data['cuts']), data['counters'])

    def stretch(self, number: int) -> range:
        """Return the indices of the windows of a stretch."""
        return range(self.cuts[number], (*self.cuts[1:], len(self.windows))[number])

    def lead_in(self, begin: int, length: int) -> range:
        """Return up to so many windows before one, none from before time went back."""
        at = self.windows[begin].at
        anew = max((back for back in self.backs if back <= at), default=-1)
        first = begin
        while first > max(0, begin - length) and self.windows[first - 1].at >= anew:
            first -= 1
        return range(first, begin)


def is_worth_cutting(bag: Path, config: PipelineConfig, stretch_sec: float,
                     use: SignalUse = NO_SIGNALS) -> bool:
    """Return whether a recording is long, and its answers depend on little before them."""
    # What a signal says holds until the next, and an event goes on beyond any seam.
    if use.is_any or config.mode != 'window' or config.deadline_ms or config.speak != 'always':
        return False
    with Bag(bag) as opened:
        return opened.duration_sec > WORTH_CUTTING * stretch_sec


def describe_whole(pipeline: Pipeline, bag: Path, settings: WindowSettings,
                   counters: Counter[str], use: SignalUse = NO_SIGNALS) -> Iterator[Pair]:
    """Yield the answers over a recording, as ``vts annotate`` has them."""
    pipeline.clear()
    read = _read(bag, settings, 0, counters)
    describe = None
    if use.is_any:
        car = BagSignals(bag, use.topics, pipeline.events, is_told=use.tell_vehicle,
                         is_evidence=use.evidence, counters=counters)
        read = car.beside(read)
        describe = partial(car.describe, pipeline)
    return describe_frames(pipeline, _numbered(read, 0), buffer=settings.buffer(),
                           every=settings.every, counters=counters, describe=describe)


def make_plan(bag: Path, settings: WindowSettings, stretch_sec: float) -> Plan | None:
    """
    Go through a recording and return its windows; None if it cannot be cut.

    That is where frames were not received in the order in which they are read.
    """
    counters: Counter[str] = Counter()
    planner = _Planner()
    frames = planner.watch(_numbered(_read(bag, settings, 0, counters), 0))
    for _ in describe_frames(planner, frames, buffer=settings.buffer(), every=settings.every,
                             counters=counters):
        pass
    if not planner.is_in_order or not planner.windows:
        return None
    return Plan(tuple(planner.windows), tuple(planner.backs),
                _cuts(planner.windows, round(1e9 * stretch_sec)), dict(counters))


def describe_stretch(pipeline: Pipeline, bag: Path, settings: WindowSettings, plan: Plan,
                     number: int, counters: Counter[str]) -> Iterator[Pair]:
    """
    Yield the answers over one stretch: those that the whole recording has there.

    Raises
    ------
    BagError
        If the recording is no longer what it was when the plan was made.

    """
    part = plan.stretch(number)
    pipeline.clear()
    find_last_key(pipeline, bag, settings, plan, part[0])
    return describe_frames(pipeline, _frames(bag, settings, plan, part), counters=counters,
                           buffer=_PlannedWindows(plan, part))


def find_last_key(pipeline: Pipeline, bag: Path, settings: WindowSettings, plan: Plan,
                  begin: int) -> None:
    """Bring the pipeline to the key frame that it would have before a window."""
    reader = _reader(pipeline)
    length = settings.frames
    while True:
        lead_in = plan.lead_in(begin, length)
        keys: set[tuple[str, int] | None] = {None}
        for index, window in zip(lead_in, _windows(bag, settings, plan, lead_in), strict=True):
            if index == lead_in[0] and len(lead_in) == length:
                # Something may come before.
                keys |= {frame.key for frame in window}
            keys = {_next_key(pipeline, window, key) for key in keys}
        if len(keys) == 1:
            reader.key, = keys
            return
        length *= 2


def _next_key(pipeline: Pipeline, window: Window, key: tuple[str, int] | None
              ) -> tuple[str, int] | None:
    _reader(pipeline).key = key
    pipeline.select(window)
    return _reader(pipeline).key


def _reader(pipeline: Pipeline) -> WindowReader:
    assert isinstance(pipeline.reader, WindowReader)
    return pipeline.reader


def _read(bag: Path, settings: WindowSettings, since_ns: int, counters: Counter[str]
          ) -> Iterator[tuple[int, Frame]]:
    return until_damage(
        read_frames_from(since_ns, bag, settings.topics or None, counters), counters)


def _numbered(read: Iterable[tuple[int, Frame]], number: int) -> Iterator[NumberedFrame]:
    """Give frames that are read from some time on their numbers."""
    first, before_ns = number, -1
    for received_ns, frame in read:
        if received_ns != before_ns:
            first, before_ns = number, received_ns
        yield NumberedFrame(frame.camera, frame.stamp_ns, frame.data, number, received_ns, first)
        number += 1


def _frames(bag: Path, settings: WindowSettings, plan: Plan, part: range
            ) -> Iterator[NumberedFrame]:
    """Yield the frames from the first of some windows to the last."""
    begin, end = plan.windows[part[0]], plan.windows[part[-1]].at
    read = _read(bag, settings, begin.received_ns, Counter())
    return takewhile(lambda frame: frame.number <= end, _numbered(read, begin.first))


def _windows(bag: Path, settings: WindowSettings, plan: Plan, part: range) -> Iterator[Window]:
    if part:
        buffer = _PlannedWindows(plan, part)
        for frame in _frames(bag, settings, plan, part):
            _, window = buffer.advance(frame)
            if window:
                yield window


def _cuts(windows: Sequence[PlannedWindow], stretch_ns: int) -> tuple[int, ...]:
    """Return where stretches begin, always at a window that is told."""
    def begin(index: int) -> int:
        return windows[index].received_ns

    cuts = [0]
    for index, window in enumerate(windows):
        if window.is_told and begin(index) - begin(cuts[-1]) >= stretch_ns:
            cuts.append(index)
    return tuple(cuts)


class _Planner:
    """Stands in for a pipeline: decodes the frames of windows, and remembers the windows."""

    config = PipelineConfig()

    def __init__(self) -> None:
        self.windows: list[PlannedWindow] = []
        self.backs: list[int] = []
        self.is_in_order = True
        self._newest = NumberedFrame('', 0, b'')
        self._good: set[int] = set()

    def watch(self, frames: Iterable[NumberedFrame]) -> Iterator[Frame]:
        for frame in frames:
            self.is_in_order &= frame.received_ns >= self._newest.received_ns
            self._newest = frame
            yield frame

    def describe(self, window: Window) -> SceneReport:
        frames = [frame for frame in window if isinstance(frame, NumberedFrame)]
        for frame in frames:
            self._decode(frame)
        self._good = {frame.number for frame in frames}
        first = min(frames, key=lambda frame: frame.number)
        self.windows.append(PlannedWindow(
            tuple(frame.number for frame in frames), self._newest.number, frames[-1].stamp_ns,
            False, first.received_ns, first.first))
        refs = tuple(FrameRef(*frame.key) for frame in frames)
        return SceneReport(refs[-1].stamp, refs, KeyFrame(*frames[-1].key, len(refs) - 1),
                           Answer(), (), (0, 0))

    def ingest(self, window: Window) -> None:
        pass

    def frames_of(self, report: SceneReport) -> Frames:
        # Asked for where a report is told, and nowhere else.
        self.windows[-1] = self.windows[-1]._replace(is_told=True)
        return ()

    def clear(self) -> None:
        self.backs.append(self._newest.number)

    def _decode(self, frame: NumberedFrame) -> None:
        if frame.number in self._good:
            return
        try:
            frame.rgb()
        except FrameError as error:
            raise BrokenFrame(frame, str(error)) from error
        self._good.add(frame.number)


class _PlannedWindows(FrameBuffer):
    """Stands in for the rolling window: gives out the windows of a plan."""

    def __init__(self, plan: Plan, part: range) -> None:
        super().__init__()
        self._waiting = [plan.windows[index] for index in reversed(part)]
        self._wanted = {number for window in self._waiting for number in window.numbers}
        self._backs = set(plan.backs)
        self._held: dict[int, Frame] = {}

    def advance(self, frame: Frame) -> tuple[str, list[Frame] | None]:
        assert isinstance(frame, NumberedFrame)
        if frame.number in self._wanted:
            self._held[frame.number] = frame
        outcome = 'back' if frame.number in self._backs else 'admitted'
        if not self._waiting or frame.number < self._waiting[-1].at:
            return outcome, None
        planned = self._waiting.pop()
        window = [self._held[number] for number in planned.numbers if number in self._held]
        if len(window) < len(planned.numbers) or window[-1].stamp_ns != planned.stamp_ns:
            raise BagError('the recording has changed since it was cut into stretches')
        for number in [number for number in self._held if number < min(planned.numbers)]:
            del self._held[number]
        return outcome, window
