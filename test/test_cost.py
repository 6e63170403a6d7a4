# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What windows cost: told before a checkpoint is loaded, and true once it is."""

from __future__ import annotations

from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any
import weakref

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner
from vlm_maker import make, names, ONE_TILE, THREE_D

from vts_ros.paths import checkpoint
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.cost import Cost, explain, readable, window_cost
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.tools.cli.models_command import app, cost_rows
from vts_ros.vlm import Prepared, Vlm, VlmError
from vts_ros.vlm.kv_cache import bytes_of
from vts_ros.vlm.prompts import Prompts

pytestmark = pytest.mark.slow

FRAMES = 4
QWEN = names(*THREE_D)
SIZE = (150, 90)
CPU = PipelineConfig(device='cpu', dtype='float32')
DIRECTORIES: dict[str, Path] = {}


def directory(name: str, factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a family, made when it is first asked for."""
    if name not in DIRECTORIES:
        DIRECTORIES[name] = make(name, factory.mktemp('models') / name)
    return DIRECTORIES[name]


def pictures(count: int, size: tuple[int, int] = SIZE) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def ask(vlm: Vlm) -> Prepared:
    """Return the prompt about a window of one camera."""
    frames = [Frame('front', 400_000_000 * index, picture)
              for index, picture in enumerate(pictures(FRAMES))]
    prompt = Prompts.load(convention=vlm.convention).description
    return vlm.prepare([vlm.encode(frame.rgb()) for frame in frames], prompt.captions(frames),
                       prompt)


# Tokens of a frame


@pytest.mark.parametrize('name', QWEN)
def test_a_frame_has_no_more_tokens_than_allowed(
        name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = directory(name, tmp_path_factory)
    whole = Vlm.load(path, device='cpu')
    rows, columns = whole.token_grid(90, 150)
    assert rows * columns > 6
    for most in (1, 3, 6):
        vlm = Vlm.load(path, device='cpu', tokens_per_frame=most)
        rows, columns = vlm.token_grid(90, 150)
        assert 0 < rows * columns <= most
        features = vlm.encode(pictures(1)[0])
        assert features.grid == (rows, columns)
        assert len(features.tokens) == rows * columns
    # As wide as the picture, as far as so few tokens can be.
    assert columns > rows
    many = Vlm.load(path, device='cpu', tokens_per_frame=10_000)
    assert many.token_grid(90, 150) == whole.token_grid(90, 150)


@pytest.mark.parametrize('name', ONE_TILE)
def test_families_of_one_tile_have_the_tokens_that_they_were_made_for(
        name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    vlm = Vlm.load(directory(name, tmp_path_factory), device='cpu', tokens_per_frame=1)
    assert vlm.token_grid(90, 150) == (4, 4)


def test_the_embedded_model_is_as_it_was() -> None:
    limited = Vlm.load(checkpoint('embedded'), tokens_per_frame=PipelineConfig.tokens_per_frame)
    free = Vlm.load(checkpoint('embedded'))
    for size in ((480, 848), (1080, 1920), (128, 224), (600, 600)):
        assert limited.token_grid(*size) == free.token_grid(*size)
    picture, = pictures(1, (848, 480))
    assert torch.equal(limited.encode(picture).tokens, free.encode(picture).tokens)


def test_the_setting_reaches_the_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = directory('qwen2_5_vl', tmp_path_factory)
    for most in (0, 4):
        pipeline = Pipeline.load(PipelineConfig(
            model=str(path), device='cpu', tokens_per_frame=most, max_new_tokens=1))
        report = pipeline.describe([Frame('front', 0, pictures(1)[0])])
        expected = Vlm.load(path, device='cpu', tokens_per_frame=most).token_grid(90, 150)
        assert report.grid == expected
        assert (report.grid[0] * report.grid[1] <= 4) == (most == 4)


# The estimate


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name', names())
def test_what_is_told_is_what_is_loaded(
        name: str, dtype: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = directory(name, tmp_path_factory)
    told = explain(str(path), [SIZE], PipelineConfig(device='cpu', dtype=dtype), FRAMES)
    vlm = Vlm.load(path, device='cpu', dtype=dtype, tokens_per_frame=256)
    assert told == window_cost(vlm, [SIZE], PipelineConfig(device='cpu', dtype=dtype), FRAMES,
                               'cpu')
    assert told.weights['used'] == told.weights[dtype] == sum(
        weight.nbytes for weight in vlm.model.parameters())
    assert told.parameters == vlm.info['parameters']
    features = [vlm.encode(picture) for picture in pictures(FRAMES + 1)]
    assert told.cameras[0].grid == features[0].grid
    assert told.feature_bytes == sum(
        level.nbytes for frame in features for level in (frame.rows, *frame.deepstack))
    prepared = ask(vlm)
    assert told.visual_tokens == len(prepared.layout.visual_slots)
    assert told.visual_tokens + told.text_tokens == len(prepared.layout.input_ids)
    for kept, expected in ((told.kept_tokens, told.kv_bytes),
                           (told.visual_tokens, told.kv_bytes_unpruned)):
        inputs = vlm.batch([prepared], [np.arange(kept, dtype=np.int32)])
        with torch.inference_mode():
            cache = vlm.model(**inputs, use_cache=True).past_key_values
        assert bytes_of(cache) == expected


@pytest.mark.parametrize('name', ['qwen3_vl', 'llava_onevision'])
def test_weights_need_not_be_there(name: str, tmp_path: Path) -> None:
    path = make(name, tmp_path / name)
    told = explain(str(path), [SIZE], CPU, FRAMES)
    (path / 'model.safetensors').unlink()
    assert explain(str(path), [SIZE], CPU, FRAMES) == told
    with pytest.raises(VlmError, match=r'lacks model\.safetensors'):
        Vlm.load(path)
    (path / 'config.json').unlink()
    with pytest.raises(VlmError, match=r'lacks config\.json'):
        explain(str(path), [SIZE], CPU, FRAMES)


class LiveTensors(TorchDispatchMode):
    """Measures how many bytes a stretch of work holds at most, beside what was there before."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage().data_ptr() for tensor in before}
        self._now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor):
                continue
            memory = tensor.untyped_storage()
            place, count = memory.data_ptr(), memory.nbytes()
            if count and place not in self._known:
                self._known.add(place)
                self._now += count
                self.peak = max(self.peak, self._now)
                weakref.finalize(memory, self._gone, place, count)
        return out

    def _gone(self, place: int, count: int) -> None:
        self._known.discard(place)
        self._now -= count


@pytest.mark.parametrize('name', names('internvl', 'llava_onevision', 'smolvlm'))
def test_a_pass_takes_about_what_is_told(name: str, tmp_path: Path) -> None:
    """On a text model with the proportions of a real one, in which the pass is what counts."""
    vlm = Vlm.load(make(name, tmp_path / name, hidden_size=256, intermediate_size=1024,
                        num_attention_heads=4, head_dim=64), device='cpu')
    told = window_cost(vlm, [SIZE], PipelineConfig(device='cpu', keep_ratio=1.0), FRAMES, 'cpu')
    prepared = ask(vlm)
    inputs = vlm.batch([prepared], [None])
    held = [*vlm.model.parameters(), *vlm.model.buffers(), prepared.tokens, *prepared.deepstack]
    with torch.no_grad(), LiveTensors(held) as live:
        vlm.model(**inputs, use_cache=True, logits_to_keep=1)
    assert 0.7 < (told.pass_bytes + told.kv_bytes) / live.peak < 1.4


def test_several_cameras_of_different_sizes(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(directory('qwen2_5_vl', tmp_path_factory))
    wide, tall = (explain(path, [size], CPU, FRAMES) for size in ((224, 84), (84, 140)))
    both = explain(path, [(224, 84), (84, 140)], CPU, FRAMES)
    assert wide.cameras[0].grid != tall.cameras[0].grid
    assert both.cameras == wide.cameras + tall.cameras
    assert both.visual_tokens == wide.visual_tokens + tall.visual_tokens
    assert both.feature_bytes == wide.feature_bytes + tall.feature_bytes
    assert both.weights == wide.weights


@pytest.mark.parametrize(('quantization', 'kind'), [
    ({'quant_method': 'bitsandbytes', 'load_in_4bit': True}, '4 bits'),
    ({'quant_method': 'gptq', 'bits': 4}, '4 bits'),
    ({'quant_method': 'bitsandbytes', 'load_in_8bit': True}, 'int8')])
def test_quantised_weights_are_smaller(quantization: dict[str, Any], kind: str,
                                       tmp_path_factory: pytest.TempPathFactory) -> None:
    path = directory('internvl', tmp_path_factory)
    told = explain(str(path), [SIZE], CPU, FRAMES, quantization=quantization)
    assert told.weights['used'] == told.weights[kind]
    assert told.weights['4 bits'] < told.weights['int8'] < told.weights['bfloat16']


def test_a_checkpoint_that_is_quantised_is_told_as_such(tmp_path: Path) -> None:
    path = make('internvl', tmp_path / 'internvl')
    plain = explain(str(path), [SIZE], CPU, FRAMES)
    config = json.loads((path / 'config.json').read_text(encoding='utf-8'))
    config['quantization_config'] = {'quant_method': 'bitsandbytes', 'load_in_4bit': True}
    (path / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    told = explain(str(path), [SIZE], CPU, FRAMES)
    assert told.weights == {**plain.weights, 'used': plain.weights['4 bits']}
    assert told.kv_bytes == plain.kv_bytes


def test_on_a_gpu_the_memory_of_graphs_is_part_of_the_peak(
        tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(directory('qwen2_5_vl', tmp_path_factory))
    here = explain(path, [SIZE], CPU, FRAMES)
    there = explain(path, [SIZE], PipelineConfig(device='cuda', dtype='float32'), FRAMES)
    assert here.graph_bytes == 0
    # Prompt and answer are a few hundred tokens: the least capacity.
    assert there.graph_bytes > 1024 * there.kv_token_bytes
    assert there.peak_bytes - there.graph_bytes == here.peak_bytes - here.answer_bytes
    said = dict(cost_rows(there))
    assert said['CUDA graphs'].startswith(readable(there.graph_bytes))
    assert 'CUDA graphs' not in dict(cost_rows(here))


def test_whether_it_fits(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(directory('internvl', tmp_path_factory))
    told = explain(path, [SIZE], CPU, FRAMES)
    assert told.memory_bytes > 2 ** 28
    assert told.fits is True
    assert explain(path, [SIZE], CPU, FRAMES, told.peak_bytes).fits is False
    assert explain(path, [SIZE], CPU, FRAMES, told.peak_bytes + 1).fits is True
    if not torch.cuda.is_available():
        there = explain(path, [SIZE], PipelineConfig(device='cuda', dtype='float32'), FRAMES)
        assert there.fits is None


@pytest.mark.parametrize(('count', 'text'), [
    (999, '999 B'), (57_344, '57.3 kB'), (491_000_000, '491 MB'), (16_584_333_312, '16.6 GB')])
def test_bytes_are_told_in_words_of_people(count: int, text: str) -> None:
    assert readable(count) == text


# The command


def test_the_command_tells_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(directory('qwen2_5_vl', tmp_path_factory))
    done = CliRunner().invoke(app, [
        '--explain', path, '--camera', '150x90', '--cameras', '3', '--frames', '4', '--keep-ratio',
        '0.5', '--tokens-per-frame', '6', '--device', 'cpu', '--dtype', 'float32', '--json'])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    config = PipelineConfig(device='cpu', dtype='float32', keep_ratio=0.5, tokens_per_frame=6)
    assert told == json.loads(json.dumps(explain(path, [SIZE] * 3, config, 4).to_dict()))
    said = ' '.join(done.stderr.replace('│', ' ').split())
    assert 'cameras 1 to 3 150x90 px, used at ' in said
    assert 'without vlm.tokens_per_frame)' in said
    assert 'float32' in said


def test_the_command_lists_the_families() -> None:
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in ('qwen3_vl', 'internvl', 'smolvlm'))


@pytest.mark.parametrize(('arguments', 'reason'), [
    (['--camera', '1920*1080'], 'is no size of a picture'),
    (['--camera', '640x480', '--camera', '320x240', '--cameras', '3'], 'given 2 times for 3'),
    (['--keep-ratio', '0'], 'not above 0')])
def test_what_the_command_does_not_understand_is_told(arguments: list[str], reason: str) -> None:
    done = CliRunner().invoke(app, ['--explain', 'embedded', *arguments])
    assert done.exit_code != 0
    assert reason in ' '.join(done.output.replace('│', ' ').split())


def test_the_line_for_logs_has_what_matters() -> None:
    told: Cost = explain('embedded', [(848, 480)], CPU, 5)
    assert told.line().startswith('pictures of 848x480 px are 28 tokens (4x7); a window has 140, '
                                  'of which 84 are kept; keys and values ')
