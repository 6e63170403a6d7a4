# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The frames of causal mode: each is pruned, and read by the language model, once, when it comes.

What an answer is about is what was read: the newest groups of pictures, which reach back at least
as far as one full group where the scene has not changed. When the oldest groups go, the others
are read once more without them, so that what was read is at all times what one pass over these
pictures would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vts_ros.pipeline.features import FrameEntry
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Selection
from vts_ros.sparsify.frame_groups import Choice, FrameGroups
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.prefix_reader import Part, Picture, PrefixReader
from vts_ros.vlm.prompt_layout import Prefix, Question
from vts_ros.vlm.prompts import Prompt


class _Taken(NamedTuple):
    """A frame, and what the language model is shown of it."""

    frame: Frame
    entry: FrameEntry
    choice: Choice
    picture: Picture


class CausalContext:
    """
    What a language model has read of the drive so far.

    Parameters
    ----------
    vlm
        The language model.
    reader
        Reads for it.
    groups
        Chooses the tokens.
    max_tokens
        Of all that is held, text between the pictures included. Question and answer come on top
        while an answer is written; the next frame is read into their place.

    """

    def __init__(self, vlm: Vlm, reader: PrefixReader, groups: FrameGroups,
                 max_tokens: int) -> None:
        self._vlm = vlm
        self._reader = reader
        self.groups = groups
        self._max_tokens = max_tokens
        self._taken: list[_Taken] = []
        # Stamp of the newest frame of each camera, whether it is still held or not.
        self._newest_ns: dict[str, int] = {}

    @property
    def frames(self) -> list[Frame]:
        """Return the frames that are held, in the order in which they came."""
        return [one.frame for one in self._taken]

    @property
    def entries(self) -> list[FrameEntry]:
        """Return what was computed of these frames."""
        return [one.entry for one in self._taken]

    def clear(self) -> None:
        """Forget all frames."""
        self.groups.clear()
        self._reader.forget()
        self._taken.clear()
        self._newest_ns.clear()

    def unseen_of_window(self, window: Sequence[Frame]) -> list[Frame]:
        """
        Return which frames of a window are to be read before a question about it.

        A window that does not end with or after what was read, or has nothing in common with it,
        is of another drive: all is forgotten, and all of the window is to be read.

        Raises
        ------
        ValueError
            If there is no frame.

        """
        if not window:
            raise ValueError('a window needs at least one frame')
        held = {one.frame.key for one in self._taken}
        new = self.unseen(window)
        goes_on = bool(new) or (
            bool(self._taken) and window[-1].key == self._taken[-1].frame.key)
        if goes_on and not held.isdisjoint(frame.key for frame in window):
            return new
        self.clear()
        return list(window)

    def unseen(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames that are newer than all of their camera that have come."""
        return [frame for frame in frames
                if frame.stamp_ns > self._newest_ns.get(frame.camera, frame.stamp_ns - 1)]

    def append(self, moment: Sequence[tuple[Frame, FrameEntry]], prompt: Prompt, keep_ratio: float
             ) -> None:
        """
        Prune and read the frames of one moment, at most one per camera.

        Parameters
        ----------
        moment
            The frames and what was computed of them.
        prompt
            Any prompt that the pictures may come in; its question does not count.
        keep_ratio
            Share of the tokens to keep.

        Raises
        ------
        VlmError
            If they have more tokens than are to be held, or memory runs out.

        """
        self._add(moment, keep_ratio)
        while True:
            part = self._part(self._texts(prompt))
            length = self._reader.tokens + part.length
            if length <= self._max_tokens:
                break
            if self.groups.evict():
                self._trim()
            elif len(self._taken) > len(moment):
                # The group itself is too long: what comes begins another one.
                self.clear()
                self._add(moment, keep_ratio)
            else:
                self.clear()
                raise VlmError(f'a picture and its prompt have {length} tokens, more than '
                               f'vlm.kv_tokens ({self._max_tokens}) allows')
        self._reader.read_on(part)

    def read(self, prompt: Prompt) -> tuple[Question, Prefix, Selection]:
        """
        Put a question about the frames that are held.

        Returns
        -------
        The prompt, what was read of it, and the tokens that are kept.

        Raises
        ------
        VlmError
            If memory runs out.

        """
        texts, selection = self._texts(prompt), self.selection()
        prefix = self._reader.read_on(self._part(texts))
        features: list[Any] = [one.features for one in self.entries]
        whole = partial(
            self._vlm.prepare, features, prompt.captions_on_arrival(self.frames), prompt)
        question = Question(prefix, selection.keep, self._reader.end(texts[-1]), whole)
        return question, prefix, selection

    def selection(self) -> Selection:
        """Return the tokens that are kept of the frames that are held."""
        choices = [one.choice for one in self._taken]
        begins = np.cumsum([0, *(len(choice.score) for choice in choices)])
        keep = np.concatenate([choice.keep + begin for choice, begin in zip(choices, begins)])
        scores = [choice.score for choice in choices]
        is_even = len({len(score) for score in scores}) == 1
        return Selection(
            key=max(index for index, choice in enumerate(choices) if choice.is_key),
            frame_scores=np.array([choice.saliency for choice in choices], np.float32),
            keep=keep.astype(np.int32),
            score=np.stack(scores) if is_even else np.concatenate(scores))

    def _add(self, moment: Sequence[tuple[Frame, FrameEntry]], keep_ratio: float) -> None:
        choices = self.groups.take(
            {frame.camera: entry.proposal for frame, entry in moment},
            {frame.camera: entry.features.grid for frame, entry in moment}, keep_ratio)
        for frame, entry in moment:
            features: Any = entry.features
            choice = choices[frame.camera]
            self._taken.append(_Taken(frame, entry, choice, Picture(features, choice.keep)))
        self._newest_ns.update((frame.camera, frame.stamp_ns) for frame, _ in moment)
        self._trim()

    def _trim(self) -> None:
        """Forget the frames of groups that are gone."""
        del self._taken[:len(self._taken) - self.groups.frames]

    def _texts(self, prompt: Prompt) -> list[str]:
        """Return what stands before each picture that is held, and after the last."""
        return self._vlm.texts(prompt.captions_on_arrival(self.frames), prompt)

    def _part(self, texts: Sequence[str]) -> Part:
        """Lay out what was not read of the pictures that are held."""
        return self._reader.part(texts[:-1], [one.picture for one in self._taken])
