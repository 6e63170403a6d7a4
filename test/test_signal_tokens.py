# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Learned tokens for what the car does: an adapter brings them, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import json
from pathlib import Path
import shutil

from all_commands import app
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vts_ros.lab.scenes.answered_recording import write_shown
from vts_ros.lab.scenes.driving_lessons import driving_lessons
from vts_ros.lab.training.adapter_lessons import (
    _facts,
    _in_batches,
    _some_of,
    AdapterCourse,
    Lesson,
    Shown,
)
from vts_ros.lab.training.adapter_training import train_adapter
from vts_ros.lab.training.answered_windows import read_answers, with_pictures
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.guard import SignatureGuard
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.answers import Answer, render
from vts_ros.vlm.boxes import BoxForm, ZERO_TO_ONE
from vts_ros.vlm.conventions import TRAINED_HERE
from vts_ros.vlm.prompts import describe_prompt, Prompts
from vts_ros.vlm.vehicle import SIGNAL_TOKENS, Vehicle

TOKENS = 'signal_tokens.json'
BRAKING = Vehicle(80 / 3.6, 0.3, 'left', True)
TOLD = '<|speed 80|><|braking|><|signal left|><|turning left|>'


@pytest.mark.parametrize(('vehicle', 'told'), [
    (Vehicle(), []), (Vehicle(float('nan'), float('inf')), []),
    (BRAKING, ['<|speed 80|>', '<|braking|>', '<|signal left|>', '<|turning left|>']),
    (Vehicle(0.0, 0.0, 'off', False),
     ['<|speed 0|>', '<|not braking|>', '<|signal off|>', '<|straight on|>']),
    (Vehicle(-1.0), ['<|backwards|>']), (Vehicle(60.0), ['<|speed 130|>']),
    # Half way between two, and a bend that is no turn.
    (Vehicle(14.9 / 3.6, -0.15), ['<|speed 10|>', '<|straight on|>']),
    (Vehicle(15.1 / 3.6, -0.16), ['<|speed 20|>', '<|turning right|>']),
    (Vehicle(turn_signal='hazard', has_wipers_on=True), ['<|signal hazard|>'])])
def test_each_known_signal_is_one_token(vehicle: Vehicle, told: list[str]) -> None:
    assert vehicle.tokens() == told
    assert set(told) <= set(SIGNAL_TOKENS)
    assert vehicle.tokens(['<|braking|>']) == [
        token for token in told if token == '<|braking|>']


def test_prompts_change_only_where_tokens_are_told() -> None:
    plain = describe_prompt()
    assert plain.signal_tokens == ()
    with_tokens = Prompts.load(convention=replace(
        TRAINED_HERE, signal_tokens=SIGNAL_TOKENS)).description
    for vehicle in (None, Vehicle()):
        assert with_tokens.about(vehicle).instruction == plain.instruction
    assert with_tokens.about(BRAKING).instruction == f'{TOLD}{plain.instruction}'
    assert plain.about(BRAKING).instruction.startswith('The car drives at 80 km/h. It turns left.')
    # It is still a model that is trained here.
    assert replace(TRAINED_HERE, signal_tokens=SIGNAL_TOKENS) == TRAINED_HERE


def test_facts_end_where_the_object_is_named() -> None:
    seen = Answer('A road.', 'high', 'car', (0.1, 0.2, 0.3, 0.4), 'It brakes.', 'brake')
    hidden, free = replace(seen, box=None), replace(seen, risk='none', label=None, box=None)
    assert _facts(render(seen), ZERO_TO_ONE) == (
        '{"risk": "high", "object": {"label": "car", "box": [')
    assert _facts(render(hidden), ZERO_TO_ONE) == (
        '{"risk": "high", "object": {"label": "car", "box": []}, "explanation": "')
    assert _facts(render(free), ZERO_TO_ONE) == (
        '{"risk": "none", "object": null, "explanation": "')
    # Where the box comes first it is learned, too.
    form = BoxForm('bbox_2d', 1000.0, label_first=False)
    assert _facts(render(seen, form), form).endswith('"label": "car"}, "explanation": "')


def test_signals_are_left_out_but_for_those_that_are_needed() -> None:
    rng = np.random.default_rng(0)
    found = [_some_of(BRAKING, ('is_braking',), rng) for _ in range(400)]
    assert all(vehicle is not None and vehicle.is_braking for vehicle in found)
    untold = sum(vehicle == Vehicle(is_braking=True) for vehicle in found if vehicle) / 400
    speed = sum(vehicle.speed_mps is not None for vehicle in found if vehicle) / 400
    assert 0.35 < untold < 0.55
    assert 0.35 < speed < 0.5
    assert _some_of(None, (), rng) is None


def test_batches_hold_windows_of_like_lengths() -> None:
    lengths = [1, 5, 8, 16] * 20
    lessons = [Lesson(tuple(Shown('a', number) for number in range(length)), (), '')
               for length in lengths]
    order = _in_batches(lessons, 4, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(80))
    spans = [{lengths[index] for index in order[start:start + 4]} for start in range(0, 80, 4)]
    assert sum(len(span) == 1 for span in spans) > 12
    # Of one length it is a plain order, as it always was.
    same = [lesson._replace(frames=lessons[0].frames) for lesson in lessons]
    assert _in_batches(same, 4, np.random.default_rng(0)).tolist() == \
        np.random.default_rng(0).permutation(80).tolist()


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return lessons of driving."""
    found = tmp_path_factory.mktemp('lessons') / 'train'
    write_shown(found, driving_lessons('val', 8))
    return found


@pytest.fixture(scope='module')
def adapter(folder: Path) -> Path:
    """Return an adapter with learned tokens, after two steps."""
    pytest.importorskip('peft', reason='adapters need peft')
    windows = read_answers(folder, Counter())
    out = folder.with_name('adapter')
    learned = train_adapter(
        Pipeline.load(PipelineConfig(device='cpu', draft=False)), windows, windows[:4], out,
        folder.with_name('work'), AdapterCourse(steps=2, batch=4, rank=2, every=2, facts=0.5))
    assert learned['rendered']
    return out


@pytest.fixture(scope='module')
def frames(folder: Path) -> list[Frame]:
    """Return five frames of the renderer."""
    return next(found for _, found in with_pictures(read_answers(folder, Counter()))
                if len(found) == 5)


@pytest.mark.slow
def test_an_adapter_brings_its_tokens_and_the_guard_of_its_model(adapter: Path) -> None:
    assert json.loads((adapter / TOKENS).read_text()) == {'tokens': list(SIGNAL_TOKENS)}
    assert sum(path.stat().st_size for path in adapter.iterdir()) < 8e6
    plain, adapted = (Pipeline.load(PipelineConfig(device='cpu', adapter=name))
                      for name in ('', str(adapter)))
    assert isinstance(adapted.guard, SignatureGuard)
    assert adapted.prompts.description.signal_tokens == SIGNAL_TOKENS
    assert plain.prompts.description.signal_tokens == ()
    first, second = plain.vlm, adapted.vlm
    assert isinstance(first, Vlm)
    assert isinstance(second, Vlm)
    assert len(second.tokenizer) == len(first.tokenizer) + len(SIGNAL_TOKENS)
    # One token each, and without any the same ones as before.
    told = second.tokenizer(TOLD)['input_ids']
    assert second.tokenizer.convert_ids_to_tokens(told) == BRAKING.tokens()
    grids, captions = [(4, 7)] * 2, ['-0.4s', '0.0s']
    ids = [vlm.layout(grids, captions, pipeline.prompts.description.about(vehicle)).input_ids
           for vlm, pipeline, vehicle in (
               (first, plain, None), (second, adapted, Vehicle()), (second, adapted, BRAKING))]
    assert torch.equal(ids[0], ids[1])
    new = ids[2] >= len(first.tokenizer)
    assert ids[2][new].tolist() == told
    assert torch.equal(ids[2][~new], ids[0])


@pytest.mark.slow
@pytest.mark.parametrize('changed', [
    {}, {'mode': 'causal'}, {'draft': False}, {'structured': True}])
def test_tokens_are_told_in_every_mode(
        adapter: Path, frames: list[Frame], changed: dict[str, object]) -> None:
    if changed.get('structured'):
        pytest.importorskip('llguidance')
    pipeline = Pipeline.load(PipelineConfig(device='cpu', adapter=str(adapter), **changed))  # type: ignore[arg-type]
    seen = []
    vlm = pipeline.vlm
    assert isinstance(vlm, Vlm)
    vlm.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].flatten().tolist()))
    for vehicle in (BRAKING, BRAKING, None):
        seen.clear()
        report = pipeline.describe(frames, vehicle=vehicle)
        assert report.answer.risk != 'unknown'
        read = [token for ids in seen for token in ids]
        known = vlm.tokenizer.get_vocab()
        wanted = [known[token] for token in BRAKING.tokens()]
        assert [token for token in read if token in wanted] == (wanted if vehicle else [])


@pytest.mark.slow
def test_commands_measure_with_the_adapter(adapter: Path, tmp_path: Path) -> None:
    page = tmp_path / 'senses.md'
    page.write_text('<!-- twins: made by the command below -->\n<!-- end of twins -->\n')
    done = CliRunner().invoke(app, [
        'eval', 'twins', '--adapter', str(adapter), '--split', 'val', '--n', '1',
        '--ordinary', '4', '--report', str(tmp_path), '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['kinds'].keys() == {'speed', 'braking', 'turn signal'}
    assert result['kinds']['speed']['without'] is None
    for kind in ('braking', 'turn signal'):
        assert result['kinds'][kind]['without'][0] in (0.0, 1.0)
        assert result['kinds'][kind]['with'][0] in (0.0, 0.5, 1.0)
    right = result['absent']['risk']
    assert right['loss'][0] == pytest.approx(right['shipped'][0] - right['adapter'][0])
    assert '| braking | ' in page.read_text()
    done = CliRunner().invoke(app, [
        'eval', 'scenes', '--adapter', str(adapter), '--split', 'val', '--n', '2', '--budgets',
        '0.6', '--device', 'cpu', '--json'])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])['model'] == 'embedded + adapter'


@pytest.mark.slow
def test_a_broken_list_of_tokens_is_told(adapter: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / 'spoiled'
    shutil.copytree(adapter, spoiled)
    for text, message in (('{}', "signal_tokens.json of .* cannot be read: 'tokens'"),
                          ('{"tokens": [1]}', 'its tokens are no texts'),
                          ('{"tokens": ["<|im_end|>"]}', 'has a token <|im_end|> of its own')):
        (spoiled / TOKENS).write_text(text)
        with pytest.raises(VlmError, match=message.replace('|', r'\|')):
            Vlm.load('models/embedded', device='cpu', adapter=spoiled)
