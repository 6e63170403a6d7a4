# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How close to a collision each cell of a picture is, by the range that is measured there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.ranges.range_projection import Lens

#: What comes so much faster than this is something else that came into the cell: two vehicles
#: that meet at 125 km/h each.
FASTEST_MPS = 70.0
#: A cell at this time to collision or less is as close as can be, and at that time or more not
#: close at all, in s: where `high` begins, and where `low` ends (docs/senses.md).
CLOSE_SEC, FAR_SEC = 2.0, 6.0
#: What is up to this far beside the axis of the camera is in the path, and from there on not, in
#: m: half a car and some room, and the next lane.
PATH_M, BESIDE_M = 1.5, 3.0


def closing_speed(before: NDArray[np.floating], now: NDArray[np.floating], seconds: float
                  ) -> NDArray[np.float32]:
    """
    Return how fast what is in each cell comes nearer.

    What is there now is looked for in the cell and around it: it may have moved by a cell. Of
    what was there, the range that is most like the present one is taken, so that another thing
    that comes into the cell from the side is not taken for something fast.

    Parameters
    ----------
    before, now
        [rows, columns] ranges in m, inf where nothing was measured.
    seconds
        Between both.

    Returns
    -------
    float32 [rows, columns] in m/s, negative for what goes away; NaN where it is not known.

    """
    if not seconds > 0.0:
        raise ValueError(f'a change of range needs time, not {seconds} s')
    rows, columns = now.shape
    padded = np.pad(before, 1, constant_values=np.inf)
    around = np.stack([padded[row:row + rows, column:column + columns]
                       for row in range(3) for column in range(3)])
    with np.errstate(invalid='ignore'):
        change = around - now
    change[~np.isfinite(change)] = np.inf
    likest = np.abs(change).argmin(axis=0)
    speed = np.take_along_axis(change, likest[None], axis=0)[0] / seconds
    speed[np.abs(speed) > FASTEST_MPS] = np.nan
    return speed.astype(np.float32)


def time_to_collision(ranges: NDArray[np.floating], closing: NDArray[np.floating]
                      ) -> NDArray[np.float32]:
    """Return range over closing speed in s; inf where nothing comes nearer or is known."""
    found = np.full(ranges.shape, np.inf, np.float32)
    comes = np.isfinite(ranges) & (closing > 0.0)
    found[comes] = ranges[comes] / closing[comes]
    return found


def urgency(ttc_sec: NDArray[np.floating]) -> NDArray[np.float32]:
    """
    Return how little time is left in each cell, float32 0 to 1.

    ``(FAR_SEC - ttc) / (FAR_SEC - CLOSE_SEC)``, cut off at 0 and 1.
    """
    return np.clip((FAR_SEC - ttc_sec) / (FAR_SEC - CLOSE_SEC), 0.0, 1.0).astype(np.float32)


def in_path(ranges: NDArray[np.floating], lens: Lens, path_m: float = PATH_M,
            beside_m: float = BESIDE_M) -> NDArray[np.float32]:
    """
    Return how far each cell is in the path ahead of a camera, float32 0 to 1.

    By the way to the side from the axis of the camera, with the bearing of the middle of the
    cell: 1 up to ``path_m``, 0 from ``beside_m`` on. Where no range is known it is 1.
    """
    columns = (np.arange(ranges.shape[1]) + 0.5) * lens.width / ranges.shape[1] - 0.5
    slope = (columns - lens.matrix[0, 2]) / lens.matrix[0, 0]
    known = np.where(np.isfinite(ranges), ranges, 0.0)
    aside = np.abs(known * (slope / np.hypot(1.0, slope)))
    return np.clip((beside_m - aside) / (beside_m - path_m), 0.0, 1.0).astype(np.float32)


def closeness(ranges: NDArray[np.floating], ttc_sec: NDArray[np.floating], lens: Lens
              ) -> NDArray[np.float32]:
    """Return how close each cell is to a collision, float32 0 to 1: urgent and in the path."""
    return urgency(ttc_sec) * in_path(ranges, lens)
