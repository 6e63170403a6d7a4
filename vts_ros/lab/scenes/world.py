# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The world of a scene: road, tracks, bodies, camera. Pure geometry, no pixels.

Everything lives in road coordinates: ``s`` metres along the road, ``d`` metres to the left of
the centre of the ego lane, ``z`` metres above the ground. The road is parabolic: its centre line
is the double integral of its curvature, which holds for the bends of real roads.
"""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EGO_WIDTH_M = 1.8
EGO_LENGTH_M = 4.4
CAMERA_HEIGHT_M = 1.4
#: The camera sits behind the windscreen, this far behind the front bumper.
CAMERA_SETBACK_M = 1.6
#: Focal length in picture widths: 60 degrees from left to right.
FOCAL = 0.5 / math.tan(math.radians(30.0))
#: Share of the picture above the horizon.
HORIZON = 0.45
#: Nothing nearer to the camera is drawn.
NEAREST_M = 0.7
PARKING_M = 2.2
SIDEWALK_M = 3.4


class Knot(NamedTuple):
    """State from time ``t`` on: position, speed, constant acceleration."""

    t: float
    x: float
    v: float
    a: float

    def at(self, t: float) -> tuple[float, float]:
        """Return position and speed at a time."""
        dt = t - self.t
        return self.x + self.v * dt + 0.5 * self.a * dt * dt, self.v + self.a * dt


@dataclass(frozen=True)
class Track:
    """Movement along one axis, piecewise with constant acceleration; steady before that."""

    knots: tuple[Knot, ...]

    @classmethod
    def steady(cls, t: float, x: float, v: float = 0.0) -> Track:
        """Return a track that passes ``x`` at time ``t`` with constant speed ``v``."""
        return cls((Knot(t, x, v, 0.0),))

    @cached_property
    def _times(self) -> tuple[float, ...]:
        return tuple(knot.t for knot in self.knots)

    @cached_property
    def _table(self) -> Floats:
        return np.array(self.knots)

    def at(self, t: float) -> tuple[float, float, float]:
        """Return position, speed and acceleration at a time."""
        index = bisect_right(self._times, t) - 1
        if index < 0:
            first = self.knots[0]
            return first.x + first.v * (t - first.t), first.v, 0.0
        # As ``Knot.at`` does it: this is called a hundred thousand times for a drive.
        since, x, v, a = self.knots[index]
        dt = t - since
        return x + v * dt + 0.5 * a * dt * dt, v + a * dt, a

    def over(self, times: Floats) -> tuple[Floats, Floats]:
        """Return position and speed at many times, each (times,)."""
        index = np.searchsorted(self._times, times, side='right') - 1
        since, x, v, a = self._table[np.maximum(index, 0)].T
        dt, a = times - since, np.where(index < 0, 0.0, a)
        return x + v * dt + 0.5 * a * dt * dt, v + a * dt

    def since(self, t: float) -> tuple[Knot, ...]:
        """Return the knots of the track from time ``t`` on, the first one at ``t``."""
        return Knot(t, *self.at(t)), *(knot for knot in self.knots if knot.t > t)

    def then(self, t: float, a: float) -> Track:
        """Return the track with acceleration ``a`` from time ``t`` on, for good."""
        x, v, _ = self.at(t)
        return Track((*(k for k in self.knots if k.t < t), Knot(t, x, v, a)))

    def then_speed(self, t: float, v: float, a: float | None = None) -> Track:
        """Return the track that goes to speed ``v`` from time ``t``, with ``a`` or at once."""
        x, now, _ = self.at(t)
        if a is None:
            return Track((*(k for k in self.knots if k.t < t), Knot(t, x, v, 0.0)))
        a = math.copysign(a, v - now)
        end = t + (v - now) / a
        x_end, _ = Knot(t, x, now, a).at(end)
        return Track((*self.then(t, a).knots, Knot(end, x_end, v, 0.0)))


class Road:
    """
    Cross section and course of a road.

    Parameters
    ----------
    kind
        One of ``types.ROADS``.
    lanes
        Lanes in the direction of the ego vehicle.
    ego_lane
        Lane of the ego vehicle, 0 is the rightmost.
    lane_m
        Width of a lane.
    oncoming
        Lanes for oncoming traffic beside ours (none on a motorway).
    parking
        Whether there are parking strips on the right and on the left.
    bends
        Points (s, curvature in 1/m, left positive); linear in between, constant outside.

    """

    STEP_M = 2.0
    BEHIND_M = 60.0

    def __init__(self, kind: str, lanes: int, ego_lane: int, lane_m: float, oncoming: int,
                 parking: tuple[bool, bool], bends: tuple[tuple[float, float], ...],
                 length_m: float) -> None:
        self.kind, self.lanes, self.lane_m, self.oncoming = kind, lanes, lane_m, oncoming
        self.right = -(ego_lane + 0.5) * lane_m
        self.centre = (lanes - ego_lane - 0.5) * lane_m
        self.left = self.centre + oncoming * lane_m
        self.kerb_right = self.right - PARKING_M * parking[0]
        self.kerb_left = self.left + PARKING_M * parking[1]
        self.parking = parking
        self.length_m = length_m
        self._bend(bends, self.STEP_M)

    def _bend(self, bends: tuple[tuple[float, float], ...], step_m: float) -> None:
        self._s = np.arange(-self.BEHIND_M, self.length_m + 400.0, step_m)
        where, curvature = zip(*bends)
        self._curvature = np.interp(self._s, where, curvature)
        self._heading = np.cumsum(self._curvature) * step_m
        self._offset = np.cumsum(self._heading) * step_m

    def bent(self, bends: tuple[tuple[float, float], ...], step_m: float) -> Road:
        """
        Return the road with other bends.

        Parameters
        ----------
        step_m
            Between two points of its course. Short beside the radius of the tightest bend: the
            course is straight in between.

        """
        found = copy(self)
        found._bend(bends, step_m)
        return found

    def straight(self) -> Road:
        """Return the road without its bends."""
        found = copy(self)
        for name in ('_curvature', '_heading', '_offset'):
            setattr(found, name, np.zeros_like(self._s))
        return found

    def curvature(self, s: float) -> float:
        """Return the curvature in 1/m."""
        return float(np.interp(s, self._s, self._curvature))

    def heading(self, s: float) -> float:
        """Return the heading in rad relative to the start of the road."""
        return float(np.interp(s, self._s, self._heading))

    def offset(self, s: Floats) -> Floats:
        """Return the sideways offset of the centre line relative to the start of the road."""
        return np.asarray(np.interp(s, self._s, self._offset))

    def curve(self, s: float) -> str:
        """Return the name of the bend that is seen from ``s``."""
        mean = (self.heading(s + 50.0) - self.heading(s)) / 50.0
        return 'straight' if abs(mean) < 1e-3 else 'left' if mean > 0.0 else 'right'


class State(NamedTuple):
    """Where a body is: centre, speeds along and across, acceleration along, yaw, half extents."""

    s: float
    d: float
    vs: float
    vd: float
    acceleration: float
    yaw: float
    half_s: float
    half_d: float

    @property
    def speed(self) -> float:
        """Return the speed over ground."""
        return math.hypot(self.vs, self.vd)


@dataclass(frozen=True)
class Body:
    """
    One actor: what it is, what it looks like, how it moves.

    Attributes
    ----------
    kind
        What is drawn, a key of ``shapes``; the label says what it counts as.
    facing
        Yaw in rad while it stands, 0 = along the road.
    phases
        (time from which, state) of a traffic light.
    stop_line
        Distance in m from the stop line to the traffic light that it belongs to.
    indicator
        Side (1 left, -1 right) and time span of a blinking indicator.

    """

    id: int
    label: str
    kind: str
    size: tuple[float, float, float]
    colour: tuple[int, int, int]
    along: Track
    across: Track
    facing: float = 0.0
    parked: bool = False
    phases: tuple[tuple[float, str], ...] = ()
    stop_line: float = 0.0
    indicator: tuple[int, float, float] | None = None
    detail: str = ''
    dress: tuple[tuple[int, int, int], ...] = field(default=())

    def state(self, t: float) -> State:
        """Return the state at a time."""
        s, vs, acceleration = self.along.at(t)
        d, vd, _ = self.across.at(t)
        yaw = math.atan2(vd, vs) if math.hypot(vs, vd) > 0.3 else self.facing
        cos, sin = abs(math.cos(yaw)), abs(math.sin(yaw))
        length, width = self.size[:2]
        return State(s, d, vs, vd, acceleration, yaw,
                     0.5 * (cos * length + sin * width), 0.5 * (sin * length + cos * width))

    def places(self, times: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return centre along and across and both half extents at many times, each (times,)."""
        (s, vs), (d, vd) = self.along.over(times), self.across.over(times)
        yaw = np.where(np.hypot(vs, vd) > 0.3, np.arctan2(vd, vs), self.facing)
        cos, sin = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
        length, width = self.size[:2]
        return s, d, 0.5 * (cos * length + sin * width), 0.5 * (sin * length + cos * width)

    def phase(self, t: float) -> str:
        """Return the state of a traffic light, empty for anything else."""
        now = ''
        for start, name in self.phases:
            if t >= start or not now:
                now = name
        return now


class Prop(NamedTuple):
    """A piece of scenery: not in the truth. Position of its near end, extents, looks."""

    kind: str
    s: float
    d: float
    length: float
    width: float
    height: float
    colour: tuple[int, int, int]
    variant: float = 0.0


@dataclass(frozen=True)
class View:
    """
    Camera on the road: projects points to the picture.

    Picture coordinates are in picture widths, right and down, from the point on the horizon in
    the middle of the picture, so that they hold for every picture size.

    Attributes
    ----------
    yaw
        By how much it is turned to the left of the car, in rad; below a right angle less half of
        what it sees, so that all of it is ahead of the car.

    """

    road: Road
    s: float
    pitch: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0

    @cached_property
    def _course(self) -> tuple[float, float]:
        return float(self.road.offset(np.array(self.s))), self.road.heading(self.s)

    def ahead(self, s: float, d: float) -> tuple[float, float, float]:
        """Return distance forward, distance to the left, and heading of the road there."""
        offset, heading = self._course
        x = s - self.s
        return (x, d + float(self.road.offset(np.array(s))) - offset - heading * x,
                self.road.heading(s) - heading)

    def depth(self, points: Floats) -> Floats:
        """Return how far ahead of the camera points (n, 3) are, (n,) in m; negative is behind."""
        ahead = points[:, 0] - self.s
        if not self.yaw:
            return ahead
        return math.cos(self.yaw) * ahead + math.sin(self.yaw) * self._left(points, ahead)

    def _left(self, points: Floats, ahead: Floats) -> Floats:
        offset, heading = self._course
        return points[:, 1] + self.road.offset(points[:, 0]) - offset - heading * ahead

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """
        Project points.

        Parameters
        ----------
        points
            (n, 3): s, d, z.

        Returns
        -------
        (n, 2) picture coordinates and (n,) distance forward in m. What is behind the camera is
        moved in front of it along its axis, which is exact for edges along a road straight ahead;
        what a camera sees that is turned aside is to be cut before, see ``drawing.in_front``.

        """
        ahead = points[:, 0] - self.s
        y = self._left(points, ahead)
        if self.yaw:
            cos, sin = math.cos(self.yaw), math.sin(self.yaw)
            ahead, y = cos * ahead + sin * y, cos * y - sin * ahead
        x = np.maximum(ahead, NEAREST_M)
        u = -FOCAL * y / x
        v = FOCAL * ((CAMERA_HEIGHT_M - points[:, 2]) / x - self.pitch)
        return np.stack((u - self.roll * v, v + self.roll * u), axis=1), x


class Look(NamedTuple):
    """Light, weather, and the numbers that vary the scenery."""

    light: str
    weather: str
    variety: int

    @property
    def lamps(self) -> bool:
        """Return whether street lamps and windows are lit."""
        return self.light != 'day'


class Veil(NamedTuple):
    """
    What takes a part of the picture for a while: low sun, or spray on the windscreen.

    Attributes
    ----------
    start, end
        Time span in s.
    u, v, radius
        Picture coordinates of its middle, and up to where it hides everything; it fades beyond.
    colour
        Of its middle.

    """

    start: float
    end: float
    u: float
    v: float
    radius: float
    colour: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Scene:
    """
    A whole scene; ``render`` draws it at any size.

    Attributes
    ----------
    family, families
        Family of the hazard, and of each hazard with its time (s) where there are several.
    ego
        Front bumper of the ego vehicle along the road.
    hazards
        Identities of the bodies that the family is about.
    times
        Time of each frame in s.
    shake
        (frames, 2) pitch and roll of the camera in rad.
    veils
        What takes a part of the picture for a while.
    setback_m
        How far the camera is behind the front bumper.
    yaw
        By how much the camera is turned to the left, in rad.

    """

    seed: int
    family: str
    road: Road
    look: Look
    ego: Track
    bodies: tuple[Body, ...]
    props: tuple[Prop, ...]
    hazards: frozenset[int]
    times: Floats
    interval_sec: float
    shake: Floats
    families: tuple[tuple[float, str], ...] = ()
    veils: tuple[Veil, ...] = ()
    setback_m: float = CAMERA_SETBACK_M
    yaw: float = 0.0

    def view(self, index: int) -> View:
        """Return the camera of a frame."""
        s, _, _ = self.ego.at(float(self.times[index]))
        pitch, roll = self.shake[index]
        return View(self.road, s - self.setback_m, float(pitch), float(roll), self.yaw)
