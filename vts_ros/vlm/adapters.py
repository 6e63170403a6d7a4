# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
PEFT adapters, such as LoRA: small weights that change those of a checkpoint.

They are added to the weights when these are loaded. So the network is one like any other: dropping
tokens stays as exact as it is for its family, and costs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any
import warnings

import torch
from torch import nn
from transformers import AddedToken, PreTrainedTokenizerBase

from vts_ros.errors import VlmError

#: With this file a folder is an adapter.
CONFIG = 'adapter_config.json'
_WEIGHTS = 'adapter_model.safetensors'
#: Texts of the tokens that an adapter brings; their embeddings are among its weights.
_TOKENS = 'signal_tokens.json'
#: Where it is, cameras are told by number, see conventions.Convention.
_CAMERAS = 'numbered_cameras.json'
#: Embeddings of single tokens, which PEFT itself keeps the same where they are shared.
_OF_TOKENS = 'trainable_tokens_'
#: Layers that may share their weights, of all families.
_SHARING = ('lm_head', 'embed_tokens', 'word_embeddings')
#: What layers were called by transformers before 4.52, and so by adapters of that time.
_RENAMED = {r'^visual\.': 'model.visual.', r'^model\.layers\.': 'model.language_model.layers.',
            r'^language_model\.lm_head\.': 'lm_head.',
            r'^language_model\.model\.': 'model.language_model.',
            r'^vision_tower\.': 'model.vision_tower.',
            r'^multi_modal_projector\.': 'model.multi_modal_projector.'}


def is_adapter(directory: Path) -> bool:
    """Return whether a folder holds an adapter, and no checkpoint."""
    return (directory / CONFIG).is_file() and not (directory / 'config.json').is_file()


def base_of(name: str, directory: Path) -> str:
    """Return the checkpoint that an adapter says it is of; raise VlmError if it does not."""
    try:
        base = json.loads((directory / CONFIG).read_bytes()).get('base_model_name_or_path')
    except (ValueError, AttributeError) as error:
        raise VlmError(f'{directory / CONFIG} cannot be read: {error}') from error
    if not base:
        raise VlmError(f'{name} is an adapter that does not say of which model: set vlm.model to '
                       f'that and vlm.adapter to {name}')
    return str(base)


def check_adapter(name: str, directory: Path) -> None:
    """See that a folder is an adapter that is whole, and that it can be read; raise VlmError."""
    if not (directory / CONFIG).is_file():
        raise VlmError(f'{name} is no adapter: it lacks {CONFIG}')
    if not (directory / _WEIGHTS).is_file():
        if (directory / 'adapter_model.bin').is_file():
            raise VlmError(f'{name} has weights as .bin files, which can run code: save it anew '
                           'with save_pretrained, which writes safetensors')
        raise VlmError(f'{name} lacks {_WEIGHTS}')
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise VlmError(f"{name} is an adapter, which needs peft: pip install 'vts_ros[adapters]'"
                       ) from error


def read_tokens(name: str, directory: Path) -> tuple[str, ...]:
    """Return the texts of the tokens that an adapter brings, none as a rule; raise VlmError."""
    path = directory / _TOKENS
    if not path.is_file():
        return ()
    try:
        tokens = json.loads(path.read_bytes())['tokens']
        if not tokens or not all(isinstance(token, str) and token for token in tokens):
            raise ValueError('its tokens are no texts')
    except (ValueError, KeyError, TypeError) as error:
        raise VlmError(f'{_TOKENS} of {name} cannot be read: {error}') from error
    return tuple(tokens)


def save_tokens(tokens: Sequence[str], directory: Path) -> None:
    """Write the texts of the tokens that an adapter brings beside its weights."""
    (directory / _TOKENS).write_text(
        json.dumps({'tokens': list(tokens)}, indent=1) + '\n', encoding='utf-8')


def numbers_cameras(directory: Path) -> bool:
    """Return whether an adapter has taught its model to tell cameras apart by number."""
    return (directory / _CAMERAS).is_file()


def save_numbers_cameras(most: int, directory: Path) -> None:
    """Note beside the weights of an adapter that it tells cameras apart, and how many at most."""
    (directory / _CAMERAS).write_text(json.dumps({'cameras': most}) + '\n', encoding='utf-8')


def add_tokens(network: Any, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
               ) -> list[int]:
    """
    Give a model tokens that it does not have, and return their ids.

    Their embeddings are of the size of others and mean nothing: an adapter brings better ones,
    or they are to be learned. What the model says without them stays the same.

    Raises
    ------
    VlmError
        If one is there already.

    """
    known = tokenizer.get_vocab()
    taken = next((token for token in tokens if token in known), None)
    if taken is not None:
        raise VlmError(f'the model has a token {taken} of its own')
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    known = tokenizer.get_vocab()
    ids = [known[token] for token in tokens]
    embedding = network.get_input_embeddings()
    if len(tokenizer) > embedding.num_embeddings:
        spread = float(embedding.weight.detach().float().std())
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            weight = network.get_input_embeddings().weight
            weight[ids] = spread * torch.randn_like(weight[ids])
            head = network.get_output_embeddings()
            if head is not None and head.weight is not weight:
                # Nothing speaks for writing them.
                head.weight[ids] = 0.0
    return ids


def merge_adapter(network: Any, name: str, directory: Path) -> Any:
    """
    Add an adapter to the weights of a network.

    Parameters
    ----------
    network
        A vision language model of transformers, not quantised. It is changed.
    name, directory
        Of the adapter, which :func:`check_adapter` has seen.

    Returns
    -------
    The network, without a trace of PEFT in it.

    Raises
    ------
    VlmError
        If the adapter is one of another model, lacks weights, or changes the prompt instead of
        the weights.

    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(directory))
    if config.is_prompt_learning:
        raise VlmError(f'{name} is an adapter of the kind {config.peft_type.value}, which changes '
                       'prompts and not weights: only others can be merged')
    if getattr(config, 'megatron_config', None):
        raise VlmError(f'{name} names a module to import (megatron_core): what an adapter says is '
                       'not run')
    with warnings.catch_warnings():
        # Of what it warns, that matters which is looked at here.
        warnings.simplefilter('ignore')
        _untie(network, directory)
        adapted = PeftModel(network, config)
        loaded = adapted.load_adapter(str(directory), 'default',
                                      torch_device=str(network.device), key_mapping=_RENAMED)
        if loaded.unexpected_keys:
            raise VlmError(f'{name} is an adapter of another model: it has weights for '
                           f'{_layer(min(loaded.unexpected_keys))}')
        if loaded.missing_keys:
            raise VlmError(f'{name} lacks weights, among them those for '
                           f'{_layer(min(loaded.missing_keys))}')
        merged = adapted.merge_and_unload(safe_merge=True)
    if hasattr(merged, 'peft_config'):
        del merged.peft_config
    # PEFT holds all weights but its own; of a network that is loaded none is held.
    return merged.requires_grad_(True)


def _untie(network: Any, directory: Path) -> None:
    """Give embedding and head weights of their own where the adapter changes one of them."""
    from peft import load_peft_weights

    inner, outer = network.get_input_embeddings(), network.get_output_embeddings()
    if outer is None or inner.weight is not outer.weight:
        return
    changed = load_peft_weights(str(directory), device='cpu')
    if not any(part in key and _OF_TOKENS not in key
               for key in changed for part in _SHARING):
        return
    # Merged into shared weights, what is meant for one would be done to the other.
    outer.weight = nn.Parameter(outer.weight.detach().clone())
    for config in (network.config, network.config.get_text_config()):
        config.tie_word_embeddings = False


def _layer(key: str) -> str:
    """Return the name of a layer in the model."""
    return key.removeprefix('base_model.model.').rpartition('.')[0]
