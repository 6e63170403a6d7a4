# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What stands and moves in a warehouse: forklifts, pallets, robots, racks, lamps, doors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vts_ros.lab.scenes.scenery import SCENERY
from vts_ros.lab.scenes.sketches import Colour, flat_sketch, Point, rectangle, Sketch
from vts_ros.lab.scenes.vehicle_meshes import add_kind, Face, ground, patch, prism, shell, wheel
from vts_ros.lab.scenes.world import Prop, State

Polygon = tuple[Sequence[Point], Colour, bool]

STEEL: Colour = (62, 64, 70)
WOOD: Colour = (168, 128, 82)
WOOD_DARK: Colour = (112, 84, 54)
UPRIGHT: Colour = (38, 74, 150)
BEAM: Colour = (226, 106, 34)
GAP: Colour = (44, 46, 52)
YELLOW: Colour = (240, 196, 30)
BLACK: Colour = (28, 28, 30)
#: Cardboard, wrapped goods, crates.
GOODS: tuple[Colour, ...] = (
    (184, 144, 98), (170, 128, 84), (198, 162, 118), (206, 210, 214), (216, 218, 214),
    (70, 104, 150), (92, 132, 92))
#: Heights of the levels of a rack, in m.
LEVELS = (0.0, 1.7, 3.4, 5.1)
RACK_TOP_M = 6.4
BAY_M = 2.7

_NOWHERE = State(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


# --- what moves ----------------------------------------------------------------------------

def _forklift(length: float, width: float, height: float) -> list[Face]:
    """Return a forklift: forks and mast in front, a driver under a guard, a counterweight."""
    x, y = length / 2, width / 2
    mast_x = x - 0.95
    mast = prism((mast_x, mast_x + 0.16, 0.34, 0.1), (mast_x, mast_x + 0.16, 0.34, height))
    hull = prism((-x, mast_x - 0.05, y, 0.2), (-x + 0.08, mast_x - 0.3, y - 0.04, 0.95))
    weight = prism((-x, -x + 0.55, y - 0.02, 0.2), (-x + 0.1, -x + 0.5, y - 0.08, 1.12))
    roof = prism((-x + 0.25, mast_x, y - 0.1, height - 0.12),
                 (-x + 0.25, mast_x, y - 0.1, height - 0.04))
    driver = prism((-0.62, -0.3, 0.24, 0.85), (-0.6, -0.36, 0.22, 1.42))
    head = prism((-0.56, -0.34, 0.12, 1.42), (-0.55, -0.35, 0.11, 1.68))
    load = prism((mast_x + 0.2, x, y - 0.06, 0.28), (mast_x + 0.2, x, y - 0.08, 1.05))
    pallet = prism((mast_x + 0.2, x, y - 0.06, 0.12), (mast_x + 0.2, x, y - 0.06, 0.28))
    posts = []
    for side, sign in (('left', 1), ('right', -1)):
        for at in (-x + 0.3, mast_x - 0.1):
            posts.append(Face(side, BLACK, 1.0, 0.02, (
                (at, sign * (y - 0.1), 0.9), (at + 0.08, sign * (y - 0.1), 0.9),
                (at + 0.08, sign * (y - 0.1), height), (at, sign * (y - 0.1), height))))
    for side, at in (('rear', -x + 0.3), ('front', mast_x - 0.1)):
        for sign in (1, -1):
            inner, outer = sign * (y - 0.18), sign * (y - 0.08)
            posts.append(Face(side, BLACK, 1.0, 0.02, (
                (at, inner, 0.9), (at, outer, 0.9), (at, outer, height), (at, inner, height))))
    carried = shell(pallet, WOOD_DARK) + shell(load, 'cab')
    tower = [
        *shell(mast, STEEL),
        Face('front', (96, 98, 104), 1.0, 0.03, patch(mast['front'], 0.22, 0.78, 0.0, 1.0)),
        Face('rear', (96, 98, 104), 0.9, 0.03, patch(mast['rear'], 0.22, 0.78, 0.0, 1.0))]
    faces = [ground(length, width)]
    for side, sign in (('left', 1), ('right', -1)):
        faces += wheel(-x + 0.4, sign * y, 0.26, side) + wheel(mast_x - 0.3, sign * y, 0.3, side)
    # Seen from behind the hull hides mast and load, seen from the front these hide the hull.
    faces += [face for face in carried + tower if face.side != 'front']
    faces += shell(hull, 'paint') + shell(weight, 'paint')
    faces += shell(driver, 'stripe') + shell(head, (206, 160, 126)) + posts + shell(roof, BLACK)
    faces += [Face('rear', BLACK, 1.0, 0.02, patch(weight['rear'], 0.1, 0.9, 0.12, 0.4)),
              Face('rear', 'tail', 1.0, 0.0, patch(weight['rear'], 0.04, 0.2, 0.68, 0.9)),
              Face('rear', 'tail', 1.0, 0.0, patch(weight['rear'], 0.8, 0.96, 0.68, 0.9))]
    return faces + [face for face in tower + carried if face.side == 'front']


def _pallet(length: float, width: float, height: float) -> list[Face]:
    """Return a pallet with goods on it."""
    x, y = length / 2, width / 2
    wood = prism((-x, x, y, 0.0), (-x, x, y, 0.15))
    goods = prism((-x + 0.03, x - 0.03, y - 0.04, 0.15), (-x + 0.05, x - 0.05, y - 0.06, height))
    faces = [ground(length + 0.1, width + 0.1), *shell(wood, WOOD)]
    for side in ('rear', 'front', 'left', 'right'):
        faces += [Face(side, WOOD_DARK, 0.6, 0.02, patch(wood[side], left, left + 0.3, 0.15, 0.7))
                  for left in (0.12, 0.58)]
    faces += shell(goods, 'paint')
    for side in ('rear', 'front', 'left', 'right'):
        faces += [Face(side, 'paint', 0.66, 0.04, patch(goods[side], 0.49, 0.51, 0.0, 1.0)),
                  Face(side, 'paint', 0.66, 0.04, patch(goods[side], 0.0, 1.0, 0.47, 0.5)),
                  Face(side, (230, 230, 226), 1.0, 0.06, patch(goods[side], .6, .8, .6, .8))]
    return faces


def _robot(length: float, width: float, height: float) -> list[Face]:
    """Return a flat robot with a mast, a light strip all around, and a shelf on top."""
    x, y = length / 2, width / 2
    hull = prism((-x, x, y, 0.06), (-x + 0.03, x - 0.03, y - 0.02, 0.42))
    mast = prism((-x + 0.08, -x + 0.28, 0.16, 0.42), (-x + 0.08, -x + 0.28, 0.16, height))
    tray = prism((-x + 0.05, x - 0.05, y - 0.05, 0.8), (-x + 0.05, x - 0.05, y - 0.05, 0.88))
    screen = prism((-x + 0.06, -x + 0.12, 0.22, height - 0.3),
                   (-x + 0.06, -x + 0.12, 0.22, height))
    faces = [ground(length, width), *shell(hull, 'paint')]
    for side in ('rear', 'front', 'left', 'right'):
        faces += [Face(side, BLACK, 1.0, 0.02, patch(hull[side], 0.0, 1.0, 0.0, 0.25)),
                  Face(side, 'strip', 1.0, 0.0, patch(hull[side], 0.02, 0.98, 0.62, 0.8))]
    return faces + shell(mast, (200, 204, 208)) + shell(tray, 'paint') + [
        *shell(screen, BLACK),
        Face('rear', 'strip', 1.0, 0.03, patch(screen['rear'], 0.1, 0.9, 0.15, 0.9))]


add_kind('forklift', (3.3, 1.15, 2.15), _forklift)
add_kind('pallet', (1.2, 0.95, 1.0), _pallet)
add_kind('robot', (0.95, 0.68, 1.3), _robot)


# --- what stands ---------------------------------------------------------------------------

def _rack(prop: Prop, dark: bool) -> Sketch:
    """Return a bay of a rack: its side towards the aisle, and its near end."""
    side = 1.0 if prop.d > 0 else -1.0
    near, far, wall, back = prop.s, prop.s + prop.length, prop.d, prop.d + side * prop.width
    rng = np.random.default_rng(int(prop.variant * 2 ** 31))

    def facing(a: float, b: float, low: float, high: float, colour: Colour) -> Polygon:
        return [(a, wall, low), (b, wall, low), (b, wall, high), (a, wall, high)], colour, False

    def end(a: float, b: float, low: float, high: float, colour: Colour) -> Polygon:
        return [(near, a, low), (near, b, low), (near, b, high), (near, a, high)], colour, False

    polygons = [end(wall, back, 0.0, prop.height, (58, 62, 70))]
    for depth in (wall, back - side * 0.1):
        polygons.append(end(depth, depth + side * 0.1, 0.0, prop.height, UPRIGHT))
    for level in LEVELS:
        polygons.append(end(wall + side * 0.1, back - side * 0.1, level + 0.1, level + 1.1,
                            GOODS[int(rng.integers(len(GOODS)))]))
    polygons.append(facing(near, far, 0.0, prop.height, GAP))
    for level in LEVELS:
        for half in range(2):
            if rng.random() < 0.12:
                continue
            a = near + 0.12 + half * 0.5 * prop.length
            b = a + 0.5 * prop.length - 0.22
            colour = GOODS[int(rng.integers(len(GOODS)))]
            shade = float(rng.uniform(0.72, 0.92))
            dim = (shade * colour[0], shade * colour[1], shade * colour[2])
            high = level + float(rng.uniform(0.8, 1.4))
            polygons += [facing(a, b, level, level + 0.14, WOOD_DARK),
                         facing(a, b, level + 0.14, high, dim)]
            seam = 0.5 * (a + b)
            polygons.append(facing(seam - 0.02, seam + 0.02, level + 0.14, high,
                                   (0.7 * dim[0], 0.7 * dim[1], 0.7 * dim[2])))
        if level:
            polygons.append(facing(near, far, level - 0.14, level, BEAM))
    polygons += [facing(near, near + 0.1, 0.0, prop.height, UPRIGHT),
                 facing(near, near + 0.1, 0.0, 0.45, YELLOW)]
    return flat_sketch(polygons, _NOWHERE)._replace(s=far, d=prop.d)


def _lamp(prop: Prop, dark: bool) -> Sketch:
    """Return a lamp under the ceiling, along the aisle."""
    half = prop.width / 2
    polygon = [(prop.s, prop.d - half, prop.height), (prop.s + prop.length, prop.d - half,
                                                      prop.height),
               (prop.s + prop.length, prop.d + half, prop.height),
               (prop.s, prop.d + half, prop.height)]
    return flat_sketch([(polygon, (255, 252, 240), True)], _NOWHERE)._replace(
        s=prop.s + prop.length, d=prop.d)


def _joist(prop: Prop, dark: bool) -> Sketch:
    """Return a beam under the ceiling, across the aisle."""
    half = prop.width / 2
    return flat_sketch([(rectangle(-half, half, prop.height, prop.height + 0.5), prop.colour,
                         False)], _NOWHERE._replace(s=prop.s, d=prop.d))


def _wall(prop: Prop, dark: bool) -> Sketch:
    """Return the wall at the end of the aisle, with a roller door in it."""
    half = prop.width / 2
    polygons: list[Polygon] = [
        (rectangle(-half, half, 0.0, prop.height), prop.colour, False),
        (rectangle(-half, half, 0.0, 1.1, -0.01), (110, 116, 124), False)]
    door: Colour = (188, 204, 214) if prop.variant > 0.5 else (142, 150, 160)
    polygons += [(rectangle(-2.1, 2.1, 0.0, 4.3, -0.02), (70, 72, 78), False),
                 (rectangle(-1.9, 1.9, 0.0, 4.1, -0.03), door, prop.variant > 0.8)]
    for z in np.arange(0.4, 4.0, 0.5).tolist():
        polygons.append((rectangle(-1.9, 1.9, z, z + 0.05, -0.04), (120, 126, 134), False))
    return flat_sketch(polygons, _NOWHERE._replace(s=prop.s, d=prop.d))


def _mirror(prop: Prop, dark: bool) -> Sketch:
    """Return the sign that warns of a blind corner, high at the end of a rack."""
    size = 0.32
    outer = [(0.0, -size, 2.4), (0.0, size, 2.4), (0.0, 0.0, 2.4 + 1.7 * size)]
    inner = [(-0.01, -0.6 * size, 2.47), (-0.01, 0.6 * size, 2.47),
             (-0.01, 0.0, 2.4 + 1.35 * size)]
    return flat_sketch([(rectangle(-0.03, 0.03, 0.0, 2.5), (90, 92, 96), False),
                        (outer, BLACK, False), (inner, YELLOW, False)],
                       _NOWHERE._replace(s=prop.s, d=prop.d))


SCENERY.update({'rack': _rack, 'hall lamp': _lamp, 'joist': _joist, 'hall wall': _wall,
                'corner sign': _mirror})
