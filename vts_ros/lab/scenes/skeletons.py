# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People, riders and animals: skeletons of capsules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
import math
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.sketches import (
    BRAKE_LIT,
    Colour,
    HEAD_LIT,
    HUB,
    NO_LENGTHS,
    place,
    Point,
    Sketch,
    TAIL_LIT,
    TYRE,
)
from vts_ros.lab.scenes.world import Body, State


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
    return Sketch(place(local, state), NO_LENGTHS, np.array([limb.width for limb in limbs]),
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


def skeleton(body: Body, state: State, dark: bool) -> list[Limb]:
    """Return the limbs of a person, rider or animal."""
    if body.kind == 'person':
        return _person(body, state)
    if body.kind == 'cyclist':
        return _cyclist(body, state, dark)
    if body.kind == 'motorcycle':
        return _motorcycle(body, state)
    return _animal(body, state)
