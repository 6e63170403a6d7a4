# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether the motion vectors of a camera's video help to find the tokens of the risk object.

Rendered windows are also drawn at the rate of a camera and encoded as H.264; saliency gets what
the vectors say moves by itself, and, to compare, what optical flow says of the same pictures. No
language model is asked: what counts is which tokens are kept, at the same budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.generated_page import between, day_and_machine, Run
from vts_ros.lab.evaluation.kept_rows import Row
from vts_ros.lab.evaluation.proposal_recall import object_tokens
from vts_ros.lab.evaluation.score_recall import evidence_of, figures
from vts_ros.lab.evaluation.window_conditions import conditions_of
from vts_ros.lab.rivals.coded_motion import decoded, encoded, flow_of, vector_residual
from vts_ros.lab.rivals.motion import residual_motion
from vts_ros.lab.rivals.ranking import ascending, ranked
from vts_ros.lab.rivals.registry import Method, methods
from vts_ros.lab.rivals.temporal import importance
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import token_budget, WindowFeatures

#: Pictures of the video per frame of a window: 10 Hz where these are 0.4 s apart.
RATE = 4
#: Size of the video: not that of a camera, but blocks are as fine beside objects.
WIDTH, HEIGHT = 448, 256
#: Size of the pictures for which the cost is measured, and how often it is.
COST_SIZE, COST_PASSES = (960, 540), 5
#: The saliency alone, and how much of what moves by itself is added to it.
BASE, WEIGHTS = 'vts-score-importance', (1.0, 0.1, 0.02)

Progress = Callable[[int, str], None]


def compare(pipeline: Pipeline, n: int, budgets: Sequence[float],
            progress: Progress = lambda done, what: None) -> dict[str, Any]:
    """
    Return which share of the tokens of the risk object scores keep with vectors and without.

    Parameters
    ----------
    n
        Rendered windows of the split ``test`` that have a risk object.

    Returns
    -------
    Of :func:`figures` ``n`` and ``methods``, all beside ``BASE``; and ``cost``, see :func:`cost`.

    """
    shipped = methods(pipeline.sparsifier, ('vts', BASE))
    rows: list[Row] = []
    cost_ms: dict[str, float] = {}
    found: dict[str, NDArray[np.float32]] = {}
    # About three of four have a risk object.
    for scene in balanced_scenes('test', 2 * n):
        clip = render(scene)
        if conditions_of(clip.window_truth())['risk'] == 'none':
            continue
        evidence = evidence_of(pipeline, clip, with_tokens=False)
        wanted = object_tokens(clip.truths, evidence.grid).ravel()
        if not wanted.any():
            continue
        cost_ms = cost_ms or cost(scene)
        found = _added(pipeline, evidence, scene)
        budget = {f'{ratio:g}': token_budget(len(clip.frames), evidence.grid, ratio)
                  for ratio in budgets}
        kept = {name: {ratio: float(wanted[ascending(ranked(score)[:count])].sum()
                                    / wanted.sum()) for ratio, count in budget.items()}
                for name, score in found.items()}
        for method in shipped:
            kept[method.name] = {ratio: _share(method, evidence, wanted, count)
                                 for ratio, count in budget.items()}
        rows.append({'kept': kept})
        progress(len(rows), f'{len(rows)} of {n} windows')
        if len(rows) == n:
            break
    names = [*shipped, *(replace(shipped[0], name=name) for name in found)]
    return {**figures(rows, names, budgets, beside=BASE), 'cost': cost_ms}


def at_camera_rate(scene: Scene) -> Scene:
    """Return a scene with ``RATE`` times as many frames between the same two."""
    times = np.linspace(scene.times[0], scene.times[-1], RATE * (len(scene.times) - 1) + 1)
    shake = np.stack([np.interp(times, scene.times, angle) for angle in scene.shake.T], axis=1)
    return replace(scene, times=times, shake=shake, interval_sec=scene.interval_sec / RATE)


def _added(pipeline: Pipeline, evidence: WindowFeatures, scene: Scene
           ) -> dict[str, NDArray[np.float32]]:
    """Return saliency with, added to it, what moves by itself: of vectors, and of flow."""
    pictures = render(at_camera_rate(scene), WIDTH, HEIGHT).frames
    salient = importance(pipeline.sparsifier, evidence)
    stream = [vector_residual(flow_of(frame), evidence.grid)
              for frame in decoded(encoded(list(pictures)))]
    seen = list(residual_motion(pictures, evidence.grid))
    return {f'saliency + {weight:g} {name}': salient + weight * _of_frames(moves)
            for name, moves in (('vectors', stream), ('optical flow', seen))
            for weight in WEIGHTS}


def _of_frames(moves: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean over the pictures up to each frame of the window; the first has no past."""
    return np.stack([np.mean(moves[max(at - RATE + 1, 1):at + 1] or moves[1:2], axis=0)
                     for at in range(0, len(moves), RATE)]).astype(np.float32)


def _share(method: Method, evidence: WindowFeatures, wanted: NDArray[np.bool_], budget: int
           ) -> float:
    keep = method.keep(evidence, budget)
    assert keep is not None
    return float(wanted[keep].sum() / wanted.sum())


def cost(scene: Scene) -> dict[str, float]:
    """Return milliseconds per picture: to decode it, and to decode it with its vectors."""
    packets = encoded(list(render(at_camera_rate(scene), *COST_SIZE).frames))
    least: dict[str, float] = {}
    for _ in range(COST_PASSES):
        for name, with_vectors in (('decode', False), ('vectors', True)):
            start = time.perf_counter()
            decoded(packets, with_vectors)
            took = 1e3 * (time.perf_counter() - start) / len(packets)
            least[name] = round(min(least.get(name, took), took), 3)
    return least


def section(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    """Yield what a page says of a result."""
    yield f'\n    {run.command}\n'
    yield (f'{result["n"]} rendered windows of the split `test` with a risk object, encoded by '
           f'x264 at {WIDTH} x {HEIGHT} and 10 Hz. Share of the tokens of the risk object that '
           f'are kept, in percent; in brackets, how far ahead of `{BASE}` in points, with the '
           f'interval of 95 %. {day_and_machine(run)}\n')
    budgets = list(result['methods'][BASE])
    yield f'| score | {" | ".join(f"{float(ratio):.0%}" for ratio in budgets)} |'
    yield f'|---|{"---|" * len(budgets)}'
    for name, row in result['methods'].items():
        cells = [f'{100 * cell["mean"]:.1f}' + ('' if name == BASE else ' (' + between(
            cell['ahead'], cell['ahead_ci'], '+.1f') + ')') for cell in row.values()]
        # Of the registry, or made here.
        shown = name if ' ' in name else f'`{name}`'
        yield f'| {shown} | {" | ".join(cells)} |'
    took = result['cost']
    yield (f'\nA picture of {COST_SIZE[0]} x {COST_SIZE[1]} takes {took["decode"]:.1f} ms to '
           f'decode, {took["vectors"]:.1f} ms with its vectors (the least of {COST_PASSES} passes '
           'of 17 pictures).')
