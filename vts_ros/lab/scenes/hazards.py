# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Families of situations: each places the actors of one kind of hazard.

A family aims at a level of risk, at the hazard time of its stage; what the level really is, the
rule in ``risk`` says afterwards, and a scene that came out otherwise is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import math
from typing import ClassVar, NamedTuple

import numpy as np

from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.world import Body, EGO_WIDTH_M, Knot, Prop, Road, SIDEWALK_M, Track
from vts_ros.vlm.answers import RiskLevel

CAR_COLOURS = {
    'white': (226, 228, 230), 'silver': (168, 172, 178), 'grey': (96, 100, 106),
    'black': (34, 36, 40), 'red': (176, 32, 34), 'blue': (40, 74, 148), 'green': (36, 92, 66),
    'beige': (190, 172, 136), 'yellow': (226, 178, 34), 'orange': (214, 104, 30)}
CLOTHES = ((196, 44, 40), (44, 84, 168), (226, 186, 50), (52, 122, 74), (36, 40, 52),
           (212, 212, 208), (140, 74, 132), (120, 92, 66), (60, 150, 170))
TROUSERS = ((40, 48, 76), (56, 58, 62), (112, 98, 78), (28, 28, 32), (90, 104, 128))
SKINS = ((232, 190, 160), (206, 158, 122), (150, 104, 74), (98, 68, 50))
HAIRS = ((44, 32, 26), (24, 22, 22), (150, 110, 60), (120, 116, 112))
#: How much faster than the ego vehicle others leave when a hazard is over.
LEAVE_MPS = 4.0
#: Before the first knot a track is steady; standing since then means since ever.
_EVER = -1e3


def walk(t: float, d: float, vd: float, start: float, end: float) -> Track:
    """
    Return sideways movement that passes ``d`` at time ``t``.

    It waits at ``start``, moves with speed ``vd`` and stays at ``end``; where ``d`` is not in
    between, the nearer end is the place at ``t``.
    """
    if abs(vd) < 1e-6 or (end - start) * vd <= 0.0:
        return Track.steady(t, d)
    leave, arrive = t - (d - start) / vd, t + (end - d) / vd
    return Track((Knot(_EVER, start, 0.0, 0.0), Knot(leave, start, vd, 0.0),
                  Knot(arrive, end, 0.0, 0.0)))


class Stage:
    """
    A road with an ego vehicle, on which a family places its actors.

    Parameters
    ----------
    t, s, v
        Hazard time, and place (front bumper) and speed of the ego vehicle then.
    level
        Level of risk that the family aims at.
    first_id
        Identity of the first body.

    """

    #: Time to collision in s that a level is aimed at with: clear of the limits of the rule.
    ARRIVALS: ClassVar = {'high': (0.75, 1.62), 'medium': (2.48, 3.34), 'low': (4.75, 5.05)}

    def __init__(self, rng: np.random.Generator, road: Road, t: float, s: float, v: float,
                 level: RiskLevel, first_id: int = 1) -> None:
        self.rng, self.road, self.t, self.s, self.v, self.level = rng, road, t, s, v, level
        self.bodies: list[Body] = []
        self.props: list[Prop] = []
        self.hazards: set[int] = set()
        self._first_id = first_id

    # --- dice ---

    def uniform(self, low: float, high: float) -> float:
        """Return a number in a range."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Return true with a probability."""
        return bool(self.rng.random() < probability)

    def side(self) -> int:
        """Return 1 (left) or -1 (right)."""
        return 1 if self.chance(0.5) else -1

    def arrival(self) -> float:
        """Return a time to collision for the level aimed at; for ``none`` some time."""
        return self.uniform(*self.ARRIVALS.get(self.level, (1.2, 3.5)))

    @property
    def threat(self) -> bool:
        """Return whether a conflict is aimed at."""
        return self.level in ('medium', 'high')

    # --- actors ---

    def _pick(self, options: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
        return options[int(self.rng.integers(len(options)))]

    def _looks(self, label: str) -> tuple[str, tuple[float, float, float], tuple[int, int, int],
                                          tuple[tuple[int, int, int], ...], str]:
        """Return kind, size, colour, clothes and detail of an actor."""
        names = list(CAR_COLOURS)
        name = names[int(self.rng.integers(len(names)))]
        colour = CAR_COLOURS[name]
        people = (self._pick(CLOTHES), self._pick(TROUSERS), self._pick(SKINS), self._pick(HAIRS))
        u = self.uniform
        if label == 'car':
            kind = ('saloon', 'hatchback', 'van')[int(self.rng.choice(3, p=(0.45, 0.38, 0.17)))]
            size = {'saloon': (u(4.3, 4.8), u(1.76, 1.86), u(1.42, 1.48)),
                    'hatchback': (u(3.7, 4.2), u(1.68, 1.8), u(1.46, 1.6)),
                    'van': (u(4.6, 5.2), u(1.86, 1.96), u(1.86, 2.05))}[kind]
            return kind, size, colour, (), name
        if label == 'truck':
            stripe = self._pick(tuple(CAR_COLOURS.values()))
            load = colour if self.chance(0.4) else (222, 224, 226)
            return 'truck', (u(7.5, 10.5), u(2.35, 2.5), u(3.2, 3.7)), load, (colour, stripe), ''
        if label == 'bus':
            body = self._pick(((196, 40, 36), (236, 184, 42), (38, 98, 160), (60, 140, 90)))
            return 'bus', (u(10.5, 12.0), 2.5, u(2.9, 3.15)), body, (), ''
        if label == 'motorcycle':
            return 'motorcycle', (2.1, 0.75, 1.72), colour, (*people[:3], self._pick(CLOTHES)), ''
        if label == 'cyclist':
            helmet = self._pick(CLOTHES)
            return 'cyclist', (1.75, 0.55, 1.75), colour, (*people[:3], helmet), ''
        if label == 'pedestrian':
            return 'person', (0.45, 0.5, u(1.58, 1.90)), colour, people, ''
        if label == 'child':
            bright = self._pick(CLOTHES[:4])
            return 'person', (0.4, 0.42, u(1.02, 1.28)), colour, (bright, *people[1:]), ''
        if label == 'animal':
            if self.road.kind == 'city street':
                coat = self._pick(((70, 48, 34), (34, 30, 30), (186, 150, 104), (210, 204, 196)))
                return 'dog', (u(0.85, 1.05), 0.35, u(0.66, 0.80)), colour, (
                    coat, tuple(int(0.7 * c) for c in coat)), 'dog'  # type: ignore[return-value]
            return 'deer', (u(1.55, 1.85), 0.5, u(1.55, 1.85)), colour, (
                (138, 98, 62), (112, 80, 54)), 'deer'
        if label == 'traffic light':
            return 'traffic light', (0.3, 0.72, 3.45), colour, (), ''
        return 'board', (0.3, u(1.4, 2.6), u(1.05, 1.25)), colour, (), ''

    def add(self, label: str, near: float, d: float, vs: float = 0.0, vd: float = 0.0, *,
            along: Track | None = None, across: Track | None = None, facing: float = 0.0,
            hazard: bool = True, parked: bool = False, phases: tuple[tuple[float, str], ...] = (),
            stop_line: float = 0.0, indicator: tuple[int, float, float] | None = None,
            width: float | None = None) -> Body:
        """
        Add an actor by where it is at the hazard time.

        Parameters
        ----------
        near
            Gap in m from the ego front bumper to its nearest point.
        along, across
            Movement if it is not steady; ``along`` relative to the nearest point.

        """
        kind, size, colour, dress, detail = self._looks(label)
        if width is not None:
            size = (size[0], width, size[2])
        body = Body(self._first_id + len(self.bodies), label, kind, size, colour,
                    Track.steady(self.t, 0.0, vs), Track.steady(self.t, d, vd), facing, parked,
                    phases, stop_line, indicator, detail, dress)
        if across is not None:
            body = replace(body, across=across)
        half = replace(body, along=along or body.along).state(self.t).half_s
        if along is None:
            along = Track.steady(self.t, self.s + near + half, vs)
        else:
            along = Track(tuple(k._replace(x=k.x + half) for k in along.knots))
        body = replace(body, along=along)
        self.bodies.append(body)
        if hazard:
            self.hazards.add(body.id)
        return body

    def vehicle(self) -> str:
        """Return the label of some vehicle, mostly a car."""
        labels = ('car', 'truck', 'bus', 'motorcycle')
        shares = {'city street': (0.66, 0.11, 0.12, 0.11),
                  'country road': (0.68, 0.17, 0.04, 0.11),
                  'motorway': (0.60, 0.28, 0.05, 0.07)}[self.road.kind]
        return labels[int(self.rng.choice(4, p=shares))]

    def beside(self, side: int, low: float, high: float) -> float:
        """Return a lateral place some metres off the kerb on a side."""
        edge = self.road.kerb_left if side > 0 else self.road.kerb_right
        return edge + side * self.uniform(low, high)

    def crossing(self, label: str, near: float, side: int, speed: float, d: float) -> Body:
        """Add somebody who crosses from a side and is at ``d`` at the hazard time."""
        start, end = self.beside(side, 0.4, 0.7), self.beside(-side, 0.8, 2.4)
        across = walk(self.t, d, -side * speed, start, end)
        return self.add(label, near, d, across=across, facing=-side * math.pi / 2)


# --- the families --------------------------------------------------------------------------

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
    across = Track((Knot(_EVER, d, 0.0, 0.0), Knot(stage.t + 3.0, d, -0.8, 0.0),
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
    phases = ((_EVER, 'green'), (stage.t - 6.0, 'red'), (stage.t + 9.0, 'green')) if red else (
        (_EVER, 'green'),)
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
        across = Track((Knot(_EVER, d, 0.0, 0.0), Knot(stage.t + 3.0, d, -side * 2.0, 0.0),
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


_CITY, _COUNTRY, _MOTORWAY = 'city street', 'country road', 'motorway'
FAMILIES: dict[str, Family] = {
    'free road': Family(free_road, (_CITY, _COUNTRY, _MOTORWAY), ('none',)),
    'following': Family(following, (_CITY, _COUNTRY, _MOTORWAY)),
    'lead braking': Family(lead_braking, (_CITY, _COUNTRY, _MOTORWAY)),
    'cut-in': Family(cut_in, (_CITY, _MOTORWAY)),
    'oncoming drift': Family(oncoming_drift, (_CITY, _COUNTRY), lanes=(1,)),
    'pedestrian crossing': Family(pedestrian_crossing, (_CITY, _CITY, _COUNTRY), lanes=(1, 2)),
    'pedestrian waiting': Family(pedestrian_waiting, (_CITY,), ('none', 'low'), lanes=(1, 2)),
    'hidden child': Family(hidden_child, (_CITY,), lanes=(1,), parking=True),
    'cyclist ahead': Family(cyclist_ahead, (_CITY, _COUNTRY), lanes=(1, 2)),
    'red light': Family(red_light, (_CITY,), lanes=(1, 2)),
    'stopped queue': Family(stopped_queue, (_CITY, _COUNTRY, _MOTORWAY)),
    'animal': Family(animal, (_COUNTRY, _COUNTRY, _CITY), lanes=(1, 2)),
    'construction': Family(construction, (_CITY, _COUNTRY, _MOTORWAY)),
}
#: Families whose actors stand at, or come from, the right edge: the ego vehicle drives there.
_RIGHT_LANE = frozenset(('hidden child', 'cyclist ahead', 'red light', 'pedestrian waiting'))
SPEEDS = {_CITY: (4.5, 14.0), _COUNTRY: (9.0, 22.0), _MOTORWAY: (17.0, 30.0)}


def draw_road(rng: np.random.Generator, name: str, length_m: float) -> Road:
    """Return a road on which a family can happen."""
    family = FAMILIES[name]
    kind = family.roads[int(rng.integers(len(family.roads)))]
    lanes = int(family.lanes[int(rng.integers(len(family.lanes)))])
    if kind == _COUNTRY:
        lanes = 1
    elif kind == _MOTORWAY:
        lanes = max(2, lanes)
    ego_lane = 0 if name in _RIGHT_LANE else int(rng.integers(lanes))
    lane_m = {_CITY: rng.uniform(2.9, 3.5), _COUNTRY: rng.uniform(3.0, 3.6),
              _MOTORWAY: rng.uniform(3.5, 3.75)}[kind]
    parking = (False, False)
    if kind == _CITY:
        parking = (bool(rng.random() < 0.5), bool(rng.random() < 0.4))
        if family.parking or (name == 'cut-in' and lanes == 1):
            parking = (True, parking[1])
        if name == 'pedestrian waiting':
            parking = (False, parking[1])
    oncoming = {_CITY: max(1, lanes - 1), _COUNTRY: 1, _MOTORWAY: 0}[kind]
    radius = {_CITY: (110.0, 400.0), _COUNTRY: (140.0, 500.0), _MOTORWAY: (450.0, 900.0)}[kind]
    curvature = 0.0
    if rng.random() < 0.5:
        curvature = float(rng.choice((-1, 1)) / rng.uniform(*radius))
    return Road(kind, lanes, ego_lane, float(lane_m), oncoming, parking,
                ((0.0, curvature), (length_m, curvature)), length_m)


# --- everything else that is there ---------------------------------------------------------

def footprint(body: Body, times: np.ndarray) -> np.ndarray:
    """Return centre and half extents (times, 4) with the room that others leave."""
    return np.array([(state.s, state.d, state.half_s + 0.5, state.half_d + 0.12)
                     for state in map(body.state, times.tolist())])


def keeps_apart(new: np.ndarray, others: list[np.ndarray]) -> bool:
    """Return whether a footprint never overlaps with others."""
    if not others:
        return True
    other = np.stack(others)
    overlap = np.abs(new[None, :, :2] - other[..., :2]) < new[None, :, 2:] + other[..., 2:]
    return not overlap.all(axis=-1).any()


def add_distractors(stage: Stage, times: np.ndarray, near: float, far: float) -> None:
    """
    Add actors that are not what the family is about.

    Parameters
    ----------
    times
        Times in s at which they must not stand in one another.
    near, far
        Span along the road, in m from the ego vehicle at the hazard time.

    """
    road, u = stage.road, stage.uniform
    checked = np.linspace(times[0], times[-1], 3)
    taken = [footprint(body, checked) for body in stage.bodies]

    def offer(*args: float | str, **kwargs: object) -> None:
        body = stage.add(*args, hazard=False, **kwargs)  # type: ignore[arg-type]
        mine = footprint(body, checked)
        if keeps_apart(mine, taken):
            taken.append(mine)
        else:
            stage.bodies.pop()

    for side, edge, parked in ((-1, road.right, road.parking[0]), (1, road.left, road.parking[1])):
        if not parked:
            continue
        gap = near + u(0.0, 8.0)
        while gap < min(far, 75.0):
            if stage.chance(0.7):
                offer('car' if stage.chance(0.92) else 'truck', gap, edge + side * 1.08,
                      parked=True, facing=0.0 if side < 0 else math.pi)
            gap += u(6.2, 9.0)
    for lane in range(road.oncoming):
        if stage.chance(0.55):
            d = road.centre + (lane + 0.5) * road.lane_m
            offer(stage.vehicle(), u(4.0, 80.0), d, -u(0.7, 1.1) * min(stage.v + 1.0, 22.0),
                  facing=math.pi)
    if road.kind == _MOTORWAY:
        for lane in range(2):
            if stage.chance(0.5):
                d = road.left + 4.6 + (lane + 0.5) * road.lane_m
                offer(stage.vehicle(), u(20.0, 120.0), d, -u(22.0, 30.0), facing=math.pi)
    for d in (road.lane_m, -road.lane_m):
        inside = road.right < d < road.centre
        if inside and stage.chance(0.5):
            offer(stage.vehicle(), u(3.0, 50.0), d, max(0.0, stage.v + u(-3.0, 3.0)))
    if road.kind == _CITY:
        for _ in range(int(stage.rng.integers(0, 5))):
            side = stage.side()
            d = stage.beside(side, 0.9, SIDEWALK_M - 0.5)
            offer('pedestrian' if stage.chance(0.8) else 'child', u(near, 45.0), d,
                  u(0.8, 1.6) * stage.side())
        if stage.chance(0.18) and not any(p.kind == 'junction' for p in stage.props):
            line = u(10.0, 40.0)
            offer('traffic light', line + 5.0, road.right - 0.9, stop_line=5.0,
                  phases=((_EVER, 'green'),))
            stage.props.append(Prop('junction', stage.s + line + 6.0, 0.0, 9.0, 0.0, 0.0,
                                    (0, 0, 0)))
    elif stage.chance(0.12):
        side = stage.side()
        offer('animal', u(10.0, 50.0), side * (6.5 + u(0.0, 6.0)), facing=u(-3.1, 3.1))


GREENS = ((66, 104, 46), (88, 118, 52), (52, 88, 50), (120, 128, 58), (150, 112, 44))
WALLS = ((198, 182, 156), (176, 120, 96), (206, 204, 196), (160, 164, 170), (214, 190, 140),
         (148, 96, 78), (182, 196, 200))


def scenery(rng: np.random.Generator, road: Road, start: float, end: float,
            placed: list[Prop]) -> list[Prop]:
    """Return houses, trees, lamp posts and signs along a road, none on a placed junction."""
    props: list[Prop] = []
    junctions = [prop for prop in placed if prop.kind == 'junction']

    def free(s: float, length: float) -> bool:
        return not any(s < j.s + j.length + 2.0 and s + length > j.s - 2.0 for j in junctions)

    city = road.kind == _CITY
    for side, edge in ((1.0, road.kerb_left), (-1.0, road.kerb_right)):
        outer = edge + side * (SIDEWALK_M if city else 2.0)
        if road.kind == _MOTORWAY and side > 0:
            outer = road.left + 4.0 + 2 * road.lane_m + 5.0
        row = outer + side * (float(rng.uniform(0.8, 3.5)) if city else 4.0)
        built = rng.random() < (0.9 if city else 0.15)
        s = start
        while s < end:
            a, b, c, e = rng.random(4).tolist()
            if city and built and a < 0.78:
                length = 8.0 + 9.0 * b
                if free(s, length):
                    height = 5.5 + 3.0 * int(4 * c * c)
                    props.append(Prop('house', s, row, length, 9.0, height,
                                      WALLS[int(e * len(WALLS))], c))
                s += length + (0.0 if b < 0.6 else 4.0 * e)
            else:
                wide = 3.0 + 2.5 * b
                far = outer + side * ((0.4 if city else 1.5) + 14.0 * c * (not city))
                if free(s, 1.0) and a > 0.15:
                    kind = 'bush' if b < 0.25 else 'tree'
                    height = 1.2 + 1.2 * e if kind == 'bush' else 5.0 + 5.0 * e
                    props.append(Prop(kind, s, far + side * wide / 3, 0.5,
                                      wide if kind == 'tree' else 2.0 + e, height,
                                      GREENS[int(c * len(GREENS))], a if not city else 0.0))
                s += 5.0 + 8.0 * e
        s = start + 20.0 * float(rng.random())
        while s < end:
            if city and free(s, 0.5):
                props.append(Prop('lamp', s, edge + side * 0.5, 0.2, 0.2, 6.5, (0, 0, 0)))
                if rng.random() < 0.4:
                    props.append(Prop('tree', s + 14.0, edge + side * 0.9, 0.5, 2.6, 5.0,
                                      GREENS[int(rng.integers(3))]))
            elif road.kind == _COUNTRY:
                props.append(Prop('post', s, edge + side * 1.1, 0.1, 0.1, 1.0, (0, 0, 0)))
            elif road.kind == _MOTORWAY and side < 0 and rng.random() < 0.12:
                props.append(Prop('gantry', s, 0.5 * (road.right + road.left), 0.3,
                                  road.left - road.right + 8.0, 7.0, (0, 0, 0)))
            if side < 0 and road.kind != _MOTORWAY and rng.random() < 0.15:
                props.append(Prop('sign', s + 7.0, edge + side * 0.7, 0.1, 0.6, 2.4, (0, 0, 0)))
            s += 30.0 if city else 25.0
    return props
