# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What scores keep where rendered drives say little: on real roads, and while the car stands still.

No language model is needed. What was found is kept on disk, so that the same call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.box_coverage import Look, Looker, Salient
from vts_ros.lab.evaluation.drawn_boxes import TrafficError
from vts_ros.lab.evaluation.kept_rows import kept_rows, Row
from vts_ros.lab.evaluation.proposal_recall import object_tokens
from vts_ros.lab.evaluation.score_recall import figures, Progress
from vts_ros.lab.recordings import fingerprint, name_of
from vts_ros.lab.rivals.registry import Method
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.teacher import Found
from vts_ros.sparsify import Proposal, Sparsifier, token_budget, WindowFeatures

#: Rows and columns of visual tokens of a recording's frame, as in docs/recordings.md.
GRID = (9, 16)
#: Frames of a window of a standing car, and the deviation of the noise of its camera, of 255.
STILL_FRAMES, STILL_NOISE = 5, 4.0
#: Scenes of which such windows are made; the first, behind those of the risk objects; of a file.
STILL, _FIRST_STILL, _SCENES = 200, 4000, 40

#: Returns the visual tokens float32 [N, D] of a picture.
Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def road_recall(sparsifier: Sparsifier, methods: Sequence[Method], recordings: Sequence[Path],
                find: Callable[[Path], Found], budgets: Sequence[float], folder: Path,
                progress: Progress = lambda share, what: None, grid: tuple[int, int] = GRID,
                encode: Encode | None = None) -> dict[str, Any]:
    """
    Return which share of the area of road users each method keeps, in all frames of all windows.

    Parameters
    ----------
    find
        Returns the road users of a recording.
    folder
        Where what was found is kept, for one finder and one grid alone.
    grid
        Rows and columns of visual tokens of a frame.
    encode
        See ``Encode``; without, methods get nothing in place of visual tokens.

    Returns
    -------
    ``{'n', 'grid', 'names', 'windows', 'users', 'methods', 'each'}``, see
    :func:`vts_ros.lab.evaluation.score_recall.figures`; means over recordings, not over windows.
    Each: ``{method: {budget: [share of each recording]}}``.

    Raises
    ------
    BagError
        If a recording cannot be read.
    TrafficError
        If one has no road users in any full window.

    """
    rows: list[Row] = []
    for number, recording in enumerate(recordings):
        progress(number / len(recordings), f'{name_of(recording)}: road users')
        rows += kept_rows(folder / f'road-{fingerprint(recording)}.json', methods, budgets,
                          lambda missing, recording=recording: [  # type: ignore[misc]
                              _road(sparsifier, missing, recording, find(recording), budgets,
                                    grid, encode)])
    return {'grid': list(grid), 'names': [name_of(recording) for recording in recordings],
            'windows': sum(row['windows'] for row in rows),
            'users': round(sum(row['users'] for row in rows)),
            'each': {method.name: {f'{ratio:g}': [
                row['kept'][method.name][f'{ratio:g}'] for row in rows] for ratio in budgets}
                for method in methods},
            **figures(rows, methods, budgets)}


def _road(sparsifier: Sparsifier, methods: Sequence[Method], recording: Path, found: Found,
          budgets: Sequence[float], grid: tuple[int, int], encode: Encode | None) -> Row:
    way = Salient(sparsifier, lambda rgb, users: sparsifier.propose(rgb), '')
    kept = {method.name: dict.fromkeys((f'{ratio:g}' for ratio in budgets), 0.0)
            for method in methods}
    windows, total = 0, 0.0
    for window in Looker({'': way}, grid, found).windows(recording):
        windows += 1
        area = np.concatenate([look.covered.sum(axis=0) for look in window])
        total += float(area.sum())
        evidence = _evidence(window, grid, encode)
        for name, shares in _areas(evidence, methods, budgets, area).items():
            for share, value in shares.items():
                kept[name][share] += value
    if not total:
        raise TrafficError(f'{name_of(recording)} has no road users in any full window')
    return {'windows': windows, 'users': total, 'kept': {
        name: {share: round(value / total, 5) for share, value in shares.items()}
        for name, shares in kept.items()}}


def _evidence(window: Sequence[Look], grid: tuple[int, int], encode: Encode | None
              ) -> WindowFeatures:
    frames = np.stack([look.frame.rgb() for look in window])
    return WindowFeatures(frames, tuple(look.proposals[''] for look in window),
                          _tokens(frames, grid, encode), grid)


def _tokens(frames: NDArray[np.uint8], grid: tuple[int, int], encode: Encode | None
            ) -> NDArray[np.float32]:
    if encode is None:
        return np.zeros((len(frames), grid[0] * grid[1], 0), np.float32)
    return np.stack(list(map(encode, frames)))


def _areas(evidence: WindowFeatures, methods: Sequence[Method], budgets: Sequence[float],
           area: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """Return how much of an area [T * N] each method keeps at each budget."""
    found: dict[str, dict[str, float]] = {}
    for method in methods:
        for ratio in budgets:
            budget = token_budget(len(evidence.frames), evidence.grid, ratio)
            keeps = [method.keep(evidence, budget, choice)
                     for choice in range(len(method.choices))]
            found.setdefault(method.name, {})[f'{ratio:g}'] = float(np.mean([
                area[keep].sum() for keep in keeps if keep is not None]))
    return found


def still_recall(sparsifier: Sparsifier, methods: Sequence[Method], n: int,
                 budgets: Sequence[float], grid: tuple[int, int], folder: Path,
                 progress: Progress = lambda share, what: None, encode: Encode | None = None
                 ) -> dict[str, Any]:
    """
    Return which share of the places of the risk object each method keeps while nothing moves.

    A rendered picture of the split ``test`` stands for all frames, each with noise of its own. A
    place counts if it is kept in at least one of them: a second time it shows the same.

    Parameters
    ----------
    encode
        See ``Encode``; without, methods get nothing in place of visual tokens.

    Returns
    -------
    See :func:`vts_ros.lab.evaluation.score_recall.figures`.

    """
    rows: list[Row] = []
    for first in range(0, n, _SCENES):
        rows += kept_rows(folder / f'still-{first:05d}.json', methods, budgets,
                          lambda missing, first=first: _still_rows(  # type: ignore[misc]
                              sparsifier, missing, budgets, grid, first, encode))
        progress(min(1.0, first / n), f'{first} of {n} pictures')
    return figures(rows, methods, budgets)


def _still_rows(sparsifier: Sparsifier, methods: Sequence[Method], budgets: Sequence[float],
                grid: tuple[int, int], first: int, encode: Encode | None) -> list[Row]:
    rows = []
    for scene in balanced_scenes('test', _SCENES, _FIRST_STILL + first, frames=1):
        clip = render(scene)
        places = object_tokens(clip.truths, grid)[-1]
        if places.any():
            evidence = still_window(sparsifier, clip.frames[-1], grid, scene.seed, encode)
            rows.append({'kept': _places(evidence, methods, budgets, places)})
    return rows


def still_window(sparsifier: Sparsifier, picture: NDArray[np.uint8], grid: tuple[int, int],
                 seed: int, encode: Encode | None = None) -> WindowFeatures:
    """Return what methods see of a picture that a camera takes again and again."""
    rng = np.random.default_rng(seed)
    frames = np.clip(picture + rng.normal(0.0, STILL_NOISE, (STILL_FRAMES, *picture.shape)),
                     0.0, 255.0).round().astype(np.uint8)
    proposals: tuple[Proposal, ...] = tuple(map(sparsifier.propose, frames))
    return WindowFeatures(frames, proposals, _tokens(frames, grid, encode), grid)


def _places(evidence: WindowFeatures, methods: Sequence[Method], budgets: Sequence[float],
            places: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Return which share of places [N] is kept in at least one frame."""
    found: dict[str, dict[str, float]] = {}
    for method in methods:
        for ratio in budgets:
            budget = token_budget(len(evidence.frames), evidence.grid, ratio)
            shares = []
            for choice in range(len(method.choices)):
                keep = method.keep(evidence, budget, choice)
                assert keep is not None
                seen = np.zeros(len(places), bool)
                seen[keep % len(places)] = True
                shares.append(float(seen[places].mean()))
            found.setdefault(method.name, {})[f'{ratio:g}'] = round(float(np.mean(shares)), 5)
    return found
