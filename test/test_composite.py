# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered hazards over the pictures of a recording."""

from __future__ import annotations

import json
from pathlib import Path

from all_commands import app
from bag_maker import drive, picture
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.lab.scenes.clips import make_scene, render
from vts_ros.lab.scenes.composite import _cut, Backdrop, bare, render_over, scenes_over, SIZE
from vts_ros.lab.scenes.model_picture import SHIPPED
from vts_ros.lab.scenes.world import HORIZON
from vts_ros.lab.training import shards as shards_module
from vts_ros.lab.training.shards import render_shards, Shards


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drive(tmp_path_factory.mktemp('bags') / 'bag', 40)


@pytest.mark.parametrize('place', [(0.5, 0.585), (0.4, 0.3), (0.6, 0.45)])
def test_the_vanishing_point_comes_to_that_of_the_renderer(place: tuple[float, float]) -> None:
    rgb = np.zeros((540, 960, 3), np.uint8)
    x, y = round(place[0] * 960), round(place[1] * 540)
    rgb[y - 6:y + 6, x - 6:x + 6] = 255
    cut = _cut(rgb, place)
    rows, columns = np.nonzero(cut[..., 0] > 127)
    assert (columns.mean() + 0.5) / SIZE[0] == pytest.approx(0.5, abs=0.01)
    assert (rows.mean() + 0.5) / SIZE[1] == pytest.approx(HORIZON, abs=0.01)
    # Rows and columns are scaled alike.
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)


def test_only_actors_are_drawn_over_and_where_the_truth_has_them() -> None:
    scene = bare(make_scene(3, 'following', level='high'))
    assert scene is not None
    grey = [np.full((256, 448, 3), 128, np.uint8)] * 5
    clip = render_over(scene, grey, 224, 128)
    changed = np.abs(clip.frames[-1].astype(int) - 128).max(axis=2) > 8
    inside = np.zeros_like(changed)
    for actor in clip.truths[-1].actors:
        x1, y1, x2, y2 = (round(edge * side) for edge, side in zip(actor.box, (224, 128) * 2))
        inside[max(y1 - 2, 0):y2 + 3, max(x1 - 2, 0):x2 + 3] = True
    risk = next(actor for actor in clip.truths[-1].actors if actor.is_risk)
    x1, y1, x2, y2 = (round(edge * side) for edge, side in zip(risk.box, (224, 128) * 2))
    assert changed[y1:y2, x1:x2].mean() > 0.6
    # Some shadows reach out of the boxes.
    assert changed[~inside].mean() < 0.03
    assert clip.window_truth().risk == 'high'


def test_the_truth_is_that_of_the_same_scene_on_rendered_ground() -> None:
    scene = bare(make_scene(9, 'pedestrian crossing', level='medium'))
    assert scene is not None
    assert scene.road.curve(0.0) == 'straight'
    assert not scene.props
    over = render_over(scene, [np.zeros((256, 448, 3), np.uint8)] * 5)
    assert over.truths == render(scene).truths
    assert over.window_truth() == render(scene).window_truth()


def test_the_road_flows_as_fast_as_the_scene_drives() -> None:
    numbers = np.arange(100, dtype=np.uint8)
    stamps = numbers.astype(np.float64) / 10
    pictures = np.broadcast_to(numbers[:, None, None, None], (100, 2, 2, 3))
    scene = make_scene(5, 'pedestrian crossing', level='medium')
    speed = scene.ego.at(0.0)[1]
    behind = Backdrop(pictures, stamps, speed_mps=speed).behind(scene)
    assert behind is not None
    assert np.diff([int(backdrop[0, 0, 0]) for backdrop in behind]).tolist() == [4, 4, 4, 4]
    behind = Backdrop(pictures, stamps, speed_mps=4 * speed).behind(scene)
    assert behind is not None
    assert np.diff([int(backdrop[0, 0, 0]) for backdrop in behind]).tolist() == [1, 1, 1, 1]
    assert Backdrop(pictures[:3], stamps[:3], speed_mps=speed).behind(scene) is None


def test_scenes_over_a_recording_stay_in_their_split(bag: Path) -> None:
    backdrop = Backdrop.load(bag)
    assert backdrop.pictures.shape == (40, SIZE[1], SIZE[0], 3)
    found = list(scenes_over([backdrop], 'test', 24, first=8))
    assert 8 <= len(found) <= 24
    assert {scene.seed for scene, _ in found} <= set(range(1_100_000_008, 1_100_000_032))
    for scene, behind in found:
        assert len(behind) == 5
        assert scene.look[:2] == ('day', 'clear')
    # The colour of the recording is that of the sky.
    assert np.abs(found[0][1][0][5, 5].astype(int) - picture(0)[5, 5]).max() < 12


def test_the_begin_of_a_recording_is_enough(bag: Path) -> None:
    whole, begin = Backdrop.load(bag), Backdrop.load(bag, first_sec=2.0)
    assert begin.stamps[-1] - begin.stamps[0] == pytest.approx(2.0, abs=0.21)
    assert 1 < len(begin.pictures) < len(whole.pictures)
    np.testing.assert_array_equal(begin.pictures, whole.pictures[:len(begin.pictures)])


def test_shards_over_recordings_come_beside_the_others(
        bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, 'SHARD_WINDOWS', 4)
    shards_module.render_shard(shards_module.Job(
        tmp_path / 'train-over-0000.npy', 'train', 0, 4, SHIPPED, (bag,)))
    shards = Shards(tmp_path)
    assert 1 <= len(shards) <= 4
    assert shards.over == len(shards)
    assert shards[0].frames.shape == (5, 128, 224, 3)
    # Rendered skies are blue in another way than those of this recording.
    assert np.abs(np.median(shards[0].frames[0, :20], axis=(0, 1)) - (90, 140, 200)).max() < 20
    render_shards(tmp_path, 'train', 4, workers=1, over=(bag,))
    assert sorted(path.name for path in tmp_path.glob('*.npy')) == ['train-over-0000.npy']


@pytest.mark.slow
def test_eval_scenes_over_a_recording(bag: Path) -> None:
    done = CliRunner().invoke(app, ['eval', 'scenes', '--n', '3', '--budgets', '0.6',
                                    '--over', str(bag), '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    assert 1 <= result['over']['n'] == result['rendered']['n'] <= 3
    assert result['over']['bags'] == ['bag']
    # The pictures of this recording are like nothing that is rendered, so the guard marks all.
    assert result['over']['marked'] == 1.0
    assert 'marked' not in result['rendered']
    assert set(result['over']['vts']) == {'0.6'}
