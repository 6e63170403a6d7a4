# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows that need the past: pairs of a hazard and its harmless twin with the same newest picture.

Both have the same seed, road, light, scenery, other actors and noise. What tells them apart was
seen earlier in the window and is hidden in the newest frame; the pixels of that are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.clips import draw_look, draw_shake, no_crash, render, SPLITS
from vts_ros.lab.scenes.drawing import draw
from vts_ros.lab.scenes.hazards import draw_road
from vts_ros.lab.scenes.memory_families import MEMORY_FAMILIES, MemoryStage, Past
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.scene_truth import Clip, FrameTruth, TRUE_LEVELS, WindowTruth
from vts_ros.lab.scenes.scenery import sketch_prop
from vts_ros.lab.scenes.silhouette import is_hidden, Sight, sight
from vts_ros.lab.scenes.surroundings import add_distractors, scenery
from vts_ros.lab.scenes.world import Body, HORIZON, Prop, Scene, Track
from vts_ros.vlm.answers import Box

#: Lengths of windows in frames, every 0.4 s: up to 12.4 s.
LENGTHS = (8, 16, 32)
INTERVAL_SEC = 0.4
#: What tells is seen clearly in so many frames at least, and hidden for so long at least.
LEAST_SIGHTS, LEAST_HIDDEN_SEC = 2, 0.8
#: In so many frames so many pixels of the model-size picture differ by so many grey levels.
LEAST_DIFFERENT, DIFFERENT_PX, DIFFERENT_LEVELS = 2, 10, 24
#: It is hidden for at most this share of the window, so that it can be seen before.
_HIDDEN_SHARE = 0.6
_ATTEMPTS = 20000
#: Decides about nothing but these pairs: other windows of the same seed are as they were.
_STREAM = 21


@dataclass(frozen=True)
class MemoryTruth(WindowTruth):
    """
    What a correct answer about a window says that needs the past.

    The level counts what is hidden now where it really is. Of a hidden risk object ``box`` is
    None, and place and motion are those of now.

    Attributes
    ----------
    way
        What happened, see ``memory_families.Past``.
    thing
        Label of what tells.
    seen_until_ns
        Stamp of the last frame that clearly shows it.
    seen_box
        The visible part of it there, normalised.
    sights
        All clear sights of it, oldest first; the last one is that of ``seen_box``.

    """

    way: str
    thing: str
    seen_until_ns: int
    seen_box: Box
    sights: tuple[Sight, ...]


@dataclass(frozen=True, eq=False)
class MemoryScene:
    """
    A scene that ends with something hidden.

    Attributes
    ----------
    past
        What is in it that is not in its twin.
    common
        The scene without that.
    sights
        What each frame shows of what tells, None where nothing.

    """

    scene: Scene
    common: Scene
    past: Past
    sights: tuple[Sight | None, ...]

    @property
    def clear(self) -> tuple[Sight, ...]:
        """Return the clear sights that tell, oldest first."""
        times = self.scene.times
        return tuple(seen for seen in self.sights if seen is not None and seen.is_clear
                     and times[seen.frame] >= self.past.since)


class MemoryPair(NamedTuple):
    """A hazard and its harmless twin."""

    hazard: MemoryScene
    twin: MemoryScene


def make_pair(seed: int, family: str, frames: int = 8) -> MemoryPair:
    """
    Return a hazard and its harmless twin: pure geometry, no pixels.

    Parameters
    ----------
    family
        Key of ``MEMORY_FAMILIES``.
    frames
        One of ``LENGTHS``.

    Raises
    ------
    ValueError
        If family or length is not known.

    """
    if family not in MEMORY_FAMILIES:
        raise ValueError(f'family {family!r} is none of {", ".join(MEMORY_FAMILIES)}')
    if frames not in LENGTHS:
        raise ValueError(f'{frames} frames are none of {LENGTHS}')
    rng = np.random.default_rng((seed, _STREAM))
    for _ in range(_ATTEMPTS):
        pair = _draw(rng, seed, family, frames)
        if pair is not None:
            return pair
    raise RuntimeError(f'no clear pair for seed {seed}, {family!r}, {frames} frames')


def memory_pairs(split: str, count: int, first: int = 0, frames: int = 8) -> Iterator[MemoryPair]:
    """
    Yield pairs, the families in turn.

    Parameters
    ----------
    split
        Key of ``SPLITS``.
    first
        Pairs of the split to pass over: workers take disjoint ranges.

    """
    names = list(MEMORY_FAMILIES)
    for number in range(first, first + count):
        yield make_pair(SPLITS[split][number], names[number % len(names)], frames)


def render_memory(found: MemoryScene, width: int = 224, height: int = 128) -> Clip:
    """Draw a scene; the truth of its frames leaves out what they do not show."""
    clip = render(found.scene, width, height)
    aspect = height / width
    truths = tuple(_frame_truth(found, index, aspect) for index in range(len(clip.truths)))
    last = len(truths) - 1

    def describe(end: int, length: int) -> WindowTruth:
        if (end, length) != (last, last + 1):
            raise ValueError('a window that needs the past is a whole clip')
        return memory_truth(found, aspect)

    return replace(clip, truths=truths, describe=describe)


def memory_truth(found: MemoryScene, aspect: float = truth.MODEL_ASPECT) -> MemoryTruth:
    """Return the truth of the whole window."""
    common, past = found.common, found.past
    last = len(common.times) - 1
    t = float(common.times[last])
    _, ego_mps, _ = common.ego.at(t)
    shown = truth.window_truth(common, last, aspect, last + 1)
    said = _verdict(common, past)
    body = next((body for body in past.bodies if body.id == said.id), None)
    if body is not None:
        state = body.state(t)
        moves = truth.motion(body.label, state, ego_mps, emerged=False)
        where = 'ahead' if body.label == 'traffic light' else risk.place(state.d, state.half_d)
        shown = replace(
            shown, risk=said.level, label=body.label, box=None, place=where, motion=moves,
            action=risk.action(said.level, moves, body.label, ego_mps), ttc_sec=said.ttc_sec)
    final = found.clear[-1]
    thing = past.thing
    return MemoryTruth(
        **{entry.name: getattr(shown, entry.name) for entry in fields(WindowTruth)},
        way=past.way, thing=thing.label if isinstance(thing, Body) else thing.kind,
        seen_until_ns=round(float(common.times[final.frame]) * 1e9), seen_box=final.box,
        sights=found.clear)


def _frame_truth(found: MemoryScene, index: int, aspect: float) -> FrameTruth:
    """Return the truth of a frame, of the thing that tells what its pixels show."""
    seen, thing = found.sights[index], found.past.thing
    if not isinstance(thing, Body):
        return truth.frame_truth(found.common, index, aspect)
    if seen is None:
        return truth.frame_truth(found.common, index, aspect)
    shown = truth.frame_truth(found.scene, index, aspect)
    return replace(shown, actors=tuple(
        replace(actor, visible=round(seen.share, 3)) if actor.id == thing.id else actor
        for actor in shown.actors))


def _verdict(common: Scene, past: Past) -> risk.Verdict:
    """Return what the rule says of what is seen in the newest frame and what is hidden."""
    last = len(common.times) - 1
    movers, ego_mps = _movers(common, past, truth.movers(common, last))
    return risk.assess(ego_mps, movers)


def _movers(common: Scene, past: Past, shown: Sequence[risk.Mover]
            ) -> tuple[list[risk.Mover], float]:
    t = float(common.times[-1])
    ego_s, ego_mps, _ = common.ego.at(t)
    hidden = (risk.mover(body, t, ego_s) for body in past.bodies)
    return [*shown, *(item for item in hidden if item is not None)], ego_mps


# --- drawing a pair ------------------------------------------------------------------------

def _draw(rng: np.random.Generator, seed: int, family: str, frames: int) -> MemoryPair | None:
    """Return a pair if it came out clear."""
    kind = MEMORY_FAMILIES[family]
    times = np.arange(float(frames)) * INTERVAL_SEC
    t = float(times[-1])
    hidden_sec = float(rng.uniform(LEAST_HIDDEN_SEC, min(kind.longest_sec, _HIDDEN_SHARE * t)))
    low, high = kind.speeds
    v = float(rng.uniform(low, max(low, min(high, (kind.reach_m - kind.near_m) / hidden_sec))))
    road = draw_road(rng, kind.road, 60.0 + 35.0 * t + 220.0)
    if road.kind not in kind.kinds or (kind.road == 'cut-in' and road.lanes == 1):
        return None
    road = road.straight() if kind.straight else road
    ego = Track.steady(0.0, 20.0, v)
    stage = MemoryStage(rng, road, t, ego.at(t)[0], v, hidden_sec)
    pasts = kind.place(stage)
    if not _tells(stage, pasts):
        return None
    common = Scene(seed, family, road, draw_look(rng), ego, tuple(stage.bodies),
                   tuple(stage.props), frozenset(), times, INTERVAL_SEC,
                   draw_shake(rng, frames, v), veils=tuple(stage.veils))
    pair = _pair(common, pasts)
    if pair is None:
        return None
    common = _furnished(stage, common, pasts, pair)
    pair = _pair(common, pasts)
    return pair if pair is not None and _is_sound(pair) and _differs(pair) else None


def _tells(stage: MemoryStage, pasts: tuple[Past, Past]) -> bool:
    """Return whether the levels differ, even before it is worth looking at what is seen."""
    levels = []
    for past in pasts:
        found = (risk.mover(body, stage.t, stage.s) for body in (*stage.bodies, *past.bodies))
        levels.append(risk.assess(stage.v, [item for item in found if item is not None]).level)
    return TRUE_LEVELS.index(levels[0]) > TRUE_LEVELS.index(levels[1])


def _pair(common: Scene, pasts: tuple[Past, Past]) -> MemoryPair | None:
    """Return the two scenes if what tells was seen in both, and is hidden in both."""
    scenes = [replace(common, bodies=common.bodies + past.bodies, props=common.props + past.props)
              for past in pasts]
    last = len(common.times) - 1
    for scene, past in zip(scenes, pasts):
        things: tuple[Body | Prop, ...] = (*past.bodies, *past.props)
        if not all(is_hidden(scene, last, thing) for thing in things):
            return None
    found = []
    for scene, past in zip(scenes, pasts):
        seen = MemoryScene(scene, common, past, _sights(scene, past))
        if (len(seen.clear) < LEAST_SIGHTS
                or common.times[last] - common.times[seen.clear[-1].frame]
                < LEAST_HIDDEN_SEC - 0.5 * INTERVAL_SEC):
            return None
        found.append(seen)
    return MemoryPair(*found)


def _sights(scene: Scene, past: Past) -> tuple[Sight | None, ...]:
    """Return what each frame shows of what tells; nothing if it was not clear lately."""
    last = len(scene.times) - 1
    found: list[Sight | None] = [None] * (last + 1)
    lately = max(0.0, MEMORY_FAMILIES[scene.family].longest_sec) + 1.0
    for index in range(last, -1, -1):
        found[index] = seen = sight(scene, index, past.thing)
        if seen is not None and seen.is_clear:
            lately = np.inf
        elif scene.times[last] - scene.times[index] > lately:
            return (None,) * (last + 1)
    return tuple(found)


def _is_sound(pair: MemoryPair) -> bool:
    """Return whether the levels leave no doubt, the hidden one decides, and nobody is hit."""
    levels = []
    for found in pair:
        common, past = found.common, found.past
        movers, ego_mps = _movers(common, past, truth.movers(common, len(common.times) - 1))
        said = risk.assess(ego_mps, movers)
        if not risk.is_clear(ego_mps, movers, said) or not no_crash(found.scene):
            return False
        levels.append(TRUE_LEVELS.index(said.level))
        if found is pair.hazard and said.id not in {body.id for body in past.bodies}:
            return False
        if any(_overlap(body, other, common.times)
               for body in past.bodies for other in common.bodies):
            return False
    return levels[0] > levels[1]


def _differs(pair: MemoryPair) -> bool:
    """Return whether the pictures of the two pasts differ where it is seen clearly."""
    size = truth.MODEL_WIDTH_PX, truth.MODEL_HEIGHT_PX
    renderers = [Renderer(found.scene, *size) for found in pair]
    found = 0
    for index in sorted({seen.frame for view in pair for seen in view.clear}, reverse=True):
        first, second = (renderer.frame(index).astype(int) for renderer in renderers)
        far = np.abs(first - second).max(axis=2) > DIFFERENT_LEVELS
        found += int(far.sum()) >= DIFFERENT_PX
        if found == LEAST_DIFFERENT:
            return True
    return False


def _overlap(body: Body, other: Body, times: np.ndarray) -> bool:
    """Return whether two bodies ever stand in one another."""
    for a, b in ((body.state(t), other.state(t)) for t in times.tolist()):
        if abs(a.s - b.s) < a.half_s + b.half_s and abs(a.d - b.d) < a.half_d + b.half_d:
            return True
    return False


def _furnished(stage: MemoryStage, common: Scene, pasts: tuple[Past, Past], bare: MemoryPair
               ) -> Scene:
    """Return the scene with other actors and scenery that do not hide what tells."""
    own = list(stage.bodies)
    stage.bodies += [body for past in pasts for body in past.bodies]
    add_distractors(stage, common.times, -stage.v * stage.t, 90.0)
    added = stage.bodies[len(own) + sum(len(past.bodies) for past in pasts):]
    end = stage.s + 170.0
    props = scenery(stage.rng, stage.road, 10.0, end, stage.props)
    for found in bare:
        for seen in found.clear:
            added, props = _out_of_the_way(found, seen, added, props)
    return replace(common, bodies=(*own, *added), props=(*stage.props, *props))


def _out_of_the_way(found: MemoryScene, seen: Sight, bodies: list[Body], props: list[Prop]
                    ) -> tuple[list[Body], list[Prop]]:
    """Return the actors and scenery that stay behind or beside something that is seen."""
    scene, thing = found.scene, found.past.thing
    t, view = float(scene.times[seen.frame]), scene.view(seen.frame)
    far = thing.state(t).s if isinstance(thing, Body) else thing.s
    left, top, right, bottom = seen.box

    def free(edges: np.ndarray) -> bool:
        x0, y0, x1, y1 = (edges / (1.0, truth.MODEL_ASPECT, 1.0, truth.MODEL_ASPECT)
                          + (0.5, HORIZON, 0.5, HORIZON)).tolist()
        return x1 < left or x0 > right or y1 < top or y0 > bottom

    taken = truth.shot(replace(scene, bodies=tuple(bodies)), seen.frame)
    hiding: set[int] = set()
    if taken.drawing is not None:
        hiding = {body.id for body, state, edges in zip(
            taken.bodies, taken.states, taken.drawing.bounds) if state.s < far and not free(edges)}
    stay = [prop for prop in props if prop.kind != 'junction']
    sketches = [sketch_prop(prop, scene.look.lamps) for prop in stay]
    near = [index for index, item in enumerate(sketches) if view.s < item.s < far]
    gone: set[int] = set()
    if near:
        bounds = draw([sketches[index] for index in near], view).bounds
        gone = {id(stay[index]) for index, edges in zip(near, bounds) if not free(edges)}
    return ([body for body in bodies if body.id not in hiding],
            [prop for prop in props if id(prop) not in gone])
