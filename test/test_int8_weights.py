# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights in eight bits: how near they are, and that each token is read by itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn, Tensor
from vlm_maker import ask, make, names

from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.cost import explain
from vts_ros.pipeline.factory import quantization_settings
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.int8_weights import int8_bytes, Int8Linear, is_at_home, to_int8

AT_HOME = pytest.mark.skipif(not is_at_home(), reason='this processor multiplies otherwise')


@pytest.fixture(scope='module')
def layer() -> nn.Linear:
    """Return a layer of random weights."""
    torch.manual_seed(0)
    return nn.Linear(96, 160)


@pytest.fixture(scope='module')
def tokens() -> Tensor:
    """Return inputs of which some have large values, as language models have."""
    found = torch.randn(12, 96, generator=torch.Generator().manual_seed(1))
    found[:, 7] *= 20.0
    found[3] *= 50.0
    found[5] = 0.0
    return found


def error(found: Tensor, expected: Tensor) -> Tensor:
    """Return how far each row is off, relative to its length."""
    return (found - expected).norm(dim=1) / expected.norm(dim=1)


@AT_HOME
@torch.inference_mode()
def test_a_token_is_read_alike_whatever_is_beside_it(layer: nn.Linear, tokens: Tensor) -> None:
    small = Int8Linear(layer)
    together = small(tokens)
    assert torch.equal(small(tokens[2:9]), together[2:9])
    assert torch.equal(small(tokens[None])[0], together)
    # Alone it goes another way, of the same steps.
    alone = torch.cat([small(tokens[row:row + 1]) for row in range(len(tokens))])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4 * float(together.std()))
    assert torch.equal(small(tokens[5:6])[0], layer.bias)


@AT_HOME
@torch.inference_mode()
def test_no_token_is_rounded_by_the_range_of_another(layer: nn.Linear, tokens: Tensor) -> None:
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    stock = quantize_dynamic(nn.Sequential(layer), {nn.Linear: per_channel_dynamic_qconfig})
    some = [row for row in range(len(tokens)) if row != 5]
    expected = layer(tokens[some])
    found, theirs = (error(way(tokens[some]), expected) for way in (Int8Linear(layer), stock))
    assert float(found.max()) < 0.04
    assert float(found.mean()) < 0.2 * float(theirs.mean())


@pytest.mark.parametrize('family', names())
def test_int8_weights_are_smaller_and_say_nearly_the_same(family: str, tmp_path: Path) -> None:
    made = make(family, tmp_path / family)
    whole = Vlm.load(made, device='cpu', dtype='float32')
    small = Vlm.load(made, device='cpu', quantization={'quant_method': 'int8'})
    kind = Int8Linear if is_at_home() else torch.ao.nn.quantized.dynamic.Linear
    assert any(isinstance(module, kind) for module in small.model.model.modules())
    # The vision encoder is not touched: the same features.
    rgb = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    assert torch.equal(whole.encode(rgb).tokens, small.encode(rgb).tokens)
    logits, near = (vlm.logits(*ask(vlm)) for vlm in (whole, small))
    spread = float(logits.std())
    # A state that runs through all tokens adds the errors up.
    share = 0.06 if small.pruning == 'exact' else 0.25
    assert 0.0 < float((logits - near).abs().mean()) < share * spread
    config = PipelineConfig(device='cpu', dtype='float32')
    told, plain = (explain(str(made), [(150, 90)], config, 2, quantization=method).weights['used']
                   for method in ({'quant_method': 'int8'}, None))
    assert told < plain
    held = int8_bytes(small.model) + sum(weights.nbytes for weights in small.model.parameters())
    assert held == pytest.approx(told, rel=0.02)
    assert (whole.info['dtype'], small.info['dtype']) == ('float32', 'float32, int8 weights')
    drafts = Drafts()
    prepared, keep = ask(small)
    first = small.generate(prepared, keep, 12, drafts=drafts)
    assert len(first.token_ids) > 0


def test_int8_weights_are_refused_elsewhere() -> None:
    network = SimpleNamespace(device=torch.device('cpu'), dtype=torch.bfloat16)
    with pytest.raises(VlmError, match=r'^int8 weights are for processors: on a GPU set .*'):
        to_int8(network)
    assert quantization_settings(' int8 ') == {'quant_method': 'int8'}
