# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows that several cameras of a car see: geometry, truth, lessons, and what is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date
import json
import logging
import math
from pathlib import Path
from typing import Any

from bag_maker import picture
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from vts_ros.errors import VlmError
from vts_ros.lab.evaluation import camera_recall
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.camera_evaluation import (
    _chosen,
    _figures,
    _rate,
    _shown,
    ADAPTER,
    AHEAD,
    ALL,
    ASIDE,
    GROUPS,
    IN_FRONT,
    NOTHING,
    section,
    WAYS,
)
from vts_ros.lab.evaluation.generated_page import Run
from vts_ros.lab.rivals.registry import AS_ONE, as_one_method, methods
from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.clips import make_scene
from vts_ros.lab.scenes.drawing import draw, in_front
from vts_ros.lab.scenes.driving_lessons import driving_lessons
from vts_ros.lab.scenes.hazards import FAMILIES
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.lab.scenes.several_cameras import (
    camera_windows,
    CAMERAS,
    CameraWindow,
    FRONT,
    LEFT,
    make_camera_window,
    pair_windows,
    RIGHT,
    seen_by,
    SIDE_FAMILIES,
)
from vts_ros.lab.scenes.shapes import sketch
from vts_ros.lab.scenes.world import FOCAL, NEAREST_M, View
from vts_ros.paths import model_path
from vts_ros.pipeline.compressed_images import decode_image
from vts_ros.pipeline.early_risk import EarlyRisk
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm.answers import Answer, parse
from vts_ros.vlm.conventions import TRAINED_HERE
from vts_ros.vlm.prompts import Prompts

#: Those of models that have learned to tell cameras by number.
NUMBERED = Prompts.load(convention=replace(TRAINED_HERE, numbers_cameras=True)).description


@pytest.fixture(scope='module')
def windows() -> list[CameraWindow]:
    return list(camera_windows('val', 64))


def test_a_turned_camera_sees_what_is_where_it_looks() -> None:
    road = make_scene(3, 'free road').road.straight()
    for degrees in (50.0, -50.0):
        yaw = math.radians(degrees)
        view = View(road, 100.0, yaw=yaw)
        # 10 m along the axis of the camera, and 1 m to the left of that.
        axis = np.array([math.cos(yaw), math.sin(yaw)])
        left = np.array([-axis[1], axis[0]])
        points = np.array([(100.0, 0.0, 1.4)] * 2)
        points[:, :2] += 10.0 * axis + np.outer((0.0, 1.0), left)
        (middle, aside), depth = view.project(points)
        assert middle == pytest.approx((0.0, 0.0), abs=1e-9)
        assert aside == pytest.approx((-FOCAL / 10.0, 0.0), abs=1e-9)
        assert depth == pytest.approx((10.0, 10.0))
        assert view.depth(points) == pytest.approx((10.0, 10.0))


def test_what_is_behind_a_camera_is_cut_off() -> None:
    square = np.array([(0.0, 0.0, 0.0), (4.0, 0.0, 0.0), (4.0, 2.0, 0.0), (0.0, 2.0, 0.0)])
    ahead = square[:, 0] - 2.0
    cut = in_front(square, ahead)
    assert sorted(cut[:, 0].tolist()) == pytest.approx([2.0 + NEAREST_M] * 2 + [4.0] * 2)
    # Its corners keep their order: it is still a rectangle of 2 m.
    x, y = cut[:, 0], cut[:, 1]
    area = 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
    assert area == pytest.approx(2.0 * (2.0 - NEAREST_M))
    assert np.array_equal(in_front(square, ahead + 10.0), square)
    assert len(in_front(square, ahead - 10.0)) == 0


def test_a_vehicle_beside_the_camera_has_a_box_within_what_is_seen_of_it() -> None:
    """Its polygons behind the camera count for no box, and do not turn it inside out."""
    window = next(window for window in camera_windows('val', 64)
                  if window.truth.family == 'drifting alongside' and window.camera == LEFT)
    scene = dict(zip(window.cameras, window.scenes))[LEFT]
    body = next(body for body in scene.bodies if body.id in scene.hazards)
    t = float(scene.times[-1])
    beside = replace(scene.view(4), s=body.state(t).s + 2.0)
    drawn = draw([sketch(body, t, beside, False)], beside)
    left, top, right, bottom = drawn.bounds[0].tolist()
    assert left < right
    assert top < bottom
    assert np.isfinite(drawn.points).all()
    # It stands on the left of the camera that looks to the left: its end is out of the picture.
    assert -10.0 < left < -0.5
    # Wholly behind the camera it is not in the picture at all.
    behind = replace(beside, s=body.state(t).s + 30.0)
    edges = draw([sketch(body, t, behind, False)], behind).bounds[0]
    assert edges[0] > 0.5 or edges[2] < -0.5


def test_levels_are_balanced_and_hazards_are_on_all_sides(windows: list[CameraWindow]) -> None:
    assert Counter(window.truth.risk for window in windows) == dict.fromkeys(
        ('none', 'low', 'medium', 'high'), 16)
    where = Counter(window.camera for window in windows)
    assert where[None] == 16
    assert where[LEFT] + where[RIGHT] >= 8
    assert where[FRONT] >= 16
    assert min(where[LEFT], where[RIGHT]) >= 2
    assert Counter(len(window.cameras) for window in windows) == {3: 48, 2: 16}
    families = Counter(window.truth.family in SIDE_FAMILIES for window in windows)
    assert families == {True: 32, False: 32}
    assert all(window.truth.family in {**FAMILIES, **SIDE_FAMILIES} for window in windows)


def test_the_truth_is_that_of_all_cameras_together(windows: list[CameraWindow]) -> None:
    hidden = 0
    for window in windows:
        scene = window.scenes[0]
        _, ego_mps, _ = scene.ego.at(float(scene.times[-1]))
        seen = {found.id: found for camera in window.scenes for found in truth.movers(camera, 4)}
        assert risk.assess(ego_mps, list(seen.values())).level == window.truth.risk
        if window.camera is None:
            assert window.truth.label is None
            continue
        shown = dict(zip(window.cameras, window.scenes))
        found = next(actor for actor in truth.frame_truth(shown[window.camera], 4).actors
                     if actor.id in scene.hazards and actor.label == window.truth.label)
        assert found.box == window.truth.box
        if window.camera != FRONT:
            ahead, = seen_by(scene, (FRONT,))
            hidden += truth.window_truth(ahead, 4).risk != window.truth.risk
    # What is at a side is mostly not to be known from the camera that looks ahead.
    aside = sum(window.camera in (LEFT, RIGHT) for window in windows)
    assert hidden >= 0.7 * aside


def test_windows_are_reproducible_and_each_camera_shows_its_own() -> None:
    first, again = (make_camera_window(1_000_000_777, 'crossing traffic', 'high')
                    for _ in range(2))
    pictures = first.frames()
    assert list(pictures) == list(CAMERAS)
    for name, frames in again.frames().items():
        assert np.array_equal(frames, pictures[name])
        assert frames.shape == (5, 128, 224, 3)
    assert len({frames.tobytes() for frames in pictures.values()}) == 3
    # The camera that looks ahead sees what a car with this camera alone sees.
    scene = first.scenes[0]
    assert scene.yaw == 0.0
    assert np.array_equal(Renderer(scene, 224, 128).frame(4),
                          Renderer(replace(scene, yaw=0.0), 224, 128).frame(4))


def test_the_object_is_drawn_where_its_box_is(windows: list[CameraWindow]) -> None:
    """Without it the picture is another one inside of the box, and hardly elsewhere."""
    chosen = [window for window in windows if window.camera in (LEFT, RIGHT)
              and window.scenes[0].look.light == 'day'][:4]
    for window in chosen:
        scene = dict(zip(window.cameras, window.scenes))[window.camera or '']
        worst = next(actor.id for actor in window.truth.actors if actor.is_risk)
        empty = replace(scene, bodies=tuple(body for body in scene.bodies if body.id != worst))
        with_it, without = (Renderer(some, 224, 128).frame(4).astype(int)
                            for some in (scene, empty))
        changed = np.abs(with_it - without).max(axis=2) > 12
        left, top, right, bottom = window.truth.box or (0.0,) * 4
        inside = np.zeros_like(changed)
        inside[max(0, int(top * 128) - 3):int(bottom * 128) + 4,
               max(0, int(left * 224) - 3):int(right * 224) + 4] = True
        assert changed[inside].any()
        # Shadows may lie a little beside.
        assert changed[~inside].sum() < 0.2 * changed.sum()


def test_pairs_have_the_camera_that_looks_ahead_and_one_of_either_side() -> None:
    cameras = Counter(window.cameras for window in pair_windows('val', 16))
    assert cameras == {(FRONT, LEFT): 8, (FRONT, RIGHT): 8}


def test_a_recording_of_several_cameras_has_the_truth_of_all(tmp_path: Path) -> None:
    window = make_camera_window(1_000_000_777, 'crossing traffic', 'high')
    write_bag(tmp_path / 'bag', window.scenes[0], 320, 180, cameras=CAMERAS)
    found: dict[str, list[Any]] = {}
    with AnyReader([tmp_path / 'bag']) as bag:
        for connection, _, raw in bag.messages():
            found.setdefault(connection.topic, []).append(
                bag.deserialize(raw, connection.msgtype))
    assert {f'/camera/{name}/{topic}' for name in CAMERAS
            for topic in ('image_raw/compressed', 'camera_info')} | {'/vts/truth'} == set(found)
    assert {len(messages) for messages in found.values()} == {5}
    for name, scene in zip(window.cameras, window.scenes):
        last = found[f'/camera/{name}/image_raw/compressed'][-1]
        assert last.header.frame_id == f'camera_{name}_optical_frame'
        drawn = Renderer(scene, 320, 180).frame(4).astype(float)
        assert np.abs(decode_image(last.data.tobytes()).astype(float) - drawn).mean() < 4.0
    said = json.loads(found['/vts/truth'][-1].data)
    assert (said['window']['risk'], said['camera']) == ('high', window.camera)
    assert window.camera in (LEFT, RIGHT)


def test_cameras_are_told_by_number_in_the_order_of_their_names() -> None:
    frames = [Frame(camera, 0, np.zeros((8, 8, 3), np.uint8))
              for camera in ('rear_right', 'front', 'left')]
    assert NUMBERED.captions(frames) == ['3 0.0s', '1 0.0s', '2 0.0s']
    asked = NUMBERED.seen_by(('front', 'left', 'rear_right')).instruction
    assert '"camera": "1 / 2 / 3"' in asked
    # Of one camera nothing is said, so that its prompt is that of before.
    assert NUMBERED.seen_by(('front',)).instruction == Prompts.load(
        convention=TRAINED_HERE).description.instruction
    assert NUMBERED.captions(frames[:1]) == ['0.0s']


def test_lessons_name_the_camera_whatever_its_name() -> None:
    names = Counter[tuple[str, ...]]()
    for shown in driving_lessons('val', 16, 'cameras'):
        row, = shown.rows
        names[tuple(sorted(shown.frames))] += 1
        if row['object'] is not None:
            assert row['object']['camera'] in shown.frames
        assert 'vehicle' not in row
    assert names['camera_front',] == 4
    usual = [some for some in names if len(some) > 1 and 'camera_a' not in some
             and 'camera_b' not in some]
    other = [some for some in names if 'camera_a' in some or 'camera_b' in some]
    assert usual
    assert other


def test_an_early_risk_says_in_which_camera_it_is() -> None:
    told: list[Answer] = []
    early = EarlyRisk(parse, told.append, lambda: 0.0, is_thought=False)
    early.on_text('{"risk": "high", "object": {"camera": "left", "label": "car", "box": '
                  '[0.1, 0.2, 0.3, 0.4]}, ')
    assert (told[-1].risk, told[-1].label, told[-1].camera) == ('high', 'car', 'left')


def test_more_is_kept_of_the_object_than_by_taking_all_cameras_for_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_recall, '_WINDOWS', 16)
    pipeline = Pipeline.load(PipelineConfig(draft=False, threads=1))
    some = [*methods(pipeline.sparsifier, ['vts', 'random']), as_one_method(pipeline.sparsifier)]
    found = camera_recall.camera_recall(pipeline, some, 12, [0.2], tmp_path)
    assert sum(found['parts'][part]['n'] for part in camera_recall.PARTS[1:]) == 12
    kept = {name: cells['0.2']['mean']
            for name, cells in found['parts'][camera_recall.ALL]['methods'].items()}
    assert kept['random'] < kept[AS_ONE] < kept['vts']
    # What is counted is where the object is: in the picture of the camera that shows it best.
    window = make_camera_window(1_000_000_777, 'crossing traffic', 'high')
    evidence, shows = camera_recall.features_of(pipeline, window)
    assert evidence.cameras == CAMERAS * 5
    left, top, right, bottom = window.truth.box or (0.0,) * 4
    newest = shows[-3:].reshape(3, *evidence.grid)[CAMERAS.index(window.camera or '')]
    assert newest[int(0.5 * (top + bottom) * evidence.grid[0]),
                  int(0.5 * (left + right) * evidence.grid[1])]
    pipeline.close()


def said(camera: str, box: tuple[float, float, float, float]) -> Answer:
    return Answer(risk='high', label='car', box=box, camera=camera)


def test_answers_are_rated_by_level_object_camera_and_box(windows: list[CameraWindow]) -> None:
    window = next(window for window in windows if window.camera == LEFT)
    box = window.truth.box
    assert box is not None
    assert window.truth.label is not None
    right = Answer(risk=window.truth.risk, label=window.truth.label, box=box, camera='b')
    assert _rate(right, window, {FRONT: 'a', LEFT: 'b', RIGHT: 'c'}) == (1.0, 1.0, 1.0, 1.0)
    # The same box in another picture is no box.
    assert _rate(replace(right, camera='a'), window, {FRONT: 'a', LEFT: 'b', RIGHT: 'c'}) == (
        1.0, 1.0, 0.0, 0.0)
    # The camera that looks ahead does not show it.
    assert _rate(right, window, {FRONT: FRONT})[2:] == (0.0, 0.0)
    free = next(window for window in windows if window.camera is None)
    assert _rate(Answer(risk='none'), free, {FRONT: FRONT}) == (1.0, 1.0, None, None)


def test_figures_are_of_the_windows_of_their_group() -> None:
    where = [FRONT, LEFT, RIGHT, None]
    assert [_chosen(where, group) for group in GROUPS] == [[0, 1, 2, 3], [0], [1, 2], [3]]
    assert GROUPS == (ALL, IN_FRONT, ASIDE, NOTHING)
    rated = [_rate(said('left', (0.0, 0.0, 1.0, 1.0)), window, {FRONT: FRONT, LEFT: 'left'})
             for window in (make_camera_window(1_000_000_777, 'crossing traffic', 'high'),) * 4]
    found = _figures(dict.fromkeys(WAYS, rated), [1, 2])
    assert found['n'] == 2
    assert found[ADAPTER]['level'] == [rated[0].level, [rated[0].level] * 2]
    result = {'n': 4, 'split': 'val', 'ordinary': 0,
              'three': dict.fromkeys(GROUPS, found),
              'two': dict.fromkeys(GROUPS, found),
              'ahead': {'level': [0.1, [0.0, 0.2]], 'object': [0.0, [0.0, 0.0]]}}
    lines = '\n'.join(section(result, Run('vts eval cameras', date(2026, 1, 1),
                                          'a machine', 60.0)))
    assert f'| all | camera of the object | {"100" if rated[0].camera else "0"} [' in lines
    assert AHEAD in lines
    assert '+10.0 [+0.0, +20.0] points of the level' in lines


def test_the_shipped_adapter_says_in_which_camera_it_is() -> None:
    """Figures of more windows are in docs/embedded_model.md."""
    folder = model_path('cameras_adapter')
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    pipeline = Pipeline.load(PipelineConfig(adapter='cameras_adapter', draft=False, threads=1))
    # By other names than in the training, in an order that says nothing.
    names = {FRONT: 'nose', LEFT: 'port', RIGHT: 'aft'}
    chosen = [window for window in camera_windows('val', 32, cameras=CAMERAS)
              if window.camera in (LEFT, RIGHT)][:5]
    shown = [_shown(window, window.frames(), names) for window in chosen]
    # What is seen of a frame is kept by its key, so no two windows share one.
    assert len({frame.key for frames in shown for frame in frames}) == 15 * len(chosen)
    reports = describe_batch(pipeline, shown, is_brief=True)
    right = 0
    for window, report in zip(chosen, reports, strict=True):
        found = report.risk_object
        assert report.answer.camera in (None, *names.values())
        if found is not None and found.camera == names[window.camera or '']:
            right += 1
            assert report.shown_frame.camera == found.camera
            assert found.box is not None
    assert right >= 3
    # The guard of the model holds with the adapter, too.
    real = [Frame(camera, number * 400_000_000, picture(number, 128, 224))
            for number in range(5) for camera in ('a', 'b')]
    assert pipeline.describe(real).answer.risk == 'unknown'
    pipeline.close()


def test_causal_mode_refuses_numbers_of_cameras() -> None:
    with pytest.raises(VlmError, match='in windows only'):
        Pipeline.load(PipelineConfig(adapter='cameras_adapter', mode='causal'))


def test_that_a_model_knows_one_camera_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = Pipeline.load(PipelineConfig(draft=False, threads=1, max_new_tokens=4))
    frames = [Frame(camera, 0, picture(1, 128, 224)) for camera in ('a', 'b')]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            pipeline.describe(frames)
    assert [record.getMessage() for record in caplog.records
            if 'cameras_adapter' in record.getMessage()] == [
        'the model was trained with one camera, so it may see nothing in the others and does not '
        'say in which one something is: set vlm.adapter to cameras_adapter (of the model '
        'embedded)']
    pipeline.close()
