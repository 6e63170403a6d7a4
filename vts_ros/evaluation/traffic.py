# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How much of the traffic of a recording is kept, by boxes that a person has drawn.

A recording has no truth, and motion in the picture is no substitute: from a moving car the
roadside moves more than the traffic does. A few boxes by hand per vehicle are enough, because
between two of them a vehicle moves evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.bags import read_windows
from vts_ros.frames import Frame
from vts_ros.report import Box
from vts_ros.scenes.cells import overlaps
from vts_ros.sparsify import Proposal, Sparsifier

#: A box counts for so long before its first and after its last entry, about half a frame.
_SLACK_SEC = 0.06


class TrafficError(ValueError):
    """A file of boxes that cannot be used; the message says why in one line."""


@dataclass(frozen=True)
class Track:
    """
    Where a vehicle is.

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
        JSON: ``{"recordings": {name of the bag: {name of the vehicle: [[second, left, top,
        right, bottom], ...]}}}``.

    Returns
    -------
    Tracks by bag and by vehicle.

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
    if (np.diff(table[:, 0]) <= 0.0).any():
        raise ValueError('the seconds of a vehicle must rise')
    if (table[:, 1:] < 0.0).any() or (table[:, 1:] > 1.0).any() or (
            table[:, 1:3] >= table[:, 3:]).any():
        raise ValueError('a box must be left, top, right, bottom in shares of the picture')
    return Track(table[:, 0], table[:, 1:])


def traffic_kept(sparsifier: Sparsifier, bag: Path, tracks: Mapping[str, Track],
                 grid: tuple[int, int], budgets: Sequence[float]) -> dict[str, Any]:
    """
    Return how much of the vehicles is kept of the windows of a recording.

    Parameters
    ----------
    grid
        Rows and columns of visual tokens per frame.
    budgets
        Keep ratios.

    Returns
    -------
    ``{'windows', 'boxes', 'budgets': {budget: {'kept', 'older'}}}``: the mean share of the area
    of a box that lies on kept tokens, over the boxes in all frames of all windows, and over those
    in frames that are neither the key frame nor the newest. Chance is the budget for the former,
    and less for the latter. None where there is no box.

    Raises
    ------
    BagError, FrameError
        If the recording or a picture cannot be read.

    """
    seen: dict[int, Proposal] = {}
    kept: dict[float, list[float]] = {ratio: [] for ratio in budgets}
    older: dict[float, list[float]] = {ratio: [] for ratio in budgets}
    windows, first_ns = 0, None
    for window in read_windows(bag):
        windows += 1
        first_ns = window[0].stamp_ns if first_ns is None else first_ns
        seen = {frame.stamp_ns: seen.get(frame.stamp_ns) or sparsifier.propose(frame.rgb())
                for frame in window}
        shares = _shares(window, first_ns, tracks, grid)
        for ratio in budgets:
            chosen = sparsifier.select([seen[frame.stamp_ns] for frame in window], grid, ratio)
            keep = np.zeros((len(window), grid[0] * grid[1]))
            np.put(keep, chosen.keep, 1.0)
            for index, share in shares:
                found = float(share @ keep[index])
                kept[ratio].append(found)
                if index not in (chosen.key, len(window) - 1):
                    older[ratio].append(found)
    return {'windows': windows, 'boxes': len(next(iter(kept.values()), [])),
            'budgets': {f'{ratio:g}': {'kept': _mean(kept[ratio]), 'older': _mean(older[ratio])}
                        for ratio in budgets}}


def _shares(window: Sequence[Frame], first_ns: int, tracks: Mapping[str, Track],
            grid: tuple[int, int]) -> list[tuple[int, NDArray[np.float64]]]:
    """Return frame and share of the area on each token [N], for each box."""
    found = []
    for index, frame in enumerate(window):
        for track in tracks.values():
            box = track.at(1e-9 * (frame.stamp_ns - first_ns))
            if box is not None:
                shared, area = overlaps(box, *grid)
                found.append((index, shared.ravel() / area))
    return found


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
