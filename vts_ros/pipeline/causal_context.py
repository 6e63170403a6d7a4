# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The context of causal mode: each frame is pruned and prefilled once, on arrival.

With frames as a video, a pair of frames is prefilled when it is complete.

An answer is about the frames in the context: the newest groups of pictures, which reach back at
least one full group unless the scene has changed. When the oldest groups are evicted, the others
are prefilled again without them, so the KV cache always equals that of one pass over the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from vts_ros.pipeline.arrivals import Arrivals
from vts_ros.pipeline.features import StepEntry
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.steps import Step, StepMaker
from vts_ros.sparsify import Proposal, Selection
from vts_ros.sparsify.frame_groups import FrameGroups, joined, TokenChoice
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.prefix_reader import Part, Picture, PrefixReader
from vts_ros.vlm.prompt_layout import Prefix, Prompted, Question
from vts_ros.vlm.prompt_writer import Captions
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.video_steps import video_steps


class _Taken(NamedTuple):
    """A step, and its tokens that the language model gets."""

    entry: StepEntry
    choice: TokenChoice
    picture: Picture


def _taken(entry: StepEntry, choice: TokenChoice) -> _Taken:
    features: Any = entry.features
    return _Taken(entry, choice, Picture(features, choice.keep))


class CausalContext:
    """
    The frames of the drive that are in the KV cache of a language model.

    Parameters
    ----------
    vlm
        The language model.
    reader
        Prefills for it.
    groups
        Choose the tokens.
    max_tokens
        Of the whole context, including the text between the pictures. Question and answer come
        on top while an answer is written; the next frame takes their place.

    Attributes
    ----------
    is_video
        Whether frames are shown as a video.

    """

    def __init__(self, vlm: Vlm, reader: PrefixReader, groups: FrameGroups,
                 max_tokens: int) -> None:
        self._vlm = vlm
        self._reader = reader
        self.groups = groups
        self._max_tokens = max_tokens
        self.is_video = vlm.frames_as == 'video'
        self._steps = StepMaker(vlm.step_frames)
        self._taken: list[_Taken] = []
        self._arrivals = Arrivals()

    @property
    def frames(self) -> list[Frame]:
        """Return the prefilled frames, in the order in which they came."""
        return [frame for taken in self._taken for frame in taken.entry.frames]

    @property
    def waiting(self) -> list[Step]:
        """Return the frames of a video that wait for their partner."""
        return list(self._steps.waiting.values())

    @property
    def all_frames(self) -> list[Frame]:
        """Return the frames that are prefilled or waiting."""
        return [*self.frames, *(frame for step in self.waiting for frame in step)]

    @property
    def entries(self) -> list[StepEntry]:
        """Return the features of the prefilled steps."""
        return [taken.entry for taken in self._taken]

    def clear(self) -> None:
        """Forget all frames."""
        self.groups.clear()
        self._reader.forget()
        self._taken.clear()
        self._steps.waiting.clear()
        self._arrivals.clear()

    def unseen_of_window(self, window: Sequence[Frame]) -> list[Frame]:
        """
        Return the frames of a window that must be prefilled before a question about it.

        If it is of another drive, see :class:`Arrivals`, the context is cleared, and the whole
        window must be prefilled.

        Raises
        ------
        ValueError
            If there is no frame.

        """
        unseen = self._arrivals.unseen_of_window(window, self.all_frames)
        if unseen is not None:
            return unseen
        self.clear()
        return list(window)

    def unseen(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames that are newer than all earlier ones of their camera."""
        return self._arrivals.unseen(frames)

    def arrive(self, frame: Frame, size: tuple[int, int]) -> list[Step]:
        """Add a frame; return the steps that it completes, which are to be appended."""
        steps = self._steps.take(frame, size)
        # What is complete has come when it is read: until then it can be tried again.
        if frame.camera in self._steps.waiting:
            self._arrivals.note(frame)
        return steps

    def append(self, moment: Sequence[StepEntry], prompt: Prompt, keep_ratio: float,
               weight: float = 0.0) -> None:
        """
        Prune and read the steps of one moment, at most one per camera.

        Parameters
        ----------
        moment
            What was computed of them.
        prompt
            Any prompt that the pictures may come in; its question does not count.
        keep_ratio
            Share of the tokens to keep.

        Raises
        ------
        VlmError
            If they have more tokens than are to be held, or memory runs out.

        """
        self._leave_other_sizes(moment)
        self._add(moment, keep_ratio, weight)
        while True:
            part = self._part(self._texts(self.entries, prompt))
            length = self._reader.tokens + part.length
            if length <= self._max_tokens:
                break
            if self.groups.evict():
                self._trim()
            elif len(self._taken) > len(moment):
                # The group itself is too long: what comes begins another one.
                self._forget_read()
                self._add(moment, keep_ratio, weight)
            else:
                self.clear()
                raise VlmError(f'a picture and its prompt have {length} tokens, more than '
                               f'vlm.kv_tokens ({self._max_tokens}) allows')
        self._reader.read_on(part)

    def read(self, prompt: Prompt, waiting: Sequence[StepEntry] = (), keep_ratio: float = 1.0,
             weight: float = 0.0) -> tuple[Prompted, Prefix | None, Selection]:
        """
        Put a question about the frames that are held.

        Parameters
        ----------
        waiting
            Frames without a partner, which are read with the question, not for good.
        keep_ratio
            Share of their tokens to keep.
        weight
            How much their moment matters, 0 to 1.

        Returns
        -------
        The prompt, what was read of it (None if nothing was), and the tokens that are kept.

        Raises
        ------
        VlmError
            If memory runs out.

        """
        self._leave_other_sizes(waiting)
        choices = self.groups.look(*_by_camera(waiting), keep_ratio, weight) if waiting else {}
        lone = [_taken(entry, choices[entry.frame.camera]) for entry in waiting]
        entries = [*self.entries, *waiting]
        texts = self._texts(entries, prompt)
        selection = joined([taken.choice for taken in (*self._taken, *lone)])
        features: list[Any] = [entry.features for entry in entries]
        whole = partial(self._vlm.prepare, features, self._captions(entries, prompt), prompt)
        count = len(self._taken)
        if not count:
            return whole(), None, selection
        prefix = self._reader.read_on(self._part(texts[:count + 1]))
        end = self._reader.end(texts[count:], [taken.picture for taken in lone])
        return Question(prefix, selection.keep, end, whole), prefix, selection

    def selection(self) -> Selection:
        """Return the tokens that are kept of the steps that were read."""
        return joined([taken.choice for taken in self._taken])

    def _add(self, moment: Sequence[StepEntry], keep_ratio: float, weight: float) -> None:
        choices = self.groups.take(*_by_camera(moment), keep_ratio, weight)
        self._taken += [_taken(entry, choices[entry.frame.camera]) for entry in moment]
        for entry in moment:
            self._arrivals.note(entry.frame)
        self._trim()

    def _trim(self) -> None:
        """Forget the frames of groups that are gone."""
        del self._taken[:len(self._taken) - self.groups.frames]

    def _leave_other_sizes(self, coming: Sequence[StepEntry]) -> None:
        """Forget what was read where a camera has another size now: a video has one."""
        grids = {entry.frame.camera: entry.features.grid for entry in coming}
        if self.is_video and any(
                entry.features.grid != grids.get(entry.frame.camera, entry.features.grid)
                for entry in self.entries):
            self._forget_read()

    def _forget_read(self) -> None:
        """Forget all that was read, not what waits."""
        waiting = dict(self._steps.waiting)
        self.clear()
        self._steps.waiting.update(waiting)
        for step in waiting.values():
            self._arrivals.note(step[-1])

    def _texts(self, entries: Sequence[StepEntry], prompt: Prompt) -> list[str]:
        """Return the text before each step, and after the last."""
        return self._vlm.texts(self._captions(entries, prompt), prompt)

    def _captions(self, entries: Sequence[StepEntry], prompt: Prompt) -> Captions:
        if self.is_video:
            return video_steps([entry.frames for entry in entries])
        return prompt.captions_on_arrival([entry.frame for entry in entries])

    def _part(self, texts: Sequence[str]) -> Part:
        """Lay out what was not read of the steps that are held."""
        return self._reader.part(texts[:-1], [taken.picture for taken in self._taken])


def _by_camera(moment: Sequence[StepEntry]
               ) -> tuple[dict[str, Proposal], dict[str, tuple[int, int]]]:
    """Return proposals and grids of the steps of a moment."""
    return ({entry.frame.camera: entry.proposal for entry in moment},
            {entry.frame.camera: entry.features.grid for entry in moment})
