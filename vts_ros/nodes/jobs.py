# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the worker does: describe the newest window, read new pictures, answer a question."""

from __future__ import annotations

from collections.abc import Callable
import traceback
from typing import Any, TypeVar

from vts_ros.errors import VtsError
from vts_ros.nodes.camera import Cameras
from vts_ros.nodes.current_pictures import (
    CurrentPictures,
    StaleError,
    UnansweredError,
    UNDECODABLE,
    WaitingError,
)
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.parameter_table import Parameters
from vts_ros.nodes.worker import Stop
from vts_ros.pipeline.events import EventLog
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline
from vts_ros.pipeline.pipeline_health import PipelineHealth
from vts_ros.pipeline.report import SceneReport
from vts_ros.vlm import OnText
from vts_ros.vlm.vehicle import Vehicle

T = TypeVar('T')
Run = Callable[[Pipeline, list[Frame], Stop], T]

INTERRUPTED = 'interrupted'

#: Jobs of the worker that end when their pictures are no longer of interest.
DESCRIBE, READ, ASKED, QUESTION = JOBS = ('describe', 'read', 'describe now', 'question')
#: What must be done in any case.
CONTROL = 'control'


def format_error(error: Exception) -> str:
    """Return the log text of an error: one line if it was expected, else the traceback."""
    if isinstance(error, (VtsError, FileNotFoundError)):
        return str(error)
    return ''.join(traceback.format_exception(error)).rstrip()


class Jobs:
    """
    The jobs of one node; all of them run in the thread of its worker.

    Parameters
    ----------
    settings
        The parameters of the node, by name.
    clock, pictures, outputs
        Its clock, the present window, and its publishers.
    cameras, health
        Its cameras, and the record of its answers.
    vehicle
        Returns the present motion of the car; None if it is not known.
    log, is_up
        Its logger, and whether it is not just ending.

    Attributes
    ----------
    pipeline
        None while the node is not configured, or its server is not there.
    waits_for
        What must come before there is a pipeline; empty where nothing need.
    newest_described
        Camera and stamp of the newest picture that was described.

    """

    def __init__(self, settings: Parameters, clock: NodeClock, pictures: CurrentPictures,
                 outputs: Outputs, cameras: Cameras, health: PipelineHealth,
                 vehicle: Callable[[], Vehicle | None], log: Any, is_up: Callable[[], bool]
                 ) -> None:
        self._settings, self._clock, self._pictures = settings, clock, pictures
        self._outputs, self._cameras, self._vehicle = outputs, cameras, vehicle
        self._health, self._log, self._is_up = health, log, is_up
        self.pipeline: Pipeline | None = None
        self.waits_for = ''
        self.newest_described: tuple[str, int] | None = None

    @property
    def events(self) -> EventLog | None:
        """Return where other senses note what they notice; None without a pipeline."""
        pipeline = self.pipeline
        return None if pipeline is None else pipeline.events

    def read(self, stop: Stop) -> None:
        """Prefill new pictures although no answer is due."""
        self.attempt(self._read_newest, stop)

    def clear(self, pipeline: Pipeline | None) -> None:
        """Forget everything: what was seen and said belongs to another drive."""
        self.newest_described = None
        self._pictures.forget()
        if pipeline:
            pipeline.clear()
            self._health.stats = pipeline.stats()

    def describe(self, is_full: bool, stop: Stop) -> tuple[bool, str]:
        """Describe and publish the newest window; return as :meth:`attempt` does."""
        done, text = self.attempt(lambda end: self._describe_newest(is_full, end), stop)
        # A camera that now and then sends a broken picture must not make the risk flicker.
        is_flicker = text == UNDECODABLE and self.newest_described and \
            self._pictures.is_current(self.newest_described[1])
        if not (done or is_flicker):
            self._outputs.retract(text)
        return done, text

    def _describe_newest(self, is_full: bool, stop: Stop) -> str:
        # An answer that somebody asks for, or that was retracted, is not merely confirmed.
        insist = not is_full or not self._outputs.stands
        report = self._run_on_newest(is_full, lambda pipeline, window, end: self._describe_new(
            pipeline, window, end, insist), stop)
        # Nothing is published that was retracted meanwhile.
        with self._outputs.lock:
            if stop():
                raise UnansweredError(INTERRUPTED)
            self._publish(report)
        return report.answer.description

    def _publish(self, report: SceneReport) -> None:
        newest = report.frames[-1]
        self.newest_described = newest.camera, newest.stamp
        report = self._outputs.publish(
            report, self._cameras.frame_id(report.shown_frame.camera),
            self._settings['markers.frame_id'], self._settings['max_answer_age_sec'])
        self._health.described(report)

    def _describe_new(self, pipeline: Pipeline, window: list[Frame], stop: Stop,
                      insist: bool) -> SceneReport:
        if self._pictures.is_described(window[-1].key, self.newest_described):
            raise UnansweredError(UNDECODABLE)
        return pipeline.describe(window, stop, self._vehicle(), insist=insist,
                                 on_risk=lambda report: self._tell_risk(report, stop))

    def _tell_risk(self, report: SceneReport, stop: Stop) -> None:
        """Publish the risk before the texts are written."""
        with self._outputs.lock:
            if not stop():
                frame_id = self._cameras.frame_id(report.shown_frame.camera)
                self._outputs.publish_risk(report, frame_id)

    def _read_newest(self, stop: Stop) -> str:
        self._run_on_newest(True, lambda pipeline, window, end: pipeline.ingest(window), stop)
        return 'read'

    def _run_on_newest(self, is_full: bool, run: Run[T], stop: Stop) -> T:
        """Run the pipeline on the newest window, without the frames that turn out broken."""
        pipeline, settings = self.pipeline, self._settings
        if self.waits_for and self._cameras:
            raise WaitingError(self.waits_for)
        if pipeline is None or not self._cameras:
            raise UnansweredError('the node is not active')
        if self._clock.is_waited_for:
            raise UnansweredError('use_sim_time is set, and nobody publishes /clock')
        pipeline.set_keep_ratio(settings['sparsify.keep_ratio'])
        pipeline.set_deadline(settings['pipeline.deadline_ms'])
        pipeline.set_prompts(settings['vlm.language'], settings['vlm.prompts'])
        try:
            while True:
                # Anew each time: without the broken frames the others may be too old.
                window = self._pictures.window(is_full)
                try:
                    result = run(pipeline, window, stop)
                    break
                except BrokenFrame as broken:
                    self._pictures.drop(broken)
        finally:
            # For diagnostics: another thread must not look into a pipeline that runs.
            self._health.stats = pipeline.stats()
        if stop():
            raise UnansweredError(INTERRUPTED)
        return result

    def attempt(self, job: Callable[[Stop], str], stop: Stop) -> tuple[bool, str]:
        """Run a job; return whether it worked, and its text or what was in the way."""
        try:
            return True, job(stop)
        except UnansweredError as reason:
            self._health.counters['unanswered'] += 1
            if self._is_up() and isinstance(reason, StaleError):
                # Most often a clock that is not set: without a warning nobody would look for it.
                self._log.warning(f'no answer: {reason}', throttle_duration_sec=5.0)
            elif self._is_up() and not isinstance(reason, WaitingError):
                self._log.info(f'no answer: {reason}', throttle_duration_sec=5.0)
            return False, str(reason)
        except Exception as error:
            if not self._is_up():
                return False, 'the node is ending'
            # The node stays up and says so. It never makes up an answer, least of all "no risk".
            failure = self._health.failed(error)
            self._log.error(f'no answer: {format_error(error)}', throttle_duration_sec=5.0)
            return False, failure

    def ask(self, question: str, stop: Stop, on_text: OnText) -> str:
        """Answer a question about the newest window; on_text gets the answer piece by piece."""
        return self._run_on_newest(False, lambda pipeline, window, end: pipeline.ask(
            window, question, end, self._vehicle(), on_text), stop)
