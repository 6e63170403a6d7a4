# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of methods, its intervals, and the page that it was made into."""

from __future__ import annotations

from datetime import date
import json
from pathlib import Path
from typing import Any

from all_commands import app
from conftest import ROOT
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.lab.evaluation import method_comparison as comparison
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import Run
from vts_ros.lab.evaluation.method_comparison import compare, SLICE_WINDOWS
from vts_ros.lab.evaluation.methods_page import DATA, PAGE, page, read_quality
from vts_ros.lab.rivals.registry import methods
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

DOCS = ROOT / 'docs'
NAMES = ['vts', 'random', 'dycoke']
#: Recomputed of the page: a method and a baseline, at one budget.
SLICE_METHODS, SLICE_BUDGET = ('vts', 'downsample'), 0.4


@pytest.fixture(scope='module')
def pipeline(model: str) -> Pipeline:
    return Pipeline.load(PipelineConfig(model=model))


@pytest.fixture(scope='module')
def written(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Return the JSON that the command prints, and the folder of its page."""
    folder = tmp_path_factory.mktemp('docs')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, 'SLICE_WINDOWS', 2)
        done = CliRunner().invoke(app, [
            'eval', 'scenes', '--model', model, '--methods', ','.join(NAMES), '--n', '4',
            '--budgets', '1,0.4,0.4,0.1', '--brief', '--report', str(folder), '--json'])
    assert done.exit_code == 0, done.output
    return json.loads(done.output.splitlines()[-1]), folder


@pytest.mark.slow
def test_the_form_of_the_result(written: tuple[dict[str, Any], Path]) -> None:
    result, _ = written
    assert result['n'] == 4
    assert set(result['methods']) == set(NAMES)
    for name, budgets in result['methods'].items():
        assert list(budgets) == ['1', '0.4', '0.1']
        for budget, metrics in budgets.items():
            if (name, budget) == ('dycoke', '0.1'):
                assert metrics is None
                continue
            for metric in ('risk_accuracy', 'object_accuracy'):
                low, high = metrics[f'{metric}_ci']
                assert 0.0 <= low <= metrics[metric] <= high <= 1.0
            assert ('object_accuracy_sd' in metrics) == (name == 'random')
    # All tokens are all tokens, whatever the method, and each window counts once.
    for budgets in result['methods'].values():
        for metric in ('risk_accuracy', 'object_accuracy'):
            assert budgets['1'][metric] == result['dense'][metric]
    assert result['slice']['n'] == 2
    assert set(result['slice']['methods']) == set(NAMES)


@pytest.mark.slow
def test_several_processes_find_the_same(written: tuple[dict[str, Any], Path],
                                         pipeline: Pipeline,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, 'SLICE_WINDOWS', 2)
    # Pieces of three windows and of one.
    monkeypatch.setattr(comparison, '_CHUNK', 3)
    shares: list[float] = []
    found = compare(pipeline, NAMES, 'test', 4, (1.0, 0.4, 0.1), True, 2,
                    lambda share, what: shares.append(share))
    found = json.loads(json.dumps(found))
    for name in ('dense', 'hard', 'methods', 'against', 'slice'):
        assert found[name] == written[0][name], name
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.slow
def test_rivals_are_baselines_on_the_same_windows(written: tuple[dict[str, Any], Path]) -> None:
    result, _ = written
    for budget, metrics in result['against'].items():
        for metric, found in metrics.items():
            values = {name: result['methods'][name][budget] for name in ('random', 'dycoke')}
            best = max(row[metric] for row in values.values() if row is not None)
            assert values[found['best']][metric] == best
            ahead = result['methods']['vts'][budget][metric] - best
            assert found['ahead'] == pytest.approx(ahead, abs=2e-4)
            assert found['ahead_ci'][0] <= found['ahead'] <= found['ahead_ci'][1]
    assert result['against']['1']['risk_accuracy']['ahead_ci'] == [0.0, 0.0]


@pytest.mark.slow
def test_the_page_is_made_of_its_data(written: tuple[dict[str, Any], Path],
                                      pipeline: Pipeline) -> None:
    result, folder = written
    found, run = read_quality(folder)
    assert found == result
    text = (folder / PAGE).read_text(encoding='utf-8')
    assert text == page(found, methods(pipeline.sparsifier, NAMES), run)
    assert '| `vts` |' in text
    assert 'within noise' in text


@pytest.mark.slow
def test_a_page_says_where_it_is_behind(written: tuple[dict[str, Any], Path],
                                        pipeline: Pipeline) -> None:
    result = json.loads(json.dumps(written[0]))
    against = result['against']['0.4']['object_accuracy']
    against.update(best='random', ahead=-0.1, ahead_ci=[-0.15, -0.05], kept=0.9, kept_ci=[0.8, 1])
    text = page(result, methods(pipeline.sparsifier, NAMES),
                Run('vts', date(2026, 11, 24), 'here', 1.0))
    assert ('| 40% | risk object | `random` | -10.0 [-15.0, -5.0] | behind | '
            '90.0 [80.0, 100.0] |') in text


def test_intervals_are_those_of_the_theory() -> None:
    values = (np.random.default_rng(0).random(400) < 0.7).astype(float)
    low, high = Bootstrap(400).mean(values)
    error = 1.96 * np.sqrt(values.mean() * (1 - values.mean()) / 400)
    assert (low, high) == pytest.approx(
        (values.mean() - error, values.mean() + error), abs=0.008)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    first = (rng.random(300) < 0.6).astype(float)
    second = first.copy()
    second[:9] = 1.0 - second[:9]
    bootstrap = Bootstrap(300)
    low, high = bootstrap.difference(first, second)
    assert high - low < 0.05 < 0.5 * (bootstrap.mean(first)[1] - bootstrap.mean(first)[0]) + 0.02
    assert bootstrap.difference(first, first) == (0.0, 0.0)
    assert bootstrap.ratio(first, first) == (1.0, 1.0)
    assert bootstrap.ratio(first, np.zeros(300)) is None


@pytest.mark.slow
@pytest.mark.skipif(not (DOCS / DATA).is_file(), reason='docs has no measured page yet')
def test_the_figures_of_the_docs_can_be_computed_again(pipeline: Pipeline) -> None:
    result, run = read_quality(DOCS)
    known = methods(pipeline.sparsifier, result['methods'])
    assert (DOCS / PAGE).read_text(encoding='utf-8') == page(result, known, run)
    recorded, count = result['slice'], result['slice']['n']
    assert count == min(SLICE_WINDOWS, result['n'])
    assert f'{SLICE_BUDGET:g}' in recorded['methods']['vts']
    again = compare(pipeline, SLICE_METHODS, result['split'], count, (SLICE_BUDGET,),
                    result['brief'])
    pairs = [(again['dense'], recorded['dense']), *(
        (again['methods'][method][f'{SLICE_BUDGET:g}'],
         recorded['methods'][method][f'{SLICE_BUDGET:g}']) for method in SLICE_METHODS)]
    # One answer in all may be another on another processor: decoding picks the largest of many
    # sums, and boxes may be off by a digit of one side here and there. Tokens that were drawn at
    # random change these few answers no more than that, but boxes by 0.025.
    others = 0
    for now, then in pairs:
        off = [round(abs(now[name] - then[name]) * count)
               for name in ('risk_accuracy', 'object_accuracy')]
        others += max(off)
        assert now['box_miou'] == pytest.approx(then['box_miou'], abs=0.012)
    assert others <= 1
