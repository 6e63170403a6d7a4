# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which points of a cloud are the road: what is near there is nothing that one could hit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Planes that are tried, of three points each, and points that each is judged by.
_TRIES, _SAMPLE = 80, 2000
#: Points this near to a plane are on it; up to this high above it they count as ground, in m.
_ON_PLANE_M, _ABOVE_M = 0.1, 0.25
#: The road is this near, this much below a camera, and this level, as the camera sees it.
_NEAR_M, _HEIGHTS_M, _SLOPE_RAD = 30.0, (0.3, 4.5), math.radians(15.0)
#: So many of the points tried are on it at least; otherwise there is no road in sight.
_LEAST = 0.05


def above_ground(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Return the points that are not on the road.

    The road is taken for one plane, and the camera for upright. Without such a plane all points
    stay. The same points always give the same result.

    Parameters
    ----------
    points
        [N, 3] in the optical frame of the camera: x right, y down, z ahead, in m.

    """
    rng = np.random.default_rng(0)
    # What is above the camera is no road.
    below = points[(points[:, 1] > _HEIGHTS_M[0]) & (points[:, 2] > 0.0)
                   & (points[:, 2] < _NEAR_M)]
    if len(below) < 3:
        return points
    if len(below) > _SAMPLE:
        below = below[rng.choice(len(below), _SAMPLE, replace=False)]
    a, b, c = below[rng.integers(len(below), size=(3, _TRIES))]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    length[length < 1e-9] = np.inf
    normals /= length[:, None]
    normals *= np.where(normals[:, 1:2] < 0.0, -1.0, 1.0)
    heights = (normals * a).sum(axis=1)
    fits = ((normals[:, 1] > math.cos(_SLOPE_RAD)) & (heights > _HEIGHTS_M[0])
            & (heights < _HEIGHTS_M[1]))
    if not fits.any():
        return points
    normals, heights = normals[fits], heights[fits]
    on_plane = (np.abs(below @ normals.T - heights) < _ON_PLANE_M).sum(axis=0)
    best = int(on_plane.argmax())
    if on_plane[best] < _LEAST * len(below):
        return points
    # Down is positive: what is on the road or under it is at least that far down.
    return points[points @ normals[best] < heights[best] - _ABOVE_M]
