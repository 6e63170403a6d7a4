# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Causal mode where frames are pruned when they come, and read with every question.

So with a model behind a server, which reads whole prompts; and with one in this process that
cannot read a picture before the last one is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vts_ros.pipeline.arrivals import Arrivals
from vts_ros.pipeline.context import Planner, PreparedWindow
from vts_ros.pipeline.events import Event
from vts_ros.pipeline.features import entry_weight, FrameCache, moments, StepEntry, Stopwatch
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.sparsify.frame_groups import FrameGroups, joined, TokenChoice
from vts_ros.vlm import LanguageModel, Vlm, VlmError
from vts_ros.vlm.prefix_reader import PrefixReader
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.video_steps import video_steps


class _Taken(NamedTuple):
    """A frame, and what the language model is shown of it."""

    entry: StepEntry
    choice: TokenChoice


class AppendedReader:
    """
    Prunes a frame once, when it comes, and shows it the same way in every prompt that holds it.

    So each prompt begins as the one before did, up to its last picture, and a server that caches
    prefixes reads nothing but the new pictures and the question. When the oldest groups go, it
    reads the others once more. A model in this process reads whole prompts; if several questions
    are about the same frames, their pictures once.

    Parameters
    ----------
    cache
        Of the features of frames.
    groups
        Chooses what is kept of a frame, and which frames are held.
    language_model
        Lays the prompt out.
    max_tokens
        Of the pictures and the text between them, with a model in this process.

    """

    reads_on_arrival = True

    def __init__(self, cache: FrameCache, groups: FrameGroups,
                 language_model: LanguageModel, max_tokens: int) -> None:
        self._cache, self._groups, self._language_model = cache, groups, language_model
        self._max_tokens = max_tokens
        self._prefix_reader = PrefixReader(language_model) \
            if isinstance(language_model, Vlm) else None
        self._arrivals = Arrivals()
        self._taken: list[_Taken] = []

    @property
    def _frames(self) -> list[Frame]:
        return [taken.entry.frame for taken in self._taken]

    def ingest(self, window: Window, prompt: Prompt, keep_ratio: float, watch: Stopwatch,
               events: Sequence[Event] = ()) -> None:
        """Take in what is new of a window."""
        self._take(self._arrivals.unseen(window), keep_ratio, watch, events)
        self._cache.shrink(len(window))

    def read(self, window: Window, prompt: Prompt, planner: Planner, watch: Stopwatch, *,
             share: bool, events: Sequence[Event] = ()) -> PreparedWindow:
        """Make a prompt about all frames that are held; see ContextReader."""
        cameras = {frame.camera for frame in window}
        if any(frame.camera not in cameras for frame in self._frames):
            # A camera is gone: what it showed is no longer what an answer may speak of.
            self.clear()
        unseen = self._arrivals.unseen_of_window(window, self._frames)
        if unseen is None:
            self.clear()
            unseen = list(window)
        self._take(unseen, planner.most.keep_ratio, watch, events)
        self._cache.shrink(len(window))
        with watch.stage('prepare'):
            prepared = self._prepared(prompt, planner)
            while (length := self._length(prepared)) > self._max_tokens:
                self._shorten(length, planner.most.keep_ratio, watch, events)
                prepared = self._prepared(prompt, planner)
        if self._prefix_reader is not None and share:
            with watch.stage('prefill_pictures'):
                return prepared._replace(prefix=self._prefix_reader.read(
                    prepared.inputs, prepared.selection.keep))
        if self._prefix_reader is not None and prompt.before:
            with watch.stage('prefill_instructions'):
                return prepared._replace(prefix=self._prefix_reader.opening(prepared.inputs))
        if self._prefix_reader is not None:
            self._prefix_reader.forget()
        return prepared

    def _prepared(self, prompt: Prompt, planner: Planner) -> PreparedWindow:
        """Return a prompt about all frames that are held; as a video camera by camera."""
        is_video = self._language_model.frames_as == 'video'
        shown = sorted(self._taken, key=lambda taken: taken.entry.frame.camera) \
            if is_video else self._taken
        entries = [taken.entry for taken in shown]
        captions: Any = video_steps([entry.frames for entry in entries]) \
            if is_video else prompt.captions_on_arrival(self._frames)
        inputs = self._language_model.prepare(
            [entry.features for entry in entries], captions, prompt)
        return PreparedWindow(entries, joined([taken.choice for taken in shown]), inputs,
                              planner(entries, 0), is_video=is_video)

    def _length(self, prepared: PreparedWindow) -> int:
        """Return how many tokens a model in this process reads up to the last picture."""
        if self._prefix_reader is None:
            return 0
        return int(prepared.inputs.layout.length_to_last_picture(len(prepared.selection.keep)))

    def _shorten(self, length: int, keep_ratio: float, watch: Stopwatch,
                 events: Sequence[Event]) -> None:
        """Forget the oldest group, or where there is one only all but the newest moment."""
        if self._groups.evict():
            self._trim()
            return
        newest = list(moments(self._frames))[-1]
        if len(newest) == len(self._taken):
            self.clear()
            raise VlmError(f'a picture and its prompt have {length} tokens, more than '
                           f'vlm.kv_tokens ({self._max_tokens}) allows')
        self.clear()
        self._take(newest, keep_ratio, watch, events)

    def _take(self, frames: Sequence[Frame], keep_ratio: float, watch: Stopwatch,
              events: Sequence[Event]) -> None:
        for moment in moments(frames):
            # All before any is taken in: one that is broken costs the others nothing.
            entries = {frame.camera: self._cache.get((frame,), watch) for frame in moment}
            with watch.stage('select'):
                choices = self._groups.take(
                    {camera: entry.proposal for camera, entry in entries.items()},
                    {camera: entry.features.grid for camera, entry in entries.items()},
                    keep_ratio, entry_weight(events, list(entries.values())))
            self._taken += [_Taken(entry, choices[camera]) for camera, entry in entries.items()]
            for frame in moment:
                self._arrivals.note(frame)
            self._trim()

    def _trim(self) -> None:
        """Forget the frames of groups that are gone."""
        del self._taken[:len(self._taken) - self._groups.frames]

    def forget(self) -> None:
        """Forget what the language model was shown."""
        self.clear()

    def clear(self) -> None:
        """Forget all frames."""
        self._groups.clear()
        self._arrivals.clear()
        self._taken.clear()
        if self._prefix_reader is not None:
            self._prefix_reader.forget()

    def find(self, key: tuple[str, int]) -> Frame | None:
        """Return a frame that is still held."""
        return next((frame for frame in self._frames if frame.key == key), None)

    def stats(self) -> dict[str, float]:
        """Return how many groups are held, and why they began."""
        return {'groups': self._groups.count, **self._groups.counts}
