# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Families of hazards that the newest picture does not show, each with a harmless twin.

A family places what both have, and returns two pasts that end in the same picture: somebody or
something was seen, and is hidden, covered or out of the picture now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
import math
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.stage import CITY, COUNTRY, EVER, MOTORWAY, Stage, walk
from vts_ros.lab.scenes.world import (
    Body,
    CAMERA_SETBACK_M,
    Knot,
    Prop,
    Road,
    Track,
    Veil,
    View,
)

#: A thing leaves the picture where it is farther to the side than this share of its distance.
_EDGE = math.tan(math.radians(30.0))


class Past(NamedTuple):
    """
    One of the two pasts that end in the same picture.

    Attributes
    ----------
    way
        What happened, a value of the question of the family (``past_questions``).
    bodies, props
        What only this past has; the first one, of the props if there are any, is what tells.
    since
        Time in s from which the sight of it tells.

    """

    way: str
    bodies: tuple[Body, ...]
    props: tuple[Prop, ...] = ()
    since: float = EVER

    @property
    def thing(self) -> Body | Prop:
        """Return what tells."""
        return self.props[0] if self.props else self.bodies[0]


Place = tuple[float, float, float]


def path(t: float, *places: Place, going: bool = False) -> tuple[Track, Track]:
    """
    Return movement along and across the road through places (time after ``t``, s, d).

    It comes as on the first leg, and stands at the end unless it keeps going.
    """
    tracks = []
    for axis in (1, 2):
        knots = []
        for here, there in pairwise(places):
            speed = (there[axis] - here[axis]) / (there[0] - here[0])
            knots.append(Knot(t + here[0], here[axis], speed, 0.0))
        end = places[-1]
        knots.append(Knot(t + end[0], end[axis], knots[-1].v if going else 0.0, 0.0))
        tracks.append(Track(tuple(knots)))
    return tracks[0], tracks[1]


class MemoryStage(Stage):
    """
    A stage at the time of the newest frame, for something that has been hidden for a while.

    Parameters
    ----------
    hidden_sec
        How long, about.

    """

    def __init__(self, rng: np.random.Generator, road: Road, t: float, s: float, v: float,
                 hidden_sec: float) -> None:
        super().__init__(rng, road, t, s, v, 'none')
        self.hidden_sec = hidden_sec
        self.veils: list[Veil] = []

    def actor(self, label: str, tracks: tuple[Track, Track], facing: float = 0.0) -> Body:
        """Return an actor that is not in both pasts; its centre moves on the tracks."""
        body = self.add(label, 0.0, 0.0, facing=facing, hazard=False)
        self.bodies.remove(body)
        # No other may get its identity.
        self._first_id += 1
        return moved(body, tracks)

    def standing(self, label: str, near: float, d: float, kind: str = '') -> Body:
        """Add a parked vehicle from a gap to the ego bumper on; a car may have to be a van."""
        body = self.add(label, near, d, hazard=False, parked=True)
        if label == 'car' and kind == 'van':
            size = (self.uniform(4.8, 5.4), 1.95, self.uniform(1.95, 2.1))
            body = replace(body, kind='van', size=size,
                           along=Track.steady(self.t, self.s + near + size[0] / 2))
        self.bodies[-1] = body
        return body

    def edge(self, d: float, margin_m: float = 1.0) -> float:
        """Return where along the road somebody at ``d`` is out of the picture now."""
        return self.s - CAMERA_SETBACK_M + abs(d) / _EDGE - margin_m

    def seen_at(self, seconds: float, point: tuple[float, float, float]) -> tuple[float, float]:
        """Return picture coordinates of a point (s, d, z) some time ago."""
        view = View(self.road, self.s - self.v * seconds - CAMERA_SETBACK_M)
        u, v = view.project(np.array([point]))[0][0].tolist()
        return u, v


def moved(body: Body, tracks: tuple[Track, Track]) -> Body:
    """Return a body that moves otherwise."""
    return replace(body, along=tracks[0], across=tracks[1])


Pasts = tuple[Past, Past]


def _behind_cover(stage: MemoryStage, label: str, cover: Body, speed: float, way: str) -> Pasts:
    """Let somebody cross from the left and stay behind a cover, or walk off on the left."""
    u, road, hidden = stage.uniform, stage.road, stage.hidden_sec
    s = cover.along.at(stage.t)[0] + cover.size[0] / 2 + u(0.5, 1.1)
    left, d = road.kerb_left + u(0.3, 0.7), road.right - u(0.5, 1.2)
    there = -hidden + u(0.2, 0.5)
    leave = there - (left - d) / speed
    somebody = stage.actor(label, path(stage.t, (leave - 9.0, s, left), (leave, s, left),
                                       (there, s, d)), facing=-math.pi / 2)
    away = left + u(0.2, 0.8)
    gone = stage.edge(away, u(1.0, 3.0))
    sec = abs(s - gone) / (speed * u(0.7, 1.0))
    off = path(stage.t, (leave - 9.0, s, left), (leave, s, left), (leave + sec, gone, away),
               (leave + sec + 1.0, gone - speed, away), going=True)
    return Past(way, (somebody,)), Past('away on the left', (moved(somebody, off),))


def child_behind_van(stage: MemoryStage) -> Pasts:
    """Let a child run behind a parked van, where it may still be running, or walk away."""
    u, road = stage.uniform, stage.road
    van = stage.standing('car', u(4.5, 8.0), road.right - 1.05, 'van')
    if stage.hidden_sec > 1.5 or stage.chance(0.3):
        return _behind_cover(stage, 'child', van, u(1.8, 3.0), 'behind the van')
    s = van.along.at(stage.t)[0] + van.size[0] / 2 + u(0.4, 1.0)
    speed, d, start = u(1.2, 2.4), road.right - u(0.5, 1.3), stage.beside(-1, 0.9, 2.6)
    before = (d - start) / speed
    # Along the pavement before it turns to the road, from either side.
    s_before = s + u(-3.0, 3.0)
    coming = ((-before - 2.0, s_before, start), (-before, s, start))
    child = stage.actor('child', path(stage.t, *coming, (0.0, s, d), going=True))
    on = s + u(0.5, 1.0) * speed * before
    off = path(stage.t, *coming, (0.0, on, start - 0.3), going=True)
    return Past('behind the van', (child,)), Past('away on the right', (moved(child, off),))


def pedestrian_behind_bus(stage: MemoryStage) -> Pasts:
    """Let somebody cross to the front of a standing bus, or walk off."""
    bus = stage.standing('bus', stage.uniform(3.0, 7.0), stage.road.right - 1.3)
    return _behind_cover(stage, 'pedestrian', bus, stage.uniform(1.2, 2.0), 'behind the bus')


def cyclist_overtaken(stage: MemoryStage) -> Pasts:
    """Let a cyclist be beside us, whom we have overtaken, or who turned off before."""
    u, hidden = stage.uniform, stage.hidden_sec
    d = -u(1.85, 2.4)
    edge = stage.edge(d, 0.0)
    s = stage.s - u(0.3, 2.6)
    speed = stage.v - (edge - s) / hidden
    turn = -hidden - u(1.2, 2.2)
    s_turn = s + speed * turn
    straight = path(stage.t, (turn, s_turn, d), (0.0, s, d), going=True)
    cyclist = stage.actor('cyclist', straight)
    out = max(0.6 * speed, 2.0)
    off = path(stage.t, (turn - 1.0, s_turn - speed, d), (turn, s_turn, d),
               (turn + 0.8, s_turn + 0.6 * speed, d - 0.5 * out),
               (turn + 1.6, s_turn + 0.9 * speed, d - 1.4 * out),
               (turn + 9.0, s_turn + 0.9 * speed, d - 9.0 * out))
    stage.props.append(Prop('junction', s_turn + 0.9 * speed - 4.5, 0.0, 9.0, 0.0, 0.0, (0, 0, 0)))
    return Past('straight on', (cyclist,)), Past('away on the right', (moved(cyclist, off),))


def braking_behind_lorry(stage: MemoryStage) -> Pasts:
    """Let the car ahead brake before a lorry moves in between, or drive on."""
    u, road, hidden = stage.uniform, stage.road, stage.hidden_sec
    sides = [side for side, free in ((1, road.centre > road.lane_m),
                                     (-1, -road.right > road.lane_m)) if free]
    side = sides[int(stage.rng.integers(len(sides)))]
    near, sideways = u(8.0, 14.0), u(1.3, 2.0)
    across = walk(stage.t - hidden, side * u(0.3, 0.8), -side * sideways, side * road.lane_m,
                  u(-0.1, 0.1))
    lorry = stage.add('truck', near, 0.0, stage.v, across=across, hazard=False)
    since = -hidden - u(0.9, 1.5)
    braking = min(u(2.5, 6.0), 0.9 * stage.v / -since)
    start = stage.s + near + lorry.size[0] + u(3.0, 9.0)
    # Where it is now if it brakes is behind the lorry; the twin is farther on.
    steady = Track.steady(stage.t + since, 0.0, stage.v)
    slowing = steady.then(stage.t + since, -braking)
    shift = start - slowing.at(stage.t)[0]
    tracks = [Track(tuple(k._replace(x=k.x + shift) for k in track.knots))
              for track in (slowing, steady)]
    d = Track.steady(stage.t, u(-0.2, 0.2))
    car = stage.actor('car', (tracks[0], d))
    from_now = stage.t + since + 0.05
    return (Past('braked', (car,), since=from_now),
            Past('did not brake', (moved(car, (tracks[1], d)),), since=from_now))


def oncoming_behind_cover(stage: MemoryStage) -> Pasts:
    """Let an oncoming car come round a standing van or lorry, or turn off before it."""
    u, road, hidden = stage.uniform, stage.road, stage.hidden_sec
    lane = road.centre + 0.5 * road.lane_m
    # What is far when it is seen has to be large, and so has what hides it.
    large = hidden > 1.6
    cover = stage.standing('truck' if large else 'car', u(3.0, 7.0), lane - u(0.2, 0.6), 'van')
    stage.bodies[-1] = cover = replace(cover, facing=math.pi)
    size = 10.0 if large else 4.2
    s = cover.along.at(stage.t)[0] + cover.size[0] / 2 + size / 2 + u(0.4, 2.5)
    speed, sideways = u(3.0, 9.0), u(0.7, 1.7)
    keep, swing = lane + u(0.0, 0.8), -u(0.05, 0.3)
    d = keep + sideways * swing
    coming = (-hidden - 4.0, s + speed * (hidden + 4.0), keep)
    label = 'bus' if large else 'car'
    car = stage.actor(label, path(stage.t, coming, (swing, s - speed * swing, keep), (0.0, s, d),
                                  going=True), facing=math.pi)
    turn = -hidden - u(0.2, 1.0)
    s_turn = s - speed * turn
    yard = lane + u(4.0, 7.0)
    off = path(stage.t, coming, (turn, s_turn, keep),
               (turn + 0.6, s_turn - 0.5 * speed, keep + 0.2 * (yard - keep)),
               (turn + 1.6, s_turn - 0.7 * speed, yard))
    stage.props.append(Prop('junction', s_turn - 0.7 * speed - 4.5, 0.0, 9.0, 0.0, 0.0, (0, 0, 0)))
    return Past('towards us', (car,)), Past('off the road', (moved(car, off),))


def light_before_glare(stage: MemoryStage) -> Pasts:
    """Let a traffic light change, or stay, before glare or spray takes it."""
    u, road, hidden = stage.uniform, stage.road, stage.hidden_sec
    line, offset = u(1.0, 3.3) * stage.v, 5.0
    place = stage.s + line + offset
    change = -hidden - u(0.9, 1.6)
    from_green = ((EVER, 'green'), (stage.t + change, 'red'))
    from_red = ((EVER, 'red'), (stage.t + change, 'green'))
    if stage.chance(0.4):
        from_green, from_red = ((EVER, 'red'),) * 2, ((EVER, 'green'),) * 2
    light = stage.actor('traffic light', (Track.steady(stage.t, place),
                                          Track.steady(stage.t, road.right - 0.9)))
    light = replace(light, stop_line=offset)
    stage.props.append(Prop('junction', place + 1.0, 0.0, 9.0, 0.0, 0.0, (0, 0, 0)))
    head = (place, road.right - 0.9, 2.7)
    (u0, v0), (u1, v1) = stage.seen_at(hidden, head), stage.seen_at(0.0, head)
    radius = 0.5 * math.hypot(u1 - u0, v1 - v0) + u(0.06, 0.09) + 1.0 / (line + offset)
    colour = (255, 250, 232) if stage.chance(0.5) else (150, 152, 154)
    stage.veils.append(Veil(stage.t - hidden, stage.t + 9.0, 0.5 * (u0 + u1) + u(-0.02, 0.02),
                            0.5 * (v0 + v1) + u(-0.02, 0.02), radius, colour))
    since = stage.t + change
    return (Past('red', (replace(light, phases=from_green),), since=since),
            Past('green', (replace(light, phases=from_red),), since=since))


def animal_behind_bush(stage: MemoryStage) -> Pasts:
    """Let an animal cross into the verge behind a bush, or turn and run off."""
    u, road, hidden = stage.uniform, stage.road, stage.hidden_sec
    near, speed = u(7.0, 14.0), u(2.5, 5.0)
    s, d = stage.s + near + u(1.0, 1.8), min(road.right - 1.2, -u(3.2, 3.9))
    bush = Prop('bush', stage.s + near, d - u(0.0, 0.4), 0.5, u(3.2, 3.8), u(2.3, 2.6),
                ((66, 104, 46), (88, 118, 52), (52, 88, 50))[int(stage.rng.integers(3))])
    stage.props.append(bush)
    there = -hidden + u(0.2, 0.5)
    left = road.left + u(1.0, 4.0)
    coming = (there - (left - d) / speed, s, left)
    animal = stage.actor('animal', path(stage.t, coming, (there, s, d)), facing=-math.pi / 2)
    turn_d = u(-1.2, 1.5)
    turn = there - (turn_d - d) / speed
    across = (near + 4.0) * _EDGE + u(2.0, 4.0)
    sec = (across - turn_d) / speed
    off = path(stage.t, coming, (turn, s, turn_d), (turn + sec, s + u(0.0, 2.0), across),
               going=True)
    return Past('behind the bush', (animal,)), Past('away on the left', (moved(animal, off),))


def sign_passed(stage: MemoryStage) -> Pasts:
    """Pass the warning of a construction site that a lorry hides, or another sign."""
    u, hidden = stage.uniform, stage.hidden_sec
    near = u(7.0, 11.0)
    lorry = stage.add('truck', near, u(-0.1, 0.1), stage.v, hazard=False)
    barrier = stage.actor('barrier', (
        Track.steady(stage.t, stage.s + near + lorry.size[0] + u(3.0, 9.0)),
        Track.steady(stage.t, u(-0.4, 0.4))))
    d = stage.beside(-1, 0.5, 0.9)
    s = stage.edge(d, 0.0) - stage.v * hidden
    warning = Prop('sign', s, d, 0.1, 0.6, 2.4, (0, 0, 0), 0.9)
    return (Past('warning sign', (replace(barrier, size=(0.3, u(1.4, 2.0), 1.15)),), (warning,)),
            Past('round sign', (), (warning._replace(variant=0.0),)))


class MemoryFamily(NamedTuple):
    """
    How a family is drawn.

    Attributes
    ----------
    road
        The family of ``hazards`` on whose roads it happens, and of these the kinds that fit.
    speeds
        Lowest and highest speed of the ego vehicle in m/s.
    reach_m, near_m
        How far away it is recognised, and how near it is in the newest frame, about: so far it
        comes nearer while it is hidden.
    longest_sec
        The longest time it may be hidden.

    """

    place: Callable[[MemoryStage], Pasts]
    road: str
    kinds: tuple[str, ...]
    speeds: tuple[float, float]
    reach_m: float
    near_m: float
    longest_sec: float
    straight: bool = False


MEMORY_FAMILIES: dict[str, MemoryFamily] = {
    'child behind a van': MemoryFamily(
        child_behind_van, 'hidden child', (CITY,), (3.0, 9.0), 24.0, 11.0, 4.0),
    'pedestrian behind a bus': MemoryFamily(
        pedestrian_behind_bus, 'hidden child', (CITY,), (4.5, 9.0), 34.0, 17.0, 4.0),
    'cyclist overtaken': MemoryFamily(
        cyclist_overtaken, 'cyclist ahead', (CITY, COUNTRY), (4.0, 11.0), 1e3, 0.0, 6.0),
    'braking behind a lorry': MemoryFamily(
        braking_behind_lorry, 'cut-in', (CITY, MOTORWAY), (9.0, 28.0), 1e3, 0.0, 2.5),
    'oncoming behind a van': MemoryFamily(
        oncoming_behind_cover, 'oncoming drift', (CITY, COUNTRY), (1.5, 6.0), 1e3, 0.0, 3.0),
    'light before glare': MemoryFamily(
        light_before_glare, 'red light', (CITY,), (3.0, 12.0), 48.0, 18.0, 7.0),
    'animal behind a bush': MemoryFamily(
        animal_behind_bush, 'animal', (COUNTRY,), (4.0, 14.0), 33.0, 11.0, 4.0),
    'sign passed': MemoryFamily(
        sign_passed, 'cyclist ahead', (CITY, COUNTRY), (5.0, 12.0), 1e3, 0.0, 7.0, True),
}
