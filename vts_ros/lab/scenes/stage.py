# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A road with an ego vehicle, on which actors are placed: how they look, and how they move."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import ClassVar

import numpy as np

from vts_ros.lab.scenes.world import Body, Knot, Prop, Road, Track
from vts_ros.vlm.answers import RiskLevel

#: Kinds of roads.
CITY, COUNTRY, MOTORWAY = 'city street', 'country road', 'motorway'
CAR_COLOURS = {
    'white': (226, 228, 230), 'silver': (168, 172, 178), 'grey': (96, 100, 106),
    'black': (34, 36, 40), 'red': (176, 32, 34), 'blue': (40, 74, 148), 'green': (36, 92, 66),
    'beige': (190, 172, 136), 'yellow': (226, 178, 34), 'orange': (214, 104, 30)}
CLOTHES = ((196, 44, 40), (44, 84, 168), (226, 186, 50), (52, 122, 74), (36, 40, 52),
           (212, 212, 208), (140, 74, 132), (120, 92, 66), (60, 150, 170))
TROUSERS = ((40, 48, 76), (56, 58, 62), (112, 98, 78), (28, 28, 32), (90, 104, 128))
SKINS = ((232, 190, 160), (206, 158, 122), (150, 104, 74), (98, 68, 50))
HAIRS = ((44, 32, 26), (24, 22, 22), (150, 110, 60), (120, 116, 112))
#: Before the first knot a track is steady; standing since then means since ever.
EVER = -1e3


def walk(t: float, d: float, vd: float, start: float, end: float) -> Track:
    """
    Return sideways movement that passes ``d`` at time ``t``.

    It waits at ``start``, moves with speed ``vd`` and stays at ``end``; where ``d`` is not in
    between, the nearer end is the place at ``t``.
    """
    if abs(vd) < 1e-6 or (end - start) * vd <= 0.0:
        return Track.steady(t, d)
    leave, arrive = t - (d - start) / vd, t + (end - d) / vd
    return Track((Knot(EVER, start, 0.0, 0.0), Knot(leave, start, vd, 0.0),
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
