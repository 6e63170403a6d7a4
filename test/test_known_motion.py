# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The motion of the own car by what it says: warps by hand, on rendered frames, and the score."""

from __future__ import annotations

from dataclasses import replace
import math

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.lab.evaluation.own_path import said_path
from vts_ros.lab.evaluation.score_recall import evidence_of
from vts_ros.lab.rivals import temporal
from vts_ros.lab.rivals.known_motion import Camera, driven, known_flow, RENDERED, unexplained
from vts_ros.lab.rivals.registry import KNOWN_MOTION, methods
from vts_ros.lab.scenes.clips import make_scene, render
from vts_ros.lab.scenes.turning_windows import make_turning_scene
from vts_ros.lab.scenes.world import HORIZON, Road, Scene, Track
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

#: One picture width of focal length, and numbers that are easy to reckon with.
BY_HAND, SIZE = Camera(1.0, 0.5, 1.5), (100, 200)
STAND = np.zeros(3)


def carried_to(row: float, column: float, start: NDArray[np.float64], end: NDArray[np.float64]
               ) -> tuple[float, float]:
    """Return row and column in the other picture of a pixel."""
    offset = known_flow(start, end, BY_HAND, SIZE)[int(row), int(column)]
    return row + float(offset[1]), column + float(offset[0])


def test_a_point_on_the_road_comes_nearer_by_what_is_driven() -> None:
    # The middle of row 69 is 19.5 pixels below the horizon, 0.0975 widths: 1.5 / 0.0975 m ahead.
    # The middle of column 119 is 0.0975 widths to the right: as far to the right as high.
    row, column = carried_to(69, 119, STAND, np.array([5.0, 0.0, 0.0]))
    ahead = 1.5 / 0.0975 - 5.0
    assert row == pytest.approx(50.0 + 200.0 * 1.5 / ahead - 0.5, abs=1e-3)
    assert column == pytest.approx(100.0 + 200.0 * 1.5 / ahead - 0.5, abs=1e-3)
    # Back again, and half a metre to the left: everything moves to the right.
    row, column = carried_to(69, 119, STAND, np.array([0.0, 0.5, 0.0]))
    assert row == pytest.approx(69.0, abs=1e-3)
    assert column == pytest.approx(119.0 + 200.0 * 0.5 * 0.0975 / 1.5, abs=1e-3)


def test_a_turn_to_the_left_moves_what_is_far_away_to_the_right() -> None:
    turned = np.array([0.0, 0.0, math.radians(10.0)])
    # Row 49 ends at the horizon; column 99 is half a pixel to the left of the middle.
    _, column = carried_to(49, 99, STAND, turned)
    assert column == pytest.approx(
        99.5 + 200.0 * math.tan(math.radians(10.0) - math.atan(0.5 / 200.0)), abs=0.01)
    # What is driven does not move it.
    both = np.array([8.0, 0.0, math.radians(10.0)])
    far = known_flow(STAND, both, BY_HAND, SIZE)[:50]
    np.testing.assert_allclose(far, known_flow(STAND, turned, BY_HAND, SIZE)[:50])
    # The road is turned by the same angle.
    edge = known_flow(STAND, turned, Camera(0.5, 0.5, 1.5), SIZE)
    at = math.degrees(math.atan((144.5 - 100.0) / 100.0))
    moved = math.degrees(math.atan((144.5 - 100.0 + edge[60, 144, 0]) / 100.0))
    assert moved - at == pytest.approx(10.0, abs=0.01)


def test_what_the_other_picture_does_not_show_is_at_its_border() -> None:
    flow = known_flow(STAND, np.array([30.0, 0.0, 0.0]), BY_HAND, SIZE)
    rows = np.arange(SIZE[0])[:, None] + flow[..., 1]
    columns = np.arange(SIZE[1]) + flow[..., 0]
    assert (rows[70:] == SIZE[0] - 1).all()
    assert columns.min() >= 0.0
    assert columns.max() <= SIZE[1] - 1
    assert not known_flow(STAND + 3.0, STAND + 3.0, BY_HAND, SIZE)[60:].round(3).any()


def test_what_is_said_becomes_a_way() -> None:
    times = np.linspace(0.0, 2.0, 41)
    straight = driven(times, np.full(41, 10.0), np.zeros(41))
    assert straight[-1] == pytest.approx([20.0, 0.0, 0.0])
    # A quarter of a circle of 8 m to the left.
    rate = 0.25 * math.pi
    bend = driven(times, np.full(41, 8.0 * rate), np.full(41, rate))
    assert bend[-1] == pytest.approx([8.0, 8.0, 0.5 * math.pi], abs=0.01)
    # It brakes from 10 m/s to a stand.
    assert driven(times, np.linspace(10.0, 0.0, 41), np.zeros(41))[-1, 0] == pytest.approx(10.0)


def without_noise(scene: Scene) -> NDArray[np.float64]:
    times = np.linspace(0.0, float(scene.times[-1]), 161)
    speed = np.array([scene.ego.at(t)[1] for t in times.tolist()])
    bends = np.array([scene.road.curvature(scene.ego.at(t)[0] - scene.setback_m)
                      for t in times.tolist()])
    return driven(times, speed, speed * bends)[::40]


@pytest.mark.parametrize('scene', [
    make_scene(1_000_000_001, 'lead braking'), make_turning_scene(1_000_000_000),
    make_turning_scene(1_000_000_001)], ids=['usual', 'turning', 'turning the other way'])
def test_what_is_said_is_how_the_renderer_drove(scene: Scene) -> None:
    path, exact = said_path(scene), without_noise(scene)
    heading = np.array([scene.road.heading(scene.view(index).s) for index in range(5)])
    assert np.degrees(np.abs(exact[:, 2] - (heading - heading[0]))).max() < 1.0
    assert np.degrees(np.abs(path[:, 2] - exact[:, 2])).max() < 1.0
    assert np.hypot(*(path - exact)[:, :2].T).max() < 0.3
    assert path.shape == (5, 3)
    assert not np.array_equal(path, exact)


def between_pixels(flow: NDArray[np.float32], column: float, row: float) -> NDArray[np.float64]:
    x, y = np.array([[column]], np.float32), np.array([[row]], np.float32)
    return np.array([float(cv2.remap(np.ascontiguousarray(flow[..., axis]), x, y,
                                     cv2.INTER_LINEAR)[0, 0]) for axis in range(2)])


@pytest.mark.parametrize(('scene', 'median_px'), [
    (make_scene(1_000_000_001, 'lead braking'), 1.0),
    (make_turning_scene(1_000_000_000, 'free road'), 5.0)], ids=['usual', 'turning'])
def test_the_road_lies_where_the_renderer_draws_it_next(scene: Scene, median_px: float) -> None:
    scene = replace(scene, shake=np.zeros_like(scene.shake))
    path = without_noise(scene)
    first, second = scene.view(2), scene.view(3)
    height, width = 128, 224
    flow = known_flow(path[2], path[3], RENDERED, (height, width))
    straight = known_flow(path[2], path[3] * [1.0, 1.0, 0.0] + [0.0, 0.0, path[2, 2]], RENDERED,
                          (height, width))
    off: list[float] = []
    without_yaw: list[float] = []
    for ahead in np.arange(6.0, 25.0, 0.5).tolist():
        for d in (-3.0, -1.5, 0.0, 1.5, 3.0):
            point = np.array([[first.s + ahead, d, 0.0]])
            here, there = (view.project(point)[0][0] for view in (first, second))
            column, row = here * width + (0.5 * width - 0.5, HORIZON * height - 0.5)
            if 1 <= column < width - 1 and 1 <= row < height - 1:
                truth = there * width + (0.5 * width - 0.5, HORIZON * height - 0.5)
                if (truth > 0).all() and truth[0] < width - 1 and truth[1] < height - 1:
                    for warp, found in ((flow, off), (straight, without_yaw)):
                        moved = np.array([column, row]) + between_pixels(warp, column, row)
                        found.append(float(np.abs(moved - truth).max()))
    assert len(off) > 20
    assert np.median(without_yaw) > 5.0 * np.median(off)
    # The renderer's roads are parabolas, not circles; a visual token has 32 pixels.
    assert np.median(off) < median_px
    assert max(off) < 16.0


def textured(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).random((128, 224, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.asarray(255.0 * (smooth - smooth.min()) / np.ptp(smooth), np.uint8)


def test_what_moves_by_itself_is_left_over() -> None:
    path = np.array([[0.0, 0.0, 0.0], [1.5, 0.1, 0.05]])
    second = textured(0)
    rows, columns = np.mgrid[0:128, 0:224].astype(np.float32)
    flow = known_flow(path[0], path[1], RENDERED, (128, 224))
    first = cv2.remap(second, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
    first[64:96, 96:128] = textured(1)[64:96, 96:128]
    frames = np.stack([first, second])
    # The oldest frame is compared with the next one, all others with the one before.
    left = unexplained(frames, path, RENDERED, (4, 7))[0].reshape(4, 7)
    assert np.unravel_index(left.argmax(), left.shape) == (2, 3)
    others = np.delete(left.ravel(), 2 * 7 + 3)
    assert left.max() > 3.0 * others.max()
    # Without the motion all of it is new.
    assert np.median(unexplained(frames, np.zeros((2, 3)), RENDERED, (4, 7))) > 2.0 * np.median(
        left)


def test_what_the_car_drives_over_is_compared_with_the_frame_before() -> None:
    frames = np.full((3, 128, 224, 3), 100, np.uint8)
    frames[1, 104:, 100:124] = 200
    path = np.array([[5.0 * number, 0.0, 0.0] for number in range(3)])
    left = unexplained(frames, path, RENDERED, (4, 7)).reshape(3, 4, 7)
    # The next frame does not show that place any more; the other two frames do not show it.
    assert left[1, 3, 3] > 0.1
    assert left[2].max() == 0.0
    assert np.delete(left[1].ravel(), 3 * 7 + 3).max() < 0.05


def test_known_motion_explains_a_straight_rendered_road() -> None:
    scene = make_scene(1_000_000_000, 'free road')
    road = Road('country road', 1, 0, 3.4, 1, (False, False), ((0.0, 0.0),), 300.0)
    scene = replace(scene, road=road, bodies=(), props=(), ego=Track.steady(0.0, 20.0, 12.0),
                    shake=np.zeros_like(scene.shake),
                    look=scene.look._replace(light='day', weather='clear'))
    frames = render(scene).frames
    known = unexplained(frames, said_path(scene), RENDERED, (4, 7))[1:].reshape(-1, 4, 7)
    ignored = unexplained(frames, np.zeros((5, 3)), RENDERED, (4, 7))[1:].reshape(-1, 4, 7)
    # A dash moves by metres; lines along the road, which do not, are drawn a pixel too wide.
    assert known.max() < 0.6 * ignored.max()


def test_scores_of_a_standing_car_are_those_without_motion() -> None:
    pipeline = Pipeline.load(PipelineConfig())
    scene = make_turning_scene(1_000_000_001)
    evidence = evidence_of(pipeline, render(scene), np.zeros((5, 3)))
    sparsifier = pipeline.sparsifier
    shipped = sparsifier.choose(evidence.proposals, evidence.grid, 1)
    np.testing.assert_allclose(temporal.known_novelty(sparsifier, evidence), shipped.score,
                               atol=1e-5)
    still = evidence._replace(frames=np.repeat(evidence.frames[:1], 5, axis=0))
    np.testing.assert_allclose(temporal.known_residual(sparsifier, still),
                               temporal.importance(sparsifier, evidence), atol=1e-6)
    # With its path, other frames than the key frame get another score.
    moved = temporal.known_novelty(sparsifier, evidence._replace(path=said_path(scene)))
    differs = (np.abs(moved - shipped.score) > 1e-4).any(axis=1)
    assert not differs[shipped.key]
    assert differs.sum() == 4
    unknown = evidence._replace(path=None)
    for method in methods(sparsifier, KNOWN_MOTION):
        with pytest.raises(ValueError, match='path of the car'):
            method.keep(unknown, 5)
    pipeline.close()
