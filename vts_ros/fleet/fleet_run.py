# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Hand recordings out to workers on Ray, and keep the account of what came of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
import logging
import math
import os
from pathlib import Path
import tempfile
import time
from typing import Any

from vts_ros.fleet.answer_tables import FleetFolder, FleetSettings
from vts_ros.fleet.fleet_metrics import FleetMetrics
from vts_ros.fleet.fleet_worker import FleetWorker, Job, Outcome
from vts_ros.fleet.sources import FleetError, Recording

# Read when Ray is imported: it would report to its makers.
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')

import ray
from ray.exceptions import RayError

#: A worker that dies is started again, and does its job again so many times.
RETRIES = 2
#: Recordings do not go through Ray's store, only their names: the least that it accepts.
_STORE_BYTES = 80 * 2**20
#: Paths of sockets may have about a hundred characters, and Ray adds to them.
_LONGEST_FOLDER = 30
#: So often it is tried to start a cluster.
_STARTS = 3
#: What Ray's dashboard needs beside Ray.
_DASHBOARD = ('aiohttp_cors', 'opencensus', 'prometheus_client')
#: What tasks are called in Ray's dashboard, and their processes while they do it.
DESCRIBE, DESCRIBE_STRETCH, JOIN = 'describe', 'describe stretch', 'join stretches'
#: Account of failures, at most so often.
_FAILURES_SEC = 2.0

Progress = Callable[['Totals'], None]


@dataclass(frozen=True)
class ClusterOptions:
    """
    Where workers run, and what each of them takes.

    Attributes
    ----------
    address
        Of a running cluster; none starts one on this machine, and ends it.
    workers
        How many; 0 takes as many as there are GPUs, or processors where there are none.
    cpus, gpus
        Of one worker; may be fractions. Without ``gpus``, one where there is one.

    """

    address: str = ''
    workers: int = 0
    cpus: float = 1.0
    gpus: float | None = None


@dataclass
class Totals:
    """
    The account of a run.

    Attributes
    ----------
    recordings
        All that there are.
    before
        Those that an earlier run has done.
    done, answers, refused
        Recordings and answers of this run, and answers about pictures that the model does not
        know.
    failures
        Reasons by recording.

    """

    recordings: int
    before: int = 0
    done: int = 0
    answers: int = 0
    refused: int = 0
    workers: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        """Return the number of recordings left."""
        return self.recordings - self.before - self.done - len(self.failures)

    @property
    def per_sec(self) -> float:
        """Return answers per second so far."""
        return self.answers / max(time.monotonic() - self.started, 1e-9)

    @property
    def eta_sec(self) -> float | None:
        """Return the estimated time left, if recordings are alike."""
        ended = self.done + len(self.failures)
        return (time.monotonic() - self.started) / ended * self.left if ended else None


def annotate_fleet(recordings: Sequence[Recording], root: Path, settings: FleetSettings,
                   options: ClusterOptions | None = None, progress: Progress | None = None
                   ) -> Totals:
    """
    Describe recordings that are not described yet.

    What is there stays there, however this ends; called again, it goes on.

    Parameters
    ----------
    root
        Folder for the results; where workers run on other machines, one that all of them have.
    progress
        Called when something has changed.

    Raises
    ------
    FleetError
        If nothing can be done, or not go on: the folder is held by another run or has answers
        with other settings, models cannot be loaded, the disk is full.

    """
    folder, options = FleetFolder(root.absolute()), options or ClusterOptions()
    with folder.opened(settings):
        totals = Totals(len(recordings))
        waiting = (Job(recording) for recording in recordings
                   if not _is_before(folder, recording, totals))
        first = next(waiting, None)
        try:
            if first is not None:
                with _cluster(options), _workers(folder, settings, options) as workers:
                    totals.workers, totals.started = len(workers), time.monotonic()
                    _Run(folder, workers, totals, progress or (lambda _: None)).all(
                        first, waiting)
        finally:
            folder.write_failures(totals.failures)
    return totals


def _is_before(folder: FleetFolder, recording: Recording, totals: Totals) -> bool:
    is_done = folder.is_done(recording)
    totals.before += is_done
    return is_done


@contextmanager
def _cluster(options: ClusterOptions) -> Iterator[None]:
    """Join a cluster, or start one here and end it."""
    quiet: dict[str, Any] = {'log_to_driver': False, 'logging_level': logging.ERROR,
                             'configure_logging': True}
    if options.address:
        try:
            ray.init(options.address, **quiet)
        except (RayError, OSError, ValueError, RuntimeError) as error:
            raise FleetError(f'no Ray cluster at {options.address}: '
                             f'{str(error).splitlines()[0]}') from error
        try:
            yield
        finally:
            ray.shutdown()
        return
    parent = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(
            prefix='vts_ray_', dir=parent if len(parent) <= _LONGEST_FOLDER else '/tmp',
            ignore_cleanup_errors=True) as home:
        cpus = _processors() if not options.workers else options.workers * options.cpus
        _start(num_cpus=max(1, math.ceil(cpus)), object_store_memory=_STORE_BYTES, _temp_dir=home,
               # Without what the dashboard needs, Ray would say so at length.
               include_dashboard=all(map(find_spec, _DASHBOARD)), **quiet)
        try:
            yield
        finally:
            ray.shutdown()


def _start(**how: Any) -> None:
    """Start a cluster; a busy machine may need more time than Ray gives its parts."""
    for attempt in range(_STARTS):
        try:
            ray.init(**how)
        except Exception as error:
            ray.shutdown()
            if attempt == _STARTS - 1:
                raise FleetError('Ray cannot be started here: '
                                 f'{_first_line(error)}') from error
        else:
            return


def _processors() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _workers(folder: FleetFolder, settings: FleetSettings, options: ClusterOptions
             ) -> Iterator[list[Any]]:
    """Start workers, see that they can work, and end them."""
    there = ray.cluster_resources()
    is_local = settings.config.vlm_backend == 'transformers'
    gpus = options.gpus
    if gpus is None:
        gpus = 1.0 if there.get('GPU') and is_local and settings.config.device != 'cpu' else 0.0
    count = options.workers or int(
        there.get('GPU', 0.0) / gpus if gpus else there.get('CPU', 1.0) / options.cpus)
    if count * gpus > there.get('GPU', 0.0) or count * options.cpus > there.get('CPU', 0.0):
        raise FleetError(
            f'{count} workers with {options.cpus:g} processors and {gpus:g} GPUs each are more '
            f'than there is: {there.get("CPU", 0):g} processors, {there.get("GPU", 0):g} GPUs')
    # The same number of threads everywhere, or sums would be rounded differently.
    config, share = settings.config, max(1, int(options.cpus))
    # Drafts go by what was answered before and by the clock, and with them the last bit of how
    # sure an answer is: results are to be the same whatever the number of workers.
    settings = replace(settings, config=replace(
        config, threads=config.threads or share, engine_threads=config.engine_threads or share,
        draft=False))
    worker: Any = ray.remote(FleetWorker).options(
        num_cpus=options.cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES)
    workers = [worker.remote(folder.root, settings) for _ in range(max(1, count))]
    try:
        try:
            why_not = ray.get(workers[0].load.remote())
        except RayError as error:
            raise FleetError(f'a worker cannot be started: {_first_line(error)}') from error
        if why_not:
            raise FleetError(why_not)
        yield workers
    finally:
        for worker in workers:
            ray.kill(worker)


class _Run:
    """Gives every worker one job at a time until none is left."""

    def __init__(self, folder: FleetFolder, workers: Sequence[Any], totals: Totals,
                 progress: Progress) -> None:
        self._folder, self._free = folder, list(workers)
        self._totals, self._progress = totals, progress
        self._in_work: dict[Any, tuple[Any, Job]] = {}
        # Of recordings that were cut: what comes next, and how much is still missing.
        self._next: deque[Job] = deque()
        self._missing: dict[str, int] = {}
        self._told = 0.0
        self._metrics = FleetMetrics()

    def all(self, first: Job, waiting: Iterator[Job]) -> None:
        """Do all jobs."""
        self._next.append(first)
        while True:
            while self._free and (job := self._take(waiting)):
                worker = self._free.pop()
                # Under this name it is in Ray's dashboard. Not that of the recording: Ray keeps
                # an account of every name for good.
                task = worker.do.options(name=_kind(job)).remote(job)
                self._in_work[task] = worker, job
            if not self._in_work:
                return
            self._progress(self._totals)
            totals = self._totals
            self._metrics.tell(totals.before + totals.done, totals.left, len(totals.failures),
                               totals.per_sec, totals.eta_sec)
            done, _ = ray.wait(list(self._in_work), timeout=1.0)
            for task in done:
                worker, job = self._in_work.pop(task)
                self._free.append(worker)
                self._note(job, _outcome(task))

    def _take(self, waiting: Iterator[Job]) -> Job | None:
        return self._next.popleft() if self._next else next(waiting, None)

    def _note(self, job: Job, outcome: Outcome) -> None:
        if outcome.halt:
            raise FleetError(f'{outcome.halt}; what is done is kept, the same command goes on')
        uri, totals = job.recording.uri, self._totals
        totals.answers += outcome.answers
        totals.refused += outcome.refused
        if outcome.failure:
            self._fail(job.recording, outcome.failure)
        elif outcome.is_done:
            totals.done += 1
        elif outcome.stretches:
            self._missing[uri] = len(outcome.stretches)
            self._next.extend(Job(job.recording, number) for number in outcome.stretches)
        elif uri in self._missing:
            self._missing[uri] -= 1
            if not self._missing[uri]:
                del self._missing[uri]
                self._next.appendleft(Job(job.recording, is_last=True))

    def _fail(self, recording: Recording, reason: str) -> None:
        self._totals.failures[recording.uri] = reason
        self._missing.pop(recording.uri, None)
        self._next = deque(job for job in self._next if job.recording != recording)
        if time.monotonic() - self._told > _FAILURES_SEC:
            self._folder.write_failures(self._totals.failures)
            self._told = time.monotonic()


def _kind(job: Job) -> str:
    return JOIN if job.is_last else DESCRIBE if job.stretch is None else DESCRIBE_STRETCH


def _outcome(task: Any) -> Outcome:
    try:
        return ray.get(task)
    except RayError as error:
        return Outcome(failure=f'the worker died {RETRIES + 1} times (out of memory?): '
                               f'{_first_line(error)}')


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
