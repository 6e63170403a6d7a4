# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What tokens are worth where one, two and three cameras see the same scene.

The model has to know several cameras. Redundancy is that of a camera's own pictures: another one
looks elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.redundancy import (
    area_of,
    by_tenth,
    effective_rank,
    is_top,
    rank_correlation,
    redundancy_of,
)
from vts_ros.lab.evaluation.token_worth import divergence_of_tokens
from vts_ros.lab.evaluation.worth_windows import kept_divergence, prepare_recorded
from vts_ros.lab.scenes.several_cameras import (
    camera_windows,
    CAMERAS,
    FRONT,
    LEFT,
    RIGHT,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Sparsifier, WindowFeatures

#: Shares of the tokens of which is said how much importance they have.
BUDGETS = (0.2, 0.1)

Progress = Callable[[float, str], None]


class _Seen(NamedTuple):
    """The figures of a window as some cameras see it."""

    top_share: float
    newest_share: float
    ahead_share: float
    correlation: float
    carried_correlation: float
    effective_rank: float
    auc_vts: float
    auc_importance: float
    kept: tuple[float, ...]
    tenths: NDArray[np.float64]


def camera_worth(pipeline: Pipeline, n: int, folder: Path,
                 progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Relate importance and redundancy by the number of cameras.

    Parameters
    ----------
    pipeline
        Of a model that knows several cameras.
    n
        Rendered scenes of the split ``test``, levels of risk balanced.
    folder
        Where the importance of tokens is kept.

    Returns
    -------
    ``{'n', 'tokens': {count: tokens of a window}, 'figures': {count: {figure: [mean, low, high]}},
    'joint': {count: [share of the importance by tenth of redundancy]}}``, all for 1, 2 and 3
    cameras. Intervals are of 95 %, over scenes.

    """
    seen: dict[int, list[_Seen]] = {1: [], 2: [], 3: []}
    tokens = {}
    for number, window in enumerate(camera_windows('test', n, cameras=CAMERAS)):
        pictures = window.frames()
        for count, cameras in enumerate(_views(number), 1):
            progress((number + (count - 1) / len(seen)) / n,
                     f'scene {number + 1} of {n}, cameras: {count}')
            frames = sorted(
                (Frame(name, round(t * 1e9), pictures[name][index])
                 for index, t in enumerate(window.times) for name in cameras),
                key=lambda frame: (frame.stamp_ns, frame.camera))
            evidence, worth = _measured(
                pipeline, frames, folder / f'cameras-{count}-{number:04d}.npz')
            tokens[str(count)] = worth.size
            seen[count].append(_look(pipeline.sparsifier, evidence, worth))
    progress(1.0, f'{n} scenes')
    return {'n': n, 'tokens': tokens,
            'figures': {str(count): _means(some) for count, some in seen.items()},
            'joint': {str(count): np.mean([window.tenths for window in some], axis=0)
                      .round(4).tolist() for count, some in seen.items()}}


def _views(number: int) -> tuple[tuple[str, ...], ...]:
    """Return which cameras are looked at: the one ahead, with one of either side, and all."""
    return (FRONT,), (FRONT, (LEFT, RIGHT)[number // 8 % 2]), CAMERAS


def _measured(pipeline: Pipeline, frames: Sequence[Frame], path: Path
              ) -> tuple[WindowFeatures, NDArray[np.float32]]:
    """Return what scores look at, and the divergence [T, N], from the disk if it is there."""
    evidence, prepared = prepare_recorded(pipeline, frames)
    worth = kept_divergence(
        path, lambda: divergence_of_tokens(pipeline.vlm, prepared, len(frames), evidence.grid))
    return evidence._replace(cameras=tuple(frame.camera for frame in frames)), worth


def _look(sparsifier: Sparsifier, evidence: WindowFeatures, worth: NDArray[np.float32]) -> _Seen:
    assert evidence.cameras is not None
    cameras = np.array(evidence.cameras)
    total = max(float(worth.sum()), 1e-12)
    here, there = redundancy_within(evidence, cameras)
    score = _score(sparsifier, evidence)
    kept = tuple(
        float(worth.ravel()[sparsifier.select_each(
            evidence.proposals, [evidence.grid] * len(cameras), share,
            cameras=evidence.cameras).keep].sum()) / total for share in BUDGETS)
    newest = len(set(evidence.cameras))
    return _Seen(
        float(worth[is_top(worth)].sum()) / total, float(worth[-newest:].sum()) / total,
        float(worth[cameras == FRONT].sum()) / total, rank_correlation(worth, here),
        rank_correlation(worth, there), effective_rank(evidence.tokens), area_of(score, worth),
        area_of(_score(sparsifier.variant(alpha=0.0), evidence), worth), kept,
        by_tenth(worth, here))


def redundancy_within(evidence: WindowFeatures, cameras: NDArray[np.str_]
                      ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how well other frames of the same camera predict each token, as redundancy_of."""
    here, there = (np.zeros(evidence.tokens.shape[:2], np.float32) for _ in range(2))
    for camera in np.unique(cameras):
        own = cameras == camera
        here[own], there[own] = redundancy_of(evidence._replace(
            frames=evidence.frames[own], tokens=evidence.tokens[own]))
    return here, there


def _score(sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
    chosen = sparsifier.select_each(evidence.proposals, [evidence.grid] * len(evidence.proposals),
                                    1.0, cameras=evidence.cameras)
    return chosen.score.reshape(evidence.tokens.shape[:2])


def _means(some: Sequence[_Seen]) -> dict[str, list[float]]:
    bootstrap, found = Bootstrap(len(some)), {}
    names = [name for name in _Seen._fields if name not in ('kept', 'tenths')]
    columns = {name: np.array([getattr(window, name) for window in some]) for name in names}
    columns |= {f'kept_{share:g}': np.array([window.kept[place] for window in some])
                for place, share in enumerate(BUDGETS)}
    for name, values in columns.items():
        found[name] = [round(float(values.mean()), 4), *bootstrap.mean(values)]
    return found


#: What stands in the table, by the name of the figure; of a share in percent.
_ROWS = {
    'top_share': 'importance of a tenth of the tokens, %',
    **{f'kept_{share:g}': f'importance of what `vts` keeps at {share:.0%}, %'
       for share in BUDGETS},
    'newest_share': 'importance of the newest pictures, %',
    'ahead_share': 'importance of the camera ahead, %',
    'correlation': 'rank correlation of importance and redundancy',
    'carried_correlation': 'the same, carried by optical flow',
    'effective_rank': 'effective rank',
    'auc_vts': 'AUC of the score that ships',
    'auc_importance': 'AUC of saliency alone'}
_SHARES = ('top_share', 'newest_share', 'ahead_share', *(f'kept_{share:g}' for share in BUDGETS))


def section(result: dict[str, Any]) -> Iterator[str]:
    """Yield what a page says of a result."""
    counts = list(result['figures'])
    yield '\n## By number of cameras\n'
    yield (f'{result["n"]} rendered scenes of the split `test`, half of them with traffic from '
           'the side, as the camera ahead alone\nsees them, with one more of either side in turn, '
           f'and with both; model with `{result["adapter"] or "no adapter"}`. The shipped one\n'
           'knows one camera. Redundancy is that of the same camera; the score is that of '
           '[method.md](method.md#several-cameras).\n')
    yield '| | ' + ' | '.join(
        f'{count} {"camera" if count == "1" else "cameras"}, {result["tokens"][count]} tokens'
        for count in counts) + ' |'
    yield '|---|' + '---|' * len(counts)
    for name, title in _ROWS.items():
        yield f'| {title} | ' + ' | '.join(
            _cell(name, result['figures'][count][name]) for count in counts) + ' |'
    tenths = len(result['joint'][counts[0]])
    yield ('\nShare of the importance, in percent, in each tenth of the tokens by redundancy, '
           'from the least to the most:\n')
    yield '| cameras |' + ''.join(f' {tenth} |' for tenth in range(1, tenths + 1))
    yield '|---|' + '---|' * tenths
    for count, shares in result['joint'].items():
        yield f'| {count} |' + ''.join(f' {100.0 * share:.0f} |' for share in shares)


def _cell(name: str, found: Sequence[float]) -> str:
    if name in _SHARES:
        mean, low, high = (f'{100.0 * value:.0f}' for value in found)
    elif name == 'effective_rank':
        mean, low, high = (f'{value:.0f}' for value in found)
    else:
        signed = '+.2f' if 'correlation' in name else '.2f'
        mean, low, high = (f'{value:{signed}}' for value in found)
    return f'{mean} [{low}, {high}]'
