# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When the newest window is described, and when the answer is retracted."""

from __future__ import annotations

from concurrent.futures import Future
import time
from typing import Any

from vts_ros.nodes.camera import Camera, Cameras
from vts_ros.nodes.current_pictures import CurrentPictures
from vts_ros.nodes.jobs import ASKED, CONTROL, DESCRIBE, JOBS, Jobs, READ
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.parameter_table import Parameters
from vts_ros.nodes.worker import Stop, Worker
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline_health import PipelineHealth


class Scheduler:
    """
    Has the worker describe windows, as often as the settings ask for.

    It is called in the thread of the callbacks and does no work there.

    Parameters
    ----------
    settings
        The parameters of the node, by name.
    cameras, pictures
        The cameras of the node, and their present window.
    worker, jobs
        Who describes, and how.
    outputs, health
        Its publishers, and the record of its answers.
    log
        Its logger.

    """

    def __init__(self, settings: Parameters, cameras: Cameras, pictures: CurrentPictures,
                 worker: Worker, jobs: Jobs, outputs: Outputs, health: PipelineHealth, log: Any
                 ) -> None:
        self._settings, self._cameras, self._pictures = settings, cameras, pictures
        self._worker, self._jobs, self._outputs = worker, jobs, outputs
        self._health, self._log = health, log
        self._is_enabled = True
        self._last_start = float('-inf')

    @property
    def is_enabled(self) -> bool:
        """Return whether descriptions are published without being asked for."""
        return self._is_enabled

    @property
    def state(self) -> str:
        """Return the state of the node in words."""
        if not self._cameras:
            return 'not active'
        if not self._is_enabled:
            return 'disabled'
        return 'enabled' if self._is_heard() else 'idle: nobody listens'

    def enable(self, is_enabled: bool) -> None:
        """Publish descriptions without being asked, or stop that."""
        self._is_enabled = is_enabled
        self._health.due()
        if not is_enabled:
            self.fall_silent('the node was disabled')

    def on_frame(self, camera: Camera, frame: Frame) -> None:
        """Add a frame, and have the window described that it completes."""
        outcome, window = self._pictures.buffer.advance(frame)
        camera.health.placed(outcome, frame.stamp_ns)
        if outcome == 'back':
            self._forget()
        if window:
            self._request()

    def describe_now(self) -> Future[tuple[bool, str]]:
        """Have the newest window described in any case; return as :meth:`Jobs.describe` does."""
        return self._worker.submit(ASKED, lambda stop: self._jobs.describe(False, stop))

    def start_anew(self) -> None:
        """Start with an empty window, as the clock went back."""
        self._pictures.buffer.clear()
        self._forget()

    def interrupt(self, reason: str) -> None:
        """Retract the last answer at once, and cancel all jobs."""
        self._retract(reason, *JOBS)

    def fall_silent(self, reason: str) -> None:
        """Retract the last answer at once, and cancel the description that was not asked for."""
        self._retract(reason, DESCRIBE)

    def _retract(self, reason: str, *jobs: str) -> None:
        # In one step: no job that ends just now may say something behind it.
        with self._outputs.lock:
            self._worker.cancel(*jobs)
            self._outputs.retract(reason)

    def _request(self) -> None:
        """Have the newest window described, unless that is not due."""
        if not self._is_enabled:
            return
        if not self._is_heard():
            # A late joiner gets the last answer, and must not take it for a new one.
            self.fall_silent('nobody was listening')
            self._health.due()
            return
        idle_sec = time.monotonic() - self._last_start
        if idle_sec < self._settings['pipeline.period_sec'] or not self._worker.offer(
                DESCRIBE, self._describe_unasked):
            self._health.counters['skipped'] += 1
            if self._settings['sparsify.mode'] == 'causal':
                # New pictures are prefilled although no answer is due.
                self._worker.offer(READ, self._jobs.read)

    def _describe_unasked(self, stop: Stop) -> None:
        self._last_start = time.monotonic()
        self._jobs.describe(True, stop)

    def _forget(self) -> None:
        """Forget everything after time went back: running jobs are about another drive."""
        self.interrupt('time went back')
        pipeline = self._jobs.pipeline
        self._worker.submit(CONTROL, lambda stop: self._jobs.clear(pipeline))
        for camera in self._cameras:
            camera.health.forget()
        self._log.info('time went back: starting with an empty window')

    def _is_heard(self) -> bool:
        """Return whether somebody subscribes, or descriptions do not depend on it."""
        return not self._settings['pipeline.lazy'] or self._outputs.is_heard()
