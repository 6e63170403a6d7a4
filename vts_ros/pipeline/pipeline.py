# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The way from a window of frames to a scene report.

One class, used by the node, ``vts annotate``, the evaluation and the benchmark. It knows neither
ROS nor which engine, which language model or which way of reading it drives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import PromptError, VlmError
from vts_ros.pipeline.answer_counters import AnswerCounters
from vts_ros.pipeline.broken_frames import without_broken
from vts_ros.pipeline.confidence import Calibration, TokenLogProbabilities
from vts_ros.pipeline.config import EMBEDDED, MODES, PipelineConfig, SPEAK, VLM_BACKENDS
from vts_ros.pipeline.context import ContextReader, PreparedWindow, WindowReader
from vts_ros.pipeline.deadline import Deadline, Plan
from vts_ros.pipeline.early_risk import EarlyRisk, told_to_all
from vts_ros.pipeline.events import Event, EventLog
from vts_ros.pipeline.features import BrokenFrame, FrameCache, Stopwatch
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.pipeline.guard import Guard, NOTHING_KNOWN
from vts_ros.pipeline.kv_sizes import kv_token_bytes
from vts_ros.pipeline.partial_answers import (
    growing_answers,
    OnAnswer,
    OnReport,
    partial_reports,
    Stop,
)
from vts_ros.pipeline.report import SceneReport
from vts_ros.pipeline.report_writer import ReportWriter
from vts_ros.pipeline.speaking import Moment, moment_of, Speaking
from vts_ros.pipeline.window_notes import WindowNotes
from vts_ros.pipeline.window_planner import WindowPlanner
from vts_ros.sparsify import Selection, Sparsifier
from vts_ros.sparsify.proposal_network import INPUT_SIZE as PROPOSAL_SIZE
from vts_ros.vlm import Generation, LanguageModel, OnText, Vlm
from vts_ros.vlm.answers import schema
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.prompts import Prompt, Prompts
from vts_ros.vlm.tasks import load_task, prompt_file
from vts_ros.vlm.taught_questions import TaughtQuestions
from vts_ros.vlm.vehicle import Vehicle

__all__ = ['EMBEDDED', 'MODES', 'SPEAK', 'VLM_BACKENDS', 'BrokenFrame', 'Pipeline',
           'PipelineConfig', 'without_broken']


class Pipeline:
    """
    Window in, scene report out.

    Frames are looked at once and their features used again while the window slides. In causal
    mode an answer is about what the language model has read: the newest frames of the window, and
    some before them. Its report names them all. One caller at a time.

    Use :func:`vts_ros.pipeline.factory.load_pipeline`, or ``Pipeline.load``.

    Attributes
    ----------
    task
        What the frames are watched for.
    calibration
        Says how sure an answer is; without, reports have no confidence.
    taught
        The questions that the model knows; without, it is asked anything.
    speaking
        Decides whether the model is asked; without, it always is.
    events
        What other senses noticed; empty where there are none.
    drafts
        Answers that the next one may be like; None where none is drafted.
    engine_choice
        Why the engine is the one it is.
    clock
        Seconds; replaced where time is simulated.

    """

    def __init__(self, sparsifier: Sparsifier, language_model: LanguageModel, prompts: Prompts,
                 config: PipelineConfig, calibration: Calibration | None = None,
                 guard: Guard | None = None, taught: TaughtQuestions | None = None) -> None:
        # Here, as the factory makes pipelines.
        from vts_ros.pipeline.factory import make_reader

        self.sparsifier = sparsifier
        self.language_model = language_model
        self.prompts = prompts
        self.config = config
        self.task = load_task(config.task)
        self.calibration = calibration
        self.taught = taught
        self.speaking: Speaking | None = None
        self.events = EventLog()
        self.engine_choice = ''
        self.clock = time.perf_counter
        # A server without keep lists does not say what its model sees of a picture.
        reduction = getattr(language_model, 'reduction', None)
        self.cache = FrameCache(
            sparsifier, lambda *rgb: self.language_model.encode(*rgb), language_model.step_frames,
            None if reduction is None else partial(reduction, least=PROPOSAL_SIZE),
            language_model.frames_as == 'video')
        self.cache.guard = guard
        self.reader: ContextReader = make_reader(
            config, self.cache, sparsifier, language_model, prompts)
        self.writer = self._make_writer()
        convention = language_model.convention
        self._notes = WindowNotes(
            kv_token_bytes(language_model) if isinstance(language_model, Vlm) else 0,
            knows_cameras=convention.names_camera or convention.numbers_cameras)
        self._deadline = Deadline(config.min_keep_ratio)
        self.drafts = Drafts() if config.draft and isinstance(language_model, Vlm) else None
        self._counters = AnswerCounters()
        # Those that an enforced form names.
        self._cameras: tuple[str, ...] = ()

    @classmethod
    def load(cls, config: PipelineConfig | None = None) -> Pipeline:
        """Load all that the settings name, see :func:`vts_ros.pipeline.factory.load_pipeline`."""
        from vts_ros.pipeline.factory import load_pipeline

        return load_pipeline(config or PipelineConfig())

    @property
    def guard(self) -> Guard | None:
        """Return what judges the pictures; without, the model speaks about any."""
        return self.cache.guard

    @guard.setter
    def guard(self, guard: Guard | None) -> None:
        """Change it, and forget all frames: it may need more of them than was computed."""
        self.cache.guard = guard
        self.clear()

    @property
    def vlm(self) -> Vlm:
        """
        Return the language model of this process, for tools that look inside.

        Raises
        ------
        VlmError
            If it is behind a server.

        """
        if not isinstance(self.language_model, Vlm):
            raise VlmError('this needs a language model in this process, not on a server')
        return self.language_model

    def ingest(self, window: Window) -> dict[str, float]:
        """
        Look at frames that have just come, so that an answer need not wait for that.

        In causal mode the language model reads them, too.

        Parameters
        ----------
        window
            In the order of time. Those that came before are passed over.

        Returns
        -------
        Milliseconds per stage.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded; those before it were taken in.

        """
        watch = Stopwatch(self.clock)
        self._ingest(window, watch)
        return watch.total()

    def _ingest(self, window: Window, watch: Stopwatch) -> None:
        prompt = self.prompts.description.seen_by(_cameras_of(window))
        self.reader.ingest(window, prompt, self.config.keep_ratio, watch,
                           self._events_of(window))

    def describe(self, window: Window, stop: Stop | None = None,
                 vehicle: Vehicle | None = None, *, insist: bool = False,
                 on_risk: OnReport | None = None, on_answer: OnAnswer | None = None
                 ) -> SceneReport:
        """
        Say what the scene is and what the risk is.

        Parameters
        ----------
        window
            Frames in the order of time, oldest first.
        stop
            Ends the generation early when it returns True.
        vehicle
            What the car does, told to the model in the words of the prompt file.
        insist
            Whether the model is asked in any case.
        on_risk
            Given a partial report when the level is there and again when the object is, while
            the texts are still being written; not where the answer is unknown.
        on_answer
            Given what is there of the answer whenever more of it is written; not where the model
            does not know such pictures.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded; nothing of the others is lost.

        """
        watch = Stopwatch(self.clock)
        now = until_risk = None
        if self.speaking is not None:
            now = self._look(window, vehicle, watch)
            with watch.stage('gate'):
                why = 'demand' if insist else self.speaking.why_ask(now)
            if not why:
                return self.speaking.confirm(window, now, watch.total())
            until_risk = self.speaking.until_risk(
                self.speaking.take(why), now, self.writer.begins_in_thought, stop)
        is_timed = self.config.deadline_ms > 0.0
        planner = self._planner(is_timed)
        events = self._events_of(window)
        prepared = self.reader.read(
            window, self.description_prompt(window, vehicle, events), planner, watch,
            share=False, events=events)._replace(events=events)
        self._notes.look(prepared)
        options: dict[str, Any] = {} if self.drafts is None else {'drafts': self.drafts}
        is_known = self.knows(prepared)
        early = EarlyRisk(
            partial(self.writer.read, prepared),
            partial_reports(self.writer, prepared, is_known, watch, stop, on_risk), self.clock,
            is_thought=self.writer.begins_in_thought, of_task=self.task.form)
        listeners: list[OnText] = [early.on_text]
        if until_risk is not None:
            listeners.append(until_risk.on_text)
        if on_answer is not None and is_known is not False:
            listeners.append(growing_answers(self.writer, prepared, on_answer))
        options['on_text'] = told_to_all(listeners)
        (generation,), (row,) = self.generate(
            [prepared], watch, until_risk.stop if until_risk else stop, is_report=True, **options)
        is_whole = until_risk is None or not until_risk.is_over
        if is_whole and self.drafts is not None:
            self.drafts.add(generation.token_ids)
        latency_ms = watch.total()
        is_stopped = stop is not None and stop()
        if is_timed and not is_stopped:
            if is_whole:
                planner.note(prepared, generation, latency_ms,
                             getattr(self.language_model, 'tokenizer', None))
            self._counters.add_deadline(latency_ms['total'] > self.config.deadline_ms)
        # Where the answer is not in the form, the level is known when all of it is there.
        until_ms = latency_ms['total'] if early.known_sec is None else \
            1e3 * (early.known_sec - watch.started)
        report = replace(self.report(prepared, generation, row, latency_ms),
                         time_to_risk_ms=until_ms)
        if self.speaking is None or now is None or is_stopped:
            return report
        return self.speaking.note(report, now, until_risk)

    def _look(self, window: Window, vehicle: Vehicle | None, watch: Stopwatch) -> Moment:
        """Return what is cheap to know of a window; in causal mode it is read, as ever."""
        looks = self.cache.look_all(window, watch)
        if self.reader.reads_on_arrival:
            self._ingest(window, watch)
        return moment_of(looks, self.cache.knows([look.evidence for look in looks]), vehicle)

    def ask(self, window: Window, question: str, stop: Stop | None = None,
            vehicle: Vehicle | None = None, on_text: OnText | None = None) -> str:
        """
        Answer a free question about the window; parameters and errors as in :meth:`describe`.

        The pictures are read once for all questions about a window until one is described.

        Parameters
        ----------
        on_text
            Given the answer piece by piece while it is written. Joined, the pieces are the answer.

        Returns
        -------
        The answer. Where the model was not taught the question, or does not know such pictures,
        a sentence that says so: what it would write then is no answer.

        """
        refusal = None
        if self.taught is not None and not self.taught.holds(question):
            refusal = self.taught.refusal(question)
        if refusal is None:
            watch = Stopwatch(self.clock)
            events = self._events_of(window)
            prepared = self.reader.read(
                window, self.prompts.ask(question).seen_by(_cameras_of(window)).about(
                    vehicle).telling(events),
                self._planner(False), watch, share=True, events=events)
            if self.knows(prepared) is False:
                refusal = NOTHING_KNOWN
        if refusal is not None:
            if on_text is not None:
                on_text(refusal)
            return refusal
        (generation,), _ = self.generate([prepared], watch, stop, on_text=on_text)
        return generation.text.strip()

    def _events_of(self, window: Window) -> tuple[Event, ...]:
        return self.events.near([frame.stamp_ns for frame in window])

    def description_prompt(self, window: Window, vehicle: Vehicle | None = None,
                           events: Sequence[Event] = ()) -> Prompt:
        """Return what is asked about a window; an enforced form is set to its cameras."""
        cameras, prompt = _cameras_of(window), self.prompts.description
        # The form of one camera is there from the start, and names none.
        named = tuple(prompt.said(cameras)) if len(cameras) > 1 and prompt.names_cameras else ()
        if self.config.structured and named != self._cameras:
            self.language_model.set_schema(schema(prompt.box, named, self.task.form))
            self._cameras = named
        return prompt.seen_by(cameras).about(vehicle).telling(events)

    def select(self, window: Window) -> Selection:
        """
        Return key frame and keep list alone, without asking the language model.

        Always those of window mode.
        """
        entries = self.cache.get_all(window, Stopwatch(self.clock))
        reader = self.reader if isinstance(self.reader, WindowReader) else WindowReader(
            self.cache, self.sparsifier, self.language_model, None)
        return reader.select(entries, self.config.keep_ratio, self._events_of(window))

    def generate(self, prepared: Sequence[PreparedWindow], watch: Stopwatch,
                 stop: Stop | None = None, *, is_report: bool = False, **options: Any
                 ) -> tuple[list[Generation], Sequence[NDArray[np.float32] | None]]:
        """
        Have the language model answer prompts, several at once.

        Parameters
        ----------
        is_report
            Whether the answers are descriptions, in their form and with their certainty.
        options
            Further ones of ``LanguageModel.generate_batch``.

        Returns
        -------
        The answers, and the log-probabilities of the tokens of each; None where nobody wants them.

        """
        certainty = TokenLogProbabilities() if is_report and self.calibration is not None else None
        if is_report:
            options['in_form'] = self.config.structured
        if certainty is not None:
            options['logits_processor'] = [certainty]
        # What several prompts of a batch have in common is read with each of them.
        if len(prepared) == 1 and prepared[0].prefix is not None:
            options['prefix'] = prepared[0].prefix
        generations = self.language_model.generate_batch(
            [window.inputs for window in prepared], [window.selection.keep for window in prepared],
            max_new_tokens=max(window.plan.max_new_tokens for window in prepared), stop=stop,
            **options)
        watch.ms.update(generations[0].latency_ms)
        self._counters.add(generations)
        rows: Sequence[NDArray[np.float32] | None] = [None] * len(prepared)
        return generations, rows if certainty is None else list(certainty.rows())

    def report(self, prepared: PreparedWindow, generation: Generation,
               log_probabilities: NDArray[np.float32] | None,
               latency_ms: dict[str, float]) -> SceneReport:
        """Return the report about an answer, ``unknown`` where the model must not speak."""
        report = self.writer.final_report(
            prepared, generation, self.knows(prepared), latency_ms)
        # How sure a model is of an answer that is not known says nothing of the road.
        if not self.calibration or log_probabilities is None or report.answer.risk == 'unknown':
            return report
        return replace(report, confidence=self.calibration.confidence(
            generation, log_probabilities, self.vlm.tokenizer))

    def knows(self, prepared: PreparedWindow) -> bool | None:
        """Return whether the model knows such pictures; None where nobody can tell."""
        return self.cache.knows(
            [measured for entry in prepared.entries for measured in entry.evidence])

    def frames_of(self, report: SceneReport) -> list[Frame | None]:
        """Return the frames of the last report; None for those that are no longer held."""
        return [self.reader.find((ref.camera, ref.stamp)) for ref in report.frames]

    def set_keep_ratio(self, keep_ratio: float) -> None:
        """Change the share of visual tokens that is kept, from the next window on."""
        self.config = replace(self.config, keep_ratio=keep_ratio)

    def set_deadline(self, deadline_ms: float) -> None:
        """Change the time for a description, from the next window on."""
        self.config = replace(self.config, deadline_ms=deadline_ms)

    def set_prompts(self, language: str, prompts: str) -> None:
        """Change what is asked, from the next window on; raises as :meth:`load` does."""
        if (language, prompts) != (self.config.language, self.config.prompts):
            asked = Prompts.load(language, prompt_file(self.config.task, prompts),
                                 self.language_model.convention,
                                 is_first=self.config.instructions == 'first')
            check_language(language, self.taught, self.language_model.name)
            if self.config.structured:
                self.language_model.set_schema(
                    schema(asked.description.box, of_task=self.task.form))
            self.prompts, self._cameras = asked, ()
            self.writer = self._make_writer()
            if self.speaking is not None:
                self.speaking.forget()
            self.config = replace(self.config, language=language, prompts=prompts)

    def warm_up(self, size: tuple[int, int], frames: int) -> None:
        """
        Choose tokens of a blank window, so that engines are built before a camera waits for them.

        Parameters
        ----------
        size
            Height and width of its pictures.
        frames
            Frames of the window, of all cameras.

        """
        blank = np.zeros((*size, 3), np.uint8)
        # In causal mode a frame is looked at alone or beside its key frame.
        for count in (1, 2) if self.reader.reads_on_arrival else (frames,):
            self.select([Frame('blank', number, blank) for number in range(count)])
        self.clear()

    def clear(self) -> None:
        """Forget all frames, for instance after time jumped back."""
        self.cache.clear()
        self.reader.clear()
        self.events.clear()
        if self.drafts is not None:
            self.drafts.clear()
        if self.speaking is not None:
            self.speaking.forget()

    def reset_context(self) -> None:
        """Forget what the language model has read, not what was computed of frames."""
        self.reader.forget()

    def stats(self) -> dict[str, float]:
        """
        Return what was not computed again so far, for diagnostics and benchmarks.

        Returns
        -------
        ``frames_new`` and ``frames_cached``: how often a frame was looked at, and was known
        already; ``tokens_read`` and ``tokens_reused``: how many tokens of pictures and before
        them were read, and were known already; ``drafted`` and ``accepted``: tokens that were
        guessed, and guessed right, ``draft_acceptance``: their ratio. With a deadline
        ``deadline_windows`` and ``deadline_misses``: how many windows had one, and how many were
        late. Where the model is not always asked ``speak_confirmed``, ``speak_risk_only`` and why
        it was asked, as ``speak_asked_change``. In causal mode also
        ``groups``, ``kv_frames``, ``kv_tokens`` and ``kv_bytes`` that are held, ``groups_evicted``
        and how many groups began for which reason (``groups_first``, ``groups_full``,
        ``groups_key``, ``groups_scene``).

        """
        found: dict[str, float] = {
            **{name: self.cache.counters[name] for name in ('frames_new', 'frames_cached')},
            **self._counters.drafted()}
        if self.config.deadline_ms:
            found.update(self._counters.deadlines())
        if self.speaking is not None:
            found.update({f'speak_{name}': number
                          for name, number in self.speaking.counters.items()})
        return {**found, **self.reader.stats()}

    def info(self) -> dict[str, str]:
        """Return what runs where, for logs and diagnostics."""
        vlm = {name: str(value) for name, value in self.language_model.info.items()}
        if isinstance(self.language_model, Vlm):
            vlm['kv_bytes_per_token'] = str(kv_token_bytes(self.language_model))
        return {'engine': self.sparsifier.engine, 'engine_choice': self.engine_choice,
                **self.sparsifier.info, **vlm,
                'guard': self.guard.known if self.guard else 'none: any picture is answered'}

    def close(self) -> None:
        """Free the memory of the models; the pipeline cannot be used afterwards."""
        self.clear()
        self.language_model.close()
        del self.cache, self.reader, self.writer, self.language_model, self.sparsifier

    def _make_writer(self) -> ReportWriter:
        return ReportWriter(self.language_model, self.sparsifier, self.prompts.description,
                            self.config.structured, self.task)

    def _planner(self, is_timed: bool) -> WindowPlanner:
        return WindowPlanner(Plan(self.config.keep_ratio, self.config.max_new_tokens),
                             self._deadline if is_timed else None, self.config.deadline_ms)


def check_language(language: str, taught: TaughtQuestions | None, model: str) -> None:
    """See that a model that was taught certain questions is asked in their language."""
    if taught is not None and language != 'en':
        raise PromptError(f'{model} was taught in English alone: set vlm.language to en, or '
                          'vlm.model to a checkpoint that knows other languages')


def _cameras_of(window: Window) -> tuple[str, ...]:
    return tuple(sorted({frame.camera for frame in window}))
