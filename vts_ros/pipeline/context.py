# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From a window to the context of the language model: one reader per mode, chosen once.

``WindowReader`` chooses tokens among all frames of a window and prefills it from the start (a
server gets pictures); ``CausalReader`` prunes and prefills a frame once, on arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from vts_ros.pipeline.causal_context import CausalContext
from vts_ros.pipeline.deadline import Plan
from vts_ros.pipeline.events import Event
from vts_ros.pipeline.features import (
    entry_weight,
    entry_weights,
    FrameCache,
    moments,
    StepEntry,
    Stopwatch,
)
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.sparsify import Selection, Sparsifier
from vts_ros.vlm import LanguageModel
from vts_ros.vlm.prefix_reader import PrefixReader
from vts_ros.vlm.prompt_layout import Prefix
from vts_ros.vlm.prompt_writer import Captions
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.video_steps import video_steps


class Planner(Protocol):
    """Plans keep ratio and answer length of a window."""

    @property
    def most(self) -> Plan:
        """Return the plan without a deadline."""

    def __call__(self, entries: Sequence[StepEntry], visual_tokens: int) -> Plan:
        """Return keep ratio and length of the answer; 0 tokens where dropping saves no time."""


class PreparedWindow(NamedTuple):
    """
    A prompt about frames, ready for the language model.

    Attributes
    ----------
    entries
        The steps that it is about, in the order of the prompt.
    selection
        Key step and visual tokens that are kept.
    inputs
        What the language model takes, see ``LanguageModel.prepare``.
    plan
        Keep ratio and longest answer.
    prefix
        The part that is in the KV cache already; None without one.
    is_video
        Whether the steps are those of videos, camera by camera.
    events
        What made some of the frames matter more, or was told.

    """

    entries: Sequence[StepEntry]
    selection: Selection
    inputs: Any
    plan: Plan
    prefix: Prefix | None = None
    is_video: bool = False
    events: tuple[Event, ...] = ()

    @property
    def frames(self) -> list[Frame]:
        """Return the frames that it is about, oldest first."""
        frames = [frame for entry in self.entries for frame in entry.frames]
        # As pictures they are in the order in which they are read.
        return sorted(frames, key=lambda frame: (frame.stamp_ns, frame.camera)) \
            if self.is_video else frames

    @property
    def newest(self) -> StepEntry:
        """Return the step with the newest frame."""
        return max(self.entries, key=lambda entry: entry.frame.stamp_ns)

    def kept_share(self, entry: StepEntry) -> float:
        """Return which share of the visual tokens of one of the steps is kept, 0 to 1."""
        place = next(index for index, other in enumerate(self.entries) if other is entry)
        cells = [rows * columns for rows, columns in self.grids]
        first = sum(cells[:place])
        keep = self.selection.keep
        return float(((keep >= first) & (keep < first + cells[place])).sum()) / cells[place]

    @property
    def key_frame(self) -> Frame:
        """Return the most salient frame of the key step."""
        key = self.entries[self.selection.key]
        return key.frames[key.key_place]

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Return rows and columns of visual tokens of each step."""
        return [entry.features.grid for entry in self.entries]


class ContextReader(Protocol):
    """
    Makes a prompt about a window; not for two threads at a time.

    Attributes
    ----------
    reads_on_arrival
        Whether frames are pruned and read once, when they come: then prompts are about the frames
        that were read, not about one window.

    """

    reads_on_arrival: bool

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch,
               events: Sequence[Event] = ()) -> None:
        """Process new frames in advance, as far as possible without a question."""

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool, events: Sequence[Event] = ()) -> PreparedWindow:
        """
        Make a prompt about a window.

        Parameters
        ----------
        planner
            Says what the window gets.
        share
            Whether the next prompt is about the same window, so that its pictures are read once.
        events
            What makes some of the frames matter more.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded; nothing of the others is lost.

        """

    def forget(self) -> None:
        """Clear the context of the language model, but keep the features of frames."""

    def clear(self) -> None:
        """Forget all frames."""

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still cached, by camera and stamp."""

    def stats(self) -> dict[str, float]:
        """Return counters of the context, for :meth:`Pipeline.stats`."""


class WindowReader:
    """
    Chooses tokens among all frames of every window.

    Parameters
    ----------
    cache
        Of the features of frames.
    sparsifier
        Chooses the tokens.
    language_model
        Lays the prompt out.
    prefix_reader
        Reads pictures that several questions share; None where the model is behind a server.

    Attributes
    ----------
    key
        Camera and stamp of the last key frame: all that is carried from window to window.

    """

    reads_on_arrival = False

    def __init__(self, cache: FrameCache, sparsifier: Sparsifier, language_model: LanguageModel,
                 prefix_reader: PrefixReader | None) -> None:
        self._cache, self._sparsifier = cache, sparsifier
        self._language_model, self._prefix_reader = language_model, prefix_reader
        self.key: tuple[str, int] | None = None

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch,
               events: Sequence[Event] = ()) -> None:
        """Compute the features of the frames."""
        if window:
            self._cache.get_all(window, watch)

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool, events: Sequence[Event] = ()) -> PreparedWindow:
        """Make a prompt about a window, see ContextReader."""
        entries = self._cache.get_all(window, watch)
        plan = planner(entries, sum(rows * columns for rows, columns in (
            entry.features.grid for entry in entries)))
        with watch.stage('select'):
            selection = self.select(entries, plan.keep_ratio, events)
        with watch.stage('prepare'):
            inputs = self._language_model.prepare(
                [entry.features for entry in entries], self._captions(entries, prompt), prompt)
        prefix = None
        if self._prefix_reader is not None and share:
            with watch.stage('prefill_pictures'):
                prefix = self._prefix_reader.read(inputs, selection.keep)
        elif self._prefix_reader is not None and prompt.before:
            with watch.stage('prefill_instructions'):
                prefix = self._prefix_reader.opening(inputs)
        elif self._prefix_reader is not None:
            self._prefix_reader.forget()
        return PreparedWindow(entries, selection, inputs, plan, prefix,
                              self._language_model.frames_as == 'video')

    def _captions(self, entries: Sequence[StepEntry], prompt: Prompt) -> Captions:
        steps = [entry.frames for entry in entries]
        if self._language_model.frames_as == 'video':
            return video_steps(steps)
        return prompt.captions([frame for frame, in steps])

    def select(self, entries: Sequence[StepEntry], keep_ratio: float,
               events: Sequence[Event] = ()) -> Selection:
        """Choose key frame and tokens; the last key frame has an advantage."""
        previous = next((index for index, entry in enumerate(entries)
                         if self.key in [frame.key for frame in entry.frames]), None)
        selection = self._sparsifier.select_each(
            [entry.proposal for entry in entries], [entry.features.grid for entry in entries],
            keep_ratio, previous, entry_weights(events, entries) if events else None,
            [entry.frame.camera for entry in entries])
        key = entries[selection.key]
        self.key = key.frames[key.key_place].key
        return selection

    def forget(self) -> None:
        """Forget what the language model has read."""
        if self._prefix_reader is not None:
            self._prefix_reader.forget()

    def clear(self) -> None:
        """Forget the last key frame, too."""
        self.key = None
        self.forget()

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still held."""
        return self._cache.find(key)

    def stats(self) -> dict[str, float]:
        """Return the numbers of tokens that were prefilled, and that were reused."""
        return _tokens(self._prefix_reader)


class CausalReader:
    """
    Prunes and prefills a frame once, on arrival; an answer is about the prefilled frames.

    Of a video a step is read when both of its frames are there. A frame that still waits for its
    partner is read with every question, taken twice, and then forgotten.

    Parameters
    ----------
    cache
        Of the features of frames.
    context
        What was read.
    prefix_reader
        That reads for it.

    """

    reads_on_arrival = True

    def __init__(self, cache: FrameCache, context: CausalContext,
                 prefix_reader: PrefixReader) -> None:
        self._cache, self.context, self._prefix_reader = cache, context, prefix_reader

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch,
               events: Sequence[Event] = ()) -> None:
        """Prefill the new frames of a window."""
        self._read_unseen(self.context.unseen(window), prompt, keep_ratio, watch, events)
        self._cache.shrink(len(window) + len(self.context.waiting))

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool, events: Sequence[Event] = ()) -> PreparedWindow:
        """Make a prompt about the whole context; see ContextReader."""
        context = self.context
        cameras = {frame.camera for frame in window}
        if any(frame.camera not in cameras for frame in context.all_frames):
            # A camera is gone: what it showed is no longer what an answer may speak of.
            context.clear()
        unseen = context.unseen_of_window(window)
        self._read_unseen(unseen, prompt, planner.most.keep_ratio, watch, events)
        self._cache.shrink(len(window) + len(self.context.waiting))
        waiting = [self._cache.get(step, watch) for step in context.waiting]
        with watch.stage('prefill_pictures'):
            inputs, prefix, selection = context.read(
                prompt, waiting, planner.most.keep_ratio, entry_weight(events, waiting))
        # What was read when it came takes no time now.
        entries = [*context.entries, *waiting]
        return PreparedWindow(entries, selection, inputs, planner(entries, 0), prefix,
                              context.is_video)

    def _read_unseen(self, frames: Sequence[Frame], prompt: Prompt, keep_ratio: float,
                     watch: Stopwatch, events: Sequence[Event]) -> None:
        for moment in moments(frames):
            entries: list[StepEntry] = []
            # All before any is taken in: one that is broken costs the others nothing.
            sizes = [self._cache.look(frame, watch).size for frame in moment]
            for frame, size in zip(moment, sizes):
                entries += [self._cache.get(step, watch)
                            for step in self.context.arrive(frame, size)]
            if entries:
                with watch.stage('prefill_pictures'):
                    self.context.append(
                        entries, prompt, keep_ratio, entry_weight(events, entries))

    def forget(self) -> None:
        """Forget what was read."""
        self.context.clear()

    def clear(self) -> None:
        """Forget what was read."""
        self.context.clear()

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still held."""
        return next((frame for frame in self.context.all_frames if frame.key == key), None)

    def stats(self) -> dict[str, float]:
        """Return the size of the context, and the numbers of tokens prefilled and reused."""
        groups = self.context.groups
        return {
            **_tokens(self._prefix_reader), 'groups': groups.count,
            'kv_frames': len(self.context.frames),
            'kv_tokens': self._prefix_reader.tokens, 'kv_bytes': self._prefix_reader.kv_bytes,
            **groups.counts}


def _tokens(reader: PrefixReader | None) -> dict[str, float]:
    if reader is None:
        return {}
    return {f'tokens_{name}': reader.counters[name] for name in ('read', 'reused')}
