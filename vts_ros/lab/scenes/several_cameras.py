# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows that several cameras of a car see: one looks ahead, one to the left, one to the right.

All look at one world. To the usual families come two whose hazard the camera that looks ahead does
not show: traffic that crosses from a side road, and a vehicle beside the car that drifts into its
lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes.clips import is_clear_to, make_scene_of, SceneKind, SPLITS, Way
from vts_ros.lab.scenes.hazards import draw_road, FAMILIES, Family, LEAVE_MPS, SPEEDS
from vts_ros.lab.scenes.rendered_windows import FRAMES, render_window
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS, WindowTruth
from vts_ros.lab.scenes.stage import CITY, COUNTRY, MOTORWAY, Stage, walk
from vts_ros.lab.scenes.world import EGO_WIDTH_M, Prop, Scene, Track
from vts_ros.vlm.answers import RiskLevel

FRONT, LEFT, RIGHT = CAMERAS = ('front', 'left', 'right')
#: How far the cameras at the sides are turned, in degrees: each sees 60 degrees.
_ASIDE_DEG = (48.0, 58.0)
_SIDES = {FRONT: 0.0, LEFT: 1.0, RIGHT: -1.0}
#: Dice of their own: the seeds are those of all other windows of a split.
_STREAM = 61
_JUNCTION_M = 9.0


def crossing_traffic(stage: Stage) -> None:
    """Let somebody cross from a side road, wait there, creep out of it, or have crossed."""
    u, side = stage.uniform, stage.side()
    label = 'cyclist' if stage.chance(0.3) else stage.vehicle()
    speed = u(3.5, 6.5) if label == 'cyclist' else u(5.0, 13.0)
    t = stage.arrival() if stage.threat else u(1.2, 3.2)
    near, facing = max(5.0, t * stage.v), -side * math.pi / 2
    edge = stage.road.kerb_left if side > 0 else stage.road.kerb_right
    half = 0.5 * (2.0 if label == 'cyclist' else 4.6)
    if stage.threat:
        d, towards = u(-0.9, 0.9) + side * speed * t, speed
    elif stage.level == 'low':
        # Slowly, to just beside the lane when the car comes past.
        towards = u(0.65, 1.3)
        d = side * (0.5 * EGO_WIDTH_M + half + u(0.7, 1.8) + towards * t)
    elif stage.chance(0.35):
        # It has crossed already and drives away.
        d, towards = -side * (abs(edge) + half + u(1.0, 8.0)), speed
    else:
        d, towards = side * (abs(edge) + half + u(1.6, 7.0)), 0.0
    body = stage.add(label, near, d, 0.0, -side * towards, facing=facing)
    middle = stage.s + near + body.state(stage.t).half_s
    stage.props.append(Prop('junction', middle - 0.5 * _JUNCTION_M, 0.0, _JUNCTION_M, 0.0, 0.0,
                            (0, 0, 0)))


def drifting_alongside(stage: Stage) -> None:
    """Let a vehicle beside the car drift into its lane, or keep to its own."""
    u, road = stage.uniform, stage.road
    sides = [side for side, free in ((1, road.centre > road.lane_m),
                                     (-1, -road.right > road.lane_m)) if free]
    side = sides[int(stage.rng.integers(len(sides)))] if sides else 1
    near, speed = u(-2.5, 2.0), stage.v + u(-0.8, 0.8)
    lane = side * road.lane_m
    along = Track.steady(stage.t, stage.s + near, speed).then_speed(
        stage.t + 3.0, stage.v + LEAVE_MPS, 2.5)
    label = stage.vehicle()
    if stage.level == 'none':
        stage.add(label, near, lane + u(-0.2, 0.2), along=along)
        return
    sideways = u(0.75, 1.5)
    # What is left to the corridor of the car, at the time that is aimed at.
    half = 0.4 if label == 'motorcycle' else 1.25 if label in ('truck', 'bus') else 0.9
    d = side * (0.5 * EGO_WIDTH_M + 0.3 + half + sideways * stage.arrival())
    stage.add(label, near, d, along=along, across=walk(
        stage.t, d, -side * sideways, side * (abs(d) + 2.0 * sideways), 0.0))


#: What no camera that looks ahead shows, but one that looks aside.
SIDE_FAMILIES: dict[str, Family] = {
    'crossing traffic': Family(crossing_traffic, (CITY, CITY, COUNTRY), lanes=(1, 2)),
    'drifting alongside': Family(drifting_alongside, (CITY, MOTORWAY), ('none', 'medium', 'high'),
                                 lanes=(2, 3)),
}
_ALL: Mapping[str, Family] = {**FAMILIES, **SIDE_FAMILIES}


class CameraWindow(NamedTuple):
    """
    A window of several cameras.

    Attributes
    ----------
    cameras
        Their names, of ``CAMERAS``, in the order of these.
    scenes
        The same scene as each of them sees it.
    truth
        What is right of all of them together.
    camera
        Name of the camera that shows the risk object, in which its box is; None without one.

    """

    cameras: tuple[str, ...]
    scenes: tuple[Scene, ...]
    truth: WindowTruth
    camera: str | None

    @property
    def times(self) -> list[float]:
        """Return when the pictures are taken, in s."""
        return [float(t) for t in self.scenes[0].times]

    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """Return the pictures of each camera, uint8 [T, H, W, 3]."""
        return {name: render_window(scene).frames
                for name, scene in zip(self.cameras, self.scenes, strict=True)}


def seen_by(scene: Scene, cameras: Sequence[str]) -> tuple[Scene, ...]:
    """Return a scene as each of some cameras sees it; they are mounted by its seed."""
    aside = np.random.default_rng((scene.seed, _STREAM, 1)).uniform(*_ASIDE_DEG)
    return tuple(replace(scene, yaw=_SIDES[name] * math.radians(float(aside)))
                 for name in cameras)


def make_camera_window(seed: int, family: str | None = None, level: RiskLevel | None = None,
                       cameras: Sequence[str] = CAMERAS, frames: int = FRAMES) -> CameraWindow:
    """
    Return a window: pure geometry, no pixels.

    Parameters
    ----------
    family
        Key of ``FAMILIES`` or ``SIDE_FAMILIES``; drawn from the seed if None.
    level
        Of all cameras together; drawn from the seed if None.
    cameras
        Two or three of ``CAMERAS``.

    Raises
    ------
    ValueError
        If the family is not known, or never comes to this level.
    RuntimeError
        If these cameras never show it.

    """
    def is_clear(scene: Scene, index: int, wanted: RiskLevel) -> bool:
        return is_clear_to(seen_by(scene, cameras), index, wanted)

    def in_sight(scene: Scene, index: int, hazards: frozenset[int]) -> Scene:
        for name in cameras:
            aside, = seen_by(scene, (name,))
            scene = replace(scene, props=truth.in_sight(aside, index, hazards).props)
        return scene

    names = tuple(name for name in CAMERAS if name in cameras)
    scene = make_scene_of(
        SceneKind(_draw_way, _ALL, is_clear, in_sight), np.random.default_rng((seed, _STREAM)),
        seed, family, frames, 0.4, level)
    scenes = seen_by(scene, names)
    found = truth.truth_seen(scenes, len(scene.times) - 1, length=len(scene.times))
    return CameraWindow(names, scenes, found.truth,
                        None if found.camera is None else names[found.camera])


def camera_windows(split: str, count: int, first: int = 0,
                   cameras: Sequence[str] | None = None) -> Iterator[CameraWindow]:
    """
    Yield windows with balanced levels; in every other one a hazard of a side road or beside.

    Parameters
    ----------
    split
        Key of ``SPLITS``.
    first
        How many windows of the split to pass over.
    cameras
        Which see all of them; three, and every fourth time two of these, if None.

    """
    for number in range(first, first + count):
        family, level = _balanced(number)
        yield make_camera_window(SPLITS[split][number], family, level,
                                 cameras or _cameras(number, family))


def pair_windows(split: str, count: int) -> Iterator[CameraWindow]:
    """Yield windows of two cameras, of which one looks ahead and the other to a side, in turn."""
    for number in range(count):
        family, level = _balanced(number)
        yield make_camera_window(SPLITS[split][number], family, level,
                                 (FRONT, (LEFT, RIGHT)[number // len(TRUE_LEVELS) // 2 % 2]))


def _balanced(number: int) -> tuple[str, RiskLevel]:
    level = TRUE_LEVELS[number % len(TRUE_LEVELS)]
    turn, place = number // len(TRUE_LEVELS) % 2, number // (2 * len(TRUE_LEVELS))
    names = [name for name, family in (FAMILIES, SIDE_FAMILIES)[turn].items()
             if level in family.levels]
    return names[place % len(names)], level


def _cameras(number: int, family: str) -> tuple[str, ...]:
    place = number // (2 * len(TRUE_LEVELS))
    if place % 4 < 3:
        return CAMERAS
    # Of the usual families nothing is seen without the camera that looks ahead.
    pairs = ((FRONT, LEFT), (FRONT, RIGHT), (LEFT, RIGHT))
    return pairs[place // 4 % (len(pairs) - (family in FAMILIES))]


def _draw_way(rng: np.random.Generator, family: str, length_m: float, t: float) -> Way:
    while True:
        road = draw_road(rng, family, length_m, _ALL)
        # A vehicle beside the car needs a lane of its own.
        if family != 'drifting alongside' or road.lanes > 1:
            return Way(road, float(rng.uniform(*SPEEDS[road.kind])))
