# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which text models can be pruned exactly: with which dropping a token is masking it."""

from __future__ import annotations

from transformers import MODEL_MAPPING, PreTrainedConfig

#: Layers whose output for a token depends on the other tokens through their keys, values and
#: positions only, or (the others) not at all.
_EXACT_LAYERS = frozenset({'full_attention', 'mlp', 'moe'})


def why_inexact(config: PreTrainedConfig) -> str | None:
    """
    Return why the text model cannot be pruned exactly, or None if it can.

    Layers with a state that runs through all tokens (linear attention, state spaces, short
    convolutions) change with every token that is left out. Windows of attention are counted in
    tokens of the cache, not in positions, so they reach further back after pruning. And without
    rotary positions there is nothing that says where a token was.

    Parameters
    ----------
    config
        Of the whole model.

    """
    text = config.get_text_config(decoder=True)
    odd = sorted(set(_layer_types(text)) - _EXACT_LAYERS)
    if odd:
        return f'its text model {text.model_type} has layers of {", ".join(odd)}'
    network = MODEL_MAPPING.get(type(text), None)
    if getattr(network, '_is_stateful', False):
        return f'its text model {text.model_type} carries a state from token to token'
    if not getattr(text, 'rope_parameters', None):
        return f'its text model {text.model_type} has no rotary positions'
    return None


def _layer_types(text: PreTrainedConfig) -> list[str]:
    """Return the types of the layers, by the same fields as the cache of transformers."""
    types = getattr(text, 'layer_types', None)
    if types is not None:
        return list(types)
    if getattr(text, 'sliding_window', None) is not None:
        return ['sliding_attention']
    if getattr(text, 'attention_chunk_size', None) is not None:
        return ['chunked_attention']
    return ['full_attention']
