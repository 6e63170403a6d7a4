# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is loaded: floats, attention, quantisation; and what is told when it is not."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from vlm_maker import make, PROMPT

from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Prepared, Vlm, VlmError


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make('internvl', tmp_path_factory.mktemp('models') / 'internvl')


def ask(vlm: Vlm) -> tuple[Prepared, NDArray[np.int32]]:
    """Return a prompt of two pictures, and what is kept of it."""
    random = np.random.default_rng(0)
    features = [vlm.encode(random.integers(0, 256, (90, 150, 3), np.uint8)) for _ in range(2)]
    return vlm.prepare(features, ['-0.4s', '0.0s'], PROMPT), np.arange(3, 25, dtype=np.int32)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_floats_are_as_asked_for(checkpoint: Path, dtype: str) -> None:
    vlm = Vlm.load(checkpoint, device='cpu', dtype=dtype)
    assert vlm.info['dtype'] == dtype
    prepared, keep = ask(vlm)
    assert prepared.tokens.dtype == getattr(torch, dtype)
    assert vlm.logits(prepared, keep).dtype == getattr(torch, dtype)


def test_attention_is_as_asked_for_and_pruning_stays_exact(checkpoint: Path) -> None:
    found = {}
    for attention in ('auto', 'sdpa', 'eager'):
        vlm = Vlm.load(checkpoint, device='cpu', attn_implementation=attention)
        assert vlm.info['attention'] == ('sdpa' if attention == 'auto' else attention)
        found[attention] = vlm.logits(*ask(vlm))
    assert torch.equal(found['auto'], found['sdpa'])
    assert float((found['eager'] - found['sdpa']).abs().max()) < 1e-4


@pytest.mark.parametrize(('options', 'reason'), [
    ({'dtype': 'float99'}, r"dtype 'float99' is none: take auto, float32, bfloat16 or float16"),
    ({'dtype': 'nn'}, r"dtype 'nn' is none: .*"),
    ({'attn_implementation': 'nonsense'}, r'.* cannot be loaded: .*nonsense.*'),
    ({'attn_implementation': 'flash_attention_2'}, r'.* cannot be loaded: .*[Ff]lash.*'),
    ({'quantization': {'quant_method': 'nope'}}, r'.* cannot be loaded: .*nope.*'),
    ({'quantization': {'quant_method': 'bitsandbytes', 'load_in_4bit': True}},
     r'.* cannot be loaded: .*(accelerate|bitsandbytes).*'),
])
def test_what_cannot_be_is_one_line(
        checkpoint: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(VlmError, match=f'^{reason}$'):
        Vlm.load(checkpoint, device='cpu', **options)


@pytest.mark.parametrize(('text', 'reason'), [
    ('{', 'quantization is no JSON: .*'),
    ('[]', 'quantization is no JSON object with a quant_method.*'),
    ('{"load_in_4bit": true}', 'quantization is no JSON object with a quant_method.*')])
def test_quantization_that_cannot_be_read_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(VlmError, match=f'^{reason}$'):
        Pipeline.load(PipelineConfig(quantization=text))


def test_settings_reach_the_model(checkpoint: Path) -> None:
    pipeline = Pipeline.load(PipelineConfig(
        model=str(checkpoint), device='cpu', dtype='bfloat16', attn_implementation='eager'))
    info = pipeline.info()
    assert (info['dtype'], info['attention'], info['device']) == ('bfloat16', 'eager', 'cpu')


def test_quantised_weights_are_pruned_as_others(checkpoint: Path, tmp_path: Path) -> None:
    """Quantised while loading, saved, and loaded as the checkpoint that it then is."""
    pytest.importorskip('accelerate')
    pytest.importorskip('torchao')
    from torchao.core.config import config_to_dict
    from torchao.quantization import Int8WeightOnlyConfig

    vlm = Vlm.load(checkpoint, device='cpu', quantization={
        'quant_method': 'torchao', 'quant_type': {'default': config_to_dict(
            Int8WeightOnlyConfig())}})
    weight = vlm.model.model.language_model.layers[0].self_attn.q_proj.weight
    assert type(weight).__module__.startswith('torchao')
    prepared, keep = ask(vlm)
    found = vlm.logits(prepared, keep)
    plain = Vlm.load(checkpoint, device='cpu')
    difference = float((found - plain.logits(*ask(plain))).abs().max() / found.abs().max())
    assert 0.0 < difference < 0.1
    directory = Path(shutil.copytree(checkpoint, tmp_path / 'quantised'))
    vlm.model.save_pretrained(directory)
    again = Vlm.load(directory, device='cpu')
    assert torch.equal(again.logits(*ask(again)), found)
