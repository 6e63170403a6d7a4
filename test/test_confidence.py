# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The confidence of an answer, and the pictures that a model does not know."""

from __future__ import annotations

import json
import math
from pathlib import Path
import shutil
from types import SimpleNamespace
from typing import Any

from all_commands import app
from bag_maker import jpeg, picture
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from transformers import LogitsProcessorList
from typer.testing import CliRunner

from vts_ros.errors import CalibrationError
from vts_ros.lab.evaluation import calibration as calibration_module
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.calibration import check, reliability
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.paths import model_path
from vts_ros.pipeline.confidence import (
    Calibration,
    fact_log_probability,
    FILE,
    PlattScaler,
    TokenLogProbabilities,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.vlm import Vlm

ANSWER = ('{"risk": "high", "object": {"label": "traffic light", '
          '"box": [0.10, 0.20, 0.30, 0.40]}, "explanation": "The light is red.", '
          '"action": "stop"}')


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
    certainty = TokenLogProbabilities()
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
        assert PlattScaler()(math.log(share)) == pytest.approx(share)
    assert 0.999 < PlattScaler()(0.0) <= 1.0


def simulated(n: int, slope: float, offset: float) -> tuple[NDArray[np.float64],
                                                             NDArray[np.bool_]]:
    rng = np.random.default_rng(3)
    said = rng.uniform(0.3, 0.999, n)
    odds = slope * np.log(said / (1 - said)) + offset
    return np.log(said), rng.random(n) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize(('slope', 'offset'), [(1.0, 0.0), (0.4, -0.5), (2.0, 1.0)])
def test_the_scale_that_was_there_is_found(slope: float, offset: float) -> None:
    found = PlattScaler.fit(*simulated(20_000, slope, offset))
    assert found.slope == pytest.approx(slope, abs=0.12)
    assert found.offset == pytest.approx(offset, abs=0.12)


def test_a_fit_makes_confidences_true() -> None:
    logs, right = simulated(4000, 0.4, -0.5)
    scale = PlattScaler.fit(logs[:2000], right[:2000])
    truth = right[2000:].astype(float)
    raw = calibration_module._errors(np.exp(logs[2000:]), truth)
    fitted = calibration_module._errors(np.array([scale(log) for log in logs[2000:]]), truth)
    assert raw['ece'] > 0.1 > 3 * fitted['ece']
    assert fitted['brier'] < raw['brier']


@pytest.mark.parametrize('right', [[True] * 40, [False] * 40, [True] * 20 + [False] * 20])
def test_fits_stay_finite(right: list[bool]) -> None:
    # All right, all wrong, and the surer the less right.
    logs = np.log(np.linspace(0.5, 0.9999, 40))
    scale = PlattScaler.fit(logs, right)
    assert math.isfinite(scale.slope)
    assert scale.slope >= 0.0
    values = [scale(log) for log in logs]
    assert all(0.0 < value < 1.0 for value in values)
    if right[0] != right[-1]:
        assert values == pytest.approx([0.5] * 40)


def test_nothing_to_fit_is_said() -> None:
    with pytest.raises(CalibrationError, match='no answers'):
        PlattScaler.fit([], [])


def test_bins_of_reliability() -> None:
    confidence = np.array([0.05, 0.06, 0.95, 1.0])
    assert reliability(confidence, np.array([0.0, 1.0, 1.0, 1.0])) == [
        (0.055, 0.5, 2), (0.975, 1.0, 2)]


# The file and the pipeline

PROPOSAL = model_path('proposal/frame.onnx')


def test_without_a_file_all_is_off(pipeline: Pipeline) -> None:
    assert pipeline.calibration is None
    report = pipeline.describe(window())
    assert report.confidence is None
    assert 'confidence' not in report.risk_values


def test_calibrations_survive_the_disk(folder: Path) -> None:
    saved = Calibration(PlattScaler(0.7, -0.1))
    saved.save(folder, PROPOSAL)
    try:
        loaded = Calibration.load(folder, PROPOSAL)
        assert loaded is not None
        assert loaded.scale == saved.scale
    finally:
        (folder / FILE).unlink()


def test_a_calibration_of_other_weights_is_not_used(
        folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / 'other.onnx'
    other.write_bytes(PROPOSAL.read_bytes()[:-1] + b'x')
    try:
        Calibration(PlattScaler()).save(folder, other)
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


@pytest.mark.parametrize('text', ['', '{}', '{"schema": 9}', '{"schema": 3, "scale": []}'])
def test_a_broken_file_is_one_line(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    try:
        with pytest.raises(CalibrationError, match='cannot be read'):
            Calibration.load(folder, PROPOSAL)
    finally:
        (folder / FILE).unlink()


def test_reports_have_a_confidence_and_stay_what_they_were(
        model: str, pipeline: Pipeline) -> None:
    # The guard of a model lets rendered pictures pass: about others nothing is said.
    # No stamp is used twice: what was seen under it is remembered.
    windows = [[Frame('front', (first + index) * 400_000_000, rgb)
                for index, rgb in enumerate(render_window(scene).frames)]
               for first, scene in zip((1000, 2000), balanced_scenes('val', 2))]
    before = [describe_batch(pipeline, [window])[0] for window in windows]
    pipeline.calibration = Calibration(PlattScaler())
    try:
        reports = describe_batch(pipeline, windows)
    finally:
        pipeline.calibration = None
    values = [report.confidence for report in reports]
    if model == 'embedded':
        # The trained model writes facts, and is not equally sure of all of them.
        assert None not in values
        assert len(set(values)) == 2
    for report, plain in zip(reports, before):
        assert report.answer == plain.answer
        assert plain.confidence is None
        if report.confidence is not None:
            assert 0.0 < report.confidence < 1.0
            assert report.risk_values['confidence'] == f'{report.confidence:.2f}'
        again = SceneReport.from_dict(json.loads(report.to_json()))
        assert again.to_dict() == report.to_dict()


@pytest.mark.slow
def test_calibrate_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    try:
        done = CliRunner().invoke(app, [
            'eval', 'calibrate', '--model', str(folder), '--n', '8', '--test-n', '8',
            '--report', str(tmp_path / 'docs'), '--json'])
        assert done.exit_code == 0, done.output
        result = json.loads(done.output.splitlines()[-1])
        assert result['n'] == 8
        assert 'calibrated' in (tmp_path / 'docs' / 'confidence.md').read_text()
        assert (tmp_path / 'docs' / 'confidence.png').stat().st_size > 5000
        pipeline = Pipeline.load(PipelineConfig(model=str(folder)))
        assert pipeline.calibration is not None
    finally:
        (folder / FILE).unlink(missing_ok=True)


def test_a_check_needs_a_calibration(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match='no calibration'):
        check(pipeline, 1)
