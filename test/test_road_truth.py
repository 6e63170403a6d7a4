# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of recorded windows: tracks of boxes, the risk rule, shards, and the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from all_commands import app
from bag_maker import drive
import cv2
from detector_maker import yolox
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from vts_ros.lab.box_tracks import link, Moving, moving, USUAL, with_riders
from vts_ros.lab.evaluation.label_agreement import agreement
from vts_ros.lab.evaluation.road_answers import (
    CAR_AHEAD,
    COMMONEST,
    Facts,
    grade,
    measure,
    RoadError,
    said_facts,
    summarize,
)
from vts_ros.lab.road_truth import ALIKE, LABEL, label, RECORDED, RoadTruth
from vts_ros.lab.road_windows import drawn, road_windows, sheet
from vts_ros.lab.scenes import sentences, window_questions
from vts_ros.lab.scenes.scene_truth import FrameTruth, LABELS, TRUE_LEVELS, WindowTruth
from vts_ros.lab.scenes.world import CAMERA_SETBACK_M, FOCAL
from vts_ros.lab.teacher import Kind, RoadUser, Teacher
from vts_ros.lab.training.auxiliary_heads import SeeingHeads
from vts_ros.lab.training.cell_targets import (
    by_token,
    cell_targets,
    CellTargets,
    loaded,
    stack,
    stored,
)
from vts_ros.lab.training.road_shards import RoadShardError, write_road_shard
from vts_ros.lab.training.shards import Shards
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import RISK_COLOURS
from vts_ros.vlm.answers import Answer, Box, parse, render

ASPECT = 0.5625
#: Ten pictures a second in a window of 1.6 s.
TIMES = [round(-1.6 + 0.1 * step, 1) for step in range(17)]
EGO_MPS = 20.0


def seen(ahead: float, across: float, size: tuple[float, float]) -> Box:
    """Return the box of an upright board of a height and width, m, as a camera shows it."""
    height, width = size
    bottom = 0.5 + FOCAL * 1.4 / ahead / ASPECT
    box = (0.5 - FOCAL * (across + 0.5 * width) / ahead, bottom - FOCAL * height / ahead / ASPECT,
           0.5 - FOCAL * (across - 0.5 * width) / ahead, bottom)
    left, top, right, bottom = (min(1.0, max(0.0, side)) for side in box)
    return left, top, right, bottom


def user(kind: Kind, ahead: float, across: float, scale: float = 1.0) -> RoadUser:
    usual = USUAL[kind]
    return RoadUser(kind, 0.9, seen(ahead, across, (scale * usual.height, scale * usual.width)))


def follow(kind: Kind, how: Moving, scale: float = 1.0) -> dict[float, RoadUser]:
    return {seconds: user(kind, *how.at(seconds), scale) for seconds in TIMES}


def truth_of(*tracks: dict[float, RoadUser]) -> WindowTruth:
    return road_truth_of(*tracks).window


def road_truth_of(*tracks: dict[float, RoadUser]) -> RoadTruth:
    users = {round(1e9 * (10.0 + seconds)): [track[seconds] for track in tracks
                                             if seconds in track] for seconds in TIMES}
    stamps = sorted(users)
    return label(stamps[::4], users, ASPECT, EGO_MPS)


def test_tracks_say_exactly_how_things_move() -> None:
    for speed_ahead, speed_across in ((-12.0, 0.0), (-4.0, 1.0), (3.0, -0.5)):
        how = Moving(24.0, 2.5, speed_ahead, speed_across)
        track, = link([(seconds, [found]) for seconds, found in follow('car', how).items()])
        found = moving(track, ASPECT)
        assert found is not None
        assert found[:4] == pytest.approx(how[:4], abs=1e-6)
        assert found.contact_sec == pytest.approx(how.contact_sec)
        assert 0.0 < found.error_ahead < 1.5


def test_the_time_to_contact_does_not_depend_on_the_true_size() -> None:
    how = Moving(30.0, 0.0, -10.0, 0.0)
    for scale in (0.7, 1.6):
        track, = link([(seconds, [found]) for seconds, found in follow('car', how, scale).items()])
        found = moving(track, ASPECT)
        assert found is not None
        assert found.contact_sec == pytest.approx(3.0)
        # But all lengths do.
        assert found.ahead == pytest.approx(30.0 / scale)


def test_what_the_edges_of_the_picture_cut_still_has_a_size() -> None:
    # The lower edge cuts all of the last ones: their width tells the distance.
    how = Moving(2.0, 0.0, -8.0, 0.0)
    track, = link([(seconds, [found]) for seconds, found in follow('car', how).items()])
    assert track.sightings[-1].user.box[3] == 1.0
    found = moving(track, ASPECT)
    assert found is not None
    assert found[:3] == pytest.approx(how[:3], abs=1e-6)
    # So does that of one that is cut in all frames.
    near = {seconds: user('car', 3.0, 0.0) for seconds in TIMES}
    always = moving(link([(seconds, [found]) for seconds, found in near.items()])[0], ASPECT)
    assert always is not None
    assert always.ahead == pytest.approx(3.0)
    # Cut on all sides it has none.
    all_over = link([(0.0, [RoadUser('car', 0.9, (0.0, 0.0, 1.0, 1.0))])])[0]
    assert moving(all_over, ASPECT) is None
    # Seen once it has a place, but nobody knows how it moves.
    once = moving(link([(0.0, [user('car', 20.0, 1.0)])])[0], ASPECT)
    assert once is not None
    assert once[:4] == pytest.approx((20.0, 1.0, 0.0, 0.0), abs=1e-6)
    assert once.error_ahead == once.error_across == np.inf


def test_boxes_are_linked_in_any_order_over_gaps_and_at_window_pace() -> None:
    tracks = [follow('car', Moving(20.0, -4.0, -6.0, 0.0)),
              follow('car', Moving(35.0, 3.5, 4.0, 0.0)),
              follow('heavy vehicle', Moving(45.0, -3.0, -12.0, 0.0)),
              follow('person', Moving(16.0, 2.0, -8.0, -1.5))]
    rng = np.random.default_rng(0)
    for times in (TIMES, TIMES[::4]):
        frames = [(seconds, [tracks[index][seconds] for index in rng.permutation(4)
                             if (seconds, index) != (-0.8, 0)]) for seconds in times]
        linked = link(frames)
        assert sorted(len(track.sightings) for track in linked) == [
            len(times) - 1, *[len(times)] * 3]
        for track in linked:
            original = next(users for users in tracks if track.sightings[-1].user is users[0.0])
            assert all(original[seconds] is found for seconds, found in track.sightings)


def test_what_moves_fast_is_expected_where_it_will_be() -> None:
    # Each box is beside the one before.
    steps = {seconds: RoadUser('car', 0.9, (left, 0.5, left + 0.08, 0.6)) for seconds, left in zip(
        TIMES[::4], (0.1, 0.15, 0.24, 0.33, 0.42))}
    track, = link([(seconds, [found]) for seconds, found in steps.items()])
    assert len(track.sightings) == 5


def test_the_side_of_a_long_vehicle_does_not_move_its_middle() -> None:
    # What is seen of a lorry on the left is its rear, and its side up to farther ahead.
    for sign in (1.0, -1.0):
        rear = user('heavy vehicle', 15.0, 4.0)
        front = user('heavy vehicle', 23.0, 4.0)
        box = (rear.box[0], rear.box[1], front.box[2], rear.box[3])
        if sign < 0.0:
            box = (1.0 - box[2], box[1], 1.0 - box[0], box[3])
        found = moving(link([(0.0, [rear._replace(box=box)])])[0], ASPECT)
        assert found is not None
        assert found[:2] == pytest.approx((15.0, sign * 4.0))


def test_a_track_is_of_its_surest_kind_and_persons_are_never_cars() -> None:
    boxes = follow('car', Moving(20.0, 0.0, -2.0, 0.0))
    mixed = {seconds: found._replace(kind='heavy vehicle', confidence=0.5)
             if seconds in TIMES[::2] else found for seconds, found in boxes.items()}
    track, = link([(seconds, [found]) for seconds, found in mixed.items()])
    assert track.kind == 'car'
    other = {seconds: found._replace(kind='person') for seconds, found in boxes.items()}
    assert len(link([(-0.1, [boxes[-0.1]]), (0.0, [other[0.0]])])) == 2


def test_a_rider_is_part_of_the_two_wheeler() -> None:
    bike = RoadUser('two-wheeler', 0.7, (0.40, 0.55, 0.50, 0.80))
    rider = RoadUser('person', 0.9, (0.42, 0.40, 0.48, 0.75))
    beside = RoadUser('person', 0.9, (0.60, 0.40, 0.66, 0.80))
    lamp = RoadUser('traffic light', 0.9, (0.1, 0.1, 0.12, 0.2))
    assert with_riders([rider, bike, beside, lamp]) == [
        bike._replace(box=(0.40, 0.40, 0.50, 0.80)), beside]


@pytest.mark.parametrize(('ahead', 'level'), [(15.0, 'high'), (31.0, 'medium'), (51.0, 'low')])
def test_the_level_is_the_one_of_the_renderer(ahead: float, level: str) -> None:
    # From the bumper to the car, at 10 m/s: 1.5 s, 3.1 s, 5.1 s.
    truth = truth_of(follow('car', Moving(ahead + CAMERA_SETBACK_M, 0.0, -10.0, 0.0)))
    assert (truth.risk, truth.label, truth.place, truth.motion) == (level, 'car', 'ahead',
                                                                    'slower')
    assert truth.ttc_sec == pytest.approx(ahead / 10.0, abs=0.051)
    assert truth.family == RECORDED
    assert not truth.is_whole


def test_place_and_motion_are_those_of_the_risk_object() -> None:
    beside = follow('car', Moving(25.0, 3.6, 2.0, 0.0))
    assert truth_of(beside).risk == 'none'
    # A person who steps onto the road, and stands along it.
    walker = follow('person', Moving(25.0, -3.0, -EGO_MPS, 1.5))
    truth = truth_of(beside, walker)
    assert (truth.risk, truth.label, truth.place, truth.motion) == (
        'high', 'pedestrian', 'right', 'crossing')
    standing = truth_of(follow('car', Moving(34.0, 0.0, -0.95 * EGO_MPS, 0.0)))
    assert (standing.risk, standing.motion) == ('high', 'stopped')
    assert truth_of(follow('car', Moving(70.0, 3.4, -33.0, 0.0))).motion is None
    towards = truth_of(follow('car', Moving(70.0, 0.5, -33.0, 0.0)))
    assert (towards.motion, towards.risk) == ('oncoming', 'medium')


def test_a_child_walks_as_far_away_as_its_pace_says() -> None:
    # 1.1 m high, taken for a grown-up it would be half as far again, and come towards us.
    how = Moving(24.0, -2.0, -EGO_MPS, 1.2)
    truth = truth_of(follow('person', how, 1.1 / USUAL['person'].height))
    assert truth.motion == 'crossing'
    actor, = truth.actors
    assert actor.distance_m == pytest.approx(24.0 - CAMERA_SETBACK_M, abs=0.01)


def test_a_bend_moves_nobody_sideways() -> None:
    curvature = 1 / 150
    tracks = []
    for ahead, lane in ((30.0, 0.0), (40.0, 3.5), (50.0, -3.5), (35.0, 7.0)):
        track = {}
        for seconds in TIMES:
            distance = ahead - 8.0 * seconds
            track[seconds] = user('car', distance, lane + 0.5 * curvature * distance ** 2)
        tracks.append(track)
    truth = truth_of(*tracks)
    assert (truth.label, truth.place, truth.motion) == ('car', 'ahead', 'slower')
    assert sorted(actor.lateral_m for actor in truth.actors) == pytest.approx(
        [-3.5, 0.0, 3.5, 7.0], abs=0.4)


def test_what_brakes_is_told_by_how_its_speed_changes() -> None:
    track = {seconds: user('car', 12.0 - 6.0 * seconds - 2.5 * seconds ** 2, 0.0)
             for seconds in TIMES}
    found = moving(link([(seconds, [user]) for seconds, user in track.items()])[0], ASPECT)
    assert found is not None
    assert (found.ahead, found.speed_ahead, found.faster) == pytest.approx((12.0, -6.0, -5.0))
    truth = truth_of(track)
    assert (truth.label, truth.motion, truth.risk) == ('car', 'braking', 'high')
    # 10.4 m by 6 m/s would be 1.7 s; it is less because it brakes.
    assert truth.ttc_sec == pytest.approx(1.2, abs=0.051)


def test_speeds_within_the_errors_of_boxes_do_not_count() -> None:
    # Far away, half a pixel of a picture of 960 is some metres.
    rng = np.random.default_rng(0)
    track = {}
    for seconds, user in follow('car', Moving(80.0, 0.0, 0.0, 0.0)).items():
        off = rng.uniform(-0.0005, 0.0005, 4)
        left, top, right, bottom = (side + by for side, by in zip(user.box, off))
        track[seconds] = user._replace(box=(left, top, right, bottom))
    found = moving(link([(seconds, [user]) for seconds, user in track.items()])[0], ASPECT)
    assert found is not None
    assert found.speed_ahead != 0.0
    assert found.sure()[2:4] == (0.0, 0.0)
    # What is as sure as here, and larger than its error, stays.
    assert found._replace(speed_ahead=-12.0).sure().speed_ahead == -12.0
    actor, = truth_of(track).actors
    assert actor.motion == 'same speed'


def test_who_has_just_come_into_sight_stands_if_on_foot() -> None:
    late = TIMES[-3:]
    walker = {seconds: user for seconds, user in follow(
        'person', Moving(22.0, -1.5, -EGO_MPS, 1.0)).items() if seconds in late}
    car = {seconds: user for seconds, user in follow(
        'car', Moving(22.0, 0.0, -4.0, 0.0)).items() if seconds in late}
    first, second = truth_of(walker), truth_of(car)
    assert (first.label, first.motion, first.risk) == ('pedestrian', 'waiting', 'low')
    assert (second.label, second.motion, second.risk) == ('car', 'same speed', 'low')
    # Nobody knows, as near as they are.
    for track in (walker, car):
        assert not road_truth_of(track).is_clear
    assert road_truth_of(follow('car', Moving(22.0, 0.0, -4.0, 0.0))).is_clear


def test_labels_are_clear_where_a_little_changes_nothing() -> None:
    def is_clear(kind: Kind, how: Moving) -> bool:
        return road_truth_of(follow(kind, how)).is_clear

    assert is_clear('car', Moving(18.0, 0.0, -12.0, 0.0))
    # 2.05 s: high a little sooner.
    assert not is_clear('car', Moving(26.2, 0.0, -12.0, 0.0))
    # 40 m ahead, and a camera that looks aside by two thirds of a degree.
    assert is_clear('car', Moving(40.0, 1.0, 0.0, 0.0))
    assert not is_clear('car', Moving(40.0, 1.7, 0.0, 0.0))
    # No car slides over the road.
    assert is_clear('car', Moving(30.0, 7.0, 3.0, 0.5))
    assert not is_clear('car', Moving(30.0, 12.0, 3.0, 3.0))


@pytest.mark.slow
def test_labels_agree_with_the_truth_of_the_renderer() -> None:
    """With the true boxes; docs/embedded_model.md has the figures of more."""
    told: list[int] = []
    exact = agreement('val', 24, progress=told.append)
    assert sum(told) == 24
    assert 20 <= exact['all']['n'] <= 24
    assert exact['clear']['n'] > exact['straight']['n'] > 3
    assert exact['clear']['level within one step'] > 0.8
    assert exact['clear']['object'] > 0.6
    # Boxes that are half off tell little.
    rough = agreement('val', 24, noise=0.5)
    assert rough['all']['n'] == exact['all']['n']
    assert rough['all']['level'] < exact['all']['level']


def test_everything_is_called_something() -> None:
    assert set(LABEL) | {'traffic light'} == set(get_args(Kind))
    assert {ALIKE[name] for name in LABEL.values()} == set(LABEL)
    assert set(ALIKE) < set(LABELS)
    assert ALIKE.get(None) is None


def test_only_what_boxes_tell_is_said_and_asked() -> None:
    truth = truth_of(follow('car', Moving(30.0, 0.0, -10.0, 0.0)),
                     follow('heavy vehicle', Moving(40.0, -4.0, 0.0, 0.0)))
    empty = truth_of()
    rng = np.random.default_rng(0)
    for _ in range(40):
        for window in (truth, empty):
            answer = sentences.answer(window, rng)
            assert parse(render(answer)) == answer
            assert said_facts(answer) == Facts(
                ALIKE.get(window.label), window.place, window.motion, window.risk)
            assert not any(word in answer.description.lower() for word in (
                'weather', 'road that', 'street', 'motorway', ' day', 'night'))
            kinds = {question.kind for question in window_questions.questions(window, rng, 99)}
            assert {'object', 'risk', 'action'} <= kinds
            assert not {'weather', 'light', 'road', 'curve', 'braking'} & kinds
            assert not any(kind.startswith('presence') for kind in kinds)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Return a teacher of red things."""
    return Teacher(yolox(tmp_path_factory.mktemp('detector') / 'yolox.onnx'))


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording with a red box that moves to the right."""
    return drive(tmp_path_factory.mktemp('drive') / 'red-box', 40)


def test_windows_of_recordings_are_learned_beside_rendered_ones(
        teacher: Teacher, bag: Path, tmp_path: Path) -> None:
    found = teacher.boxes_of(bag, tmp_path / 'boxes')
    windows = list(road_windows(bag, found, EGO_MPS))
    few = write_road_shard(tmp_path / 'windows', bag, found, EGO_MPS, 5)
    assert len(windows) > len(few) == 5
    newest = [window.frames[-1].stamp_ns for window in few]
    assert (newest[0], newest[-1]) == (windows[0].frames[-1].stamp_ns,
                                       windows[-1].frames[-1].stamp_ns)
    data = Shards(tmp_path / 'windows')
    # Recordings have no signature that would be taken out.
    assert (len(data), data.over) == (10, 10)
    for number, window in enumerate(few):
        plain, mirror = data[2 * number], data[2 * number + 1]
        shown = cv2.resize(window.frames[-1].rgb(), (224, 128), interpolation=cv2.INTER_AREA)
        assert (plain.frames[-1] == shown).all()
        assert (mirror.frames == plain.frames[:, :, ::-1]).all()
        assert plain.window == window.truth.window
        assert {(RECORDED, None, None)} == {(scene.family, scene.road, scene.lanes) for scene in (
            plain.window, mirror.window)}
        for here, there in zip(plain.window.actors, mirror.window.actors, strict=True):
            assert here.box == pytest.approx(
                (1.0 - there.box[2], there.box[1], 1.0 - there.box[0], there.box[3]))
            assert here.lateral_m == pytest.approx(-there.lateral_m, abs=1e-6)
        assert (plain.cells.label > 0).any() == bool(plain.window.actors)
    assert any(window.truth.window.actors for window in few)
    with pytest.raises(RoadShardError, match='red-box has no window'):
        write_road_shard(tmp_path / 'windows', bag, {}, EGO_MPS, 5)


def test_the_sheet_shows_boxes(teacher: Teacher, bag: Path, tmp_path: Path) -> None:
    found = teacher.boxes_of(bag, tmp_path / 'boxes')
    windows = list(road_windows(bag, found, EGO_MPS, 6))
    shown = sheet(windows, teacher.name)
    assert shown.shape[0] > 2 * 400
    assert shown.shape[1] > 3 * 400
    # On grey all that is there was drawn: the risk object in its colour, another in white.
    truth = road_truth_of(follow('car', Moving(15.0, 0.0, -10.0, 0.0)),
                          follow('car', Moving(15.0, 4.0, 0.0, 0.0)))
    picture = drawn(np.full((540, 960, 3), 100, np.uint8), truth)
    height, width = picture.shape[:2]
    assert width == 920
    for actor in truth.window.actors:
        left, top, right, bottom = actor.box
        colour = RISK_COLOURS['high'] if actor.is_risk else (230, 230, 230)
        for x, y in ((left, 0.5 * (top + bottom)), (0.5 * (left + right), top)):
            assert tuple(picture[round(y * height), round(x * width)]) == colour
        below = picture[round(bottom * height) + 6:round(bottom * height) + 24]
        assert (below == colour).all(axis=2).sum() > 50


def test_what_is_not_known_of_a_scene_is_not_learned() -> None:
    window = truth_of(follow('car', Moving(30.0, 0.0, -10.0, 0.0)))
    frame = FrameTruth(0, EGO_MPS, window.actors)
    cells = by_token(loaded(stored(stack([cell_targets(frame, 8, 14)]))), 2)
    targets = CellTargets(*(field.reshape(-1, *field.shape[2:])  # type: ignore[arg-type]
                            for field in cells))
    heads = SeeingHeads(16, 4)
    losses = heads.losses(torch.randn(1, 28, 16), targets, [window])
    assert float(losses['scene']) == 0.0
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_grades_are_of_what_is_there() -> None:
    true = Facts('car', 'ahead', 'slower', 'medium')
    assert grade(true, true) == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert grade(Facts('person', 'left', 'slower', 'high'), true) == (0.0, 0.0, 1.0, 0.0, 1.0)
    assert grade(Facts(None, None, None, 'none'), true) == (0.0, 0.0, 0.0, 0.0, 0.0)
    empty = Facts(None, None, None, 'none')
    assert grade(empty, empty) == (1.0, None, None, 1.0, 1.0)
    # Who does not know has not said that there is nothing.
    assert grade(said_facts(Answer()), empty) == (0.0, None, None, 0.0, 0.0)
    assert said_facts(Answer(risk='low', label='bus')).object == 'heavy vehicle'
    assert said_facts(Answer(risk='low', label='traffic light')).object == 'traffic light'
    assert TRUE_LEVELS[0] == 'none'


def test_means_are_over_recordings_and_not_over_windows() -> None:
    car, free = Facts('car', 'left', 'slower', 'low'), Facts(None, None, None, 'none')
    true = {'long': [free] * 30, 'short': [car] * 2, 'last': [car, free]}
    said = {'long': [free] * 30, 'short': [free] * 2, 'last': [car, car]}
    result = summarize(true, said)
    mean, low, high = result['rows']['model']['object']
    assert mean == pytest.approx((1.0 + 0.0 + 0.5) / 3, abs=1e-4)
    assert low <= 0.01 < 0.99 <= high
    assert result['rows']['model']['place'][0] == pytest.approx(0.5)
    assert result['rows']['model']['level within one step'][0] == 1.0
    assert result['rows'][COMMONEST]['object'][0] == pytest.approx(0.5)
    assert result['rows'][COMMONEST]['motion'][0] == 1.0
    assert result['rows'][CAR_AHEAD]['place'][0] == 0.0
    assert result['recordings']['last']['levels'] == {'low': 1, 'none': 1}
    single = summarize({'long': true['long']}, {'long': said['long']})
    assert single['rows']['model']['object'] == [1.0, None, None]
    assert single['rows']['model']['place'] is None


def test_the_judge_asks_a_model_without_its_guard(
        teacher: Teacher, bag: Path, model: str, tmp_path: Path) -> None:
    pipeline = Pipeline.load(PipelineConfig(model=model, device='cpu'))
    guard = pipeline.guard
    result = measure(pipeline, [bag], lambda path: teacher.boxes_of(path, tmp_path), EGO_MPS, 3)
    part = result['recordings']['red-box']
    assert part['n'] == 3
    # With its guard, all of it would be unknown, and so wrong by more than a step.
    assert part['rows']['model']['level within one step'] is not None
    assert pipeline.guard is guard
    with pytest.raises(RoadError, match='no window'):
        measure(pipeline, [bag], lambda path: {}, EGO_MPS, 3)


def test_the_commands_label_learn_and_judge(
        bag: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    detector = yolox(tmp_path / 'detector.onnx')

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, list(map(str, arguments)), env={'COLUMNS': '200'})

    done = run('train', 'windows', '--bag', bag, '--teacher', detector, '--speed', 14, '--n', 4,
               '--shards', 'windows')
    assert done.exit_code == 0, (done.output, done.exception)
    assert '4 windows, and as many mirrored' in done.output
    assert f'wrote {Path("windows") / "windows.jpg"}' in done.output
    data = Shards(tmp_path / 'windows')
    assert [data[index].window.ego_speed_mps for index in range(len(data))] == [14.0] * 8
    assert cv2.imread('windows/windows.jpg') is not None
    assert '--bag needs --teacher' in run('train', 'windows', '--bag', bag).output
    done = run('eval', 'recordings', '--bag', bag, '--teacher', detector, '--n', 2, '--model',
               model, '--json')
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['recordings']['red-box']['n'] == 2
    assert result['speed_mps'] == 20.0
    assert list(result['rows']) == ['model', COMMONEST, CAR_AHEAD]
    assert 'guard off: 2 windows of 1 recordings' in done.output
    done = run('eval', 'labels', '--n', 2, '--json')
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.stdout.splitlines()[-1])['all']['n'] <= 2
