# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the truth about a picture says of each cell of a grid over it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth
from vts_ros.vlm.answers import Box

#: An actor claims a cell that it covers by this share, or that holds this share of the actor.
_CELL_SHARE, _ACTOR_SHARE = 0.2, 0.25
#: And so much of a cell at least matters with it.
_EDGE_SHARE = 0.15
_UNPROTECTED = ('motorcycle', 'cyclist', 'pedestrian', 'child', 'animal')


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


def saliency(things: Iterable[tuple[float, Box]], rows: int, columns: int
             ) -> NDArray[np.float32]:
    """
    Return how much each cell of a frame matters, float32 [rows, columns].

    Parameters
    ----------
    things
        Importance of each, 0 to 1, and its box. A cell that it hardly touches, and that holds
        little of it, is not its own; one that it fills, or that holds most of it, matters more
        than one at its edge.

    """
    found = np.zeros((rows, columns), np.float32)
    for weight, box in things:
        shared, area = overlaps(box, rows, columns)
        cells = (shared >= _EDGE_SHARE) | (shared >= _ACTOR_SHARE * area)
        held = np.minimum(0.5 + np.maximum(shared, shared / area), 1.0)
        found = np.where(cells, np.maximum(found, weight * held), found)
    return found.astype(np.float32)


def true_saliency(truth: FrameTruth, rows: int, columns: int) -> NDArray[np.float32]:
    """
    Return how much each cell of a frame matters, float32 [rows, columns].

    1 for the risk object, less for what could become one; the road itself is 0.
    """
    return saliency(((importance(actor), actor.box) for actor in truth.actors), rows, columns)


def importance(actor: Actor) -> float:
    """Return how much an actor matters, 0 to 1."""
    if actor.is_risk:
        return 1.0
    return general_importance(actor.label in _UNPROTECTED) if actor.visible >= 0.2 else 0.0


def general_importance(is_unprotected: bool) -> float:
    """
    Return how much something matters of which it is not known whether it is a risk, 0 to 1.

    Near things do not matter more than far ones by themselves: they have more cells as it is, and
    what is far has few, which a small budget would lose first.

    Parameters
    ----------
    is_unprotected
        Whether no bodywork is around it: people, two-wheelers, animals.

    """
    return 0.55 if is_unprotected else 0.45
