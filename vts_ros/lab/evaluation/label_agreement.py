# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well labels by boxes agree with the truth of the renderer, where both are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vts_ros.lab.evaluation.road_answers import grade, Grades, METRICS, shares, true_facts
from vts_ros.lab.road_truth import ALIKE, label
from vts_ros.lab.scenes import ground_truth
from vts_ros.lab.scenes.clips import balanced_scenes, hazard_frame
from vts_ros.lab.scenes.scene_truth import FrameTruth
from vts_ros.lab.scenes.world import Scene
from vts_ros.lab.teacher import RoadUser

#: Frames of a scene whose hazard window begins with the first: ten pictures a second.
_FRAMES, _INTERVAL_SEC = 29, 0.1
#: The fourth part of the frames is what a window has.
_STEP = 4


def agreement(split: str, n: int, noise: float = 0.0, ego_mps: float | None = None,
              progress: Callable[[int], None] = lambda scenes: None) -> dict[str, Any]:
    """
    Label hazard windows of rendered scenes by the true boxes, and compare with the truth.

    Scenes whose risk object is no road user that a teacher knows (red lights, barriers) are left
    out.

    Parameters
    ----------
    n
        Scenes, levels balanced; no picture is drawn.
    noise
        Standard deviation by which each side of a box is off, in shares of the box.
    ego_mps
        Speed that the labels take for that of the car; by default the true one.

    Returns
    -------
    ``{'split', 'noise', 'speed_mps', 'all', 'clear', 'straight'}``, the last three ``{'n',
    **METRICS}`` of all windows, of those whose labels are clear, and of those of them that are on
    a straight road.

    """
    rng = np.random.default_rng(0)
    grades: list[Grades] = []
    clear: list[int] = []
    straight: list[int] = []
    newest = hazard_frame(_FRAMES)
    for scene in balanced_scenes(split, n, frames=_FRAMES, interval_sec=_INTERVAL_SEC):
        truth = ground_truth.window_truth(scene, newest)
        progress(1)
        if truth.label is not None and truth.label not in ALIKE:
            continue
        users = _users(scene, newest, noise, rng)
        found = label(sorted(users)[::_STEP], users, ground_truth.MODEL_ASPECT,
                      truth.ego_speed_mps if ego_mps is None else ego_mps)
        if found.is_clear:
            clear.append(len(grades))
            straight += clear[-1:] if truth.curve == 'straight' else []
        grades.append(grade(true_facts(found.window), true_facts(truth)))
    return {'split': split, 'noise': noise, 'speed_mps': ego_mps, 'all': _counted(grades),
            'clear': _counted([grades[index] for index in clear]),
            'straight': _counted([grades[index] for index in straight])}


def _users(scene: Scene, newest: int, noise: float, rng: np.random.Generator
           ) -> dict[int, list[RoadUser]]:
    frames = [ground_truth.frame_truth(scene, index) for index in range(newest + 1)]
    return {frame.stamp_ns: _boxes(frame, noise, rng) for frame in frames}


def _boxes(frame: FrameTruth, noise: float, rng: np.random.Generator) -> list[RoadUser]:
    users = []
    for actor in frame.actors:
        left, top, right, bottom = actor.box
        if (actor.label not in ALIKE or actor.visible < ground_truth.SEEN_SHARE
                or (bottom - top) * ground_truth.MODEL_HEIGHT_PX < ground_truth.SEEN_PX):
            continue
        size = np.array([right - left, bottom - top] * 2)
        off = rng.normal(0.0, noise, 4) * size
        sides = np.clip(np.array(actor.box) + off, 0.0, 1.0).tolist()
        users.append(RoadUser(ALIKE[actor.label], 1.0, (sides[0], sides[1], sides[2], sides[3])))
    return users


def _counted(grades: Sequence[Grades]) -> dict[str, Any]:
    return {'n': len(grades), **(shares(grades) or dict.fromkeys(METRICS))}

