# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A task is a folder: what it says is asked, read and drawn; what is wrong with it is told."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import re
import shutil

import numpy as np
import pytest
import yaml

from vts_ros.errors import TaskError
from vts_ros.paths import share_path
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.early_risk import EarlyRisk
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import FrameRef, KeyFrame, RISK_COLOURS, SceneReport
from vts_ros.tools.overlay_picture import overlay
from vts_ros.vlm.answers import Answer, inspect, parse, render, RISK_LEVELS, schema
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.tasks import DRIVING, load_task, prompt_file


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder of one's own, like that of driving."""
    shutil.copytree(share_path('config/tasks/driving'), tmp_path / 'yard')
    return tmp_path / 'yard'


def change(path: Path, **keys: object) -> None:
    """Change keys of a file; None takes one out."""
    found = {**yaml.safe_load(path.read_text(encoding='utf-8')), **keys}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}),
                    encoding='utf-8')


def say(folder: Path) -> None:
    """Give a task words, colours and labels of its own."""
    levels = yaml.safe_load((folder / 'risk.yaml').read_text())
    change(folder / 'risk.yaml', none={'words': ['safe'], 'colour': [1, 2, 3]},
           high={'words': ['Danger', 'high'], 'colour': [250, 0, 200]},
           **{level: levels[level] for level in ('low', 'medium', 'unknown')})
    change(folder / 'answer.json', label={'enum': ['crane', 'person']})


def test_every_shipped_task_can_be_read_and_asked() -> None:
    names = [folder.name for folder in share_path('config/tasks').iterdir()]
    assert DRIVING in names
    for name in names:
        task = load_task(name)
        assert task.name == name
        assert task.form.words.keys() == task.colours.keys() == set(RISK_LEVELS)
        prompt = Prompts.load(path=prompt_file(name)).description
        assert all(task.form.words[level][0] in prompt.instruction for level in RISK_LEVELS[:-1])


def test_words_are_written_and_read(own: Path) -> None:
    say(own)
    form = load_task(str(own)).form
    assert render(Answer(risk='high'), of_task=form).startswith('{"risk": "danger", ')
    for level in RISK_LEVELS:
        for word in form.words[level]:
            assert parse(f'{{"risk": "{word.upper()}."}}', of_task=form).risk == level
    # Driving knows no such word, and the task none of driving's that it does not name.
    assert parse('{"risk": "danger"}').risk == 'unknown'
    assert inspect('{"risk": "none"}', of_task=form).problems == ('no risk',)
    held = schema(of_task=form)['properties']
    assert held['risk'] == {'enum': ['safe', 'low', 'medium', 'danger', 'unknown']}
    assert held['object']['anyOf'][0]['properties']['label'] == {'enum': ['crane', 'person']}
    told: list[Answer] = []
    early = EarlyRisk(lambda text: parse(text, of_task=form), told.append, lambda: 0.0,
                      is_thought=False, of_task=form)
    early.on_text('{"risk": "danger", "obj')
    assert [answer.risk for answer in told] == ['high']


def test_colours_are_drawn_and_travel_with_the_report(own: Path) -> None:
    say(own)
    plain = SceneReport(1, (FrameRef('front', 1),), KeyFrame('front', 1, 0), Answer(risk='high'),
                        (0,), (1, 1))
    assert 'colours' not in plain.to_dict()
    assert plain.colour == RISK_COLOURS['high']
    report = SceneReport.from_dict(replace(plain, colours=load_task(str(own)).colours).to_dict())
    assert report.colour == (250, 0, 200)
    assert tuple(overlay(np.zeros((64, 64, 3), np.uint8), report)[2, 2]) == (250, 0, 200)


def test_a_pipeline_takes_its_task(own: Path) -> None:
    say(own)
    text = (own / 'prompts.yaml').read_text(encoding='utf-8')
    (own / 'prompts.yaml').write_text(text.replace('You watch the road', 'You watch the yard'))
    pipeline = Pipeline.load(PipelineConfig(task=str(own), threads=1, max_new_tokens=1))
    assert pipeline.prompts.description.system.startswith('You watch the yard')
    # What was measured in driving says nothing here.
    assert pipeline.calibration is None
    with pytest.raises(TaskError, match=r"no task 'nowhere': give the path .* driving"):
        Pipeline.load(PipelineConfig(task='nowhere', model='/none'))


HIGH = {'words': ['high'], 'colour': [1, 2, 3]}


@pytest.mark.parametrize(('file', 'keys', 'said'), [
    ('answer.json', {'label': 'text'}, "answer.json: 'label' must be a JSON schema of a text"),
    ('answer.json', {'label': None}, "answer.json: 'label' must be"),
    ('answer.json', {'action': {'enum': []}}, 'answer.json: "enum" of \'action\''),
    ('answer.json', {'action': {'type': 'string', 'maxLength': 0}}, "maxLength\" of 'action'"),
    ('answer.json', {'speed': {'type': 'string'}}, "no key 'speed'; known are label"),
    ('risk.yaml', {'high': None}, "risk.yaml: 'high' must have words and colour"),
    ('risk.yaml', {'high': {**HIGH, 'words': [False]}}, "'words' of 'high' must be a list"),
    ('risk.yaml', {'high': {**HIGH, 'words': ['low']}}, "'low' stands for 'low' and for 'high'"),
    ('risk.yaml', {'high': {**HIGH, 'colour': [1, 2, 256]}}, "'colour' of 'high' must be red"),
    ('risk.yaml', {'high': {**HIGH, 'title': 'x'}}, "no key 'title' of 'high'"),
    ('risk.yaml', {'deadly': HIGH}, "no key 'deadly'; known are none"),
])
def test_what_is_wrong_with_a_folder_is_one_line(
        own: Path, file: str, keys: dict[str, object], said: str) -> None:
    change(own / file, **keys)
    with pytest.raises(TaskError) as error:
        load_task(str(own))
    assert said in str(error.value)
    assert str(own / file) in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('file', 'text', 'said'), [
    ('risk.yaml', 'none: [', 'risk.yaml is no YAML: see line 1'),
    ('answer.json', '{\n"label": }', 'answer.json is no JSON: see line 2'),
    ('risk.yaml', '- none', 'risk.yaml must hold keys and values'),
    ('risk.yaml', None, 'risk.yaml cannot be read: No such file'),
    ('prompts.yaml', None, 'prompts.yaml is missing: copy the one of a shipped task'),
    ('proposal/gate.json', '{}', 'proposal/frame.onnx is missing: put the network there'),
])
def test_files_that_cannot_be_read_are_named(
        own: Path, file: str, text: str | None, said: str) -> None:
    (own / file).parent.mkdir(exist_ok=True)
    if text is None:
        (own / file).unlink()
    else:
        (own / file).write_text(text)
    with pytest.raises(TaskError, match=re.escape(said)):
        load_task(str(own))


def test_a_proposal_network_of_ones_own_is_run(own: Path) -> None:
    (own / 'proposal').mkdir()
    (own / 'proposal/frame.onnx').write_bytes(b'no network')
    with pytest.raises(RuntimeError, match=r'frame\.onnx'):
        Pipeline.load(PipelineConfig(task=str(own), engine_backend='onnxruntime', model='/none'))
