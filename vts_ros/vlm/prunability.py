# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which text models can be pruned, and what it means with them: masking, or a shorter prompt."""

from __future__ import annotations

from transformers import MODEL_MAPPING, PreTrainedConfig

from vts_ros.vlm.pruning import Pruning

#: Layers whose output for a token depends on the other tokens through their keys, values and
#: positions only, or (the others) not at all.
_EXACT_LAYERS = frozenset({'full_attention', 'mlp', 'moe'})
#: Layers that count tokens, or carry a state from one to the next.
_SHORTENED_LAYERS = frozenset({
    'linear_attention', 'conv', 'sliding_attention', 'chunked_attention'})


def pruning_of(config: PreTrainedConfig) -> Pruning:
    """Return what pruning means with a model that can be pruned."""
    return 'exact' if why_inexact(config) is None else 'shortened'


def why_inexact(config: PreTrainedConfig) -> str | None:
    """
    Return why dropping a token is not masking it in the text model, or None if it is.

    Layers with a state that runs through all tokens (linear attention, short convolutions) change
    with every token that is left out. Windows of attention are counted in tokens of the cache,
    not in positions, so they reach further back after pruning.

    Parameters
    ----------
    config
        Of the whole model.

    """
    text = config.get_text_config(decoder=True)
    odd = sorted(set(_layer_types(text)) - _EXACT_LAYERS)
    if odd:
        return f'its text model {text.model_type} has layers of {", ".join(odd)}'
    return why_not(config)


def why_not(config: PreTrainedConfig) -> str | None:
    """
    Return why a text model cannot be pruned at all, or None if it can.

    Without rotary positions there is nothing that says where a token was; and of layers that are
    not known here nobody knows what they make of fewer tokens.
    """
    text = config.get_text_config(decoder=True)
    types = set(_layer_types(text))
    unknown = sorted(types - _EXACT_LAYERS - _SHORTENED_LAYERS)
    if unknown:
        return f'its text model {text.model_type} has layers of {", ".join(unknown)}'
    network = MODEL_MAPPING.get(type(text), None)
    if getattr(network, '_is_stateful', False) and types <= _EXACT_LAYERS:
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
