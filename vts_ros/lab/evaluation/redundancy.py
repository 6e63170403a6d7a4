# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How importance and redundancy of visual tokens are related, and which score finds the former."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.box_coverage import area_under_curve
from vts_ros.lab.evaluation.worth_windows import WorthWindow
from vts_ros.lab.rivals import temporal
from vts_ros.lab.rivals.motion import carried, grey, motion_between, residual_motion
from vts_ros.lab.rivals.ranking import cosine
from vts_ros.lab.rivals.worth_measure import fit_measure, inputs_of, WorthMeasure
from vts_ros.sparsify import Sparsifier, WindowFeatures

#: The share of tokens that count as important.
TOP = 0.1
#: Bins of redundancy and of importance in the joint histogram.
BINS = 10
#: Groups of the windows whose splits are told apart in a table.
GROUPS = ('family', 'risk', 'light', 'weather', 'turning', 'speed')

#: What each score is, by its name; the last two are for comparison and cannot be used on a car.
ABOUT = {
    'measure': 'a small network on the token itself and what the proposal network sees there, '
               'fitted to the importance of tokens of the split `val`',
    'cosine': 'the score that ships: half saliency, half novelty against the key frame',
    'importance': 'saliency of the proposal network alone',
    'novelty': 'unlike the key frame, alone',
    'own motion': 'the score that ships, after optical flow takes out the motion of the own car',
    'residual motion': 'what moves by itself after that, alone',
    'known motion': 'the score that ships, after speed and yaw rate take out the motion of the '
                    'own car',
    'known residual': 'saliency, and what moves other than speed and yaw rate say',
    'volatility': 'change over the window, newer frames first, after ST-Prune (arXiv 2604.19145)',
    'uniqueness': 'distance to the nearest token of the window, after LookWhen (arXiv 2605.06809)',
    'attention': 'how badly attention over the other frames explains the token',
    'change': 'change since the frame before, as EVS ranks it (arXiv 2510.14624)',
    'recency': 'newer frames first',
    'random': 'chance',
    'gradient': "gradient of the answer's loss times the token, after STTS: the answer is known",
    'loss': 'what hiding it costs the right answer: the truth is known',
}


#: Of one token of each of two frames: the places of both to float32 [N].
_Pairs = dict[tuple[int, int], NDArray[np.float32]]


class _Found(NamedTuple):
    """What is computed of a window."""

    source: str
    conditions: dict[str, str]
    worth: NDArray[np.float32]
    scores: dict[str, NDArray[np.float32]]
    redundancy: NDArray[np.float32]
    carried: NDArray[np.float32]
    distances: list[dict[str, float]]
    rank: float
    patch_ratio: float


class Analysis(NamedTuple):
    """The figures of the page, the measure that was fitted, and the windows it is shown on."""

    result: dict[str, Any]
    measure: WorthMeasure


def analyse(sparsifier: Sparsifier, windows: Iterable[WorthWindow], seed: int = 0,
            progress: Callable[[int], None] = lambda windows: None) -> Analysis:
    """
    Relate importance and redundancy.

    Windows of the source ``val`` fit the measure; all figures are of the others.

    Returns
    -------
    The result is ``{'n': {source: windows}, 'top', 'grid', 'frames', 'auc': {part: {score: [mean,
    low, high]}}, 'loss_auc': likewise, 'correlation': {part: {score: mean rank correlation with
    the worth}}, 'joint': {part: {'redundancy' or 'carried': {'tokens', 'worth'}}}, 'ages': {part:
    [newest first]}, 'distances': {part: [next frame first]}, 'conditions': {group: {value:
    figures}}}``; a part is ``test`` or ``recordings``. Intervals are of 95 %, over windows.

    Raises
    ------
    ValueError
        If there are no windows to fit to, or none to judge by.

    """
    fit_on: list[NDArray[np.float32]] = []
    tops: list[NDArray[np.bool_]] = []
    held: list[WorthWindow] = []
    for count, window in enumerate(windows, 1):
        if window.source == 'val':
            fit_on.append(inputs_of(sparsifier, window.evidence))
            tops.append(is_top(window.worth.divergence))
        else:
            held.append(window)
        progress(count)
    if not fit_on or not held:
        raise ValueError('windows are needed to fit the measure to, and others to judge it by')
    measure = fit_measure(fit_on, tops, seed)
    found = [_look(sparsifier, measure, window, seed + place)
             for place, window in enumerate(held)]
    parts = {'test': [window for window in found if window.source == 'test'],
             'recordings': [window for window in found if window.source != 'test']}
    parts = {name: part for name, part in parts.items() if part}
    sources = {source: sum(window.source == source for window in found)
               for source in dict.fromkeys(window.source for window in found)}
    return Analysis({
        'n': {'val': len(fit_on), **sources}, 'top': TOP, 'grid': list(held[0].evidence.grid),
        'frames': len(held[0].evidence.frames),
        'auc': {name: _areas(part, 'divergence') for name, part in parts.items()},
        'loss_auc': {name: _areas(part, 'loss') for name, part in parts.items()
                     if name == 'test'},
        'correlation': {name: _correlations(part) for name, part in parts.items()},
        'joint': {name: _joint(part) for name, part in parts.items()},
        'ages': {name: _ages(part) for name, part in parts.items()},
        'distances': {name: _distances(part) for name, part in parts.items()},
        'conditions': _conditions(parts.get('test', [])),
    }, measure)


def is_top(worth: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which tokens are the most important tenth of their window."""
    count = max(1, round(TOP * worth.size))
    chosen = np.zeros(worth.size, bool)
    chosen[np.argsort(-worth, axis=None, kind='stable')[:count]] = True
    return chosen.reshape(worth.shape)


def redundancy_of(evidence: WindowFeatures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Return how well other frames predict each token, before and after motion is taken out.

    The largest cosine with what any other frame shows at the same place, and where optical flow
    carries the token; float32 [T, N] both.
    """
    here, there = (_from_others(pairs, len(evidence.tokens)) for pairs in predictions(evidence))
    return here, there


def predictions(evidence: WindowFeatures) -> tuple[_Pairs, _Pairs]:
    """
    Return how well each frame predicts each token of each other one.

    The cosine with what it shows at the same place, and where optical flow carries the token:
    float32 [N] by the places of the frame that is predicted and of that which predicts it.
    """
    tokens, grid = evidence.tokens, evidence.grid
    pictures = [grey(frame) for frame in evidence.frames]
    here, there = {}, {}
    for place, other in itertools.permutations(range(len(tokens)), 2):
        here[place, other] = cosine(tokens[place], tokens[other])
        there[place, other] = cosine(tokens[place], carried(
            tokens[other], motion_between(pictures[place], pictures[other]).flow, grid))
    return here, there


def _from_others(pairs: _Pairs, frames: int) -> NDArray[np.float32]:
    return np.stack([np.max([found for (place, _), found in pairs.items() if place == wanted],
                            axis=0) for wanted in range(frames)]).astype(np.float32)


def by_distance(worth: NDArray[np.floating], here: _Pairs, there: _Pairs
                ) -> list[dict[str, float]]:
    """Return redundancy, and its rank correlation with the worth, by frames in between."""
    found = []
    for distance in range(1, len(worth)):
        at = [pair for pair in here if abs(pair[0] - pair[1]) == distance]
        importance = np.concatenate([worth[place] for place, _ in at])
        figures = {}
        for name, pairs in (('redundancy', here), ('carried', there)):
            values = np.concatenate([pairs[pair] for pair in at])
            figures[name] = float(values.mean())
            figures[f'{name}_correlation'] = rank_correlation(importance, values)
        found.append(figures)
    return found


def effective_rank(tokens: NDArray[np.floating]) -> float:
    """Return how many directions tokens [..., D] spread over: e to the entropy of the spectrum."""
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    values = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    share = values / max(float(values.sum()), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _look(sparsifier: Sparsifier, measure: WorthMeasure, window: WorthWindow, seed: int
          ) -> _Found:
    evidence, worth = window.evidence, window.worth
    shape = worth.divergence.shape
    salient = temporal.importance(sparsifier, evidence)
    new = temporal.novelty(sparsifier, evidence)
    scores = {
        'measure': measure.scores(sparsifier, evidence), 'cosine': 0.5 * salient + 0.5 * new,
        'importance': salient, 'novelty': new,
        'own motion': temporal.own_motion(sparsifier, evidence),
        'residual motion': residual_motion(evidence.frames, evidence.grid),
        'volatility': temporal.volatility(evidence), 'uniqueness': temporal.uniqueness(evidence),
        'attention': temporal.attention(evidence), 'change': temporal.change(evidence),
        'recency': np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None], shape),
        'random': np.random.default_rng(seed).random(shape, np.float32),
        'gradient': worth.gradient}
    if evidence.path is not None:
        scores['known motion'] = temporal.known_novelty(sparsifier, evidence)
        scores['known residual'] = temporal.known_residual(sparsifier, evidence)
    if worth.loss is not None:
        scores['loss'] = worth.loss
    pairs = predictions(evidence)
    here, there = (_from_others(found, shape[0]) for found in pairs)
    cells = worth.divergence.reshape(shape[0], *evidence.grid)
    summed = (cells[:, :-1, :-1] + cells[:, 1:, :-1] + cells[:, :-1, 1:] + cells[:, 1:, 1:])
    return _Found(window.source, window.conditions, worth.divergence, scores, here, there,
                  by_distance(worth.divergence, *pairs), effective_rank(evidence.tokens),
                  float(worth.patch.sum() / max(float(summed.sum()), 1e-9)))


def _areas(part: Sequence[_Found], target: str) -> dict[str, list[float]]:
    bootstrap = Bootstrap(len(part))
    found = {}
    for name in part[0].scores:
        if name == target:
            continue
        values = []
        for window in part:
            values.append(area_of(window.scores[name], window.worth if target == 'divergence'
                                else window.scores[target]))
        areas = np.array(values, np.float64)
        found[name] = [round(float(areas.mean()), 4), *bootstrap.mean(areas)]
    return found


def area_of(score: NDArray[np.float32], worth: NDArray[np.float32]) -> float:
    """Return the area under the curve of a score for the important tenth of a window."""
    top = is_top(worth).ravel().astype(np.float64)
    return area_under_curve(score.ravel(), top, 1.0 - top) or 0.0


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the rank correlation of two arrays of the same size (Spearman); 0 if one is flat."""
    ranks = [_rank(values) - (values.size - 1) / 2 for values in (first, second)]
    below = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float(ranks[0] @ ranks[1]) / below if below > 0.0 else 0.0


def _rank(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks from 0, equal values their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    result: NDArray[np.float64] = (np.cumsum(count) - (count + 1) / 2)[place.ravel()]
    return result


def _correlations(part: Sequence[_Found]) -> dict[str, float]:
    found = {name: float(np.mean([rank_correlation(window.worth, window.scores[name])
                                  for window in part])) for name in part[0].scores}
    for name in ('redundancy', 'carried'):
        found[name] = float(np.mean([rank_correlation(window.worth, getattr(window, name))
                                     for window in part]))
    return {name: round(value, 4) for name, value in found.items()}


def _joint(part: Sequence[_Found]) -> dict[str, Any]:
    """Return shares of tokens by rank of redundancy and of importance within their window."""
    found: dict[str, Any] = {}
    for name in ('redundancy', 'carried'):
        counts = np.zeros((BINS, BINS))
        for window in part:
            np.add.at(counts, (_bin(window.worth), _bin(getattr(window, name))),
                      1.0 / window.worth.size)
        worth = np.mean([by_tenth(window.worth, getattr(window, name)) for window in part], axis=0)
        found[name] = {'tokens': (counts / len(part)).round(5).tolist(),
                       'worth': worth.round(4).tolist()}
    return found


def by_tenth(worth: NDArray[np.floating], redundancy: NDArray[np.floating]
             ) -> NDArray[np.float64]:
    """Return the share of the worth [BINS] in each tenth of the tokens, least redundant first."""
    found = np.zeros(BINS)
    np.add.at(found, _bin(redundancy), worth.ravel() / max(float(worth.sum()), 1e-12))
    return found


def _bin(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the tenth of the window, from 0, in which the rank of each value lies."""
    return np.minimum(_rank(values) * BINS / values.size, BINS - 1).astype(np.int64)


def _ages(part: Sequence[_Found]) -> list[dict[str, float]]:
    """Return importance and redundancy of each frame, the newest first."""
    frames = len(part[0].worth)
    return [{
        'worth': _mean(window.worth[place].sum() / max(float(window.worth.sum()), 1e-12)
                       for window in part),
        'redundancy': _mean(window.redundancy[place].mean() for window in part),
        'carried': _mean(window.carried[place].mean() for window in part)}
        for place in range(frames - 1, -1, -1)]


def _distances(part: Sequence[_Found]) -> list[dict[str, float]]:
    """Return the means of what is known by distance, from 1 frame on."""
    return [{name: _mean(figures[name] for figures in same) for name in same[0]}
            for same in zip(*(window.distances for window in part))]


def _conditions(part: Sequence[_Found]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the figures of windows under each condition, and of all."""
    found: dict[str, dict[str, dict[str, Any]]] = {'all': {'all': _figures(part)}} \
        if part else {}
    for group in GROUPS:
        values = sorted({window.conditions[group] for window in part})
        for value in values:
            found.setdefault(group, {})[value] = _figures(
                [window for window in part if window.conditions[group] == value])
    return found


def _figures(part: Sequence[_Found]) -> dict[str, Any]:
    tops = [is_top(window.worth) for window in part]
    return {
        'n': len(part),
        'tenths': np.mean([by_tenth(window.worth, window.redundancy) for window in part], axis=0)
        .round(4).tolist(),
        'top_share': _mean(window.worth[top].sum() / max(float(window.worth.sum()), 1e-12)
                           for window, top in zip(part, tops)),
        'newest_share': _mean(window.worth[-1].sum() / max(float(window.worth.sum()), 1e-12)
                              for window in part),
        'correlation': _mean(rank_correlation(window.worth, window.redundancy)
                             for window in part),
        'carried_correlation': _mean(rank_correlation(window.worth, window.carried)
                                     for window in part),
        'patch_ratio': _mean(window.patch_ratio for window in part),
        'effective_rank': _mean(window.rank for window in part),
        **{f'auc_{name}': _mean(area_of(window.scores[name], window.worth) for window in part)
           for name in ('measure', 'cosine', 'importance')}}


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)
