# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ground truth of a scene: who is where in the picture, how it moves, what the risk is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.drawing import draw, Drawing
from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth, WindowTruth
from vts_ros.lab.scenes.scenery import sketch_prop
from vts_ros.lab.scenes.shapes import sketch
from vts_ros.lab.scenes.world import Body, HORIZON, Scene, State
from vts_ros.vlm.answers import Box

#: Size of the model-size picture, for which scenes are accepted, and its height over width.
MODEL_WIDTH_PX, MODEL_HEIGHT_PX = 224, 128
MODEL_ASPECT = MODEL_HEIGHT_PX / MODEL_WIDTH_PX
#: An actor counts from this visible share and this height in the model-size picture on.
SEEN_SHARE, SEEN_PX = 0.2, 4.0
#: Usual length of a window.
WINDOW_SEC = 1.6
#: Nothing farther away is drawn.
FAR_M = 220.0
VEHICLES = frozenset(('car', 'truck', 'bus', 'motorcycle'))
_GRID = (np.arange(8) + 0.5) / 8


class Shot(NamedTuple):
    """The bodies that one frame shows, nearest first, and what they look like."""

    bodies: tuple[Body, ...]
    states: tuple[State, ...]
    drawing: Drawing | None


@lru_cache(maxsize=256)
def shot(scene: Scene, index: int) -> Shot:
    """Return the bodies that a frame shows."""
    t = float(scene.times[index])
    view = scene.view(index)
    dark = scene.look.light != 'day' or scene.look.weather == 'rain'
    found = []
    for body in scene.bodies:
        state = body.state(t)
        ahead = state.s - view.s
        if ahead + state.half_s > 1.2 and ahead < FAR_M:
            found.append((float(view.depth(np.array([(state.s, state.d, 0.0)]))[0])
                          if view.yaw else state.s, body, state))
    found.sort(key=lambda entry: entry[0])
    if not found:
        return Shot((), (), None)
    _, bodies, states = zip(*found)
    return Shot(bodies, states, draw([sketch(body, t, view, dark) for body in bodies], view))


def _clip(box: tuple[float, float, float, float]) -> Box:
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in box)
    return left, top, right, bottom


def _visible(box: Box, nearer: Sequence[Box]) -> float:
    """Return the share of a box that is inside the picture and outside of nearer boxes."""
    x = (box[0] + (box[2] - box[0]) * _GRID)[None, :]
    y = (box[1] + (box[3] - box[1]) * _GRID)[:, None]
    shown = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    for left, top, right, bottom in nearer:
        if left < box[2] and right > box[0] and top < box[3] and bottom > box[1]:
            shown &= ~((x > left) & (x < right) & (y > top) & (y < bottom))
    return float(shown.mean())


def motion(label: str, state: State, ego_mps: float, emerged: bool) -> str:
    """
    Return how an actor moves, one of ``types.MOTIONS``.

    Parameters
    ----------
    emerged
        Whether something hid it a moment ago.

    """
    if label in ('traffic light', 'barrier'):
        return 'stopped'
    if state.speed < 0.3:
        return 'stopped' if label in VEHICLES else 'waiting'
    if abs(state.vd) > abs(state.vs):
        return 'emerging' if emerged else 'crossing'
    if state.vs < 0:
        return 'oncoming'
    if abs(state.vd) > 0.4 and state.vd * state.d < 0 and abs(state.d) - state.half_d > 0.3:
        return 'cutting in'
    if state.acceleration < -1.5:
        return 'braking'
    if abs(state.vs - ego_mps) < 1.5:
        return 'same speed'
    return 'slower' if state.vs < ego_mps else 'pulling away'


def motion_is_clear(body: Body, state: State, ego_mps: float) -> bool:
    """Return whether the motion is far from the limits between two motions."""
    if body.label in ('traffic light', 'barrier') or state.speed < 0.1:
        return True
    if state.speed < 0.6 or abs(abs(state.vd) - abs(state.vs)) < 0.3:
        return False
    if abs(state.vd) > abs(state.vs) or state.vs < 0:
        return True
    relative = abs(state.vs - ego_mps)
    return not (1.0 < relative < 2.2 or -2.2 < state.acceleration < -0.8
                or 0.1 < abs(state.vd) < 0.55)


class VisibleBody(NamedTuple):
    """A body in a frame: its box (not clipped) and visible share."""

    body: Body
    state: State
    box: Box
    share: float


@lru_cache(maxsize=256)
def _visible_bodies(scene: Scene, index: int, aspect: float) -> tuple[VisibleBody, ...]:
    """Return what a frame shows, nearest first."""
    taken = shot(scene, index)
    if taken.drawing is None:
        return ()
    boxes = taken.drawing.bounds / (1.0, aspect, 1.0, aspect) + (0.5, HORIZON, 0.5, HORIZON)
    nearer: list[Box] = []
    shown = []
    for body, state, edges in zip(taken.bodies, taken.states, boxes.tolist()):
        left, top, right, bottom = edges
        if right <= 0.0 or left >= 1.0 or bottom <= 0.0 or top >= 1.0:
            continue
        box = (left, top, right, bottom)
        share = _visible(box, nearer)
        nearer.append(box)
        if share > 0.0:
            shown.append(VisibleBody(body, state, box, share))
    return tuple(shown)


def _counts(box: Box, share: float, aspect: float) -> bool:
    height_px = (box[3] - box[1]) * aspect / MODEL_ASPECT * MODEL_HEIGHT_PX
    return share >= SEEN_SHARE and height_px >= SEEN_PX


def movers(scene: Scene, index: int, aspect: float = MODEL_ASPECT) -> list[risk.Mover]:
    """Return the actors of a frame that can be seen, as the rule sees them."""
    t = float(scene.times[index])
    ego_s, _, _ = scene.ego.at(t)
    found = (risk.mover(item.body, t, ego_s) for item in _visible_bodies(scene, index, aspect)
             if _counts(item.box, item.share, aspect))
    return [item for item in found if item is not None]


def movers_seen(cameras: Sequence[Scene], index: int, aspect: float = MODEL_ASPECT
                ) -> list[risk.Mover]:
    """Return the actors that any camera shows in a frame, each once."""
    return list({found.id: found for camera in cameras
                 for found in movers(camera, index, aspect)}.values())


def verdict(scene: Scene, index: int, aspect: float = MODEL_ASPECT) -> risk.Verdict:
    """Return what the rule says about one frame."""
    _, ego_mps, _ = scene.ego.at(float(scene.times[index]))
    return risk.assess(ego_mps, movers(scene, index, aspect))


def _emerged(scene: Scene, body: Body, index: int, aspect: float, seconds: float) -> bool:
    """Return whether something hid most of a body in the seconds before a frame."""
    back = round(seconds / scene.interval_sec)
    for earlier in range(max(0, index - back), index):
        shares = [item.share for item in _visible_bodies(scene, earlier, aspect)
                  if item.body.id == body.id and item.box[0] > -0.1 and item.box[2] < 1.1]
        hidden = not shares and _in_front(scene, body, earlier)
        if hidden or (shares and shares[0] < 0.35):
            return True
    return False


def in_sight(scene: Scene, index: int, hazards: frozenset[int]) -> Scene:
    """
    Return the scene without the scenery that hides one of some bodies in a frame.

    Scenery is not in the truth, so nothing that matters may stand behind it.
    """
    taken, view = shot(scene, index), scene.view(index)
    far = max((state.s for body, state in zip(taken.bodies, taken.states)
               if body.id in hazards), default=0.0)
    props = [prop for prop in scene.props if prop.kind not in ('junction', 'cone')
             and prop.s + prop.length > view.s and prop.s < far]
    if taken.drawing is None or not props:
        return scene
    drawing = draw([sketch_prop(prop, scene.look.lamps) for prop in props], view)
    owner = np.repeat(np.arange(len(props)), np.diff(drawing.figures))
    near = np.array([prop.s for prop in props])[owner]
    hiding: set[int] = set()
    for body, state, edges in zip(taken.bodies, taken.states, taken.drawing.bounds):
        if body.id in hazards:
            over = ((drawing.low < edges[2:]) & (drawing.high > edges[:2])).all(axis=1)
            hiding.update(owner[over & (near < state.s)].tolist())
    gone = {id(props[index]) for index in hiding}
    return replace(scene, props=tuple(prop for prop in scene.props if id(prop) not in gone))


def _in_front(scene: Scene, body: Body, index: int) -> bool:
    t = float(scene.times[index])
    state, view = body.state(t), scene.view(index)
    x, y, _ = view.ahead(state.s, state.d)
    return 3.0 < x < 60.0 and abs(y) < 0.5 * x


def frame_truth(scene: Scene, index: int, aspect: float = MODEL_ASPECT,
                seconds: float = WINDOW_SEC) -> FrameTruth:
    """
    Return the truth of one frame.

    Parameters
    ----------
    aspect
        Height over width of the picture.
    seconds
        How far back to look for whether an actor has just emerged.

    """
    t = float(scene.times[index])
    ego_s, ego_mps, _ = scene.ego.at(t)
    worst = verdict(scene, index, aspect).id
    actors = []
    for body, state, box, share in _visible_bodies(scene, index, aspect):
        actors.append(Actor(
            id=body.id, label=body.label, box=_clip(box), visible=round(share, 3),
            distance_m=state.s - state.half_s - ego_s, lateral_m=state.d,
            speed_mps=state.speed,
            motion=motion(body.label, state, ego_mps, body.label in risk.UNPREDICTABLE
                          and _emerged(scene, body, index, aspect, seconds)),
            is_risk=body.id == worst, detail=body.phase(t) or body.detail, parked=body.parked))
    return FrameTruth(round(t * 1e9), ego_mps, tuple(actors))


def window_truth(scene: Scene, end: int, aspect: float = MODEL_ASPECT,
                 length: int = 5) -> WindowTruth:
    """Return the truth of the window of some length whose newest frame is ``end``."""
    return truth_seen((scene,), end, aspect, length).truth


class SeenTruth(NamedTuple):
    """
    The truth of a window of several cameras.

    Attributes
    ----------
    truth
        Of all cameras; every actor as the camera shows it that shows most of it.
    camera
        Number of the camera that shows most of the risk object, in which its box is.
    share
        How much of that the next best camera shows; 0 where no other does.

    """

    truth: WindowTruth
    camera: int | None
    share: float


def truth_seen(cameras: Sequence[Scene], end: int, aspect: float = MODEL_ASPECT,
               length: int = 5) -> SeenTruth:
    """
    Return the truth of a window that cameras of one car see.

    Parameters
    ----------
    cameras
        The same scene, seen by each.
    end
        The newest frame.

    """
    scene = cameras[0]
    t = float(scene.times[end])
    ego_s, ego_mps, _ = scene.ego.at(t)
    said = risk.assess(ego_mps, movers_seen(cameras, end, aspect))
    views: dict[int, list[tuple[float, int, Actor]]] = {}
    for number, camera in enumerate(cameras):
        for actor in frame_truth(camera, end, aspect, (length - 1) * scene.interval_sec).actors:
            views.setdefault(actor.id, []).append((_area(actor), number, actor))
    # Best first; of equals the first camera.
    for found in views.values():
        found.sort(key=lambda view: (-view[0], view[1]))
    actors = tuple(replace(found[0][2], is_risk=key == said.id) for key, found in views.items())
    worst = next((actor for actor in actors if actor.is_risk), None)
    label = moves = where = None
    shown_by: int | None = None
    share = 0.0
    if worst is not None:
        label, moves = worst.label, worst.motion
        state = next(body for body in scene.bodies if body.id == worst.id).state(t)
        # A red light is beside the road, but what counts is its stop line.
        where = 'ahead' if worst.label == 'traffic light' else risk.place(state.d, state.half_d)
        best, *others = views[worst.id]
        shown_by = best[1]
        share = others[0][0] / best[0] if others else 0.0
    family = scene.family
    for start, name in scene.families:
        if t >= start:
            family = name
    return SeenTruth(WindowTruth(
        family=family, seed=scene.seed, risk=said.level,
        label=label, box=worst.box if worst else None, place=where, motion=moves,
        action=risk.action(said.level, moves, label, ego_mps),
        ttc_sec=said.ttc_sec, light=scene.look.light, weather=scene.look.weather,
        road=scene.road.kind, curve=scene.road.curve(ego_s), lanes=scene.road.lanes,
        ego_speed_mps=ego_mps, actors=actors), shown_by, share)


def _area(actor: Actor) -> float:
    """Return how much of the picture shows an actor."""
    left, top, right, bottom = actor.box
    return actor.visible * (right - left) * (bottom - top)
