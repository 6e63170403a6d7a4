# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicles: meshes of flat faces, of which those are drawn that the camera sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.sketches import (
    BRAKE_LIT,
    Colour,
    HEAD_LIT,
    HUB,
    NO_WIDTHS,
    place,
    Point,
    Sketch,
    TAIL_LIT,
    TYRE,
)
from vts_ros.lab.scenes.world import Body, CAMERA_HEIGHT_M, Floats, FOCAL, State, View

Quad = Sequence[Point]

GLASS: Colour = (38, 48, 58)
TAIL: Colour = (120, 14, 14)
HEAD: Colour = (214, 216, 210)
ORANGE: Colour = (255, 160, 30)
PLATE: Colour = (222, 220, 200)
SHADOW: Colour = (44, 44, 46)


class Face(NamedTuple):
    """One face of a mesh: visible from one side, from some height in the picture on."""

    side: str
    ink: str | Colour
    shade: float
    detail: float
    points: tuple[Point, ...]


def prism(low: tuple[float, float, float, float], high: tuple[float, float, float, float]
          ) -> dict[str, Quad]:
    """Return the sides of a prism from its lower and upper rectangle (x0, x1, half width, z)."""
    a0, a1, ay, az = low
    b0, b1, by, bz = high
    return {
        'rear': ((a0, ay, az), (a0, -ay, az), (b0, -by, bz), (b0, by, bz)),
        'front': ((a1, -ay, az), (a1, ay, az), (b1, by, bz), (b1, -by, bz)),
        'left': ((a1, ay, az), (a0, ay, az), (b0, by, bz), (b1, by, bz)),
        'right': ((a0, -ay, az), (a1, -ay, az), (b1, -by, bz), (b0, -by, bz)),
        'top': ((b0, by, bz), (b0, -by, bz), (b1, -by, bz), (b1, by, bz)),
    }


def patch(quad: Quad, left: float, right: float, low: float, high: float) -> tuple[Point, ...]:
    """Return a part of a face; shares from its left and from its lower edge, seen from outside."""
    corners = np.asarray(quad)

    def at(u: float, v: float) -> Point:
        below = corners[0] * (1 - u) + corners[1] * u
        above = corners[3] * (1 - u) + corners[2] * u
        x, y, z = (below * (1 - v) + above * v).tolist()
        return x, y, z

    return at(left, low), at(right, low), at(right, high), at(left, high)


SHADES = {'rear': 0.88, 'front': 0.92, 'left': 0.72, 'right': 0.78, 'top': 1.08}


def shell(sides: dict[str, Quad], ink: str | Colour, detail: float = 0.0,
          omit: str = '') -> list[Face]:
    """Return the sides of a prism as faces of one colour, but for those to omit."""
    return [Face(side, ink, SHADES[side], detail, tuple(quad))
            for side, quad in sides.items() if side not in omit.split()]


def wheel(x: float, y: float, radius: float, side: str) -> list[Face]:
    """Return a wheel that is seen from a side."""
    def ring(r: float) -> tuple[Point, ...]:
        return tuple((x + r * math.cos(a), y, radius + r * math.sin(a))
                     for a in np.linspace(0, 2 * math.pi, 11)[:-1].tolist())

    return [Face(side, TYRE, 1.0, 0.0, ring(radius)),
            Face(side, HUB, 1.0, 0.09, ring(0.6 * radius))]


def ground(length: float, width: float) -> Face:
    """Return the shadow on the ground below something."""
    x, y = length / 2, width / 2
    return Face('all', SHADOW, 1.0, 0.0,
                ((-x, y, 0.0), (-x, -y, 0.0), (x, -y, 0.0), (x, y, 0.0)))


def rolling(length: float, width: float, radius: float, axles: Iterable[float]) -> list[Face]:
    """Return shadow and tyres; those seen from behind or in front stand below the body."""
    faces = [ground(length, width)]
    y, depth = width / 2, length / 2 - 0.35
    for side, x in (('rear', -depth), ('front', depth)):
        for sign in (1, -1):
            inner, outer = sign * (y - 0.26), sign * (y - 0.03)
            faces.append(Face(side, TYRE, 1.0, 0.03, (
                (x, inner, 0.0), (x, outer, 0.0), (x, outer, radius), (x, inner, radius))))
    return faces


def _lamps(sides: dict[str, Quad], low: float, high: float, width: float,
           edge: float = 0.03) -> list[Face]:
    """Return tail lamps, indicators over them, and headlamps on both corners."""
    faces = []
    middle = low + 0.68 * (high - low)
    for left, right, turn in ((edge, edge + width, 'turn left'),
                              (1 - edge - width, 1 - edge, 'turn right')):
        other = 'turn right' if turn == 'turn left' else 'turn left'
        faces += [
            Face('rear', 'tail', 1.0, 0.0, patch(sides['rear'], left, right, low, high)),
            Face('rear', turn, 1.0, 0.0, patch(sides['rear'], left, right, middle, high)),
            Face('front', 'head', 1.0, 0.0, patch(sides['front'], left, right, low, high)),
            Face('front', other, 1.0, 0.0, patch(sides['front'], left, right, low, low + .1)),
        ]
    return faces


def _car(length: float, width: float, height: float, tail: float, nose: float) -> list[Face]:
    """Return a car; ``tail`` and ``nose`` say where the cabin ends, in shares of the length."""
    x, y, shoulder = length / 2, width / 2, 0.60 * height
    body = prism((-x, x, y, 0.24), (-x + 0.06, x - 0.10, y - 0.03, shoulder))
    low = (-x + tail * length, x - nose * length, y - 0.06, shoulder)
    high = (low[0] + 0.42 * min(1.0, 4 * tail + 0.35), low[1] - 0.85, y - 0.24, height)
    cabin = prism(low, high)
    faces = rolling(length, width, 0.32, (-0.31 * length, 0.31 * length))
    faces += shell(body, 'paint')
    for side, sign in (('left', 1), ('right', -1)):
        for axle in (-0.31 * length, 0.31 * length):
            faces += wheel(axle, sign * y, 0.32, side)
    faces += shell(cabin, 'paint')
    for side in ('left', 'right'):
        faces += [Face(side, GLASS, 0.9, 0.03, patch(cabin[side], 0.08, 0.50, 0.12, 0.86)),
                  Face(side, GLASS, 0.9, 0.03, patch(cabin[side], 0.54, 0.93, 0.12, 0.86))]
    faces += [
        Face('rear', GLASS, 1.0, 0.02, patch(cabin['rear'], 0.08, 0.92, 0.10, 0.86)),
        Face('front', GLASS, 1.15, 0.02, patch(cabin['front'], 0.06, 0.94, 0.04, 0.90)),
        Face('rear', (40, 40, 42), 1.0, 0.03, patch(body['rear'], 0.0, 1.0, 0.0, 0.24)),
        Face('front', (40, 40, 42), 1.0, 0.03, patch(body['front'], 0.0, 1.0, 0.0, 0.20)),
        Face('front', (52, 54, 58), 1.0, 0.05, patch(body['front'], 0.30, 0.70, 0.34, 0.72)),
        Face('rear', PLATE, 1.0, 0.07, patch(body['rear'], 0.36, 0.64, 0.36, 0.56)),
        Face('front', PLATE, 1.0, 0.09, patch(body['front'], 0.38, 0.62, 0.10, 0.28)),
        Face('rear', 'third', 1.0, 0.04, patch(cabin['rear'], 0.40, 0.60, 0.88, 0.98)),
    ]
    return faces + _lamps(body, 0.58, 0.92, 0.21)


def _truck(length: float, width: float, height: float) -> list[Face]:
    x, y = length / 2, width / 2
    load = prism((-x, x - 2.3, y, 0.95), (-x, x - 2.3, y, height))
    frame = prism((-x + 0.1, x, y - 0.15, 0.5), (-x + 0.1, x, y - 0.15, 0.98))
    cab = prism((x - 2.0, x, y - 0.08, 0.5), (x - 2.0, x - 0.15, y - 0.12, height * 0.86))
    faces = rolling(length, width, 0.48, ())
    faces += shell(frame, (58, 60, 64))
    for side, sign in (('left', 1), ('right', -1)):
        for axle in (-x + 1.2, -x + 2.4, x - 1.2):
            faces += wheel(axle, sign * y, 0.48, side)
    cabin = [
        *shell(cab, 'cab'),
        Face('front', GLASS, 1.1, 0.02, patch(cab['front'], 0.06, 0.94, 0.52, 0.9)),
        Face('front', (54, 56, 60), 1.0, 0.03, patch(cab['front'], 0.2, 0.8, 0.12, 0.42)),
        Face('left', GLASS, 0.9, 0.03, patch(cab['left'], 0.12, 0.62, 0.52, 0.86)),
        Face('right', GLASS, 0.9, 0.03, patch(cab['right'], 0.38, 0.88, 0.52, 0.86))]
    faces += cabin + shell(load, 'paint')
    # Seen from the front the cab hides the load, seen from behind the load hides the cab.
    faces += [face for face in cabin if face.side == 'front']
    faces += [
        Face('rear', 'paint', 0.62, 0.03, patch(load['rear'], 0.49, 0.51, 0.02, 0.98)),
        Face('rear', 'paint', 0.70, 0.06, patch(load['rear'], 0.04, 0.96, 0.93, 0.96)),
        Face('left', 'stripe', 0.9, 0.05, patch(load['left'], 0.0, 1.0, 0.30, 0.48)),
        Face('right', 'stripe', 0.9, 0.05, patch(load['right'], 0.0, 1.0, 0.30, 0.48)),
        Face('rear', (36, 36, 38), 1.0, 0.02, patch(load['rear'], 0.0, 1.0, -0.16, 0.02)),
        Face('rear', PLATE, 1.0, 0.05, patch(load['rear'], 0.40, 0.60, -0.12, -0.03)),
    ]
    lamps = {'rear': patch(load['rear'], 0.0, 1.0, -0.16, 0.02), 'front': cab['front']}
    return faces + [face._replace(points=face.points) for face in _lamps(lamps, 0.10, 0.90, 0.18)
                    if face.side == 'rear'] + [
        face for face in _lamps(lamps, 0.06, 0.17, 0.18) if face.side == 'front']


def _bus(length: float, width: float, height: float) -> list[Face]:
    x, y = length / 2, width / 2
    body = prism((-x, x, y, 0.38), (-x, x, y - 0.04, height))
    faces = rolling(length, width, 0.48, ()) + shell(body, 'paint')
    for side, sign in (('left', 1), ('right', -1)):
        for axle in (-x + 2.6, x - 2.4):
            faces += wheel(axle, sign * y, 0.48, side)
        for window in range(6):
            left = 0.04 + window * 0.157
            faces.append(Face(side, 'window', 1.0, 0.04,
                              patch(body[side], left, left + 0.135, 0.46, 0.84)))
    faces += [
        Face('rear', 'window', 1.0, 0.02, patch(body['rear'], 0.10, 0.90, 0.52, 0.86)),
        Face('front', 'window', 1.0, 0.02, patch(body['front'], 0.05, 0.95, 0.32, 0.84)),
        Face('rear', 'paint', 0.66, 0.04, patch(body['rear'], 0.18, 0.82, 0.10, 0.40)),
        Face('rear', (34, 34, 36), 1.0, 0.02, patch(body['rear'], 0.0, 1.0, 0.0, 0.06)),
        Face('front', (24, 24, 26), 1.0, 0.02, patch(body['front'], 0.16, 0.84, 0.87, 0.98)),
        Face('front', 'sign', 1.0, 0.03, patch(body['front'], 0.24, 0.76, 0.895, 0.955)),
        Face('rear', PLATE, 1.0, 0.05, patch(body['rear'], 0.40, 0.60, 0.08, 0.14)),
    ]
    return faces + _lamps(body, 0.12, 0.27, 0.13)


#: Length, width, height that the meshes are made for; others are scaled from it.
_NOMINAL: dict[str, tuple[float, float, float]] = {
    'saloon': (4.5, 1.8, 1.45), 'hatchback': (4.0, 1.75, 1.5), 'van': (4.9, 1.9, 1.95),
    'truck': (8.5, 2.45, 3.4), 'bus': (11.2, 2.5, 3.0)}
#: Builders of further kinds, such as those of a warehouse.
_ADDED: dict[str, Callable[[float, float, float], list[Face]]] = {}


def add_kind(kind: str, size: tuple[float, float, float],
             faces: Callable[[float, float, float], list[Face]]) -> None:
    """Teach the renderer a kind of mesh: its nominal size, and what makes its faces of that."""
    _NOMINAL[kind], _ADDED[kind] = size, faces


def has_mesh(kind: str) -> bool:
    """Return whether a kind of body is a mesh."""
    return kind in _NOMINAL


@cache
def _faces(kind: str) -> tuple[Face, ...]:
    size = _NOMINAL[kind]
    if kind in _ADDED:
        return tuple(_ADDED[kind](*size))
    if kind == 'truck':
        return tuple(_truck(*size))
    if kind == 'bus':
        return tuple(_bus(*size))
    tail, nose = {'saloon': (0.14, 0.24), 'hatchback': (0.015, 0.22), 'van': (0.01, 0.13)}[kind]
    return tuple(_car(*size, tail=tail, nose=nose))


class Mesh(NamedTuple):
    """The faces of a vehicle that are seen from some direction."""

    points: Floats
    lengths: NDArray[np.intp]
    inks: tuple[str | Colour, ...]
    shades: Floats


@cache
def _mesh(kind: str, sides: frozenset[str], detail: float) -> Mesh:
    """Return what is seen from some sides; ``detail`` is the height in picture widths."""
    faces = [face for face in _faces(kind) if detail >= face.detail and (
        face.side in sides or (face.side == 'top' and face.points[0][2] <= CAMERA_HEIGHT_M))]
    return Mesh(np.array([point for face in faces for point in face.points]) / _NOMINAL[kind],
                np.array([len(face.points) for face in faces]), tuple(face.ink for face in faces),
                np.array([face.shade for face in faces]))


_DETAILS = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.09)


def _inks(body: Body, state: State, t: float, dark: bool) -> dict[str, tuple[Colour, bool]]:
    """Return colour and glow of the inks that depend on what the vehicle does."""
    braking = not body.parked and (state.acceleration < -0.8 or state.speed < 0.3)
    lit = dark and not body.parked
    turning = 0
    if body.indicator:
        side, start, end = body.indicator
        turning = side if start <= t <= end and (t - start) % 0.8 < 0.5 else 0
    tail = (BRAKE_LIT, True) if braking else (TAIL_LIT, True) if lit else (TAIL, False)
    amber: Colour = (168, 92, 24)
    return {
        'paint': (body.colour, False),
        'cab': (body.dress[0] if body.dress else body.colour, False),
        'stripe': (body.dress[-1] if body.dress else body.colour, False),
        'tail': tail,
        'third': tail if braking else (TAIL, False),
        'head': (HEAD_LIT, True) if lit else (HEAD, False),
        'turn left': (ORANGE, True) if turning > 0 else (amber, False),
        'turn right': (ORANGE, True) if turning < 0 else (amber, False),
        'window': ((196, 186, 140), True) if lit else (GLASS, False),
        'sign': (ORANGE, True),
        'strip': ((90, 220, 255), True),
    }


def vehicle_sketch(body: Body, state: State, view: View, t: float, dark: bool) -> Sketch:
    """Return the faces of a vehicle that the camera sees, in the detail that it can see."""
    x, y, road_yaw = view.ahead(state.s, state.d)
    # What backs is seen from behind.
    state = state._replace(yaw=state.yaw + math.pi) if body.detail == 'backing' else state
    yaw = state.yaw + road_yaw
    # The camera as the vehicle sees it decides which sides are seen.
    forward = -x * math.cos(yaw) - y * math.sin(yaw)
    left = x * math.sin(yaw) - y * math.cos(yaw)
    length, width, height = body.size
    sides = {'all'}
    if abs(forward) > length / 2:
        sides.add('front' if forward > 0 else 'rear')
    if abs(left) > width / 2:
        sides.add('left' if left > 0 else 'right')
    scale = FOCAL * height / max(x, 1.0)
    detail = max(step for step in _DETAILS if step <= scale)
    mesh = _mesh(body.kind, frozenset(sides), detail)
    inks = _inks(body, state, t, dark)
    found = [inks[ink] if isinstance(ink, str) else (ink, False) for ink in mesh.inks]
    colours = np.array([colour for colour, _ in found], float)
    return Sketch(place(mesh.points * body.size, state), mesh.lengths, NO_WIDTHS,
                  colours * mesh.shades[:, None], np.array([glow for _, glow in found]),
                  state.s, state.d)
