# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Twins with the same pictures, pixel for pixel, whose answers differ by a signal of the car.

- ``speed``: a still picture of something that stands in the way, 10 or 80 km/h. A still shows no
  speed; of several pictures the motion would tell.
- ``braking``: the brake was pressed with the newest picture, or was not.
- ``turn signal``: on or off, with somebody on the lane that is to be crossed.

What is right follows from the risk rule with what the driver is about to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.clips import is_clear, make_scene, SPLITS
from vts_ros.lab.scenes.rendered_windows import FRAMES, render_window
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS, WindowTruth
from vts_ros.lab.scenes.world import Scene, Track
from vts_ros.vlm.answers import RiskLevel
from vts_ros.vlm.vehicle import TurnSignal, Vehicle

SPEED, BRAKING, TURN = KINDS = ('speed', 'braking', 'turn signal')
#: Slow and fast, m/s: those that are measured, and ranges of those that are learned from.
MEASURED_MPS = (10 / 3.6, 80 / 3.6)
_SLOW_MPS, _FAST_MPS = (5 / 3.6, 25 / 3.6), (50 / 3.6, 110 / 3.6)
#: How hard a car with the brake pressed brakes, m/s2, and how far this may be off.
BRAKING_MPS2, _OFF = 5.0, (0.8, 1.2)
#: What stands, so that a still shows all of it.
_STANDING = ('stopped queue', 'construction', 'red light')
_BRAKED_FOR = ('stopped queue', 'following', 'lead braking', 'pedestrian crossing', 'red light',
               'cyclist ahead', 'construction', 'animal', 'cut-in')
#: Families of somebody on the lane to the left and to the right, and how risky that is alone.
_BESIDE: tuple[tuple[str, RiskLevel, TurnSignal], ...] = (
    ('oncoming drift', 'none', 'left'), ('cyclist ahead', 'low', 'right'),
    ('oncoming drift', 'none', 'left'), ('pedestrian waiting', 'low', 'right'))
_SIDES: dict[TurnSignal, int] = {'left': 1, 'right': -1}
_ATTEMPTS = 300


class Told(NamedTuple):
    """
    What the car says of itself, and what is right then.

    Attributes
    ----------
    needs
        Fields of the vehicle without which nobody could know.

    """

    vehicle: Vehicle
    truth: WindowTruth
    needs: tuple[str, ...]


class Twins(NamedTuple):
    """
    Pictures that two cars may see.

    Attributes
    ----------
    kind
        One of ``KINDS``.
    scene
        What both see; its risk is that of the pictures alone.
    harmless, risky
        With the lower and with the higher level.
    alone
        What is right by the pictures alone; None where these leave it open.

    """

    kind: str
    scene: Scene
    harmless: Told
    risky: Told
    alone: WindowTruth | None

    def frames(self) -> NDArray[np.uint8]:
        """Return the pictures, uint8 [T, H, W, 3]."""
        return render_window(self.scene).frames


def make_twins(seed: int, kind: str, is_measured: bool = False) -> Twins:
    """
    Return twins: pure geometry, no pixels.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    is_measured
        Whether speeds are the two that are measured, and not others like them.

    """
    rng = np.random.default_rng([seed, 31, KINDS.index(kind)])
    for _ in range(_ATTEMPTS):
        own = int(rng.integers(1 << 31))
        found = _speed(rng, own, is_measured) if kind == SPEED else _braking(rng, own) if (
            kind == BRAKING) else _turn(rng, own)
        if found is not None:
            return found
    raise RuntimeError(f'no clear twins for seed {seed}, {kind!r}')


def signal_twins(split: str, count: int, first: int = 0, is_measured: bool = False,
                 kinds: Sequence[str] = KINDS) -> Iterator[Twins]:
    """
    Yield twins, the kinds in turn.

    Parameters
    ----------
    split
        Key of ``SPLITS``.
    first
        Twins of the split to pass over.
    kinds
        Those of other kinds are passed over, and count.

    """
    for number in range(first, first + count):
        if KINDS[number % len(KINDS)] not in kinds:
            continue
        yield make_twins(SPLITS[split][number], KINDS[number % len(KINDS)], is_measured)


def vehicle_of(found: WindowTruth, curvature: float = 0.0) -> Vehicle:
    """Return what a car says of itself that neither brakes nor has a turn signal on."""
    speed = found.ego_speed_mps
    return Vehicle(speed, speed * curvature, 'off', False)


def _scene(rng: np.random.Generator, seed: int, families: tuple[str, ...],
           levels: tuple[RiskLevel, ...], frames: int) -> Scene | None:
    try:
        return make_scene(seed, families[int(rng.integers(len(families)))], frames,
                          level=levels[int(rng.integers(len(levels)))])
    except RuntimeError:
        return None


def _speed(rng: np.random.Generator, seed: int, is_measured: bool) -> Twins | None:
    scene = _scene(rng, seed, _STANDING, ('low', 'medium', 'high'), 1)
    if scene is None:
        return None
    speeds = MEASURED_MPS if is_measured else tuple(
        float(rng.uniform(*span)) for span in (_SLOW_MPS, _FAST_MPS))
    told = []
    for speed in speeds:
        # At the same place, so that the picture is the same.
        other = replace(scene, ego=Track.steady(0.0, scene.ego.at(0.0)[0], speed))
        if not is_clear(other, 0):
            return None
        right = truth.window_truth(other, 0, length=1)
        told.append(Told(vehicle_of(right), right, ('speed_mps',)))
    return _twins(SPEED, scene, told[0], told[1], None)


def _braking(rng: np.random.Generator, seed: int) -> Twins | None:
    scene = _scene(rng, seed, _BRAKED_FOR, ('medium', 'high'), FRAMES)
    if scene is None:
        return None
    right = truth.window_truth(scene, FRAMES - 1)
    braked = intended_truth(scene, risk.Intent(braking=BRAKING_MPS2))
    if braked is None:
        return None
    plain = vehicle_of(right, _curvature(scene))
    return _twins(BRAKING, scene,
                  Told(replace(plain, is_braking=True), braked, ('is_braking',)),
                  Told(plain, right, ()), right)


def _turn(rng: np.random.Generator, seed: int) -> Twins | None:
    family, level, signal = _BESIDE[int(rng.integers(len(_BESIDE)))]
    scene = _scene(rng, seed, (family,), (level,), FRAMES)
    if scene is None:
        return None
    right = truth.window_truth(scene, FRAMES - 1)
    turned = intended_truth(scene, risk.Intent(turn=_SIDES[signal]))
    if turned is None:
        return None
    plain = vehicle_of(right, _curvature(scene))
    return _twins(TURN, scene, Told(plain, right, ()),
                  Told(replace(plain, turn_signal=signal), turned, ('turn_signal',)), right)


def _twins(kind: str, scene: Scene, harmless: Told, risky: Told, alone: WindowTruth | None
           ) -> Twins | None:
    """Return the twins if their levels differ."""
    levels = [TRUE_LEVELS.index(told.truth.risk) for told in (harmless, risky)]
    return Twins(kind, scene, harmless, risky, alone) if levels[0] < levels[1] else None


def intended_truth(scene: Scene, intent: risk.Intent) -> WindowTruth | None:
    """Return what is right of a window when the driver is about to do something; if clear."""
    last = len(scene.times) - 1
    t = float(scene.times[last])
    _, ego_mps, _ = scene.ego.at(t)
    movers = truth.movers(scene, last)
    said = risk.assess(ego_mps, movers, intent=intent)
    if said.id not in (None, *scene.hazards) or not all(
            risk.is_clear(ego_mps, movers, said, intent=intent._replace(
                braking=off * intent.braking)) for off in (1.0, *_OFF)):
        return None
    shown = truth.window_truth(scene, last, length=last + 1)
    actor = next((actor for actor in shown.actors if actor.id == said.id), None)
    label = box = place = motion = None
    if actor is not None:
        state = next(body for body in scene.bodies if body.id == actor.id).state(t)
        label, box, motion = actor.label, actor.box, actor.motion
        place = 'ahead' if label == 'traffic light' else risk.place(state.d, state.half_d)
    return replace(
        shown, risk=said.level, label=label, box=box, place=place, motion=motion,
        action=risk.action(said.level, motion, label, ego_mps), ttc_sec=said.ttc_sec)


def _curvature(scene: Scene) -> float:
    return float(scene.road.curvature(scene.ego.at(float(scene.times[-1]))[0]))
