# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Polygons and limbs in space, of which all that is drawn is made.

Local coordinates: x forward, y left, z up, metres, origin on the ground below the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.world import Floats, State

Colour = tuple[float, float, float]
Point = tuple[float, float, float]
#: Corners, colour, and whether it shines itself.
Polygons = Sequence[tuple[Sequence[Point], Colour, bool]]

#: Of wheels and lamps, on whatever they are.
TYRE: Colour = (26, 26, 28)
HUB: Colour = (120, 122, 126)
TAIL_LIT: Colour = (190, 20, 18)
BRAKE_LIT: Colour = (255, 62, 44)
HEAD_LIT: Colour = (255, 250, 228)
#: Lengths of what are limbs, and widths of what are polygons.
NO_LENGTHS, NO_WIDTHS = np.empty(0, np.intp), np.empty(0)


class Sketch(NamedTuple):
    """
    Polygons or limbs in the world, in the order of drawing.

    Attributes
    ----------
    points
        (n, 3): s, d, z. Corners of polygons, or the two ends of each limb.
    lengths
        (k,) corners of each polygon; empty where these are limbs.
    widths
        (k,) thickness of each limb in m; empty where these are polygons.
    colours
        (k, 3) RGB, 0 to 255.
    glow
        (k,) whether it shines itself, whatever the light of the scene.
    s, d
        Where it is, for the order of drawing and the light.
    unboxed
        How many polygons at the start do not count for the box.

    """

    points: Floats
    lengths: NDArray[np.intp]
    widths: Floats
    colours: Floats
    glow: NDArray[np.bool_]
    s: float
    d: float
    unboxed: int = 0


def place(local: Floats, state: State) -> Floats:
    """Turn and move local points (n, 3) into the world."""
    cos, sin = math.cos(state.yaw), math.sin(state.yaw)
    turn = np.array(((cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0)))
    return local @ turn + (state.s, state.d, 0.0)


def rectangle(y0: float, y1: float, z0: float, z1: float, x: float = 0.0) -> list[Point]:
    """Return an upright rectangle across the road."""
    return [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]


def flat_sketch(polygons: Polygons, state: State, unboxed: int = 0) -> Sketch:
    """Return plain polygons in the world."""
    local = np.array([point for polygon, _, _ in polygons for point in polygon], float)
    return Sketch(place(local, state), np.array([len(polygon) for polygon, _, _ in polygons]),
                  NO_WIDTHS, np.array([colour for _, colour, _ in polygons], float),
                  np.array([glow for _, _, glow in polygons]), state.s, state.d, unboxed)


def disc(y: float, z: float, radius: float, x: float) -> list[Point]:
    """Return an upright disc across the road."""
    return [(x, y + radius * math.cos(a), z + radius * math.sin(a))
            for a in np.linspace(0, 2 * math.pi, 13)[:-1].tolist()]
