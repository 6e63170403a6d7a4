# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a language model makes of the tokens that each score keeps.

What was answered is kept on disk, some windows in a file, so that the same call goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import score
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.kept_rows import kept_rows, Row
from vts_ros.lab.evaluation.method_comparison import answer_all, EvaluatedWindow, prepare_window
from vts_ros.lab.evaluation.score_recall import figures, FIRST, Progress
from vts_ros.lab.rivals.registry import Method
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import token_budget

#: The windows of the split before it are those of docs/quality.md and docs/redundancy.md: what is
#: decided by answers is decided by others.
FIRST_ANSWERED = 300
#: Windows of a file; features of so many are held at once.
_WINDOWS = 16
#: What is asked of an answer, by its names in the rows and in the result.
FACTS = ('level', 'object')


def compared_answers(pipeline: Pipeline, methods: Sequence[Method], n: int,
                     budgets: Sequence[float], folder: Path,
                     progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Answer rendered windows of the split ``test`` with the tokens that each method keeps.

    Methods that keep the same tokens of a window share its answer: decoding is greedy. Answers end
    after risk and object.

    Parameters
    ----------
    methods
        Each with one choice; the first is ``FIRST``.
    n
        Windows from number ``FIRST_ANSWERED`` on, risk levels balanced.

    Returns
    -------
    ``{'n', 'first', 'dense': {part: {fact: share right}}, 'parts': {part: {fact: figures}},
    'pooled': {method: {'ahead', 'ahead_ci'}}}``; parts are ``all`` and ``hard``, facts ``level``
    and ``object``, see :func:`vts_ros.lab.evaluation.score_recall.figures`. Pooled is the mean of
    level and object over all budgets, against the first method on the same windows.

    """
    rows: list[Row] = []
    for first in range(0, n, _WINDOWS):
        rows += kept_rows(
            folder / f'answers-{FIRST_ANSWERED + first:05d}.json', methods, budgets,
            lambda missing, first=first: _rows(  # type: ignore[misc]
                pipeline, missing, budgets, FIRST_ANSWERED + first), FACTS[0])
        progress(min(1.0, len(rows) / n), f'{min(len(rows), n)} of {n} windows answered')
    rows = rows[:n]
    parts = {'all': rows, 'hard': [row for row in rows if row['hard']]}
    return {
        'n': n, 'first': FIRST_ANSWERED,
        'dense': {name: {fact: round(float(np.mean([row['dense'][fact] for row in part])), 4)
                         for fact in FACTS} for name, part in parts.items() if part},
        'parts': {name: {fact: figures(part, methods, budgets, fact) for fact in FACTS}
                  for name, part in parts.items() if part},
        'pooled': _pooled(rows, methods, budgets)}


def _rows(pipeline: Pipeline, methods: Sequence[Method], budgets: Sequence[float], first: int
          ) -> list[Row]:
    windows = [prepare_window(pipeline, scene)
               for scene in balanced_scenes('test', _WINDOWS, first)]
    rows: list[Row] = [{'hard': window.hard, 'dense': {}, **{fact: {} for fact in FACTS}}
                       for window in windows]
    # Prompts of a call are equally long, so that none is padded.
    for row, right in zip(rows, _answered(pipeline, windows, [None] * len(windows))):
        row['dense'] = right
    for ratio in budgets:
        #: Each different prompt once: index of the window and what is kept of it.
        asked: dict[tuple[int, bytes], NDArray[np.int32]] = {}
        wanted: list[tuple[str, tuple[int, bytes]]] = []
        for (index, window), method in itertools.product(enumerate(windows), methods):
            frames, grid = len(window.evidence.proposals), window.evidence.grid
            keep = method.keep(window.evidence, token_budget(frames, grid, ratio))
            assert keep is not None
            wanted.append((method.name, (index, keep.tobytes())))
            asked[wanted[-1][1]] = keep
        answers = dict(zip(asked, _answered(
            pipeline, [windows[index] for index, _ in asked], list(asked.values()))))
        for name, job in wanted:
            for fact, value in answers[job].items():
                rows[job[0]][fact].setdefault(name, {})[f'{ratio:g}'] = value
    return rows


def _answered(pipeline: Pipeline, windows: Sequence[EvaluatedWindow],
              keeps: Sequence[NDArray[np.int32] | None]) -> Iterator[dict[str, int]]:
    """Yield which facts are right of each window."""
    for window, answer in zip(windows, answer_all(pipeline, windows, keeps, brief=True)):
        right = score(answer, window.truth)
        yield dict(zip(FACTS, (int(right.risk), int(right.object))))


def _pooled(rows: Sequence[Row], methods: Sequence[Method], budgets: Sequence[float]
            ) -> dict[str, Any]:
    bootstrap = Bootstrap(len(rows))
    means = {method.name: np.array([np.mean([
        row[fact][method.name][f'{ratio:g}'] for fact in FACTS for ratio in budgets])
        for row in rows]) for method in methods}
    return {name: {'ahead': round(float((values - means[FIRST]).mean()), 4),
                   'ahead_ci': bootstrap.difference(values, means[FIRST])}
            for name, values in means.items()}
