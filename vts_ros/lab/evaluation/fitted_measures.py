# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures fitted to the same windows, with a memory and without, and what they find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.redundancy import area_of, is_top
from vts_ros.lab.evaluation.worth_windows import FitWindow, WorthWindow
from vts_ros.lab.rivals import temporal
from vts_ros.lab.rivals.recurrent_measure import fit_recurrent
from vts_ros.lab.rivals.registry import MEASURE, Measure, MEMORYLESS, RECURRENT
from vts_ros.lab.rivals.worth_measure import fit_measure, inputs_of
from vts_ros.sparsify import Sparsifier

#: The score of the proposal network alone, as a method.
IMPORTANCE = 'vts-score-importance'
#: Fits whose areas are taken together.
SEEDS = 3


def fit_all(sparsifier: Sparsifier, windows: Sequence[FitWindow], seed: int = 0
            ) -> dict[str, Measure]:
    """Return the measures by the names of their methods."""
    tops = [is_top(window.divergence) for window in windows]
    evidence = [window.evidence for window in windows]
    return {
        RECURRENT: fit_recurrent(sparsifier, evidence, tops, True, seed),
        MEMORYLESS: fit_recurrent(sparsifier, evidence, tops, False, seed),
        MEASURE: fit_measure([inputs_of(sparsifier, window) for window in evidence], tops, seed)}


def areas(sparsifier: Sparsifier, fits: Sequence[Mapping[str, Measure]],
          windows: Iterable[WorthWindow]) -> dict[str, Any]:
    """
    Return the AUC of each measure for the most important tenth of the tokens.

    Parameters
    ----------
    fits
        The measures, fitted with several seeds; of their areas the mean counts.

    Returns
    -------
    ``{part: {'n', 'auc': {name: {'mean', 'ci', 'ahead', 'ahead_ci'}}}}``; a part is ``test`` or
    ``recordings``, ahead is the first measure of each other on the same windows.

    """
    found: dict[str, dict[str, list[float]]] = {}
    for window in windows:
        part = found.setdefault('test' if window.source == 'test' else 'recordings', {})
        worth = window.worth.divergence
        for name in fits[0]:
            part.setdefault(name, []).append(float(np.mean([area_of(
                fit[name].scores(sparsifier, window.evidence), worth) for fit in fits])))
        part.setdefault(IMPORTANCE, []).append(area_of(
            temporal.importance(sparsifier, window.evidence), worth))
    return {part: _compared(values) for part, values in found.items()}


def _compared(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    arrays = {name: np.array(some, np.float64) for name, some in values.items()}
    first = next(iter(arrays.values()))
    bootstrap = Bootstrap(len(first))
    return {'n': len(first), 'auc': {name: {
        'mean': round(float(some.mean()), 4), 'ci': bootstrap.mean(some),
        'ahead': round(float((first - some).mean()), 4),
        'ahead_ci': bootstrap.difference(first, some)} for name, some in arrays.items()}}
