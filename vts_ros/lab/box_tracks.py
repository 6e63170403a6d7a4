# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Boxes of a camera linked to tracks, and how what they show moves.

A road user at a constant relative speed has a distance that changes evenly, and the distance is
inverse to the size in the picture. So a straight line through the inverse sizes over time gives
how fast it comes nearer in shares of its distance, and with that the time to collision, whatever
its true size. For metres the usual size of its kind is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.world import FOCAL
from vts_ros.lab.teacher import Kind, RoadUser
from vts_ros.vlm.answers import Box


class Usual(NamedTuple):
    """Usual height, width and length of a kind of road user, m."""

    height: float
    width: float
    length: float


USUAL: dict[Kind, Usual] = {
    'person': Usual(1.7, 0.5, 0.4), 'two-wheeler': Usual(1.7, 0.7, 1.9),
    'car': Usual(1.5, 1.8, 4.5), 'heavy vehicle': Usual(3.1, 2.5, 8.0),
    'animal': Usual(1.1, 0.5, 1.3)}
#: Of a box and where it is expected, what both share over what they cover together.
_LEAST_SHARED = 0.15
#: A track that was not seen for longer is over.
_LOST_SEC = 0.9
#: A box that comes nearer to the edge of the picture is cut by it.
_EDGE = 0.008
#: Errors of the size of a box, in heights of the picture and in shares of the box.
_ERROR, _RELATIVE_ERROR = 0.003, 0.02
#: A speed counts from so many standard errors on.
_SURE = 2.0
#: Boxes that are so many standard errors off a curve are of two road users; and for so long one
#: has to be seen.
_OFF, _SHORTEST_SEC = 3.0, 0.35
#: A rider and the two-wheeler below: so much of the person, from side to side, is above it.
_ASTRIDE = 0.5


class Sighting(NamedTuple):
    """A road user in one frame; seconds since the newest frame, 0 or less."""

    seconds: float
    user: RoadUser


@dataclass
class BoxTrack:
    """Boxes of the same road user, oldest first."""

    sightings: list[Sighting] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """Return the kind that it is taken for most often, weighed by how surely."""
        votes: dict[Kind, float] = {}
        for _, user in self.sightings:
            votes[user.kind] = votes.get(user.kind, 0.0) + user.confidence
        return max(votes, key=votes.__getitem__)

    @property
    def middle_sec(self) -> float:
        """Return the mean time of its sightings."""
        return sum(seconds for seconds, _ in self.sightings) / len(self.sightings)

    @property
    def is_present(self) -> bool:
        """Return whether it is in the newest frame."""
        return self.sightings[-1].seconds == 0.0

    def expected(self, seconds: float) -> Box:
        """Return where it will be if it goes on as in the last two frames."""
        last = self.sightings[-1]
        if len(self.sightings) < 2:
            return last.user.box
        before = self.sightings[-2]
        ahead = (seconds - last.seconds) / (last.seconds - before.seconds)
        left, top, right, bottom = (
            now + ahead * (now - then) for now, then in zip(last.user.box, before.user.box))
        return (left, top, right, bottom) if left < right and top < bottom else last.user.box


def link(frames: Sequence[tuple[float, Sequence[RoadUser]]]) -> list[BoxTrack]:
    """
    Link the boxes of frames to tracks: those that share most with what is expected first.

    Parameters
    ----------
    frames
        Seconds since the newest frame, and the road users in it; oldest frame first.

    """
    tracks: list[BoxTrack] = []
    for seconds, users in frames:
        users = with_riders(users)
        alive = [track for track in tracks
                 if seconds - track.sightings[-1].seconds <= _LOST_SEC]
        pairs = sorted(
            ((_alike(track, seconds, user), place, number)
             for place, track in enumerate(alive) for number, user in enumerate(users)),
            reverse=True)
        taken: set[int] = set()
        grown: set[int] = set()
        for shared, place, number in pairs:
            if shared > _LEAST_SHARED and place not in grown and number not in taken:
                alive[place].sightings.append(Sighting(seconds, users[number]))
                grown.add(place)
                taken.add(number)
        tracks += [BoxTrack([Sighting(seconds, user)])
                   for number, user in enumerate(users) if number not in taken]
    return tracks


def _alike(track: BoxTrack, seconds: float, user: RoadUser) -> float:
    """Return what a box shares with where a track is expected, or with where it was."""
    last = track.sightings[-1].user
    if (last.kind in _VEHICLES) != (user.kind in _VEHICLES):
        return 0.0
    return max(_shared(box, user.box) for box in (track.expected(seconds), last.box))


_VEHICLES: frozenset[Kind] = frozenset(('car', 'heavy vehicle'))


def _shared(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared) if shared else 0.0


def with_riders(users: Sequence[RoadUser]) -> list[RoadUser]:
    """Make a person on a two-wheeler a part of it, and leave out what never is in the way."""
    found = [user for user in users if user.kind in USUAL]
    persons = [user for user in found if user.kind == 'person']
    others = [user for user in found if user.kind != 'person']
    for person in persons:
        for number, other in enumerate(others):
            if other.kind == 'two-wheeler' and _rides(person.box, other.box):
                box = (min(person.box[0], other.box[0]), min(person.box[1], other.box[1]),
                       max(person.box[2], other.box[2]), max(person.box[3], other.box[3]))
                others[number] = other._replace(box=box)
                break
        else:
            others.append(person)
    return others


def _rides(person: Box, bike: Box) -> bool:
    across = min(person[2], bike[2]) - max(person[0], bike[0])
    return (across > _ASTRIDE * (person[2] - person[0]) and person[1] < bike[1]
            and bike[1] < person[3] <= bike[3] + 0.1 * (bike[3] - bike[1]))


class Moving(NamedTuple):
    """
    Where a road user is seen from the camera, and how it moves against it; m and m/s.

    Attributes
    ----------
    ahead, across
        Distance of its nearest side, and of its middle to the left of where the camera looks.
    speed_ahead, speed_across
        Their change, negative where it comes nearer, or moves to the right.
    error_ahead, error_across
        Standard errors of the speeds; infinite where it was not seen for long enough, or where
        its boxes are on no curve.
    faster
        Change of the speed ahead, m/s2; 0 where a steady speed fits.

    """

    ahead: float
    across: float
    speed_ahead: float
    speed_across: float
    error_ahead: float = 0.0
    error_across: float = 0.0
    faster: float = 0.0

    def at(self, seconds: float) -> tuple[float, float]:
        """Return distance ahead and across at another time."""
        return self.ahead + seconds * self.speed_ahead, self.across + seconds * self.speed_across

    def scaled(self, factor: float) -> Moving:
        """Return the same of something so much larger, which looks the same farther away."""
        return Moving(*(factor * value for value in self))

    def sure(self, standing: float = 0.0) -> Moving:
        """
        Return the same without speeds that may as well be errors of the boxes.

        Parameters
        ----------
        standing
            Speed ahead of what was seen too shortly to tell.

        """
        ahead = self.speed_ahead if abs(self.speed_ahead) > _SURE * self.error_ahead else 0.0
        across = self.speed_across if abs(self.speed_across) > _SURE * self.error_across else 0.0
        return self._replace(speed_ahead=standing if np.isinf(self.error_ahead) else ahead,
                             speed_across=across)

    def on_bend(self, curvature: float, seconds: float) -> Moving:
        """
        Return the same with what is across counted from a road that bends.

        Parameters
        ----------
        curvature
            1/m, left positive.
        seconds
            When the speeds are those, on average.

        """
        ahead, _ = self.at(seconds)
        return self._replace(
            across=self.across - 0.5 * curvature * self.ahead ** 2,
            speed_across=self.speed_across - curvature * ahead * self.speed_ahead)

    @property
    def contact_sec(self) -> float:
        """Return the time until its nearest side is at the camera; infinite if it never is."""
        return -self.ahead / self.speed_ahead if self.speed_ahead < 0.0 else np.inf


def moving(track: BoxTrack, aspect: float, focal: float = FOCAL) -> Moving | None:
    """
    Return how the road user of a track moves; None where no box of it shows how large it is.

    Parameters
    ----------
    aspect
        Height over width of the picture.
    focal
        Focal length in widths of the picture.

    """
    usual = USUAL[track.kind]
    seen = [(seconds, user.box, scale) for seconds, user in track.sightings
            if (scale := _scale(user.box, usual, aspect)) is not None]
    if not seen:
        return None
    times = np.array([seconds for seconds, _, _ in seen])
    scales = np.array([scale for _, _, scale in seen])
    errors = _ERROR * aspect / usual.height + _RELATIVE_ERROR * scales
    along = _fit(times, focal / scales, focal * errors / scales ** 2)
    whole = [(when, _across(box, near, usual), near) for when, box, near in seen
             if box[0] > _EDGE and box[2] < 1.0 - _EDGE]
    if not whole:
        side = _Fit(_across(*seen[-1][1:], usual), 0.0, np.inf, 0.0)
    else:
        when, where, near = map(np.array, zip(*whole))
        side = _fit(when, where, _ERROR / near + _RELATIVE_ERROR * (usual.width + np.abs(where)))
    return Moving(along.value, side.value, along.slope, side.slope, along.error, side.error,
                  along.bend)


def _scale(box: Box, usual: Usual, aspect: float) -> float | None:
    """Return how large a metre is there in widths of the picture; None if all sides are cut."""
    if box[1] > _EDGE and box[3] < 1.0 - _EDGE:
        return (box[3] - box[1]) * aspect / usual.height
    if box[0] > _EDGE and box[2] < 1.0 - _EDGE:
        return (box[2] - box[0]) / usual.width
    return None


def _across(box: Box, scale: float, usual: Usual) -> float:
    """
    Return how far to the left the middle of the nearest side is, m.

    The outer edge of a box is the outer edge of the nearest side; the inner one may belong to a
    side farther away.
    """
    left, right = ((0.5 - edge) / scale for edge in (box[0], box[2]))
    half = min(0.5 * usual.width, 0.5 * (left - right))
    return left - half if left + right > 0.0 else right + half


class _Fit(NamedTuple):
    """Value, slope, error of the slope, and change of the slope, all at time 0."""

    value: float
    slope: float
    error: float
    bend: float


def _fit(times: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64]
         ) -> _Fit:
    """Return the best line, or the best parabola where that surely fits better."""
    if len(times) < 2 or times[-1] - times[0] < _SHORTEST_SEC:
        return _Fit(float(values[-1]), 0.0, np.inf, 0.0)
    for degree in (2, 1):
        if len(times) < degree + 2:
            continue
        # Rows in standard errors, so that the inverse of the squares is the covariance.
        rows = times[:, None] ** np.arange(degree + 1) / errors[:, None]
        found, *_ = np.linalg.lstsq(rows, values / errors, rcond=None)
        off = float(np.sqrt(np.mean((rows @ found - values / errors) ** 2)))
        spread = max(1.0, off) * np.sqrt(np.diag(np.linalg.inv(rows.T @ rows)))
        if off < _OFF and (degree == 1 or abs(found[2]) > _SURE * spread[2]):
            return _Fit(float(found[0]), float(found[1]), float(spread[1]),
                        2.0 * float(found[2]) if degree == 2 else 0.0)
    return _Fit(float(np.interp(0.0, times, values)), 0.0, np.inf, 0.0)
