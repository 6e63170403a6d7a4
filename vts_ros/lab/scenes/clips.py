# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Clips: seeded scenes, rendered.

A scene is drawn again until its hazard window is clear: its level of risk is the one aimed at and
stays the same when the limits of the rule are moved, and the risk object is large and visible
enough to be seen. The hazard window is the last one of clips of up to ``SHORT_FRAMES`` frames; in
longer clips the hazard comes to its head just after the middle, and the ego vehicle reacts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.driver import drive_on, REACTION_SEC
from vts_ros.lab.scenes.hazards import draw_road, FAMILIES, Family, SPEEDS
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.scene_truth import Clip, TRUE_LEVELS
from vts_ros.lab.scenes.stage import Stage
from vts_ros.lab.scenes.surroundings import add_distractors, scenery
from vts_ros.lab.scenes.world import (
    EGO_LENGTH_M,
    EGO_WIDTH_M,
    Floats,
    Look,
    Road,
    Scene,
    Track,
)
from vts_ros.vlm.answers import RiskLevel

#: Ranges of seeds; nothing is ever trained or tuned on ``test``.
SPLITS: dict[str, range] = {
    'train': range(0, 1_000_000_000),
    'val': range(1_000_000_000, 1_100_000_000),
    'test': range(1_100_000_000, 1_200_000_000),
}
SHORT_FRAMES = 8
#: Where the front bumper of the ego vehicle is on the road when a scene begins.
START_M = 20.0
#: The risk object of an accepted window has at least this height in the model-size picture, this
#: visible share, and so many square pixels that show it: with less, nobody could tell what it is,
#: and the answer would be a guess. A traffic light may be smaller, because it glows.
CLEAR_PX, CLEAR_SHARE, CLEAR_PX2 = 10.0, 0.4, 60.0
#: A second camera shows at most so much of what the best one shows of it.
CLEAR_CAMERA = 0.5
#: Attempts are cheap; a scene of the rarest kind takes about a hundred.
_ATTEMPTS = 4000


class Way(NamedTuple):
    """A road, and the speed at which the ego vehicle drives along it, in m/s."""

    road: Road
    speed_mps: float


#: Draws a way on which a family can happen from dice, its name, the length of the road in m, and
#: the time in s of the newest frame of the hazard window.
DrawWay = Callable[[np.random.Generator, str, float, float], Way]


class SceneKind(NamedTuple):
    """
    How scenes of a kind are drawn.

    Attributes
    ----------
    draw
        Draws the way.
    families
        What may happen on it.
    is_clear
        Says whether the window that ends with a frame leaves no doubt about its truth, as
        :func:`is_clear`, which looks at it with a single camera.
    in_sight
        Takes away the scenery that hides bodies in a frame, as ``ground_truth.in_sight``.

    """

    draw: DrawWay
    families: Mapping[str, Family]
    is_clear: Callable[[Scene, int, RiskLevel], bool]
    in_sight: Callable[[Scene, int, frozenset[int]], Scene]


def hazard_frame(frames: int) -> int:
    """Return the index of the newest frame of the hazard window of a clip."""
    return frames - 1 if frames <= SHORT_FRAMES else frames // 2 + 2


def make_scene(seed: int, family: str | None = None, frames: int = 5, interval_sec: float = 0.4,
               level: RiskLevel | None = None) -> Scene:
    """
    Return a scene: pure geometry, no pixels.

    Parameters
    ----------
    family
        Key of ``FAMILIES``; drawn from the seed if None.
    level
        Level of risk of the hazard window; drawn from the seed if None.

    Raises
    ------
    ValueError
        If the family is not known, or never comes to this level.

    """
    return make_scene_of(USUAL, np.random.default_rng((seed, 1)), seed, family, frames,
                         interval_sec, level)


def draw_way(rng: np.random.Generator, family: str, length_m: float, t: float) -> Way:
    """Return a road with the bends, and a speed, that are usual for its kind."""
    road = draw_road(rng, family, length_m)
    return Way(road, float(rng.uniform(*SPEEDS[road.kind])))


def make_scene_of(kind: SceneKind, rng: np.random.Generator, seed: int, family: str | None,
                  frames: int, interval_sec: float, level: RiskLevel | None) -> Scene:
    """Return a scene of a kind; otherwise as :func:`make_scene`."""
    families = kind.families
    drawn = list(families)[int(rng.integers(len(families)))]
    family = drawn if family is None else family
    if family not in families:
        raise ValueError(f'family {family!r} is none of {", ".join(families)}')
    levels = families[family].levels
    drawn_level = levels[int(rng.integers(len(levels)))]
    level = drawn_level if level is None else level
    if level not in levels:
        raise ValueError(f'family {family!r} has no level {level!r}, only {", ".join(levels)}')
    for _ in range(_ATTEMPTS):
        scene = _draw(kind, rng, seed, family, level, frames, interval_sec)
        if scene is not None:
            return scene
    raise RuntimeError(f'no clear scene for seed {seed}, {family!r}, {level!r}')


def _draw(kind: SceneKind, rng: np.random.Generator, seed: int, family: str, level: RiskLevel,
          frames: int, interval_sec: float) -> Scene | None:
    """Return a scene if it came out clear."""
    times = np.arange(float(frames)) * interval_sec
    index = hazard_frame(frames)
    t = float(times[index])
    length = 60.0 + 35.0 * frames * interval_sec + 220.0
    road, v = kind.draw(rng, family, length, t)
    ego = Track.steady(0.0, START_M, v)
    stage = Stage(rng, road, t, ego.at(t)[0], v, level)
    kind.families[family].place(stage)
    # The hazard alone already says whether the rest is worth drawing.
    if not _aimed(stage, level):
        return None
    scene = Scene(seed, family, road, draw_look(rng), ego, tuple(stage.bodies),
                  tuple(stage.props), frozenset(stage.hazards), times, interval_sec,
                  draw_shake(rng, frames, v))
    if not kind.is_clear(scene, index, level):
        return None
    add_distractors(stage, times, -v * t, 90.0)
    if frames > SHORT_FRAMES:
        ego = drive_on(ego, stage.bodies, t + REACTION_SEC, float(times[-1]), v)
    scene = replace(scene, ego=ego, bodies=tuple(stage.bodies), props=tuple(stage.props))
    if not kind.is_clear(scene, index, level) or not no_crash(scene):
        return None
    end = ego.at(float(times[-1]))[0] + 170.0
    scene = replace(scene, props=scene.props + tuple(scenery(rng, road, 10.0, end, stage.props)))
    for seen in (max(0, index - 2), index):
        scene = kind.in_sight(scene, seen, scene.hazards)
    return scene


def _aimed(stage: Stage, level: RiskLevel) -> bool:
    found = (risk.mover(body, stage.t, stage.s) for body in stage.bodies
             if body.id in stage.hazards)
    movers = [item for item in found if item is not None]
    return risk.assess(stage.v, movers).level == level


def is_clear(scene: Scene, index: int, level: RiskLevel | None = None) -> bool:
    """Return whether the window that ends with a frame leaves no doubt about its truth."""
    return is_clear_to((scene,), index, level)


def is_clear_to(cameras: Sequence[Scene], index: int, level: RiskLevel | None = None) -> bool:
    """Return the same of a window that several cameras of a car see, each a scene."""
    scene = cameras[0]
    t = float(scene.times[index])
    _, ego_mps, _ = scene.ego.at(t)
    movers = truth.movers_seen(cameras, index)
    verdict = risk.assess(ego_mps, movers)
    if level is not None and verdict.level != level:
        return False
    if not risk.is_clear(ego_mps, movers, verdict):
        return False
    if verdict.id is None:
        return True
    if verdict.id not in scene.hazards:
        return False
    seen = truth.truth_seen(cameras, index)
    actor = next(a for a in seen.truth.actors if a.is_risk)
    body = next(b for b in scene.bodies if b.id == verdict.id)
    state = body.state(t)
    height = (actor.box[3] - actor.box[1]) * truth.MODEL_HEIGHT_PX
    shown = actor.visible * height * (actor.box[2] - actor.box[0]) * truth.MODEL_WIDTH_PX
    lamp = actor.label == 'traffic light'
    overlap = abs(state.d) - state.half_d - (0.5 * EGO_WIDTH_M + risk.CLEARANCE_M)
    return (seen.share <= CLEAR_CAMERA and height >= CLEAR_PX and actor.visible >= CLEAR_SHARE
            and (lamp or (shown >= CLEAR_PX2 and abs(overlap) > 0.2))
            and truth.motion_is_clear(body, state, ego_mps))


#: Of one camera that looks ahead.
USUAL = SceneKind(draw_way, FAMILIES, is_clear, truth.in_sight)


def no_crash(scene: Scene) -> bool:
    """Return whether the ego vehicle touches nobody in the clip and passes no red light."""
    times = scene.times
    ego_s, _ = scene.ego.over(times)
    before = np.concatenate(([-np.inf], ego_s[:-1]))
    for body in scene.bodies:
        if body.label == 'traffic light':
            line = body.along.over(times)[0] - body.stop_line
            passed = (before <= line) & (line < ego_s)
            if any(body.phase(t) == 'red' for t in times[passed].tolist()):
                return False
            continue
        s, d, half_s, half_d = body.places(times)
        if ((np.abs(d) < half_d + 0.5 * EGO_WIDTH_M) & (s - half_s < ego_s + 0.3)
                & (s + half_s > ego_s - EGO_LENGTH_M)).any():
            return False
    return True


def draw_look(rng: np.random.Generator) -> Look:
    """Return light and weather."""
    light = ('day', 'dusk', 'night')[int(rng.choice(3, p=(0.62, 0.18, 0.20)))]
    weather = ('clear', 'rain', 'glare')[int(rng.choice(3, p=(0.68, 0.20, 0.12)))]
    if light == 'night' and weather == 'glare':
        weather = 'clear'
    return Look(light, weather, int(rng.integers(2 ** 31)))


def draw_shake(rng: np.random.Generator, frames: int, v: float) -> Floats:
    """Return pitch and roll of the camera per frame in rad."""
    return rng.normal(0.0, 1.0, (frames, 2)) * (0.0012, 0.0016) * min(1.5, 0.4 + v / 15.0)


# --- pixels --------------------------------------------------------------------------------

def render(scene: Scene, width: int = 224, height: int = 128) -> Clip:
    """Draw a scene at some size."""
    renderer = Renderer(scene, width, height)
    frames = np.empty((len(scene.times), height, width, 3), np.uint8)
    for index in range(len(scene.times)):
        frames[index] = renderer.frame(index)
    aspect = height / width
    truths = tuple(truth.frame_truth(scene, index, aspect) for index in range(len(scene.times)))
    return Clip(frames, truths, scene.interval_sec,
                lambda end, length: truth.window_truth(scene, end, aspect, length))


def balanced_scenes(split: str, count: int, first: int = 0, frames: int = 5,
                    interval_sec: float = 0.4) -> Iterator[Scene]:
    """
    Yield scenes with balanced levels of risk, and families balanced within each level.

    Parameters
    ----------
    split
        Key of ``SPLITS``.
    first
        How many scenes of the split to pass over: workers take disjoint ranges.

    """
    for number in range(first, first + count):
        family, level = balanced(number)
        yield make_scene(SPLITS[split][number], family, frames, interval_sec, level)


def balanced(number: int) -> tuple[str, RiskLevel]:
    """Return family and level of risk of the scene with a number, both balanced."""
    level = TRUE_LEVELS[number % len(TRUE_LEVELS)]
    names = [name for name, family in FAMILIES.items() if level in family.levels]
    return names[number // len(TRUE_LEVELS) % len(names)], level
