# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a window becomes the context of the language model: one way each, chosen once.

``WindowReader`` chooses tokens among all frames of a window and has it read whole (a server is
sent pictures of what is kept); ``CausalReader`` prunes and reads a frame once, when it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from vts_ros.pipeline.causal_context import CausalContext
from vts_ros.pipeline.deadline import Plan
from vts_ros.pipeline.features import FrameCache, FrameEntry, moments, Stopwatch
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.sparsify import Selection, Sparsifier
from vts_ros.vlm import LanguageModel
from vts_ros.vlm.prefix_reader import PrefixReader
from vts_ros.vlm.prompt_layout import Prefix
from vts_ros.vlm.prompts import Prompt


class Planner(Protocol):
    """Says what a window gets."""

    @property
    def most(self) -> Plan:
        """Return what it gets where time is no object."""

    def __call__(self, entries: Sequence[FrameEntry], visual_tokens: int) -> Plan:
        """Return keep ratio and length of the answer; 0 tokens where dropping saves no time."""


class PreparedWindow(NamedTuple):
    """
    A prompt about frames, ready for the language model.

    Attributes
    ----------
    entries
        The frames that it is about, oldest first.
    selection
        Key frame and visual tokens that are kept.
    inputs
        What the language model takes, see ``LanguageModel.prepare``.
    plan
        Keep ratio and longest answer.
    prefix
        What was read of it already; None where nothing was.

    """

    entries: Sequence[FrameEntry]
    selection: Selection
    inputs: Any
    plan: Plan
    prefix: Prefix | None = None

    @property
    def frames(self) -> list[Frame]:
        """Return the frames that it is about."""
        return [entry.frame for entry in self.entries]

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Return rows and columns of visual tokens of each frame."""
        return [entry.features.grid for entry in self.entries]


class ContextReader(Protocol):
    """Makes a prompt about a window; not for two threads at a time."""

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch) -> None:
        """Do what can be done about frames that have just come, before anybody asks."""

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool) -> PreparedWindow:
        """
        Make a prompt about a window.

        Parameters
        ----------
        planner
            Says what the window gets.
        share
            Whether the next prompt is about the same window, so that its pictures are read once.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded; nothing of the others is lost.

        """

    def forget(self) -> None:
        """Forget what the language model has read, not what was computed of frames."""

    def clear(self) -> None:
        """Forget all frames."""

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still held, by camera and stamp."""

    def stats(self) -> dict[str, float]:
        """Return what is held and what was not read again."""


class WindowReader:
    """
    Chooses among all frames of every window.

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

    def __init__(self, cache: FrameCache, sparsifier: Sparsifier, language_model: LanguageModel,
                 prefix_reader: PrefixReader | None) -> None:
        self._cache, self._sparsifier = cache, sparsifier
        self._language_model, self._prefix_reader = language_model, prefix_reader
        self.key: tuple[str, int] | None = None

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch) -> None:
        """Compute the features of the frames."""
        if window:
            self._cache.get_all(window, watch)

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool) -> PreparedWindow:
        """Make a prompt about a window, see ContextReader."""
        entries = self._cache.get_all(window, watch)
        plan = planner(entries, sum(rows * columns for rows, columns in (
            entry.features.grid for entry in entries)))
        with watch.stage('select'):
            selection = self.select(entries, plan.keep_ratio)
        with watch.stage('prepare'):
            inputs = self._language_model.prepare(
                [entry.features for entry in entries], prompt.captions(window), prompt)
        prefix = None
        if self._prefix_reader is not None and share:
            with watch.stage('prefill_pictures'):
                prefix = self._prefix_reader.read(inputs, selection.keep)
        elif self._prefix_reader is not None:
            self._prefix_reader.forget()
        return PreparedWindow(entries, selection, inputs, plan, prefix)

    def select(self, entries: Sequence[FrameEntry], keep_ratio: float) -> Selection:
        """Choose key frame and tokens; the last key frame has an advantage."""
        keys = [entry.frame.key for entry in entries]
        previous = keys.index(self.key) if self.key in keys else None
        selection = self._sparsifier.select_each(
            [entry.proposal for entry in entries], [entry.features.grid for entry in entries],
            keep_ratio, previous)
        self.key = keys[selection.key]
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
        """Return how many tokens were read, and how many were known."""
        return _tokens(self._prefix_reader)


class CausalReader:
    """
    Prunes and reads a frame once, when it comes; an answer is about what was read.

    Parameters
    ----------
    cache
        Of the features of frames.
    context
        What was read.
    prefix_reader
        That reads for it.

    """

    def __init__(self, cache: FrameCache, context: CausalContext,
                 prefix_reader: PrefixReader) -> None:
        self._cache, self.context, self._prefix_reader = cache, context, prefix_reader

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch) -> None:
        """Read what is new of a window."""
        self._read_unseen(self.context.unseen(window), prompt, keep_ratio, watch)
        self._cache.shrink(len(window))

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool) -> PreparedWindow:
        """Make a prompt about all that was read; see ContextReader."""
        context = self.context
        cameras = {frame.camera for frame in window}
        if any(frame.camera not in cameras for frame in context.frames):
            # A camera is gone: what it showed is no longer what an answer may speak of.
            context.clear()
        unseen = context.unseen_of_window(window)
        self._read_unseen(unseen, prompt, planner.most.keep_ratio, watch)
        self._cache.shrink(len(window))
        with watch.stage('prefill_pictures'):
            inputs, prefix, selection = context.read(prompt)
        # What was read when it came takes no time now.
        plan = planner(context.entries, 0)
        return PreparedWindow(context.entries, selection, inputs, plan, prefix)

    def _read_unseen(self, frames: Sequence[Frame], prompt: Prompt, keep_ratio: float,
                     watch: Stopwatch) -> None:
        for moment in moments(frames):
            entries: list[FrameEntry] = []
            for frame in moment:
                entries.append(self._cache.get(frame, watch))
            with watch.stage('prefill_pictures'):
                self.context.append(list(zip(moment, entries)), prompt, keep_ratio)

    def forget(self) -> None:
        """Forget what was read."""
        self.context.clear()

    def clear(self) -> None:
        """Forget what was read."""
        self.context.clear()

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still held."""
        return next((frame for frame in self.context.frames if frame.key == key), None)

    def stats(self) -> dict[str, float]:
        """Return what is held, and how many tokens were read and known."""
        groups = self.context.groups
        return {
            **_tokens(self._prefix_reader), 'groups': groups.count, 'kv_frames': groups.frames,
            'kv_tokens': self._prefix_reader.tokens, 'kv_bytes': self._prefix_reader.kv_bytes,
            **{f'groups_{name}': groups.counters[name]
               for name in ('first', 'full', 'key', 'scene', 'evicted')}}


def _tokens(reader: PrefixReader | None) -> dict[str, float]:
    if reader is None:
        return {}
    return {f'tokens_{name}': reader.counters[name] for name in ('read', 'reused')}
