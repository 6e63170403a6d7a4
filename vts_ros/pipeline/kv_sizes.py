# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bytes of keys and values: of a token, of a prompt, and of what CUDA graphs hold beside it."""

from __future__ import annotations

from typing import Any

from vts_ros.pipeline.config import PipelineConfig
from vts_ros.vlm import Vlm
from vts_ros.vlm.fixed_step import capacity_for, FixedStep, LENGTHS

_LINEAR = 'linear_attention'


def kv_token_bytes(vlm: Vlm) -> int:
    """Return the size of the keys and values of one token."""
    text = vlm.model.config.get_text_config(decoder=True)
    layers = sum(kind.endswith('attention') and kind != _LINEAR for kind in _layer_types(text))
    return layers * _kv_layer_bytes(vlm)


def kv_bytes(vlm: Vlm, tokens: int) -> int:
    """Return the size of what is held of so many tokens: keys and values, and states."""
    text = vlm.model.config.get_text_config(decoder=True)
    types = _layer_types(text)
    windows = sum(kind in ('sliding_attention', 'chunked_attention') for kind in types)
    # A window of W holds the W - 1 tokens before the one that comes.
    gone = max(0, tokens + 1 - int(text.sliding_window)) if windows else 0
    states = types.count(_LINEAR)
    return (tokens * kv_token_bytes(vlm) - windows * gone * _kv_layer_bytes(vlm)
            + (states * _state_bytes(text, vlm.model.dtype.itemsize) if states else 0))


def graph_bytes(vlm: Vlm, config: PipelineConfig, tokens: int, device: str) -> int:
    """Return what CUDA graphs hold with a prompt of so many tokens."""
    is_wanted = config.attn_implementation in ('auto', 'sdpa') and device.startswith('cuda')
    if not is_wanted or not FixedStep.is_possible(vlm.model):
        return 0
    logits = sum(LENGTHS) * vlm.model.config.get_text_config().vocab_size
    return (capacity_for(tokens + config.max_new_tokens) * kv_token_bytes(vlm)
            + logits * vlm.model.dtype.itemsize)


def _layer_types(text: Any) -> list[str]:
    return list(getattr(text, 'layer_types', None)
                or ['full_attention'] * text.num_hidden_layers)


def _kv_layer_bytes(vlm: Vlm) -> int:
    """Return the size of the keys and values of one token in one layer."""
    text = vlm.model.config.get_text_config(decoder=True)
    width = getattr(text, 'head_dim', None) or text.hidden_size // text.num_attention_heads
    heads = text.num_key_value_heads or text.num_attention_heads
    return int(2 * heads * width * vlm.model.dtype.itemsize)


def _state_bytes(text: Any, itemsize: int) -> int:
    """Return the size of the state of a layer of linear attention, which has no length."""
    keys = text.linear_num_key_heads * text.linear_key_head_dim
    values = text.linear_num_value_heads * text.linear_value_head_dim
    convolved = (2 * keys + values) * text.linear_conv_kernel_dim
    # The recurrent part is summed up in 32 bits whatever the weights are.
    return int(convolved * itemsize + values * text.linear_key_head_dim * 4)
