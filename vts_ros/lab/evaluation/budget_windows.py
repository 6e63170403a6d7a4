# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered windows answered at several budgets, with what could tell beforehand what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import score
from vts_ros.lab.evaluation.method_comparison import answer_all, EvaluatedWindow, prepare_ends
from vts_ros.lab.evaluation.redundancy import effective_rank
from vts_ros.lab.rivals import temporal
from vts_ros.lab.rivals.motion import residual_motion
from vts_ros.lab.rivals.registry import methods
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Sparsifier, token_budget, WindowFeatures

#: What is known before the language model reads a window, in the order of ``Answered.known``.
PREDICTORS = {
    'effective rank': 'directions over which the tokens spread',
    'residual motion': 'what moves by itself, mean over the cells',
    'saliency mass': 'mean saliency of the tokens',
    'saliency peak': 'highest saliency of the newest frame, by which a deadline divides tokens',
    'saliency spread': 'number of tokens over which the saliency spreads',
    'novelty': 'mean unlikeness to the key frame',
    'last risk': 'level that was said of the window one frame earlier',
}
#: Budget of the answer one frame earlier.
LAST_RATIO = 0.2
_FRAMES, _CHUNK = 5, 32

Floats = NDArray[np.float64]


class Answered(NamedTuple):
    """
    Windows of a split.

    Attributes
    ----------
    known
        float64 [windows, len(PREDICTORS)].
    level, object
        float64 [windows, budgets], whether risk level and risk object are right, 0 or 1.

    """

    known: Floats
    level: Floats
    object: Floats


def answered_windows(pipeline: Pipeline, split: str, n: int, ratios: Sequence[float],
                     folder: Path, progress: Callable[[int], None] = lambda windows: None
                     ) -> Answered:
    """
    Answer windows of a split with what ``vts`` keeps at each budget.

    What was answered before is read from the folder, so that the same call goes on.

    Parameters
    ----------
    n
        Windows, risk levels balanced.
    ratios
        Keep ratios.

    """
    rows: list[dict[str, Any]] = []
    for first in range(0, n, _CHUNK):
        rows += _chunk(pipeline, split, first, ratios, folder)
        progress(min(len(rows), n))
    rows = rows[:n]
    names = [f'{ratio:g}' for ratio in ratios]
    return Answered(np.array([[row['known'][name] for name in PREDICTORS] for row in rows]),
                    *(np.array([[row['right'][name][which] for name in names] for row in rows],
                               np.float64) for which in (0, 1)))


def _chunk(pipeline: Pipeline, split: str, first: int, ratios: Sequence[float], folder: Path
           ) -> list[dict[str, Any]]:
    """Return some windows, from the disk if all budgets were answered before."""
    names = [f'{ratio:g}' for ratio in ratios]
    path = folder / f'{split}-{first:05d}.json'
    if path.exists():
        kept: list[dict[str, Any]] = json.loads(path.read_text(encoding='utf-8'))
        if set(names) <= set(kept[0]['right']):
            return kept
    rows = _answer(pipeline, split, first, ratios)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.part')
    partial.write_text(json.dumps(rows), encoding='utf-8')
    partial.replace(path)
    return rows


def _answer(pipeline: Pipeline, split: str, first: int, ratios: Sequence[float]
            ) -> list[dict[str, Any]]:
    pairs = [prepare_ends(pipeline, render(scene), (_FRAMES, _FRAMES + 1))
             for scene in balanced_scenes(split, _CHUNK, first, _FRAMES + 1)]
    before, now = ([pair[place] for pair in pairs] for place in (0, 1))
    last = _answers(pipeline, before, LAST_RATIO)
    rows: list[dict[str, Any]] = [
        {'known': known(pipeline.sparsifier, window.evidence, said.risk), 'right': {}}
        for window, said in zip(now, last)]
    for ratio in ratios:
        for row, window, said in zip(rows, now, _answers(pipeline, now, ratio)):
            found = score(said, window.truth)
            row['right'][f'{ratio:g}'] = [int(found.risk), int(found.object)]
    return rows


def _answers(pipeline: Pipeline, windows: Sequence[EvaluatedWindow], ratio: float) -> list[Any]:
    keeps: list[NDArray[np.int32] | None] = [None] * len(windows)
    if ratio != 1.0:
        vts, = methods(pipeline.sparsifier, ['vts'])
        budget = token_budget(_FRAMES, windows[0].evidence.grid, ratio)
        keeps = [vts.keep(window.evidence, budget) for window in windows]
    return list(answer_all(pipeline, windows, keeps, brief=True))


def known(sparsifier: Sparsifier, evidence: WindowFeatures, last_risk: str) -> dict[str, float]:
    """
    Return the value of each of ``PREDICTORS``.

    Parameters
    ----------
    last_risk
        Level that was said before; one that could not be read counts as the highest.

    """
    salient = temporal.importance(sparsifier, evidence).astype(np.float64)
    share = salient.ravel() / max(float(salient.sum()), 1e-12)
    spread = float(np.exp(-(share * np.log(share.clip(1e-12))).sum()))
    levels: Sequence[str] = TRUE_LEVELS
    values = (effective_rank(evidence.tokens),
              float(residual_motion(evidence.frames, evidence.grid).mean()),
              float(salient.mean()), float(salient[-1].max()), spread,
              float(temporal.novelty(sparsifier, evidence).mean()),
              float(levels.index(last_risk) if last_risk in levels else len(levels) - 1))
    return dict(zip(PREDICTORS, values, strict=True))
