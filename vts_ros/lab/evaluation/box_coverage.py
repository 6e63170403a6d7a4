# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How much of the traffic of a recording is kept, by boxes that a person has drawn.

A recording has no truth, and motion in the picture is no substitute: from a moving car the
roadside moves more than the traffic does. A few boxes by hand per vehicle are enough, because
between two of them a vehicle moves evenly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.lab.evaluation.generated_page import (
    day_and_machine,
    head,
    Run,
    write_data,
    write_text,
)
from vts_ros.lab.evaluation.proposal_recall import mean
from vts_ros.lab.scenes.cells import overlaps
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.tools.bags import read_frames, read_windows, until_damage
from vts_ros.tools.pictures import dim_dropped, encode, Picture
from vts_ros.vlm.answers import Box

PAGE, PICTURE, DATA = 'recordings.md', 'recordings.jpg', 'recordings.json'
#: Size of a frame in the picture, width and height, and the share of tokens that it shows.
_FRAME_PX, _SHOWN = (240, 136), 0.4
_BOX = (255, 210, 60)

#: A box counts for so long before its first and after its last entry, about half a frame.
_SLACK_SEC = 0.06


class TrafficError(ValueError):
    """Boxes that cannot be used, alone or with a recording; the message is one line."""


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
    if not np.isfinite(table).all():
        raise ValueError('every entry must be a finite number')
    if (np.diff(table[:, 0]) <= 0.0).any():
        raise ValueError('the seconds of a vehicle must rise')
    if (table[:, 1:] < 0.0).any() or (table[:, 1:] > 1.0).any() or (
            table[:, 1:3] >= table[:, 3:]).any():
        raise ValueError('a box must be left, top, right, bottom in shares of the picture')
    return Track(table[:, 0], table[:, 1:])


def picture_size(bag: Path) -> tuple[int, int]:
    """
    Return height and width of the first picture of a recording that can be read.

    Raises
    ------
    BagError
        If the recording cannot be read.
    TrafficError
        If none of its pictures can.

    """
    for frame in until_damage(read_frames(bag), Counter()):
        with suppress(FrameError):
            height, width = frame.rgb().shape[:2]
            return height, width
    raise TrafficError(f'{bag} has no picture that can be read')


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
    in frames that are neither the key frame nor the newest. At random, the former would be the
    budget, and the latter less, because key frame and newest have their shares first. None where
    there is no box. Windows with a picture that cannot be read are left out.

    Raises
    ------
    BagError
        If the recording cannot be read.
    TrafficError
        If it has several cameras: boxes are of one.

    """
    kept: dict[float, list[float]] = {ratio: [] for ratio in budgets}
    older: dict[float, list[float]] = {ratio: [] for ratio in budgets}
    windows = 0
    for window in _looked(sparsifier, bag, tracks):
        windows += 1
        for ratio in budgets:
            keep, key = window.keep(sparsifier, grid, ratio)
            for index, box in window.boxes:
                shared, area = overlaps(box, *grid)
                found = float((shared * keep[index]).sum() / area)
                kept[ratio].append(found)
                if index not in (key, len(keep) - 1):
                    older[ratio].append(found)
    return {'windows': windows, 'boxes': len(next(iter(kept.values()), [])),
            'budgets': {f'{ratio:g}': {'kept': mean(kept[ratio]), 'older': mean(older[ratio])}
                        for ratio in budgets}}


class _Looked(NamedTuple):
    """
    A window, what the network saw in its frames, and the vehicles in them.

    Attributes
    ----------
    boxes
        Index of a frame, and a box in it.

    """

    frames: list[Frame]
    proposals: list[Proposal]
    boxes: list[tuple[int, Box]]

    def keep(self, sparsifier: Sparsifier, grid: tuple[int, int], ratio: float
             ) -> tuple[NDArray[np.bool_], int]:
        """Return which tokens are kept [T, rows, columns], and which is the key frame."""
        chosen = sparsifier.select(self.proposals, grid, ratio)
        keep = np.zeros((len(self.frames), *grid), bool)
        np.put(keep, chosen.keep, True)
        return keep, chosen.key


def _looked(sparsifier: Sparsifier, bag: Path, tracks: Mapping[str, Track]) -> Iterator[_Looked]:
    """Yield the windows of a recording; each frame is looked at once."""
    seen: dict[int, Proposal] = {}
    first_ns = next(read_frames(bag)).stamp_ns
    for window in read_windows(bag):
        if len({frame.camera for frame in window}) > 1:
            raise TrafficError(f'{bag} has several cameras, and boxes are of one')
        try:
            seen = {frame.stamp_ns: seen.get(frame.stamp_ns) or sparsifier.propose(frame.rgb())
                    for frame in window}
        except FrameError:
            continue
        boxes = [(index, box) for index, frame in enumerate(window) for track in tracks.values()
                 if (box := track.at(1e-9 * (frame.stamp_ns - first_ns))) is not None]
        yield _Looked(window, [seen[frame.stamp_ns] for frame in window], boxes)


def draw_kept(sparsifier: Sparsifier, bag: Path, tracks: Mapping[str, Track],
              grid: tuple[int, int]) -> Picture:
    """
    Draw what is kept of a window of a recording, and where the vehicles are.

    Returns
    -------
    The last window with the most boxes, oldest frame first, uint8 [H, W, 3].

    Raises
    ------
    TrafficError
        If there is no box in any window; otherwise as :func:`traffic_kept`.

    """
    window: _Looked | None = None
    for one in _looked(sparsifier, bag, tracks):
        if one.boxes and (window is None or len(one.boxes) >= len(window.boxes)):
            window = one
    if window is None:
        raise TrafficError(f'no box lies in any full window of {bag}')
    keep, _ = window.keep(sparsifier, grid, _SHOWN)
    pictures = [dim_dropped(np.asarray(cv2.resize(
        frame.rgb(), _FRAME_PX, interpolation=cv2.INTER_AREA), np.uint8), kept)
        for frame, kept in zip(window.frames, keep)]
    for index, box in window.boxes:
        left, top, right, bottom = (round(side * _FRAME_PX[place % 2])
                                    for place, side in enumerate(box))
        cv2.rectangle(pictures[index], (left, top), (right, bottom), _BOX, 1)
    return np.hstack(pictures)


def write_traffic(result: Mapping[str, Any], pictures: Sequence[Picture], run: Run,
                  folder: Path) -> list[Path]:
    """
    Write a page about recordings, its picture and its data.

    Parameters
    ----------
    result
        What :func:`traffic_kept` found, by recording.
    pictures
        Of :func:`draw_kept`, one per recording.

    """
    path = write_text(folder / PAGE, _page(result, run))
    (folder / PICTURE).write_bytes(encode(np.vstack(pictures)))
    return [path, folder / PICTURE, write_data(folder / DATA, result, run)]


def _page(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    budgets = list(next(iter(result.values()))['budgets'])
    yield from head('What is kept of recordings', run)
    yield (f'{day_and_machine(run)} No language model takes part: this is about '
           'what it would be given.\n')
    yield f'![Frames of each recording with the vehicles in boxes]({PICTURE})\n'
    yield (f'One window of each recording at {_SHOWN:.0%}, in the order of the table, oldest '
           'frame first: what is grey is\ndropped. The boxes were drawn by hand, and nothing was '
           'trained on them; whether the network was trained over\nthe road of a recording is '
           'told where the network is described. The table has the mean share of the area of a '
           'box\nthat lies on tokens that are kept: over all frames of all windows, for which a '
           'choice at random would give the budget,\nand over the older ones, which are neither '
           'key frame nor newest, for which it would give less, because those two\nhave their '
           'shares first.\n')
    yield (f'| recording | boxes | frames | '
           f'{" | ".join(f"{float(budget):.0%}" for budget in budgets)} |')
    yield f'|---|---|---|{"---|" * len(budgets)}'
    for name, found in result.items():
        for kind, title in (('kept', 'all'), ('older', 'older')):
            shares = ' | '.join('-' if one[kind] is None else f'{one[kind]:.2f}'
                                for one in found['budgets'].values())
            yield f'| `{name}` | {found["boxes"]} | {title} | {shares} |'
