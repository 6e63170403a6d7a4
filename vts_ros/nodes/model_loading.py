# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Load the models of the node and free them; wait for a server that is not there yet."""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vts_ros.errors import ServerNotReady
from vts_ros.nodes.jobs import CONTROL, format_error, Jobs
from vts_ros.nodes.parameter_table import Parameters
from vts_ros.nodes.worker import Worker
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.pipeline_health import PipelineHealth
from vts_ros.sparsify.compiled_steps import picture_size

#: How often a server that is not there yet is asked again: it may load its model for minutes.
RETRY_SEC = 2.0
#: Name of the job that asks it.
CONTACT = 'contact the server'


class ModelLoading:
    """
    Gives the jobs of a node their pipeline; called in the thread of the callbacks.

    Parameters
    ----------
    node
        Gets the timer.
    settings
        Its parameters, by name.
    worker, jobs
        The thread of the models, and what needs them.
    health
        Is told what is loaded, and what is waited for.

    """

    def __init__(self, node: Node, settings: Any, worker: Worker, jobs: Jobs,
                 health: PipelineHealth) -> None:
        self._settings, self._worker, self._jobs, self._health = settings, worker, jobs, health
        self._log, self._told = node.get_logger(), ''
        # A steady timer, as simulated time may stand still.
        self._timer = node.create_timer(
            RETRY_SEC, self._ask_again, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()

    @property
    def is_waiting(self) -> bool:
        """Return whether a server is waited for."""
        return bool(self._jobs.waits_for)

    def load(self, *, may_wait: bool) -> None:
        """
        Load the models, in place of those that are loaded.

        Parameters
        ----------
        may_wait
            Whether a server that is not there yet is waited for, without blocking.

        Raises
        ------
        VtsError
            If they cannot be loaded.

        """
        # A configuration that failed must not leave a second model beside the next one.
        self.free()
        try:
            self._load()
        except ServerNotReady as error:
            if not may_wait:
                raise
            self._wait(error)
            self._timer.reset()

    def _load(self) -> None:
        settings: Parameters = self._settings
        size = picture_size(settings['engine.frame_size'])
        pipeline = Pipeline.load(self._settings.pipeline_config())
        try:
            if settings['engine.frame_size'] or settings['engine.build_only']:
                pipeline.warm_up(size, settings['buffer.frames'] * len(settings['cameras']))
            self._health.info = pipeline.info()
        except Exception:
            pipeline.close()
            raise
        self._jobs.pipeline, self._jobs.waits_for = pipeline, ''
        if pipeline.guard is None:
            self._log.warning(
                f'{self._health.info["name"]} has no guard: it answers about any picture, '
                'also those unlike its training data (docs/embedded_model.md)')
        self._log.info('loaded: ' + ', '.join(
            f'{name} {value}' for name, value in self._health.info.items()))

    def _wait(self, error: Exception) -> None:
        """Say what is waited for, in one line and once."""
        self._jobs.waits_for = f'waiting for the server: {error}'
        self._health.waits(error)
        # How it is not there changes while it starts: refused, mute, busy.
        told = str(error) if not isinstance(error, ServerNotReady) else 'not ready'
        if told != self._told:
            self._told = told
            self._log.warning(f'{format_error(error)}; asking again every {RETRY_SEC:g} s')

    def _ask_again(self) -> None:
        if not self.is_waiting:
            self._timer.cancel()
        else:
            self._worker.offer(CONTACT, lambda stop: self._try())

    def _try(self) -> None:
        """Load in the thread of the worker: a server that is mute holds up no callback."""
        if not self.is_waiting:
            return
        try:
            self._load()
        except Exception as error:
            # Also what is wrong with it when it is there: somebody may start it again.
            self._wait(error)
        else:
            self._told = ''
            self._health.contacted()

    def free(self) -> None:
        """Free the models, and wait for no server."""
        self._timer.cancel()
        if self.is_waiting:
            # What is just being loaded is loaded, and then freed.
            self._worker.submit(CONTROL, lambda stop: None).result()
        self._jobs.waits_for, self._told = '', ''
        pipeline, self._jobs.pipeline = self._jobs.pipeline, None
        if pipeline:
            self._worker.submit(CONTROL, lambda stop: pipeline.close()).result()
        self._health.unloaded()
