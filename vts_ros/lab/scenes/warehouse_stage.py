# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
An aisle of a warehouse with a robot in it, and the families of situations that happen there.

As on the road, a family aims at a level of risk at the hazard time, and a scene that came out
otherwise is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import math
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.stage import CLOTHES, HAIRS, SKINS, Stage, TROUSERS, walk
from vts_ros.lab.scenes.warehouse_shapes import (
    BAY_M,
    GOODS,
    RACK_TOP_M,
)
from vts_ros.lab.scenes.world import Body, Prop, Road, Track
from vts_ros.vlm.answers import RiskLevel

AISLE = 'warehouse aisle'
LABELS = ('person', 'forklift', 'pallet', 'robot')
#: Width and length of the robot, and how far its camera is behind its front, in m.
ROBOT_WIDTH_M, ROBOT_LENGTH_M, SETBACK_M = 0.8, 1.2, 1.0
#: Its camera looks down a little: what matters is near and on the floor.
PITCH_RAD = 0.10
SPEED_MPS = (1.4, 2.4)
RACK_DEPTH_M, CEILING_M = 1.1, 7.2
_VESTS = ((255, 120, 20), (230, 240, 40), (255, 140, 30))
_PAINTS = ((236, 170, 20), (222, 96, 28), (190, 40, 36), (60, 120, 70))
_SHELLS = ((226, 228, 230), (60, 130, 190), (70, 74, 82))


def draw_aisle(rng: np.random.Generator, length_m: float) -> Road:
    """Return a straight aisle in whose middle the robot drives."""
    return Road(AISLE, 1, 0, float(rng.uniform(3.2, 4.6)), 0, (False, False), ((0.0, 0.0),),
                length_m)


class WarehouseStage(Stage):
    """
    An aisle, on which a family places its actors.

    Attributes
    ----------
    gaps
        Middle and width along the aisle of the gaps in the racks, where other aisles cross.

    """

    def __init__(self, rng: np.random.Generator, road: Road, t: float, s: float, v: float,
                 level: RiskLevel) -> None:
        super().__init__(rng, road, t, s, v, level)
        self.gaps: list[tuple[float, float]] = []

    @property
    def far_sec(self) -> float:
        """Return a time to reach for the level aimed at; without a risk a long one."""
        return self.uniform(7.4, 9.0) if self.level == 'none' else self.arrival()

    @property
    def edge(self) -> float:
        """Return half the width of the aisle."""
        return self.road.left

    def _looks(self, label: str) -> tuple[str, tuple[float, float, float], tuple[int, int, int],
                                          tuple[tuple[int, int, int], ...], str]:
        u = self.uniform
        if label == 'person':
            top = self._pick(_VESTS if self.chance(0.7) else CLOTHES)
            return 'person', (0.45, 0.5, u(1.6, 1.9)), top, (
                top, self._pick(TROUSERS), self._pick(SKINS), self._pick(HAIRS)), ''
        goods = self._pick(GOODS)  # type: ignore[arg-type]
        if label == 'forklift':
            return 'forklift', (u(3.1, 3.5), u(1.08, 1.2), u(2.05, 2.2)), self._pick(_PAINTS), (
                goods, self._pick(_VESTS)), ''
        if label == 'pallet':
            return 'pallet', (1.2, u(0.8, 1.2), u(0.4, 1.25)), goods, (), ''
        return 'robot', (0.95, 0.68, u(1.15, 1.4)), self._pick(_SHELLS), (), ''

    def gap(self, near: float, width: float) -> None:
        """Leave a gap in the racks around a place ``near`` metres ahead at the hazard time."""
        self.gaps.append((self.s + near, width))

    def from_side(self, label: str, near: float, side: int, speed: float, d: float,
                  hazard: bool = True) -> Body:
        """Add what crosses the aisle through a gap and is at ``d`` at the hazard time."""
        room = 4.4 if label == 'forklift' else 2.6
        self.gap(near + 0.3, room)
        start, end = side * (self.edge + 4.0), -side * (self.edge + 4.0)
        across = walk(self.t, d, -side * speed, start, end)
        return self.add(label, near, d, across=across, facing=-side * math.pi / 2,
                        hazard=hazard)


def free_aisle(stage: WarehouseStage) -> None:
    """Place nothing in the way."""


def _crossing(stage: WarehouseStage, label: str) -> None:
    u, side, t = stage.uniform, stage.side(), stage.far_sec
    half = 0.25 if label == 'person' else 0.6
    if stage.level == 'none':
        # It crosses far ahead.
        stage.from_side(label, t * stage.v, side, u(0.7, 1.6), u(-1.0, 1.0))
        return
    # It can be seen, and is in the way when the robot arrives.
    d = u(0.0, stage.edge + 0.4)
    speed = (d + u(-half, half)) / t
    if speed > 0.5:
        stage.from_side(label, t * stage.v, side, speed, side * d)


def person_crossing(stage: WarehouseStage) -> None:
    """Let somebody cross the aisle, or come out of a blind corner."""
    _crossing(stage, 'person')


def forklift_crossing(stage: WarehouseStage) -> None:
    """Let a forklift cross the aisle, or come out of a blind corner."""
    _crossing(stage, 'forklift')


def robot_crossing(stage: WarehouseStage) -> None:
    """Let another robot cross the aisle."""
    _crossing(stage, 'robot')


def person_walking(stage: WarehouseStage) -> None:
    """Let somebody walk in the aisle, towards the robot or away from it."""
    u, speed = stage.uniform, stage.uniform(0.8, 1.3)
    d = u(-0.5, 0.5)
    towards = stage.chance(0.6) or stage.v - speed < 0.5
    closing = stage.v + speed if towards else stage.v - speed
    stage.add('person', stage.far_sec * closing, d, -speed if towards else speed)


def person_standing(stage: WarehouseStage) -> None:
    """Place somebody who stands in the way, or at a rack."""
    u, side = stage.uniform, stage.side()
    if stage.level == 'low' and stage.chance(0.7):
        near, d = u(1.5, 3.2) * stage.v, side * (stage.edge - u(0.15, 0.4))
    else:
        near, d = stage.far_sec * stage.v, u(-0.5, 0.5)
    stage.add('person', near, d, facing=side * math.pi / 2 if stage.chance(0.6) else u(-3.1, 3.1))


def forklift_coming(stage: WarehouseStage) -> None:
    """Let a forklift come towards the robot, forks first or backing."""
    u, speed = stage.uniform, stage.uniform(0.8, 2.2)
    body = stage.add('forklift', stage.far_sec * (stage.v + speed), u(-0.5, 0.5), -speed,
                     facing=math.pi)
    if stage.chance(0.5):
        stage.bodies[-1] = replace(body, detail='backing')


def forklift_standing(stage: WarehouseStage) -> None:
    """Place a forklift that stands in the aisle, along it or across."""
    u = stage.uniform
    facing = (0.0, math.pi, math.pi / 2, -math.pi / 2)[int(stage.rng.integers(4))]
    stage.add('forklift', stage.far_sec * stage.v, u(-0.4, 0.4), facing=facing)


def pallet_on_floor(stage: WarehouseStage) -> None:
    """Leave a pallet in the way, or at the side."""
    u = stage.uniform
    if stage.level == 'none' and stage.chance(0.5):
        stage.add('pallet', u(1.5, 4.0) * stage.v, stage.side() * (stage.edge - 0.1))
    else:
        stage.add('pallet', stage.far_sec * stage.v, u(-0.5, 0.5))


def robot_ahead(stage: WarehouseStage) -> None:
    """Let another robot drive ahead, come towards this one, or stand."""
    u = stage.uniform
    speed = (0.0, u(0.6, 1.2), -u(0.6, 1.5))[int(stage.rng.integers(3))]
    if stage.v - speed < 0.5:
        speed = 0.0
    stage.add('robot', stage.far_sec * (stage.v - speed), u(-0.4, 0.4), speed,
              facing=math.pi if speed < 0 else 0.0)


class WarehouseFamily(NamedTuple):
    """How a family is drawn, and for which levels."""

    place: Callable[[WarehouseStage], None]
    levels: tuple[RiskLevel, ...] = TRUE_LEVELS


#: What crosses and is reached in five seconds only is still hidden by the racks.
NO_LOW: tuple[RiskLevel, ...] = ('none', 'medium', 'high')
WAREHOUSE_FAMILIES: dict[str, WarehouseFamily] = {
    'free aisle': WarehouseFamily(free_aisle, ('none',)),
    'person crossing': WarehouseFamily(person_crossing, NO_LOW),
    'person walking': WarehouseFamily(person_walking),
    'person standing': WarehouseFamily(person_standing),
    'forklift crossing': WarehouseFamily(forklift_crossing, NO_LOW),
    'forklift coming': WarehouseFamily(forklift_coming),
    'forklift standing': WarehouseFamily(forklift_standing),
    'pallet on the floor': WarehouseFamily(pallet_on_floor),
    'robot ahead': WarehouseFamily(robot_ahead),
    'robot crossing': WarehouseFamily(robot_crossing, NO_LOW),
}


def add_others(stage: WarehouseStage) -> None:
    """Add what is not what the family is about: far ahead, or at the side of the aisle."""
    u = stage.uniform
    if stage.chance(0.4):
        label = LABELS[int(stage.rng.integers(len(LABELS)))]
        near = u(16.0, 26.0) if label in ('forklift', 'robot') else u(13.0, 22.0)
        if all(abs(near + stage.s - body.along.at(stage.t)[0]) > 5.0 for body in stage.bodies):
            stage.add(label, near, u(-1.0, 1.0), facing=u(-3.1, 3.1), hazard=False)
    if stage.chance(0.35):
        near = u(5.0, 14.0)
        if all(abs(near + stage.s - body.along.at(stage.t)[0]) > 2.5 for body in stage.bodies):
            stage.add('pallet', near, stage.side() * (stage.edge + u(0.0, 0.3)), hazard=False)


def furnish(stage: WarehouseStage, start: float, end: float) -> list[Prop]:
    """Return racks with gaps where other aisles cross, lamps, joists and the end of the hall."""
    rng, road = stage.rng, stage.road
    props: list[Prop] = []
    gaps = list(stage.gaps)
    s = start + float(rng.uniform(2.0, 14.0))
    while s < end:
        if all(abs(s - middle) > 7.0 for middle, _ in gaps):
            gaps.append((s, 2.8))
        s += float(rng.uniform(11.0, 19.0))
    grey: tuple[int, int, int] = (92, 96, 104)
    for middle, width in gaps:
        props.append(Prop('junction', middle - 0.5 * width + 0.3, 0.0, width - 0.6, 0.0, 0.0,
                          grey))
        if rng.random() < 0.5:
            side = 1.0 if rng.random() < 0.5 else -1.0
            props.append(Prop('corner sign', middle + 0.5 * width - 0.05,
                              side * (road.left + 0.18), 0.1, 0.6, 3.0, grey))
    for side in (1.0, -1.0):
        s = start
        wall = side * (road.left + 0.12)
        while s < end:
            length = BAY_M
            taken = [(middle, width) for middle, width in gaps
                     if s < middle + 0.5 * width and s + length > middle - 0.5 * width]
            if taken:
                middle, width = min(taken)
                length = middle - 0.5 * width - s
                if length > 0.8:
                    props.append(_bay(rng, s, wall, length))
                s = middle + 0.5 * width
                continue
            props.append(_bay(rng, s, wall, length))
            s += length
    step = float(rng.uniform(5.0, 8.0))
    for s in np.arange(start, end, step).tolist():
        props += [Prop('hall lamp', s, 0.0, 1.4, 0.35, CEILING_M - 0.6, grey),
                  Prop('joist', s + 0.5 * step, 0.0, 0.3, 40.0, CEILING_M, (70, 72, 80))]
    tone = int(rng.integers(120, 190))
    props.append(Prop('hall wall', end + 1.0, 0.0, 0.3, 60.0, CEILING_M + 3.0,
                      (tone, tone, tone + 4), float(rng.random())))
    return props


def _bay(rng: np.random.Generator, s: float, wall: float, length: float) -> Prop:
    return Prop('rack', s, wall, length, RACK_DEPTH_M, RACK_TOP_M, (0, 0, 0),
                float(rng.random()))


def robot_track(v: float) -> Track:
    """Return the movement of the robot: along the aisle at a steady speed."""
    return Track.steady(0.0, 4.0, v)
