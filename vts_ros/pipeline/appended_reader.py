# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Causal mode with a model behind a server: pictures are only added to the end of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vts_ros.pipeline.arrivals import Arrivals
from vts_ros.pipeline.context import Planner, PreparedWindow
from vts_ros.pipeline.features import FrameCache, moments, StepEntry, Stopwatch
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.sparsify.frame_groups import FrameGroups, joined, TokenChoice
from vts_ros.vlm import LanguageModel
from vts_ros.vlm.prompts import Prompt


class _Taken(NamedTuple):
    """A frame, and what the server is shown of it."""

    entry: StepEntry
    choice: TokenChoice


class AppendedReader:
    """
    Prunes a frame once, when it comes, and sends it the same way with every prompt that holds it.

    So each prompt begins as the one before did, up to its last picture, and a server that caches
    prefixes reads nothing but the new pictures and the question. When the oldest groups go, it
    reads the others once more.

    Parameters
    ----------
    cache
        Of the features of frames.
    groups
        Chooses what is kept of a frame, and which frames are held.
    language_model
        Lays the prompt out.

    """

    reads_on_arrival = True

    def __init__(self, cache: FrameCache, groups: FrameGroups,
                 language_model: LanguageModel) -> None:
        self._cache, self._groups, self._language_model = cache, groups, language_model
        self._arrivals = Arrivals()
        self._taken: list[_Taken] = []

    @property
    def _frames(self) -> list[Frame]:
        return [taken.entry.frame for taken in self._taken]

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch) -> None:
        """Take in what is new of a window."""
        self._take(self._arrivals.unseen(window), keep_ratio, watch)
        self._cache.shrink(len(window))

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool) -> PreparedWindow:
        """Make a prompt about all frames that are held; see ContextReader."""
        cameras = {frame.camera for frame in window}
        if any(frame.camera not in cameras for frame in self._frames):
            # A camera is gone: what it showed is no longer what an answer may speak of.
            self.clear()
        unseen = self._arrivals.unseen_of_window(window, self._frames)
        if unseen is None:
            self.clear()
            unseen = list(window)
        self._take(unseen, planner.most.keep_ratio, watch)
        self._cache.shrink(len(window))
        entries = [taken.entry for taken in self._taken]
        with watch.stage('prepare'):
            inputs = self._language_model.prepare(
                [entry.features for entry in entries], prompt.captions_on_arrival(self._frames),
                prompt)
        return PreparedWindow(entries, joined([taken.choice for taken in self._taken]), inputs,
                              planner(entries, 0))

    def _take(self, frames: Sequence[Frame], keep_ratio: float, watch: Stopwatch) -> None:
        for moment in moments(frames):
            # All before any is taken in: one that is broken costs the others nothing.
            entries = {frame.camera: self._cache.get((frame,), watch) for frame in moment}
            with watch.stage('select'):
                choices = self._groups.take(
                    {camera: entry.proposal for camera, entry in entries.items()},
                    {camera: entry.features.grid for camera, entry in entries.items()},
                    keep_ratio)
            self._taken += [_Taken(entry, choices[camera]) for camera, entry in entries.items()]
            for frame in moment:
                self._arrivals.note(frame)
            del self._taken[:len(self._taken) - self._groups.frames]

    def forget(self) -> None:
        """Forget what the server was sent."""
        self.clear()

    def clear(self) -> None:
        """Forget all frames."""
        self._groups.clear()
        self._arrivals.clear()
        self._taken.clear()

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still held."""
        return next((frame for frame in self._frames if frame.key == key), None)

    def stats(self) -> dict[str, float]:
        """Return how many groups are held, and why they began."""
        return {'groups': self._groups.count, **self._groups.counts}
