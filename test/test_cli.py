# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command line as its users meet it: processes, exit codes, one line per error."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import subprocess
import sys

from all_commands import app
from bag_maker import drive
from preloaded import run_module
import pytest
import typer
from typer.testing import CliRunner

from vts_ros import __version__
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import token_budget
from vts_ros.tools.answer_files import ANSWERS, PAGE
from vts_ros.tools.cli.command_line import run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def vts(*arguments: object, timeout_sec: float = 500.0) -> subprocess.CompletedProcess[str]:
    """Run the command with a terminal of fixed width."""
    return run_module('vts_ros.tools.cli', *arguments, timeout_sec=timeout_sec, COLUMNS='120',
                      NO_COLOR='1')


def vts_alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as it is started, for what is to load no models."""
    return subprocess.run(
        [sys.executable, '-m', 'vts_ros.tools.cli', *map(str, arguments)], check=False,
        capture_output=True, text=True, timeout=500.0,
        env={**os.environ, 'COLUMNS': '120', 'NO_COLOR': '1'})


def test_help_teaches_and_loads_nothing_heavy() -> None:
    """Help names the commands and shows an example, without importing models or ROS."""
    done = vts_alone('--help')
    assert done.returncode == 0
    for command in ('annotate', 'replay', 'fleet', 'render', 'models', 'eval', 'train', 'compile',
                    'bench'):
        assert command in done.stdout
    assert 'vts annotate' in done.stdout
    heavy = {'torch', 'transformers', 'cv2', 'matplotlib', 'rosbags', 'rclpy'}
    loaded = subprocess.run(
        [sys.executable, '-c', 'import sys, vts_ros.tools.cli; print(*sys.modules)'], check=True,
        capture_output=True, text=True).stdout.split()
    assert not heavy & set(loaded)


@pytest.mark.parametrize('command', ['annotate', 'replay', 'render', 'models', 'eval scenes',
                                     'compile', 'bench', 'bench engines', 'bench growth',
                                     'bench deadline', 'bench instructions', 'fleet annotate',
                                     'fleet find', 'fleet report', 'fleet bench',
                                     'fleet scale'])
def test_every_command_has_an_example(command: str) -> None:
    """The help of a command ends with a line that can be copied."""
    done = CliRunner().invoke(app, [*command.split(), '--help'], env={'COLUMNS': '120'})
    assert done.exit_code == 0
    assert f'Example: vts {command}' in done.stdout


def test_help_wraps_a_paragraph_where_the_terminal_ends() -> None:
    """Not where the lines of the source end: on a wide terminal it is one line."""
    done = subprocess.run(
        [sys.executable, '-m', 'vts_ros.tools.cli', 'bench', '--help'], check=True,
        capture_output=True, text=True, timeout=500.0,
        env={**os.environ, 'COLUMNS': '600', 'TERMINAL_WIDTH': '600', 'NO_COLOR': '1'})
    line, = (line for line in done.stdout.splitlines() if 'Every window of a rendered' in line)
    assert line.rstrip().endswith('those of one window of one run.')


def test_version() -> None:
    """The version is that of the package."""
    assert vts_alone('--version').stdout.strip() == f'vts_ros {__version__}'


@pytest.mark.parametrize(('arguments', 'reason'), [
    (('annotate', '--bag', '/nowhere'), '/nowhere does not exist'),
    (('render', '/proc/scenes.gif', '--family', 'flood'), "family 'flood' is none of"),
    (('render', '/dev/null'), '/dev/null exists already'),
])
def test_errors_are_one_line(arguments: tuple[str, ...], reason: str) -> None:
    """What a user did wrong is said in one line on stderr, with exit code 1."""
    done = vts(*arguments)
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    assert line.startswith('vts: ')
    assert reason in line


@pytest.mark.parametrize(('arguments', 'reason'), [
    (('annotate', '--bag', '/nowhere', '--keep-ratio', 0), 'greater than or equal to 0.01'),
    (('eval', 'scenes', '--budgets', '0.6,0'), '0 is not above 0'),
    (('eval', 'scenes', '--split', 'all'), "'all' is not one of"),
    (('eval', 'scenes', '--methods', 'vts', '--questions'), 'not asked about --methods'),
    (('bench', '--frames', '5,x'), "'5,x' is no list of numbers"),
    (('bench', 'growth', '--cameras', '0'), "'0' is no list of numbers"),
])
def test_impossible_options_are_refused_before_anything_is_loaded(
        arguments: tuple[object, ...], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep nothing or to test on no split are mistakes in the command."""
    monkeypatch.setenv('PYTHONPROFILEIMPORTTIME', '1')
    done = vts_alone(*arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert 'loading' not in done.stderr
    imported = re.findall(r'^import time:.*\| +(\S+)$', done.stderr, re.MULTILINE)
    assert 'typer' in imported
    assert not {'torch', 'transformers', 'onnxruntime'} & set(imported)


@pytest.mark.skipif(not (ROOT / 'models' / 'embedded').is_dir(),
                    reason='the language model is not in this checkout')
def test_eval_ends_with_json() -> None:
    """The last line is for programs: the metrics with all tokens and with fewer."""
    done = vts('eval', 'scenes', '--n', 2, '--budgets', '0.5', '--questions', '--json')
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['n'] == 2
    assert result['split'] == 'test'
    assert set(result['vts']) == {'0.5'}
    assert set(result['vts']['0.5']) == set(result['dense'])
    for metrics in (result['dense'], result['vts']['0.5']):
        assert metrics['questions']['n'] == 10
        assert 0.0 < metrics['questions']['accuracy'] <= 1.0
    # People read the same figures in the table.
    assert re.search(r'questions \(10, guess [01]\.\d\d\) +[│|] +'
                     rf'{result["dense"]["questions"]["accuracy"]:.3f}', done.stderr)
    assert 'facts_accuracy' in done.stderr


def test_debug_shows_the_traceback() -> None:
    """With --debug the place of the error is shown."""
    done = vts('--debug', 'annotate', '--bag', '/nowhere')
    assert done.returncode == 1
    assert 'Traceback' in done.stderr


@pytest.mark.parametrize(('code', 'said'), [
    ('from vts_ros.pipeline.frames import FrameBuffer; FrameBuffer(0, 0.4)',
     'vts: window of 0 frames .*'),
    ('import numpy as np; np.zeros(2) + np.zeros(3)',
     r'vts: ValueError: operands could not be broadcast .* \(vts --debug shows where\)')])
def test_a_surprise_says_how_to_see_where_it_came_from(
        code: str, said: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """And a ValueError that the package raises on purpose does not."""
    monkeypatch.setattr(sys, 'argv', ['vts'])
    command = typer.Typer(pretty_exceptions_enable=False)
    command.command()(lambda: exec(code, {'__name__': 'vts_ros.made_up'}))
    assert run(command) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(said + '\n', error), error


def test_unknown_model_is_one_line(tmp_path: Path) -> None:
    """A model that is not there is named."""
    done = vts('annotate', '--bag', drive(tmp_path / 'bag', 3), '--model', tmp_path / 'no_model',
               '--out', tmp_path / 'out')
    assert done.returncode == 1
    assert 'no_model' in done.stderr
    assert 'Traceback' not in done.stderr


def test_unusable_prompts_are_one_line(tmp_path: Path) -> None:
    """Prompts that are not there are told before a model is looked for."""
    done = vts('annotate', '--bag', drive(tmp_path / 'bag', 3), '--language', 'fr', '--prompts',
               tmp_path / 'fr.yaml', '--model', tmp_path / 'no_model', '--out', tmp_path / 'out')
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    assert line.startswith(f'vts: prompt file {tmp_path / "fr.yaml"} cannot be read')


def test_annotate_prints_every_answer(tmp_path: Path) -> None:
    """The command writes the results, and prints a line per answer and where to look."""
    model = tmp_path / 'tiny'
    create_checkpoint(
        model, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
        text_intermediate=64, hidden_size=32, depth=2, num_heads=2,
        intermediate_size=64)
    out = tmp_path / 'out'
    done = vts('annotate', '--bag', drive(tmp_path / 'bag', 16), '--out', out, '--model', model,
               '--max-new-tokens', 4, '--keep-ratio', 0.5, '--every', 2, '--threads', 1)
    assert done.returncode == 0, done.stderr
    reports = [SceneReport.from_dict(json.loads(line))
               for line in (out / ANSWERS).read_text().splitlines()]
    assert len(reports) == 2
    kept, total = len(reports[0].keep), reports[0].tokens_total
    assert kept == token_budget(1, (1, total), 0.5)
    assert done.stdout.count(f' {kept}/{total} ') == 2
    assert str(out / PAGE) in done.stdout.replace('\n', '')
