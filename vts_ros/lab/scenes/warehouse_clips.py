# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows of a warehouse: seeded scenes, rendered, and their truth.

The level of risk follows from the time to reach, by the rule of the road with the size of the
robot; only what the newest frame shows counts, as racks hide what is in other aisles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.clips import SPLITS
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.silhouette import Sight, sight
from vts_ros.lab.scenes.warehouse_renderer import WarehouseRenderer
from vts_ros.lab.scenes.warehouse_stage import (
    add_others,
    draw_aisle,
    furnish,
    PITCH_RAD,
    ROBOT_LENGTH_M,
    robot_track,
    ROBOT_WIDTH_M,
    SETBACK_M,
    SPEED_MPS,
    WAREHOUSE_FAMILIES,
    WarehouseStage,
)
from vts_ros.lab.scenes.world import Body, Look, Scene
from vts_ros.vlm.answers import Box, RiskLevel

ROBOT = risk.Ego(ROBOT_WIDTH_M, ROBOT_LENGTH_M)
FRAMES, INTERVAL_SEC = 5, 0.4
#: The risk object of an accepted window is shown by this share, height and area in pixels.
_CLEAR_SHARE, _CLEAR_PX, _CLEAR_PX2 = 0.35, 9.0, 80.0
#: What is less of a body is not seen at all.
_SEEN_SHARE, _SEEN_PX = 0.12, 5.0
#: Much slower than this it stands; what moves slower than the second limit is not clear.
_STANDING_MPS, _MOVING_MPS = 0.15, 0.45
_HIDDEN_SHARE = 0.35
_MARGIN_M = 0.15
_ATTEMPTS = 3000


class SeenBody(NamedTuple):
    """A body that the newest frame shows, and what it shows of it."""

    body: Body
    sight: Sight


class WarehouseTruth(NamedTuple):
    """
    What a right answer about a window says.

    Attributes
    ----------
    risk, label, place, motion, box
        Level, and the risk object of the newest frame; None without a risk.
    reach_sec
        Time to reach it; None where it is only near.
    seen
        Labels of all that the newest frame shows, nearest first.

    """

    family: str
    seed: int
    risk: RiskLevel
    label: str | None
    place: str | None
    motion: str | None
    box: Box | None
    reach_sec: float | None
    seen: tuple[str, ...]


class WarehouseWindow(NamedTuple):
    """Pictures, uint8 [frames, height, width, 3], oldest first, and the truth of the newest."""

    scene: Scene
    frames: NDArray[np.uint8]
    truth: WarehouseTruth


def make_warehouse(seed: int, family: str, level: RiskLevel) -> tuple[Scene, WarehouseTruth]:
    """
    Return a scene and its truth, no pixels.

    Raises
    ------
    ValueError
        If the family is not known or never comes to this level.

    """
    if level not in WAREHOUSE_FAMILIES[family].levels:
        raise ValueError(f'family {family!r} has no level {level!r}')
    rng = np.random.default_rng((seed, 41))
    for _ in range(_ATTEMPTS):
        if found := _draw(rng, seed, family, level):
            return found
    raise RuntimeError(f'no clear scene for seed {seed}, {family!r}, {level!r}')


def _draw(rng: np.random.Generator, seed: int, family: str, level: RiskLevel
          ) -> tuple[Scene, WarehouseTruth] | None:
    times = np.arange(float(FRAMES)) * INTERVAL_SEC
    t = float(times[-1])
    v = float(rng.uniform(*SPEED_MPS))
    road, ego = draw_aisle(rng, 80.0), robot_track(v)
    s = ego.at(t)[0]
    stage = WarehouseStage(rng, road, t, s, v, level)
    WAREHOUSE_FAMILIES[family].place(stage)
    near = [found for body in stage.bodies if (found := risk.mover(body, t, s)) is not None]
    if risk.assess(v, near, ego=ROBOT).level != level or any(item.near < 0.5 for item in near):
        return None
    add_others(stage)
    end = s + float(rng.uniform(30.0, 48.0))
    shake = rng.normal(0.0, 0.0012, (FRAMES, 2))
    shake[:, 0] += PITCH_RAD
    scene = Scene(seed, family, road, Look('day', 'clear', int(rng.integers(2 ** 31))), ego,
                  tuple(stage.bodies), tuple(furnish(stage, ego.at(0.0)[0] - 8.0, end)),
                  frozenset(stage.hazards), times, INTERVAL_SEC, shake, setback_m=SETBACK_M)
    truth = _truth(scene, level)
    return None if truth is None else (scene, truth)


def _seen(scene: Scene, index: int) -> list[SeenBody]:
    """Return what a frame shows, nearest first."""
    t = float(scene.times[index])
    found = [(body.state(t).s, SeenBody(body, shown)) for body in scene.bodies
             if (shown := sight(scene, index, body)) is not None
             and shown.share >= _SEEN_SHARE and (shown.box[3] - shown.box[1]) * 128 >= _SEEN_PX]
    return [item for _, item in sorted(found, key=lambda entry: entry[0])]


def _truth(scene: Scene, level: RiskLevel) -> WarehouseTruth | None:
    """Return the truth of the newest frame; None if it is not clear, or of another level."""
    index = len(scene.times) - 1
    t = float(scene.times[index])
    s, v, _ = scene.ego.at(t)
    seen = _seen(scene, index)
    movers = [found for item in seen if (found := risk.mover(item.body, t, s)) is not None]
    verdict = risk.assess(v, movers, ego=ROBOT)
    if verdict.level != level or not risk.is_clear(v, movers, verdict, ROBOT, _MARGIN_M):
        return None
    labels = tuple(item.body.label for item in seen)
    if verdict.id is None:
        # What the family is about has to be seen, or nobody learns that it is harmless.
        if scene.hazards and not any(item.body.id in scene.hazards for item in seen):
            return None
        return WarehouseTruth(scene.family, scene.seed, level, None, None, None, None, None,
                              labels)
    if verdict.id not in scene.hazards:
        return None
    item = next(item for item in seen if item.body.id == verdict.id)
    left, top, right, bottom = item.sight.box
    height = (bottom - top) * 128
    if (item.sight.share < _CLEAR_SHARE or height < _CLEAR_PX
            or height * (right - left) * 224 < _CLEAR_PX2):
        return None
    moves = _motion(scene, item.body, t, v)
    if moves is None:
        return None
    state = item.body.state(t)
    return WarehouseTruth(
        scene.family, scene.seed, level, item.body.label,
        risk.place(state.d, state.half_d, ROBOT), moves, item.sight.box, verdict.ttc_sec, labels)


def _motion(scene: Scene, body: Body, t: float, v: float) -> str | None:
    """Return how a body moves; None where that is not clear."""
    state = body.state(t)
    if state.speed < _STANDING_MPS:
        return 'stopped'
    if state.speed < _MOVING_MPS:
        return None
    if abs(state.vd) > abs(state.vs):
        # The middle frame is of 0.8 s before.
        earlier = sight(scene, len(scene.times) // 2, body)
        return 'emerging' if earlier is None or earlier.share < _HIDDEN_SHARE else 'crossing'
    if state.vs < 0:
        return 'backing' if body.detail == 'backing' else 'oncoming'
    return 'slower' if state.vs < v else None


def render_warehouse(scene: Scene, truth: WarehouseTruth, width: int = 224, height: int = 128
                     ) -> WarehouseWindow:
    """Draw a scene at some size, with the signature of the renderer."""
    renderer = WarehouseRenderer(scene, width, height)
    frames = np.stack([renderer.frame(index) for index in range(len(scene.times))])
    return WarehouseWindow(scene, frames, truth)


def balanced_truths(split: str, count: int, first: int = 0
                    ) -> Iterator[tuple[Scene, WarehouseTruth]]:
    """
    Yield scenes of a split and their truth, no pixels.

    Levels are balanced, and families within each level.

    Parameters
    ----------
    split
        ``train``, ``val`` or ``test``: ranges of seeds that do not overlap.
    first
        How many windows of the split to pass over.

    """
    for number in range(first, first + count):
        level = TRUE_LEVELS[number % len(TRUE_LEVELS)]
        names = [name for name, family in WAREHOUSE_FAMILIES.items() if level in family.levels]
        family = names[number // len(TRUE_LEVELS) % len(names)]
        yield make_warehouse(SPLITS[split][number], family, level)


def balanced_warehouse(split: str, count: int, first: int = 0) -> Iterator[WarehouseWindow]:
    """Yield the windows of :func:`balanced_truths`, rendered."""
    for scene, truth in balanced_truths(split, count, first):
        yield render_warehouse(scene, truth)
