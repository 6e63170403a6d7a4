# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A keep ratio for every window: the rule, how it gives out tokens, what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

from all_commands import app
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.lab.cli import budget_command
from vts_ros.lab.evaluation import budget_windows
from vts_ros.lab.evaluation.budget_evaluation import CHANCE, judge, ORACLE, RULE
from vts_ros.lab.evaluation.budget_page import verdict
from vts_ros.lab.evaluation.budget_rule import allocate, fit_rule, fixed_right, price_of
from vts_ros.lab.evaluation.budget_windows import Answered, PREDICTORS
from vts_ros.lab.evaluation.method_comparison import prepare_ends, prepare_last
from vts_ros.lab.scenes.clips import make_scene, render
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

RATIOS = (1.0, 0.4, 0.2, 0.1)


def windows(seed: int, n: int, matters: float) -> Answered:
    """Return windows of which one predictor says, as much as it matters, what they need."""
    rng = np.random.default_rng(seed)
    known = rng.normal(size=(n, len(PREDICTORS))) * 5.0 + 2.0
    need = matters * (known[:, 3] - 2.0) / 5.0 + rng.logistic(size=n)
    right = np.stack([need < limit for limit in (99.0, 4.0, 2.5, 1.0)], axis=1).astype(float)
    return Answered(known, right, right)


def test_a_rule_finds_what_matters_and_how_often_answers_are_lost() -> None:
    val = windows(0, 4000, 2.0)
    rule = fit_rule(val.known, val.level, RATIOS)
    # Held back a little by its ridge; nothing else says anything.
    assert rule.weights[3] == pytest.approx(2.0, abs=0.25)
    assert np.abs(np.delete(rule.weights, 3)).max() < 0.1
    losses = rule.losses(val.known)
    assert losses[:, 0].tolist() == [0.0] * 4000
    assert losses.mean(axis=0) == pytest.approx(1.0 - val.level.mean(axis=0), abs=5e-3)
    assert (np.diff(losses, axis=1) > 0.0).all()


def test_budgets_that_lose_nothing_and_that_rise_are_no_trouble() -> None:
    val = windows(1, 50, 0.0)
    sure = np.ones_like(val.level)
    rule = fit_rule(val.known, sure, RATIOS)
    assert np.isfinite(rule.weights).all()
    assert rule.losses(val.known).max() < 0.05
    with pytest.raises(ValueError, match='budgets have to fall'):
        fit_rule(val.known, val.level, RATIOS[::-1])


def test_the_price_gives_the_mean_budget_and_tokens_go_where_they_save_most() -> None:
    shares = np.array([1.0, 0.4, 0.2, 0.1])
    losses = np.array([[0.0, 0.0, 0.5, 0.6], [0.0, 0.01, 0.02, 0.03]])
    place = allocate(losses, shares, price_of(losses, shares, 0.25))
    # By hand: 0.4 for the first, where less costs half of the answers, and 0.1 for the second.
    assert place.tolist() == [1, 3]
    rng = np.random.default_rng(0)
    many = np.sort(rng.random((500, 4)), axis=1) * rng.random((500, 1))
    many[:, 0] = 0.0
    for wanted in (0.2, 0.4, 0.8):
        mean = shares[allocate(many, shares, price_of(many, shares, wanted))].mean()
        assert wanted - 0.01 < mean <= wanted


def test_one_budget_for_all_lies_between_those_that_were_measured() -> None:
    shares, right = np.array([1.0, 0.4, 0.2]), np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert fixed_right(right, shares, 0.3).tolist() == pytest.approx([0.5, 0.0])
    assert fixed_right(right, shares, 0.4).tolist() == [1.0, 0.0]
    assert fixed_right(right, shares, 1.0).tolist() == [1.0, 1.0]
    assert fixed_right(right, shares, 0.05).tolist() == [0.0, 0.0]


def test_a_rule_that_knows_something_is_ahead_and_one_that_does_not_is_not() -> None:
    found = judge(windows(0, 2000, 2.0), windows(1, 2000, 2.0), RATIOS, (0.2,))
    ahead = {name: rows['0.2']['level_ahead'] for name, rows in found['rules'].items()}
    assert ahead[RULE] == pytest.approx(ahead['saliency peak'], abs=0.02)
    assert ahead[ORACLE] > ahead[RULE] > 0.03 > ahead['novelty']
    assert ahead[CHANCE] <= 0.0
    assert found['rules'][RULE]['0.2']['budget'] == pytest.approx(0.2, abs=0.02)
    assert 'ahead at 20% of the tokens on average' in verdict(found)
    assert verdict(found).endswith('It loses less.')
    nothing = judge(windows(0, 2000, 0.0), windows(1, 2000, 0.0), RATIOS, (0.2,))
    assert 'it is no setting of the node' in verdict(nothing)


def test_two_windows_of_a_clip_are_those_that_are_prepared_alone() -> None:
    pipeline = Pipeline.load(PipelineConfig())
    try:
        clip = render(make_scene(1_000_000_001, 'lead braking', 4))
        before, now = prepare_ends(pipeline, clip, (3, 4), 3)
        alone = prepare_last(pipeline, clip, 3)
    finally:
        pipeline.close()
    assert (now.evidence.tokens == alone.evidence.tokens).all()
    assert now.truth == alone.truth
    assert now.frames == alone.frames == clip.truths[1:]
    assert (before.evidence.frames == clip.frames[:3]).all()
    assert before.truth == clip.window_truth(2, 3) != now.truth


@pytest.mark.slow
def test_the_command_answers_goes_on_and_writes_the_page(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / 'tiny'
    create_checkpoint(model, ['a car ahead', 'brake'], vocab_size=600, text_hidden=48,
                      text_layers=2, text_heads=2, text_intermediate=96)
    monkeypatch.setattr(budget_windows, '_CHUNK', 8)
    monkeypatch.setattr(budget_command, '_CHOICES', (1.0, 0.1))
    line = ['eval', 'budget', '--model', str(model), '--n', '8', '--budgets', '0.2',
            '--out', str(tmp_path / 'out'), '--report', str(tmp_path / 'docs'), '--json']
    first = CliRunner().invoke(app, line)
    assert first.exit_code == 0, first.output
    kept = {path: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
    assert sorted(path.name for path in kept) == ['test-00000.json', 'val-00000.json']
    rows = json.loads((tmp_path / 'out' / 'val-00000.json').read_text())
    assert len(rows) == 8
    assert all(row['known'].keys() == PREDICTORS.keys() for row in rows)
    result = json.loads(first.stdout.splitlines()[-1])
    page = (tmp_path / 'docs' / 'token_budget.md').read_text(encoding='utf-8')
    assert verdict(result) in page
    assert result['n'] == {'val': 8, 'test': 8}
    # What was answered is not answered again.
    monkeypatch.setattr(budget_windows, 'answer_all', None)
    assert CliRunner().invoke(app, line).exit_code == 0
    assert kept == {path: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
