# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A drive: one long clip in one continuous world that meets several hazards in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import math

import numpy as np

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes.clips import draw_look, draw_shake, is_clear, no_crash
from vts_ros.lab.scenes.driver import drive_on, REACTION_SEC
from vts_ros.lab.scenes.hazards import FAMILIES
from vts_ros.lab.scenes.stage import Stage
from vts_ros.lab.scenes.surroundings import footprint, keeps_apart, scenery
from vts_ros.lab.scenes.world import Body, Floats, Knot, Look, Prop, Road, Scene, SIDEWALK_M, Track
from vts_ros.vlm.answers import RiskLevel

#: Families that happen on the one-lane city street of a drive, and never block it for good.
DRIVE_FAMILIES = ('following', 'lead braking', 'oncoming drift', 'pedestrian crossing',
                  'pedestrian waiting', 'hidden child', 'cyclist ahead', 'red light',
                  'stopped queue', 'animal')
#: The drive of the demonstration: about a minute; the red light would make it longer without
#: showing more.
DEMO_SEED = 1_100_000_000
DEMO_HAZARDS = ('lead braking', 'pedestrian crossing', 'cyclist ahead', 'hidden child')
CRUISE_MPS = 10.0
#: Between the end of a hazard and the next one at its head.
LEAD_IN_SEC = (5.0, 6.5)
#: How long before its head a hazard counts as the one that is met.
APPROACH_SEC = 2.5
_ATTEMPTS, _PLANS = 200, 10
#: Hazards of a drive that is drawn.
_DRAWN = 3
_START_S = 30.0


def make_drive(seed: int, hazards: Sequence[str] = ('lead braking', 'pedestrian crossing',
                                                    'cyclist ahead', 'red light', 'hidden child'),
               level: RiskLevel = 'high', interval_sec: float = 0.1, light: str = 'day',
               weather: str = 'clear') -> Scene:
    """
    Return a drive along a city street.

    ``families`` of the scene says when each hazard begins and when the road is free again.

    Parameters
    ----------
    hazards
        Of ``DRIVE_FAMILIES``, in the order in which they are met.
    level
        Level of risk at the head of each hazard.

    Raises
    ------
    ValueError
        If a family cannot happen in a drive or never comes to this level.

    """
    for name in hazards:
        if name not in DRIVE_FAMILIES or level not in FAMILIES[name].levels:
            raise ValueError(f'{name!r} cannot happen in a drive with level {level!r}')
    for attempt in range(_PLANS):
        rng = np.random.default_rng((seed, 2, attempt))
        plan = _Plan(rng, seed, _draw_road(rng, 170.0 * (len(hazards) + 1)),
                     Look(light, weather, int(rng.integers(2 ** 31))))
        if all(plan.meet(name, level) for name in hazards):
            scene = plan.finish(interval_sec)
            if scene is not None:
                return scene
    raise RuntimeError(f'no drive for seed {seed}, {", ".join(hazards)}')


def draw_drive(seed: int, interval_sec: float = 0.4) -> Scene:
    """Return a drive with hazards, light and weather drawn from the seed."""
    names = [name for name in DRIVE_FAMILIES if 'high' in FAMILIES[name].levels]
    for attempt in range(_PLANS):
        rng = np.random.default_rng((seed, 3, attempt))
        look = draw_look(rng)
        hazards = rng.choice(names, _DRAWN, replace=False).tolist()
        try:
            return make_drive(seed, hazards, interval_sec=interval_sec, light=look.light,
                              weather=look.weather)
        except RuntimeError:
            # Not all hazards have a place on every street.
            continue
    raise RuntimeError(f'no drive for seed {seed}')


def _draw_road(rng: np.random.Generator, length_m: float) -> Road:
    """Return a winding city street with cars parked on the right."""
    bends, s = [(-100.0, 0.0)], 60.0
    while s < length_m:
        curvature = float(rng.choice((-1, 0, 1))) / float(rng.uniform(160.0, 320.0))
        bends += [(s, 0.0), (s + 40.0, curvature), (s + 90.0, curvature), (s + 130.0, 0.0)]
        s += 130.0 + float(rng.uniform(20.0, 60.0))
    return Road('city street', 1, 0, 3.2, 1, (True, False), tuple(bends), length_m + 200.0)


class _Plan:
    """A drive in the making: everything up to the hazard that was placed last."""

    def __init__(self, rng: np.random.Generator, seed: int, road: Road, look: Look) -> None:
        self.rng, self.seed, self.road, self.look = rng, seed, road, look
        self.ego = Track.steady(0.0, _START_S, CRUISE_MPS)
        self.bodies: list[Body] = []
        self.props: list[Prop] = []
        self.t = 0.0
        #: Name, level, time of the head, bodies.
        self.met: list[tuple[str, RiskLevel, float, frozenset[int]]] = []
        self.families: list[tuple[float, str]] = [(0.0, 'free road')]

    def meet(self, name: str, level: RiskLevel) -> bool:
        """Add a hazard and drive on until it is over; return whether there was a place for it."""
        return any(self._try(name, level) for _ in range(_ATTEMPTS))

    def _try(self, name: str, level: RiskLevel) -> bool:
        t = self.t + float(self.rng.uniform(*LEAD_IN_SEC))
        s, v, _ = self.ego.at(t)
        stage = Stage(self.rng, self.road, t, s, v, level, len(self.bodies) + 1)
        FAMILIES[name].place(stage)
        bodies = [self._joining(body, t) for body in stage.bodies]
        times = np.linspace(t - 5.0, t + 8.0, 27)
        others = [footprint(body, times) for body in self.bodies]
        if not all(keeps_apart(footprint(body, times), others) for body in bodies):
            return False
        everyone = [*self.bodies, *bodies]
        # Before the driver sees the hazard the drive is what it was: to go on takes longest.
        head = self._scene(self.ego, everyone, t + np.arange(-4.0, 1.0) * 0.4, stage.hazards)
        if not is_clear(head, 4, level):
            return False
        ego = drive_on(self.ego, everyone, t + REACTION_SEC, t + 30.0, CRUISE_MPS)
        over = next((u for u in np.arange(t + 4.0, t + 25.0, 0.5).tolist()
                     if ego.at(u)[1] > 0.85 * CRUISE_MPS), None)
        if over is None:
            return False
        scene = self._scene(ego, everyone, np.arange(t - 6.0, over, 0.4), stage.hazards)
        if not no_crash(scene):
            return False
        self.ego = drive_on(ego, everyone, over, over + 20.0, CRUISE_MPS)
        self.bodies, self.t = everyone, over
        self.props += stage.props
        self.met.append((name, level, t, frozenset(stage.hazards)))
        self.families += [(t - APPROACH_SEC, name), (over - 1.0, 'free road')]
        return True

    def _joining(self, body: Body, t: float) -> Body:
        """Return a body ahead that drives along as one that was parked and pulls out before."""
        first = body.along.knots[0]
        if body.parked or first.v < 1.0 or body.state(t).vd:
            return body
        begin = min(first.t, t - 1.0)
        s, v, _ = body.along.at(begin)
        rate = 1.2 if body.label == 'cyclist' else 2.8
        leave = begin - v / rate
        start = s - 0.5 * v * v / rate
        d, place = body.state(t).d, self.road.right - 1.0
        across = Track((Knot(leave - 99.0, place, 0.0, 0.0),
                        Knot(leave, place, (d - place) / 2, 0.0),
                        *body.across.since(leave + 2.0)))
        along = Track((Knot(leave - 99.0, start, 0.0, 0.0), Knot(leave, start, 0.0, rate),
                       *body.along.since(begin)))
        return replace(body, along=along, across=across, indicator=(1, leave - 1.0, leave + 2.0))

    def _scene(self, ego: Track, bodies: Sequence[Body], times: Floats,
               hazards: set[int] | frozenset[int]) -> Scene:
        return Scene(self.seed, 'free road', self.road, self.look, ego, tuple(bodies),
                     tuple(self.props), frozenset(hazards), times, 0.4,
                     np.zeros((len(times), 2)), tuple(self.families))

    def finish(self, interval_sec: float) -> Scene | None:
        """Return the drive with everything else that is there, None if that spoils a hazard."""
        end = self.t + 2.0
        for _ in range(8):
            scene = self._scene(self.ego, [*self.bodies, *self._others(end)],
                                np.arange(0.0, end, 0.4), set())
            if no_crash(scene) and all(self._still(scene, *met) for met in self.met):
                break
        else:
            return None
        times = np.arange(float(math.floor(end / interval_sec))) * interval_sec
        far = self.ego.at(end)[0] + 180.0
        drive = replace(scene, times=times, interval_sec=interval_sec,
                        shake=draw_shake(self.rng, len(times), CRUISE_MPS),
                        hazards=frozenset().union(*(met[3] for met in self.met)),
                        props=scene.props + tuple(scenery(self.rng, self.road, 0.0, far,
                                                          self.props)))
        for _, _, t, hazards in self.met:
            for before in np.arange(0.0, APPROACH_SEC, 0.4).tolist():
                drive = truth.in_sight(drive, round((t - before) / interval_sec), hazards)
        return drive

    def _still(self, scene: Scene, name: str, level: RiskLevel, t: float,
               hazards: frozenset[int]) -> bool:
        head = replace(scene, times=t + np.arange(-4.0, 1.0) * 0.4, shake=np.zeros((5, 2)),
                       hazards=hazards)
        return is_clear(head, 4, level)

    def _others(self, end: float) -> list[Body]:
        """Return parked cars, oncoming traffic and people on the sidewalks."""
        road, rng = self.road, self.rng
        stage = Stage(rng, road, 0.0, 0.0, CRUISE_MPS, 'none', len(self.bodies) + 1)
        times = np.arange(0.0, end, 0.7)
        taken = [footprint(body, times) for body in self.bodies]
        lights = [body.along.at(0.0)[0] for body in self.bodies if body.label == 'traffic light']
        far = self.ego.at(end)[0] + 150.0

        def offer(body: Body) -> None:
            mine = footprint(body, times)
            if keeps_apart(mine, taken):
                taken.append(mine)
            else:
                stage.bodies.pop()

        s = 5.0
        while s < far:
            if stage.chance(0.6) and all(abs(s - light) > 14.0 for light in lights):
                offer(stage.add('car', s, road.right - 1.08, parked=True, hazard=False))
            s += stage.uniform(6.5, 11.0)
        s = 60.0
        while s < far + 9.0 * end:
            offer(stage.add(stage.vehicle(), s, road.centre + 0.5 * road.lane_m,
                            -stage.uniform(8.6, 9.4), hazard=False, facing=math.pi))
            s += stage.uniform(35.0, 140.0)
        s = 20.0
        while s < far:
            side = stage.side()
            offer(stage.add('pedestrian', s, stage.beside(side, 0.9, SIDEWALK_M - 0.5),
                            stage.uniform(0.8, 1.6) * stage.side(), hazard=False))
            s += stage.uniform(6.0, 30.0)
        return stage.bodies
