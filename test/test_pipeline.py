# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pipeline with the shipped models."""

from collections.abc import Iterator
from dataclasses import replace
import os
from pathlib import Path
import re
import shutil
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vts_ros.errors import PromptError
from vts_ros.lab.evaluation.batches import ask_batch, describe_batch
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.paths import model_path
from vts_ros.pipeline import factory
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline, PipelineConfig, without_broken
from vts_ros.pipeline.report import SceneReport
from vts_ros.vlm import Generation
from vts_ros.vlm.answers import Answer, parse, RISK_LEVELS
from vts_ros.vlm.boxes import BoxForm
from vts_ros.vlm.prompts import describe_prompt, Prompt
from vts_ros.vlm.tasks import load_task
from vts_ros.vlm.taught_questions import FILE as TAUGHT
from vts_ros.vlm.vehicle import Vehicle

pytestmark = pytest.mark.slow

INTERVAL_NS = 400_000_000


@pytest.fixture(scope='module')
def pipeline() -> Pipeline:
    return Pipeline.load(PipelineConfig(threads=1))


@pytest.fixture(autouse=True)
def _fresh(pipeline: Pipeline) -> Iterator[None]:
    yield
    pipeline.clear()
    pipeline.set_keep_ratio(0.6)


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    clip = render(next(balanced_scenes('val', 1, first=2, frames=8)))
    return [Frame('front', index * INTERVAL_NS, picture)
            for index, picture in enumerate(clip.frames)]


@pytest.fixture
def encoded(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the pictures that went through the vision encoder."""
    shapes: list[tuple[int, ...]] = []
    encode = pipeline.vlm.encode

    def noting(rgb: np.ndarray) -> Any:
        shapes.append(rgb.shape)
        return encode(rgb)

    monkeypatch.setattr(pipeline.vlm, 'encode', noting)
    return shapes


def test_report_is_complete(pipeline: Pipeline, frames: list[Frame]) -> None:
    report = pipeline.describe(frames[:5])
    assert report.stamp == frames[4].stamp_ns
    assert [ref.stamp for ref in report.frames] == [frame.stamp_ns for frame in frames[:5]]
    assert report.grid == (4, 7)
    assert len(report.keep) == 84
    assert report.answer.risk in RISK_LEVELS[:-1]
    assert report.answer.description
    assert report.answer.explanation
    assert report.answer.action
    assert {'read', 'propose', 'encode', 'select', 'prefill', 'decode', 'total'} <= set(
        report.latency_ms)
    key = report.key_frame
    assert key.stamp == frames[key.index].stamp_ns
    # Key frame and newest have a quarter of the budget each, at least.
    of_frames = np.bincount(np.array(report.keep) // 28, minlength=5)
    assert of_frames[[key.index, 4]].min() >= 84 // 4


def test_a_sliding_window_encodes_new_frames_only(
        pipeline: Pipeline, frames: list[Frame], encoded: list[tuple[int, ...]]) -> None:
    pipeline.describe(frames[0:5])
    assert len(encoded) == 5
    pipeline.describe(frames[1:6])
    assert len(encoded) == 6
    pipeline.ask(frames[1:6], 'What is the main hazard?')
    assert len(encoded) == 6


def test_cached_features_change_nothing(pipeline: Pipeline, frames: list[Frame]) -> None:
    pipeline.describe(frames[0:5])
    pipeline.reader.clear()  # the key frame so far is state of its own
    slid = pipeline.describe(frames[1:6])
    pipeline.clear()
    fresh = pipeline.describe(frames[1:6])
    assert (slid.answer, slid.keep) == (fresh.answer, fresh.keep)


def test_keeping_all_equals_the_stock_model(pipeline: Pipeline, frames: list[Frame]) -> None:
    pipeline.set_keep_ratio(1.0)
    report = pipeline.describe(frames[:5])
    assert report.keep == tuple(range(140))
    vlm, prompt = pipeline.vlm, describe_prompt()
    features = [vlm.encode(frame.rgb()) for frame in frames[:5]]
    layout = vlm.layout([frame.grid for frame in features], prompt.captions(frames[:5]), prompt)
    pixels = vlm.preprocess([frame.rgb() for frame in frames[:5]])
    ids = layout.input_ids[None]
    kinds = (ids == vlm.model.config.image_token_id).int()
    stock = vlm.model.generate(input_ids=ids, attention_mask=ids * 0 + 1, mm_token_type_ids=kinds,
                               max_new_tokens=160, do_sample=False, **pixels)
    text = vlm.tokenizer.decode(stock[0, ids.shape[1]:], skip_special_tokens=True)
    assert report.answer == parse(str(text))
    assert report.answer.explanation


def test_batch_equals_one_by_one(pipeline: Pipeline, frames: list[Frame]) -> None:
    windows = [frames[0:5], frames[1:6], frames[2:7]]
    pipeline.config = PipelineConfig(keep_ratio=0.4)
    together = describe_batch(pipeline, windows)
    pipeline.clear()
    alone = [pipeline.describe(window) for window in windows]
    assert [report.answer for report in together] == [report.answer for report in alone]
    assert all(len(report.keep) == 56 for report in together)


def test_a_broken_frame_is_named_and_the_others_stay(
        pipeline: Pipeline, frames: list[Frame], encoded: list[tuple[int, ...]]) -> None:
    broken = Frame('front', frames[2].stamp_ns, b'\xff\xd8 this is no picture')
    window = [*frames[:2], broken, *frames[3:5]]
    with pytest.raises(BrokenFrame) as caught:
        pipeline.describe(window)
    assert caught.value.frame is broken
    left_out: list[BrokenFrame] = []
    report = without_broken(window, left_out.append, pipeline.describe)
    assert report is not None
    assert [broken.frame for broken in left_out] == [broken]
    assert len(report.frames) == 4
    assert len(encoded) == 4  # nothing was computed twice


def test_a_window_of_broken_frames_gives_nothing(pipeline: Pipeline) -> None:
    left_out: list[BrokenFrame] = []
    window = [Frame('front', stamp, b'') for stamp in range(3)]
    assert without_broken(window, left_out.append, pipeline.describe) is None
    assert len(left_out) == 3


def test_frames_of_different_sizes_share_a_grid(pipeline: Pipeline, frames: list[Frame]) -> None:
    small = Frame('front', frames[3].stamp_ns, np.zeros((64, 112, 3), np.uint8))
    report = pipeline.describe([*frames[:3], small, frames[4]])
    assert report.tokens_total == 5 * 28


def test_an_empty_window_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match='at least one frame'):
        pipeline.describe([])


def test_stopping_leaves_the_risk_unknown(pipeline: Pipeline, frames: list[Frame]) -> None:
    report = pipeline.describe(frames[:5], stop=lambda: True)
    assert report.answer.risk == 'unknown'


def test_the_cache_is_bounded(pipeline: Pipeline, frames: list[Frame]) -> None:
    for end in range(5, 9):
        pipeline.select(frames[end - 5:end])
        # The frames of a window, and one of the window before.
        assert len(pipeline.cache) <= 6


@pytest.fixture
def asked(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[Prompt]:
    """Prompts as they were put to the language model."""
    prompts: list[Prompt] = []
    prepare = pipeline.vlm.prepare

    def noting(features: Any, captions: Any, prompt: Prompt) -> Any:
        prompts.append(prompt)
        return prepare(features, captions, prompt)

    monkeypatch.setattr(pipeline.vlm, 'prepare', noting)
    return prompts


def test_what_the_car_does_is_told_to_the_model(
        pipeline: Pipeline, frames: list[Frame], asked: list[Prompt]) -> None:
    fast, turning = Vehicle(speed_mps=25.0), Vehicle(turn_signal='left')
    pipeline.describe(frames[:1], vehicle=fast)
    pipeline.ask(frames[:1], 'What is ahead?', vehicle=fast)
    assert all(prompt.instruction.startswith('The car drives at 90 km/h. ') for prompt in asked)
    asked.clear()
    describe_batch(pipeline, [frames[:1], frames[1:2], frames[2:3]], [fast, None, turning])
    beginnings = [prompt.instruction.partition(' Pictures')[0] for prompt in asked]
    assert beginnings[0] == 'The car drives at 90 km/h.'
    assert beginnings[1].startswith('Pictures')
    assert beginnings[2] == 'Its left turn signal is on.'


def test_the_risk_is_told_while_the_texts_are_being_written(
        pipeline: Pipeline, frames: list[Frame]) -> None:
    early: list[SceneReport] = []
    report = pipeline.describe(frames[:5], on_risk=early.append)
    level, both = early
    assert [told.is_partial for told in (level, both, report)] == [True, True, False]
    assert {told.stamp for told in (level, both, report)} == {frames[4].stamp_ns}
    assert level.answer == Answer(risk=report.answer.risk)
    assert both.answer == replace(report.answer, description='', explanation='', action='')
    assert both.answer.label
    assert report.time_to_risk_ms is not None
    assert level.time_to_risk_ms is not None
    # The clock is read once more for the report than for the level.
    assert report.time_to_risk_ms <= level.time_to_risk_ms < report.latency_ms['total']
    assert 'decode' not in level.latency_ms
    assert 'decode' in report.latency_ms
    assert level.confidence is None
    assert SceneReport.from_dict(level.to_dict()).is_partial
    again = pipeline.describe(frames[:5])
    # With a draft several tokens are read at once, and sums round differently.
    assert again.confidence == pytest.approx(report.confidence, abs=1e-4)
    assert report == replace(again, latency_ms=report.latency_ms, confidence=report.confidence,
                             time_to_risk_ms=report.time_to_risk_ms)


def test_no_risk_is_told_early_where_the_answer_is_unknown_or_not_wanted(
        pipeline: Pipeline, frames: list[Frame]) -> None:
    early: list[SceneReport] = []
    strange = [Frame(frame.camera, frame.stamp_ns, 255 - np.asarray(frame.data))
               for frame in frames[:5]]
    report = pipeline.describe(strange, on_risk=early.append)
    assert report.answer.risk == 'unknown'
    assert report.rejected_output
    pipeline.clear()
    pipeline.describe(frames[:5], lambda: True, on_risk=early.append)
    assert early == []


def test_an_answer_is_read_while_it_grows(pipeline: Pipeline, frames: list[Frame]) -> None:
    begun: list[Answer] = []
    report = pipeline.describe(frames[:5], on_answer=begun.append)
    assert begun[-1] == report.answer
    # Before the form is there, all text is a description.
    lengths = [len(answer.description) + len(answer.explanation) for answer in begun
               if answer.risk != 'unknown']
    assert lengths == sorted(lengths)
    assert len({*lengths}) > 5
    # Nothing is shown of an answer about pictures that the model does not know.
    begun.clear()
    pipeline.clear()
    pipeline.describe([Frame(frame.camera, frame.stamp_ns, 255 - np.asarray(frame.data))
                       for frame in frames[:5]], on_answer=begun.append)
    assert begun == []


def test_windows_that_are_late_are_counted(pipeline: Pipeline, frames: list[Frame]) -> None:
    assert 'deadline_misses' not in pipeline.stats()
    try:
        for deadline_ms in (1e7, 1e-3):
            pipeline.set_deadline(deadline_ms)
            pipeline.describe(frames[:5])
        stats = pipeline.stats()
    finally:
        pipeline.set_deadline(0.0)
    assert (stats['deadline_windows'], stats['deadline_misses']) == (2, 1)


def test_an_answer_comes_in_pieces(pipeline: Pipeline, frames: list[Frame]) -> None:
    pieces: list[str] = []
    answer = pipeline.ask([*frames[:2], *frames[3:5]], 'What is the main hazard?',
                          on_text=pieces.append)
    assert answer == ''.join(pieces).strip()
    assert len(pieces) > 2
    assert answer == pipeline.ask([*frames[:2], *frames[3:5]], 'What is the main hazard?')


def test_questions_at_once_are_answered_like_one_by_one(
        pipeline: Pipeline, frames: list[Frame], encoded: list[tuple[int, ...]]) -> None:
    windows = [frames[:5], frames[:5], frames[3:8]]
    questions = ['What is the main hazard?', 'How is the light?', 'Count the vehicles.']
    answers = ask_batch(pipeline, windows, questions)
    # What the windows share is looked at once.
    assert len(encoded) == 8
    assert answers == [pipeline.ask(window, question)
                       for window, question in zip(windows, questions)]
    assert len(set(answers)) == 3


def test_a_form_that_is_enforced_changes_nothing_for_a_model_that_keeps_to_it(
        pipeline: Pipeline, frames: list[Frame]) -> None:
    held = Pipeline.load(PipelineConfig(threads=1, structured=True))
    for window in (frames[0:5], frames[3:8]):
        assert held.describe(window).answer == pipeline.describe(window).answer


def test_what_follows_a_thought_that_the_template_opens_is_no_answer_before_its_end(
        frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = (Pipeline.load(PipelineConfig(
        threads=1, structured=structured, max_new_tokens=40)) for structured in (True, False))
    for pipeline in (held, free):
        monkeypatch.setattr(pipeline.vlm.tokenizer, 'chat_template',
                            f'{pipeline.vlm.tokenizer.chat_template}<think>\n')
    assert held.describe(frames[:1]).answer.risk != 'unknown'
    # The same text of a model that is free to think may be a draft.
    monkeypatch.setattr(free.vlm, 'generate_batch', lambda *args, **options: (
        held.vlm.generate_batch(*args, **{**options, 'in_form': True})))
    assert free.describe(frames[:1]).answer == Answer()


def test_other_prompts_bring_the_form_of_their_boxes(
        tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = yaml.safe_load(load_task().prompts.read_text(encoding='utf-8'))
    path = tmp_path / 'prompts.yaml'
    path.write_text(yaml.safe_dump({'en': {**texts['en'], 'box_scale': 1000}}), encoding='utf-8')
    held = Pipeline.load(PipelineConfig(threads=1, structured=True, max_new_tokens=40))
    generate, written = held.vlm.generate_batch, []

    def noting(*args: Any, **options: Any) -> list[Generation]:
        found = generate(*args, **options)
        written.append(found[0].text)
        return found

    monkeypatch.setattr(held.vlm, 'generate_batch', noting)
    for prompts, side in (('', r'\d\.\d+'), (str(path), r'\d+')):
        held.set_prompts('en', prompts)
        box = held.describe(frames[4:5]).answer.box
        sides = re.search(r'"box": \[(.*?)\]', written[-1])
        assert sides is not None
        assert all(re.fullmatch(side, word) for word in sides[1].split(', '))
        assert box == parse(written[-1], BoxForm(scale=1000.0 if prompts else 1.0)).box


def test_prompts_are_checked_before_models_are_loaded() -> None:
    with pytest.raises(PromptError, match=r"no prompt in language 'xx' in .*: en, de$"):
        Pipeline.load(PipelineConfig(model='/nowhere/model', language='xx'))


def test_a_model_that_was_taught_questions_answers_no_others(frames: list[Frame]) -> None:
    pipeline = Pipeline.load(PipelineConfig(threads=1, max_new_tokens=30))
    pipeline.calibration = None
    for question in ('危険はありますか', '😀', 'Is the road clear?', 'Is there a <|im_end|>?'):
        pieces: list[str] = []
        answer = pipeline.ask(frames[:2], question, on_text=pieces.append)
        assert answer == ''.join(pieces)
        assert answer.startswith('This model was not taught to answer that.')
    taught = pipeline.ask(frames[:2], ' is it SAFE to drive on ')
    assert taught
    assert 'not taught' not in taught
    with pytest.raises(PromptError, match='embedded was taught in English alone'):
        pipeline.set_prompts('de', '')
    with pytest.raises(PromptError, match='embedded was taught in English alone'):
        Pipeline.load(PipelineConfig(language='de'))


def test_prompts_of_ones_own_are_asked(tmp_path: Path, frames: list[Frame],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / 'of_any_language'
    shutil.copytree(model_path('embedded'), checkpoint, ignore=shutil.ignore_patterns(TAUGHT))
    path = tmp_path / 'prompts.yaml'
    path.write_text('fr: {system: S, caption: "{age}", caption_cameras: "{age}", box_scale: 1, '
                    'description: D, question: "Q {question}"}')
    config = PipelineConfig(model=str(checkpoint), language='fr', prompts=str(path), threads=1,
                            max_new_tokens=1)
    own = Pipeline.load(config)
    path.unlink()  # read once, when everything else is read
    asked: list[Prompt] = []
    prepare = own.vlm.prepare

    def noting(features: Any, captions: Any, prompt: Prompt) -> Any:
        asked.append(prompt)
        return prepare(features, captions, prompt)

    monkeypatch.setattr(own.vlm, 'prepare', noting)
    own.describe(frames[:1])
    own.ask(frames[:1], 'Où?')
    assert [(prompt.system, prompt.instruction) for prompt in asked] == [
        ('S', 'D'), ('S', 'Q Où?')]


def test_cameras_of_two_sizes_are_encoded_once_per_frame(
        pipeline: Pipeline, frames: list[Frame], encoded: list[tuple[int, ...]]) -> None:
    """Whichever of them comes last: their stamps jitter."""
    def pair(index: int) -> list[Frame]:
        picture, late = np.asarray(frames[index].rgb()), (-1) ** index * 1_000_000
        wide = np.ascontiguousarray(np.pad(picture, ((16, 16), (0, 0), (0, 0)), mode='edge'))
        found = [Frame('a', frames[index].stamp_ns, picture),
                 Frame('b', frames[index].stamp_ns + late, wide)]
        return sorted(found, key=lambda frame: frame.stamp_ns)

    drive = [frame for index in range(8) for frame in pair(index)]
    for end in range(4, 17, 2):
        pipeline.select(drive[max(0, end - 10):end])
    assert len(encoded) == 16


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody but the pipeline chooses the threads of PyTorch."""
    before = torch.get_num_threads()
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    torch.set_num_threads(before + 3)
    yield
    torch.set_num_threads(before)


def test_threads_of_engine_and_language_model_are_their_own(
        threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(**given: Any) -> tuple[int, int]:
        sparsifier: Any = Pipeline.load(PipelineConfig(**given)).sparsifier
        options = sparsifier._frame._session.get_session_options()
        return options.intra_op_num_threads, torch.get_num_threads()

    # A small model is not helped by a second thread.
    assert chosen(engine_threads=3) == (3, 1)
    assert chosen(engine_threads=1, threads=2) == (1, 2)
    monkeypatch.setattr(factory, 'SMALL_MODEL', 0)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: range(6))
    assert chosen(engine_threads=1) == (1, 5)
