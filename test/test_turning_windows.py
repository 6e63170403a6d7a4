# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered windows that turn fast, and that the windows beside them stay what they were."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vts_ros.lab.evaluation.score_recall import turning_deg
from vts_ros.lab.scenes.clips import balanced, balanced_scenes, make_scene, render, SPLITS
from vts_ros.lab.scenes.silhouette import silhouette
from vts_ros.lab.scenes.stage import CITY
from vts_ros.lab.scenes.turning_windows import (
    make_turning_scene,
    RADIUS_M,
    SIDEWAYS_MPS2,
    turning_scenes,
)
from vts_ros.lab.scenes.world import Scene

#: Of the first windows of each split, as they were before there were others.
BEFORE = '37d29a976480d06f420e803c6a74459ff12b0e5589852fd99e0b03f20348222d'


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    return list(turning_scenes('val', 24))


def test_all_turn_faster_than_ten_degrees_per_second_to_both_sides(scenes: list[Scene]) -> None:
    low, high = (np.degrees(np.sqrt(a / r)) for a, r in zip(SIDEWAYS_MPS2, RADIUS_M[::-1]))
    sides = set()
    for scene in scenes:
        assert low - 0.01 <= turning_deg(scene) <= high + 0.01
        # How the camera itself turned between the two newest frames.
        before, last = (scene.road.heading(scene.view(index).s) for index in (3, 4))
        assert abs(np.degrees(last - before)) / scene.interval_sec > 10.0
        sides.add(np.sign(last - before))
        assert scene.road.kind == CITY
        assert scene.road.curve(scene.view(4).s) == ('left' if last > before else 'right')
    assert low > 10.0
    assert sides == {-1.0, 1.0}


def test_the_course_of_a_bend_is_that_of_its_curvature(scenes: list[Scene]) -> None:
    for scene in scenes[:6]:
        road, s = scene.road, scene.view(4).s
        ahead = np.arange(s, s + 5.0, 0.05)
        # The offset is the integral of the heading, and that of the curvature.
        slope = np.diff(road.offset(ahead)) / 0.05
        heading = np.array([road.heading(at) for at in (ahead[:-1] + 0.025).tolist()])
        assert np.degrees(np.abs(np.arctan(slope) - np.arctan(heading))).max() < 0.6
        assert np.hypot(*np.diff(scene.view(4).project(np.stack(
            [ahead, 0 * ahead, 0 * ahead], axis=1))[0], axis=0).T).max() < 0.6


def test_they_have_their_families_and_levels_and_are_reproducible(scenes: list[Scene]) -> None:
    for number, scene in enumerate(scenes):
        family, level = balanced(number)
        said = render(scene, 56, 32).window_truth()
        assert (said.family, said.risk) == (family, level)
    again = make_turning_scene(SPLITS['val'][5], *balanced(5)[:1], level=balanced(5)[1])
    assert (render(again).frames == render(scenes[5]).frames).all()
    assert (render(make_scene(SPLITS['val'][5], *balanced(5)[:1], level=balanced(5)[1])).frames
            != render(scenes[5]).frames).any()


def test_boxes_lie_on_the_actors_in_a_bend(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        for actor in render(scene).truths[-1].actors:
            body = next(body for body in scene.bodies if body.id == actor.id)
            left, top, right, bottom = actor.box
            inside = min(left, top) > 0.0 and max(right, bottom) < 1.0
            if inside and body.kind != 'traffic light':
                shown = silhouette(scene, 4, body, 960, 540, alone=True)
                rows, columns = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
                drawn = (columns[0] / 960, rows[0] / 540,
                         (columns[-1] + 1) / 960, (rows[-1] + 1) / 540)
                np.testing.assert_allclose(drawn, actor.box, atol=0.01)
                checked += 1
    assert checked > 30


def test_windows_that_were_there_before_stay_what_they_are() -> None:
    digest = hashlib.sha256()
    for split in SPLITS:
        for scene in balanced_scenes(split, 24):
            s, speed, _ = scene.ego.at(1.6)
            digest.update(f'{scene.family} {s:.4f} {speed:.4f} {scene.road.heading(s):.5f} '
                          f'{scene.look} {len(scene.props)}'.encode())
            for body in scene.bodies:
                state = body.state(1.6)
                digest.update(f'{body.kind} {state.s:.4f} {state.d:.4f} {state.yaw:.4f}'.encode())
    assert digest.hexdigest() == BEFORE
