# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What one worker does: describe recordings, or stretches of them, with models loaded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import BagError, VtsError
from vts_ros.fleet.answer_tables import Answers, FleetFolder, FleetSettings, StorageError
from vts_ros.fleet.signals import add_signals
from vts_ros.fleet.sources import Recording
from vts_ros.fleet.stretches import (
    describe_stretch,
    describe_whole,
    is_worth_cutting,
    make_plan,
    NumberedFrame,
)
from vts_ros.pipeline.factory import load_pipeline
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.tools.described_frames import Pair

LONGEST_REASON = 300


@dataclass(frozen=True)
class Job:
    """
    What a worker is given.

    Attributes
    ----------
    stretch
        Which stretch of a recording that was cut; None: the whole of it, or cut it.
    is_last
        All stretches are there: put them together.

    """

    recording: Recording
    stretch: int | None = None
    is_last: bool = False


@dataclass(frozen=True)
class Outcome:
    """
    What came of a job.

    Attributes
    ----------
    answers, refused
        How many there are, and of how many of them the model does not know such pictures.
    stretches
        Those that are to be done; the recording was cut.
    is_done
        Whether the recording has all of its results.
    failure
        Why the recording has none.
    halt
        Why no worker can go on.

    """

    answers: int = 0
    refused: int = 0
    stretches: tuple[int, ...] = ()
    is_done: bool = False
    failure: str = ''
    halt: str = ''


class FleetWorker:
    """
    Describes recordings one after the other.

    Parameters
    ----------
    root
        Folder for the results, the same for all workers.

    """

    def __init__(self, root: Path, settings: FleetSettings) -> None:
        self._folder, self._settings = FleetFolder(root), settings

    @cached_property
    def _pipeline(self) -> Pipeline:
        return load_pipeline(self._settings.config)

    def load(self) -> str:
        """Load the models; return why that does not work, or nothing."""
        try:
            assert self._pipeline
        except Exception as error:
            return one_line(error)
        return ''

    def do(self, job: Job) -> Outcome:
        """Do a job; whatever goes wrong is part of the outcome."""
        if why_not := self.load():
            # No recording is to blame, and this worker would fail one after the other.
            return Outcome(halt=f'a worker cannot load the models: {why_not}')
        try:
            with job.recording.local() as bag:
                if job.is_last:
                    return self._join(job.recording, bag)
                if job.stretch is not None:
                    return self._stretch(job.recording, bag, job.stretch)
                return self._cut(job.recording, bag) or self._whole(job.recording, bag)
        except StorageError as error:
            return Outcome(halt=one_line(error))
        except Exception as error:
            return Outcome(failure=one_line(error))

    def _cut(self, recording: Recording, bag: Path) -> Outcome | None:
        """Return the stretches of a long recording; None if it is described as a whole."""
        settings = self._settings
        plan = self._folder.plan(recording)
        if plan is None:
            # To be fetched anew for every stretch would cost more than it gives.
            if recording.is_remote or not is_worth_cutting(
                    bag, settings.config, settings.stretch_sec, settings.signals):
                return None
            plan = make_plan(bag, settings.windows, settings.stretch_sec)
            if plan is None:
                return None
            self._folder.write_plan(recording, plan)
        missing = self._folder.missing(recording, plan)
        return Outcome(stretches=tuple(missing)) if missing else self._join(recording, bag)

    def _whole(self, recording: Recording, bag: Path) -> Outcome:
        counters: Counter[str] = Counter()
        answers = self._collect(recording, describe_whole(
            self._pipeline, bag, self._settings.windows, counters, self._settings.signals))
        if not answers:
            seen = ', '.join(f'{count} {name}' for name, count in counters.items() if count)
            raise BagError(f'no answer: the window was never full ({seen or "no frames"})')
        told, timings = answers.tables()
        self._folder.finish(recording, add_signals(told, bag), timings, counters)
        return Outcome(len(answers), answers.refused, is_done=True)

    def _stretch(self, recording: Recording, bag: Path, number: int) -> Outcome:
        plan = self._folder.plan(recording)
        if plan is None:
            raise BagError('the recording has changed since it was cut into stretches')
        counters: Counter[str] = Counter()
        answers = self._collect(recording, describe_stretch(
            self._pipeline, bag, self._settings.windows, plan, number, counters))
        self._folder.write_stretch(recording, number, *answers.tables(),
                                   {'unanswered': counters['unanswered']})
        return Outcome(len(answers), answers.refused)

    def _join(self, recording: Recording, bag: Path) -> Outcome:
        plan = self._folder.plan(recording)
        assert plan is not None
        answers, timings, counters = self._folder.join(recording, plan)
        self._folder.finish(recording, add_signals(answers, bag), timings, counters)
        return Outcome(is_done=True)

    def _collect(self, recording: Recording, pairs: Iterable[Pair]) -> Answers:
        answers = Answers(recording)
        for frames, report in pairs:
            newest = frames[-1]
            assert isinstance(newest, NumberedFrame)
            # Known since the answer, so that nothing is computed here.
            entry = self._pipeline.cache.look(newest, Stopwatch())
            answers.add(report, newest.received_ns, look(entry.proposal.embedding))
        return answers


def look(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Return what a picture looks like as a whole.

    Parameters
    ----------
    embedding
        float32 [C, h, w], of the cells.

    Returns
    -------
    float32 [C], of length 1.

    """
    cells = embedding if isinstance(embedding, np.ndarray) else embedding.cpu().numpy()
    mean = cells.mean(axis=(1, 2), dtype=np.float64)
    return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)


def one_line(error: BaseException) -> str:
    """Return an error as one line; one that nobody foresaw with its kind."""
    text = shorten(str(error), LONGEST_REASON, placeholder=' ...')
    if isinstance(error, VtsError) and text:
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
