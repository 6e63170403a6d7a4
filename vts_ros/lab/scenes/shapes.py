# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What actors look like: polygons in space.

Vehicles are meshes of flat faces; people, riders and animals are skeletons of capsules. Local
coordinates: x forward, y left, z up, metres, origin on the ground below the centre.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.world import Body, CAMERA_HEIGHT_M, Floats, FOCAL, State, View

Colour = tuple[float, float, float]
Point = tuple[float, float, float]
Quad = Sequence[Point]

GLASS: Colour = (38, 48, 58)
TYRE: Colour = (26, 26, 28)
HUB: Colour = (120, 122, 126)
TAIL: Colour = (120, 14, 14)
TAIL_LIT: Colour = (190, 20, 18)
BRAKE_LIT: Colour = (255, 62, 44)
HEAD: Colour = (214, 216, 210)
HEAD_LIT: Colour = (255, 250, 228)
ORANGE: Colour = (255, 160, 30)
PLATE: Colour = (222, 220, 200)
SHADOW: Colour = (44, 44, 46)
RED, YELLOW, GREEN = (255, 44, 30), (255, 196, 40), (44, 240, 130)


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


def _place(local: Floats, state: State) -> Floats:
    """Turn and move local points (n, 3) into the world."""
    cos, sin = math.cos(state.yaw), math.sin(state.yaw)
    turn = np.array(((cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0)))
    return local @ turn + (state.s, state.d, 0.0)


_NO_LENGTHS = np.empty(0, np.intp)
_NO_WIDTHS = np.empty(0)


def _vehicle(body: Body, state: State, view: View, t: float, dark: bool) -> Sketch:
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
    return Sketch(_place(mesh.points * body.size, state), mesh.lengths, _NO_WIDTHS,
                  colours * mesh.shades[:, None], np.array([glow for _, glow in found]),
                  state.s, state.d)


# --- skeletons -----------------------------------------------------------------------------

class Limb(NamedTuple):
    """A capsule between two points (a ball where they are the same), with its thickness."""

    a: Point
    b: Point
    width: float
    colour: Colour
    glow: bool = False


def skeleton_sketch(limbs: Sequence[Limb], state: State) -> Sketch:
    """Return limbs in the world."""
    local = np.array([limb.a + limb.b for limb in limbs], float).reshape(-1, 3)
    return Sketch(_place(local, state), _NO_LENGTHS, np.array([limb.width for limb in limbs]),
                  np.array([limb.colour for limb in limbs], float),
                  np.array([limb.glow for limb in limbs]), state.s, state.d)


def _leg(hip: Point, thigh: float, shin: float, swing: float, width: float,
         colour: Colour, shoe: Colour) -> list[Limb]:
    knee_bend = 0.5 * max(0.0, -swing)
    knee = (hip[0] + thigh * math.sin(swing), hip[1], hip[2] - thigh * math.cos(swing))
    low = swing - knee_bend
    foot = (knee[0] + shin * math.sin(low), hip[1],
            max(0.03, knee[2] - shin * math.cos(low)))
    return [Limb(hip, knee, width, colour), Limb(knee, foot, width * 0.85, colour),
            Limb(foot, (foot[0] + 0.5 * shin * 0.4, foot[1], foot[2]), width * 0.7, shoe)]


def _person(body: Body, state: State) -> list[Limb]:
    height = body.size[2]
    small = body.label == 'child'
    jacket, trousers, skin, hair = body.dress
    travelled = state.s * math.cos(state.yaw) + state.d * math.sin(state.yaw)
    phase = 2 * math.pi * travelled / (0.85 * height)
    swing = (0.5 if state.speed < 2.0 else 0.7) * math.sin(phase) if state.speed > 0.3 else 0.0
    hip_z, neck_z = 0.47 * height, (0.78 if small else 0.82) * height
    radius = (0.20 if small else 0.145) * height / 2
    hips, shoulders = 0.055 * height, 0.115 * height
    thigh = 0.24 * height
    far = _leg((0.0, hips, hip_z), thigh, thigh, swing, 0.095 * height, trousers, (30, 30, 32))
    near = _leg((0.0, -hips, hip_z), thigh, thigh, -swing, 0.095 * height, trousers, (30, 30, 32))

    def arm(side: int, angle: float) -> list[Limb]:
        y = side * (shoulders + 0.02)
        length = 0.32 * height
        hand = (length * math.sin(angle), y, neck_z - 0.03 * height - length * math.cos(angle))
        return [Limb((0.0, y, neck_z - 0.04 * height), hand, 0.065 * height, jacket),
                Limb(hand, hand, 0.06 * height, skin)]

    torso_top = neck_z - 0.05 * height
    limbs = far + arm(1, -swing) + near
    limbs += [Limb((0.0, y, hip_z + 0.02 * height), (0.0, y * 1.3, torso_top), 0.13 * height,
                   jacket)
              for y in (0.05 * height, -0.05 * height)]
    limbs += [Limb((0.0, 0.0, hip_z), (0.0, 0.0, torso_top), 0.16 * height, jacket)]
    if small:
        pack = body.dress[1]
        back = -0.10 * height
        limbs.append(Limb((back, 0.0, 0.52 * height), (back, 0.0, 0.70 * height),
                          0.17 * height, pack))
    limbs += arm(-1, swing)
    head_z = height - radius
    limbs += [Limb((0.0, 0.0, neck_z - 0.02), (0.0, 0.0, head_z), 0.06 * height, skin),
              Limb((0.01, 0.0, head_z - 0.02), (0.01, 0.0, head_z - 0.03), 1.9 * radius, skin),
              Limb((-0.25 * radius, 0.0, head_z + 0.25 * radius),
                   (-0.3 * radius, 0.0, head_z + 0.05 * radius), 1.75 * radius, hair)]
    return limbs


def _wheel_limbs(x: float, radius: float, width: float, spokes: Colour) -> list[Limb]:
    """Return a wheel: a rim of short limbs, thin from behind and round from aside."""
    angles = np.linspace(0, 2 * math.pi, 13).tolist()
    r = radius - width / 2
    rim = [(x + r * math.cos(a), 0.0, radius + r * math.sin(a)) for a in angles]
    cross = [Limb((x - r * 0.7, 0.0, radius), (x + r * 0.7, 0.0, radius), 0.02, spokes)]
    return cross + [Limb(p, q, width, TYRE) for p, q in pairwise(rim)]


def _rider(body: Body, hip: Point, shoulder: Point, hands: Point, feet: list[Point],
           helmet: Colour) -> list[Limb]:
    jacket, trousers, skin, _ = body.dress
    limbs = []
    for side, foot in zip((1, -1), feet):
        start = (hip[0], side * 0.10, hip[2])
        knee = (0.5 * (start[0] + foot[0]) + 0.20, side * 0.13, 0.5 * (start[2] + foot[2]) + 0.08)
        limbs += [Limb(start, knee, 0.15, trousers), Limb(knee, foot, 0.11, trousers),
                  Limb(foot, (foot[0] + 0.12, foot[1], foot[2]), 0.08, (28, 28, 30))]
    limbs += [Limb((hip[0], y, hip[2]), (shoulder[0], 1.5 * y, shoulder[2]), 0.22, jacket)
              for y in (0.09, -0.09)]
    for side in (1, -1):
        limbs.append(Limb((shoulder[0], side * 0.2, shoulder[2]),
                          (hands[0], side * 0.25, hands[2]), 0.09, jacket))
    head = (shoulder[0] + 0.10, 0.0, shoulder[2] + 0.24)
    low, high = (head[0] - 0.03, 0.0, head[2] + 0.05), (head[0], 0.0, head[2] + 0.07)
    return [*limbs, Limb(head, head, 0.22, skin), Limb(low, high, 0.24, helmet)]


def _cyclist(body: Body, state: State, dark: bool) -> list[Limb]:
    turn = 2 * math.pi * state.s / 4.2
    feet = [(0.02 + 0.17 * math.cos(turn + k), side * 0.11, 0.30 + 0.17 * math.sin(turn + k))
            for side, k in ((1, 0.0), (-1, math.pi))]
    frame = body.colour
    limbs = _wheel_limbs(-0.52, 0.34, 0.055, HUB) + _wheel_limbs(0.52, 0.34, 0.055, HUB)
    limbs += [Limb(a, b, 0.05, frame) for a, b in (
        ((-0.52, 0, 0.34), (0.02, 0, 0.30)), ((0.02, 0, 0.30), (-0.16, 0, 0.86)),
        ((0.02, 0, 0.30), (0.38, 0, 0.82)), ((-0.14, 0, 0.80), (0.38, 0, 0.82)),
        ((0.52, 0, 0.34), (0.36, 0, 0.95)), ((-0.52, 0, 0.34), (-0.15, 0, 0.80)))]
    limbs.append(Limb((0.38, 0.26, 1.0), (0.38, -0.26, 1.0), 0.05, (40, 40, 42)))
    limbs += _rider(body, (-0.17, 0.0, 0.93), (0.18, 0.0, 1.38), (0.38, 0.0, 1.02), feet,
                    body.dress[3])
    limbs.append(Limb((-0.56, 0.0, 0.72), (-0.56, 0.0, 0.74), 0.09, TAIL_LIT, dark))
    return limbs


def _motorcycle(body: Body, state: State) -> list[Limb]:
    braking = state.acceleration < -0.8 or state.speed < 0.3
    feet = [(0.05, side * 0.22, 0.36) for side in (1, -1)]
    limbs = _wheel_limbs(-0.70, 0.32, 0.17, HUB) + _wheel_limbs(0.72, 0.32, 0.14, HUB)
    limbs += [Limb((-0.25, 0, 0.45), (0.25, 0, 0.45), 0.42, (60, 62, 66)),
              Limb((-0.80, 0, 0.80), (-0.20, 0, 0.76), 0.24, body.colour),
              Limb((0.0, 0, 0.84), (0.35, 0, 0.86), 0.34, body.colour),
              Limb((0.72, 0, 0.34), (0.48, 0, 1.0), 0.12, (90, 92, 96)),
              Limb((0.45, 0.36, 1.04), (0.45, -0.36, 1.04), 0.05, (40, 40, 42)),
              Limb((0.52, 0.0, 0.95), (0.58, 0.0, 1.1), 0.36, body.colour)]
    limbs += _rider(body, (-0.22, 0.0, 0.88), (0.06, 0.0, 1.36), (0.42, 0.0, 1.05), feet,
                    body.dress[3])
    if math.cos(state.yaw) > 0:
        limbs.append(Limb((-0.90, 0.08, 0.78), (-0.90, -0.08, 0.78), 0.12,
                          BRAKE_LIT if braking else TAIL_LIT, True))
    else:
        limbs.append(Limb((0.66, 0.0, 0.96), (0.66, 0.0, 0.97), 0.20, HEAD_LIT, True))
    return limbs


def _animal(body: Body, state: State) -> list[Limb]:
    deer = body.kind == 'deer'
    length, _, height = body.size
    coat, belly = body.dress[:2]
    travelled = state.s * math.cos(state.yaw) + state.d * math.sin(state.yaw)
    phase = 2 * math.pi * travelled / (1.3 * length)
    swing = 0.42 * math.sin(phase) if state.speed > 0.3 else 0.0
    back = (0.60 if deer else 0.66) * height
    thick = (0.27 if deer else 0.40) * height
    rear, fore = -0.30 * length, 0.20 * length
    leg_width = (0.06 if deer else 0.13) * height
    limbs = []
    hip_z = back - 0.2 * thick
    leg = 0.5 * (hip_z - 0.03)
    for x, side, sign in ((rear, 1, 1), (fore, 1, -1), (rear, -1, -1), (fore, -1, 1)):
        tone = coat if side < 0 else belly
        upper, lower, _ = _leg((x, side * 0.09, hip_z), leg, leg, sign * swing, leg_width,
                               tone, tone)
        limbs += [upper._replace(width=1.7 * leg_width), lower]
    shoulder = (fore + 0.03 * length, 0.0, back + 0.08 * thick)
    crown = (0.36 * length, 0.0, (0.84 if deer else 0.86) * height)
    nose = (0.49 * length, 0.0, crown[2] - 0.06 * height)
    head = (0.13 if deer else 0.24) * height
    limbs += [Limb((rear, 0.0, back), (fore, 0.0, back), thick, coat),
              Limb((rear, 0.0, back - 0.28 * thick), (fore, 0.0, back - 0.28 * thick),
                   0.42 * thick, belly),
              Limb(shoulder, crown, (0.5 if deer else 0.55) * thick, coat),
              Limb(crown, nose, head * 0.75, belly),
              Limb((crown[0] - 0.02, 0.0, crown[2]), crown, head, coat)]
    for side in (1, -1):
        limbs.append(Limb((crown[0] - 0.03, side * 0.06, crown[2] + 0.3 * head),
                          (crown[0] - 0.07, side * 0.10, crown[2] + (0.7 if deer else 0.1) * head),
                          0.35 * head, belly))
    if deer:
        scut = rear - 0.12 * length
        limbs.append(Limb((scut, 0.0, back), (scut, 0.0, back - 0.1), 0.16, (226, 220, 206)))
        for side in (1, -1):
            stem = (0.33 * length, side * 0.05, 0.90 * height)
            tip = (0.22 * length, side * 0.26, height - 0.03)
            limbs += [Limb(stem, tip, 0.045, (150, 128, 96)),
                      Limb((0.29 * length, side * 0.14, 0.94 * height),
                           (0.36 * length, side * 0.22, height - 0.03), 0.04, (150, 128, 96))]
    else:
        limbs.append(Limb((rear - 0.12 * length, 0.0, back + 0.2 * thick),
                          (-0.48 * length, 0.0, height * 0.98), 0.09 * height, coat))
    return limbs


def _skeleton(body: Body, state: State, dark: bool) -> list[Limb]:
    if body.kind == 'person':
        return _person(body, state)
    if body.kind == 'cyclist':
        return _cyclist(body, state, dark)
    if body.kind == 'motorcycle':
        return _motorcycle(body, state)
    return _animal(body, state)


def rectangle(y0: float, y1: float, z0: float, z1: float, x: float = 0.0) -> list[Point]:
    """Return an upright rectangle across the road."""
    return [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]


Polygons = Sequence[tuple[Sequence[Point], Colour, bool]]


def flat_sketch(polygons: Polygons, state: State, unboxed: int = 0) -> Sketch:
    """Return plain polygons in the world."""
    local = np.array([point for polygon, _, _ in polygons for point in polygon], float)
    return Sketch(_place(local, state), np.array([len(polygon) for polygon, _, _ in polygons]),
                  _NO_WIDTHS, np.array([colour for _, colour, _ in polygons], float),
                  np.array([glow for _, _, glow in polygons]), state.s, state.d, unboxed)


def disc(y: float, z: float, radius: float, x: float) -> list[Point]:
    """Return an upright disc across the road."""
    return [(x, y + radius * math.cos(a), z + radius * math.sin(a))
            for a in np.linspace(0, 2 * math.pi, 13)[:-1].tolist()]


def _traffic_light(body: Body, state: State, t: float) -> Sketch:
    width, top = body.size[1:]
    low = top - 1.6
    polygons: list[tuple[Sequence[Point], Colour, bool]] = [
        (rectangle(-0.09, 0.09, 0.0, low, 0.05), (92, 96, 100), False),
        (rectangle(-width / 2, width / 2, low, top), (20, 22, 24), False),
        (rectangle(-width / 2 + 0.06, width / 2 - 0.06, low + 0.06, top - 0.06, -0.02),
         (48, 50, 54), False),
    ]
    lit = body.phase(t)
    for index, (name, on) in enumerate((('green', GREEN), ('yellow', YELLOW), ('red', RED))):
        z = low + 0.30 + index * 0.50
        colour: Colour = on if lit == name else (on[0] * 0.16, on[1] * 0.16, on[2] * 0.16)
        polygons.append((disc(0.0, z, 0.22, -0.04), colour, lit == name))
    return flat_sketch(polygons, state, unboxed=1)


def _board(body: Body, state: State, t: float) -> Sketch:
    """Return a red and white barrier board on two feet with a warning lamp."""
    _, width, height = body.size
    half = width / 2
    polygons: list[tuple[Sequence[Point], Colour, bool]] = []
    for y in (-half + 0.25, half - 0.25):
        polygons.append((rectangle(y - 0.05, y + 0.05, 0.0, height - 0.1), (70, 72, 76), False))
    for low, high in ((0.30 * height, 0.52 * height), (0.62 * height, 0.86 * height)):
        polygons.append((rectangle(-half, half, low, high, -0.05), (236, 236, 232), False))
        stripes = max(2, round(width / 0.6))
        step = width / stripes
        lean = 0.5 * step
        for k in range(stripes):
            y = -half + k * step
            polygons.append(([(-0.06, y, low), (-0.06, y + lean, low),
                              (-0.06, min(half, y + step), high),
                              (-0.06, min(half, y + step) - lean, high)], (206, 34, 28), False))
    blink = (t % 0.8) < 0.5
    for y in (-half + 0.15, half - 0.15):
        polygons.append((disc(y, height - 0.09, 0.09, -0.05),
                         (255, 190, 40) if blink else (150, 110, 40), blink))
    return flat_sketch(polygons, state)


def sketch(body: Body, t: float, view: View, dark: bool) -> Sketch:
    """
    Return a body at a time.

    Parameters
    ----------
    view
        Decides which sides and how much detail of a vehicle are drawn.
    dark
        Whether lamps and lights are on.

    """
    state = body.state(t)
    if body.kind in _NOMINAL:
        return _vehicle(body, state, view, t, dark)
    if body.kind == 'traffic light':
        return _traffic_light(body, state, t)
    if body.kind == 'board':
        return _board(body, state, t)
    return skeleton_sketch(_skeleton(body, state, dark), state)
