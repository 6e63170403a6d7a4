# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is there beside a hazard: other actors that keep apart, houses, trees, lamps and signs."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.stage import CITY, COUNTRY, EVER, MOTORWAY, Stage
from vts_ros.lab.scenes.world import Body, Floats, Prop, Road, SIDEWALK_M

GREENS = ((66, 104, 46), (88, 118, 52), (52, 88, 50), (120, 128, 58), (150, 112, 44))
WALLS = ((198, 182, 156), (176, 120, 96), (206, 204, 196), (160, 164, 170), (214, 190, 140),
         (148, 96, 78), (182, 196, 200))


class Footprint(NamedTuple):
    """
    The room that a body takes over some times.

    Attributes
    ----------
    table
        Centre and half extents, (times, 4), with the room that others leave.
    near, far
        Where along the road it ever is.

    """

    table: Floats
    near: float
    far: float


def footprint(body: Body, times: Floats) -> Footprint:
    """Return the room that a body takes."""
    s, d, half_s, half_d = body.places(times)
    half_s, half_d = half_s + 0.5, half_d + 0.12
    return Footprint(np.stack((s, d, half_s, half_d), axis=1), float((s - half_s).min()),
                     float((s + half_s).max()))


def keeps_apart(new: Footprint, others: Sequence[Footprint]) -> bool:
    """Return whether a footprint never overlaps with others."""
    # Most of a long road are never near each other.
    met = [other.table for other in others if other.near <= new.far and other.far >= new.near]
    if not met:
        return True
    other, table = np.stack(met), new.table[None]
    overlap = np.abs(table[..., :2] - other[..., :2]) < table[..., 2:] + other[..., 2:]
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
    if road.kind == MOTORWAY:
        for lane in range(2):
            if stage.chance(0.5):
                d = road.left + 4.6 + (lane + 0.5) * road.lane_m
                offer(stage.vehicle(), u(20.0, 120.0), d, -u(22.0, 30.0), facing=math.pi)
    for d in (road.lane_m, -road.lane_m):
        inside = road.right < d < road.centre
        if inside and stage.chance(0.5):
            offer(stage.vehicle(), u(3.0, 50.0), d, max(0.0, stage.v + u(-3.0, 3.0)))
    if road.kind == CITY:
        for _ in range(int(stage.rng.integers(0, 5))):
            side = stage.side()
            d = stage.beside(side, 0.9, SIDEWALK_M - 0.5)
            offer('pedestrian' if stage.chance(0.8) else 'child', u(near, 45.0), d,
                  u(0.8, 1.6) * stage.side())
        if stage.chance(0.18) and not any(p.kind == 'junction' for p in stage.props):
            line = u(10.0, 40.0)
            offer('traffic light', line + 5.0, road.right - 0.9, stop_line=5.0,
                  phases=((EVER, 'green'),))
            stage.props.append(Prop('junction', stage.s + line + 6.0, 0.0, 9.0, 0.0, 0.0,
                                    (0, 0, 0)))
    elif stage.chance(0.12):
        side = stage.side()
        offer('animal', u(10.0, 50.0), side * (6.5 + u(0.0, 6.0)), facing=u(-3.1, 3.1))


def scenery(rng: np.random.Generator, road: Road, start: float, end: float,
            placed: list[Prop]) -> list[Prop]:
    """Return houses, trees, lamp posts and signs along a road, none on a placed junction."""
    props: list[Prop] = []
    junctions = [prop for prop in placed if prop.kind == 'junction']

    def free(s: float, length: float) -> bool:
        return not any(s < j.s + j.length + 2.0 and s + length > j.s - 2.0 for j in junctions)

    city = road.kind == CITY
    for side, edge in ((1.0, road.kerb_left), (-1.0, road.kerb_right)):
        outer = edge + side * (SIDEWALK_M if city else 2.0)
        if road.kind == MOTORWAY and side > 0:
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
            elif road.kind == COUNTRY:
                props.append(Prop('post', s, edge + side * 1.1, 0.1, 0.1, 1.0, (0, 0, 0)))
            elif road.kind == MOTORWAY and side < 0 and rng.random() < 0.12:
                props.append(Prop('gantry', s, 0.5 * (road.right + road.left), 0.3,
                                  road.left - road.right + 8.0, 7.0, (0, 0, 0)))
            if side < 0 and road.kind != MOTORWAY and rng.random() < 0.15:
                props.append(Prop('sign', s + 7.0, edge + side * 0.7, 0.1, 0.6, 2.4, (0, 0, 0)))
            s += 30.0 if city else 25.0
    return props
