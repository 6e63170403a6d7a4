# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""``vts bench --choose`` says what is fastest here, in the words of the parameter file."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner
import yaml

from vts_ros.engines import BACKENDS
from vts_ros.lab.bench import best_settings
from vts_ros.lab.bench.best_settings import best, yaml_of
from vts_ros.lab.cli.bench_command import app
from vts_ros.paths import share_path
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.settings import pipeline_config, SETTINGS

pytestmark = pytest.mark.slow


def row(answer: float, threads: int) -> dict[str, float]:
    return {'answer': answer, 'threads': threads}


def test_more_threads_are_chosen_only_where_they_are_worth_it() -> None:
    assert best([row(100, 1), row(97, 2), row(98, 4)]) == row(100, 1)
    assert best([row(100, 1), row(80, 2), row(78, 4)]) == row(80, 2)
    assert best([row(100, 2), row(100.1, 1)]) == row(100.1, 1)


def test_what_is_fastest_is_said_and_nothing_is_changed(
        monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing here depends on how well it is measured.
    monkeypatch.setattr(best_settings, '_WARM_UP', 0)
    monkeypatch.setattr(best_settings, '_ENGINE_RUNS', 2)
    threads, file = torch.get_num_threads(), share_path('config/vts.yaml').read_bytes()
    done = CliRunner().invoke(app, ['--choose', '--windows', '2', '--device', 'cpu', '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert (torch.get_num_threads(), share_path('config/vts.yaml').read_bytes()) == (
        threads, file)
    assert {*result['engines'], *result['no_engine']} == {*BACKENDS}
    assert result['engines'].keys() >= {'onnxruntime', 'torch'}
    floats = [way['floats'] for way in result['ways']]
    # Its own floats are float32, which is not tried twice.
    assert sorted({*floats}) == ['float32', 'float32, int8 weights']
    assert len({(way['floats'], way['threads']) for way in result['ways']}) == len(floats)
    settings = result['settings']
    exact = [way for way in result['ways'] if not way['quantization']]
    assert best(exact)['threads'] == settings['vlm.threads']
    assert settings['engine.backend'] == min(result['engines'], key=result['engines'].get)
    (node,) = yaml.safe_load(yaml_of(settings)).values()
    said = {f'{group}.{name}': value for group, own in node['ros__parameters'].items()
            for name, value in own.items()}
    assert said == settings
    defaults = {setting.name: setting.default for setting in SETTINGS}
    assert said.keys() <= defaults.keys()
    assert pipeline_config({**defaults, **said}) == PipelineConfig(
        engine_backend=settings['engine.backend'], threads=settings['vlm.threads'])
    for text in ('answers as before', 'engine:', f'threads: {settings["vlm.threads"]}'):
        assert text in done.stderr
    assert ('vts eval quantized' in done.stderr) == (result['faster_with_int8'] is not None)


@pytest.mark.parametrize('models', [['qwen2.5-0.5b'], ['embedded', 'embedded']])
def test_one_checkpoint_is_chosen_for(models: list[str]) -> None:
    done = CliRunner().invoke(app, ['--choose', *(
        word for name in models for word in ('--model', name))])
    assert done.exit_code == 2
    assert 'takes one model' in done.output
