# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What each score keeps of what matters: the risk object, and what only the past shows.

No language model is needed for this, so that many windows can be looked at. What was found is
kept on disk, some windows in a file, so that the same call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.kept_rows import kept_rows, Row
from vts_ros.lab.evaluation.own_path import said_path
from vts_ros.lab.evaluation.proposal_recall import object_tokens
from vts_ros.lab.evaluation.window_conditions import conditions_of
from vts_ros.lab.rivals.registry import KNOWN_MOTION, Method, WITHOUT_TOKENS
from vts_ros.lab.scenes.cells import overlaps
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.memory_windows import (
    memory_pairs,
    memory_truth,
    MemoryScene,
    render_memory,
)
from vts_ros.lab.scenes.scene_truth import Clip
from vts_ros.lab.scenes.turning_windows import turning_scenes
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import token_budget, WindowFeatures

#: What all others are compared with.
FIRST = 'vts'
#: Scenes and pairs of a file.
_SCENES, _PAIRS = 32, 8
#: Limits of the turning rate, in degrees per second.
STRAIGHT_DEG, TURNING_DEG = 1.0, 10.0
#: Windows of fewer are not shown apart.
_LEAST = 20

Progress = Callable[[float, str], None]


def object_recall(pipeline: Pipeline, methods: Sequence[Method], n: int, budgets: Sequence[float],
                  folder: Path, progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Return which share of the tokens of the risk object each method keeps.

    Parameters
    ----------
    n
        Rendered windows of the split ``test`` that have a risk object.

    Returns
    -------
    ``{'n', 'most_turning', 'parts': {condition: figures}, 'gains': {condition: gains}}``, see
    :func:`figures` and :func:`gains`; the fastest turning in degrees per second.

    """
    rows = _all_object_rows(pipeline, methods, n, budgets, folder / 'object', balanced_scenes,
                            lambda share, what: progress(share, f'{what} risk objects'))
    parts: dict[str, list[Row]] = {'all': rows}
    for row in rows:
        for name in _names(row):
            parts.setdefault(name, []).append(row)
    order = [name for name in ('all', 'straight', 'turning', 'cut-in', 'night or rain')
             if name == 'all' or len(parts.get(name, ())) >= _LEAST]
    return {'n': n, 'most_turning': round(max(row['turning'] for row in rows), 2),
            'parts': {name: figures(parts[name], methods, budgets) for name in order},
            'gains': {name: gains(parts[name], methods, budgets) for name in order}}


def _names(row: Row) -> Iterator[str]:
    yield 'straight' if row['turning'] < STRAIGHT_DEG else 'turning'
    if row['family'] == 'cut-in':
        yield 'cut-in'
    if row['sight'] == 'night or rain':
        yield 'night or rain'


def turning_recall(pipeline: Pipeline, methods: Sequence[Method], n: int,
                   budgets: Sequence[float], folder: Path,
                   progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Return the same as :func:`object_recall` of windows that turn fast, in tight bends.

    Returns
    -------
    As :func:`figures`, with ``gains`` and with ``slowest`` and ``fastest``: the least and the
    largest turning of these windows, each at its fastest, in degrees per second.

    Raises
    ------
    ValueError
        If one turns at less than ``TURNING_DEG``.

    """
    rows = _all_object_rows(pipeline, methods, n, budgets, folder / 'turning', turning_scenes,
                            lambda share, what: progress(share, f'{what} in tight bends'))
    rates = [row['turning'] for row in rows]
    if min(rates) <= TURNING_DEG:
        raise ValueError(f'a window turns at {min(rates)} degrees per second, not over '
                         f'{TURNING_DEG:g}')
    return {'slowest': round(min(rates), 1), 'fastest': round(max(rates), 1),
            'gains': gains(rows, methods, budgets), **figures(rows, methods, budgets)}


def past_recall(pipeline: Pipeline, methods: Sequence[Method], pairs: int,
                budgets: Sequence[float], frames: int, folder: Path,
                progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Return which share of what tells each method keeps where it is clearly seen last.

    By its extent in that frame. Windows that need the past, of the split ``test``: a row is the
    mean of hazard and twin.

    Returns
    -------
    ``{'n', 'frames', 'parts': {'all': figures}}``.

    """
    rows: list[Row] = []
    for first in range(0, pairs, _PAIRS):
        rows += kept_rows(folder / f'past{frames}-{first:05d}.json', methods, budgets,
                          lambda missing, first=first: _past_rows(  # type: ignore[misc]
                              pipeline, missing, budgets, first, frames))
        progress(min(1.0, len(rows) / pairs), f'{min(len(rows), pairs)} of {pairs} pairs')
    rows = rows[:pairs]
    return {'n': pairs, 'frames': frames, 'parts': {'all': figures(rows, methods, budgets)}}


def _all_object_rows(pipeline: Pipeline, methods: Sequence[Method], n: int,
                     budgets: Sequence[float], path: Path,
                     scenes: Callable[[str, int, int], Iterator[Scene]], progress: Progress
                     ) -> list[Row]:
    rows: list[Row] = []
    for first in itertools.count(0, _SCENES):
        if len(rows) >= n:
            break
        rows += kept_rows(path.with_name(f'{path.name}-{first:05d}.json'), methods, budgets,
                          lambda missing, first=first: _object_rows(  # type: ignore[misc]
                              pipeline, missing, budgets, scenes('test', _SCENES, first)))
        progress(min(1.0, len(rows) / n), f'{min(len(rows), n)} of {n}')
    return rows[:n]


def _object_rows(pipeline: Pipeline, methods: Sequence[Method], budgets: Sequence[float],
                 scenes: Iterable[Scene]) -> list[Row]:
    with_tokens = not {method.name for method in methods} <= WITHOUT_TOKENS
    rows = []
    for scene in scenes:
        clip = render(scene)
        found = conditions_of(clip.window_truth())
        # Nothing is computed of a window without a risk object.
        if found['risk'] == 'none':
            continue
        evidence = evidence_of(pipeline, clip, said_path(scene), with_tokens)
        tokens = object_tokens(clip.truths, evidence.grid)
        if tokens.any():
            rows.append({'turning': turning_deg(scene), 'family': found['family'],
                         'sight': found['sight'],
                         'kept': kept_shares(evidence, tokens, methods, budgets)})
    return rows


def _past_rows(pipeline: Pipeline, methods: Sequence[Method], budgets: Sequence[float],
               first: int, frames: int) -> list[Row]:
    rows = []
    for pair in memory_pairs('test', _PAIRS, first, frames):
        both = [_past(pipeline, methods, budgets, found) for found in pair]
        rows.append({'kept': {name: {ratio: float(np.mean([kept[name][ratio] for kept in both]))
                                     for ratio in both[0][name]} for name in both[0]}})
    return rows


def _past(pipeline: Pipeline, methods: Sequence[Method], budgets: Sequence[float],
          found: MemoryScene) -> dict[str, dict[str, float]]:
    with_tokens = not {method.name for method in methods} <= WITHOUT_TOKENS
    evidence = evidence_of(pipeline, render_memory(found), said_path(found.scene), with_tokens)
    last = memory_truth(found).sights[-1]
    extent = np.zeros((len(evidence.frames), evidence.grid[0] * evidence.grid[1]))
    extent[last.frame] = overlaps(last.box, *evidence.grid)[0].ravel()
    return kept_shares(evidence, extent, methods, budgets)


def evidence_of(pipeline: Pipeline, clip: Clip, path: NDArray[np.float64] | None = None,
                with_tokens: bool = True) -> WindowFeatures:
    """
    Compute all that scores need of all frames of a clip.

    Parameters
    ----------
    path
        As in ``WindowFeatures``.
    with_tokens
        Whether a score looks at visual tokens; without, there is nothing in place of them.

    """
    grid = pipeline.vlm.token_grid(*clip.frames.shape[1:3])
    tokens = np.zeros((len(clip.frames), grid[0] * grid[1], 0), np.float32)
    if with_tokens:
        tokens = np.stack([pipeline.vlm.encode(picture).tokens.float().cpu().numpy()
                           for picture in clip.frames])
    return WindowFeatures(clip.frames, tuple(map(pipeline.sparsifier.propose, clip.frames)),
                          tokens, grid, path=path)


def kept_shares(evidence: WindowFeatures, wanted: NDArray[np.generic],
                methods: Sequence[Method], budgets: Sequence[float]
                ) -> dict[str, dict[str, float]]:
    """Return which share of what is wanted [T, N] each method keeps, mean over its choices."""
    found: dict[str, dict[str, float]] = {}
    for method, ratio in itertools.product(methods, budgets):
        budget = token_budget(len(wanted), evidence.grid, ratio)
        shares = []
        for choice in range(len(method.choices)):
            keep = method.keep(evidence, budget, choice)
            assert keep is not None
            shares.append(float(wanted.ravel()[keep].sum() / wanted.sum()))
        found.setdefault(method.name, {})[f'{ratio:g}'] = round(float(np.mean(shares)), 5)
    return found


def turning_deg(scene: Scene) -> float:
    """Return how fast the ego vehicle turns at most in a scene, in degrees per second."""
    rates = []
    for time_sec in scene.times.tolist():
        s, speed_mps, _ = scene.ego.at(time_sec)
        rates.append(abs(np.degrees(scene.road.curvature(s) * speed_mps)))
    return round(float(max(rates)), 3)


def figures(rows: Sequence[Row], methods: Sequence[Method], budgets: Sequence[float],
            of: str = 'kept', beside: str = FIRST) -> dict[str, Any]:
    """
    Return the means of some windows.

    Parameters
    ----------
    of
        What of a row is by method and budget.
    beside
        Method that all are compared with.

    Returns
    -------
    ``{'n', 'methods': {name: {budget: {'mean', 'ci', 'ahead', 'ahead_ci'}}}}``; ahead of `beside`
    on the same windows, intervals of 95 %.

    """
    bootstrap = Bootstrap(len(rows))
    found: dict[str, Any] = {}
    for method, ratio in itertools.product(methods, budgets):
        share = f'{ratio:g}'
        values, first = (np.array([row[of][name][share] for row in rows], np.float64)
                         for name in (method.name, beside))
        found.setdefault(method.name, {})[share] = {
            'mean': round(float(values.mean()), 4), 'ci': bootstrap.mean(values),
            'ahead': round(float((values - first).mean()), 4),
            'ahead_ci': bootstrap.difference(values, first)}
    return {'n': len(rows), 'methods': found}


def gains(rows: Sequence[Row], methods: Sequence[Method], budgets: Sequence[float]
          ) -> dict[str, Any]:
    """
    Return how far each score with the known motion of the car is ahead of itself without.

    Returns
    -------
    ``{name: {budget: {'mean', 'ci', 'ahead', 'ahead_ci'}}}``, see :func:`figures`.

    """
    names = {method.name for method in methods}
    return {method.name: figures(rows, [method], budgets, beside=base)['methods'][method.name]
            for method in methods if (base := KNOWN_MOTION.get(method.name)) in names}
