# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Boxes of road users in recordings, drawn by hand.

A recording has no truth, and motion in the picture is no substitute: from a moving car the
roadside moves more than the traffic does. A few boxes by hand per vehicle are enough, because
between two of them a vehicle moves evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import VtsError
from vts_ros.lab.recordings import frames_of, name_of
from vts_ros.lab.teacher import Found, Kind, KINDS, RoadUser
from vts_ros.vlm.answers import Box

#: A box counts for so long before its first and after its last entry, about half a frame.
_SLACK_SEC = 0.06


class TrafficError(VtsError, ValueError):
    """Boxes that cannot be used, alone or with a recording; the message is one line."""


@dataclass(frozen=True)
class Track:
    """
    Where a road user is.

    Attributes
    ----------
    seconds
        float64 [n], since the first picture, ascending.
    boxes
        float64 [n, 4], left, top, right, bottom in shares of the picture.

    """

    seconds: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def at(self, sec: float) -> Box | None:
        """Return the box at a time; None before the first entry and after the last."""
        if not self.seconds[0] - _SLACK_SEC <= sec <= self.seconds[-1] + _SLACK_SEC:
            return None
        left, top, right, bottom = (
            float(np.interp(sec, self.seconds, side)) for side in self.boxes.T)
        return left, top, right, bottom


def read_tracks(path: Path) -> dict[str, dict[str, Track]]:
    """
    Read boxes drawn by hand.

    Parameters
    ----------
    path
        JSON: ``{"recordings": {name of the bag: {name of the road user: [[second, left, top,
        right, bottom], ...]}}}``. A name that begins with a kind, such as `person 2`, says what
        it is; all others are cars.

    Returns
    -------
    Tracks by bag and by road user.

    Raises
    ------
    TrafficError
        If it is no such file.

    """
    try:
        recordings = json.loads(path.read_text(encoding='utf-8'))['recordings']
        return {bag: {vehicle: _track(rows) for vehicle, rows in vehicles.items()}
                for bag, vehicles in recordings.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrafficError(f'{path} does not hold boxes by recording and vehicle: '
                           f'{type(error).__name__} {error}') from error


def _track(rows: Sequence[Sequence[float]]) -> Track:
    table = np.array(rows, np.float64)
    if table.ndim != 2 or table.shape[1] != 5 or not len(table):
        raise ValueError('a vehicle needs rows of second, left, top, right, bottom')
    if not np.isfinite(table).all():
        raise ValueError('every entry must be a finite number')
    if (np.diff(table[:, 0]) <= 0.0).any():
        raise ValueError('the seconds of a vehicle must rise')
    if (table[:, 1:] < 0.0).any() or (table[:, 1:] > 1.0).any() or (
            table[:, 1:3] >= table[:, 3:]).any():
        raise ValueError('a box must be left, top, right, bottom in shares of the picture')
    return Track(table[:, 0], table[:, 1:])


def drawn_users(recording: Path, tracks: Mapping[str, Track]) -> Found:
    """
    Return the road users in the frames of a recording, by tracks.

    Raises
    ------
    BagError
        If the recording cannot be read.
    TrafficError
        If it has several cameras: boxes are of one.

    """
    found: Found = {}
    first_ns: int | None = None
    for frame in frames_of(recording):
        first_ns = frame.stamp_ns if first_ns is None else first_ns
        sec = 1e-9 * (frame.stamp_ns - first_ns)
        found[frame.key] = [RoadUser(_kind(name), 1.0, box) for name, track in tracks.items()
                            if (box := track.at(sec)) is not None]
    if len({camera for camera, _ in found}) > 1:
        raise TrafficError(f'{name_of(recording)} has several cameras, and boxes are of one')
    return found


def users_by_hand(path: Path, recordings: Sequence[Path]) -> Callable[[Path], Found]:
    """
    Return what finds the road users of recordings in a file of boxes.

    Raises
    ------
    TrafficError
        If it is no such file, or does not know all of the recordings.

    """
    tracks = read_tracks(path)
    unknown = [name_of(recording) for recording in recordings if name_of(recording) not in tracks]
    if unknown:
        raise TrafficError(f'{path} knows no {", ".join(unknown)}')
    return lambda recording: drawn_users(recording, tracks[name_of(recording)])


def _kind(name: str) -> Kind:
    return next((kind for kind in KINDS if name.startswith(kind)), 'car')
