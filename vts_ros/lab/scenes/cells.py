# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the truth about a picture says of each cell of a grid over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth
from vts_ros.vlm.answers import Box

#: An actor claims a cell that it covers by this share, or that holds this share of the actor.
_CELL_SHARE, _ACTOR_SHARE = 0.2, 0.25


def overlaps(box: Box, rows: int, columns: int) -> tuple[NDArray[np.float64], float]:
    """Return the area shared by the box and each cell, in cells, and the area of the box."""
    left, top, right, bottom = box
    x = np.clip(np.minimum(right * columns, np.arange(1, columns + 1))
                - np.maximum(left * columns, np.arange(columns)), 0, None)
    y = np.clip(np.minimum(bottom * rows, np.arange(1, rows + 1))
                - np.maximum(top * rows, np.arange(rows)), 0, None)
    return np.outer(y, x), max((right - left) * columns * (bottom - top) * rows, 1e-9)


def claimed(actor: Actor, rows: int, columns: int) -> NDArray[np.bool_]:
    """Return which cells of the grid the actor claims."""
    shared, area = overlaps(actor.box, rows, columns)
    return np.asarray((shared >= _CELL_SHARE) | (shared >= _ACTOR_SHARE * area))


def true_saliency(truth: FrameTruth, rows: int, columns: int) -> NDArray[np.float32]:
    """
    Return how much each cell of a frame matters, float32 [rows, columns].

    1 for the risk object, less for what could become one, by nearness; the road itself is 0.
    """
    saliency = np.zeros((rows, columns), np.float32)
    for actor in truth.actors:
        cells = claimed(actor, rows, columns)
        saliency[cells] = np.maximum(saliency[cells], _importance(actor))
    return saliency


def _importance(actor: Actor) -> float:
    if actor.is_risk:
        return 1.0
    if actor.visible < 0.2:
        return 0.0
    return (0.15 if actor.parked else 0.3) + 0.3 * _nearness(actor.distance_m)


def _nearness(distance_m: float) -> float:
    """Return 1 at the bumper and 0.5 at 15 m, so that near differences weigh more."""
    return 15.0 / (15.0 + max(distance_m, 0.0))
