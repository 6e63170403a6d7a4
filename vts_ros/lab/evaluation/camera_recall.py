# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What each score keeps of the risk object in windows of three cameras."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.kept_rows import kept_rows, Row
from vts_ros.lab.evaluation.proposal_recall import claimed
from vts_ros.lab.evaluation.score_recall import figures, kept_shares
from vts_ros.lab.rivals.registry import Method
from vts_ros.lab.scenes.ground_truth import frame_truth
from vts_ros.lab.scenes.several_cameras import camera_windows, CAMERAS, CameraWindow, FRONT
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import WindowFeatures

#: Windows of a file.
_WINDOWS = 32
ALL, AHEAD, ASIDE = PARTS = ('all', 'object ahead', 'object at a side')

Progress = Callable[[float, str], None]


def camera_recall(pipeline: Pipeline, methods: Sequence[Method], n: int,
                  budgets: Sequence[float], folder: Path,
                  progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Return which share of the tokens of the risk object each method keeps, of three cameras.

    Parameters
    ----------
    methods
        None that looks at visual tokens or at the frame before, which is of another camera.
    n
        Rendered windows of the split ``test`` that have a risk object.

    Returns
    -------
    ``{'n', 'parts': {part: figures}}``, see ``score_recall.figures``; parts are ``PARTS``.

    """
    rows: list[Row] = []
    for first in itertools.count(0, _WINDOWS):
        if len(rows) >= n:
            break
        rows += kept_rows(folder / f'cameras-{first:05d}.json', methods, budgets,
                          lambda missing, first=first: _rows(  # type: ignore[misc]
                              pipeline, missing, budgets, camera_windows(
                                  'test', _WINDOWS, first, CAMERAS)))
        progress(min(1.0, len(rows) / n), f'{min(len(rows), n)} of {n} of three cameras')
    rows = rows[:n]
    chosen = {ALL: rows, AHEAD: [row for row in rows if row['camera'] == FRONT],
              ASIDE: [row for row in rows if row['camera'] != FRONT]}
    return {'n': n, 'parts': {part: figures(some, methods, budgets)
                              for part, some in chosen.items() if some}}


def _rows(pipeline: Pipeline, methods: Sequence[Method], budgets: Sequence[float],
          windows: Iterable[CameraWindow]) -> list[Row]:
    rows = []
    for window in windows:
        if window.camera is None:
            continue
        evidence, tokens = features_of(pipeline, window)
        if tokens.any():
            rows.append({'camera': window.camera, 'family': window.truth.family,
                         'kept': kept_shares(evidence, tokens, methods, budgets)})
    return rows


def features_of(pipeline: Pipeline, window: CameraWindow
                ) -> tuple[WindowFeatures, NDArray[np.bool_]]:
    """
    Return what scores look at, and which tokens show the risk object, bool [T, N].

    Frames are in the order of time and, of one time, of the names of their cameras. There are no
    visual tokens.
    """
    worst = next(actor.id for actor in window.truth.actors if actor.is_risk)
    pictures = window.frames()
    some = pictures[window.cameras[0]]
    grid = pipeline.vlm.token_grid(*some.shape[1:3])
    order = sorted(range(len(window.cameras)), key=lambda place: window.cameras[place])
    frames, shows, cameras = [], [], []
    for index, place in itertools.product(range(len(window.times)), order):
        frames.append(pictures[window.cameras[place]][index])
        cameras.append(window.cameras[place])
        actor = next((actor for actor in frame_truth(window.scenes[place], index).actors
                      if actor.id == worst), None)
        shows.append((np.zeros(grid, bool) if actor is None else claimed(actor, *grid)).ravel())
    evidence = WindowFeatures(
        np.stack(frames), tuple(map(pipeline.sparsifier.propose, frames)),
        np.zeros((len(frames), grid[0] * grid[1], 0), np.float32), grid, cameras=tuple(cameras))
    return evidence, np.stack(shows)
