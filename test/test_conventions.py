# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every family is asked in its own words and read in them; the report is from 0 to 1 for all."""

from __future__ import annotations

from collections.abc import Sequence
import json
import logging
from pathlib import Path
import re
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.molmo2.image_processing_molmo2 import compute_crop_geometry
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.video_utils import VideoMetadata
from vlm_maker import make, names
import yaml

from vts_ros.errors import PromptError
from vts_ros.paths import model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.guard import FILE as GUARD
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.vlm import Generation, Vlm
from vts_ros.vlm.answers import schema
from vts_ros.vlm.boxes import BoxForm
from vts_ros.vlm.conventions import CONVENTIONS, TRAINED_HERE
from vts_ros.vlm.families import FAMILIES
from vts_ros.vlm.loading import load_processor
from vts_ros.vlm.prompts import describe_prompt, Prompts, question_prompt
from vts_ros.vlm.structured_output import Grammar
from vts_ros.vlm.tasks import load_task
from vts_ros.vlm.taught_questions import FILE as TAUGHT

SECOND = 10 ** 9
#: What the embedded model was trained on, to the letter: with other words it would be another.
EMBEDDED = (
    '<|im_start|>system\nYou watch the road for the driver of this car.<|im_end|>\n'
    '<|im_start|>user\n{}<|vision_start|><|vision_end|>{}<|vision_start|><|vision_end|>{}'
    '<|im_end|>\n<|im_start|>assistant\n')
DESCRIBE = (
    'Pictures from this car, oldest first. Answer with one line of JSON: {"risk": "none, low, '
    'medium or high", "object": {"label": "riskiest road user or object", "box": [left, top, '
    'right, bottom]}, "explanation": "why, in one sentence", "action": "what the driver should '
    'do", "description": "the scene"}. The box is in the newest picture, from 0.00 to 1.00. '
    'Without a risk: "object": null.')
ASK = 'Pictures from this car, oldest first. Answer in one sentence: Is it safe to drive on?'
#: Of each family: captions of a window and in causal mode, the object and the unit of its box.
ASKED = {
    'idefics3': (['-0.4s', '0.0s'], ['0.0s', '0.4s'],
                 '{"label": "riskiest road user or object", "box": [left, top, right, bottom]}',
                 'from 0.00 to 1.00'),
    'internvl': (['Frame1: ', 'Frame2: '], ['Frame1: ', 'Frame2: '],
                 '{"label": "riskiest road user or object", "box": [left, top, right, bottom]}',
                 'from 0 to 1000'),
    'qwen2_vl': (['-0.4s', '0.0s'], ['0.0s', '0.4s'],
                 '{"label": "riskiest road user or object", "box": [left, top, right, bottom]}',
                 'from 0 to 1000'),
    'qwen2_5_vl': (['-0.4s', '0.0s'], ['0.0s', '0.4s'],
                   '{"bbox_2d": [left, top, right, bottom], '
                   '"label": "riskiest road user or object"}', 'in pixels'),
    'qwen3_vl': (['<0.0 seconds>', '<0.4 seconds>'], ['<0.0 seconds>', '<0.4 seconds>'],
                 '{"bbox_2d": [left, top, right, bottom], '
                 '"label": "riskiest road user or object"}', 'from 0 to 1000'),
}
ASKED.update(dict.fromkeys(('smolvlm', 'llava_onevision', 'fast_vlm', 'gemma3'),
                           ASKED['idefics3']), qwen3_5=ASKED['qwen3_vl'],
             molmo2=(*ASKED['idefics3'][:2], *ASKED['qwen2_vl'][2:]),
             cosmos3_edge=(*ASKED['qwen3_vl'][:2], *ASKED['qwen2_vl'][2:]))
#: Those that tell the time from the first picture of each camera on, or count.
FROM_THE_FIRST = ('internvl', 'qwen3_vl', 'qwen3_5', 'cosmos3_edge')


def frames(count: int = 2, camera: str = 'front') -> list[Frame]:
    """Return noise in 360x640 px, every 0.4 s."""
    random = np.random.default_rng(0)
    return [Frame(camera, SECOND + 4 * number * SECOND // 10,
                  random.integers(0, 256, (360, 640, 3), np.uint8)) for number in range(count)]


def test_every_family_has_a_convention() -> None:
    assert set(CONVENTIONS) == set(FAMILIES) == set(ASKED)


@pytest.mark.parametrize('family', ASKED)
def test_the_shipped_words_are_asked_as_the_family_knows_them(family: str) -> None:
    captions, causal, found, unit = ASKED[family]
    for language, newest in (('en', 'in the newest picture, '), ('de', 'im neuesten Bild, ')):
        prompt = Prompts.load(language, convention=CONVENTIONS[family]).description
        assert prompt.captions(frames()) == captions
        assert prompt.captions_on_arrival(frames()) == causal
        # Both are the first picture of their camera, and the newest.
        both = captions[0] if family in FROM_THE_FIRST else '0.0s'
        assert prompt.captions([*frames(1, 'left'), *frames(1, 'right')]) == [
            f'left {both}', f'right {both}']
        assert '{' not in ''.join([*captions, *causal])
        if language == 'en':
            assert f'"object": {found}, "explanation"' in prompt.instruction
            assert newest + unit in prompt.instruction
        else:
            german = {'from 0 to 1000': 'von 0 bis 1000', 'in pixels': 'in Pixeln',
                      'from 0.00 to 1.00': 'von 0.00 bis 1.00'}
            assert newest + german[unit] in prompt.instruction


def test_a_family_without_system_messages_is_told_before_the_instruction() -> None:
    for family in ('idefics3', 'molmo2'):
        prompts = Prompts.load(convention=CONVENTIONS[family])
        for prompt in (prompts.description, prompts.ask('Why?')):
            assert prompt.system == ''
            assert prompt.instruction.startswith(
                'You watch the road for the driver of this car. Pict')


def test_times_are_told_as_the_processor_of_qwen3_vl_tells_those_of_a_video() -> None:
    processor: Any = SimpleNamespace(
        vision_start_token='<', vision_end_token='>', video_token='',
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=1))
    processor._calculate_timestamps = Qwen3VLProcessor._calculate_timestamps.__get__(processor)
    metadata = VideoMetadata(total_num_frames=6, fps=2.5, frames_indices=[0, 1, 2, 3, 4, 5])
    written = Qwen3VLProcessor.replace_video_token(processor, {
        'video_grid_thw': torch.tensor([[6, 2, 2]]), 'video_metadata': [metadata]}, 0)
    prompt = Prompts.load(convention=CONVENTIONS['qwen3_vl']).description
    assert ''.join(f'{caption}<>' for caption in prompt.captions(frames(6))) == written


def test_frames_are_told_as_the_processor_of_internvl_tells_those_of_a_video() -> None:
    processor: Any = SimpleNamespace(start_image_token='<', end_image_token='>', image_token='',
                                     image_seq_length=1)
    written = InternVLProcessor.replace_video_token(
        processor, {'pixel_values_videos': [np.zeros((3, 1))]}, 0)
    prompt = Prompts.load(convention=CONVENTIONS['internvl']).description
    # Its chat template ends the line after a picture.
    assert '\n'.join(f'{caption}<>' for caption in prompt.captions(frames(3))) == written


# Files of one's own


def own_file(path: Path, **texts: Any) -> Path:
    """Write the shipped texts with some of one's own; None takes one out."""
    shipped = yaml.safe_load(load_task().prompts.read_text(encoding='utf-8'))['en']
    path.write_text(yaml.safe_dump({'en': {
        key: text for key, text in {**shipped, **texts}.items() if text is not None}}),
        encoding='utf-8')
    return path


@pytest.mark.parametrize('family', ASKED)
def test_of_several_cameras_the_model_is_asked_in_which_one_something_is(family: str) -> None:
    _, _, found, unit = ASKED[family]
    for language, place in (('en', 'in the newest picture of that camera, '),
                            ('de', 'im neuesten Bild dieser Kamera, ')):
        prompt = Prompts.load(language, convention=CONVENTIONS[family]).description
        assert prompt.seen_by(['front']) == prompt
        several = prompt.seen_by(['front', 'left', 'right'])
        assert '"object": {"camera": "front / left / right", "' in several.instruction
        assert place in several.instruction
        assert '{' not in several.instruction.replace('{"', '')
        if language == 'en':
            assert f'{{"camera": "front / left / right", {found[1:]}, ' in several.instruction
            assert place + unit in several.instruction
            assert several.instruction.startswith('You watch') == (
                family in ('idefics3', 'molmo2'))
    # Models that were trained here know pictures of one camera.
    assert describe_prompt().seen_by(['front', 'left']) == describe_prompt()


def test_a_file_of_ones_own_may_leave_the_camera_out(tmp_path: Path) -> None:
    prompt = Prompts.load('en', own_file(tmp_path / 'own.yaml', camera=None)).description
    assert prompt.seen_by(['front', 'left']) == prompt


def test_a_file_of_ones_own_overrides_the_family(tmp_path: Path) -> None:
    path = own_file(tmp_path / 'own.yaml', caption='at {age}:', caption_cameras='{caption}',
                    box_scale=1, caption_causal='{number}/{caption}')
    prompt = Prompts.load('en', path, CONVENTIONS['qwen3_vl']).description
    assert prompt.captions(frames()) == ['at -0.4:', 'at 0.0:']
    assert prompt.captions([*frames(1, 'left'), *frames(1, 'right')]) == 2 * ['<0.0 seconds>']
    assert prompt.captions_on_arrival(frames()) == ['1/<0.0 seconds>', '2/<0.4 seconds>']
    assert 'in the newest picture, from 0.00 to 1.00.' in prompt.instruction
    assert prompt.box == BoxForm('bbox_2d', 1.0, label_first=False)


@pytest.mark.parametrize('family', ['qwen3_vl', 'internvl'])
def test_a_file_of_ones_own_may_ask_for_pixels(family: str, tmp_path: Path) -> None:
    known = CONVENTIONS[family].box
    prompt = Prompts.load(
        'en', own_file(tmp_path / 'own.yaml', box_scale='pixels'), CONVENTIONS[family]).description
    assert prompt.box == BoxForm(known.key, None, known.label_first)
    assert 'in the newest picture, in pixels.' in prompt.instruction


def test_a_file_that_writes_the_form_itself_is_held_to_it(tmp_path: Path) -> None:
    for key in ('box', 'bbox_2d'):
        path = own_file(tmp_path / 'own.yaml', box_scale=1000, object_label=None,
                        description=f'JSON: {{"object": {{"label": "", "{key}": []}}}}')
        prompt = Prompts.load('en', path, CONVENTIONS['qwen2_5_vl']).description
        assert (prompt.box.key, prompt.box.scale) == (key, 1000.0)


@pytest.mark.parametrize('scale', [0, -1, float('nan'), float('inf'), 'wide'])
def test_a_unit_that_is_none_is_refused(tmp_path: Path, scale: Any) -> None:
    with pytest.raises(PromptError, match=r"^prompt 'en' in .* lacks or garbles .*"):
        Prompts.load('en', own_file(tmp_path / 'own.yaml', box_scale=scale))


# The embedded model


def test_the_embedded_model_is_asked_as_it_was_trained() -> None:
    pipeline = Pipeline.load(PipelineConfig(threads=1))
    vlm = pipeline.vlm
    assert vlm.convention is TRAINED_HERE
    asked = pipeline.prompts
    assert (asked.description, asked.ask('Is it safe to drive on?')) == (
        describe_prompt(), question_prompt('Is it safe to drive on?'))
    for prompt, words in ((asked.description, DESCRIBE),
                          (asked.ask('Is it safe to drive on?'), ASK)):
        for captions, ages in ((prompt.captions(frames()), ('-0.4s', '0.0s')),
                               (prompt.captions_on_arrival(frames()), ('0.0s', '0.4s'))):
            ids = vlm.layout([(4, 7)] * 2, captions, prompt).input_ids
            text = ids[ids != vlm.model.config.image_token_id]
            assert vlm.tokenizer.decode(text) == EMBEDDED.format(*ages, words)
            # Tokens, not only letters: as the tokenizer cuts them.
            assert text.tolist() == vlm.tokenizer(EMBEDDED.format(*ages, words))['input_ids']


@pytest.mark.parametrize('left', [(), (TAUGHT,), (GUARD,), (GUARD, TAUGHT)])
def test_a_copy_of_the_embedded_model_that_is_not_whole_is_asked_as_it_was_trained(
        left: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its network is a Qwen3-VL, which is asked otherwise."""
    copy = tmp_path / 'copy'
    shutil.copytree(model_path('embedded'), copy, ignore=shutil.ignore_patterns(*left))
    with caplog.at_level(logging.WARNING, 'vts_ros'):
        pipeline = Pipeline.load(PipelineConfig(model=str(copy), threads=1))
    assert pipeline.vlm.convention is TRAINED_HERE
    assert load_processor(copy).convention is TRAINED_HERE
    assert [record.getMessage() for record in caplog.records] == ([
        f'copy was trained with vts train, but lacks {" and ".join(left)}: it answers where it '
        'knows nothing; copy the whole folder'] if left else [])


def test_what_others_make_of_its_family_is_asked_as_that(tmp_path: Path) -> None:
    directory = make('qwen3_vl', tmp_path / 'model')
    assert Vlm.load(directory, device='cpu').convention is CONVENTIONS['qwen3_vl']
    (directory / TAUGHT).write_text('Is it safe?\n')
    assert Vlm.load(directory, device='cpu').convention is TRAINED_HERE


# From the answer to the report


@pytest.fixture(scope='module', params=names())
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Return a pipeline with a checkpoint of each family."""
    directory = make(request.param, tmp_path_factory.mktemp('models') / request.param)
    return Pipeline.load(PipelineConfig(model=str(directory), device='cpu', threads=1))


def dictate(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, sides: Sequence[float],
            prompts: list[str] | None = None, camera: str | None = None) -> None:
    """Have the model answer a box, in the picture of a camera."""
    def generate(prepared: Sequence[Any], *_: Any, **__: Any) -> list[Generation]:
        if prompts is not None:
            prompts.append(str(pipeline.vlm.tokenizer.decode(prepared[0].layout.input_ids)))
        key = pipeline.prompts.description.box.key
        found = {**({'camera': camera} if camera else {}), key: list(sides), 'label': 'child'}
        text = json.dumps({'risk': 'high', 'object': found})
        return [Generation(text, (1,), 1, 1, {'prefill': 1.0, 'decode': 1.0})]

    monkeypatch.setattr(pipeline.vlm, 'generate_batch', generate)


def seen_size(pipeline: Pipeline, picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Return width and height of a picture as the image processor makes it."""
    pixels = pipeline.vlm.preprocess([picture])
    if 'image_grid_thw' in pixels:
        _, rows, columns = pixels['image_grid_thw'][0].tolist()
        side_px = pipeline.vlm.model.config.vision_config.patch_size
        return side_px * columns, side_px * rows
    if 'image_token_pooling' in pixels:
        images: Any = pipeline.vlm.images
        *_, height, width = compute_crop_geometry(
            picture.shape[0], picture.shape[1], images.max_crops, images.overlap_margins, 56, 8)
        return width, height
    return pixels['pixel_values'].shape[-1], pixels['pixel_values'].shape[-2]


def test_the_report_is_from_0_to_1_whatever_the_family_writes(
        asked: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    family = asked.vlm.model.config.model_type
    captions, _, found, unit = ASKED[family]
    rgb = frames()[-1].rgb()
    assert asked.vlm.seen_size(asked.vlm.encode(rgb)) == seen_size(asked, rgb)
    width, height = {'in pixels': seen_size(asked, rgb), 'from 0 to 1000': (1000, 1000),
                     'from 0.00 to 1.00': (1, 1)}[unit]
    prompts: list[str] = []
    dictate(asked, monkeypatch,
            (0.25 * width, 0.5 * height, 0.75 * width, 1.0 * height), prompts)
    report = asked.describe(frames())
    assert report.answer.box == pytest.approx((0.25, 0.5, 0.75, 1.0))
    assert report.answer.label == 'child'
    for words in (*captions, found, unit, 'You watch the road'):
        assert words in prompts[0]


def test_object_and_box_are_of_the_camera_that_the_model_names(
        asked: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    # Of another size, so that its box in pixels is another one.
    left = [Frame('left', frame.stamp_ns - 1, random.integers(0, 256, (480, 320, 3), np.uint8))
            for frame in frames()]
    window = sorted([*frames(), *left], key=lambda frame: frame.stamp_ns)
    form, prompts = asked.prompts.description.box, list[str]()
    width, height = form.scale or 0.0, form.scale or 0.0
    if form.scale is None:
        width, height = seen_size(asked, left[-1].rgb())
    for named, camera, box in (('left', 'left', (0.25, 0.5, 0.75, 1.0)), ('rear', None, None)):
        dictate(asked, monkeypatch,
                (0.25 * width, 0.5 * height, 0.75 * width, 1.0 * height), prompts, camera=named)
        report = asked.describe(window)
        assert '"camera": "front / left", ' in prompts[-1]
        assert report.risk_object is not None
        assert (report.risk_object.label, report.risk_object.camera) == ('child', camera)
        assert report.risk_object.box == (box and pytest.approx(box, abs=0.01))
        assert SceneReport.from_dict(report.to_dict()).risk_object == report.risk_object


@pytest.mark.slow
@pytest.mark.parametrize('asked', names('qwen3_vl'), indirect=True)
def test_a_form_that_is_enforced_knows_the_cameras_of_the_window(
        asked: Pipeline, tmp_path: Path) -> None:
    directory = make('qwen3_vl', tmp_path / 'model')
    pipeline = Pipeline.load(PipelineConfig(
        model=str(directory), device='cpu', threads=1, structured=True, max_new_tokens=64))
    generate = pipeline.vlm.generate_batch
    pipeline.drafts = None

    written: list[str] = []

    def noting(*args: Any, **options: Any) -> list[Generation]:
        found = generate(*args, **options, do_sample=True, temperature=2.0)
        written.append(found[0].text)
        return found

    pipeline.vlm.generate_batch = noting  # type: ignore[method-assign]
    torch.manual_seed(0)
    left = [Frame('left', frame.stamp_ns, frame.data) for frame in frames()]
    for window, cameras in (([*frames(), *left], {'front', 'left'}), (frames(), set())):
        for _ in range(12):
            pipeline.describe(window)
        assert {name for text in written
                for name in re.findall(r'"camera": "(\w+)"', text)} == cameras
        assert any('"object": {' in text for text in written)
        written.clear()


@pytest.mark.parametrize('asked', names('qwen3_vl'), indirect=True)
def test_the_wrong_unit_is_told_once(
        asked: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
        ) -> None:
    # Of 640x360 px, a camera that writes beyond it: nobody knows what that is.
    dictate(asked, monkeypatch, (1200, 100, 1900, 900))
    with caplog.at_level(logging.WARNING, 'vts_ros'):
        boxes = [asked.describe(frames()).answer.box for _ in range(8)]
    assert boxes == [None] * 8
    line, = [record.getMessage() for record in caplog.records]
    assert line.startswith('most boxes of qwen3_vl are in another unit than it is asked for: ')
    caplog.clear()
    asked.set_prompts('de', '')
    dictate(asked, monkeypatch, (100, 100, 900, 900))
    with caplog.at_level(logging.WARNING, 'vts_ros'):
        assert {asked.describe(frames()).answer.box for _ in range(8)} == {(0.1, 0.1, 0.9, 0.9)}
    assert not caplog.records


# Forms that are enforced


def allows(vlm: Vlm, form: BoxForm, text: str) -> bool:
    """Return whether a model may write a text where this form is enforced."""
    processor = Grammar(schema(form), vlm.tokenizer, vlm._end_ids, len(vlm.tokenizer)).processor(1)
    written = torch.zeros(1, 1, dtype=torch.long)
    for token in [*vlm.tokenizer(text, add_special_tokens=False)['input_ids'], vlm._end_ids[0]]:
        if not processor(written, torch.zeros(1, len(vlm.tokenizer)))[0, token].isfinite():
            return False
        written = torch.cat([written, torch.tensor([[token]])], dim=1)
    return True


@pytest.mark.parametrize(('family', 'good', 'bad'), [
    ('qwen2_5_vl', '{"bbox_2d": [12, 1900, 44, 1079], "label": "car"}',
     '{"bbox_2d": [0.12, 0.50, 0.44, 0.90], "label": "car"}'),
    ('qwen3_vl', '{"bbox_2d": [12, 900, 44, 1000], "label": "car"}',
     '{"bbox_2d": [12, 900, 44, 1080], "label": "car"}'),
    ('internvl', '{"label": "car", "box": [12, 900, 44, 1000]}',
     '{"label": "car", "bbox_2d": [12, 900, 44, 1000]}'),
    ('smolvlm', '{"label": "car", "box": [0.12, 0.50, 0.44, 0.90]}',
     '{"label": "car", "box": [12, 900, 44, 1000]}')])
def test_the_form_that_is_enforced_is_that_of_the_family(family: str, good: str, bad: str) -> None:
    vlm = Vlm.load(model_path('embedded'), device='cpu')
    before = '{"risk": "low", "object": '
    after = ', "explanation": "", "action": "", "description": ""}'
    form = CONVENTIONS[family].box
    assert allows(vlm, form, f'{before}{good}{after}')
    assert not allows(vlm, form, f'{before}{bad}{after}')


@pytest.mark.parametrize('asked', names('qwen2_5_vl'), indirect=True)
def test_a_pipeline_with_a_form_has_that_of_its_family(asked: Pipeline, tmp_path: Path) -> None:
    directory = make('qwen2_5_vl', tmp_path / 'model')
    pipeline = Pipeline.load(PipelineConfig(
        model=str(directory), device='cpu', threads=1, structured=True, max_new_tokens=48))
    written: list[str] = []
    generate = pipeline.vlm.generate_batch

    def noting(*args: Any, **options: Any) -> list[Generation]:
        found = generate(*args, **options, do_sample=True, temperature=2.0)
        written.append(found[0].text)
        return found

    pipeline.vlm.generate_batch = noting  # type: ignore[method-assign]
    torch.manual_seed(0)
    for _ in range(12):
        pipeline.describe(frames())
    boxes = [text for text in written if '", "object": {' in text]
    assert boxes
    assert all('", "object": {"bbox_2d": [' in text for text in boxes)
