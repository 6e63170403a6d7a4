# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The risk rule: from kinematics to a level, the object that causes it, and an action.

Every actor and the ego vehicle are predicted over 6 s with constant velocity, an actor that
brakes with its deceleration until it stands. The corridor of an actor is half the width of the
ego vehicle + half the width of the actor + 0.3 m to both sides of the centre of the ego lane.
The time to collision (TTC) is the first time at which the actor is inside the corridor and the
gap to the ego bumper is closed. A red light counts as an actor across the corridor at its stop
line.

- high: TTC up to 2 s
- medium: TTC up to 4 s
- low: TTC up to 6 s; or without a conflict an actor that is in the corridor within 4 s with a
  headway (gap now over ego speed) under 3 s; or an actor that could still get in the way (on foot,
  on a bicycle, an animal, a barrier, or anything that moves towards the corridor) within 2 m of
  the corridor when the ego vehicle comes past it within 4 s
- none: otherwise

The risk object is the actor with the highest level, then the smallest TTC, then the nearest.

What the driver is about to do counts where it is given: with the brake pressed the ego vehicle
is predicted with its deceleration, and with a turn signal on the corridor reaches over the lane
on that side, which is about to be crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.world import Body, EGO_LENGTH_M, EGO_WIDTH_M
from vts_ros.vlm.answers import RiskLevel

HIGH_SEC, MEDIUM_SEC, LOW_SEC = 2.0, 4.0, 6.0
HEADWAY_SEC = 3.0
CLEARANCE_M = 0.3
#: Width of the lane that is crossed to the side of a turn signal.
CROSSED_M = 3.5
NEARBY_M = 2.0
#: Headway of a nearly standing ego vehicle is taken at this speed.
CREEP_MPS = 2.0
UNPREDICTABLE = frozenset(('person', 'pedestrian', 'child', 'cyclist', 'animal', 'barrier'))
_STEP_SEC = 0.05


class Mover(NamedTuple):
    """
    An actor as the rule sees it; lengths in m, speeds in m/s, seen from the ego front bumper.

    Attributes
    ----------
    near, far
        Distance to its nearest and to its farthest point along the road.
    d, half_d
        Centre to the left of the ego lane centre, and half its width.
    vs, vd
        Speed along the road and to the left.
    deceleration
        How hard it brakes along the road, m/s2, 0 or more.

    """

    id: int
    label: str
    near: float
    far: float
    d: float
    half_d: float
    vs: float
    vd: float
    deceleration: float = 0.0


class Verdict(NamedTuple):
    """Level of the whole situation and what causes it (None for level ``none``)."""

    level: RiskLevel
    id: int | None
    ttc_sec: float | None
    #: Level and urgency of every actor, most dangerous first.
    ranking: tuple[tuple[int, RiskLevel, float], ...]


def mover(body: Body, t: float, ego_s: float) -> Mover | None:
    """Return a body as the rule sees it; None for a traffic light that is not red."""
    state = body.state(t)
    if body.label == 'traffic light':
        if body.phase(t) != 'red':
            return None
        gap = state.s - body.stop_line - ego_s
        # One that has been driven over is no longer ahead.
        return None if gap < -1.0 else Mover(body.id, body.label, gap, gap + 1.0, d=0.0,
                                             half_d=3.0, vs=0.0, vd=0.0)
    braking = -state.acceleration * (1 if state.vs >= 0 else -1)
    return Mover(body.id, body.label, state.s - state.half_s - ego_s,
                 state.s + state.half_s - ego_s, state.d, state.half_d, state.vs, state.vd,
                 max(0.0, braking) if braking > 0.5 else 0.0)


class Ego(NamedTuple):
    """Width and length of what drives, in m."""

    width_m: float
    length_m: float


CAR = Ego(EGO_WIDTH_M, EGO_LENGTH_M)


class Intent(NamedTuple):
    """
    What the driver is about to do, which no picture shows yet.

    Attributes
    ----------
    braking
        How hard the ego vehicle brakes from now on, m/s2, 0 or more.
    turn
        To which side it is about to turn: 1 left, -1 right, 0 neither.

    """

    braking: float = 0.0
    turn: int = 0


#: As all that is known is what the pictures show.
STEADY = Intent()


def assess(ego_mps: float, movers: Sequence[Mover], *, time_scale: float = 1.0,
           widen_m: float = 0.0, ego: Ego = CAR, intent: Intent = STEADY) -> Verdict:
    """
    Apply the rule.

    Parameters
    ----------
    ego_mps
        Speed of the ego vehicle.
    time_scale, widen_m
        Factor on all time limits, addition to all widths: what must not change the verdict of
        a scene that is clear.
    ego
        What drives.
    intent
        What the driver is about to do.

    """
    if not movers:
        return Verdict('none', None, None, ())
    near, far, d, half, vs, vd, brake = (
        np.array(column, float)[:, None] for column in list(zip(*movers))[2:])
    tau = np.arange(0.0, LOW_SEC * time_scale + _STEP_SEC, _STEP_SEC)[None]
    with np.errstate(divide='ignore'):
        moving = np.minimum(tau, np.where(brake > 0, np.abs(vs) / np.maximum(brake, 1e-9), np.inf))
    shift = vs * moving - np.sign(vs) * 0.5 * brake * moving ** 2 - _driven(ego_mps, intent, tau)
    gap = near + shift
    beside = (gap <= 0.0) & (far + shift >= -ego.length_m)
    beyond = d + vd * moving
    # Of the corridor, from its middle to the left and to the right.
    left, right = (CROSSED_M * (intent.turn == side) for side in (1, -1))
    clear = np.abs(beyond - 0.5 * (left - right)) - half - (
        0.5 * (ego.width_m + left + right) + CLEARANCE_M + widen_m)
    inside = clear <= 0.0

    conflict = _first(inside & beside, tau)
    soon = tau <= MEDIUM_SEC * time_scale
    headway = HEADWAY_SEC * time_scale * max(ego_mps, CREEP_MPS)
    followed = _first(inside & soon & (gap > 0.0) & (near <= headway), tau)
    wary = np.array([m.label in UNPREDICTABLE for m in movers])[:, None] | (np.sign(d) * vd < -0.2)
    passed = _first(wary & (clear <= NEARBY_M) & beside & soon, tau)

    ranking = []
    for index, item in enumerate(movers):
        ttc = float(conflict[index])
        level: RiskLevel = 'none'
        if ttc <= HIGH_SEC * time_scale:
            level = 'high'
        elif ttc <= MEDIUM_SEC * time_scale:
            level = 'medium'
        elif min(ttc, followed[index], passed[index]) < np.inf:
            level = 'low'
        if level != 'none':
            urgency = ttc if ttc < np.inf else 10.0 + max(item.near, 0.0)
            ranking.append((item.id, level, urgency))
    ranking.sort(key=lambda entry: (-TRUE_LEVELS.index(entry[1]), entry[2]))
    if not ranking:
        return Verdict('none', None, None, ())
    first = ranking[0]
    return Verdict(first[1], first[0], first[2] if first[2] < 10.0 else None, tuple(ranking))


def _driven(ego_mps: float, intent: Intent, tau: np.ndarray) -> np.ndarray:
    """Return how far the ego vehicle has come at some times."""
    if not intent.braking:
        return ego_mps * tau
    slowing = np.minimum(tau, ego_mps / intent.braking)
    return np.asarray(ego_mps * slowing - 0.5 * intent.braking * slowing ** 2)


def _first(hit: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Return the first time of each row at which it hits, infinity where it never does."""
    return np.where(hit.any(axis=1), tau[0, hit.argmax(axis=1)], np.inf)


def place(d: float, half_d: float, ego: Ego = CAR) -> str:
    """Return where an actor is relative to the corridor of the ego vehicle."""
    if abs(d) - half_d < 0.5 * ego.width_m + CLEARANCE_M:
        return 'ahead'
    return 'left' if d > 0 else 'right'


#: What to do, by level and motion of the risk object; '*' = any other motion.
ACTION_TABLE: dict[tuple[str, str], str] = {
    ('none', '*'): 'keep going',
    ('low', 'braking'): 'keep distance',
    ('low', 'same speed'): 'keep distance',
    ('low', 'slower'): 'keep distance',
    ('low', 'pulling away'): 'keep distance',
    ('low', 'cutting in'): 'keep distance',
    ('low', '*'): 'slow down',
    ('medium', 'slower'): 'slow down',
    ('medium', 'same speed'): 'slow down',
    ('medium', 'cutting in'): 'slow down',
    ('medium', '*'): 'brake',
    ('high', '*'): 'brake hard',
}
STANDING_MPS = 0.5


def action(level: RiskLevel, motion: str | None, label: str | None, ego_mps: float) -> str:
    """
    Return what to do, from ``ACTION_TABLE``.

    A medium red light asks for `stop`; an ego vehicle that already stands before anything stays
    where it is, which is `stop`, too.
    """
    if level != 'none' and ego_mps < STANDING_MPS:
        return 'stop'
    if (level, label) == ('medium', 'traffic light'):
        return 'stop'
    return ACTION_TABLE.get((level, motion or '*'), ACTION_TABLE[level, '*'])


def is_clear(ego_mps: float, movers: Sequence[Mover], verdict: Verdict, ego: Ego = CAR,
             margin_m: float = 0.3, intent: Intent = STEADY) -> bool:
    """
    Return whether a verdict is far from every threshold of the rule.

    It is if time limits 18 % shorter or longer and widths smaller or larger by a margin lead to
    the same level and object, and no second actor is nearly as urgent as the first.
    """
    for time_scale, widen_m in ((0.82, 0.0), (1.18, 0.0), (1.0, -margin_m),
                                (1.0, margin_m)):
        other = assess(ego_mps, movers, time_scale=time_scale, widen_m=widen_m, ego=ego,
                       intent=intent)
        if (other.level, other.id) != (verdict.level, verdict.id):
            return False
    same = [entry for entry in verdict.ranking if entry[1] == verdict.level]
    return len(same) < 2 or same[1][2] >= 1.2 * same[0][2]
