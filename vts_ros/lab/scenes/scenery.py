# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What stands beside the road: houses, trees, lamp posts, signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
import math

from vts_ros.lab.scenes.skeletons import Limb, skeleton_sketch
from vts_ros.lab.scenes.sketches import Colour, disc, flat_sketch, Point, rectangle, Sketch
from vts_ros.lab.scenes.world import Prop, State


def _house(prop: Prop, dark: bool) -> Sketch:
    side = 1.0 if prop.d > 0 else -1.0
    near, far = prop.s, prop.s + prop.length
    wall, back = prop.d, prop.d + side * prop.width
    height = prop.height
    r, g, b = prop.colour
    shade = 0.74 + 0.14 * prop.variant
    front: Colour = (r * shade, g * shade, b * shade)
    gable: Colour = (r * 0.95, g * 0.95, b * 0.95)
    polygons: list[tuple[Sequence[Point], Colour, bool]] = [
        ([(near, wall, 0), (far, wall, 0), (far, wall, height), (near, wall, height)],
         front, False),
        ([(near, wall, 0), (near, back, 0), (near, back, height), (near, wall, height)],
         gable, False)]
    if height < 9.5:
        middle, ridge = 0.5 * (wall + back), height + 0.35 * prop.width
        roof: Colour = (122, 62, 48) if prop.variant > 0.45 else (78, 80, 88)
        polygons += [
            ([(near, wall, height), (near, back, height), (near, middle, ridge)], gable, False),
            ([(near, wall, height), (far, wall, height), (far, middle, ridge),
              (near, middle, ridge)], roof, False)]
    bright: Colour = (238, 200, 120) if dark else (64, 76, 92)
    dull: Colour = (40, 44, 52) if dark else (88, 100, 116)
    columns = max(2, int(prop.length / 2.6))
    wide = 0.45 * prop.length / columns
    for floor in range(max(1, int(height / 3.0))):
        z = 1.0 + floor * 3.0
        for column in range(columns):
            s = near + (column + 0.28) * prop.length / columns
            on = math.sin(12.9 * floor + 7.7 * column + 50.0 * prop.variant) > 0.1
            polygons.append(([(s, wall, z), (s + wide, wall, z), (s + wide, wall, z + 1.5),
                              (s, wall, z + 1.5)], bright if on else dull, dark and on))
    return flat_sketch(polygons, State(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))._replace(
        s=far, d=prop.d)


def _upright(prop: Prop) -> State:
    return State(prop.s, prop.d, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _tree(prop: Prop, dark: bool) -> Sketch:
    height, crown = prop.height, prop.width
    r, g, b = prop.colour
    dim: Colour = (r * 0.72, g * 0.72, b * 0.72)
    bright: Colour = (min(255.0, r * 1.18), min(255.0, g * 1.18), b * 1.1)
    trunk: Colour = (82, 64, 48)
    if prop.variant > 0.7:  # a conifer
        state = _upright(prop)
        polygons: list[tuple[Sequence[Point], Colour, bool]] = [
            (rectangle(-0.15, 0.15, 0.0, 0.2 * height), trunk, False)]
        for low, high, wide in ((0.12, 0.55, 0.5), (0.36, 0.80, 0.38), (0.60, 1.0, 0.26)):
            half, z = wide * crown, low * height
            polygons.append(([(0.0, -half, z), (0.0, half, z), (0.0, 0.0, high * height)],
                             dim if low > 0.3 else prop.colour, False))
        return flat_sketch(polygons, state)
    base = (0.0, 0.0, 0.0)
    limbs = [Limb(base, (0.0, 0.0, 0.5 * height), 0.05 * height, trunk),
             Limb((0.0, 0.22 * crown, 0.58 * height), (0.0, -0.22 * crown, 0.56 * height),
                  0.72 * crown, dim),
             Limb((0.0, 0.10 * crown, 0.70 * height), (0.0, -0.16 * crown, 0.72 * height),
                  0.70 * crown, prop.colour),
             Limb((0.0, 0.05 * crown, 0.80 * height), (0.0, 0.16 * crown, 0.78 * height),
                  0.45 * crown, bright)]
    return skeleton_sketch(limbs, _upright(prop))


def _bush(prop: Prop, dark: bool) -> Sketch:
    r, g, b = prop.colour
    h, w = prop.height, prop.width
    limbs = [Limb((0.0, 0.3 * w, 0.4 * h), (0.0, -0.3 * w, 0.4 * h), 0.85 * h,
                  (r * 0.8, g * 0.8, b * 0.8)),
             Limb((0.0, 0.1 * w, 0.6 * h), (0.0, -0.2 * w, 0.55 * h), 0.7 * h, prop.colour)]
    return skeleton_sketch(limbs, _upright(prop))


def _lamp_post(prop: Prop, dark: bool) -> Sketch:
    side = -1.0 if prop.d > 0 else 1.0
    h = prop.height
    grey: Colour = (112, 116, 120)
    limbs = [Limb((0.0, 0.0, 0.0), (0.0, 0.0, h), 0.14, grey),
             Limb((0.0, 0.0, h), (0.0, side * 1.6, h + 0.15), 0.10, grey),
             Limb((0.0, side * 1.3, h + 0.08), (0.0, side * 2.0, h + 0.12), 0.20,
                  (255, 226, 160) if dark else (196, 198, 200), dark)]
    return skeleton_sketch(limbs, _upright(prop))


def _post(prop: Prop, dark: bool) -> Sketch:
    return flat_sketch([(rectangle(-0.07, 0.07, 0.0, 1.0), (232, 232, 228), False),
                  (rectangle(-0.07, 0.07, 0.72, 0.86, -0.01), (24, 24, 26), False)],
                 _upright(prop))


def _cone(prop: Prop, dark: bool) -> Sketch:
    orange: Colour = (240, 98, 28)

    def band(low: float, high: float) -> list[Point]:
        a, b = 0.19 * (1 - low / 0.8), 0.19 * (1 - high / 0.8)
        return [(-0.01, -a, low), (-0.01, a, low), (-0.01, b, high), (-0.01, -b, high)]

    return flat_sketch([(rectangle(-0.24, 0.24, 0.0, 0.07), (60, 44, 40), False),
                  ([(0.0, -0.19, 0.04), (0.0, 0.19, 0.04), (0.0, 0.03, 0.78), (0.0, -0.03, 0.78)],
                   orange, False), (band(0.30, 0.48), (240, 240, 236), False)],
                 _upright(prop))


def _sign(prop: Prop, dark: bool) -> Sketch:
    """Return a small road sign; the warning triangle announces a construction site."""
    pole = (rectangle(-0.04, 0.04, 0.0, 2.0, 0.03), (120, 124, 128), False)
    if prop.variant > 0.5:
        outer = [(0.0, -0.5, 1.75), (0.0, 0.5, 1.75), (0.0, 0.0, 2.6)]
        inner = [(-0.01, -0.32, 1.85), (-0.01, 0.32, 1.85), (-0.01, 0.0, 2.40)]
        return flat_sketch([pole, (outer, (210, 32, 30), False), (inner, (244, 236, 216), False)],
                     _upright(prop))
    return flat_sketch([pole, (disc(0.0, 2.2, 0.38, 0.0), (208, 34, 32), False),
                  (disc(0.0, 2.2, 0.27, -0.01), (240, 240, 236), False)], _upright(prop))


def _gantry(prop: Prop, dark: bool) -> Sketch:
    """Return a motorway sign on a gantry over the road."""
    half = prop.width / 2
    grey: Colour = (126, 130, 134)
    blue: Colour = (24, 74, 158)
    white: Colour = (232, 234, 236)
    return flat_sketch([(rectangle(-half, -half + 0.4, 0.0, 6.6), grey, False),
                  (rectangle(half - 0.4, half, 0.0, 6.6), grey, False),
                  (rectangle(-half, half, 6.3, 6.7), grey, False),
                  (rectangle(-half * 0.7, -0.3, 5.2, 7.6, -0.1), blue, False),
                  (rectangle(0.3, half * 0.7, 5.2, 7.6, -0.1), blue, False),
                  (rectangle(-half * 0.6, -1.2, 6.6, 7.0, -0.2), white, False),
                  (rectangle(-half * 0.6, -2.2, 5.8, 6.1, -0.2), white, False),
                  (rectangle(1.0, half * 0.6, 6.6, 7.0, -0.2), white, False)], _upright(prop))


SCENERY: dict[str, Callable[[Prop, bool], Sketch]] = {
    'house': _house, 'tree': _tree, 'bush': _bush, 'lamp': _lamp_post, 'post': _post,
    'cone': _cone, 'sign': _sign, 'gantry': _gantry,
}


@lru_cache(maxsize=4096)
def sketch_prop(prop: Prop, dark: bool) -> Sketch:
    """Return a piece of scenery; it never moves."""
    return SCENERY[prop.kind](prop, dark)
