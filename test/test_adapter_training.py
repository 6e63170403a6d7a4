# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on answers: what is learned, from what, and that the product then says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
import json
from pathlib import Path
import shutil
from typing import Any

from all_commands import app
from bag_maker import drive
import numpy as np
import pytest
from safetensors.torch import load_file
import torch
from typer.testing import CliRunner
from vlm_maker import make

from vts_ros.fleet.answer_tables import Answers, write_table
from vts_ros.fleet.sources import find_recordings
from vts_ros.lab.evaluation.learned_answers import compared, most_frequent
from vts_ros.lab.training import adapter_training
from vts_ros.lab.training.adapter_lessons import AdapterCourse, School
from vts_ros.lab.training.adapter_training import train_adapter
from vts_ros.lab.training.answered_windows import (
    AnsweredWindow,
    AnswersError,
    read_answers,
    split,
    with_pictures,
)
from vts_ros.lab.training.frame_store import FrameStore
from vts_ros.lab.training.loop import Schedule
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS
from vts_ros.tools.bag_frames import read_windows
from vts_ros.vlm import Vlm
from vts_ros.vlm.answers import Answer, parse, render
from vts_ros.vlm.boxes import PictureSize
from vts_ros.vlm.conventions import CONVENTIONS

pytestmark = pytest.mark.slow

pytest.importorskip('peft', reason='adapters need peft')

#: Nothing that a model here would say of these pictures by itself.
LESSON = Answer('In daylight in fine weather, a motorway.', 'high', 'motorcycle',
                (0.1, 0.2, 0.5, 0.6), 'A motorcycle in our lane is not as fast as we are.',
                'slow down')
COURSE = AdapterCourse(steps=4, batch=2, rank=4, every=2)


def annotated(folder: Path, answer: Answer = LESSON, count: int = 70) -> Path:
    """Return a folder as people leave it who have corrected all answers of vts annotate."""
    folder.mkdir(parents=True)
    bag = drive(folder / ANNOTATED_BAG, count)
    lines = [json.dumps({
        'frames': [{'camera': frame.camera, 'stamp': frame.stamp_ns} for frame in window],
        'risk': {'level': answer.risk},
        'object': {'label': answer.label, 'box': answer.box} if answer.label else None,
        'description': answer.description, 'explanation': answer.explanation,
        'action': answer.action}) for window in read_windows(bag)]
    (folder / ANSWERS).write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return folder


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp('answers')
    # By its name the second one is held out, and measured with two models.
    return [annotated(root / 'one'), annotated(root / 'other', count=40)]


@pytest.fixture(scope='module')
def windows(folders: list[Path]) -> list[AnsweredWindow]:
    return [window for folder in folders for window in read_answers(folder, Counter())]


# What is learned from


def test_answers_are_read_and_those_that_teach_nothing_left_out(tmp_path: Path) -> None:
    folder = annotated(tmp_path / 'drive')
    lines = (folder / ANSWERS).read_text().splitlines()
    unknown = {**json.loads(lines[0]), 'risk': {'level': 'unknown'}}
    confirmed = {**json.loads(lines[1]), 'confirmed': True}
    flat = json.loads(lines[2])
    flat['object']['box'] = [0.2, 1.0, 0.7, 1.0]
    (folder / ANSWERS).write_text('\n'.join([json.dumps(unknown), json.dumps(confirmed), '',
                                             json.dumps(flat), *lines[3:]]))
    counters: Counter[str] = Counter()
    found = read_answers(folder, counters)
    assert counters == {'unknown': 1, 'confirmed': 1}
    assert [window.answer for window in found] == [
        replace(LESSON, box=None), *[LESSON] * (len(lines) - 3)]
    assert {len(window.frames) for window in found} == {5}


@pytest.mark.parametrize(('change', 'reason'), [
    ({'risk': {'level': 'grave'}}, "risk 'grave', expected one of none, low, medium, high"),
    ({'risk': 'high'}, 'line 2: '), ({'frames': []}, 'no frames'),
    ({'object': {'label': 'car', 'box': [0.5, 0.1, 0.2, 0.3]}}, 'expected left, top, right'),
    ({'schema': 1}, 'schema 1, expected 2'), (None, 'line 2: ')])
def test_what_is_wrong_with_an_answer_is_told_with_its_place(
        tmp_path: Path, change: dict[str, Any] | None, reason: str) -> None:
    folder = annotated(tmp_path / 'drive')
    first, second, *others = (folder / ANSWERS).read_text().splitlines()
    second = '{"risk"' if change is None else json.dumps({**json.loads(second), **change})
    (folder / ANSWERS).write_text('\n'.join([first, second, *others]))
    with pytest.raises(AnswersError, match='line 2') as told:
        read_answers(folder, Counter())
    assert reason in str(told.value)
    assert '\n' not in str(told.value)


def test_a_folder_without_answers_or_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(AnswersError, match='give a folder that vts annotate'):
        read_answers(tmp_path, Counter())
    folder = annotated(tmp_path / 'drive')
    shutil.rmtree(folder / ANNOTATED_BAG)
    with pytest.raises(AnswersError, match='no pictures to the answers'):
        read_answers(folder, Counter())


def test_answers_of_a_fleet_are_the_same_answers(tmp_path: Path, folders: list[Path],
                                                 windows: list[AnsweredWindow]) -> None:
    found = read_answers(fleet(tmp_path / 'fleet', folders), Counter())
    by_stamp = {(Path(window.recording), window.stamp): window for window in windows}
    assert len(found) == len(windows)
    for window in found:
        assert by_stamp[Path(window.recording), window.stamp].frames == window.frames
        assert window.answer == LESSON


def fleet(root: Path, folders: Sequence[Path]) -> Path:
    """Return a folder as vts fleet annotate writes it."""
    root.mkdir()
    (root / 'fleet.json').write_text('{}')
    for folder in folders:
        recording, = find_recordings([str(folder / ANNOTATED_BAG)])
        answers = Answers(recording)
        for window in read_answers(folder, Counter()):
            report = SceneReport(window.stamp, window.frames, KeyFrame(
                window.frames[-1].camera, window.stamp, 4), window.answer, (0,), (4, 7))
            answers.add(report, window.stamp, torch.zeros(4).numpy())
        write_table(answers.tables()[0], root / 'answers' / f'{folder.name}.parquet')
    return root


def test_windows_come_with_their_frames(windows: list[AnsweredWindow]) -> None:
    gone = windows[3]._replace(frames=(*windows[3].frames[:-1], FrameRef('nobody', 1)))
    found = list(with_pictures([*windows, gone]))
    assert [window for window, _ in found] == windows
    for window, frames in found:
        assert tuple(FrameRef(*frame.key) for frame in frames) == window.frames
        assert frames[-1].rgb().shape == (96, 160, 3)
    # Those of recordings elsewhere are fetched.
    remote = [window._replace(recording=f'file://{window.recording}') for window in windows]
    assert [[frame.data for frame in frames] for _, frames in with_pictures(remote)] == [
        [frame.data for frame in frames] for _, frames in found]


def made_up(recording: str, count: int) -> list[AnsweredWindow]:
    return [AnsweredWindow(recording, (FrameRef('front', number),), LESSON)
            for number in range(1, count + 1)]


def test_whole_recordings_are_held_out_and_stay_so() -> None:
    names = [f'/bags/drive_{number}' for number in range(10)]
    parts = split([window for name in names for window in made_up(name, 30)], 5)
    recordings = [{window.recording for window in part} for part in parts]
    assert len(recordings[2]) == 2
    assert recordings[0] == recordings[1] == set(names) - recordings[2]
    for name in recordings[0]:
        trained = [window.stamp for window in parts.train if window.recording == name]
        checked = [window.stamp for window in parts.validation if window.recording == name]
        # Windows between share frames with both.
        assert min(checked) - max(trained) == 6
    more = [*names, *(f'/bags/later_{number}' for number in range(5))]
    later = split([window for name in more for window in made_up(name, 30)], 5)
    assert len({window.recording for window in later.held_out}) == 3
    moved = recordings[2] - {window.recording for window in later.held_out}
    assert not moved or {window.recording for window in later.held_out} - set(names)


def test_the_end_of_a_single_recording_is_held_out() -> None:
    parts = split(made_up('/bags/only', 100), 5)
    stamps = [[window.stamp for window in part] for part in parts]
    assert max(stamps[0]) < min(stamps[1]) < min(stamps[2]) == 81
    assert min(stamps[1]) - max(stamps[0]) == min(stamps[2]) - max(stamps[1]) == 6
    with pytest.raises(AnswersError, match='too few'):
        split(made_up('/bags/only', 8), 5)


@pytest.mark.parametrize('family', sorted(CONVENTIONS))
def test_what_is_taught_is_in_the_form_of_the_family(family: str) -> None:
    """What a model learns to write must be what is read."""
    form, seen = CONVENTIONS[family].box, (448.0, 252.0)
    text = render(replace(LESSON, camera='left'), form, seen)
    found = parse(text, form, PictureSize(seen, (1920.0, 1080.0)))
    assert found.box == pytest.approx(LESSON.box, abs=0.005)
    assert replace(found, box=LESSON.box) == replace(LESSON, camera='left')
    assert f'"{form.key}"' in text


# Learning


def learn(model: str | Path, windows: Sequence[AnsweredWindow], out: Path,
          course: AdapterCourse = COURSE) -> dict[str, Any]:
    pipeline = Pipeline.load(PipelineConfig(model=str(model), device='cpu', draft=False))
    return train_adapter(pipeline, windows[:12], windows[12:16], out, out.with_suffix('.work'),
                         course)


@pytest.mark.parametrize('name', ['qwen2_5_vl', 'internvl'])
def test_an_adapter_of_any_family_changes_the_language_model_alone(
        name: str, tmp_path: Path, windows: list[AnsweredWindow]) -> None:
    model = make(name, tmp_path / name)
    learned = learn(model, windows, tmp_path / 'adapter')
    weights = load_file(tmp_path / 'adapter' / 'adapter_model.safetensors')
    assert learned['trained'] == sum(weight.numel() for weight in weights.values())
    assert not [key for key in weights if 'visual' in key or 'vision' in key]
    assert [step for step, _ in learned['history']] == [2, 4]
    pipeline = Pipeline.load(PipelineConfig(model=str(model), adapter=str(tmp_path / 'adapter'),
                                            device='cpu'))
    assert pipeline.vlm.name == f'{name} + adapter'
    # A checkpoint without a guard gets none.
    assert pipeline.guard is None


def test_the_vision_encoder_learns_if_it_is_asked_to(
        tmp_path: Path, windows: list[AnsweredWindow]) -> None:
    model, out = make('internvl', tmp_path / 'model'), tmp_path / 'adapter'
    learned = learn(model, windows, out, replace(COURSE, vision=True))
    weights = load_file(out / 'adapter_model.safetensors')
    assert learned['trained'] == sum(weight.numel() for weight in weights.values())
    seeing = [key for key in weights if 'visual' in key or 'vision' in key]
    assert 0 < len(seeing) < len(weights)
    # These are 0 until something is learned.
    assert any(weights[key].any() for key in seeing if 'lora_B' in key)
    plain, adapted = Vlm.load(model, device='cpu'), Vlm.load(model, adapter=out, device='cpu')
    picture = np.random.default_rng(0).integers(0, 256, (128, 224, 3), np.uint8)
    before, after = (vlm.encode(picture).tokens for vlm in (plain, adapted))
    assert before.shape == after.shape
    assert not torch.allclose(before, after, atol=1e-4)
    # Frames are kept with their pictures, apart from those of a run without.
    kept = [FrameStore.load(path) for path in (tmp_path / 'adapter.work' / 'pictures').iterdir()]
    assert all(frame.picture is not None for frame in kept)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
        tmp_path: Path, windows: list[AnsweredWindow], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make('qwen2_5_vl', tmp_path / 'model')
    expected = learn(model, windows, tmp_path / 'whole')
    class Stopped(Exception):
        pass

    losses = School.losses

    def stop(self: Any, lessons: Any, step: int) -> Any:
        if step == 3:
            raise Stopped
        return losses(self, lessons, step)

    monkeypatch.setattr(School, 'losses', stop)
    monkeypatch.setattr(adapter_training, 'Schedule', partial(Schedule, checkpoint_sec=0.0))
    with pytest.raises(Stopped):
        learn(model, windows, tmp_path / 'broken')
    monkeypatch.undo()
    found = learn(model, windows, tmp_path / 'broken')
    assert found == expected
    whole, broken = (load_file(tmp_path / name / 'adapter_model.safetensors')
                     for name in ('whole', 'broken'))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    # With other settings it is another run.
    with pytest.raises(ValueError, match='another model, other answers or settings'):
        learn(model, windows, tmp_path / 'broken', replace(COURSE, rank=8))


def test_learning_ends_when_it_gains_nothing(
        tmp_path: Path, windows: list[AnsweredWindow], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be said of the windows that say when to stop is the opposite."""
    model = make('qwen2_5_vl', tmp_path / 'model')
    pipeline = Pipeline.load(PipelineConfig(model=str(model), device='cpu', draft=False))
    other = [window._replace(answer=Answer('x' * 40, 'none', None, None, 'y' * 40, 'z' * 40))
             for window in windows[12:16]]
    kept: list[Path] = []
    save = adapter_training.save_adapter

    def saved(adapted: Any, folder: Path, tokens: Sequence[str], cameras: int) -> None:
        kept.append(folder)
        save(adapted, folder, tokens, cameras)

    monkeypatch.setattr(adapter_training, 'save_adapter', saved)
    learned = train_adapter(
        pipeline, windows[:12], other, tmp_path / 'adapter', tmp_path / 'work',
        AdapterCourse(steps=400, batch=4, rank=8, learning_rate=0.1, every=1))
    last, best = learned['history'][-1][0], learned['best']
    assert last < 400
    assert last - best == 3
    losses = [loss for _, loss in learned['history']]
    # Only what was better than all before is kept.
    assert len(kept) == sum(loss < min(losses[:place], default=100.0)
                            for place, loss in enumerate(losses)) < len(losses)


@pytest.fixture(scope='module')
def learned(folders: list[Path], tmp_path_factory: pytest.TempPathFactory, model: str
            ) -> tuple[Path, dict[str, Any]]:
    """Return an adapter of the embedded model for what it would never say, and its report."""
    out = tmp_path_factory.mktemp('learned') / 'adapter'
    root = fleet(out.parent / 'fleet', [*folders, annotated(out.parent / 'third', count=50)])
    done = CliRunner().invoke(app, [
        'fleet', 'distil', str(root), '--student', model, '--out', str(out), '--steps', '20',
        '--batch', '2', '--device', 'cpu', '--json'])
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout.splitlines()[-1])


def test_a_small_model_learns_what_a_large_one_said(learned: tuple[Path, dict[str, Any]]) -> None:
    out, report = learned
    before, after = report['held_out']['before'], report['held_out']['after']
    assert before['n'] == after['n'] > 5
    assert after['level'][0] > 0.9 > before['level'][0] + 0.2
    assert after['object'][0] > 0.9 > 0.5 > before['object'][0]
    assert json.loads((out / 'report.json').read_text()) == report
    assert report['recordings'] == 3


def test_the_pipeline_says_what_was_learned_about_such_pictures_only(
        learned: tuple[Path, dict[str, Any]], folders: list[Path], model: str) -> None:
    pipeline = Pipeline.load(PipelineConfig(model=model, adapter=str(learned[0]), device='cpu'))
    guard = pipeline.guard
    assert guard is not None
    window = min(read_windows(folders[0] / ANNOTATED_BAG), key=lambda window: guard.distance(
        [guard.evidence(frame.rgb()) for frame in window]))
    report = pipeline.describe(window)
    assert (report.answer.risk, report.answer.label) == ('high', LESSON.label)
    assert report.in_distribution
    noise = [replace(frame, data=torch.randint(0, 255, (96, 160, 3), dtype=torch.uint8).numpy())
             for frame in window]
    pipeline.clear()
    refused = pipeline.describe(noise)
    assert (refused.answer.risk, refused.in_distribution) == ('unknown', False)


# What is measured


def test_metrics_are_those_of_the_answers() -> None:
    first, other = made_up('/bags/one', 2), made_up('/bags/other', 1)
    result = compared([
        (first[0], LESSON), (first[1], replace(LESSON, risk='low', label='Motorcycle ', box=None)),
        (other[0], Answer())])
    assert (result['n'], result['recordings']) == (3, 2)
    # Recordings count alike, however long they are.
    assert result['level'][0] == 0.25
    assert result['within one step'][0] == 0.25
    assert result['object'][0] == 0.5
    assert result['box, IoU'][0] == 0.25
    rule = most_frequent([*first, *other], other)
    assert (rule['level'][0], rule['object'][0], rule['box, IoU'][0]) == (1.0, 1.0, 0.0)
