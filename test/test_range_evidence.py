# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What range is worth: the ranges of the renderer, the comparison, the section of a page."""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import partial
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.lab.cli.range_command import PAGE, SECTION
from vts_ros.lab.evaluation import range_evidence
from vts_ros.lab.evaluation.generated_page import Run, write_section
from vts_ros.lab.evaluation.range_evidence import (
    compare,
    FORMS,
    GRID,
    measure,
    RangeWindow,
    section,
    SENSORS,
)
from vts_ros.lab.ranges.closeness import closeness
from vts_ros.lab.ranges.range_projection import in_camera, Lens
from vts_ros.lab.ranges.range_sense import Measured
from vts_ros.lab.scenes.clips import make_scene, SPLITS
from vts_ros.lab.scenes.ground_truth import frame_truth
from vts_ros.lab.scenes.scene_range import (
    CAMERA,
    cloud,
    depth_map,
    FAR_M,
    HEIGHT,
    scene_at,
    SENSOR_TO_CAMERA,
    SensorNoise,
    WIDTH,
)
from vts_ros.lab.scenes.world import CAMERA_HEIGHT_M, CAMERA_SETBACK_M, Scene
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE

FRAMES, CELLS = 5, GRID[0] * GRID[1]


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene(SPLITS['val'][3], 'pedestrian crossing', level='high')


def window(seed: int, row: int, is_dark: bool) -> RangeWindow:
    """Return a window whose object is the second row of tokens, and where one row is close."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(FRAMES, EMBEDDING_CHANNELS, *MAP_SIZE)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    tokens = np.zeros((FRAMES, *GRID), bool)
    tokens[:, 1] = True
    # A row of tokens is three of the maps. There something is reached at once, straight ahead;
    # everywhere else it is far, and beside the path.
    ttc_sec, ranges = np.full((2, *MAP_SIZE), np.inf, np.float32)
    ttc_sec[3 * row:3 * row + 3] = 0.5
    ranges[:] = 1e6
    ranges[3 * row:3 * row + 3] = 1e-3
    measured = Measured(ranges, ttc_sec, Lens.of(CAMERA, (), WIDTH, HEIGHT))
    return RangeWindow(
        tuple(map(Proposal, rng.random((FRAMES, *MAP_SIZE), np.float32), embedding)),
        tokens.reshape(FRAMES, CELLS), {name: [measured] * FRAMES for name in SENSORS}, is_dark)


@pytest.mark.parametrize(('row', 'sign'), [(1, 1), (3, -1)])
def test_range_of_the_object_helps_and_that_of_something_else_costs(
        sparsifier: Sparsifier, row: int, sign: int) -> None:
    steps = Counter[str]()
    windows = [*(window(seed, row, seed < 2) for seed in range(6)), None]
    found = compare(windows, sparsifier, (0.1, 0.2), partial(steps.update, ['window']))
    assert (found['windows'], found['objects'], steps['window']) == (7, 6, 7)
    assert (found['absent'], found['uneven']) == (0, 0)
    for forms, form in itertools.product(found['budgets'].values(), FORMS):
        for conditions in forms[form].values():
            assert [conditions[name]['n'] for name in range_evidence.CONDITIONS] == [6, 2, 4]
            row_of_all = conditions['all']
            assert sign * row_of_all['difference'] > 0.02
            low, high = row_of_all['interval']
            assert low <= row_of_all['difference'] <= high


def test_the_section_is_written_into_the_page(tmp_path: Path, sparsifier: Sparsifier) -> None:
    result = compare([window(0, 1, False)], sparsifier, (0.1,))
    result.update(split='val', seed=5)
    lines = list(section(result, Run('vts eval range', date(2026, 11, 27), 'a machine', 60.0)))
    # The real page has the place.
    page = tmp_path / PAGE
    page.write_text((Path(__file__).parents[1] / 'docs' / PAGE).read_text())
    text = write_section(page, SECTION, lines).read_text()
    assert '    vts eval range\n' in text
    assert text.count('| 10% | all | 1 |') == len(FORMS)
    # Windows of a condition that there are none of have no row.
    assert '| 10% | night or rain |' not in text
    assert '1 rendered windows of val (from seed 5 on' in text


def cells_of(scene: Scene, index: int, label: str) -> NDArray[np.bool_]:
    """Return the pixels in the middle of the nearest actor of a kind."""
    actor = next(actor for actor in frame_truth(scene, index).actors if actor.label == label)
    left, top, right, bottom = actor.box
    rows = (np.arange(HEIGHT) + 0.5) / HEIGHT
    columns = (np.arange(WIDTH) + 0.5) / WIDTH
    middle = 0.5 * (left + right)
    return ((rows > top) & (rows < bottom))[:, None] & (
        abs(columns - middle) < 0.3 * (right - left))


def test_the_depth_of_an_actor_and_of_the_road_is_that_of_the_scene(scene: Scene) -> None:
    index = len(scene.times) - 1
    depth = depth_map(scene, index)
    actor = next(actor for actor in frame_truth(scene, index).actors
                 if actor.label == 'pedestrian')
    on_actor = depth[cells_of(scene, index, 'pedestrian')]
    # From the camera, which is behind the bumper; a person is half a metre thick.
    expected = actor.distance_m + CAMERA_SETBACK_M
    near = abs(on_actor - expected) < 0.6
    assert near.mean() > 0.5
    assert np.median(on_actor) == pytest.approx(expected + 0.2, abs=0.5)
    # In the last row the road is where the ray meets the ground.
    slope = (HEIGHT - 1 - CAMERA[1, 2]) / CAMERA[1, 1] + scene.view(index).pitch
    assert np.median(depth[-1]) == pytest.approx(CAMERA_HEIGHT_M / slope, rel=0.05)
    # A moment ago it was farther away, by what the car has driven.
    before = depth_map(*scene_at(scene, index, 0.3))[cells_of(scene, index, 'pedestrian')]
    _, speed, _ = scene.ego.at(float(scene.times[index]))
    assert np.median(before) - np.median(on_actor) == pytest.approx(0.3 * speed, abs=0.4)


def test_a_sensor_with_noise_loses_points_and_more_in_rain(scene: Scene) -> None:
    depth = depth_map(scene, 0)
    exact = in_camera(cloud(depth), SENSOR_TO_CAMERA)
    seen = depth[depth < FAR_M]
    assert len(exact) == len(seen)
    np.testing.assert_allclose(np.sort(exact[:, 2]), np.sort(seen), rtol=1e-5)
    noise = SensorNoise()
    dry, wet = (in_camera(cloud(depth, noise, is_rain, (1,)), SENSOR_TO_CAMERA)
                for is_rain in (False, True))
    assert len(dry) == pytest.approx(len(seen) * (1 - noise.lost) / noise.rows, rel=0.05)
    assert len(wet) < 0.75 * len(dry)
    # The same seed gives the same points, another one others.
    np.testing.assert_array_equal(cloud(depth, noise, False, (1,)),
                                  cloud(depth, noise, False, (1,)))
    assert len(cloud(depth, noise, False, (2,))) != len(dry)


@pytest.mark.slow
def test_somebody_before_the_car_is_close_by_exact_and_by_noisy_range(scene: Scene) -> None:
    found = {name: [closeness(*frame) for frame in frames]
             for name, frames in measure(scene).items()}
    truth = frame_truth(scene, len(scene.times) - 1)
    left, top, right, bottom = next(
        actor.box for actor in truth.actors if actor.label == 'pedestrian')
    row = int(0.5 * (top + bottom) * MAP_SIZE[0])
    column = int(0.5 * (left + right) * MAP_SIZE[1])
    for name in SENSORS:
        assert len(found[name]) == len(scene.times)
        close = found[name][-1]
        assert close.shape == MAP_SIZE
        assert close[row, column] > 0.9
        # The road and the sky are not.
        assert close[-1].max() == 0.0
        assert close[:, column][:2].max() < 0.5
