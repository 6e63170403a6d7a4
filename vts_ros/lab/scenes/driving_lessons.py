# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What an adapter for driving is trained on: the past, signals of the car, several cameras.

Ordinary windows are among them so that nothing is lost; pairs that need the past, of 8 and of 16
frames; twins whose pictures are the same and whose answer differs by a signal; and windows of two
and three cameras.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
import itertools
from typing import Any

import numpy as np

from vts_ros.lab.scenes.answered_recording import CAMERA, row_of, Shown
from vts_ros.lab.scenes.clips import make_scene, SPLITS
from vts_ros.lab.scenes.hazards import FAMILIES
from vts_ros.lab.scenes.memory_families import MEMORY_FAMILIES
from vts_ros.lab.scenes.memory_windows import make_pair, memory_truth, render_memory
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS, WindowTruth
from vts_ros.lab.scenes.sentences import answer
from vts_ros.lab.scenes.several_cameras import camera_windows, CAMERAS, CameraWindow
from vts_ros.lab.scenes.signal_twins import KINDS, make_twins, TURN, vehicle_of
from vts_ros.lab.scenes.world import Scene
from vts_ros.vlm.vehicle import Vehicle

#: What comes in turn: an ordinary window, a pair of so many frames, twins of the next kind, a
#: window of several cameras.
ORDINARY, TWINS, SEVERAL = 'ordinary', 'twins', 'several cameras'
_SIGNALS: tuple[str | int, ...] = (TWINS, ORDINARY)
_PAST: tuple[str | int, ...] = (8, ORDINARY, 8, ORDINARY, 8, ORDINARY, 16, ORDINARY)
_CAMERAS: tuple[str | int, ...] = (SEVERAL, SEVERAL, SEVERAL, ORDINARY)
#: Twins of the turn signal alone: how soon somebody is reached on the other lane is hard.
_CROSSING: tuple[str | int, ...] = (TURN, TURN, ORDINARY)
TURNS = {'cameras': _CAMERAS, 'signals': _SIGNALS, 'turn signal': _CROSSING, 'past': _PAST,
         'all': (*_PAST, *3 * _SIGNALS)}
#: Seeds of the split train that are passed over: the shipped model has learned from these, and
#: twins of the turn signal are to be others than those among all signals.
_PASSED_OVER, _OTHERS = 100_000_000, 10_000_000
#: Names by which it is not known where a camera looks.
_NAMES = ('camera_a', 'camera_b', 'camera_c')


def driving_lessons(split: str, count: int, about: str = 'all') -> Iterator[Shown]:
    """
    Yield windows, both of a pair one after the other, and twins as one with several answers.

    Parameters
    ----------
    split
        Key of ``SPLITS``.
    count
        Windows; both of a pair count, and twins once.
    about
        What is to be learned, a key of ``TURNS``; ordinary windows are among them in any case.

    """
    first = _PASSED_OVER if split == 'train' else 0
    if about == 'turn signal':
        first += _OTHERS
    return itertools.islice(_lessons(split, TURNS[about], first), count)


def _lessons(split: str, turns: Sequence[str | int], first: int) -> Iterator[Shown]:
    seen: dict[str | int, int] = {}
    for number in itertools.count():
        turn = turns[number % len(turns)]
        place = seen[turn] = seen.get(turn, -1) + 1
        seed = SPLITS[split][first + number]
        if turn == ORDINARY:
            yield _ordinary(seed, place, is_told=SEVERAL not in turns)
        elif turn == SEVERAL:
            window, = camera_windows(split, 1, first + place)
            yield _several(window)
        elif turn == TWINS:
            yield _twins(seed, KINDS[place % len(KINDS)])
        elif turn == TURN:
            yield _twins(seed, TURN)
        else:
            names = list(MEMORY_FAMILIES)
            yield from _pair(seed, names[place % len(names)], int(turn))


def _ordinary(seed: int, place: int, *, is_told: bool) -> Shown:
    """Return a window with levels, and families within each level, in turn."""
    level = TRUE_LEVELS[place % len(TRUE_LEVELS)]
    names = [name for name, family in FAMILIES.items() if level in family.levels]
    scene = make_scene(seed, names[place // len(TRUE_LEVELS) % len(names)], level=level)
    clip = render_window(scene)
    found = clip.window_truth()
    vehicle = _vehicle(found, scene) if is_told else None
    return Shown(scene.times.tolist(), {CAMERA: clip.frames},
                 [_row(found, vehicle, kind=ORDINARY)])


def _several(window: CameraWindow) -> Shown:
    """Return a window of several cameras, half of which are not in the usual order."""
    rng = np.random.default_rng([window.truth.seed, 2])
    names = {camera: f'camera_{camera}' for camera in CAMERAS}
    if rng.random() < 0.5:
        names = {camera: _NAMES[place] for camera, place in zip(CAMERAS, rng.permutation(3))}
    said = answer(window.truth, np.random.default_rng(window.truth.seed))
    if window.camera is not None:
        said = replace(said, camera=names[window.camera])
    return Shown(window.times, {names[camera]: frames
                                for camera, frames in window.frames().items()},
                 [row_of(said, family=window.truth.family, seed=window.truth.seed, kind=SEVERAL)])


def _pair(seed: int, family: str, frames: int) -> Iterator[Shown]:
    for found in make_pair(seed, family, frames):
        clip, right = render_memory(found), memory_truth(found)
        yield Shown(found.scene.times.tolist(), {CAMERA: clip.frames},
                    [_row(right, _vehicle(right, found.scene), kind=f'past of {frames}')])


def _twins(seed: int, kind: str) -> Shown:
    twins = make_twins(seed, kind)
    rows = [_row(told.truth, told.vehicle, told.needs, kind=kind)
            for told in (twins.harmless, twins.risky)]
    if twins.alone is not None:
        rows.append(_row(twins.alone, None, kind=kind))
    return Shown(twins.scene.times.tolist(), {CAMERA: twins.frames()}, rows)


def _vehicle(found: WindowTruth, scene: Scene) -> Vehicle:
    s, _, _ = scene.ego.at(float(scene.times[-1]))
    return vehicle_of(found, scene.road.curvature(s))


def _row(found: WindowTruth, vehicle: Vehicle | None, needs: tuple[str, ...] = (),
         **known: Any) -> dict[str, Any]:
    told = {} if vehicle is None else {'vehicle': {
        name: value for name, value in asdict(vehicle).items() if value is not None}}
    return row_of(answer(found, np.random.default_rng(found.seed)), **told,
                  needs=list(needs), family=found.family, seed=found.seed, **known)
