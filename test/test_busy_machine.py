# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers beside other programs, and what the page says of them."""

from __future__ import annotations

import json
from pathlib import Path
import time

import psutil
import pytest
from typer.testing import CliRunner

from vts_ros.lab.bench.busy_machine import _busy, rows
from vts_ros.lab.bench.speed_report import BUSY, DATA, PAGE
from vts_ros.lab.cli.bench_command import app

pytestmark = pytest.mark.slow


def counting() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.is_running()
            and child.status() != psutil.STATUS_ZOMBIE and 'while True: pass' in child.cmdline()]


def test_loops_run_while_they_are_wanted() -> None:
    with _busy(2):
        first, other = counting()
        before = first.cpu_times().user + other.cpu_times().user
        deadline = time.monotonic() + 600.0
        while first.cpu_times().user + other.cpu_times().user < before + 0.05:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert counting() == []


def test_the_page_has_both_times_and_whether_the_goal_is_met(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ['busy', '--windows', '1', '--device', 'cpu', '--report',
                                    str(tmp_path), '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert json.loads((tmp_path / DATA).read_text())[BUSY] == result
    page = (tmp_path / PAGE).read_text()
    assert '## Beside other programs' in page
    for name in ('alone', 'beside'):
        assert f'| {result[name]["p50_ms"]:.0f} ms |' in page
    assert result['ratio']['low'] <= result['ratio']['median'] <= result['ratio']['high']
    good, bad = ('\n'.join(rows({**result, 'ratio': dict.fromkeys(('median', 'low', 'high'), at)}))
                 for at in (2.5, 2.51))
    assert good.rstrip().endswith('goal: at most 2.5, met.')
    assert bad.rstrip().endswith('goal: at most 2.5, missed.')
