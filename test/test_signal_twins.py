# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Twins that differ by a signal of the car: the same pictures, another answer; lessons of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import itertools
import json
from pathlib import Path

from all_commands import app
from bag_maker import picture
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.lab.evaluation.answer_metrics import Score
from vts_ros.lab.evaluation.key_frame_answers import key_frame_figures, PairAnswer
from vts_ros.lab.evaluation.twin_evaluation import _levels, _of_kind, twin_answers, TwinAnswers
from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.answered_recording import CAMERA, row_of, Shown, write_shown
from vts_ros.lab.scenes.clips import render, SPLITS
from vts_ros.lab.scenes.driving_lessons import driving_lessons, ORDINARY
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.signal_twins import KINDS, make_twins, signal_twins, Twins, vehicle_of
from vts_ros.lab.scenes.world import Track
from vts_ros.lab.training.answered_windows import AnswersError, read_answers
from vts_ros.paths import model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.tools.answer_files import ANSWERS
from vts_ros.vlm.answers import Answer, inspect
from vts_ros.vlm.answers import render as write
from vts_ros.vlm.vehicle import Vehicle


@pytest.fixture(scope='module')
def twins() -> list[Twins]:
    return list(signal_twins('val', 12, is_measured=True))


def mover(near: float, d: float, vs: float) -> risk.Mover:
    """Return a car of 4 m by 1.8 m."""
    return risk.Mover(1, 'car', near, near + 4.0, d, 0.9, vs, 0.0)


@pytest.mark.parametrize(('intent', 'near', 'd', 'vs', 'level'), [
    # 20 m/s: 45 m in 2.25 s. With 5 m/s2 it stands after 40 m, and the gap is short all the same.
    (risk.STEADY, 45.0, 0.0, 0.0, 'medium'), (risk.Intent(braking=5.0), 45.0, 0.0, 0.0, 'low'),
    # 38 m: 20 t - 2.5 t2 = 38 after 3.1 s.
    (risk.STEADY, 38.0, 0.0, 0.0, 'high'), (risk.Intent(braking=5.0), 38.0, 0.0, 0.0, 'medium'),
    # It stands after 4 s, and does not go back: who comes from 99 m is there after 5.9 s.
    (risk.Intent(braking=5.0), 99.0, 0.0, -10.0, 'low'),
    # Oncoming at 10 m/s on the next lane: 45 m in 1.5 s.
    (risk.STEADY, 45.0, 3.2, -10.0, 'none'), (risk.Intent(turn=1), 45.0, 3.2, -10.0, 'high'),
    (risk.Intent(turn=-1), 45.0, 3.2, -10.0, 'none'),
    # Beyond the lane that is crossed: 1.2 m, 3.5 m and half a car.
    (risk.Intent(turn=1), 45.0, 5.5, -10.0, 'high'),
    (risk.Intent(turn=1), 45.0, 5.7, -10.0, 'none'),
    (risk.Intent(turn=-1), 30.0, -3.2, 0.0, 'high')])
def test_what_the_driver_is_about_to_do_counts(
        intent: risk.Intent, near: float, d: float, vs: float, level: str) -> None:
    assert risk.assess(20.0, [mover(near, d, vs)], intent=intent).level == level


def test_twins_have_the_same_pictures_and_other_levels(twins: list[Twins]) -> None:
    assert Counter(pair.kind for pair in twins) == dict.fromkeys(KINDS, 4)
    for pair in twins:
        levels = [TRUE_LEVELS.index(told.truth.risk) for told in (pair.harmless, pair.risky)]
        assert levels[0] < levels[1], pair.kind
        # What is needed is what differs, and nothing else does but for what follows from it.
        differing = {name for name in ('speed_mps', 'is_braking', 'turn_signal') if getattr(
            pair.harmless.vehicle, name) != getattr(pair.risky.vehicle, name)}
        assert differing == {*pair.harmless.needs, *pair.risky.needs}
        seen = [[actor.box for actor in told.truth.actors]
                for told in (pair.harmless, pair.risky)]
        assert seen[0] == seen[1]
        frames = pair.frames()
        assert len(frames) == (1 if pair.kind == 'speed' else 5)
        assert np.array_equal(frames, pair.frames())
        assert (pair.alone is None) == (pair.kind == 'speed')
        if pair.alone is not None:
            assert pair.alone.risk == (
                pair.harmless if pair.kind == 'turn signal' else pair.risky).truth.risk


def test_a_still_shows_no_speed(twins: list[Twins]) -> None:
    for pair in twins:
        if pair.kind != 'speed':
            continue
        speeds = [told.vehicle.speed_mps for told in (pair.harmless, pair.risky)]
        assert speeds == [10 / 3.6, 80 / 3.6]
        place = pair.scene.ego.at(0.0)[0]
        slow, fast = (render(replace(pair.scene, ego=Track.steady(0.0, place, speed))).frames
                      for speed in speeds if speed is not None)
        assert np.array_equal(slow, fast)


def test_twins_are_reproducible_and_no_split_shares_any() -> None:
    first, again = (make_twins(7, 'turn signal') for _ in range(2))
    assert (first.harmless, first.risky) == (again.harmless, again.risky)
    assert {pair.scene.seed for pair in signal_twins('val', 3)}.isdisjoint(
        pair.scene.seed for pair in signal_twins('test', 3))


@pytest.mark.slow
def test_lessons_are_a_mix_that_is_read_back(tmp_path: Path) -> None:
    shown = list(driving_lessons('val', 24))
    assert write_shown(tmp_path, shown) == 24
    kinds = Counter(row['kind'] for window in shown for row in window.rows)
    assert kinds.keys() == {ORDINARY, 'past of 8', 'past of 16', *KINDS}
    counters: Counter[str] = Counter()
    windows = read_answers(tmp_path, counters)
    assert not counters
    rows = [row for window in shown for row in window.rows]
    assert len(windows) == len(rows) > 24
    for window, row in zip(windows, rows, strict=True):
        assert window.answer.risk == row['risk']['level']
        assert (window.vehicle is None) == ('vehicle' not in row)
        assert window.needs == tuple(row['needs'])
        if row['kind'] == ORDINARY:
            assert window.vehicle is not None
            assert window.vehicle.turn_signal == 'off'
            assert window.vehicle.is_braking is False
    # Both of a pair end with the same picture, and what is right differs.
    past = [window for window in shown if str(window.rows[0]['kind']).startswith('past')]
    for hazard, twin in zip(past[::2], past[1::2], strict=True):
        assert np.array_equal(hazard.frames[CAMERA][-1], twin.frames[CAMERA][-1])
        assert hazard.rows[0]['risk'] != twin.rows[0]['risk']


def test_the_command_writes_lessons_of_signals_alone(tmp_path: Path) -> None:
    out = tmp_path / 'val'
    command = ['train', 'windows', '--lessons', 'signals', '--n', '4', '--split', 'val',
               '--shards', str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (out / ANSWERS).read_text().splitlines()]
    assert [row['kind'] for row in rows] == [
        'speed', 'speed', ORDINARY, 'braking', 'braking', 'braking', ORDINARY]
    for wrong, message in ((command, 'is there already'),
                           ([*command, '--task', 'warehouse'], 'are about --task driving')):
        refused = CliRunner().invoke(app, wrong)
        assert refused.exit_code == 2
        assert message in ' '.join(refused.output.replace('│', ' ').split())


def test_lessons_of_the_turn_signal_are_others_than_those_of_all_signals() -> None:
    alone = list(driving_lessons('train', 6, 'turn signal'))
    kinds = [[row['kind'] for row in window.rows] for window in alone]
    assert kinds == [['turn signal'] * 3, ['turn signal'] * 3, [ORDINARY]] * 2
    seeds = {row['seed'] for window in alone for row in window.rows}
    assert seeds.isdisjoint(row['seed'] for window in driving_lessons('train', 6, 'signals')
                            for row in window.rows)


@pytest.mark.parametrize(('told', 'message'), [
    ({'vehicle': {'speed': 3.0}}, "'speed' of the vehicle, expected one of speed_mps, "),
    ({'vehicle': {'speed_mps': 3.0}, 'needs': ['is_braking']},
     'the answer needs is_braking of the vehicle, which is not there'),
    ({'needs': ['speed_mps']}, 'the answer needs speed_mps of the vehicle'),
    ({'needs': ['colour']}, "'colour' of the vehicle, expected one of ")])
def test_what_is_wrong_with_a_line_is_told(
        tmp_path: Path, told: dict[str, object], message: str) -> None:
    picture = np.zeros((1, 64, 112, 3), np.uint8)
    write_shown(tmp_path, [Shown([0.0], {CAMERA: picture}, [row_of(Answer(risk='none'), **told)])])
    with pytest.raises(AnswersError, match=f'{ANSWERS}, line 1: {message}'):
        read_answers(tmp_path, Counter())


def test_an_object_that_cannot_be_seen_has_an_empty_box() -> None:
    hidden = Answer('A road.', 'high', 'child', None, 'A child is hidden.', 'brake')
    text = write(hidden)
    assert json.loads(text)['object'] == {'label': 'child', 'box': []}
    assert inspect(text) == (hidden, ())


def test_figures_of_key_frames_are_those_of_the_same_pairs() -> None:
    right, wrong = (Score(is_right, True, True, None, None, None) for is_right in (True, False))
    better = [PairAnswer(('high', 'none'), (right, right))] * 4
    worse = [PairAnswer(('none', 'none'), (wrong, right))] * 4
    found = key_frame_figures({(0.2, 'learned'): better, (0.2, 'newest'): worse})['0.2']
    assert (found['learned']['level'], found['learned']['told_apart']) == (1.0, 1.0)
    assert (found['newest']['level'], found['newest']['told_apart']) == (0.5, 0.0)
    assert found['newest']['ahead'] == 0.5
    assert found['newest']['ahead_ci'] == (0.5, 0.5)


def test_what_is_right_of_twins_is_counted() -> None:
    right, wrong = (Score(is_right, True, True, None, None, None) for is_right in (True, False))
    low, high = Answer(risk='low'), Answer(risk='high')
    told = TwinAnswers('braking', (low, right), (high, right), (high, right))
    untold = TwinAnswers('braking', (high, wrong), (high, right), (high, wrong))
    other = TwinAnswers('speed', (low, wrong), (low, wrong), None)
    found = _of_kind('braking', [untold, other], [told, other])
    assert {name: value[0] for name, value in found.items()} == {
        'with': 1.0, 'told_apart': 1.0, 'with_shipped': 0.5, 'without': 1.0,
        'without_shipped': 0.0}
    assert _of_kind('speed', [other], [other])['without'] is None


def test_twins_of_one_kind_are_those_among_all(twins: list[Twins]) -> None:
    turned = list(signal_twins('val', 12, is_measured=True, kinds=['turn signal']))
    assert [pair.scene.seed for pair in turned] == [
        pair.scene.seed for pair in twins if pair.kind == 'turn signal']


def test_what_was_said_for_what_is_counted(twins: list[Twins]) -> None:
    first, second = (next(pair for pair in twins if pair.kind == kind)
                     for kind in ('braking', 'turn signal'))
    score_ = Score(True, True, True, None, None, None)
    said = [TwinAnswers(pair.kind, (Answer(risk='low'), score_), (Answer(risk='medium'), score_),
                        None) for pair in (first, second, second)]
    found = _levels([first, second, second], said, 'turn signal')
    assert found == {
        f'harmless, {second.scene.family}: {second.harmless.truth.risk} as low': 2,
        f'risky, {second.scene.family}: {second.risky.truth.risk} as medium': 2}


def test_a_part_of_the_twins_writes_no_section(tmp_path: Path) -> None:
    for part in (['--kind', 'speed'], ['--ordinary', '0']):
        refused = CliRunner().invoke(app, ['eval', 'twins', '--adapter', 'signals_adapter',
                                           '--report', str(tmp_path), *part])
        assert refused.exit_code == 2
        assert 'leave out' in refused.output


def test_a_car_that_does_nothing_says_so(twins: list[Twins]) -> None:
    pair = next(pair for pair in twins if pair.kind == 'braking')
    assert pair.alone is not None
    assert vehicle_of(pair.alone, 0.01) == Vehicle(
        pair.alone.ego_speed_mps, 0.01 * pair.alone.ego_speed_mps, 'off', False)
    assert all(seed in SPLITS['val'] for seed in itertools.islice(SPLITS['val'], 2))


@pytest.mark.slow
def test_the_shipped_adapter_says_what_the_signal_changes() -> None:
    """Figures of more twins are in docs/senses.md."""
    folder = model_path('signals_adapter')
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    pipeline = Pipeline.load(PipelineConfig(adapter='signals_adapter', draft=False, threads=1))
    answers = twin_answers(pipeline, list(signal_twins('val', 6, is_measured=True)))
    assert {answer.kind for answer in answers} == set(KINDS)
    # The pictures of a pair are equal: without the signal none would be told apart.
    assert sum(answer.told_apart for answer in answers) >= 5
    # The guard of the model holds with the adapter, too.
    window = [Frame('front', number * 400_000_000, picture(number, 128, 224))
              for number in range(5)]
    assert pipeline.describe(window).answer.risk == 'unknown'
    pipeline.close()
