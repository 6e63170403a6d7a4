# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dense targets from the ground truth: what each cell of a picture shows.

Sentences are a thin signal for a network that has yet to learn to see. A class, a box, a
distance and a motion for every cell of the token grid say much more per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.cells import claimed
from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth, LABELS, MOTIONS

#: Details that decide about the risk and have to be seen: lamps, above all.
DETAILS = ('red', 'green', 'braking')


class CellTargets(NamedTuple):
    """
    Targets of a picture on a grid of rows x columns cells.

    Attributes
    ----------
    label
        int64, 0 for the background, 1 + index into ``LABELS`` otherwise.
    box
        float32 (rows, columns, 4), box of the actor in the cell.
    distance
        float32, natural logarithm of the distance in metres, 0 within a metre.
    lateral
        float32, how far to the left of the ego lane centre, in units of 5 m, -2 to 2.
    motion
        int64, 0 for the background, 1 + index into ``MOTIONS`` otherwise.
    detail
        float32 (rows, columns, len(DETAILS)), 0 or 1.
    risk
        float32, 1 where the risk object is.
    approach
        float32 (rows, columns, 2), how the actor has moved since the picture before: its speed
        towards the camera over its distance in 1/s, and its speed to the left over 5 m/s; NaN
        for the background and where there was no picture of it before.

    """

    label: NDArray[np.int64]
    box: NDArray[np.float32]
    distance: NDArray[np.float32]
    lateral: NDArray[np.float32]
    motion: NDArray[np.int64]
    detail: NDArray[np.float32]
    risk: NDArray[np.float32]
    approach: NDArray[np.float32]


def cell_targets(truth: FrameTruth, rows: int, columns: int,
                 before: FrameTruth | None = None) -> CellTargets:
    """Return the targets of a picture; nearer actors hide the ones behind them."""
    earlier = {actor.id: actor for actor in before.actors} if before else {}
    shape = (rows, columns)
    targets = CellTargets(
        label=np.zeros(shape, np.int64), box=np.zeros((*shape, 4), np.float32),
        distance=np.zeros(shape, np.float32), lateral=np.zeros(shape, np.float32),
        motion=np.zeros(shape, np.int64),
        detail=np.zeros((*shape, len(DETAILS)), np.float32), risk=np.zeros(shape, np.float32),
        approach=np.full((*shape, 2), np.nan, np.float32))
    for actor in sorted(truth.actors, key=lambda actor: (actor.is_risk, -actor.distance_m)):
        if actor.visible < 0.2:
            continue
        cells = claimed(actor, rows, columns)
        targets.label[cells] = 1 + LABELS.index(actor.label)
        targets.box[cells] = actor.box
        targets.distance[cells] = math.log(max(actor.distance_m, 1.0))
        targets.lateral[cells] = min(max(actor.lateral_m / 5.0, -2.0), 2.0)
        targets.motion[cells] = 1 + MOTIONS.index(actor.motion)
        targets.detail[cells] = [name in (actor.detail, actor.motion) for name in DETAILS]
        targets.risk[cells] = actor.is_risk
        if before and actor.id in earlier:
            seconds = (truth.stamp_ns - before.stamp_ns) * 1e-9
            targets.approach[cells] = _approach(earlier[actor.id], actor, seconds)
    return targets


def _approach(before: Actor, now: Actor, seconds: float) -> tuple[float, float]:
    closing = (before.distance_m - now.distance_m) / seconds / max(now.distance_m, 2.0)
    return min(max(closing, -1.0), 1.5), (now.lateral_m - before.lateral_m) / seconds / 5.0


#: Types of the fields as they are kept on disk: half of the memory, and precise enough.
_STORED = (np.uint8, np.float16, np.float16, np.float16, np.uint8, np.uint8, np.uint8, np.float16)
#: Types of the fields that losses want.
_LOADED = (np.int64, np.float32, np.float32, np.float32, np.int64, np.float32, np.float32,
           np.float32)


def stored(targets: CellTargets) -> CellTargets:
    """Return targets in the types in which they are kept."""
    return _as_types(targets, _STORED)


def loaded(targets: CellTargets) -> CellTargets:
    """Return kept targets in the types of :func:`cell_targets`."""
    return _as_types(targets, _LOADED)


def _as_types(targets: CellTargets, kinds: Sequence[type[np.generic]]) -> CellTargets:
    fields: list[Any] = [np.asarray(field).astype(kind) for field, kind in zip(targets, kinds)]
    return CellTargets(*fields)


def by_token(targets: CellTargets, merge: int) -> CellTargets:
    """
    Order the cells by the visual token that they belong to.

    Parameters
    ----------
    targets
        Of B pictures, fields [B, rows, columns, ...].
    merge
        Side of a visual token in cells.

    Returns
    -------
    Fields [B, tokens, merge * merge, ...].

    """
    fields: list[Any] = []
    for field in targets:
        count, rows, columns = field.shape[:3]
        split = field.reshape(count, rows // merge, merge, columns // merge, merge,
                              *field.shape[3:])
        fields.append(split.swapaxes(2, 3).reshape(
            count, rows * columns // merge ** 2, merge ** 2, *field.shape[3:]))
    return CellTargets(*fields)


def stack(targets: Sequence[CellTargets]) -> CellTargets:
    """Stack the targets of several pictures along a new first axis."""
    fields: list[Any] = [np.stack(field) for field in zip(*targets)]
    return CellTargets(*fields)
