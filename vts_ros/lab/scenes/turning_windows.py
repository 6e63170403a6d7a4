# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows in which the car turns fast: a tight bend at low speed, as a street around a corner.

They are for evaluation alone, beside the windows of :mod:`vts_ros.lab.scenes.clips`, whose bends
are those of open roads. Hazards, actors and truth are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
import math

import numpy as np

from vts_ros.lab.scenes.clips import balanced, make_scene_of, SPLITS, START_M, USUAL, Way
from vts_ros.lab.scenes.hazards import draw_road
from vts_ros.lab.scenes.stage import CITY
from vts_ros.lab.scenes.world import CAMERA_SETBACK_M, Scene
from vts_ros.vlm.answers import RiskLevel

#: Dice of their own: the seeds are those of all other windows of a split.
_STREAM = 51
#: Radius in m and angle in degrees of a corner, and the sideways acceleration in m/s2 with which
#: a driver takes it: 11.5 to 27 degrees per second.
RADIUS_M, ANGLE_DEG, SIDEWAYS_MPS2 = (12.0, 30.0), (60.0, 95.0), (1.2, 2.6)
#: Over which the road goes from straight to the bend.
_RAMP_M = 4.0
#: Share of the bend behind the camera in the newest frame.
_WITHIN = (0.2, 0.8)
#: Between two points of the course.
_STEP_M = 0.1


def make_turning_scene(seed: int, family: str | None = None, frames: int = 5,
                       interval_sec: float = 0.4, level: RiskLevel | None = None) -> Scene:
    """
    Return a scene in a tight bend; otherwise as :func:`vts_ros.lab.scenes.clips.make_scene`.

    In the newest frame of the hazard window the car turns at its full rate; the window may begin
    before the bend.
    """
    return make_scene_of(USUAL._replace(draw=draw_corner),
                         np.random.default_rng((seed, _STREAM)), seed, family, frames,
                         interval_sec, level)


def turning_scenes(split: str, count: int, first: int = 0) -> Iterator[Scene]:
    """
    Yield such scenes, balanced as :func:`vts_ros.lab.scenes.clips.balanced_scenes`.

    Parameters
    ----------
    split
        Key of ``SPLITS``.
    first
        How many scenes of the split to pass over.

    """
    for number in range(first, first + count):
        family, level = balanced(number)
        yield make_turning_scene(SPLITS[split][number], family, level=level)


def draw_corner(rng: np.random.Generator, family: str, length_m: float, t: float) -> Way:
    """Return a street with a tight bend, in which the car is at time ``t``, and its speed."""
    road = draw_road(rng, family, length_m)
    while road.kind != CITY:
        road = draw_road(rng, family, length_m)
    radius = float(rng.uniform(*RADIUS_M))
    speed = math.sqrt(radius * float(rng.uniform(*SIDEWAYS_MPS2)))
    curvature = float(rng.choice((-1.0, 1.0))) / radius
    arc = radius * math.radians(float(rng.uniform(*ANGLE_DEG))) - _RAMP_M
    camera = START_M + speed * t - CAMERA_SETBACK_M
    begin = camera - _RAMP_M - float(rng.uniform(*_WITHIN)) * arc
    bends = ((begin, 0.0), (begin + _RAMP_M, curvature), (begin + _RAMP_M + arc, curvature),
             (begin + arc + 2.0 * _RAMP_M, 0.0))
    return Way(road.bent(bends, _STEP_M), speed)
