# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a correct answer about a window of a recording says, by the boxes of a teacher.

The tracks of the boxes give what the risk rule of the renderer asks for, so that rendered and real
windows are labelled by the same rule. What boxes do not tell is not in the labels: lamps, brake
lights, children among people, light, weather and road.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vts_ros.lab.box_tracks import BoxTrack, link, Moving, moving, USUAL
from vts_ros.lab.scenes import ground_truth, risk_rule
from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth, WindowTruth
from vts_ros.lab.scenes.world import CAMERA_SETBACK_M, State
from vts_ros.lab.teacher import Found, Kind, RoadUser, SURE
from vts_ros.pipeline.frames import Frame

#: Family of windows of recordings.
RECORDED = 'recording'
#: What a kind is called: that of its labels which is most frequent on roads.
LABEL: dict[Kind, str] = {'person': 'pedestrian', 'two-wheeler': 'cyclist', 'car': 'car',
                          'heavy vehicle': 'truck', 'animal': 'animal'}
#: Labels that a teacher cannot tell apart, or that come to the same.
ALIKE: dict[str | None, Kind] = {
    'pedestrian': 'person', 'child': 'person', 'cyclist': 'two-wheeler',
    'motorcycle': 'two-wheeler', 'car': 'car', 'truck': 'heavy vehicle', 'bus': 'heavy vehicle',
    'animal': 'animal'}
#: Speed of the car where the recording does not say it.
USUAL_MPS = 20.0
#: A relative speed with a larger error says nothing about the risk of what is so near.
_LARGEST_ERROR_MPS, _NEAR_M = 3.0, 40.0

#: No vehicle that drives along the road moves sideways as fast: it is a bend, or two vehicles.
_SLIDING_MPS = 2.5
#: As the renderer has it: from this deceleration on something brakes, m/s2.
_BRAKING = 0.5
#: How far aside the camera may look, as a share of the distance: two thirds of a degree.
_ASIDE = 0.012
#: Slower than this the car stands, m/s.
_DRIVING_MPS = 3.0
#: Within this factor of the speed of the car things stand, and people and animals, which are of
#: any size and always slow.
_STANDING_SPREAD, _SLOW_SPREAD = 1.15, 1.7
_SLOW: frozenset[Kind] = frozenset(('person', 'animal'))
#: How far away road users have to be to tell of a bend, and how many of them.
_BEND_M, _BEND_LEAST = 8.0, 3


class RoadTruth(NamedTuple):
    """
    The labels of a window of a recording.

    Attributes
    ----------
    window
        Without light, weather, road, curve and lanes, which are None.
    frames
        Truth of each frame.
    is_clear
        Whether the level and the object stay the same if the limits of the rule are moved, or if
        the camera looks aside a little, and nothing near has just come into sight.

    """

    window: WindowTruth
    frames: tuple[FrameTruth, ...]
    is_clear: bool


class _Seen(NamedTuple):
    """A road user that is in the newest frame, and how it moves."""

    track: BoxTrack
    moving: Moving

    @property
    def label(self) -> str:
        return LABEL[self.track.kind]

    @property
    def half_width(self) -> float:
        return 0.5 * USUAL[self.track.kind].width

    def state(self, seconds: float, ego_mps: float) -> State:
        """Return it as the renderer would tell it."""
        ahead, across = self.moving.at(seconds)
        speed = ego_mps + self.moving.speed_ahead
        return State(ahead, across, speed, self.moving.speed_across, self.moving.faster, 0.0,
                     0.5 * USUAL[self.track.kind].length, self.half_width)


def road_truth(window: Sequence[Frame], found: Found, aspect: float,
               ego_mps: float = USUAL_MPS) -> RoadTruth:
    """
    Return the labels of a window of a recording.

    Parameters
    ----------
    window
        Its frames, of one camera.
    found
        Road users by frame; all frames from the first to the newest of the window are used, which
        are more than the window has.
    aspect
        Height over width of the pictures.
    ego_mps
        Speed of the car.

    """
    camera, newest = window[-1].camera, window[-1].stamp_ns
    stamps = sorted(stamp for of, stamp in found
                    if of == camera and window[0].stamp_ns <= stamp <= newest)
    users = {stamp: [user for user in found[camera, stamp] if user.confidence >= SURE]
             for stamp in stamps}
    return label([frame.stamp_ns for frame in window], users, aspect, ego_mps)


def label(stamps_ns: Sequence[int], users: Mapping[int, Sequence[RoadUser]], aspect: float,
          ego_mps: float) -> RoadTruth:
    """
    Return the labels of a window.

    Parameters
    ----------
    stamps_ns
        Of the frames of the window, oldest first.
    users
        Road users by stamp, of these frames and of any in between.

    """
    newest = stamps_ns[-1]
    tracks = link([(1e-9 * (stamp - newest), users[stamp]) for stamp in sorted(users)])
    seen = [_Seen(track, _standing(how, track.kind, ego_mps)) for track in tracks
            if track.is_present and (how := moving(track, aspect)) is not None]
    bend = _bend(seen)
    # What has just come into sight drives like us, or it is on foot and stands.
    seen = [item._replace(moving=item.moving.on_bend(bend, item.track.middle_sec).sure(
        -ego_mps if item.track.kind in _SLOW else 0.0)) for item in seen]
    movers = [_mover(number, item, ego_mps) for number, item in enumerate(seen)]
    verdict = risk_rule.assess(ego_mps, movers)
    frames = tuple(_frame(stamp, 1e-9 * (stamp - newest), seen, verdict.id, ego_mps)
                   for stamp in stamps_ns)
    actor = next((actor for actor in frames[-1].actors if actor.is_risk), None)
    place = None if verdict.id is None else risk_rule.place(
        movers[verdict.id].d, movers[verdict.id].half_d)
    name, moves = (actor.label, actor.motion) if actor else (None, None)
    known = all(_is_known(item, mover) for item, mover in zip(seen, movers))
    same = all(risk_rule.assess(ego_mps, [
        mover._replace(d=mover.d + aside * mover.near) for mover in movers])[:2] == verdict[:2]
        for aside in (-_ASIDE, _ASIDE))
    return RoadTruth(WindowTruth(
        family=RECORDED, seed=newest, risk=verdict.level, label=name,
        box=actor.box if actor else None, place=place, motion=moves,
        action=risk_rule.action(verdict.level, moves, name, ego_mps), ttc_sec=verdict.ttc_sec,
        light=None, weather=None, road=None, curve=None, lanes=None, ego_speed_mps=ego_mps,
        actors=frames[-1].actors), frames,
        known and same and risk_rule.is_clear(ego_mps, movers, verdict))


def _is_known(item: _Seen, mover: risk_rule.Mover) -> bool:
    """Return whether what is near moves as the boxes say, and as such a thing can move."""
    is_vehicle = item.track.kind in ('car', 'heavy vehicle')
    slides = is_vehicle and _SLIDING_MPS < abs(mover.vd) < abs(mover.vs)
    return not slides and (item.moving.error_ahead < _LARGEST_ERROR_MPS
                           or item.moving.ahead > _NEAR_M)


def _standing(how: Moving, kind: Kind, ego_mps: float) -> Moving:
    """
    Return how something moves, larger or smaller if it stands.

    What comes nearer about as fast as the car drives stands, or walks, and is as far away as
    follows from that, whatever the usual size of its kind is.
    """
    if ego_mps < _DRIVING_MPS or how.speed_ahead >= 0.0 or how.error_ahead == np.inf:
        return how
    factor = -ego_mps / how.speed_ahead
    spread = _SLOW_SPREAD if kind in _SLOW else _STANDING_SPREAD
    return how.scaled(factor) if 1.0 / spread < factor < spread else how


def _bend(seen: Sequence[_Seen]) -> float:
    """
    Return the curvature of the road, 1/m, by which most road users go along it.

    Where the car comes nearer to something in a bend, it seems to move sideways.
    """
    found = [item.moving.speed_across / (item.moving.at(item.track.middle_sec)[0]
                                         * item.moving.speed_ahead)
             for item in seen if item.moving.speed_ahead < -_DRIVING_MPS
             and item.moving.ahead > _BEND_M and item.moving.error_across < np.inf]
    return float(np.median(found)) if len(found) >= _BEND_LEAST else 0.0


def _mover(number: int, item: _Seen, ego_mps: float) -> risk_rule.Mover:
    how, usual = item.moving, USUAL[item.track.kind]
    near = how.ahead - CAMERA_SETBACK_M
    return risk_rule.Mover(number, item.label, near, near + usual.length, how.across,
                           item.half_width, ego_mps + how.speed_ahead, how.speed_across,
                           -how.faster if how.faster < -_BRAKING else 0.0)


def _frame(stamp: int, seconds: float, seen: Sequence[_Seen], risk: int | None, ego_mps: float
           ) -> FrameTruth:
    actors = []
    for number, item in enumerate(seen):
        box = next((user.box for when, user in item.track.sightings if when == seconds), None)
        if box is None:
            continue
        state = item.state(seconds, ego_mps)
        actors.append(Actor(
            number, item.label, box, visible=1.0, distance_m=state.s - CAMERA_SETBACK_M,
            lateral_m=state.d, speed_mps=state.speed,
            motion=ground_truth.motion(item.label, state, ego_mps, emerged=False),
            is_risk=number == risk))
    return FrameTruth(stamp, ego_mps, tuple(actors))
