# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Families of situations: each places the actors of one kind of hazard.

A family aims at a level of risk, at the hazard time of its stage; what the level really is, the
rule in ``risk_rule`` says afterwards, and a scene that came out otherwise is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
import math
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.stage import CITY, COUNTRY, EVER, MOTORWAY, Stage, walk
from vts_ros.lab.scenes.world import EGO_WIDTH_M, Knot, Prop, Road, Track
from vts_ros.vlm.answers import RiskLevel

#: How much faster than the ego vehicle others leave when a hazard is over.
LEAVE_MPS = 4.0


def free_road(stage: Stage) -> None:
    """Place nothing in the way."""


def following(stage: Stage) -> None:
    """Place a vehicle to follow: far, near, or slower."""
    v, u = stage.v, stage.uniform
    if stage.level == 'none':
        near, speed = v * u(3.9, 5.2), v + u(-0.7, 1.0)
    elif stage.level == 'low' and stage.chance(0.7):
        near = max(4.0, v * u(0.8, 2.2))
        speed = v + (u(-0.7, 0.9) if stage.chance(0.7) else u(2.5, 4.0))
    else:
        closing = v * u(0.25, 0.65)
        near, speed = stage.arrival() * closing, v - closing
    along = Track.steady(stage.t, stage.s + near, speed)
    stage.add(stage.vehicle(), near, u(-0.2, 0.2),
              along=along.then_speed(stage.t + 3.0, v + LEAVE_MPS, 2.5))


def lead_braking(stage: Stage) -> None:
    """Let the vehicle ahead brake."""
    u = stage.uniform
    since, before = u(0.8, 1.5), stage.v * u(0.85, 1.1)
    braking = u(2.6, 3.0) if stage.level == 'none' else u(2.6, 7.0)
    speed = max(1.0, before - braking * since)
    t = 7.6 if stage.level == 'none' else stage.arrival()
    moving = min(t, speed / braking)
    near = max(2.5, stage.v * t - speed * moving + 0.5 * braking * moving ** 2)
    start = Track.steady(stage.t - since, 0.0, speed + braking * since)
    slowing = start.then_speed(stage.t - since, 0.0, braking)
    # On after a while, so that a longer clip goes on, too.
    shift = stage.s + near - slowing.at(stage.t)[0]
    stopped = stage.t + speed / braking
    slowing = slowing.then_speed(stopped + 2.5, stage.v + LEAVE_MPS, 2.5)
    along = Track(tuple(k._replace(x=k.x + shift) for k in slowing.knots))
    stage.add(stage.vehicle(), near, u(-0.2, 0.2), along=along)


def cut_in(stage: Stage) -> None:
    """Let a vehicle of a neighbouring lane come into the ego lane, or stay in its own."""
    u, road = stage.uniform, stage.road
    sides = [side for side, free in ((1, road.centre > road.lane_m),
                                     (-1, -road.right > road.lane_m)) if free]
    pulling_out = not sides
    side = -1 if pulling_out else sides[int(stage.rng.integers(len(sides)))]
    lane = road.right - 1.1 if pulling_out else side * road.lane_m
    label = stage.vehicle()
    if stage.level == 'none':
        stage.add(label, u(0.4, 1.6) * stage.v, lane, 0.0 if pulling_out else
                  stage.v + u(-3.0, 1.0), parked=pulling_out)
        return
    sideways = u(0.9, 1.6)
    d = lane * u(0.62, 0.92)
    if stage.level == 'low':
        speed = stage.v + (u(-0.8, 0.8) if stage.chance(0.6) else u(2.5, 4.0))
        near = max(5.0, stage.v * u(0.6, 1.8))
    else:
        closing = stage.v * u(0.3, 0.6)
        near, speed = max(4.0, stage.arrival() * closing), stage.v - closing
    begin = stage.t - abs(lane - d) / sideways
    blink = (-side, begin - 1.0, begin + abs(lane) / sideways) if stage.chance(0.75) else None
    along = Track.steady(stage.t, stage.s + near, speed)
    if pulling_out:
        along = Track.steady(begin - speed / 3.5, 0.0).then_speed(begin - speed / 3.5, speed, 3.5)
        shift = stage.s + near - along.at(stage.t)[0]
        along = Track(tuple(k._replace(x=k.x + shift) for k in along.knots))
    settled = along.then_speed(stage.t + 2.0, stage.v + LEAVE_MPS, 2.5)
    stage.add(label, near, d, along=settled, indicator=blink,
              across=walk(stage.t, d, -side * sideways, lane, 0.0))


def oncoming_drift(stage: Stage) -> None:
    """Let an oncoming vehicle leave its lane towards the ego lane, or keep to it."""
    u, road = stage.uniform, stage.road
    lane = road.centre + 0.5 * road.lane_m
    speed = min(stage.v, 16.0) * u(0.7, 1.1)
    t = stage.arrival()
    label = stage.vehicle()
    if stage.level == 'none':
        stage.add(label, t * (stage.v + speed), lane + u(-0.1, 0.3), -speed, facing=math.pi)
        return
    if stage.level == 'low':
        t, sideways = u(1.2, 2.6), u(0.45, 0.75)
        passed = 2.1 + u(0.35, 0.7)
    else:
        sideways, passed = u(0.6, 1.7), u(-0.4, 1.1)
    d = min(passed + sideways * t, lane)
    near = t * (stage.v + speed)
    across = walk(stage.t, d, -sideways, lane, d - sideways * 6.0)
    back = stage.t + 0.75 * t
    place, _, _ = across.at(back)
    recover = (lane - place) / 1.2
    across = Track((*(k for k in across.knots if k.t < back), Knot(back, place, 1.2, 0.0)
                    if recover > 0.1 else Knot(back, place, 0.0, 0.0),
                    Knot(back + max(recover, 0.1), lane, 0.0, 0.0)))
    stage.add(label, near, d, -speed, across=across, facing=math.pi)


def pedestrian_crossing(stage: Stage) -> None:
    """Let somebody cross the road, or have just crossed it."""
    u, side, speed = stage.uniform, stage.side(), stage.uniform(0.9, 1.9)
    t = stage.arrival()
    if stage.level == 'none':
        edge = stage.road.kerb_left if side < 0 else stage.road.kerb_right
        d, t = edge - side * u(0.3, 2.0), u(1.5, 3.5)
    elif stage.level == 'low' and stage.chance(0.6):
        d, t = -side * u(2.0, 3.1), u(1.2, 3.2)
    else:
        d = u(-0.9, 0.9) + side * speed * t
    stage.crossing('pedestrian', t * stage.v, side, speed, d)


def pedestrian_waiting(stage: Stage) -> None:
    """Place somebody at the kerb, or farther away."""
    u, side = stage.uniform, stage.side()
    t = u(1.0, 3.2)
    d = stage.beside(side, 0.25, 0.6) if stage.level == 'low' else stage.beside(side, 0.5, 3.0)
    stage.add('pedestrian', max(5.0, t * stage.v), d, facing=-side * math.pi / 2)


def hidden_child(stage: Stage) -> None:
    """Let a child run out behind a parked car, stand there, or walk on the sidewalk."""
    u, road = stage.uniform, stage.road
    right = -1
    t = stage.arrival()
    lane = road.right - 1.05
    near = max(5.0, t * stage.v) if stage.threat else u(1.3, 3.2) * stage.v
    if stage.level == 'none':
        stage.add('child', near, stage.beside(right, 1.2, 2.6), u(-1.0, 1.0), 0.0,
                  facing=math.pi / 2)
    elif stage.level == 'low':
        stage.add('child', near, road.right + u(-0.9, 0.05), facing=math.pi / 2)
    else:
        # It has just come into sight, and is in the corridor when the ego vehicle arrives.
        d = road.right + u(-0.5, 0.5)
        stage.crossing('child', near, right, (u(-0.8, 1.0) - d) / t, d)
    car = 'car' if stage.chance(0.8) else 'truck'
    cover = stage.add(car, 0.0, lane, hazard=False, parked=True)
    length = cover.size[0]
    stage.bodies[-1] = replace(cover, along=Track.steady(
        stage.t, stage.s + near - u(0.35, 1.1) - length / 2))


def cyclist_ahead(stage: Stage) -> None:
    """Place a cyclist ahead, in the way or at the side."""
    u, road = stage.uniform, stage.road
    speed = u(3.5, 6.5)
    closing = max(stage.v - speed, 1.0)
    inside = max(road.right + u(0.35, 0.8), -1.2)
    if stage.level == 'none':
        near, d = stage.v * u(3.8, 5.0) + 6.5 * closing, inside
    elif stage.level == 'low':
        if stage.chance(0.5):
            near, d = u(1.2, 3.2) * closing, -u(2.0, 2.9)
        else:
            near, d = stage.arrival() * closing, inside
    else:
        near, d = stage.arrival() * closing, inside
    # Stops at the side after a while and lets the ego vehicle pass.
    across = Track((Knot(EVER, d, 0.0, 0.0), Knot(stage.t + 3.0, d, -0.8, 0.0),
                    Knot(stage.t + 6.0, d - 2.4, 0.0, 0.0)))
    along = Track.steady(stage.t, stage.s + max(3.0, near), speed)
    stage.add('cyclist', max(3.0, near), d, across=across,
              along=along.then_speed(stage.t + 5.0, 0.0, 1.5))


def red_light(stage: Stage) -> None:
    """Place a traffic light: red at some distance, or green."""
    t = stage.arrival()
    line = t * stage.v
    offset = 5.0
    red = stage.level != 'none'
    phases = ((EVER, 'green'), (stage.t - 6.0, 'red'), (stage.t + 9.0, 'green')) if red else (
        (EVER, 'green'),)
    stage.add('traffic light', line + offset, stage.road.right - 0.9, phases=phases,
              stop_line=offset)
    stage.props.append(Prop('junction', stage.s + line + offset + 1.0, 0.0, 9.0, 0.0, 0.0,
                            (0, 0, 0)))
    if stage.chance(0.3):
        side = stage.side()
        stage.crossing('pedestrian', line + 3.0, side, stage.uniform(1.0, 1.6),
                       side * stage.uniform(3.0, 5.0))
        stage.hazards.discard(stage.bodies[-1].id)


def stopped_queue(stage: Stage) -> None:
    """Place standing vehicles in the ego lane, or in another one only."""
    u, road = stage.uniform, stage.road
    lane = 0.0
    if stage.level == 'none':
        lane = road.lane_m if road.centre > road.lane_m else road.centre + road.lane_m / 2
        if road.right < -road.lane_m:
            lane = -road.lane_m
    oncoming = lane > road.centre
    near = max(3.0, stage.arrival() * stage.v)
    away = stage.t + 9.0
    for k in range(int(stage.rng.integers(1, 4))):
        along = Track.steady(stage.t, stage.s + near)
        if not oncoming:
            along = along.then_speed(away - 0.8 * k, stage.v + LEAVE_MPS, 2.5)
        body = stage.add(stage.vehicle(), near, lane + u(-0.15, 0.15), along=along,
                         facing=math.pi if oncoming else 0.0)
        near += body.size[0] + u(1.8, 3.5)


def animal(stage: Stage) -> None:
    """Place an animal on the road, crossing it, at its side, or far from it."""
    u, side = stage.uniform, stage.side()
    t = stage.arrival()
    facing = -side * math.pi / 2
    if stage.level == 'none':
        stage.add('animal', u(1.5, 3.5) * stage.v, side * (5.0 + u(0.0, 4.0)),
                  facing=u(-3.1, 3.1))
    elif stage.level == 'low' and stage.chance(0.6):
        stage.add('animal', u(1.2, 3.2) * stage.v, side * u(2.3, 3.2), facing=facing)
    elif stage.chance(0.35):
        d = u(-0.8, 0.8)
        across = Track((Knot(EVER, d, 0.0, 0.0), Knot(stage.t + 3.0, d, -side * 2.0, 0.0),
                        Knot(stage.t + 7.0, d - side * 8.0, 0.0, 0.0)))
        stage.add('animal', t * stage.v, d, across=across, facing=facing)
    else:
        speed = u(1.2, 3.5)
        stage.crossing('animal', t * stage.v, side, speed, u(-0.9, 0.9) + side * speed * t)


def construction(stage: Stage) -> None:
    """Place a construction site in the ego lane, beside it, or on the far side."""
    u, road = stage.uniform, stage.road
    t = stage.arrival()
    width = u(1.4, 2.6)
    edge = EGO_WIDTH_M / 2 + 0.3
    side = -1 if stage.chance(0.75) else 1
    if stage.level == 'none':
        inner, t = edge + u(2.4, 3.5), u(1.2, 3.2)
    elif stage.level == 'low' and stage.chance(0.7):
        inner, t = edge + u(0.35, 1.3), u(1.2, 3.2)
    else:
        inner = u(-0.6, 0.6)
    near = max(5.0, t * stage.v)
    d = side * (inner + width / 2)
    stage.add('barrier', near, d, width=width)
    s, outer = stage.s + near, (road.kerb_left if side > 0 else road.kerb_right)
    outer = side * max(abs(outer), inner + width)
    for k in range(7):
        share = k / 7
        stage.props.append(Prop('cone', s - 14.0 * (1 - share), outer + share * (d - outer), 0.4,
                                0.4, 0.8, (0, 0, 0)))
    for k in range(5):
        stage.props.append(Prop('cone', s + 3.0 + 4.0 * k, side * (inner + 0.2), 0.4, 0.4, 0.8,
                                (0, 0, 0)))
    stage.props.append(Prop('sign', s - u(16.0, 22.0), stage.beside(side, 0.5, 0.8), 0.1, 0.6, 2.4,
                            (0, 0, 0), 0.9))


class Family(NamedTuple):
    """How a family is drawn: on which roads, for which levels, whether it has parking strips."""

    place: Callable[[Stage], None]
    roads: tuple[str, ...]
    levels: tuple[RiskLevel, ...] = TRUE_LEVELS
    lanes: tuple[int, ...] = (1, 2, 3)
    parking: bool | None = None


FAMILIES: dict[str, Family] = {
    'free road': Family(free_road, (CITY, COUNTRY, MOTORWAY), ('none',)),
    'following': Family(following, (CITY, COUNTRY, MOTORWAY)),
    'lead braking': Family(lead_braking, (CITY, COUNTRY, MOTORWAY)),
    'cut-in': Family(cut_in, (CITY, MOTORWAY)),
    'oncoming drift': Family(oncoming_drift, (CITY, COUNTRY), lanes=(1,)),
    'pedestrian crossing': Family(pedestrian_crossing, (CITY, CITY, COUNTRY), lanes=(1, 2)),
    'pedestrian waiting': Family(pedestrian_waiting, (CITY,), ('none', 'low'), lanes=(1, 2)),
    'hidden child': Family(hidden_child, (CITY,), lanes=(1,), parking=True),
    'cyclist ahead': Family(cyclist_ahead, (CITY, COUNTRY), lanes=(1, 2)),
    'red light': Family(red_light, (CITY,), lanes=(1, 2)),
    'stopped queue': Family(stopped_queue, (CITY, COUNTRY, MOTORWAY)),
    'animal': Family(animal, (COUNTRY, COUNTRY, CITY), lanes=(1, 2)),
    'construction': Family(construction, (CITY, COUNTRY, MOTORWAY)),
}
#: Families whose actors stand at, or come from, the right edge: the ego vehicle drives there.
_RIGHT_LANE = frozenset(('hidden child', 'cyclist ahead', 'red light', 'pedestrian waiting'))
SPEEDS = {CITY: (4.5, 14.0), COUNTRY: (9.0, 22.0), MOTORWAY: (17.0, 30.0)}


def draw_road(rng: np.random.Generator, name: str, length_m: float,
              families: Mapping[str, Family] = FAMILIES) -> Road:
    """Return a road on which a family can happen, which is among the usual ones or others."""
    family = families[name]
    kind = family.roads[int(rng.integers(len(family.roads)))]
    lanes = int(family.lanes[int(rng.integers(len(family.lanes)))])
    if kind == COUNTRY:
        lanes = 1
    elif kind == MOTORWAY:
        lanes = max(2, lanes)
    ego_lane = 0 if name in _RIGHT_LANE else int(rng.integers(lanes))
    lane_m = {CITY: rng.uniform(2.9, 3.5), COUNTRY: rng.uniform(3.0, 3.6),
              MOTORWAY: rng.uniform(3.5, 3.75)}[kind]
    parking = (False, False)
    if kind == CITY:
        parking = (bool(rng.random() < 0.5), bool(rng.random() < 0.4))
        if family.parking or (name == 'cut-in' and lanes == 1):
            parking = (True, parking[1])
        if name == 'pedestrian waiting':
            parking = (False, parking[1])
    oncoming = {CITY: max(1, lanes - 1), COUNTRY: 1, MOTORWAY: 0}[kind]
    radius = {CITY: (110.0, 400.0), COUNTRY: (140.0, 500.0), MOTORWAY: (450.0, 900.0)}[kind]
    curvature = 0.0
    if rng.random() < 0.5:
        curvature = float(rng.choice((-1, 1)) / rng.uniform(*radius))
    return Road(kind, lanes, ego_lane, float(lane_m), oncoming, parking,
                ((0.0, curvature), (length_m, curvature)), length_m)
