# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is known about a rendered clip: actors, frames, windows. Frames follow REP 103."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
import json

import numpy as np
from numpy.typing import NDArray

from vts_ros.vlm.answers import Box, RiskLevel

LABELS = ('car', 'truck', 'bus', 'motorcycle', 'cyclist', 'pedestrian', 'child', 'animal',
          'traffic light', 'barrier')
#: Where the risk object is in the newest frame; ahead = it overlaps the ego corridor laterally.
PLACES = ('left', 'ahead', 'right')
MOTIONS = ('stopped', 'braking', 'same speed', 'oncoming', 'cutting in', 'crossing', 'waiting',
           'emerging', 'slower', 'pulling away')
ACTIONS = ('keep going', 'keep distance', 'slow down', 'brake', 'brake hard', 'stop')
#: Levels that the truth can have, from harmless to dangerous.
TRUE_LEVELS: tuple[RiskLevel, ...] = ('none', 'low', 'medium', 'high')
LIGHTS = ('day', 'dusk', 'night')
WEATHERS = ('clear', 'rain', 'glare')
ROADS = ('city street', 'country road', 'motorway')
CURVES = ('straight', 'left', 'right')


@dataclass(frozen=True)
class Actor:
    """
    One thing that moves or stands in the way, as one frame shows it.

    Attributes
    ----------
    box
        Extent in the picture, normalised, clipped to the picture.
    visible
        Share of the box (0 to 1) that lies in the picture and behind no nearer actor.
    distance_m
        Along the road from the ego front bumper to the nearest point of the actor.
    lateral_m
        From the centre of the ego lane, left positive.
    speed_mps
        Speed over ground, metres per second.
    motion
        One of ``MOTIONS``.
    is_risk
        Whether it is the risk object of its frame.
    detail
        What the label leaves open: ``red`` or ``green`` (traffic light), ``deer`` or ``dog``
        (animal), colour of a vehicle; may be empty.
    parked
        Whether it is a vehicle parked at the roadside.

    """

    id: int
    label: str
    box: Box
    visible: float
    distance_m: float
    lateral_m: float
    speed_mps: float
    motion: str
    is_risk: bool
    detail: str = ''
    parked: bool = False


@dataclass(frozen=True)
class FrameTruth:
    """One frame: its stamp, the speed of the ego vehicle, and every actor that is visible."""

    stamp_ns: int
    ego_speed_mps: float
    actors: tuple[Actor, ...]

    def to_json(self) -> str:
        """Return the truth as one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class WindowTruth:
    """
    What a correct answer about one window says.

    Attributes
    ----------
    label, box, place, motion
        Risk object in the newest frame; None where the level is ``none``.
    ttc_sec
        Time to collision in seconds, None without a conflict within the horizon.
    light, weather, road, curve, lanes
        None where they are not known: of windows of recordings, see ``lab/road_truth.py``.
    actors
        Actors of the newest frame.

    """

    family: str
    seed: int
    risk: RiskLevel
    label: str | None
    box: Box | None
    place: str | None
    motion: str | None
    action: str
    ttc_sec: float | None
    light: str | None
    weather: str | None
    road: str | None
    curve: str | None
    lanes: int | None
    ego_speed_mps: float
    actors: tuple[Actor, ...]

    @property
    def is_whole(self) -> bool:
        """Return whether all is known, and not only what boxes of road users tell."""
        return self.road is not None


@dataclass(frozen=True, eq=False)
class Clip:
    """
    Rendered frames and their truth.

    Attributes
    ----------
    frames
        uint8 array of shape (frames, height, width, 3), RGB.
    describe
        Gives the truth of the window of some length that ends with some frame.

    """

    frames: NDArray[np.uint8]
    truths: tuple[FrameTruth, ...]
    interval_sec: float
    describe: Callable[[int, int], WindowTruth]

    def window_truth(self, end: int = -1, length: int = 5) -> WindowTruth:
        """
        Return the truth of one window.

        Parameters
        ----------
        end
            Index of the newest frame of the window; negative counts from the end.
        length
            Frames in the window.

        """
        return self.describe(end % len(self.truths), length)
