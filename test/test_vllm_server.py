# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A real vLLM with the plugin of this package, where one is at hand: see docs/vllm.md."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import os
from pathlib import Path
import re
import time
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from vts_ros.lab.bench.vllm_server import KEEP_LISTS, VllmServer
from vts_ros.lab.evaluation.server_agreement import agreement, drive_windows, rendered_windows
from vts_ros.paths import checkpoint
from vts_ros.pipeline.frames import Window
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import VlmError
from vts_ros.vlm.answers import Answer
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.served import ServedVlm
from vts_ros.vlm.served_keep_lists import KeepListServedVlm

#: A Python, or the address of a server that was started as here.
VLLM = os.environ.get('VTS_TEST_VLLM', '')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not VLLM, reason='VTS_TEST_VLLM names no python of an environment with vLLM')]
ROOT = Path(__file__).resolve().parents[1]
#: A busy machine takes minutes for what takes a second.
ANSWER_SEC = 600.0
#: Prompts of a window are read in parts of so many tokens.
PART = 128
LONG = 'Is the road wet? ' * 1000


@pytest.fixture(scope='module')
def url() -> Iterator[str]:
    """Return the address of a vLLM that serves the embedded model with the plugin."""
    if VLLM.startswith('http'):
        yield VLLM
        return
    server = VllmServer(VLLM, checkpoint('embedded'), plugins=[KEEP_LISTS], options=[
        '--max-model-len', '2048', '--max-num-batched-tokens', str(PART),
        '--limit-mm-per-prompt', '{"image": 16}', '--trust-request-mm-kwargs'])
    try:
        server.wait()
        yield server.url
    finally:
        server.close()


def test_the_plugin_is_installed_with_the_package() -> None:
    assert f"= {KEEP_LISTS}'" in (ROOT / 'setup.py').read_text()


@pytest.fixture(scope='module')
def process() -> Pipeline:
    """Return the pipeline with the model in this process."""
    return Pipeline.load(PipelineConfig(draft=False, dtype='float32'))


@pytest.fixture(scope='module')
def windows() -> list[Window]:
    """Return a few windows, each of another scene."""
    return list(rendered_windows('test', 4))


def behind(url: str, process: Pipeline, **settings: Any) -> Pipeline:
    """Return the same pipeline with the model behind the server."""
    config = replace(process.config, vlm_backend='openai', url=url, timeout_sec=ANSWER_SEC,
                     **settings)
    return Pipeline.load(config)


def beside(process: Pipeline, **settings: Any) -> Pipeline:
    """Return the same pipeline with other settings, in this process."""
    return Pipeline(process.sparsifier, process.language_model, process.prompts,
                    replace(process.config, **settings), guard=process.guard)


def running(url: str) -> float:
    """Return how many requests the server works on."""
    with urlopen(url.removesuffix('/v1') + '/metrics', timeout=60.0) as reply:
        found = re.search(r'^vllm:num_requests_running{.*} (\S+)$', reply.read().decode(),
                          re.MULTILINE)
    assert found is not None
    return float(found[1])


def becomes_idle(url: str) -> bool:
    """Return whether the server soon works on nothing; an answer would take it longer."""
    for _ in range(20):
        if not running(url):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize('keep_ratio', [0.6, 0.03])
def test_with_keep_lists_the_server_says_word_for_word_what_the_process_says(
        url: str, process: Pipeline, windows: list[Window], keep_ratio: float) -> None:
    """Also where nothing is kept of some frames; prompts are read in parts."""
    here = beside(process, keep_ratio=keep_ratio)
    found = agreement(here, behind(url, process, server_pruning='exact', keep_ratio=keep_ratio),
                      windows)
    assert found['n'] == found['kept'] == found['prompt_tokens'] == len(windows)
    assert found['words'] == len(windows), found['differing']
    if keep_ratio == 0.03:
        assert len(here.select(windows[0]).keep) < len(windows[0])


def test_in_causal_mode_the_server_reads_the_beginning_of_a_prompt_once(
        url: str, process: Pipeline) -> None:
    found = agreement(beside(process, mode='causal'),
                      behind(url, process, server_pruning='exact', mode='causal'),
                      drive_windows(4, seed=7))
    assert found['words'] == found['kept'] == found['prompt_tokens'] == 4, found['differing']
    assert found['cached'] > 0.25


def test_whole_pictures_are_answered_alike_but_for_what_jpeg_changes(
        url: str, process: Pipeline, windows: list[Window]) -> None:
    found = agreement(beside(process, keep_ratio=1.0), behind(url, process, keep_ratio=1.0),
                      windows)
    assert found['risk'] >= len(windows) - 1
    assert found['prompt_tokens'] == len(windows)


def test_answers_are_held_to_the_form(url: str, process: Pipeline, windows: list[Window]) -> None:
    report = behind(url, process, structured=True, server_pruning='exact').describe(windows[0])
    assert report.answer.risk != 'unknown'


def test_a_late_answer_ends_and_so_does_the_work_of_the_server(
        url: str, process: Pipeline, windows: list[Window]) -> None:
    pipeline = behind(url, process)
    assert isinstance(pipeline.language_model, ServedVlm)
    pipeline.language_model._client.timeout_sec = 0.3
    # On a fast machine the answer has begun by then, and what was said is taken.
    late = ''
    try:
        description = pipeline.describe(windows[0]).answer.description
    except VlmError as error:
        description, late = '', str(error)
    assert description == ''
    assert not late or 'did not answer within 0.3 s' in late
    assert becomes_idle(url)


def test_an_answer_that_nobody_wants_ends_on_the_server(
        url: str, process: Pipeline, windows: list[Window]) -> None:
    begun: list[Answer] = []
    pipeline = behind(url, process)
    report = pipeline.describe(windows[0], stop=lambda: bool(begun),
                               on_answer=begun.append)
    assert begun
    assert report.answer == begun[-1], 'it was given up after a few words'
    assert len(report.answer.description) < 30
    assert becomes_idle(url)


def test_a_prompt_longer_than_the_context_is_refused_in_one_line(
        url: str, process: Pipeline, windows: list[Window]) -> None:
    with pytest.raises(VlmError, match=r'refuses the request.*2048') as error:
        behind(url, process).ask(windows[0], LONG)
    assert '\n' not in str(error.value)


def test_a_model_that_is_not_there_is_told(url: str) -> None:
    with pytest.raises(VlmError, match='does not serve qwen; it has: embedded'):
        ServedVlm(url, 'qwen', timeout_sec=60.0)


def test_a_list_for_another_grid_is_refused(url: str) -> None:
    vlm = KeepListServedVlm(url, timeout_sec=ANSWER_SEC)
    frame = vlm.encode(np.zeros((128, 224, 3), np.uint8))
    prompt = vlm.prepare([frame._replace(grid=(7, 4))], [''], Prompt('', '.'))
    with pytest.raises(VlmError, match='grid of 7 x 4 visual tokens, but the picture has 4 x 7'):
        vlm.generate_batch([prompt], [np.arange(3, dtype=np.int32)], 1)


def test_six_clients_at_once_are_all_answered(
        url: str, process: Pipeline, windows: list[Window]) -> None:
    pipelines = [behind(url, process, server_pruning='exact') for _ in range(6)]
    alone = process.describe(windows[1]).answer
    with ThreadPoolExecutor(6) as pool:
        answers = [report.answer for report in pool.map(
            lambda pipeline: pipeline.describe(windows[1]), pipelines)]
    assert answers == [alone] * 6
