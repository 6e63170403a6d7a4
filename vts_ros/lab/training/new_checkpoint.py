# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Create a small checkpoint of the Qwen3-VL class, to be trained from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
import json
from pathlib import Path
import re
import shutil
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers, Regex, Tokenizer, trainers
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vts_ros.lab.scenes.model_picture import ModelPicture, PictureSizeError, SHIPPED
from vts_ros.vlm.prompts import describe_prompt, question_prompt

SPECIAL_TOKENS = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>',
                  '<|vision_end|>', '<|image_pad|>', '<|video_pad|>')

#: Strings of the answer form and of its numbers: a token each, so that answers are short.
FORM_TOKENS = ('{"risk": "', '", "object": {"label": "', '", "box": [', ']}, "explanation": "',
               '", "object": null, "explanation": "', '", "action": "', '", "description": "',
               '"}')
NUMBER_TOKENS = tuple(f'{value / 100:.2f}' for value in range(101))

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

#: What BPE does not merge across: punctuation with the space before a whole-string token, words,
#: numbers with their sign and unit (a caption is '-0.4s'), punctuation, white space.
_WORDS = r'[^\s\p{L}\d]+\s+(?!\S)| ?\p{L}+| ?-?\d[\d.]*s?| ?[^\s\p{L}\d]+|\s+'

#: Least and most visual tokens of a picture, as shares of those of one of the size of the model.
_TOKEN_SHARES = 6 / 7, 8 / 7


def create_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """
    Train a byte-level BPE tokenizer that decodes to exactly the text it was given.

    Parameters
    ----------
    texts
        What the model will read and say; the prompts of the package are added.
    vocab_size
        Upper limit, special tokens and whole-string tokens included.

    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_WORDS), behavior='isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    whole = FORM_TOKENS + NUMBER_TOKENS
    tokenizer.train_from_iterator(_pieces(texts, whole), trainers.BpeTrainer(
        vocab_size=vocab_size - len(whole), special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in whole])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE,
        eos_token='<|im_end|>', pad_token='<|endoftext|>',
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        clean_up_tokenization_spaces=False, padding_side='left')


def _pieces(texts: Iterable[str], whole: Sequence[str]) -> Iterator[str]:
    """Yield what is left for BPE between the whole-string tokens, prompts weighing a tenth."""
    cut = re.compile('|'.join(map(re.escape, sorted(whole, key=len, reverse=True))))
    prompts = (describe_prompt(), question_prompt(''))
    prompt_text = '\n'.join(text for prompt in prompts
                            for text in (prompt.system, prompt.instruction))
    for number, text in enumerate(texts):
        yield from cut.split(text)
        if number % 10 == 0:
            yield from cut.split(f'{prompt_text}\nsystem\nuser\nassistant\n')


def create_checkpoint(
    directory: str | Path,
    texts: Iterable[str],
    *,
    vocab_size: int = 2048,
    text_hidden: int = 192,
    text_layers: int = 6,
    text_heads: int = 6,
    text_intermediate: int = 512,
    picture: ModelPicture = SHIPPED,
    tokens_per_frame: tuple[int, int] | None = None,
    seed: int = 0,
    **vision: Any,
) -> Qwen3VLForConditionalGeneration:
    """
    Create and save a Hugging Face checkpoint with random weights.

    Parameters
    ----------
    directory
        Where the checkpoint goes; made if it is not there.
    texts, vocab_size
        For the tokenizer, see create_tokenizer.
    text_hidden, text_layers, text_heads, text_intermediate
        Size of the language model.
    picture
        Size for which the model is made.
    tokens_per_frame
        Least and most visual tokens of a picture. Pictures are scaled, at their own aspect
        ratio, to at most so many; by default those of the size of the model stay as they are.
    seed
        For the weights.
    vision
        Fields of the configuration of the vision encoder that are to differ from those of the
        embedded model.

    Returns
    -------
    The model, float32, in evaluation mode.

    """
    tokenizer = create_tokenizer(texts, vocab_size)
    vocab = tokenizer.get_vocab()
    token_id = {token: vocab[token] for token in SPECIAL_TOKENS}
    head_dim = text_hidden // text_heads
    config = Qwen3VLConfig(
        text_config={
            'vocab_size': len(tokenizer), 'hidden_size': text_hidden,
            'intermediate_size': text_intermediate, 'num_hidden_layers': text_layers,
            'num_attention_heads': text_heads, 'num_key_value_heads': text_heads,
            'head_dim': head_dim, 'max_position_embeddings': 4096, 'tie_word_embeddings': True,
            'pad_token_id': token_id['<|endoftext|>'],
            'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0,
                                'mrope_interleaved': True,
                                'mrope_section': _mrope_section(head_dim // 2)}},
        vision_config=_vision_config(picture, **{'out_hidden_size': text_hidden} | vision),
        image_token_id=token_id['<|image_pad|>'], video_token_id=token_id['<|video_pad|>'],
        vision_start_token_id=token_id['<|vision_start|>'],
        vision_end_token_id=token_id['<|vision_end|>'], tie_word_embeddings=True)
    model = _model(config, seed)
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=token_id['<|endoftext|>'],
        eos_token_id=[token_id['<|im_end|>'], token_id['<|endoftext|>']])
    for part in (model, tokenizer, _images(picture, tokens_per_frame)):
        part.save_pretrained(directory)
    return model


def renew_vision(start: str | Path, directory: str | Path, seed: int = 0,
                 picture: ModelPicture = SHIPPED) -> None:
    """
    Save a checkpoint made here with a new vision encoder of the present shape, untrained.

    Parameters
    ----------
    start
        Checkpoint whose language model and tokenizer are taken over.
    directory
        Where the new one goes; made if it is not there.
    seed
        For the weights of the vision encoder.
    picture
        Size for which the model is made.

    """
    trained = Qwen3VLForConditionalGeneration.from_pretrained(start)
    config: Any = deepcopy(trained.config)
    config.vision_config = Qwen3VLConfig(vision_config=_vision_config(
        picture, out_hidden_size=config.text_config.hidden_size)).vision_config
    model = _model(config, seed)
    model.model.language_model.load_state_dict(trained.model.language_model.state_dict())
    model.generation_config = trained.generation_config
    for part in (model, PreTrainedTokenizerFast.from_pretrained(start), _images(picture)):
        part.save_pretrained(directory)


def resize(start: str | Path, directory: str | Path, picture: ModelPicture, seed: int = 0
           ) -> None:
    """
    Save a checkpoint made here for pictures of another size, or cut otherwise.

    Larger patches say of a picture exactly what smaller ones say of the same picture scaled down
    to fit them: every weight is spread over the pixels that one pixel has become. Where tokens
    are of another number of patches, what merges them is new, to be learnt.

    Parameters
    ----------
    start
        Checkpoint that is taken over.
    directory
        Where the new one goes; made if it is not there.
    picture
        Size for which the new one is made.
    seed
        For what is new.

    Raises
    ------
    PictureSizeError
        If its patches are no whole times as large as those that are there.

    """
    trained = Qwen3VLForConditionalGeneration.from_pretrained(start)
    config: Any = deepcopy(trained.config)
    before = config.vision_config.patch_size, config.vision_config.spatial_merge_size
    times = picture.patch_px // before[0]
    if times * before[0] != picture.patch_px:
        raise PictureSizeError(f'{start} has patches of {before[0]} px, which cannot become '
                               f'patches of {picture.patch_px} px: choose others (--patch-px)')
    config.vision_config.patch_size = picture.patch_px
    config.vision_config.spatial_merge_size = picture.merge
    state = trained.state_dict()
    name = 'model.visual.patch_embed.proj.weight'
    for axis in (-1, -2):
        state[name] = state[name].repeat_interleave(times, axis) / times
    if picture.merge != before[1]:
        state = {key: value for key, value in state.items() if 'merger' not in key}
    model = _model(config, seed)
    model.load_state_dict(state, strict=False)
    model.generation_config = trained.generation_config
    for part in (model, PreTrainedTokenizerFast.from_pretrained(start), _images(picture)):
        part.save_pretrained(directory)


def is_for(checkpoint: str | Path, picture: ModelPicture) -> bool:
    """Return whether a checkpoint made here is for pictures of this size, cut like this."""
    images = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)
    wanted = _images(picture)
    return all(getattr(images, name) == getattr(wanted, name)
               for name in ('patch_size', 'merge_size', 'size'))


def renew_form(start: str | Path, directory: str | Path) -> None:
    """
    Save a checkpoint made here with the tokens of the present answer form.

    A token whose text is no longer in the form gets one that is new there; it is a new word, to
    be learnt.

    Parameters
    ----------
    start
        Checkpoint that is taken over.
    directory
        Where the new one goes; made if it is not there.

    """
    shutil.copytree(start, directory, dirs_exist_ok=True)
    path = Path(directory) / 'tokenizer.json'
    data = json.loads(path.read_text(encoding='utf-8'))
    had = [token for token in data['added_tokens']
           if not token['special'] and token['content'] not in NUMBER_TOKENS]
    if len(had) != len(FORM_TOKENS):
        raise ValueError(f'{start} has {len(had)} tokens of a form, not {len(FORM_TOKENS)}: '
                         'it was not made here')
    old = {token['content'] for token in had}
    new = iter([text for text in FORM_TOKENS if text not in old])
    for token in had:
        if token['content'] not in FORM_TOKENS:
            token['content'] = next(new)
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding='utf-8')


def has_present_form(checkpoint: str | Path) -> bool:
    """Return whether the tokens of a checkpoint made here are those of the present form."""
    text = (Path(checkpoint) / 'tokenizer.json').read_text(encoding='utf-8')
    return set(FORM_TOKENS) <= {token['content'] for token in json.loads(text)['added_tokens']}


def _vision_config(picture: ModelPicture, **changes: Any) -> dict[str, Any]:
    return {'depth': 4, 'hidden_size': 96, 'num_heads': 3, 'intermediate_size': 288,
            'patch_size': picture.patch_px, 'spatial_merge_size': picture.merge,
            'temporal_patch_size': 1,
            'num_position_embeddings': 28 ** 2, 'deepstack_visual_indexes': [1]} | changes


def _model(config: Qwen3VLConfig, seed: int) -> Qwen3VLForConditionalGeneration:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).eval()
        _mimic_trained_attention(model)
    return model


def _images(picture: ModelPicture, tokens_per_frame: tuple[int, int] | None = None
            ) -> Qwen2VLImageProcessorPil:
    rows, columns = picture.tokens
    least, most = tokens_per_frame or [round(share * rows * columns) for share in _TOKEN_SHARES]
    area = picture.token_px ** 2
    return Qwen2VLImageProcessorPil(
        patch_size=picture.patch_px, merge_size=picture.merge, temporal_patch_size=1,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={'shortest_edge': least * area, 'longest_edge': most * area})


@torch.no_grad()
def _mimic_trained_attention(model: Qwen3VLForConditionalGeneration) -> None:
    """
    Begin the vision encoder with attention of the structure that training arrives at.

    A patch attends to patches like itself and takes away their mean: Trockman and Kolter,
    "Mimetic Initialization of Self-Attention Layers", 2023. Small encoders that see little data
    learn faster from there.
    """
    for block in model.model.visual.blocks:
        attention, width = block.attn, block.attn.proj.in_features
        queries, keys, values = attention.qkv.weight.split(width)
        rows = width // attention.num_heads
        for head in range(attention.num_heads):
            left, scale, right = torch.linalg.svd(0.7 * (_noise(width) + torch.eye(width)))
            half = scale[:rows].sqrt()
            queries[head * rows:(head + 1) * rows] = (left[:, :rows] * half).T
            keys[head * rows:(head + 1) * rows] = half[:, None] * right[:rows]
        left, scale, right = torch.linalg.svd(0.4 * (_noise(width) - torch.eye(width)))
        values.copy_(scale.sqrt()[:, None] * right)
        attention.proj.weight.copy_(left * scale.sqrt())


def _noise(width: int) -> Tensor:
    return torch.randn(width, width) / width ** 0.5


def _mrope_section(pairs: int) -> list[int]:
    """Split the rotary pairs between time, height and width; time takes what is left over."""
    third = pairs // 3
    return [pairs - 2 * third, third, third]
