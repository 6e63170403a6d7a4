# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a language model wrote about a window, read and made a report of."""

from __future__ import annotations

from dataclasses import replace
import logging

from vts_ros.pipeline.context import PreparedWindow
from vts_ros.pipeline.features import StepEntry
from vts_ros.pipeline.guard import NOTHING_KNOWN, UNLIKE_TRAINING
from vts_ros.pipeline.report import EventRef, FrameRef, KeyFrame, RISK_COLOURS, SceneReport
from vts_ros.pipeline.steps import places
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import Generation, LanguageModel, Vlm
from vts_ros.vlm.answers import Answer, inspect, Parsed
from vts_ros.vlm.boxes import PictureSize, UnitWatch
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.tasks import load_task, Task
from vts_ros.vlm.thoughts import THOUGHT
from vts_ros.vlm.video_steps import VideoStep

_logger = logging.getLogger(__name__)


class ReportWriter:
    """
    Reads answers to one prompt and writes the reports about them.

    Parameters
    ----------
    language_model
        Who answers.
    sparsifier
        Who chose the visual tokens.
    prompt
        What is asked: it says in which unit boxes are written.
    structured
        Whether the form of an answer is enforced, which leaves no room for a thought.
    task
        What the answers are about; driving if not given.

    """

    def __init__(self, language_model: LanguageModel, sparsifier: Sparsifier,
                 prompt: Prompt, structured: bool, task: Task | None = None) -> None:
        self._task = task or load_task()
        self._language_model, self._sparsifier = language_model, sparsifier
        self._prompt, self._structured = prompt, structured
        self._units = UnitWatch()
        # None before somebody asked.
        self._is_thought: bool | None = None

    @property
    def begins_in_thought(self) -> bool:
        """Return whether the prompt opens a thought, in which answers begin."""
        if self._structured or not isinstance(self._language_model, Vlm):
            return False
        if self._is_thought is None:
            *_, end = self._language_model.texts(
                [VideoStep(0.0)] if self._language_model.frames_as == 'video' else [''],
                self._prompt)
            self._is_thought = end.rstrip().endswith(THOUGHT[0])
        return self._is_thought

    def read(self, prepared: PreparedWindow, text: str) -> Answer:
        """Read an answer about a window, perhaps one that is cut off."""
        return self._inspect(prepared, text).answer

    def report(self, prepared: PreparedWindow, answer: Answer, is_known: bool | None,
               latency_ms: dict[str, float]) -> SceneReport:
        """
        Return what a report says whatever the model wrote, with an answer.

        Parameters
        ----------
        is_known
            Whether the model knows such pictures; None where nobody can tell.

        """
        frames = prepared.frames
        key = prepared.key_frame
        model = self._language_model
        return SceneReport(
            stamp=frames[-1].stamp_ns,
            frames=tuple(FrameRef(frame.camera, frame.stamp_ns) for frame in frames),
            key_frame=KeyFrame(key.camera, key.stamp_ns, frames.index(key)),
            answer=answer, keep=tuple(prepared.selection.keep.tolist()), grid=prepared.grids[-1],
            grids=tuple(prepared.grids) if len(set(prepared.grids)) > 1 else (),
            steps=places([entry.frames for entry in prepared.entries], frames)
            if prepared.is_video else (),
            latency_ms=latency_ms, model=model.name, pruning=model.pruning,
            engine=self._sparsifier.engine, in_distribution=is_known,
            size=_shown_size(prepared, answer),
            events=tuple(EventRef(event.kind, event.start_ns, event.end_ns, event.strength,
                                  event.is_told) for event in prepared.events),
            colours=None if self._task.colours == RISK_COLOURS else self._task.colours)

    def final_report(self, prepared: PreparedWindow, generation: Generation,
                     is_known: bool | None, latency_ms: dict[str, float]) -> SceneReport:
        """Return the report about a whole answer, ``unknown`` where the model must not speak."""
        answer = self._answer(prepared, generation.text)
        if is_known is False:
            answer = Answer(description=NOTHING_KNOWN, explanation=UNLIKE_TRAINING)
        return replace(
            self.report(prepared, answer, is_known, latency_ms),
            answer_tokens=len(generation.token_ids),
            rejected_output=generation.text if is_known is False else None)

    def _answer(self, prepared: PreparedWindow, text: str) -> Answer:
        """Return what a text says; once, that its boxes are in another unit than asked for."""
        answer, problems = self._inspect(prepared, text)
        is_astray = not {'bad box', 'other unit'}.isdisjoint(problems)
        if (is_astray or answer.box is not None) and self._units.note(is_astray):
            _logger.warning(
                'most boxes of %s are in another unit than it is asked for: say box_scale in a '
                'prompt file (vlm.prompts), see docs/models.md', self._language_model.name)
        return answer

    def _inspect(self, prepared: PreparedWindow, text: str) -> Parsed:
        newest = {entry.frame.camera: entry for entry in prepared.entries}

        def read(entry: StepEntry) -> Parsed:
            height, width = entry.size
            seen = self._language_model.seen_size(entry.features, prepared.kept_share(entry))
            return inspect(
                text, self._prompt.box, PictureSize(seen, (width, height)),
                is_thought=self.begins_in_thought, of_task=self._task.form)

        parsed = read(prepared.newest)
        names = sorted(newest)
        by_said = dict(zip(self._prompt.said(names), names, strict=True))
        name = by_said.get(parsed.answer.camera or '')
        # The box is in the picture of its own camera, which may have another size.
        if name is not None and newest[name] is not prepared.newest:
            parsed = read(newest[name])
        return parsed if name is None else parsed._replace(
            answer=replace(parsed.answer, camera=name))


def _shown_size(prepared: PreparedWindow, answer: Answer) -> tuple[int, int]:
    """Return the size of the newest picture of the camera that a report shows."""
    newest = {entry.frame.camera: entry.size for entry in prepared.entries}
    return newest.get(answer.camera or '') or newest[min(newest)]
