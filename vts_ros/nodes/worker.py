# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The only thread that runs the pipeline, and its queue of jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
import threading
from typing import Any, TypeVar

T = TypeVar('T')
#: Returns whether the result of a job is no longer wanted.
Stop = Callable[[], bool]
NAME = 'pipeline'


@dataclass
class _Job:
    name: str
    run: Callable[[Stop], Any]
    result: Future[Any] = field(default_factory=Future)
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """
    Runs jobs in turn, in its own thread.

    At most one offered job of each name waits: it takes the newest window when its turn comes, so
    a second job would do the same.
    """

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._running: _Job | None = None
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._work, name=NAME, daemon=True)
        self._thread.start()

    @property
    def running(self) -> str:
        """Return the name of the running job, or ``''``."""
        job = self._running
        return job.name if job else ''

    def offer(self, name: str, run: Callable[[Stop], object]) -> bool:
        """Queue a job; return False if one of this name waits, or the worker is closing."""
        with self._changed:
            if not self._is_open or any(job.name == name for job in self._jobs):
                return False
            self._jobs.append(_Job(name, run))
            self._changed.notify()
            return True

    def submit(self, name: str, run: Callable[[Stop], T]) -> Future[T]:
        """Queue a job in any case; return its future result."""
        job = _Job(name, run)
        with self._changed:
            if self._is_open:
                self._jobs.append(job)
                self._changed.notify()
            else:
                job.result.cancel()
        return job.result

    def cancel(self, *names: str) -> None:
        """Drop the waiting jobs of these names, and ask the running one to end."""
        with self._changed:
            dropped = [job for job in self._jobs if job.name in names]
            for job in dropped:
                self._jobs.remove(job)
            if self._running and self._running.name in names:
                self._running.cancelled.set()
        for job in dropped:
            job.cancelled.set()
            job.result.cancel()

    def close(self, timeout_sec: float) -> bool:
        """End the thread, or abandon it after a while; return whether it has ended."""
        with self._changed:
            self._is_open = False
            if self._running:
                self._running.cancelled.set()
            dropped = list(self._jobs)
            self._jobs.clear()
            self._changed.notify()
        for job in dropped:
            job.result.cancel()
        self._thread.join(timeout_sec)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if not job.result.set_running_or_notify_cancel():
                continue
            try:
                job.result.set_result(job.run(job.cancelled.is_set))
            except BaseException as error:
                # Whoever asked is told; a job that was offered has told it itself.
                job.result.set_exception(error)

    def _next(self) -> _Job | None:
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._jobs or not self._is_open)
            if not self._jobs:
                return None
            self._running = self._jobs.popleft()
            return self._running
