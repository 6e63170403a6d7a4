# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The confidence of an answer, and the pictures that a model does not know."""

from __future__ import annotations

from dataclasses import replace
import json
import math
from pathlib import Path
import shutil
from types import SimpleNamespace
from typing import Any

from bag_maker import drive, jpeg, picture, real_bags
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from transformers import LogitsProcessorList
from typer.testing import CliRunner

from vts_ros.cli import app
from vts_ros.confidence import (
    Calibration,
    CalibrationError,
    Certainty,
    fact_log_probability,
    FILE,
    NOTHING_KNOWN,
    Scale,
    structure,
    UNLIKE_TRAINING,
    World,
)
from vts_ros.evaluation import calibration as calibration_module
from vts_ros.evaluation.calibration import check, reliability
from vts_ros.frames import Frame
from vts_ros.models import model_path
from vts_ros.pipeline import Pipeline, PipelineConfig
from vts_ros.report import Answer, SceneReport, UNKNOWN_ACTION
from vts_ros.scenes.clips import SPLITS
from vts_ros.scenes.drive import draw_drive
from vts_ros.vlm import Vlm

ANSWER = ('{"object": {"label": "traffic light", "box": [0.10, 0.20, 0.30, 0.40]}, '
          '"risk": "high", "explanation": "The light is red.", "action": "stop"}')


@pytest.fixture(scope='module')
def vlm(model: str) -> Vlm:
    return Vlm.load(model_path(model))


@pytest.fixture(scope='module')
def folder(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of one's own, to put a calibration in."""
    folder = tmp_path_factory.mktemp('models') / 'own'
    shutil.copytree(model_path(model), folder, ignore=shutil.ignore_patterns(FILE))
    return folder


@pytest.fixture(scope='module')
def pipeline(folder: Path) -> Pipeline:
    return Pipeline.load(PipelineConfig(model=str(folder), max_new_tokens=120))


def window(first: int = 0, size: tuple[int, int] = (128, 224)) -> list[Frame]:
    return [Frame('front', index * 400_000_000, jpeg(picture(first + index, *size)))
            for index in range(5)]


# Facts and their tokens

def by_letter(text: str) -> tuple[Any, Any]:
    """Return a generation with a token per letter, and its tokenizer."""
    tokenizer = SimpleNamespace(
        decode=lambda ids, skip_special_tokens=False: ''.join(map(chr, ids)))
    return SimpleNamespace(text=text, token_ids=tuple(map(ord, text))), tokenizer


def test_only_the_tokens_of_the_facts_count() -> None:
    written, tokenizer = by_letter(ANSWER)
    row = np.full(len(ANSWER), -9.0)
    row[ANSWER.index('{"label'):ANSWER.index(', "box')] = 0.0
    row[ANSWER.index('"high"'):ANSWER.index('"high"') + 6] = 0.0
    assert fact_log_probability(written, row, tokenizer) == 0.0
    row[ANSWER.index('light')] = -0.4
    row[ANSWER.index('traffic')] = -0.2
    row[ANSWER.index('high')] = -0.1
    assert fact_log_probability(written, row, tokenizer) == pytest.approx(-(0.6 + 0.1) / 2)


def test_no_object_is_a_fact_as_well() -> None:
    text = '{"object": null, "risk": "none", "explanation": ""}'
    written, tokenizer = by_letter(text)
    row = np.zeros(len(text) + 3)  # generations are as long as the longest of their batch
    row[text.index('null')] = -0.8
    row[-3:] = -100.0
    assert fact_log_probability(written, row, tokenizer) == pytest.approx(-0.4)


@pytest.mark.parametrize('text', ['', 'A road.', '{"object": null', '{"risk": "high"}'])
def test_an_answer_without_its_facts_has_no_confidence(text: str) -> None:
    written, tokenizer = by_letter(text)
    assert fact_log_probability(written, np.zeros(len(text)), tokenizer) is None


def test_whole_string_tokens_hold_the_choice_of_the_object(vlm: Vlm) -> None:
    ids = vlm.tokenizer(ANSWER, add_special_tokens=False)['input_ids']
    written = SimpleNamespace(text=ANSWER, token_ids=tuple(ids))
    row = np.full(len(ids), -1.0)
    pieces = [vlm.tokenizer.decode(ids[:n]) for n in range(len(ids) + 1)]
    spans = [(ANSWER.index('{"label'), ANSWER.index(', "box')),
             (ANSWER.index('"high"'), ANSWER.index('"high"') + 6)]
    held = [sum(len(pieces[n]) < end and len(pieces[n + 1]) > start for n in range(len(ids)))
            for start, end in spans]
    assert fact_log_probability(written, row, vlm.tokenizer) == -sum(held) / 2
    assert 2 <= sum(held) < len(ids) / 2


def test_certainty_is_the_probability_of_what_was_written(vlm: Vlm) -> None:
    from vts_ros.vlm.prompts import describe_prompt

    features = [vlm.encode(picture(index, 128, 224)) for index in range(2)]
    prepared = vlm.prepare(features, ['-0.4s', '0.0s'], describe_prompt())
    keep = np.arange(0, 2 * features[0].tokens.shape[0], 2, dtype=np.int32)
    certainty = Certainty()
    generation = vlm.generate(prepared, keep, max_new_tokens=12,
                              logits_processor=LogitsProcessorList([certainty]))
    assert vlm.generate(prepared, keep, max_new_tokens=12).token_ids == generation.token_ids
    row = certainty.rows()[0]
    # The whole text at once, as in training.
    inputs = vlm.batch([prepared], [keep], [str(vlm.tokenizer.decode(list(generation.token_ids)))])
    with torch.inference_mode():
        output = vlm.model(**inputs, use_cache=False).logits[0].log_softmax(-1)
    labels = inputs['labels'][0]
    expected = [output[place - 1, labels[place]].item()
                for place in (labels != -100).nonzero()[:, 0].tolist()]
    shared = min(len(row), len(generation.token_ids), len(expected) - 1)
    assert shared >= 8
    np.testing.assert_allclose(row[:shared], expected[:shared], atol=2e-4)


# The scale

def test_a_scale_of_one_leaves_probabilities_alone() -> None:
    for share in (0.02, 0.3, 0.5, 0.9, 0.999):
        assert Scale()(math.log(share)) == pytest.approx(share)
    assert 0.999 < Scale()(0.0) <= 1.0


def simulated(n: int, slope: float, offset: float) -> tuple[NDArray[np.float64],
                                                             NDArray[np.bool_]]:
    rng = np.random.default_rng(3)
    said = rng.uniform(0.3, 0.999, n)
    odds = slope * np.log(said / (1 - said)) + offset
    return np.log(said), rng.random(n) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize(('slope', 'offset'), [(1.0, 0.0), (0.4, -0.5), (2.0, 1.0)])
def test_the_scale_that_was_there_is_found(slope: float, offset: float) -> None:
    found = Scale.fit(*simulated(20_000, slope, offset))
    assert found.slope == pytest.approx(slope, abs=0.12)
    assert found.offset == pytest.approx(offset, abs=0.12)


def test_a_fit_makes_confidences_true() -> None:
    logs, right = simulated(4000, 0.4, -0.5)
    scale = Scale.fit(logs[:2000], right[:2000])
    truth = right[2000:].astype(float)
    raw = calibration_module._errors(np.exp(logs[2000:]), truth)
    fitted = calibration_module._errors(np.array([scale(log) for log in logs[2000:]]), truth)
    assert raw['ece'] > 0.1 > 3 * fitted['ece']
    assert fitted['brier'] < raw['brier']


@pytest.mark.parametrize('right', [[True] * 40, [False] * 40, [True] * 20 + [False] * 20])
def test_fits_stay_finite(right: list[bool]) -> None:
    # All right, all wrong, and the surer the less right.
    logs = np.log(np.linspace(0.5, 0.9999, 40))
    scale = Scale.fit(logs, right)
    assert math.isfinite(scale.slope)
    assert scale.slope >= 0.0
    values = [scale(log) for log in logs]
    assert all(0.0 < value < 1.0 for value in values)
    if right[0] != right[-1]:
        assert values == pytest.approx([0.5] * 40)


def test_nothing_to_fit_is_said() -> None:
    with pytest.raises(CalibrationError, match='no answers'):
        Scale.fit([], [])


def test_bins_of_reliability() -> None:
    confidence = np.array([0.05, 0.06, 0.95, 1.0])
    assert reliability(confidence, np.array([0.0, 1.0, 1.0, 1.0])) == [
        (0.055, 0.5, 2), (0.975, 1.0, 2)]


# The world

def waves(angle: float, size: tuple[int, int] = (128, 224), strength: float = 40.0
          ) -> NDArray[np.uint8]:
    """Return a picture whose brightness changes in one direction alone."""
    rows, columns = np.mgrid[0:size[0], 0:size[1]] / size[1]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    grey = 128.0 + strength * np.sin(2 * math.pi * 14.0 * along)
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


def grain(seed: int, strength: float = 2.0) -> NDArray[np.uint8]:
    """Return a picture of one colour, with noise."""
    rng = np.random.default_rng(seed)
    return rng.normal(120.0, strength, (128, 224, 3)).round().astype(np.uint8)


@pytest.mark.parametrize('angle', [0.0, 0.7, 1.5707963])
def test_structure_is_one_where_there_is_one_direction_whichever(angle: float) -> None:
    found = structure(waves(angle)).reshape(3, 2, 3)
    # Gradients are zero at crests, so some are weak, but around them are the strong ones.
    assert found[:2, :, 2].min() > 0.95


def test_structure_is_low_in_noise_and_does_not_know_its_strength() -> None:
    weak, strong = (structure(grain(0, strength)).reshape(3, 2, 3) for strength in (2.0, 20.0))
    assert weak[0, 1, 0] < 0.5
    assert strong[0, 1, 2] < 0.5
    # Over a larger radius, noise has less of a direction.
    assert weak[0, 1, 0] < weak[0, 0, 0]


def test_structure_of_nothing_is_finite_and_the_same_everywhere() -> None:
    plain = structure(np.zeros((300, 500, 3), np.uint8))
    assert np.unique(plain).tolist() == [0.75]
    assert len(plain) == 18


def test_structure_hardly_depends_on_the_size_of_the_picture() -> None:
    small, large = structure(waves(0.5)), structure(waves(0.5, (512, 896)))
    np.testing.assert_allclose(small, large, atol=0.06)


def test_what_fills_a_picture_matters_little() -> None:
    """Half a wall of one colour leaves the other half to be judged as before."""
    whole = np.where(np.arange(224)[:, None] < 112, waves(0.7), grain(1))
    more = np.where(np.arange(224)[:, None] < 40, waves(0.7), grain(1))
    near = np.abs(structure(whole) - structure(more)).mean()
    assert near < 0.25 * np.abs(structure(waves(0.7)) - structure(grain(1))).mean()


def cloud(seed: int, count: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Return structures of windows, [count, 5, 6]."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1.0, (count, 1, 6)) + rng.normal(0.0, 0.3, (count, 5, 6))


def test_the_limit_leaves_its_share_outside_and_what_is_unlike() -> None:
    held_out = cloud(2, 400)
    world = World.fit(cloud(1, 400), held_out, 0.02)
    assert 0.005 <= np.mean([not world.holds(one) for one in held_out]) <= 0.02
    assert np.mean([world.holds(one) for one in cloud(3, 200)]) > 0.9
    assert not any(world.holds(one) for one in cloud(4, 50, shift=4.0))


def test_distance_is_that_of_mahalanobis() -> None:
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(4, 4))
    train = rng.normal(size=(5000, 1, 4)) @ mix
    world = World.fit(train, train, 0.1)
    windows = train[:, 0]
    for one in train[:5]:
        apart = one[0] - windows.mean(axis=0)
        plain = math.sqrt(apart @ np.linalg.inv(np.cov(windows.T)) @ apart)
        assert world.distance(one) == pytest.approx(plain, rel=0.1)
    # 90 % of a chi distribution with four degrees of freedom.
    assert world.limit == pytest.approx(2.79, abs=0.15)


def test_too_few_windows_are_refused() -> None:
    with pytest.raises(CalibrationError, match='7 windows are too few'):
        World.fit(np.zeros((7, 5, 4)), np.zeros((7, 5, 4)), 0.1)


# The file and the pipeline

PROPOSAL = model_path('proposal/frame.onnx')


def anywhere() -> World:
    return World(np.zeros(18), np.eye(18), math.inf)


def test_without_a_file_all_is_off(pipeline: Pipeline) -> None:
    assert pipeline.calibration is None
    report = pipeline.describe(window())
    assert report.confidence is report.in_distribution is None
    assert {'confidence', 'in_distribution'}.isdisjoint(report.risk_values)


def test_calibrations_survive_the_disk(folder: Path) -> None:
    rng = np.random.default_rng(4)
    saved = Calibration(Scale(0.7, -0.1), World(
        rng.normal(size=3), rng.normal(size=(3, 3)), 12.5))
    saved.save(folder, PROPOSAL)
    try:
        loaded = Calibration.load(folder, PROPOSAL)
        assert loaded is not None
        assert loaded.scale == saved.scale
        assert loaded.world is not None
        assert saved.world is not None
        np.testing.assert_allclose(loaded.world.precision, saved.world.precision, rtol=1e-6)
        np.testing.assert_allclose(loaded.world.mean, saved.world.mean, rtol=1e-6)
        assert loaded.world.limit == 12.5
    finally:
        (folder / FILE).unlink()


def test_a_calibration_of_other_weights_is_not_used(
        folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / 'other.onnx'
    other.write_bytes(PROPOSAL.read_bytes()[:-1] + b'x')
    try:
        Calibration(Scale()).save(folder, other)
        assert Calibration.load(folder, PROPOSAL) is None
        assert 'run vts eval calibrate' in caplog.text
    finally:
        (folder / FILE).unlink()


def test_a_calibration_of_an_older_version_is_not_used(
        folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / FILE).write_text('{"schema": 1, "scale": {"slope": 1.0, "offset": 0.0}}')
    try:
        assert Calibration.load(folder, PROPOSAL) is None
        assert 'older version: answers get no confidence; run vts eval calibrate' in caplog.text
    finally:
        (folder / FILE).unlink()


@pytest.mark.parametrize('text', ['', '{}', '{"schema": 9}', '{"schema": 2, "scale": []}'])
def test_a_broken_file_is_one_line(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    try:
        with pytest.raises(CalibrationError, match='cannot be read'):
            Calibration.load(folder, PROPOSAL)
    finally:
        (folder / FILE).unlink()


def test_reports_have_a_confidence_and_stay_what_they_were(pipeline: Pipeline) -> None:
    windows = [window(), window(40)]
    before = [pipeline.describe_batch([one])[0] for one in windows]
    pipeline.calibration = Calibration(Scale(), anywhere())
    try:
        reports = pipeline.describe_batch(windows)
    finally:
        pipeline.calibration = None
    for report, plain in zip(reports, before):
        assert report.answer == plain.answer
        assert report.in_distribution is True
        if report.confidence is not None:
            assert 0.0 < report.confidence <= 1.0
            assert report.risk_values['confidence'] == f'{report.confidence:.2f}'
        again = SceneReport.from_dict(json.loads(report.to_json()))
        assert again.to_dict() == report.to_dict()


def test_answers_about_another_world_are_unknown_and_give_no_orders(pipeline: Pipeline) -> None:
    pipeline.calibration = Calibration(Scale(), replace(anywhere(), limit=0.0))
    pieces: list[str] = []
    try:
        report = pipeline.describe(window())
        question = 'Is it safe to drive on?'
        answer = pipeline.ask(window(), question, on_text=pieces.append)
    finally:
        pipeline.calibration = None
    assert report.answer == Answer(NOTHING_KNOWN, 'unknown', None, None, UNLIKE_TRAINING,
                                   UNKNOWN_ACTION)
    data = report.to_dict()
    assert (data['risk'], data['object'], data['confidence']) == ({'level': 'unknown'}, None, None)
    assert data['in_distribution'] is False
    # What the model wrote is still there for whoever looks for it, and nowhere else.
    written = data.pop('rejected_output')
    assert written
    assert written not in json.dumps(data)
    assert answer == ''.join(pieces) == NOTHING_KNOWN


@pytest.mark.timeout(300)
def test_calibrate_from_the_command_line(folder: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_module, '_DRIVES', {
        'train': SPLITS['train'][-1:], 'val': [], 'test': []})
    monkeypatch.setattr(calibration_module, '_SIZES', ((224, 128),))
    bag = drive(tmp_path / 'bag', 16)
    try:
        done = CliRunner().invoke(app, [
            'eval', 'calibrate', '--model', str(folder), '--n', '12', '--train-n', '40',
            '--test-n', '12', '--bag', str(bag), '--report', str(tmp_path / 'docs'), '--json'])
        assert done.exit_code == 0, done.output
        result = json.loads(done.output.splitlines()[-1])
        assert result['n'] == 12
        assert 0.0 <= result['marked'] <= 1.0
        # Flat colours and one box: no road that was ever rendered.
        assert result['bags'] == {'bag': {'n': 4, 'marked': 1.0}}
        assert set(result['drives']) == {'of the demonstration'}
        assert result['drives']['of the demonstration']['n'] > 100
        assert set(result['changed'].values()) == {1.0}
        page = (tmp_path / 'docs' / 'confidence.md').read_text()
        assert '| recording `bag` | 4 | 100.0% |' in page
        assert (tmp_path / 'docs' / 'confidence.png').stat().st_size > 5000
        pipeline = Pipeline.load(PipelineConfig(model=str(folder)))
        assert pipeline.calibration is not None
        assert pipeline.describe(window()).answer.risk == 'unknown'
    finally:
        (folder / FILE).unlink(missing_ok=True)


def test_a_check_needs_a_calibration(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match='no calibration'):
        check(pipeline, 1)


def test_recordings_are_out_of_the_shipped_world_and_drives_are_not() -> None:
    shipped = Calibration.load(model_path('embedded'), PROPOSAL)
    assert shipped is not None
    assert shipped.world is not None
    for bag in real_bags():
        held = [shipped.world.holds(one) for seen in calibration_module._bag_windows(bag)
                for one in seen.values()]
        assert np.mean(held) <= 0.05, bag
    drawn = draw_drive(SPLITS['test'][50])
    pictures = calibration_module._filmed(drawn, (480, 270), 80)
    inside = [shipped.world.holds(one) for one in calibration_module._windows(pictures)]
    assert np.mean(inside) > 0.9
