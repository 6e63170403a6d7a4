# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A model on a server is asked as its family knows it, and its boxes are read so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from published import PUBLISHED
import pytest
from test_served import content, HEIGHT, pipelines_on, Server, serving, WIDTH
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vts_ros.paths import checkpoint, model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm import VlmError
from vts_ros.vlm.conventions import CONVENTIONS, PLAIN, TRAINED_HERE
from vts_ros.vlm.families import FAMILIES
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.served_families import family_in, served_family

#: Of the picture, as the model means it.
BOX = (0.25, 0.5, 0.75, 1.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as plan:
        yield plan


@pytest.fixture
def load(server: Server) -> Iterator[Callable[..., Pipeline]]:
    """Return what makes a pipeline whose language model is on the server."""
    with pipelines_on(server.url) as make:
        yield make


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    """Return four frames, in each of which another part is noise."""
    random, found = np.random.default_rng(0), []
    for index in range(4):
        rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        noise = random.integers(0, 256, (HEIGHT, WIDTH // 4, 3), np.uint8)
        rgb[:, WIDTH // 4 * index:WIDTH // 4 * (index + 1)] = noise
        found.append(Frame('front', 400_000_000 * index, rgb))
    return found


@pytest.mark.parametrize(('name', 'family'), [
    ('Qwen/Qwen3-VL-4B-Instruct', 'qwen3_vl'), ('Qwen3VL-4B-Instruct-Q4_K_M.gguf', 'qwen3_vl'),
    ('qwen3-vl:8b', 'qwen3_vl'), ('Qwen/Qwen3-VL-30B-A3B-Instruct-FP8', 'qwen3_vl'),
    ('Qwen/Qwen2.5-VL-7B-Instruct-AWQ', 'qwen2_5_vl'), ('qwen2.5vl:7b', 'qwen2_5_vl'),
    ('Qwen2_5-VL-3B', 'qwen2_5_vl'), ('Qwen/Qwen2-VL-2B-Instruct', 'qwen2_vl'),
    ('Qwen/Qwen3.5-9B', 'qwen3_5'), ('google/gemma-3-4b-it', 'gemma3'), ('gemma3:4b', 'gemma3'),
    ('OpenGVLab/InternVL3_5-2B-HF', 'internvl'), ('apple/FastVLM-0.5B', 'fast_vlm'),
    # What a folder is in says less than the folder.
    ('/data/qwen2.5-vl/runs/Qwen3-VL-4B', 'qwen3_vl'),
    ('google/gemma-3n-E4B-it', None), ('Qwen/Qwen3-5B', None), ('Qwen/Qwen2.5-7B', None),
    ('Qwen/Qwen3-VLA', 'qwen3_vl'), ('road-model', None), ('gpt-4o', None), ('', None)])
def test_a_name_tells_its_family_or_none(name: str, family: str | None) -> None:
    assert family_in([name]) == family
    assert family_in(['my-model', name]) == family


def test_every_family_is_known_by_its_published_names() -> None:
    told = {family_in([family.name]): family.config['model_type'] for family in PUBLISHED.values()}
    assert all(found == expected for found, expected in told.items())
    assert {*told, 'fast_vlm'} == set(FAMILIES)
    # And as they are called here.
    assert all(family_in([family]) == family for family in FAMILIES)


def asked_by(pipeline: Pipeline, server: Server, frames: list[Frame]) -> tuple[list[Any], str]:
    """Return captions of the pictures and the instruction that the server got."""
    pipeline.describe(frames)
    *parts, instruction = content(server.chats[-1])
    return parts[::2], str(instruction)


@pytest.mark.parametrize('family', CONVENTIONS)
def test_it_is_asked_as_its_family_in_this_process_is(
        family: str, load: Callable[..., Pipeline], server: Server,
        frames: list[Frame]) -> None:
    server.models = [{'id': f'my/{family}-tuned'}]
    pipeline = load(keep_ratio=1.0)
    expected = Prompts.load(convention=CONVENTIONS[family]).description
    server.text = lambda chat: '{"risk": "none"}'
    if not expected.system:
        # Its first message is that of the user.
        pipeline.describe(frames)
        message, = server.chats[-1]['messages']
        assert message['content'][-1]['text'] == expected.instruction
    else:
        assert asked_by(pipeline, server, frames) == (
            expected.captions(frames), expected.instruction)
    assert pipeline.info()['asked_as'] == family


@pytest.mark.parametrize(('said', 'family'), [
    ({'id': 'roads', 'root': 'Qwen/Qwen3-VL-4B-Instruct'}, 'qwen3_vl'),
    # An adapter on vLLM.
    ({'id': 'roads', 'root': '/adapters/roads', 'parent': 'Qwen/Qwen2.5-VL-3B'}, 'qwen2_5_vl'),
    # The name that it was given there counts first.
    ({'id': 'internvl-roads', 'root': '/models/checkpoint-400'}, 'internvl')])
def test_where_the_server_has_it_from_tells_it_too(
        said: dict[str, Any], family: str, load: Callable[..., Pipeline], server: Server) -> None:
    server.models = [said]
    assert load().info()['asked_as'] == family


def test_a_folder_that_is_here_says_it_itself(
        load: Callable[..., Pipeline], server: Server, tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'internvl'}))
    server.models = [{'id': 'Qwen3-VL', 'root': str(tmp_path)},
                     {'id': 'small', 'root': checkpoint('embedded')}]
    assert load().info()['asked_as'] == 'internvl'
    small = load(model='small').language_model
    assert (small.info['asked_as'], small.convention) == ('trained here', TRAINED_HERE)
    assert served_family('Qwen3-VL', [str(model_path('embedded'))], 'plain') == ('plain', PLAIN)
    for text in ('{', '[]', '{"model_type": "llava"}', '{}'):
        (tmp_path / 'config.json').write_text(text)
        assert load().info()['asked_as'] == 'qwen3_vl'


def test_of_a_name_that_tells_nothing_one_line_says_what_is_done(
        load: Callable[..., Pipeline], server: Server,
        caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, 'vts_ros'):
        pipeline = load()
        assert pipeline.language_model.convention == PLAIN
        line, = [record.getMessage() for record in caplog.records]
        assert line.startswith('the name of first does not tell its family: ')
        caplog.clear()
        server.models = [{'id': 'Qwen3-VL'}]
        for said, expected in (('qwen2_5_vl', CONVENTIONS['qwen2_5_vl']), ('plain', PLAIN)):
            pipeline = load(server_family=said)
            assert pipeline.info()['asked_as'] == said
            assert pipeline.language_model.convention == expected
        assert not caplog.records
    with pytest.raises(VlmError, match=r"^no family 'llama' of a served model, there are: plain"):
        load(server_family='llama')


@pytest.mark.parametrize('cameras', [1, 2])
@pytest.mark.parametrize(('keep_ratio', 'mode'), [(1.0, 'window'), (0.5, 'window'),
                                                  (0.5, 'causal')])
def test_boxes_in_pixels_are_those_of_the_picture_that_the_model_sees(
        keep_ratio: float, mode: str, cameras: int, load: Callable[..., Pipeline],
        server: Server, frames: list[Frame]) -> None:
    """As its processor scales what was sent, which is smaller where less is kept."""
    server.models = [{'id': 'Qwen/Qwen2.5-VL-3B-Instruct'}]
    seen: list[tuple[int, int]] = []

    def answer(chat: dict[str, Any]) -> str:
        # Of one camera that is the last picture, of two the last but one.
        picture = content(chat)[-2 * cameras]
        height, width = picture.shape[:2]
        height, width = smart_resize(height, width, min_pixels=3136, max_pixels=12845056)
        seen.append((height, width))
        left, top, right, bottom = BOX
        sides = [round(left * width), round(top * height), round(right * width),
                 round(bottom * height)]
        found = {'bbox_2d': sides, 'label': 'car'}
        return json.dumps({'risk': 'high', 'object': {
            **({'camera': 'front'} if cameras > 1 else {}), **found}})

    server.text = answer
    window = [frame for shown in frames for frame in (
        shown, Frame('left', shown.stamp_ns + 1, shown.rgb()[:, ::-1].copy()))[:cameras]]
    report = load(keep_ratio=keep_ratio, mode=mode).describe(window)
    assert report.answer.box == pytest.approx(BOX, abs=0.005)
    if keep_ratio == 1.0:
        assert seen == [smart_resize(HEIGHT, WIDTH)]
    else:
        assert seen[0][0] < HEIGHT - 28
