# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers replayed to count passes of the model."""

from __future__ import annotations

import json
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner

from vts_ros.lab.bench.decoding_passes import answers_of, main, replay
from vts_ros.paths import model_path
from vts_ros.vlm.answers import Answer, render
from vts_ros.vlm.drafts import Drafts


def test_without_help_every_token_is_a_pass_and_drafts_save_some() -> None:
    answers = [list(range(100, 130))] * 4
    assert replay(answers, None, None) == (30, 30, 30)
    drafted = replay(answers, None, Drafts())
    assert drafted.tokens == 30
    # All but the first were there before.
    assert 30 / 4 < drafted.passes < 15
    assert drafted.read >= 30


def test_answers_of_a_file_are_replayed(tmp_path: Path) -> None:
    file = tmp_path / 'answers.jsonl'
    report = {'description': 'A road.', 'risk': {'level': 'high'}, 'explanation': 'It runs.',
              'object': {'label': 'child', 'box': [0.1, 0.2, 0.3, 0.4]}, 'action': 'stop'}
    file.write_text('\n'.join(map(json.dumps, (
        report, {**report, 'risk': {'level': 'unknown'}}, {**report, 'object': None}))))
    assert answers_of(file) == [
        render(Answer('A road.', 'high', 'child', (0.1, 0.2, 0.3, 0.4), 'It runs.', 'stop')),
        render(Answer('A road.', 'high', None, None, 'It runs.', 'stop'))]
    app = Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [str(file), '--tokenizer', str(model_path('embedded'))])
    assert done.exit_code == 0, done.output
    first, *lines = done.output.splitlines()
    assert first.startswith('2 answers of ')
    assert [line.partition(':')[0] for line in lines] == ['neither', 'certain', 'drafts', 'both']
