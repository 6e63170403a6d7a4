# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What "exact" means in other floats: the measurement finds what is equal, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from all_commands import app
import pytest
from typer.testing import CliRunner
from vlm_maker import make

from vts_ros.lab.evaluation import numeric_precision
from vts_ros.lab.evaluation.numeric_precision import load_options, measure, PAIRS
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Vlm, VlmError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make('qwen3_vl', tmp_path_factory.mktemp('models') / 'qwen3_vl')


def test_float32_is_exact_and_bfloat16_nearly(checkpoint: Path) -> None:
    done = CliRunner().invoke(app, [
        'eval', 'precision', '--model', str(checkpoint), '--n', '2', '--tokens', '5',
        '--precisions', 'float32,bfloat16', '--device', 'cpu', '--json'])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])['precisions']
    for pair in PAIRS:
        single, half = found['float32'][pair], found['bfloat16'][pair]
        assert (single['same'], single['tokens']) == (1.0, 10)
        assert single['median'] <= single['largest'] < 1e-4
        assert 1e-4 < half['largest'] < 1.0
        assert half['tokens'] == 10
        assert 10 * half['same'] == pytest.approx(round(10 * half['same']))


def test_what_is_not_the_same_is_found(
        checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masked = numeric_precision._masked

    def with_one_more(vlm: Vlm, prepared: Any, keep: Any, answer: Any) -> Any:
        return masked(vlm, prepared, keep[1:], answer)

    monkeypatch.setattr(numeric_precision, '_masked', with_one_more)
    pipeline = Pipeline.load(PipelineConfig(model=str(checkpoint), device='cpu'))
    result = measure(pipeline, lambda **options: Vlm.load(checkpoint, device='cpu', **options),
                     ['float32'], 1, 4)
    figures = result['precisions']['float32']
    assert figures['pruned']['largest'] > 100 * max(
        figures['drafted']['largest'], figures['cached']['largest'], 1e-5)


def test_a_precision_that_there_is_not_is_told() -> None:
    with pytest.raises(VlmError, match="no precision 'fp8', there are: float32, bfloat16, "):
        load_options('fp8')
