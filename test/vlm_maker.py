# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints of every family for the tests, of a few ten thousand random weights.

They have the special tokens and the chat template of their family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packaging.version import Version
import pytest
from tokenizers import decoders, models, pre_tokenizers, Tokenizer, trainers
import torch
from transformers import (
    CLIPImageProcessorPil,
    Cosmos3EdgeConfig,
    Cosmos3EdgeForConditionalGeneration,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    Molmo2Config,
    Molmo2ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)
from transformers.models.cosmos3_edge.image_processing_pil_cosmos3_edge import (
    Cosmos3EdgeImageProcessorPil,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor

from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.compatibility import LATER
from vts_ros.vlm.prompts import Prompt

PROMPT = Prompt('You watch the road.', 'What is the risk here?')
OTHER = Prompt('You watch the road.', 'Is there a child at the side, and where does it go?')
ANSWER = 'A child runs out.'

# Chat templates: the forms of the published ones, shortened. What a plain string would give as
# content of the system message is nothing at all in the last two.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ 'IMAGE' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
PICTURES_FIRST = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}"
    "{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
UTTERANCES = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")
#: A system message becomes the beginning of the first turn, and texts lose their edges.
GEMMA = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set first = '' -%}"
    "{%- set turns = messages -%}{%- endif -%}"
    "{%- for message in turns -%}{{ '<start_of_turn>' + message['role'] + '\n' + first }}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}"
    "{{ '<start_of_image>' }}{%- elif part['type'] == 'text' -%}{{ part['text'] | trim }}"
    "{%- endif -%}{%- endfor -%}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}")

#: Pictures before all texts, numbered if there are several; texts with a space between them.
MOLMO = (
    "{%- set count = namespace(value=0) -%}{%- for message in messages -%}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}"
    "{%- set count.value = count.value + 1 -%}{%- endif -%}{%- endfor -%}{%- endfor -%}"
    "{%- for number in range(count.value) -%}"
    "{{ ('Image ' ~ (number + 1) if count.value > 1 else '') + '<|image|>' }}{%- endfor -%}"
    "{%- for message in messages -%}"
    "{%- for part in message['content'] | selectattr('type', 'equalto', 'video') -%}"
    "{{ '<|video|>' }}{%- endfor -%}{%- endfor -%}"
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text')"
    " | join(' ') }}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}")


@dataclass(frozen=True)
class Kind:
    """
    A family, as its published checkpoints are.

    Attributes
    ----------
    model, config, images
        Classes of transformers, and the image processor.
    tokens, end, image
        Special tokens, which of them ends an answer, and which is a picture.
    template
        For the chat.
    vision, text, options
        The configuration.
    named
        What the tokenizer calls its special tokens.
    added
        Tokens beyond the vocabulary, which no answer has.
    processor
        What its processor_config.json says.

    """

    model: Any
    config: Any
    images: Any
    tokens: list[str]
    end: str
    image: str
    template: str
    vision: dict[str, Any]
    text: dict[str, Any]
    named: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    processor: dict[str, Any] = field(default_factory=dict)


TEXT: dict[str, Any] = {
    'hidden_size': 48, 'intermediate_size': 64, 'num_hidden_layers': 3, 'num_attention_heads': 2,
    'num_key_value_heads': 1, 'head_dim': 24, 'max_position_embeddings': 2048,
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0}}
MROPE: dict[str, Any] = {**TEXT, 'rope_parameters': {
    'rope_type': 'default', 'rope_theta': 10000.0, 'mrope_section': [4, 4, 4]}}
VISION: dict[str, Any] = {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2,
                          'num_attention_heads': 2}
QWEN_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>',
               '<|vision_end|>', '<|image_pad|>', '<|video_pad|>']
QWEN_TEMPLATE = CHATML.replace('IMAGE', '<|vision_start|><|image_pad|><|vision_end|>').replace(
    "{% else %}{{ part['text']",
    "{% elif part['type'] == 'video' %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{% else %}{{ part['text']")
QWEN_IMAGES = Qwen2VLImageProcessorPil(
    patch_size=14, merge_size=2,
    size={'shortest_edge': 4 * 28 * 28, 'longest_edge': 20 * 28 * 28})
IDEFICS: dict[str, Any] = {
    'tokens': ['<|im_start|>', '<image>', '<fake_token_around_image>', '<end_of_utterance>'],
    'end': '<end_of_utterance>', 'image': '<image>', 'template': UTTERANCES,
    'text': {**TEXT, 'model_type': 'llama'}, 'options': {'scale_factor': 2},
    'vision': {**VISION, 'image_size': 64, 'patch_size': 8}}
#: Of frames of a video.
SAMPLING: dict[str, Any] = {'video_sampling': {
    'fps': 1, 'max_frames': 64, 'video_size': {'longest_edge': 96}}}
TILES: dict[str, Any] = {'size': {'longest_edge': 128}, 'max_image_size': {'longest_edge': 64}}

KINDS = {
    'cosmos3_edge': Kind(
        Cosmos3EdgeForConditionalGeneration, Cosmos3EdgeConfig,
        Cosmos3EdgeImageProcessorPil(size={'shortest_edge': 4 * 32 * 32,
                                           'longest_edge': 20 * 32 * 32}),
        QWEN_TOKENS, '<|im_end|>', '<|image_pad|>', QWEN_TEMPLATE,
        {**VISION, 'num_patches': 64}, {**MROPE, 'hidden_act': 'relu2'},
        options={'projector_hidden_size': 48}),
    # Its encoder is another convolutional one: FastViTHD needs timm, which needs torchvision.
    'fast_vlm': Kind(
        FastVlmForConditionalGeneration, FastVlmConfig,
        CLIPImageProcessorPil(size={'shortest_edge': 256},
                              crop_size={'height': 256, 'width': 256}),
        ['<|im_end|>', '<|im_start|>', '<image>'], '<|im_end|>', '<image>', PICTURES_FIRST,
        {'model_type': 'convnext', 'num_stages': 5, 'hidden_sizes': [8, 8, 16, 16, 32],
         'depths': [1, 1, 1, 1, 1], 'hidden_size': 32, 'layer_scale_init_value': 1.0},
        {**TEXT, 'model_type': 'qwen2'}, options={'image_seq_length': 16}),
    # Windows that are shorter than the prompts of the tests, as published ones may be.
    'gemma3': Kind(
        Gemma3ForConditionalGeneration, Gemma3Config,
        Gemma3ImageProcessorPil(size={'height': 64, 'width': 64}, do_pan_and_scan=True,
                                pan_and_scan_min_crop_size=32, pan_and_scan_max_num_crops=4,
                                pan_and_scan_min_ratio_to_activate=1.2),
        ['<pad>', '<bos>', '<start_of_turn>', '<end_of_turn>', '<start_of_image>',
         '<end_of_image>', '<image_soft_token>'], '<end_of_turn>', '<image_soft_token>', GEMMA,
        {**VISION, 'model_type': 'siglip_vision_model', 'image_size': 64, 'patch_size': 8,
         'vision_use_head': False},
        {**TEXT, 'num_hidden_layers': 4, 'sliding_window': 24, 'query_pre_attn_scalar': 24,
         'layer_types': 3 * ['sliding_attention'] + ['full_attention'], 'rope_parameters': {
             'full_attention': {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 1e6},
             'sliding_attention': {'rope_type': 'default', 'rope_theta': 10000.0}}},
        {'boi_token': '<start_of_image>', 'eoi_token': '<end_of_image>',
         'image_token': '<image_soft_token>'},
        {'mm_tokens_per_image': 16}),
    'internvl': Kind(
        InternVLForConditionalGeneration, InternVLConfig,
        # As checkpoints may say; one tile is taken all the same.
        GotOcr2ImageProcessorPil(size={'height': 64, 'width': 64}, crop_to_patches=True),
        ['<|im_end|>', '<|im_start|>', '<img>', '</img>', '<IMG_CONTEXT>', '<video>'],
        '<|im_end|>', '<IMG_CONTEXT>', CHATML.replace('IMAGE', '<IMG_CONTEXT>\n'),
        {**VISION, 'image_size': [64, 64], 'patch_size': [8, 8]},
        {**TEXT, 'model_type': 'qwen2'},
        {'start_image_token': '<img>', 'end_image_token': '</img>',
         'context_image_token': '<IMG_CONTEXT>', 'video_token': '<video>'}),
    'llava_onevision': Kind(
        LlavaOnevisionForConditionalGeneration, LlavaOnevisionConfig,
        LlavaOnevisionImageProcessorPil(
            size={'height': 60, 'width': 60},
            image_grid_pinpoints=[[60, 60], [60, 120], [120, 60], [120, 120]]),
        ['<|im_end|>', '<|im_start|>', '<image>', '<video>'],
        '<|im_end|>', '<image>', PICTURES_FIRST,
        # As in the published ones, the patches do not quite fill the picture.
        {**VISION, 'model_type': 'siglip_vision_model', 'image_size': 60, 'patch_size': 14,
         'vision_use_head': False},
        {**TEXT, 'model_type': 'qwen2'},
        options={'image_grid_pinpoints': [[60, 60], [60, 120], [120, 60], [120, 120]]}),
    # As in the published ones, the patches of a crop cannot all be paired.
    'molmo2': Kind(
        Molmo2ForConditionalGeneration, Molmo2Config,
        Molmo2ImageProcessor(size={'height': 56, 'width': 56}, patch_size=8, max_crops=6,
                             overlap_margins=[1, 1]),
        ['<|im_end|>', '<|im_start|>'], '<|im_end|>', '<im_patch>', MOLMO,
        {**VISION, 'num_key_value_heads': 2, 'head_dim': 16, 'image_size': [56, 56],
         'patch_size': 8}, TEXT,
        options={'adapter_config': {
            'vision_feature_layer': [1, 0], 'hidden_size': 32, 'num_attention_heads': 2,
            'num_key_value_heads': 2, 'head_dim': 16, 'intermediate_size': 64,
            'text_hidden_size': 48}},
        added=['<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<low_res_im_start>',
               '<|image|>', '<im_low>', '<frame_start>', '<frame_end>', '<|video|>'],
        processor={'processor_class': 'Molmo2Processor', 'image_use_col_tokens': True,
                   'use_single_crop_col_tokens': False, 'use_single_crop_start_token': True}),
    'smolvlm': Kind(
        SmolVLMForConditionalGeneration, SmolVLMConfig,
        SmolVLMImageProcessorPil(**TILES, **SAMPLING),
        **{**IDEFICS, 'tokens': [*IDEFICS['tokens'], '<global-img>', '<row_1_col_1>']},
        named={'fake_image_token': '<fake_token_around_image>', 'image_token': '<image>',
               'global_image_token': '<global-img>'}),
    # In Idefics3 the mark of the global view is text like any.
    'idefics3': Kind(
        Idefics3ForConditionalGeneration, Idefics3Config, Idefics3ImageProcessorPil(**TILES),
        **IDEFICS),
    'qwen2_vl': Kind(
        Qwen2VLForConditionalGeneration, Qwen2VLConfig, QWEN_IMAGES, QWEN_TOKENS,
        '<|im_end|>', '<|image_pad|>', QWEN_TEMPLATE,
        {'depth': 2, 'num_heads': 2, 'embed_dim': 32, 'hidden_size': 48, 'mlp_ratio': 2}, MROPE),
    'qwen2_5_vl': Kind(
        Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, QWEN_IMAGES, QWEN_TOKENS,
        '<|im_end|>', '<|image_pad|>', QWEN_TEMPLATE,
        {'depth': 2, 'num_heads': 2, 'hidden_size': 32, 'intermediate_size': 48,
         'out_hidden_size': 48, 'window_size': 56, 'fullatt_block_indexes': [1]}, MROPE),
    'qwen3_vl': Kind(
        Qwen3VLForConditionalGeneration, Qwen3VLConfig, QWEN_IMAGES, QWEN_TOKENS,
        '<|im_end|>', '<|image_pad|>', QWEN_TEMPLATE,
        {'depth': 3, 'num_heads': 2, 'hidden_size': 32, 'intermediate_size': 48,
         'out_hidden_size': 48, 'patch_size': 14, 'num_position_embeddings': 64,
         'deepstack_visual_indexes': [0, 1]}, MROPE),
    'qwen3_5': Kind(
        Qwen3_5ForConditionalGeneration, Qwen3_5Config, QWEN_IMAGES, QWEN_TOKENS,
        '<|im_end|>', '<|image_pad|>', QWEN_TEMPLATE,
        {'depth': 2, 'num_heads': 2, 'hidden_size': 32, 'intermediate_size': 48,
         'out_hidden_size': 48, 'patch_size': 14, 'num_position_embeddings': 64},
        {**MROPE, 'num_hidden_layers': 4, 'linear_key_head_dim': 8, 'linear_value_head_dim': 8,
         'linear_num_key_heads': 2, 'linear_num_value_heads': 4, 'rope_parameters': {
             'rope_type': 'default', 'rope_theta': 10000.0, 'partial_rotary_factor': 0.5,
             'mrope_interleaved': True, 'mrope_section': [2, 2, 2]}}),
}

#: In which dropping a token is not masking it.
SHORTENED = ('gemma3', 'qwen3_5')
#: That count positions in three directions.
THREE_D = ('cosmos3_edge', 'qwen2_vl', 'qwen2_5_vl', 'qwen3_vl', 'qwen3_5')


def names(*chosen: str) -> list[Any]:
    """Return families as parameters of a test; skip what needs newer transformers."""
    found = version('transformers')
    return [pytest.param(name, marks=pytest.mark.skipif(
        Version(found) < Version(LATER.get(name, '0')),
        reason=f'{name} needs transformers {LATER.get(name)}, {found} is installed'))
        for name in chosen or KINDS]


ONE_TILE = names('internvl', 'llava_onevision', 'smolvlm', 'idefics3', 'fast_vlm', 'gemma3')


@cache
def bpe(tokens: tuple[str, ...]) -> str:
    """Return a small byte-level BPE tokenizer with these special tokens, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [PROMPT.system, PROMPT.instruction, OTHER.instruction, ANSWER],
        trainers.BpeTrainer(vocab_size=300, special_tokens=list(tokens), show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return str(tokenizer.to_str())


def make(name: str, directory: Path, vision: Mapping[str, Any] | None = None, **text: Any
         ) -> Path:
    """Make a checkpoint of a family; ``vision`` and further keywords change its two models."""
    kind = KINDS[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe(tuple(kind.tokens))), eos_token=kind.end,
        pad_token=kind.tokens[0], chat_template=kind.template, padding_side='left',
        extra_special_tokens=kind.named or kind.tokens, clean_up_tokenization_spaces=False)
    vocab_size = len(tokenizer)
    tokenizer.add_tokens(kind.added, special_tokens=True)
    vocab = tokenizer.get_vocab()
    options = {**kind.options, 'image_token_id': vocab[kind.image]}
    if name == 'fast_vlm':
        options = {**kind.options, 'image_token_index': vocab['<image>']}
    if name == 'gemma3':
        options.update(boi_token_index=vocab['<start_of_image>'],
                       eoi_token_index=vocab['<end_of_image>'])
    if name == 'llava_onevision':
        options = {**kind.options, 'image_token_index': vocab['<image>'],
                   'video_token_index': vocab['<video>']}
    if name in THREE_D:
        options.update({f'{part}_token_id': vocab[f'<|{part}|>']
                        for part in ('vision_start', 'vision_end')},
                       video_token_id=vocab['<|video_pad|>'])
    if name == 'molmo2':
        options = {**kind.options, 'image_patch_id': vocab['<im_patch>'], **{
            f'{part}_token_id': vocab[token] for part, token in (
                ('image_start', '<im_start>'), ('low_res_image_start', '<low_res_im_start>'),
                ('image_end', '<im_end>'), ('frame_start', '<frame_start>'),
                ('frame_end', '<frame_end>'))}}
        text['additional_vocab_size'] = len(kind.added)
    config = kind.config(
        text_config={**kind.text, 'vocab_size': vocab_size, 'pad_token_id': 0, **text},
        vision_config={**kind.vision, **(vision or {})}, tie_word_embeddings=False, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = shake(kind.model(config).eval())
    model.generation_config.eos_token_id = vocab[kind.end]
    model.generation_config.pad_token_id = 0
    for part in (model, tokenizer, kind.images):
        part.save_pretrained(directory)
    if kind.processor:
        (directory / 'processor_config.json').write_text(
            json.dumps(kind.processor), encoding='utf-8')
    return directory


def ask(vlm: Vlm) -> tuple[Prepared, NDArray[np.int32]]:
    """Return a prompt of two pictures, and what is kept of it."""
    random = np.random.default_rng(0)
    features = [vlm.encode(random.integers(0, 256, (90, 150, 3), np.uint8)) for _ in range(2)]
    return vlm.prepare(features, ['-0.4s', '0.0s'], PROMPT), np.arange(3, 25, dtype=np.int32)


def shake(model: Any) -> Any:
    """Give the weights a spread at which answers differ and every part of the model counts."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                fan_in = weight[0].numel()
                weight.copy_(1.5 * fan_in ** -0.5 * torch.randn(weight.shape, generator=generator))
    return model
