# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights in the layout of the processor: the same products, and everything else as before."""

from __future__ import annotations

import copy
import json
from pathlib import Path
import platform
from typing import Any

from bag_maker import picture
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import nn
from vlm_maker import make, names

from vts_ros.pipeline.cost import explain
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import packed_weights, Vlm
from vts_ros.vlm.packed_weights import pack, packed_size, PackedLinear, pays, SMALLEST, unpack

pytestmark = pytest.mark.skipif(
    platform.machine() not in ('x86_64', 'AMD64') or not torch.backends.mkldnn.is_available(),
    reason='weights are packed with oneDNN on x86 only')


def large(bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(512, 640, bias, dtype=dtype)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [
    (1, 1, 512), (1, 2, 512), (3, 512), (1, 4, 512), (1, 7, 512), (2, 150, 512), (512,)])
@torch.inference_mode()
def test_products_are_those_of_the_plain_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer = large(bias)
    states = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found, expected = PackedLinear(layer)(states), layer(states)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_packed_layer_is_unpacked_to_the_last_bit() -> None:
    net = nn.Sequential(large(), nn.ReLU(), nn.Linear(640, 8))
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    pack(net)
    # Small ones stay.
    assert [type(layer) for layer in net] == [PackedLinear, nn.ReLU, nn.Linear]
    unpack(net)
    assert type(net[0]) is nn.Linear
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


def test_only_plain_large_layers_of_known_floats_are_packed(monkeypatch: pytest.MonkeyPatch
                                                            ) -> None:
    class Quantised(nn.Linear):
        """As libraries have them."""

    assert pays(large(), 'cpu')
    assert not pays(large(), 'cuda')
    assert not pays(large(dtype=torch.float16), 'cpu')
    assert not pays(nn.Linear(512, SMALLEST // 512 - 1), 'cpu')
    assert not pays(Quantised(512, 640), 'cpu')
    monkeypatch.setattr(platform, 'machine', lambda: 'aarch64')
    assert not pays(large(), 'cpu')


@pytest.mark.parametrize('floats', [torch.float32, torch.bfloat16])
def test_a_processor_without_instructions_for_the_floats_packs_none(
        floats: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, 'native_floats', lambda wanted: torch.float32)
    assert pays(large(dtype=floats), 'cpu') == (floats == torch.float32)


def tied(folder: Path) -> Path:
    """Return a checkpoint whose head has the weights of its embedding."""
    config = make('qwen2_vl', folder) / 'config.json'
    settings = json.loads(config.read_text())
    settings['tie_word_embeddings'] = settings['text_config']['tie_word_embeddings'] = True
    config.write_text(json.dumps(settings))
    weights = load_file(folder / 'model.safetensors')
    del weights['lm_head.weight']
    save_file(weights, folder / 'model.safetensors', {'format': 'pt'})
    return folder


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, 'SMALLEST', 1)


@pytest.mark.usefixtures('everything_is_large')
@pytest.mark.parametrize('name', names())
def test_models_say_the_same(name: str, tmp_path: Path) -> None:
    """The pipeline loads them packed; of stock transformers nothing else is replaced."""
    folder = make(name, tmp_path / name)
    pipeline = Pipeline.load(PipelineConfig(model=str(folder), threads=1))
    vlm: Any = pipeline.vlm
    features = [vlm.encode(picture(number, 128, 224)) for number in range(3)]
    prompt = pipeline.prompts.description
    prepared = vlm.prepare(features, ['-0.8s', '-0.4s', '0.0s'], prompt)
    keep = np.arange(0, len(prepared.layout.visual_slots), 2, dtype=np.int32)
    assert packed_size(vlm.model)[0] > 0
    said = vlm.generate(prepared, keep, max_new_tokens=16)
    unpack(vlm.model)
    assert packed_size(vlm.model) == (0, 0)
    plain = vlm.generate(prepared, keep, max_new_tokens=16)
    assert said.text == plain.text
    again = vlm.encode(picture(0, 128, 224))
    torch.testing.assert_close(features[0].tokens, again.tokens, rtol=1e-3, atol=1e-5)
    pipeline.close()


@pytest.mark.usefixtures('everything_is_large')
def test_what_is_told_of_a_model_counts_packed_weights(tmp_path: Path) -> None:
    vlm = Vlm.load(tied(tmp_path / 'model'), device='cpu')
    head: Any = vlm.model.get_output_embeddings()
    assert head.weight is vlm.model.get_input_embeddings().weight
    before, head_bytes = vlm.info, head.weight.nbytes
    whole = sum(weight.nbytes for weight in vlm.model.parameters())
    pack(vlm.model)
    assert packed_size(vlm.model)[0] > 0
    assert vlm.info['parameters'] == before['parameters']
    left = sum(weight.nbytes for weight in vlm.model.parameters())
    # A tied head is held twice, all else once.
    assert left + packed_size(vlm.model)[1] == whole + head_bytes
    foreseen = explain(str(tmp_path / 'model'), [(224, 128)], PipelineConfig(device='cpu'))
    assert foreseen.weights['used'] == whole + head_bytes


@pytest.mark.usefixtures('everything_is_large')
def test_a_copy_is_one_of_its_own(tmp_path: Path) -> None:
    vlm = Vlm.load(tied(tmp_path / 'model'), device='cpu')
    other = copy.deepcopy(vlm.model)
    pack(other)
    assert packed_size(vlm.model) == (0, 0) != packed_size(other)
    third = copy.deepcopy(other)
    unpack(other)
    assert packed_size(third) == packed_size(copy.deepcopy(third)) != (0, 0)
    unpack(third)
    for model in (other, third):
        check_equal(vlm.model, model)


def check_equal(network: Any, other: Any) -> None:
    """See that a network has the weights of another, and a tied head of its own."""
    head: Any = other.get_output_embeddings()
    assert head.weight is other.get_input_embeddings().weight
    assert head.weight is not network.get_input_embeddings().weight
    assert all(torch.equal(weight, network.state_dict()[name])
               for name, weight in other.state_dict().items())
