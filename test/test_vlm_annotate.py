# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded drive through the command line, with a checkpoint of every family."""

from __future__ import annotations

import json
from pathlib import Path

from bag_maker import real_bags
import pytest
from typer.testing import CliRunner
from vlm_maker import make, names

from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import token_budget
from vts_ros.tools.answer_files import ANSWERS, PAGE
from vts_ros.tools.cli.command_line import app

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('name', names())
def test_annotate_takes_any_family(name: str, tmp_path: Path) -> None:
    bag = min(real_bags(), key=lambda path: sum(
        file.stat().st_size for file in path.iterdir() if file.suffix == '.mcap'))
    out = tmp_path / 'out'
    done = CliRunner().invoke(app, [
        'annotate', '--bag', str(bag), '--out', str(out), '--structured', '--every', '8',
        '--vlm', str(make(name, tmp_path / name)), '--max-new-tokens', '24', '--threads', '1'])
    assert done.exit_code == 0, done.output
    reports = [SceneReport.from_dict(json.loads(line))
               for line in (out / ANSWERS).read_text(encoding='utf-8').splitlines()]
    assert reports
    for report in reports:
        assert report.model == name
        assert len(report.frames) == 5
        assert len(report.keep) == token_budget(len(report.frames), report.grid, 0.6)
    assert (out / PAGE).stat().st_size > 10_000


@pytest.mark.parametrize(('name', 'mode'), [
    ('qwen2_vl', 'window'), ('qwen2_5_vl', 'causal'), ('qwen3_vl', 'window')])
def test_annotate_takes_frames_as_a_video(name: str, mode: str, tmp_path: Path) -> None:
    bag = min(real_bags(), key=lambda path: sum(
        file.stat().st_size for file in path.iterdir() if file.suffix == '.mcap'))
    out = tmp_path / 'out'
    done = CliRunner().invoke(app, [
        'annotate', '--bag', str(bag), '--out', str(out), '--every', '8', '--mode', mode,
        '--frames-as', 'video', '--vlm', str(make(name, tmp_path / name)),
        '--max-new-tokens', '8', '--threads', '1'])
    assert done.exit_code == 0, done.output
    reports = [SceneReport.from_dict(json.loads(line))
               for line in (out / ANSWERS).read_text(encoding='utf-8').splitlines()]
    assert reports
    for report in reports:
        rows, columns = report.grid
        assert sorted(place for step in report.steps for place in step) == list(
            range(len(report.frames)))
        assert report.tokens_total == len(report.steps) * rows * columns
        assert len(report.steps) == (len(report.frames) + 1) // 2
        assert 0 < len(report.keep) < report.tokens_total
    assert (out / PAGE).stat().st_size > 10_000
