# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Videos behind a real vLLM with the plugin of this package: see docs/vllm.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from all_commands import app
import numpy as np
import pytest
from typer.testing import CliRunner
from vlm_maker import make

from vts_ros.lab.bench.vllm_server import KEEP_LISTS, VllmServer
from vts_ros.lab.evaluation.batches import prepare
from vts_ros.lab.evaluation.server_agreement import agreement, rendered_windows
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.frames import Window
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vllm_plugin.keep_lists import KEEP
from vts_ros.vlm import VlmError
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.served_keep_lists import KeepListServedVlm
from vts_ros.vlm.video_steps import VideoStep

VLLM = os.environ.get('VTS_TEST_VLLM', '')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not VLLM or VLLM.startswith('http'),
    reason='VTS_TEST_VLLM names no python of an environment with vLLM')]
ANSWER_SEC = 600.0
#: Prompts of a window are read in parts of so many tokens.
PART = 128
TOKENS = 24
#: What vLLM runs on a CPU: heads of 32 numbers.
TEXT: dict[str, Any] = {
    'hidden_size': 64, 'head_dim': 32, 'max_position_embeddings': 4096, 'rope_parameters': {
        'rope_type': 'default', 'rope_theta': 10000.0, 'mrope_section': [6, 5, 5]}}
#: Qwen3-VL mixes its three directions, whatever its configuration says; vLLM reads it there.
TEXTS = {'qwen2_5_vl': TEXT, 'qwen3_vl': {**TEXT, 'rope_parameters': {
    **TEXT['rope_parameters'], 'mrope_interleaved': True}}}
VIDEO_PROCESSORS = {'qwen2_5_vl': 'Qwen2VLVideoProcessor', 'qwen3_vl': 'Qwen3VLVideoProcessor'}


class Said(NamedTuple):
    """What was read and written: tokens of the prompt and of the answer."""

    prompt: list[int]
    answer: list[int]


@pytest.fixture(scope='module', params=list(TEXTS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny checkpoint of a family, with the files that vLLM needs."""
    made = make(request.param, tmp_path_factory.mktemp('models') / request.param,
                vision={'out_hidden_size': 64}, **TEXTS[request.param])
    settings = made / 'preprocessor_config.json'
    images = {**json.loads(settings.read_text()), 'image_processor_type': 'Qwen2VLImageProcessor'}
    settings.write_text(json.dumps(images))
    del images['image_processor_type']
    (made / 'video_preprocessor_config.json').write_text(json.dumps({
        **images, 'video_processor_type': VIDEO_PROCESSORS[request.param]}))
    return made


@pytest.fixture(scope='module')
def url(folder: Path) -> Iterator[str]:
    """Return the address of a vLLM that serves it with the plugin."""
    server = VllmServer(VLLM, folder, plugins=[KEEP_LISTS], options=[
        '--max-model-len', '4096', '--max-num-batched-tokens', str(PART),
        '--limit-mm-per-prompt', '{"image": 8, "video": 2}', '--trust-request-mm-kwargs'])
    try:
        server.wait()
        yield server.url
    finally:
        server.close()


@pytest.fixture(scope='module')
def process(folder: Path) -> Pipeline:
    """Return the pipeline with the model in this process."""
    return Pipeline.load(PipelineConfig(
        model=str(folder), frames_as='video', draft=False, dtype='float32', device='cpu',
        max_new_tokens=TOKENS))


@pytest.fixture(scope='module')
def windows() -> list[Window]:
    """Return windows of five frames, each of another scene; the last of two cameras."""
    *alone, left, right = rendered_windows('test', 5)
    return [*alone, sorted(
        [*left, *(replace(frame, camera='rear') for frame in right)],
        key=lambda frame: (frame.stamp_ns, frame.camera))]


def beside(process: Pipeline, **settings: Any) -> Pipeline:
    """Return the same pipeline with other settings, in this process."""
    return Pipeline(process.sparsifier, process.language_model, process.prompts,
                    replace(process.config, **settings), guard=process.guard)


def behind(url: str, process: Pipeline, **settings: Any) -> Pipeline:
    """Return the same pipeline with the model behind the server."""
    return Pipeline.load(replace(
        process.config, model='embedded', vlm_backend='openai', url=url,
        server_pruning='exact', timeout_sec=ANSWER_SEC, **settings))


def said_here(pipeline: Pipeline, window: Window) -> Said:
    """Return what the model in this process reads and writes about a window."""
    pipeline.clear()
    prepared = prepare(pipeline, window, pipeline.description_prompt(window), Stopwatch())
    keep = prepared.selection.keep
    written, = pipeline.vlm.generate_batch([prepared.inputs], [keep], TOKENS)
    return Said(prepared.inputs.prune(keep).input_ids.tolist(), list(written.token_ids))


def request_for(pipeline: Pipeline, window: Window) -> dict[str, Any]:
    """Return what the server is sent about a window."""
    pipeline.clear()
    prepared = prepare(pipeline, window, pipeline.description_prompt(window), Stopwatch())
    request: dict[str, Any] = prepared.inputs.request(prepared.selection.keep)
    return request


def said_there(pipeline: Pipeline, request: dict[str, Any]) -> Said:
    """Return what the server reads and writes."""
    extra = request['extra_body']
    body = {**extra, 'messages': request['messages'], 'model': 'embedded', 'max_tokens': TOKENS,
            'temperature': 0.0, 'return_token_ids': True}
    sent = Request(f'{pipeline.config.url}/chat/completions', json.dumps(body).encode(),
                   {'Content-Type': 'application/json'})
    with urlopen(sent, timeout=ANSWER_SEC) as reply:
        found = json.load(reply)
    return Said(found['prompt_token_ids'], found['choices'][0]['token_ids'])


@pytest.mark.parametrize('settings', [
    {'keep_ratio': 0.6}, {'keep_ratio': 0.2}, {'keep_ratio': 0.2, 'instructions': 'first'}])
def test_the_server_writes_token_for_token_what_the_process_writes(
        url: str, process: Pipeline, windows: list[Window], settings: dict[str, Any]) -> None:
    """Prompts are read in parts, and a second time from the cache of prefixes."""
    here = Pipeline.load(replace(process.config, **settings))
    there = behind(url, process, **settings)
    answers = set()
    for window in windows:
        expected = said_here(here, window)
        answers.add(tuple(expected.answer))
        assert len(expected.prompt) > 2 * PART
        for _ in range(2):
            assert said_there(there, request_for(there, window)) == expected
    # So that the pictures count for something.
    assert len(answers) > 1


def test_the_command_compares_videos(
        url: str, folder: Path, process: Pipeline, windows: list[Window]) -> None:
    """What is cut off within a character is another text, though of the same tokens."""
    found = agreement(process, behind(url, process), windows)
    assert found['kept'] == found['prompt_tokens'] == found['n'] == len(windows)
    assert found['cached'] > 0.5
    done = CliRunner().invoke(app, [
        'eval', 'server', '--url', url, '--model', str(folder), '--pruning', 'exact',
        '--frames-as', 'video', '--keep-ratio', '0.2', '--n', '2', '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['frames_as'] == 'video'
    assert result['kept'] == result['prompt_tokens'] == result['n'] == 2


def test_a_list_for_another_grid_is_refused(url: str) -> None:
    vlm = KeepListServedVlm(url, timeout_sec=ANSWER_SEC, frames_as='video')
    frame = vlm.encode(np.zeros((84, 140, 3), np.uint8))
    steps = [VideoStep(0.0)]
    prompt: Any = vlm.prepare([frame._replace(grid=(5, 3))], steps, Prompt('', '.'))
    with pytest.raises(VlmError, match='grid of 5 x 3 visual tokens, but the picture has 3 x 5'):
        vlm.generate_batch([prompt], [np.arange(3, dtype=np.int32)], 1)


def test_more_frames_than_vllm_takes_by_itself_are_all_read(
        url: str, process: Pipeline) -> None:
    window = [replace(frame, stamp_ns=index * 400_000_000)
              for index, frame in enumerate(7 * [*next(rendered_windows('test', 1))])]
    settings: dict[str, Any] = {'keep_ratio': 0.3}
    here = beside(process, **settings)
    there = behind(url, process, **settings)
    assert said_there(there, request_for(there, window)) == said_here(here, window)


def test_the_proof_notices_other_times_frames_and_tokens(
        url: str, process: Pipeline, windows: list[Window]) -> None:
    """Answers of so small a model depend on all of them, in some window at least."""
    there = behind(url, process)
    is_timed = process.vlm.model.config.model_type == 'qwen3_vl'

    def later(sent: dict[str, Any], part: dict[str, Any]) -> None:
        sent['step_sec'] *= 20.0
        if is_timed:
            sent['times_sec'] = [time_sec + 1.0 for time_sec in sent['times_sec']]

    def swapped(sent: dict[str, Any], part: dict[str, Any]) -> None:
        kind, data = part['video_url']['url'].split(',', 1)
        frames = data.split(',')
        frames[::2], frames[1::2] = frames[1::2], frames[::2]
        part['video_url']['url'] = ','.join([kind, *frames])

    def others(sent: dict[str, Any], part: dict[str, Any]) -> None:
        rows, columns = sent['grid']
        total = rows * columns * len(sent['times_sec'])
        sent['keep'] = sorted(total - 1 - place for place in sent['keep'])

    for change in (later, swapped, others):
        differ = 0
        for window in windows:
            request = request_for(there, window)
            right = said_there(there, request)
            parts = [part for part in request['messages'][-1]['content']
                     if part['type'] == 'video_url']
            lists = request['extra_body']['mm_processor_kwargs'][KEEP]
            for sent, part in zip(lists, parts, strict=True):
                change(sent, part)
            found = said_there(there, request)
            assert len(found.prompt) == len(right.prompt)
            differ += found.answer != right.answer
        assert differ, change.__name__
