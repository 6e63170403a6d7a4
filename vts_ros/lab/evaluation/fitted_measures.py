# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures fitted to the same windows, with a memory and without, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import json
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.redundancy import area_of, is_top
from vts_ros.lab.evaluation.worth_windows import FitWindow, to_fit, WorthWindow
from vts_ros.lab.rivals import temporal
from vts_ros.lab.rivals.recurrent_measure import fit_recurrent
from vts_ros.lab.rivals.registry import MEASURE, Measure, MEMORYLESS, NETWORK, RECURRENT
from vts_ros.lab.rivals.worth_measure import fit_measure, inputs_of
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Sparsifier, WindowFeatures

#: The score of the proposal network alone, as a method.
IMPORTANCE = 'vts-score-importance'
#: Measures that are fitted.
FITTED_NAMES = (RECURRENT, MEMORYLESS, MEASURE)
#: Fits whose areas are taken together.
SEEDS = 3
#: Runs of which the time of a measure is taken.
_TIMED = 50


def fit_one(name: str, sparsifier: Sparsifier, windows: Sequence[FitWindow], seed: int = 0
            ) -> Measure:
    """Return a measure by the name of its method, one of ``FITTED_NAMES``."""
    tops = [is_top(window.divergence) for window in windows]
    evidence = [window.evidence for window in windows]
    if name == MEASURE:
        return fit_measure([inputs_of(sparsifier, window) for window in evidence], tops, seed)
    return fit_recurrent(sparsifier, evidence, tops, name == RECURRENT, seed)


class LazyFits:
    """
    The measures of all seeds, each fitted when it is first needed.

    Parameters
    ----------
    windows
        To fit to, see :func:`vts_ros.lab.evaluation.worth_windows.to_fit`.
    folder
        For the worth of their tokens.
    progress
        Told how many are there.

    """

    def __init__(self, pipeline: Pipeline, windows: int, folder: Path,
                 progress: Callable[[int], None] = lambda done: None) -> None:
        self._pipeline, self._n, self._folder = pipeline, windows, folder
        self._progress = progress
        self._windows: list[FitWindow] = []
        self._fits: dict[tuple[int, str], Measure] = {}

    @property
    def measures(self) -> dict[str, Measure]:
        """Return the measures of the first seed by the names of their methods."""
        return {name: _LazyMeasure(self, name) for name in FITTED_NAMES}

    def of(self, seed: int) -> dict[str, Measure]:
        """Return the measures of a seed."""
        return {name: self.one(seed, name) for name in FITTED_NAMES}

    def one(self, seed: int, name: str) -> Measure:
        """Return the measure of a seed and a method."""
        if not self._windows:
            for done, window in enumerate(to_fit(self._pipeline, self._n, self._folder), 1):
                self._windows.append(window)
                self._progress(done)
        if (seed, name) not in self._fits:
            self._fits[seed, name] = fit_one(
                name, self._pipeline.sparsifier, self._windows, seed)
        return self._fits[seed, name]


class _LazyMeasure:
    def __init__(self, fits: LazyFits, name: str) -> None:
        self._fits, self._name = fits, name

    def scores(self, sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
        return self._fits.one(0, self._name).scores(sparsifier, evidence)


def kept_figures(path: Path, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures from a file, or find them and write it."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return known
    found = find()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.part')
    partial.write_text(json.dumps(found), encoding='utf-8')
    partial.replace(path)
    return found


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


def network_areas(shipped: Sparsifier, network: Sparsifier, windows: Iterable[WorthWindow]
                  ) -> dict[str, Any]:
    """
    Return the AUC of the saliency of another network, and how far it is ahead of the shipped one.

    Returns
    -------
    As :func:`areas`; the methods are ``NETWORK`` and ``IMPORTANCE``, each by saliency alone.

    """
    found: dict[str, dict[str, list[float]]] = {}
    for window in windows:
        part = found.setdefault('test' if window.source == 'test' else 'recordings', {})
        looked = window.evidence._replace(proposals=tuple(
            map(network.propose, window.evidence.frames)))
        for name, sparsifier, evidence in ((NETWORK, network, looked),
                                           (IMPORTANCE, shipped, window.evidence)):
            part.setdefault(name, []).append(area_of(
                temporal.importance(sparsifier, evidence), window.worth.divergence))
    return {part: _compared(values) for part, values in found.items()}


def cost_ms(measure: Measure, sparsifier: Sparsifier, window: WindowFeatures) -> float:
    """Return how long a measure takes for a frame of a window; the median of many runs."""
    spent = []
    for _ in range(_TIMED):
        begin_sec = time.perf_counter()
        measure.scores(sparsifier, window)
        spent.append(time.perf_counter() - begin_sec)
    return round(1e3 * float(np.median(spent)) / len(window.frames), 3)


def _compared(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    arrays = {name: np.array(some, np.float64) for name, some in values.items()}
    first = next(iter(arrays.values()))
    bootstrap = Bootstrap(len(first))
    return {'n': len(first), 'auc': {name: {
        'mean': round(float(some.mean()), 4), 'ci': bootstrap.mean(some),
        'ahead': round(float((first - some).mean()), 4),
        'ahead_ci': bootstrap.difference(first, some)} for name, some in arrays.items()}}
