# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Models of real shapes with random weights: what they say means nothing, what it costs does.

The cost of a dense network does not depend on its weights. Their answers are given to them, word
for word, see ``GenerationProbe``; so drafts are accepted as often as they are in a real stream of
answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.initialization import no_init_weights

from vts_ros.vlm import Vlm

_PATCH_PX, _MERGE = 14, 2
#: Side of a visual token.
TOKEN_PX = _PATCH_PX * _MERGE


@dataclass(frozen=True)
class Shape:
    """
    Sizes of a model of the class Qwen2.5-VL, as in its ``config.json``.

    Attributes
    ----------
    text, vision
        Those that differ from model to model.
    dtype
        In which it is usually run.
    is_tied
        Whether the output layer shares the weights of the embedding.
    about
        What it is, for tables.

    """

    text: dict[str, Any]
    vision: dict[str, Any]
    dtype: torch.dtype
    is_tied: bool
    about: str


_SECTIONS_128 = [16, 24, 24]
#: The vision encoder of both sizes of Qwen2.5-VL here.
_VISION = {'depth': 32, 'hidden_size': 1280, 'intermediate_size': 3420, 'num_heads': 16,
           'fullatt_block_indexes': [7, 15, 23, 31]}
SHAPES: dict[str, Shape] = {
    # No published model: the text model of Qwen2.5-0.5B, and a vision encoder in the proportion
    # to it that the one of Qwen2.5-VL-3B has, in work per picture.
    'qwen2.5-0.5b': Shape(
        {'hidden_size': 896, 'intermediate_size': 4864, 'num_hidden_layers': 24,
         'num_attention_heads': 14, 'num_key_value_heads': 2, 'vocab_size': 151_936,
         'mrope_section': [8, 12, 12]},
        {'depth': 12, 'hidden_size': 768, 'intermediate_size': 2048, 'num_heads': 12,
         'fullatt_block_indexes': [2, 5, 8, 11]},
        torch.float32, True, 'text of Qwen2.5-0.5B, random weights'),
    'qwen2.5-vl-3b': Shape(
        {'hidden_size': 2048, 'intermediate_size': 11_008, 'num_hidden_layers': 36,
         'num_attention_heads': 16, 'num_key_value_heads': 2, 'vocab_size': 151_936,
         'mrope_section': _SECTIONS_128},
        _VISION,
        torch.bfloat16, True, 'Qwen2.5-VL-3B, random weights'),
    'qwen2.5-vl-7b': Shape(
        {'hidden_size': 3584, 'intermediate_size': 18_944, 'num_hidden_layers': 28,
         'num_attention_heads': 28, 'num_key_value_heads': 4, 'vocab_size': 152_064,
         'mrope_section': _SECTIONS_128},
        _VISION,
        torch.bfloat16, False, 'Qwen2.5-VL-7B, random weights'),
    'tiny': Shape(
        {'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 2,
         'num_attention_heads': 2, 'num_key_value_heads': 1, 'vocab_size': 2048,
         'mrope_section': [4, 6, 6]},
        {'depth': 2, 'hidden_size': 32, 'intermediate_size': 48, 'num_heads': 2,
         'fullatt_block_indexes': [1]},
        torch.float32, True, 'as small as can be, for tests'),
}


def make(name: str, tokenizer: PreTrainedTokenizerBase, device: str = 'cpu', seed: int = 0) -> Vlm:
    """
    Make a model in memory.

    Parameters
    ----------
    name
        Key of SHAPES.
    tokenizer
        Of the Qwen kind, with a chat template; it may know fewer tokens than the model.
    device
        Where the weights are made, and stay.
    seed
        For the weights.

    """
    shape = SHAPES[name]
    vocab = tokenizer.get_vocab()
    text = dict(shape.text)
    rope = {'rope_type': 'default', 'rope_theta': 1e6, 'mrope_section': text.pop('mrope_section')}
    config = Qwen2_5_VLConfig(
        text_config={**text, 'rope_parameters': rope, 'max_position_embeddings': 32_768,
                     'bos_token_id': None,
                     'eos_token_id': tokenizer.eos_token_id,
                     'pad_token_id': tokenizer.pad_token_id,
                     'tie_word_embeddings': shape.is_tied},
        vision_config={**shape.vision, 'out_hidden_size': text['hidden_size'],
                       'patch_size': _PATCH_PX, 'spatial_merge_size': _MERGE,
                       'window_size': 4 * TOKEN_PX},
        image_token_id=vocab['<|image_pad|>'], video_token_id=vocab['<|video_pad|>'],
        vision_start_token_id=vocab['<|vision_start|>'],
        vision_end_token_id=vocab['<|vision_end|>'], tie_word_embeddings=shape.is_tied)
    # Weights are drawn once: the usual way draws them twice, which takes longer than the rest.
    with _made_as(shape.dtype, device), no_init_weights():
        model: Any = Qwen2_5_VLForConditionalGeneration(config).eval()
    model.tie_weights()
    _draw_weights(model, seed)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # Pictures keep their size.
    images = Qwen2VLImageProcessorPil(
        patch_size=_PATCH_PX, merge_size=_MERGE,
        size={'shortest_edge': TOKEN_PX ** 2, 'longest_edge': 10_000 * TOKEN_PX ** 2})
    return Vlm(name, model, _with_videos(tokenizer), images)


def _with_videos(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a chat template that places videos, too, as the published do."""
    found, text = copy.deepcopy(tokenizer), "{% else %}{{ part['text'] }}"
    template = str(tokenizer.chat_template)
    if "'video'" not in template:
        found.chat_template = template.replace(text, (
            "{% elif part['type'] == 'video' %}"
            "{{ '<|vision_start|><|video_pad|><|vision_end|>' }}" + text))
    return found


@torch.no_grad()
def _draw_weights(model: torch.nn.Module, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 0.02)
            else:
                weight.fill_(0.0 if name.endswith('bias') else 1.0)


@contextmanager
def _made_as(dtype: torch.dtype, device: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
