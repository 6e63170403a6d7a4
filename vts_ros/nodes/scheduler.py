# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When the newest window is described, and when what was said of it is taken back."""

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
    Has the worker describe what comes, as often as the settings want it.

    It is called in the thread of the callbacks and does no work there.

    Parameters
    ----------
    settings
        The parameters of the node, by name.
    cameras, pictures
        What the node listens to, and the window of that.
    worker, jobs
        Who describes, and how.
    outputs, health
        What the node says, and what became of its answers.
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
        """Return whether descriptions are given that nobody asks for."""
        return self._is_enabled

    @property
    def state(self) -> str:
        """Return what the node does, in words."""
        if not self._cameras:
            return 'not active'
        if not self._is_enabled:
            return 'disabled'
        return 'enabled' if self._is_heard() else 'idle: nobody listens'

    def enable(self, is_enabled: bool) -> None:
        """Give descriptions that nobody asks for, or no longer."""
        self._is_enabled = is_enabled
        self._health.due()
        if not is_enabled:
            self.fall_silent('the node was disabled')

    def on_frame(self, camera: Camera, frame: Frame) -> None:
        """Take a frame in, and have the window described that it completes."""
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
        """Start with an empty window after the clock went back."""
        self._pictures.buffer.clear()
        self._forget()

    def interrupt(self, reason: str) -> None:
        """Take the last answer back at once, and end whatever is being computed."""
        self._retract(reason, *JOBS)

    def fall_silent(self, reason: str) -> None:
        """Take the last answer back at once, and give up the one that nobody asked for."""
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
            # The last answer reaches who listens later: it must not be taken for a new one.
            self.fall_silent('nobody was listening')
            self._health.due()
            return
        idle_sec = time.monotonic() - self._last_start
        if idle_sec < self._settings['pipeline.period_sec'] or not self._worker.offer(
                DESCRIBE, self._describe_unasked):
            self._health.counters['skipped'] += 1
            if self._settings['sparsify.mode'] == 'causal':
                # New pictures are read although no answer is due.
                self._worker.offer(READ, self._jobs.read)

    def _describe_unasked(self, stop: Stop) -> None:
        self._last_start = time.monotonic()
        self._jobs.describe(True, stop)

    def _forget(self) -> None:
        """Start anew after time went back: what is being computed is about another drive."""
        self.interrupt('time went back')
        pipeline = self._jobs.pipeline
        self._worker.submit(CONTROL, lambda stop: self._jobs.clear(pipeline))
        for camera in self._cameras:
            camera.health.forget()
        self._log.info('time went back: starting with an empty window')

    def _is_heard(self) -> bool:
        """Return whether somebody listens to descriptions, or nobody has to."""
        return not self._settings['pipeline.lazy'] or self._outputs.is_heard()
