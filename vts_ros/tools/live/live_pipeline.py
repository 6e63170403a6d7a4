# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A pipeline that describes live pictures for the page, in a thread of its own."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
import logging
import threading
import time
from typing import Any, NamedTuple, TYPE_CHECKING

from vts_ros.errors import VtsError
from vts_ros.pipeline.config import MODES, PipelineConfig
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline, without_broken
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bag_frames import count_broken
from vts_ros.tools.live.live_hub import Hub, MAX_QUESTION_CHARS, MAX_QUESTIONS
from vts_ros.tools.live.live_sources import Source
from vts_ros.vlm.answers import Answer

if TYPE_CHECKING:
    from vts_ros.vlm.vehicle import Vehicle

#: Pages are told of an answer that is being written at most so often.
PIECES_HZ = 15.0
#: For what a job does at its end: models are slow to stop.
END_SEC = 20.0

Load = Callable[[PipelineConfig], Pipeline]


class _Due(NamedTuple):
    """A window, when its newest picture came, and what the car did then."""

    window: list[Frame]
    came_sec: float
    vehicle: Vehicle | None


LOG = logging.getLogger(__name__)


def setting_state(config: PipelineConfig, models: Sequence[str]) -> dict[str, Any]:
    """Return the settings that the page shows and can change."""
    return {'keep_ratio': config.keep_ratio, 'mode': config.mode, 'model': config.model,
            'modes': list(MODES), 'models': list(models)}


class LivePipeline:
    """
    Takes pictures from a source, and describes the newest window as often as it can.

    Questions and changes go before the next window. One thread plays the source, another one has
    the models.

    Parameters
    ----------
    hub
        Where all is told.
    source
        Where pictures come from.
    pipeline
        Describes them; belongs to this object from now on.
    buffer
        The rolling window.
    models
        Those that can be chosen; no others are loaded.
    load
        Makes a pipeline where the model or the mode is changed.

    """

    def __init__(self, hub: Hub, source: Source, pipeline: Pipeline, buffer: FrameBuffer,
                 models: Sequence[str] = (), load: Load = Pipeline.load) -> None:
        self._hub, self._source, self._buffer, self._load = hub, source, buffer, load
        self._senses = source.senses
        self._pipeline: Pipeline | None = pipeline
        self._hear()
        # What the car did with the newest picture: it is known in the thread of the source.
        self._vehicle: Vehicle | None = None
        self._config = pipeline.config
        # Of the first model alone.
        self._adapter = pipeline.config.adapter
        self._models = list(dict.fromkeys([pipeline.config.model, *models]))
        self._counters: Counter[str] = Counter()
        self._numbers = count(1)
        self._condition = threading.Condition()
        # The newest window that is to be described.
        self._window: _Due | None = None
        self._questions: deque[tuple[int, str]] = deque()
        self._changes: dict[str, Any] = {}
        self._is_new_drive = False
        self._ended = threading.Event()
        hub.set_state(source=source.name, status='', **setting_state(self._config, self._models))
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in (
            ('live source', self._play), ('live models', self._work))]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End, and free the models."""
        self._ended.set()
        with self._condition:
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(END_SEC)

    def ask(self, question: str) -> None:
        """Have a question answered about the newest pictures; its reply is an event."""
        number = next(self._numbers)
        with self._condition:
            if not 0 < len(question.strip()) <= MAX_QUESTION_CHARS:
                error = f'expected 1 to {MAX_QUESTION_CHARS} characters'
            elif len(self._questions) >= MAX_QUESTIONS:
                error = f'{MAX_QUESTIONS} others are waiting'
            else:
                error = ''
                self._questions.append((number, question))
                self._condition.notify_all()
        self._hub.tell('question', id=number, question=question[:MAX_QUESTION_CHARS])
        if error:
            self._hub.tell('answer', id=number, error=error)

    def change(self, name: str, value: Any) -> None:
        """Change a setting from the next window on; raise ValueError if it cannot be."""
        if name == 'keep_ratio':
            if isinstance(value, bool) or not isinstance(value, (int, float)) \
                    or not 0.01 <= value <= 1.0:
                raise ValueError('keep_ratio is 0.01 to 1')
            value = float(value)
        elif name == 'mode':
            if value not in MODES:
                raise ValueError(f'mode is one of {", ".join(MODES)}')
        elif name == 'model':
            if value not in self._models:
                raise ValueError('this model was not named at the start: give it to --also-model')
        else:
            raise ValueError(f'{name} cannot be changed here')
        with self._condition:
            self._changes[name] = value
            self._condition.notify_all()

    def _play(self) -> None:
        try:
            self._source.play(self._push, self._restart, self._ended)
            self._hub.set_state(status='the recording is over')
        except VtsError as error:
            self._hub.set_state(status=str(error))
        except Exception as error:
            LOG.exception('the source has ended')
            self._hub.set_state(status=f'no more pictures: {type(error).__name__}')

    def _push(self, frame: Frame) -> None:
        outcome, window = self._buffer.advance(frame)
        self._counters[outcome] += 1
        self._hub.show(frame, is_needed=outcome in ('admitted', 'gap', 'back'))
        if outcome == 'back':
            self._is_new_drive = True
        if self._senses:
            self._vehicle = self._senses.vehicle()
        if window:
            with self._condition:
                self._window = _Due(window, time.monotonic(), self._vehicle)
                self._condition.notify_all()

    def _restart(self) -> None:
        self._buffer.clear()
        if self._senses:
            self._senses.forget()
        with self._condition:
            self._window, self._is_new_drive = None, True

    def _work(self) -> None:
        while not self._ended.is_set():
            with self._condition:
                while not (self._ended.is_set() or self._changes or self._questions
                           or self._window):
                    self._condition.wait()
                changes, self._changes = self._changes, {}
                question = self._questions.popleft() if self._questions and not changes else None
                window = None
                if not changes and question is None:
                    window, self._window = self._window, None
                is_new, self._is_new_drive = self._is_new_drive, False
            if self._ended.is_set():
                break
            try:
                if is_new and self._pipeline:
                    self._pipeline.clear()
                    self._hear()
                self._do(changes, question, window)
            except Exception as error:
                # The page stays up and says so; it never makes up an answer.
                reason = str(error)
                if not isinstance(error, VtsError):
                    LOG.exception('no answer')
                    reason = f'no answer: {type(error).__name__}: {error}'
                if window:
                    self._hub.retract(reason)
                self._hub.tell('note', text=reason)
        if self._pipeline:
            self._pipeline.close()

    def _do(self, changes: dict[str, Any], question: tuple[int, str] | None,
            due: _Due | None) -> None:
        if changes:
            self._apply(changes)
        elif question:
            self._answer(*question)
        elif due:
            self._describe(*due)

    def _describe(self, window: list[Frame], came_sec: float, vehicle: Vehicle | None) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            return
        told = 0.0

        def on_answer(answer: Answer) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= 1.0 / PIECES_HZ:
                told = now
                self._hub.tell('writing', explanation=answer.explanation, action=answer.action,
                               description=answer.description)

        def tell(report: SceneReport) -> None:
            # Not by stamps: those of a recording that is played again go back.
            age_ms = 1e3 * (time.monotonic() - came_sec)
            self._hub.report(replace(report, age_ms=age_ms))

        report = without_broken(tuple(window), self._leave_out, lambda good: pipeline.describe(
            good, self._ended.is_set, vehicle, on_risk=tell, on_answer=on_answer))
        if report and not self._ended.is_set():
            tell(report)

    def _leave_out(self, broken: BrokenFrame) -> None:
        count_broken(self._counters, broken)
        self._buffer.discard(broken.frame)

    def _answer(self, number: int, question: str) -> None:
        pipeline = self._pipeline
        window = self._buffer.window(full=False)
        if pipeline is None or not window:
            self._hub.tell('answer', id=number, error='there is no picture yet')
            return
        try:
            text = without_broken(tuple(window), self._leave_out, lambda good: pipeline.ask(
                good, question, self._ended.is_set, self._vehicle,
                on_text=lambda piece: self._hub.tell('piece', id=number, text=piece)))
        except Exception as error:
            self._hub.tell('answer', id=number, error=str(error) or type(error).__name__)
            raise
        self._hub.tell('answer', id=number, text=text,
                       error=None if text is not None else 'no picture can be decoded')

    def _apply(self, changes: dict[str, Any]) -> None:
        before = self._config
        wanted = replace(before, **changes)
        wanted = replace(wanted, adapter=self._adapter if wanted.model == self._models[0] else '')
        if self._pipeline is None or (wanted.mode, wanted.model) != (before.mode, before.model):
            self._reload(wanted, before)
        else:
            self._pipeline.set_keep_ratio(wanted.keep_ratio)
            self._config = self._pipeline.config
        self._hub.set_state(**setting_state(self._config, self._models))

    def _reload(self, wanted: PipelineConfig, before: PipelineConfig) -> None:
        self._hub.set_state(status=f'loading {wanted.model}, {wanted.mode} mode')
        # Both at once might not fit into memory.
        if self._pipeline:
            self._pipeline.close()
        self._pipeline = None
        try:
            self._pipeline = self._load(wanted)
        except VtsError as error:
            self._hub.tell('note', text=str(error))
            self._pipeline = self._load(before)
        finally:
            self._hub.set_state(status='')
        self._config = self._pipeline.config
        self._hear()

    def _hear(self) -> None:
        """Have the pipeline know the events of the source, whichever model it has."""
        if self._senses and self._pipeline:
            self._pipeline.events = self._senses.events
