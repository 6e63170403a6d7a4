# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The adaptor to vision language models, against the models as transformers runs them.

Small models with random weights: what is proven here is arithmetic, not eyesight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
import gc
import itertools
import json
from pathlib import Path
import shutil
from typing import Any
import weakref

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.generation.streamers import BaseStreamer
from vlm_maker import shake

from vts_ros.errors import PromptError
from vts_ros.lab.scenes.model_picture import ModelPicture, PictureSizeError, SHIPPED
from vts_ros.lab.training.new_checkpoint import (
    create_checkpoint,
    create_tokenizer,
    FORM_TOKENS,
    has_present_form,
    is_for,
    NUMBER_TOKENS,
    renew_form,
    renew_vision,
    resize,
)
from vts_ros.paths import model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.vlm import FrameFeatures, Prepared, Vlm, VlmError
from vts_ros.vlm.answers import Answer, render
from vts_ros.vlm.boxes import BoxForm
from vts_ros.vlm.families import FAMILIES
from vts_ros.vlm.prompts import describe_prompt, Prompt, Prompts, question_prompt
from vts_ros.vlm.tasks import load_task
from vts_ros.vlm.vehicle import Vehicle

FRAMES = 4
PROMPT = describe_prompt()
CAPTIONS = ['-1.2s', '-0.8s', '-0.4s', '0.0s']
ANSWER = render(Answer('A city street.', 'high', 'child', (0.41, 0.2, 0.55, 1.0),
                       'A child runs out.', 'brake hard'))
SMALL: dict[str, Any] = {
    'text_hidden': 64, 'text_layers': 3, 'text_heads': 2, 'text_intermediate': 96,
    'hidden_size': 32, 'depth': 3, 'num_heads': 2, 'intermediate_size': 48,
    'deepstack_visual_indexes': [0, 1]}
#: Random models repeat themselves; answers of different tokens prove more when compared.
LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}


def make_qwen3_vl(directory: Path) -> None:
    model = create_checkpoint(directory, [ANSWER] * 20, **SMALL)
    shake(model).save_pretrained(directory)


def make_qwen2_5_vl(directory: Path) -> None:
    make_older(directory, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, {
        'hidden_size': 32, 'out_hidden_size': 64, 'intermediate_size': 48, 'window_size': 56,
        'fullatt_block_indexes': [1]})


def make_qwen2_vl(directory: Path) -> None:
    make_older(directory, Qwen2VLForConditionalGeneration, Qwen2VLConfig, {
        'embed_dim': 32, 'hidden_size': 64, 'mlp_ratio': 2})


def make_older(directory: Path, model_class: Any, config_class: Any,
               vision: dict[str, Any]) -> None:
    """Make a checkpoint without deepstack, patches of 14 px, with the tokenizer of the other."""
    create_checkpoint(directory, [ANSWER] * 20, **SMALL)
    old = json.loads((directory / 'config.json').read_text(encoding='utf-8'))
    config = config_class(
        text_config={'hidden_size': 64, 'num_hidden_layers': 3, 'num_attention_heads': 2,
                     'num_key_value_heads': 1, 'intermediate_size': 96,
                     'vocab_size': old['text_config']['vocab_size'],
                     'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0,
                                         'mrope_section': [6, 5, 5]}},
        vision_config={'depth': 2, 'num_heads': 2, 'patch_size': 14, 'spatial_merge_size': 2,
                       'temporal_patch_size': 2, **vision},
        tie_word_embeddings=True,
        **{name: value for name, value in old.items() if name.endswith('_token_id')})
    model = shake(model_class(config).eval())
    model.save_pretrained(directory)
    Qwen2VLImageProcessorPil(size={'shortest_edge': 4 * 28 * 28, 'longest_edge': 20 * 28 * 28}
                             ).save_pretrained(directory)


MAKERS: dict[str, Callable[[Path], None]] = {
    'qwen3_vl': make_qwen3_vl, 'qwen2_5_vl': make_qwen2_5_vl, 'qwen2_vl': make_qwen2_vl}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp('models') / 'small'
    make_qwen3_vl(directory)
    return directory


@pytest.fixture(scope='module', params=MAKERS)
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    directory = tmp_path_factory.mktemp('models') / request.param
    MAKERS[request.param](directory)
    return Vlm.load(directory, device='cpu')


@pytest.fixture(scope='module')
def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (90, 150, 3), np.uint8) for _ in range(FRAMES)]


@pytest.fixture(scope='module')
def prepared(vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> Prepared:
    return vlm.prepare([vlm.encode(picture) for picture in pictures], CAPTIONS, PROMPT)


class StockTransformers:
    """The same prompt on the way of transformers: pictures in, everything else its business."""

    def __init__(self, vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
        self._model = vlm.model
        pixels = vlm.images(images=pictures, return_tensors='pt')
        merged = pixels['image_grid_thw'].prod(1) // vlm.images.merge_size ** 2  # type: ignore
        content: list[Any] = []
        for caption in CAPTIONS:
            content += [{'type': 'text', 'text': caption}, {'type': 'image'}]
        content.append({'type': 'text', 'text': PROMPT.instruction})
        messages: list[dict[str, Any]] = [{'role': 'system', 'content': PROMPT.system},
                                          {'role': 'user', 'content': content}]
        text = str(vlm.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True))
        for count in merged.tolist():
            text = text.replace('<|image_pad|>', '<|image|>' * count, 1)
        ids = vlm.tokenizer(text.replace('<|image|>', '<|image_pad|>'), return_tensors='pt')
        self.visual = ids['input_ids'] == vlm.model.config.image_token_id
        self.inputs = {'input_ids': ids['input_ids'], **pixels,
                       'mm_token_type_ids': self.visual.int()}

    @torch.inference_mode()
    def generate(self, tokens: int) -> list[int]:
        output = self._model.generate(**self.inputs, max_new_tokens=tokens, do_sample=False,
                                      **LIVELY)
        return list(output[0, self.inputs['input_ids'].shape[1]:].tolist())

    @torch.inference_mode()
    def logits(self, dropped: Tensor | None = None) -> Tensor:
        """Return all logits [S, V] with the dropped prompt tokens masked as keys."""
        ids = self.inputs['input_ids']
        positions, _ = self._model.model.get_rope_index(
            ids, mm_token_type_ids=self.inputs['mm_token_type_ids'],
            image_grid_thw=self.inputs['image_grid_thw'])
        length = ids.shape[1]
        seen = torch.ones(length, length).tril().bool()
        if dropped is not None:
            seen[:, dropped] = False
        mask = torch.zeros(length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
        return self._model(**self.inputs, position_ids=positions, attention_mask=mask[None, None],
                           use_cache=False).logits[0]


@pytest.fixture(scope='module')
def stock(vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> StockTransformers:
    return StockTransformers(vlm, pictures)


def total(prepared: Prepared) -> int:
    return len(prepared.layout.visual_slots)


def keep_list(kind: str, frame: int, tokens: int) -> NDArray[np.int32]:
    """Return a keep list over FRAMES frames of so many tokens each."""
    random = np.random.default_rng(7)
    every = np.arange(FRAMES * frame)
    chosen = {
        'random': random.permutation(every)[:tokens],
        'one frame empty': random.permutation(every[every // frame != 1])[:tokens],
        'B = N': every[every // frame == 2],
        'B < N': random.permutation(every[every // frame == 3])[:frame // 2],
        'one token': every[5:6],
        'all': every,
        'none': every[:0],
    }[kind]
    return np.sort(chosen).astype(np.int32)


KEEPS = ('random', 'one frame empty', 'B = N', 'B < N', 'one token', 'all', 'none')


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


# Exactness


def test_keeping_all_is_what_transformers_does(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers) -> None:
    assert torch.equal(prepared.layout.input_ids, stock.inputs['input_ids'][0])
    assert largest(vlm.logits(prepared) - stock.logits()) < 1e-4
    found = vlm.generate(prepared, max_new_tokens=16, **LIVELY)
    assert list(found.token_ids) == stock.generate(16)
    assert len(set(found.token_ids)) == 16


@pytest.mark.parametrize('kind', KEEPS)
def test_pruning_is_masking(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers, kind: str) -> None:
    keep = keep_list(kind, total(prepared) // FRAMES, total(prepared) // 2)
    dropped = stock.visual[0].clone()
    dropped[dropped.nonzero()[:, 0][torch.from_numpy(keep).long()]] = False
    expected = stock.logits(dropped)[~dropped]
    found = vlm.logits(prepared, keep)
    assert found.shape == expected.shape
    assert largest(found - expected) < 1e-4


def test_the_proof_notices_wrong_positions_and_wrong_features(
        vlm: Vlm, prepared: Prepared) -> None:
    keep = keep_list('random', total(prepared) // FRAMES, total(prepared) // 2)
    exact = vlm.logits(prepared, keep)
    stays = prepared.layout.survivors(torch.from_numpy(keep).long())
    positions = torch.zeros_like(prepared.layout.position_ids)
    positions[:, stays] = torch.arange(len(stays))
    sequential = replace(prepared, layout=replace(prepared.layout, position_ids=positions))
    assert largest(vlm.logits(sequential, keep) - exact) > 0.1
    shifted = replace(prepared, tokens=prepared.tokens.roll(1, 0))
    assert largest(vlm.logits(shifted, keep) - exact) > 0.1
    assert bool(prepared.deepstack) == (vlm.model.config.model_type == 'qwen3_vl')
    if prepared.deepstack:
        first, *others = prepared.deepstack
        mixed = replace(prepared, deepstack=(first.roll(1, 0), *others))
        assert largest(vlm.logits(mixed, keep) - exact) > 0.1


def test_a_frame_is_encoded_alone_as_among_others(
        vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
    with torch.inference_mode():
        together = vlm.encode_batch(vlm.preprocess(pictures))
    for picture, frame in zip(pictures, together, strict=True):
        alone = vlm.encode(picture)
        assert alone.grid == frame.grid == vlm.token_grid(*picture.shape[:2])
        assert len(alone.tokens) == alone.grid[0] * alone.grid[1]
        for ours, other in zip((alone.tokens, *alone.deepstack), (frame.tokens, *frame.deepstack),
                              strict=True):
            assert largest(ours - other) < 1e-5


# Batches and training


@pytest.fixture
def two(vlm: Vlm, prepared: Prepared, pictures: list[NDArray[np.uint8]]
        ) -> tuple[list[Prepared], list[NDArray[np.int32] | None]]:
    """Return windows of different length and question, the shorter one first."""
    short = vlm.prepare([vlm.encode(picture) for picture in pictures[:2]], CAPTIONS[:2],
                        question_prompt('What is ahead?'))
    keep = keep_list('random', total(prepared) // FRAMES, total(prepared) // 2)
    return [short, prepared], [None, keep]


def test_a_batch_writes_what_single_prompts_write(
        vlm: Vlm, two: tuple[list[Prepared], list[NDArray[np.int32] | None]]) -> None:
    windows, keeps = two
    together = vlm.generate_batch(windows, keeps, 12, **LIVELY)
    for window, keep, found in zip(windows, keeps, together, strict=True):
        alone = vlm.generate(window, keep, 12, **LIVELY)
        assert found.token_ids == alone.token_ids
        assert found.text == alone.text
        assert (found.prompt_tokens, found.visual_tokens) == (
            alone.prompt_tokens, alone.visual_tokens)
        assert found.visual_tokens == (total(window) if keep is None else len(keep))
        text_tokens = len(window.layout.input_ids) - total(window)
        assert found.prompt_tokens == text_tokens + found.visual_tokens
    with torch.inference_mode():
        logits = vlm.model(**vlm.batch(windows, keeps)).logits
    for window, keep, row in zip(windows, keeps, logits, strict=True):
        expected = vlm.logits(window, keep)
        assert largest(row[-len(expected):] - expected) < 1e-4


class Dictate(LogitsProcessor):
    """Has a model write given tokens and notes the logits that it had at each of them."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = iter(tokens)
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logits.append(scores[0].clone())
        forced = torch.full_like(scores, -torch.inf)
        forced[0, next(self.tokens)] = 0.0
        return forced


def test_training_sees_what_generation_sees(
        vlm: Vlm, two: tuple[list[Prepared], list[NDArray[np.int32] | None]]) -> None:
    windows, keeps = two
    answers = [ANSWER, 'A car.']
    inputs = vlm.batch(windows, keeps, answers)
    labels = inputs.pop('labels')
    with torch.inference_mode():
        logits = vlm.model(**inputs, use_cache=False).logits
    for index, answer in enumerate(answers):
        spoken = (labels[index] != -100).nonzero()[:, 0]
        tokens = labels[index, spoken].tolist()
        assert vlm.tokenizer.decode(tokens) == f'{answer}<|im_end|>'
        assert inputs['input_ids'][index, spoken].tolist() == tokens
        dictate = Dictate(tokens)
        written = vlm.generate(windows[index], keeps[index],
                               logits_processor=LogitsProcessorList([dictate]))
        assert written.text == answer
        assert list(written.token_ids) == tokens
        assert largest(logits[index, spoken - 1] - torch.stack(dictate.logits)) < 1e-4


class EndFirst(LogitsProcessor):
    """Ends the first answer of a batch at its third token and the others never."""

    def __init__(self, end: int, prompt_tokens: int) -> None:
        self.end = end
        self.prompt_tokens = prompt_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, self.end] = -torch.inf
        if input_ids.shape[1] - self.prompt_tokens == 2:
            scores[0, self.end] = torch.inf
        return scores


def test_an_answer_that_ends_before_the_others_is_not_padded(
        vlm: Vlm, two: tuple[list[Prepared], list[NDArray[np.int32] | None]]) -> None:
    windows, keeps = two
    end = vlm.tokenizer.get_vocab()['<|im_end|>']
    width = vlm.batch(windows, keeps)['input_ids'].shape[1]
    first, second = vlm.generate_batch(
        windows, keeps, 8, logits_processor=LogitsProcessorList([EndFirst(end, width)]))
    assert first.token_ids[2:] == (end,)
    assert first.token_ids[:2] == vlm.generate(windows[0], keeps[0], 2).token_ids
    assert len(second.token_ids) == 8
    assert end not in second.token_ids


def test_gradients_reach_the_first_layer_of_both_halves(
        vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
    layout = vlm.layout([vlm.token_grid(90, 150)] * 2, CAPTIONS[:2], PROMPT)
    features = vlm.encode_batch(vlm.preprocess(pictures))
    windows = [Prepared.join(layout, features[:2]), Prepared.join(layout, features[2:])]
    keep = np.arange(3, 9, dtype=np.int32)
    loss = vlm.model(**vlm.batch(windows, [keep, None], [ANSWER, 'A car.'])).loss
    loss.backward()
    gradients = {name: weight.grad for name, weight in vlm.model.named_parameters()}
    vlm.model.zero_grad(set_to_none=True)
    for name in ('model.visual.patch_embed.proj.weight',
                 'model.language_model.layers.0.self_attn.q_proj.weight'):
        gradient = gradients[name]
        assert gradient is not None
        assert bool(gradient.isfinite().all())
        assert float(gradient.norm()) > 0.0


# Generation


def test_stop_ends_the_answer(vlm: Vlm, prepared: Prepared) -> None:
    asked = itertools.count(1)
    generation = vlm.generate(prepared, max_new_tokens=50, stop=lambda: next(asked) == 3)
    assert len(generation.token_ids) == 3


def test_the_streamer_gets_every_token_and_the_clock_runs(vlm: Vlm, prepared: Prepared) -> None:
    class Collect(BaseStreamer):
        def __init__(self) -> None:
            self.parts: list[list[int]] = []

        def put(self, value: Tensor) -> None:
            self.parts.append(value.flatten().tolist())

        def end(self) -> None:
            self.parts.append([])

    streamer = Collect()
    generation = vlm.generate(prepared, max_new_tokens=5, streamer=streamer)
    prompt, *written, end = streamer.parts
    assert prompt == prepared.layout.input_ids.tolist()
    assert [token for part in written for token in part] == list(generation.token_ids)
    assert end == []
    assert generation.latency_ms['prefill'] > 0.0
    assert generation.latency_ms['decode'] > 0.0


def test_options_reach_the_generation(vlm: Vlm, prepared: Prepared) -> None:
    greedy = vlm.generate(prepared, max_new_tokens=8)
    assert vlm.generate(prepared, max_new_tokens=8).token_ids == greedy.token_ids
    torch.manual_seed(0)
    sampled = vlm.generate(prepared, max_new_tokens=8, do_sample=True, temperature=5.0)
    assert sampled.token_ids != greedy.token_ids


@pytest.mark.parametrize('keep', [[3, 2], [1, 1], [-1, 2], [0, 10_000]])
def test_a_keep_list_that_does_not_fit_is_refused(
        vlm: Vlm, prepared: Prepared, keep: list[int]) -> None:
    with pytest.raises(VlmError, match=r'^keep list is not ascending within 0\.\.\d+$'):
        vlm.generate(prepared, np.array(keep, np.int32))


def test_lack_of_memory_is_one_line(vlm: Vlm, prepared: Prepared) -> None:
    def hog() -> bool:
        return bool(torch.empty(1 << 52).numel())

    with pytest.raises(VlmError, match=r'^\w+ cannot generate: out of memory$'):
        vlm.generate(prepared, stop=hog)


@pytest.mark.parametrize('token', ['<|im_end|>', '<|image_pad|>', '<|vision_start|>'])
def test_nobody_speaks_for_the_model(vlm: Vlm, token: str) -> None:
    with pytest.raises(VlmError, match='special token'):
        vlm.layout([(2, 2)], ['0.0s'], question_prompt(f'Hi {token} there'))


def test_pictures_and_captions_must_match(vlm: Vlm) -> None:
    with pytest.raises(VlmError, match='2 frames, 1 captions'):
        vlm.layout([(2, 2), (2, 2)], ['0.0s'], PROMPT)
    with pytest.raises(VlmError, match='at least one frame'):
        vlm.layout([], [], PROMPT)


# Checkpoints


def test_info_names_the_model(vlm: Vlm) -> None:
    assert vlm.info['family'] == vlm.name == vlm.model.config.model_type
    assert vlm.info['parameters'] == sum(part.numel() for part in vlm.model.parameters())
    assert (vlm.info['dtype'], vlm.info['device']) == ('float32', 'cpu')


@pytest.mark.parametrize(('size', 'grid'), [
    ((128, 224), (4, 7)), ((540, 960), (4, 7)), ((720, 1280), (4, 7)), ((1080, 1920), (4, 7)),
    ((90, 160), (4, 7)), ((480, 640), (4, 6)), ((960, 540), (7, 4)), ((500, 500), (5, 5))])
def test_pictures_are_scaled_to_about_28_tokens(
        checkpoint: Path, size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert Vlm.load(checkpoint).token_grid(*size) == grid


def test_a_picture_of_the_model_size_is_not_touched(checkpoint: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (128, 224, 3), np.uint8)
    pixels = Vlm.load(checkpoint).preprocess([picture])
    assert pixels['image_grid_thw'].tolist() == [[1, 16, 28]]
    corner = (picture[:8, :8].transpose(2, 0, 1) / 255.0 - 0.5) / 0.5
    np.testing.assert_allclose(pixels['pixel_values'][0].numpy(), corner.ravel(), atol=1e-6)


def test_the_embedded_size_is_as_promised(tmp_path: Path) -> None:
    model = create_checkpoint(tmp_path, [ANSWER, 'many other words'] * 5)
    assert 8e6 < model.num_parameters() < 10e6
    again = create_checkpoint(tmp_path / 'again', [ANSWER, 'many other words'] * 5)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_a_new_vision_encoder_leaves_the_language_model(checkpoint: Path, tmp_path: Path) -> None:
    renew_vision(checkpoint, tmp_path)
    old, new = (Vlm.load(path).model.model for path in (checkpoint, tmp_path))
    assert new.visual.config.patch_size == SHIPPED.patch_px
    assert len(new.visual.blocks) != len(old.visual.blocks)
    kept = old.language_model.state_dict()
    for name, weight in new.language_model.state_dict().items():
        assert torch.equal(weight, kept[name]), name


def test_larger_patches_see_in_a_picture_what_smaller_ones_saw_in_a_small_one(
        tmp_path: Path) -> None:
    create_checkpoint(tmp_path / 'small', ['a text'], vocab_size=600)
    large = ModelPicture.of('448x256')
    resize(tmp_path / 'small', tmp_path / 'large', large)
    assert (large.patch_px, large.tokens, large.cells) == (16, (4, 7), (8, 14))
    assert is_for(tmp_path / 'large', large)
    assert not is_for(tmp_path / 'small', large)
    picture = np.random.default_rng(4).integers(0, 256, (128, 224, 3), np.uint8)
    seen = [Vlm.load(tmp_path / name).encode(shown) for name, shown in (
        ('small', picture), ('large', picture.repeat(2, 0).repeat(2, 1)))]
    assert seen[0].grid == seen[1].grid == (4, 7)
    torch.testing.assert_close(seen[1].tokens, seen[0].tokens, atol=1e-5, rtol=1e-4)
    with pytest.raises(PictureSizeError, match='cannot become'):
        resize(tmp_path / 'large', tmp_path / 'back', SHIPPED)


@pytest.mark.parametrize(('patch_px', 'merge'), [(16, 2), (8, 4)])
def test_a_larger_picture_can_have_more_tokens(tmp_path: Path, patch_px: int, merge: int) -> None:
    create_checkpoint(tmp_path / 'small', ['a text'], vocab_size=600)
    picture = ModelPicture.of('448x256', patch_px, merge)
    resize(tmp_path / 'small', tmp_path / 'large', picture)
    small, large = (Vlm.load(tmp_path / name) for name in ('small', 'large'))
    assert large.token_grid(256, 448) == picture.tokens == (8, 14)
    assert picture.token_cells == 1
    # What merges tokens is new only where they are of another number of patches.
    first, second = (model.model.model.visual.merger.linear_fc2.weight for model in (small, large))
    assert (first.shape == second.shape and torch.equal(first, second)) == (merge == 4)


@pytest.mark.parametrize('size', ['448x250', '448', '0x0', '336x192', 'axb', '-224x-128'])
def test_a_picture_size_is_a_multiple_of_the_least(size: str) -> None:
    with pytest.raises(PictureSizeError, match='multiple of 224x128'):
        ModelPicture.of(size)


def test_a_checkpoint_of_another_form_gets_the_tokens_of_the_present_one(
        checkpoint: Path, tmp_path: Path) -> None:
    before = tmp_path / 'before'
    shutil.copytree(checkpoint, before)
    path = before / 'tokenizer.json'
    data = json.loads(path.read_text(encoding='utf-8'))
    old = dict(zip((FORM_TOKENS[0], FORM_TOKENS[3]), ('{"object": null, ', ']}, "risk": "')))
    for token in data['added_tokens']:
        token['content'] = old.get(token['content'], token['content'])
    path.write_text(json.dumps(data), encoding='utf-8')
    assert has_present_form(checkpoint)
    assert not has_present_form(before)
    renew_form(before, tmp_path / 'renewed')
    assert has_present_form(tmp_path / 'renewed')
    tokenizers = [AutoTokenizer.from_pretrained(path)
                  for path in (checkpoint, tmp_path / 'renewed')]
    # The tokens keep their numbers, and so all weights their meaning.
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    data['added_tokens'].pop()
    del data['added_tokens'][-1 - len(NUMBER_TOKENS)]
    path.write_text(json.dumps(data), encoding='utf-8')
    with pytest.raises(ValueError, match=r'tokens of a form, not .*: it was not made here'):
        renew_form(before, tmp_path / 'other')


def test_the_shipped_model_has_the_present_form() -> None:
    assert has_present_form(model_path('embedded'))


def test_answers_cost_few_tokens_and_decode_exactly(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer(ANSWER)['input_ids']
    assert tokenizer.decode(ids) == ANSWER
    assert len(ids) <= 32
    for token in (*FORM_TOKENS, *NUMBER_TOKENS):
        assert len(tokenizer(token)['input_ids']) == 1, token
    prompt = tokenizer(f'{PROMPT.system}{PROMPT.instruction}')['input_ids']
    assert len(prompt) < 95
    assert tokenizer.decode(prompt) == f'{PROMPT.system}{PROMPT.instruction}'


@cache
def small_tokenizer() -> Any:
    return create_tokenizer([ANSWER] * 5)


@given(text=st.text(st.characters(exclude_categories=['Cs']), max_size=60))
def test_any_text_decodes_exactly(text: str) -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.decode(tokenizer(text)['input_ids']) == text


# Loading


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / 'broken'))


def load_error(model: str | Path) -> str:
    with pytest.raises(VlmError) as caught:
        Vlm.load(model)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_model_that_is_nowhere_is_said_so(tmp_path: Path) -> None:
    assert 'neither a directory nor in the local' in load_error(tmp_path / 'none')
    assert 'neither a directory nor in the local' in load_error('nobody/no-such-model')


@pytest.mark.parametrize('name', [
    'config.json', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json',
    'model.safetensors'])
def test_a_missing_file_is_named(broken: Path, name: str) -> None:
    (broken / name).unlink()
    assert load_error(broken) == f'{broken} lacks {name}'


@pytest.mark.parametrize('name', ['config.json', 'tokenizer.json', 'model.safetensors'])
@pytest.mark.parametrize('share', [0.0, 0.5])
def test_a_cut_off_file_is_one_line(broken: Path, name: str, share: float) -> None:
    data = (broken / name).read_bytes()
    (broken / name).write_bytes(data[:int(share * len(data))])
    assert load_error(broken).startswith(f'{broken} cannot be loaded: ')


@pytest.mark.parametrize('model_type', ['llava', 'never_heard_of'])
def test_another_family_lists_the_supported(broken: Path, model_type: str) -> None:
    (broken / 'config.json').write_text(json.dumps({'model_type': model_type}), encoding='utf-8')
    message = load_error(broken)
    assert message.startswith(f'{broken} is a {model_type} model; supported are: ')
    assert message.endswith(', '.join(FAMILIES))


def test_absent_weights_are_not_made_up(broken: Path) -> None:
    config = json.loads((broken / 'config.json').read_text(encoding='utf-8'))
    config['text_config']['num_hidden_layers'] += 1
    config['text_config'].pop('layer_types', None)
    (broken / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    assert 'lacks weights, among them model.language_model.layers.3' in load_error(broken)


def test_a_closed_model_frees_its_weights(checkpoint: Path) -> None:
    vlm = Vlm.load(checkpoint, device='cpu')
    weights = weakref.ref(vlm.model)
    vlm.close()
    gc.collect()
    assert weights() is None


@pytest.mark.parametrize('model_type', [None, {'name': 'qwen3_vl'}])
def test_a_configuration_without_its_kind_is_one_line(broken: Path, model_type: object) -> None:
    path = broken / 'config.json'
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, 'model_type': model_type}))
    with pytest.raises(VlmError, match='does not say what it is: it lacks model_type') as caught:
        Vlm.load(broken)
    assert '\n' not in str(caught.value)


def test_a_device_that_is_not_there_is_one_line(checkpoint: Path) -> None:
    with pytest.raises(VlmError, match=r'cannot be loaded: .*abacus'):
        Vlm.load(checkpoint, device='abacus')


def test_the_chat_template_may_lie_beside(broken: Path) -> None:
    template = (broken / 'chat_template.jinja').read_text(encoding='utf-8')
    (broken / 'chat_template.jinja').unlink()
    (broken / 'chat_template.json').write_text(json.dumps({'chat_template': template}),
                                               encoding='utf-8')
    assert len(Vlm.load(broken).layout([(2, 3)], ['0.0s'], PROMPT).visual_slots) == 6


# Prompts


def test_captions_say_camera_and_age() -> None:
    frames = [Frame('front', 10 ** 9 + tenth * 10 ** 8, b'') for tenth in (0, 4, 8)]
    assert PROMPT.captions(frames) == ['-0.8s', '-0.4s', '0.0s']
    frames.append(Frame('left', 10 ** 9 + 79 * 10 ** 7, b''))
    assert PROMPT.captions(frames) == ['front -0.8s', 'front -0.4s', 'front 0.0s', 'left 0.0s']


def test_the_instruction_states_the_form() -> None:
    assert 40 <= len(PROMPT.instruction.split()) <= 60
    for part in ('"description"', '"object"', '"label"', '"box"', '"explanation"', '"action"',
                 '"risk": "none, low, medium or high"', '"object": null'):
        assert part in PROMPT.instruction
    german = describe_prompt('de').instruction
    assert '"risk": "none, low, medium oder high"' in german
    assert german != PROMPT.instruction


def test_a_question_is_put_in_one_line_as_it_is() -> None:
    prompt = question_prompt(' Is {this} a\n stop sign? ')
    assert prompt.instruction.endswith('in one sentence: Is {this} a stop sign?')
    assert prompt.system == PROMPT.system


@pytest.mark.parametrize(('vehicle', 'said'), [
    (None, ''), (Vehicle(), ''), (Vehicle(float('nan'), float('inf'), 'off'), ''),
    (Vehicle(13.9), 'The car drives at 50 km/h. '), (Vehicle(0.05), 'The car stands. '),
    (Vehicle(-1.4), 'The car drives backwards at 5 km/h. '),
    (Vehicle(5.0, 0.3, 'left'),
     'The car drives at 18 km/h. It turns left. Its left turn signal is on. '),
    (Vehicle(None, -0.3, 'hazard'), 'It turns right. Its hazard lights are on. '),
    (Vehicle(yaw_rate_radps=0.05, turn_signal='right'), 'Its right turn signal is on. ')])
def test_what_the_car_does_is_said_before_the_instruction(
        vehicle: Vehicle | None, said: str) -> None:
    prompt = PROMPT.about(vehicle)
    assert prompt.instruction == said + PROMPT.instruction
    assert prompt.system == PROMPT.system


def test_every_language_can_say_all_that_a_car_does() -> None:
    facts = {fact for vehicle in (
        Vehicle(9.0, 1.0, 'left'), Vehicle(0.0, -1.0, 'right', True, True),
        Vehicle(-1.0, None, 'hazard', steering='left'), Vehicle(steering='right'))
        for fact in vehicle.facts()}
    assert len(facts) == 12
    for language in ('en', 'de'):
        assert set(describe_prompt(language).vehicle) == facts
    assert describe_prompt('de').about(Vehicle(10.0)).instruction.startswith(
        'Das Auto fährt 36 km/h. ')


def test_a_prompt_file_may_keep_the_car_to_itself() -> None:
    assert Prompt('S', 'I').about(Vehicle(10.0)).instruction == 'I'
    some = Prompt('S', 'I', vehicle={'signal_left': 'Left.'})
    assert some.about(Vehicle(10.0, turn_signal='left')).instruction == 'Left. I'


def test_prompt_files_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / 'prompts.yaml'
    path.write_text('fr:\n  system: S\n  caption: "{age}"\n  caption_cameras: "{camera}"\n'
                    '  box_scale: 1000\n  description: D\n  question: "Q {question}"\n',
                    encoding='utf-8')
    prompts = Prompts.load('fr', path)
    thousand = BoxForm(scale=1000.0)
    assert prompts.description == Prompt('S', 'D', '{age}', '{camera}', thousand)
    assert prompts.ask('a  b') == Prompt('S', 'Q a b', '{age}', '{camera}', thousand)
    with pytest.raises(PromptError, match=r"'en'.*there are: fr"):
        Prompts.load('en', path)
    with pytest.raises(PromptError, match='cannot be read'):
        Prompts.load('en', tmp_path / 'none.yaml')
    # A file that was changed is read again.
    good = path.read_text(encoding='utf-8').replace('fr', 'en')
    vehicle = f'{good}  vehicle: {{speed: "{{kmh}}"}}\n'
    for text in (vehicle, vehicle.replace('{speed: "{kmh}"}', 'fast'), 'a: [', '- 1', '',
                 'en: 1', good.replace('{age}', '{when}'), good.replace('{question}', '')):
        path.write_text(text, encoding='utf-8')
        with pytest.raises(PromptError, match=r'^prompt (file|.en. in) .*\.yaml.*$'):
            Prompts.load('en', path)


@pytest.mark.parametrize('key', [
    'system', 'description', 'question', 'object_label', 'box_sides', 'box_range', 'box_pixels'])
def test_every_key_of_a_prompt_is_needed(tmp_path: Path, key: str) -> None:
    path = tmp_path / 'prompts.yaml'
    path.write_text(load_task().prompts.read_text(encoding='utf-8').replace(
        f'  {key}:', '  other:'), encoding='utf-8')
    with pytest.raises(PromptError, match=f"'de' in .* lacks or garbles '{key}'"):
        Prompts.load('de', path)


def test_features_are_plain_enough_to_cache(vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
    features = vlm.encode(pictures[0])
    assert isinstance(features, FrameFeatures)
    assert not features.tokens.requires_grad
