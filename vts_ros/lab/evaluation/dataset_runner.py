# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What evaluations on data sets of others have in common: bad rows, budgets, speed, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import time
from typing import Any, Generic, NamedTuple, TypeVar

from vts_ros.lab.evaluation.peak_memory import PeakMemory
from vts_ros.lab.evaluation.text_metrics import text_scores
from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline

Row = TypeVar('Row')
Said = TypeVar('Said')
#: Told what is done as a share of the whole, and what is being done.
Progress = Callable[[float, str], None]
#: So many bad rows are named; all are counted.
NAMED_ROWS = 50


class DatasetError(ValueError):
    """A data set that cannot be used; the message says why in one line."""


class BadRow(NamedTuple):
    """A row that is left out: which, and why."""

    row: str
    reason: str


class Loaded(NamedTuple, Generic[Row]):
    """The rows of a data set that can be used, and those that cannot."""

    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...]


@dataclass(frozen=True)
class Run(Generic[Said]):
    """
    Answers at one budget.

    Attributes
    ----------
    said
        One per row.
    seconds
        For all of them, pictures included: nothing was cached from one to the next.
    peak_mib
        Peak memory, None where the system does not tell.

    """

    said: tuple[Said, ...]
    seconds: float
    peak_mib: float | None

    def speed(self) -> dict[str, float | None]:
        """Return throughput and peak memory as metrics."""
        return {
            'answers_per_sec': round(len(self.said) / max(self.seconds, 1e-9), 4),
            'peak_memory_mib': None if self.peak_mib is None else round(self.peak_mib, 1)}


class Runs(NamedTuple, Generic[Row, Said]):
    """The rows that could be answered, the runs by budget, and rows that turned out bad."""

    rows: tuple[Row, ...]
    by_ratio: dict[float, Run[Said]]
    bad: tuple[BadRow, ...]


def run_budgets(pipeline: Pipeline, rows: Sequence[Row], name: Callable[[Row], str],
                answer: Callable[[Row], Said], budgets: Iterable[float],
                progress: Progress = lambda share, what: None) -> Runs[Row, Said]:
    """
    Answer all rows with all tokens and at every budget.

    A row whose pictures turn out broken is left out everywhere, so that all budgets are measured
    on the same rows.

    Parameters
    ----------
    pipeline
        Its keep ratio is changed and put back.
    name
        Names a row.
    answer
        Answers it; raises BrokenFrame, FrameError or OSError where its pictures are no good.
    budgets
        Keep ratios beside 1.0.

    Raises
    ------
    DatasetError
        If no row can be answered.

    """
    # From few tokens to many: see PeakMemory.
    ratios = sorted({1.0, *budgets})
    memory = PeakMemory(pipeline.vlm.model.device)
    before = pipeline.config.keep_ratio
    # Measured is what the model says, not of what it must not speak.
    guard, taught = pipeline.guard, pipeline.taught
    pipeline.guard = pipeline.taught = None
    bad: dict[int, BadRow] = {}
    said: dict[float, dict[int, Said]] = {}
    speed: dict[float, tuple[float, float | None]] = {}
    try:
        _warm_up(pipeline, rows, answer)
        for step, ratio in enumerate(ratios):
            pipeline.set_keep_ratio(ratio)
            said[ratio], seconds = {}, 0.0
            memory.reset()
            for index, row in enumerate(rows):
                progress((step + index / len(rows)) / len(ratios), f'{ratio:.0%} of the tokens')
                if index in bad:
                    continue
                pipeline.clear()
                start_sec = time.perf_counter()
                try:
                    said[ratio][index] = answer(row)
                except (BrokenFrame, OSError) as error:
                    bad[index] = BadRow(name(row), str(error))
                    continue
                seconds += time.perf_counter() - start_sec
            speed[ratio] = seconds, memory.mebibytes()
    finally:
        pipeline.set_keep_ratio(before)
        pipeline.guard, pipeline.taught = guard, taught
    progress(1.0, f'{len(rows)} rows')
    good = [index for index in range(len(rows)) if index not in bad]
    if not good:
        first = next(iter(bad.values()), None)
        raise DatasetError('no row can be answered'
                           + (f': {first.row}: {first.reason}' if first else ''))
    return Runs(
        tuple(rows[index] for index in good),
        {ratio: Run(tuple(said[ratio][index] for index in good), *speed[ratio])
         for ratio in ratios},
        tuple(bad.values()))


def _warm_up(pipeline: Pipeline, rows: Sequence[Row], answer: Callable[[Row], Said]) -> None:
    """Answer one row for nothing: the first answer pays for what is set up once."""
    for row in rows:
        pipeline.clear()
        try:
            answer(row)
        except (BrokenFrame, OSError):
            continue
        return


def by_budget(runs: Runs[Row, Said],
              score: Callable[[Run[Said]], dict[str, float | None]]) -> dict[str, Any]:
    """Return the metrics of every run as ``dense`` and ``vts``: ``{budget: metrics}``."""
    scored = {ratio: {**score(run), **run.speed()} for ratio, run in runs.by_ratio.items()}
    dense = scored.pop(1.0)
    return {'dense': dense,
            'vts': {f'{ratio:g}': scored[ratio] for ratio in sorted(scored, reverse=True)}}


class TextTally:
    """Scores of texts at every budget, and what was missing or used for them in any of them."""

    def __init__(self, missing: Mapping[str, str] | None = None) -> None:
        self.missing = dict(missing or {})
        self._tokenizers: set[str] = set()

    @property
    def tokenizer(self) -> str | None:
        """Return the name of the tokenizer; None before the first scores."""
        return min(self._tokenizers, default=None)

    def score(self, answers: Sequence[str], references: Sequence[Sequence[str]]
              ) -> dict[str, float | None]:
        """Return the metrics of answers against one or more references each."""
        scores = text_scores(answers, references)
        self.missing.update(scores.missing)
        self._tokenizers.add(scores.tokenizer)
        return dict(scores.values)


def write_answers(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write answers with all that is known about them, a line of JSON each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', encoding='utf-8') as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + '\n')


def bad_rows(*groups: Sequence[BadRow]) -> dict[str, Any]:
    """Return how many rows were left out, and the first of them by name."""
    rows = [row for group in groups for row in group]
    return {'count': len(rows), 'rows': [row._asdict() for row in rows[:NAMED_ROWS]]}


def fingerprint(ids: Iterable[str]) -> str:
    """Return a SHA-256 of the ids of rows in their order: equal for equal selections only."""
    return hashlib.sha256('\n'.join(ids).encode()).hexdigest()
