# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Every family of vision language models, pruned, against itself as transformers run it.

The weights are random: what is proven here is arithmetic, not eyesight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    InternVLConfig,
    LogitsProcessor,
    LogitsProcessorList,
    Mamba2Config,
    MistralConfig,
    Qwen2Config,
    Qwen3NextConfig,
)
from transformers.image_utils import SizeDict
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.molmo2.processing_molmo2 import Molmo2Processor
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
import vlm_maker
from vlm_maker import (
    ANSWER,
    KINDS,
    make,
    names,
    ONE_TILE,
    OTHER,
    PROMPT,
    SHORTENED,
    THREE_D,
)

from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Prepared, Vlm, VlmError
from vts_ros.vlm.compatibility import (
    check_instructions_first,
    check_transformers,
    LATER,
    MINIMUM_TRANSFORMERS,
    READ_ON,
)
from vts_ros.vlm.decode_step import DecodeStep
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.families import FAMILIES, REFUSED
from vts_ros.vlm.prefix_reader import Picture, PrefixReader
from vts_ros.vlm.prompt_layout import Question
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.prunability import pruning_of, why_inexact, why_not

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 4
SIDE = 4
CAPTIONS = ['-1.2s', '-0.8s', '-0.4s', '0.0s']
#: Random models repeat themselves; answers of different tokens prove more when compared.
LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}
#: Of the largest logit: what floats of 32 bits lose on the way.
EXACT = 1e-4


@pytest.fixture(scope='module', params=names())
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    return load(request.param, tmp_path_factory)


@pytest.fixture(scope='module', params=ONE_TILE)
def tiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    return load(request.param, tmp_path_factory)


DIRECTORIES: dict[str, Path] = {}


def load(name: str, factory: pytest.TempPathFactory, dtype: str = 'auto') -> Vlm:
    """Load the checkpoint of a family, made when it is first asked for."""
    if name not in DIRECTORIES:
        DIRECTORIES[name] = make(name, factory.mktemp('models') / name)
    return Vlm.load(DIRECTORIES[name], device='cpu', dtype=dtype)


@pytest.fixture(scope='module')
def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (90, 150, 3), np.uint8) for _ in range(FRAMES)]


@pytest.fixture(scope='module')
def prepared(vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> Prepared:
    with torch.inference_mode():
        return vlm.prepare(vlm.encode_batch(vlm.preprocess(pictures)), CAPTIONS, PROMPT)


# The same prompt on the way of transformers: pictures in, everything else their business


def stock_pixels(vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> Any:
    """Return pictures as the image processor makes them when told to leave them whole."""
    known: dict[str, dict[str, Any]] = {
        'internvl': {'crop_to_patches': False}, 'smolvlm': {'do_image_splitting': False},
        'idefics3': {'do_image_splitting': False}, 'gemma3': {'do_pan_and_scan': False},
        'fast_vlm': {'size': {'height': 256, 'width': 256}, 'do_center_crop': False},
    }
    options = known.get(vlm.name, {})
    images: Any = vlm.images
    if vlm.name == 'llava_onevision':
        # Square already, so there is nothing to pad; a list of lists is one prompt of several.
        size = SizeDict(height=60, width=60)
        squares = [images.resize(picture.transpose(2, 0, 1), size, resample=images.resample)
                   for picture in pictures]
        return images(images=[squares], input_data_format='channels_first', return_tensors='pt')
    if vlm.name in ('smolvlm', 'idefics3'):
        return images(images=[pictures], return_row_col_info=True, return_tensors='pt', **options)
    return images(images=pictures, return_tensors='pt', **options)


def stock_placeholders(vlm: Vlm, pixels: Any) -> list[str]:
    """Return what the processor of the family writes for each picture."""
    tokenizer: Any = vlm.tokenizer
    named = SimpleNamespace(image_seq_length=SIDE ** 2, image_seq_len=SIDE ** 2)
    if vlm.name in THREE_D:
        return ['<|image_pad|>' * int(count)
                for count in pixels['image_grid_thw'].prod(1) // vlm.images.merge_size ** 2]  # type: ignore
    if vlm.name == 'internvl':
        named.image_token = tokenizer.context_image_token
        named.start_image_token = tokenizer.start_image_token
        named.end_image_token = tokenizer.end_image_token
    elif vlm.name == 'gemma3':
        return FRAMES * ['\n\n<start_of_image>' + '<image_soft_token>' * SIDE ** 2
                         + '<end_of_image>\n\n']
    elif vlm.name == 'fast_vlm':
        return FRAMES * ['<image>' * SIDE ** 2]
    elif vlm.name == 'llava_onevision':
        named.image_token, named.num_image_tokens = '<image>', SIDE ** 2
        named.vision_feature_select_strategy = 'full'
    else:
        named.image_token, named.fake_image_token = '<image>', '<fake_token_around_image>'
        named.global_image_token = named.global_image_tag = '<global-img>'
    named.__dict__.update(MARKS)
    processors: dict[str, Any] = {
        'internvl': InternVLProcessor, 'molmo2': Molmo2Processor,
        'llava_onevision': LlavaOnevisionProcessor,
        'smolvlm': SmolVLMProcessor, 'idefics3': Idefics3Processor}
    # Not made, as most cannot be without torchvision: only their text is asked for.
    write = processors[vlm.name].replace_image_token
    return [write(named, pixels, index) for index in range(FRAMES)]


#: Of the published Molmo2, as its processor_config.json has them.
MARKS = {'image_use_col_tokens': True, 'use_single_crop_col_tokens': False,
         'use_single_crop_start_token': True}
#: Its tokens of pictures, which see each other.
OF_PICTURES = ('<im_patch>', '<im_col>', '<im_start>', '<low_res_im_start>', '<im_end>')
#: What a chat template writes for a picture, where that is not a visual token.
WRITTEN = {'gemma3': '<start_of_image>', 'molmo2': '<|image|>'}


class StockTransformers:
    """The model with all pictures, as transformers run it."""

    def __init__(self, vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
        self._model = vlm.model
        self._vlm = vlm
        pixels = stock_pixels(vlm, pictures)
        content: list[Any] = []
        for caption in CAPTIONS:
            content += [{'type': 'text', 'text': caption}, {'type': 'image'}]
        content.append({'type': 'text', 'text': PROMPT.instruction})
        system = {'role': 'system', 'content': [{'type': 'text', 'text': PROMPT.system}]}
        text = str(vlm.tokenizer.apply_chat_template(
            [system, {'role': 'user', 'content': content}], tokenize=False,  # type: ignore
            add_generation_prompt=True))
        if vlm.name == 'molmo2':
            # Its processor begins a prompt with the end token if there is no other for that.
            text = '<|im_end|>' + text
        first, *others = text.split(WRITTEN.get(vlm.name, KINDS[vlm.name].image))
        for placeholder, other in zip(stock_placeholders(vlm, pixels), others, strict=True):
            first += placeholder + other
        encoded = vlm.tokenizer(first, add_special_tokens=False, return_tensors='pt')
        for unused in ('rows', 'cols', 'num_patches', 'num_crops'):
            pixels.pop(unused, None)
        self.ids = encoded['input_ids']
        self.inputs = {'input_ids': self.ids, 'attention_mask': encoded['attention_mask'],
                       **pixels}
        if vlm.name in THREE_D:
            self.inputs['mm_token_type_ids'] = (self.ids == vlm.model.config.image_token_id).int()
        if vlm.name == 'gemma3':
            self.inputs['token_type_ids'] = (self.ids == vlm.model.config.image_token_id).long()
        if vlm.name == 'molmo2':
            ids: Any = vlm.tokenizer.convert_tokens_to_ids(list(OF_PICTURES))
            self.inputs['mm_token_type_ids'] = torch.isin(self.ids, torch.tensor(ids)).long()

    @torch.inference_mode()
    def generate(self, tokens: int) -> tuple[list[int], Tensor]:
        """Return tokens, and the logits [tokens, V] of each."""
        notes = Notes()
        output = self._model.generate(**self.inputs, max_new_tokens=tokens, do_sample=False,
                                      logits_processor=LogitsProcessorList([notes]), **LIVELY)
        return output[0, self.ids.shape[1]:].tolist(), torch.stack(notes.logits)

    @torch.inference_mode()
    def logits(self, dropped: Tensor) -> Tensor:
        """
        Return all logits [S, V] without the dropped prompt tokens.

        Masked as keys; or, where that is not what is claimed, left out of the sequence.
        """
        if self._vlm.name in SHORTENED:
            found = torch.zeros(self.ids.shape[1], self._model.config.get_text_config().vocab_size)
            found[~dropped] = self.shortened(dropped)
            return found
        length = self.ids.shape[1]
        inputs = dict(self.inputs)
        inputs['position_ids'] = self.positions()
        seen = torch.ones(length, length).tril().bool()
        if self._vlm.name == 'molmo2':
            pictures = self.inputs['mm_token_type_ids'][0].bool()
            seen |= pictures[:, None] & pictures
        seen[:, dropped] = False
        mask = torch.zeros(length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
        inputs['attention_mask'] = mask[None, None]
        return self._model(**inputs, use_cache=False).logits[0]


    def positions(self) -> Tensor:
        """Return the positions [..., 1, S] of the whole prompt."""
        if 'image_grid_thw' not in self.inputs:
            return torch.arange(self.ids.shape[1])[None]
        positions, _ = self._model.model.get_rope_index(
            self.ids, mm_token_type_ids=self.inputs['mm_token_type_ids'],
            image_grid_thw=self.inputs['image_grid_thw'])
        return torch.as_tensor(positions)

    @torch.inference_mode()
    def shortened(self, dropped: Tensor, written: Sequence[int] = ()) -> Tensor:
        """
        Return the logits [S' + W, V] of the model that is fed embeddings of the shorter sequence.

        Neither prepared features nor a cache have a part in it: what the vision encoder made of
        whole pictures is put between embedded texts, and what is dropped is cut out.
        """
        is_image = self.ids == self._model.config.image_token_id
        embedded = self._model.get_input_embeddings()(self.ids.masked_fill(is_image, 0))
        pixels = [self.inputs[name] for name in ('pixel_values', 'image_grid_thw')
                  if name in self.inputs]
        features = self._model.model.get_image_features(*pixels, return_dict=True).pooler_output
        embedded[is_image] = torch.cat(list(features))
        told = torch.cat([is_image[:, ~dropped], torch.zeros(1, len(written)).bool()], dim=1)
        later = self._model.get_input_embeddings()(torch.tensor([written], dtype=torch.int64))
        positions = self.positions()[..., ~dropped]
        ahead = positions[..., -1:] + torch.arange(1, len(written) + 1)
        options = {'token_type_ids': told.long()} if self._vlm.name == 'gemma3' else {}
        embeds = torch.cat([embedded[:, ~dropped], later], dim=1)
        return self._model(
            inputs_embeds=embeds, position_ids=torch.cat([positions, ahead], dim=-1),
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64), use_cache=False,
            **options).logits[0]


class Notes(LogitsProcessor):
    """Notes the logits of every token that is written."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logits.append(scores[0].clone())
        return scores


@pytest.fixture(scope='module')
def stock(vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> StockTransformers:
    return StockTransformers(vlm, pictures)


KEEPS = ('random 1', 'random 2', 'random 3', 'one frame empty', 'B = N', 'B < N', 'all', 'none')


def keep_list(kind: str, prepared: Prepared) -> NDArray[np.int32]:
    """Return a keep list over FRAMES frames."""
    total = len(prepared.layout.visual_slots)
    frame = total // FRAMES
    every = np.arange(total)
    random = np.random.default_rng(sum(map(ord, kind)))
    chosen = {
        'one frame empty': random.permutation(every[every // frame != 1])[:total // 2],
        'B = N': every[every // frame == 2],
        'B < N': random.permutation(every[every // frame == 3])[:frame // 2],
        'all': every,
        'none': every[:0],
    }.get(kind, random.permutation(every)[:random.integers(1, total)])
    return np.sort(chosen).astype(np.int32)


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference of logits, as a part of the largest logit."""
    assert found.shape == expected.shape
    # Tokens that may not be written again are minus infinity in both.
    finite = expected.isfinite()
    assert torch.equal(found.isfinite(), finite)
    return float((found[finite] - expected[finite]).abs().max() / expected[finite].abs().max())


def not_kept(prepared: Prepared, keep: NDArray[np.int32]) -> Tensor:
    """Return which prompt tokens a keep list drops [S]."""
    dropped = torch.zeros(len(prepared.layout.input_ids), dtype=torch.bool)
    dropped[prepared.layout.visual_slots] = True
    dropped[prepared.layout.visual_slots[torch.from_numpy(keep).long()]] = False
    return dropped


# Exactness


def test_keeping_all_is_what_transformers_do_bit_by_bit(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers,
        monkeypatch: pytest.MonkeyPatch) -> None:
    # A pass that is written out rounds otherwise; test_decode_step compares it.
    monkeypatch.setattr(DecodeStep, 'of', lambda model: None)
    assert torch.equal(prepared.layout.input_ids, stock.ids[0])
    notes = Notes()
    found = vlm.generate(prepared, max_new_tokens=12,
                         logits_processor=LogitsProcessorList([notes]), **LIVELY)
    tokens, logits = stock.generate(12)
    assert list(found.token_ids) == tokens
    assert len(set(tokens)) == 12
    assert torch.equal(torch.stack(notes.logits), logits)
    assert found.prompt_tokens == stock.ids.shape[1]
    assert found.visual_tokens == len(prepared.layout.visual_slots)


@pytest.mark.parametrize('kind', KEEPS)
def test_pruning_is_masking_or_a_shorter_sequence(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers, kind: str) -> None:
    keep = keep_list(kind, prepared)
    dropped = not_kept(prepared, keep)
    assert int(dropped.sum()) == len(prepared.layout.visual_slots) - len(keep)
    assert difference(vlm.logits(prepared, keep), stock.logits(dropped)[~dropped]) < EXACT


@pytest.mark.parametrize('vlm', names(*SHORTENED), indirect=True)
@pytest.mark.parametrize('kind', ['random 1', 'B < N', 'none'])
def test_a_shorter_sequence_is_answered_token_by_token_as_by_transformers(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers, kind: str) -> None:
    keep = keep_list(kind, prepared)
    notes = Notes()
    found = vlm.generate(prepared, keep, 8, **LIVELY,
                         logits_processor=LogitsProcessorList([notes]))
    written: list[int] = []
    for token, logits in zip(found.token_ids, notes.logits, strict=True):
        expected = stock.shortened(not_kept(prepared, keep), written)[-1].clone()
        # No token is written twice.
        expected[[*stock.ids[0, ~not_kept(prepared, keep)].tolist(), *written]] = -torch.inf
        assert token == int(expected.argmax())
        assert difference(logits, expected) < EXACT
        written.append(token)


@pytest.mark.parametrize('name', names())
def test_what_pruning_means_is_said(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    vlm = load(name, tmp_path_factory)
    assert vlm.info['pruning'] == vlm.pruning == (
        'shortened' if name in SHORTENED else 'exact')


def test_the_proof_notices_positions_without_gaps(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers) -> None:
    keep = keep_list('random 1', prepared)
    dropped = not_kept(prepared, keep)
    positions = torch.zeros_like(prepared.layout.position_ids)
    positions[:, ~dropped] = torch.arange(int((~dropped).sum()))
    wrong = replace(prepared, layout=replace(prepared.layout, position_ids=positions))
    assert difference(vlm.logits(wrong, keep), stock.logits(dropped)[~dropped]) > 100 * EXACT


def test_the_proof_notices_features_of_other_cells(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers) -> None:
    keep = keep_list('random 1', prepared)
    dropped = not_kept(prepared, keep)
    expected = stock.logits(dropped)[~dropped]
    shifted = replace(prepared, tokens=prepared.tokens.roll(1, 0))
    assert difference(vlm.logits(shifted, keep), expected) > 100 * EXACT
    assert len(prepared.deepstack) == (2 if vlm.name == 'qwen3_vl' else 0)
    if prepared.deepstack:
        without = replace(prepared, deepstack=tuple(
            torch.zeros_like(level) for level in prepared.deepstack))
        assert difference(vlm.logits(without, keep), expected) > 100 * EXACT


@pytest.mark.parametrize('vlm', ['llava_onevision'], indirect=True)
def test_the_proof_notices_a_dropped_newline(
        vlm: Vlm, prepared: Prepared, stock: StockTransformers) -> None:
    keep = keep_list('random 1', prepared)
    dropped = not_kept(prepared, keep)
    layout = prepared.layout
    pinned = layout.image_slots[~torch.isin(layout.image_slots, layout.visual_slots)]
    assert len(pinned) == FRAMES
    without = replace(prepared, layout=replace(
        layout, visual_slots=torch.cat([layout.visual_slots, pinned])))
    others = ~dropped
    others[pinned] = False
    found = vlm.logits(without, keep)
    assert len(found) == int(others.sum())
    assert difference(found, stock.logits(dropped)[others]) > 100 * EXACT


def test_marks_of_the_model_are_never_dropped(vlm: Vlm, prepared: Prepared) -> None:
    none = np.array([], np.int32)
    ids = vlm.batch([prepared], [none])['input_ids'][0]
    left = vlm.tokenizer.convert_ids_to_tokens(ids.tolist())
    marks = {
        'cosmos3_edge': ['<|vision_start|>', '<|vision_end|>'], 'fast_vlm': [],
        'gemma3': ['<start_of_image>', '<end_of_image>'],
        'qwen3_5': ['<|vision_start|>', '<|vision_end|>'],
        'internvl': ['<img>', '</img>'], 'llava_onevision': ['<image>'],
        'smolvlm': ['<fake_token_around_image>', '<global-img>', '<fake_token_around_image>'],
        'idefics3': ['<fake_token_around_image>'] * 2,
        # Of the picture as a whole all tokens; of it in detail the end of each row, too.
        'molmo2': ['<low_res_im_start>', *['<im_patch>'] * SIDE ** 2, '<im_end>', '<im_start>',
                   *['<im_col>'] * vlm.token_grid(90, 150)[0], '<im_end>'],
        'qwen2_vl': ['<|vision_start|>', '<|vision_end|>'],
        'qwen2_5_vl': ['<|vision_start|>', '<|vision_end|>'],
        'qwen3_vl': ['<|vision_start|>', '<|vision_end|>']}[vlm.name]
    assert [token for token in left if token in marks] == marks * FRAMES
    text = vlm.tokenizer.decode(ids)
    for part in (PROMPT.system, *CAPTIONS, PROMPT.instruction):
        assert part in text
    generation = vlm.generate(prepared, none, 2)
    assert (generation.visual_tokens, generation.prompt_tokens) == (0, len(ids))


def test_a_frame_is_encoded_alone_as_among_others(
        vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
    with torch.inference_mode():
        together = vlm.encode_batch(vlm.preprocess(pictures))
    for picture, frame in zip(pictures, together, strict=True):
        alone = vlm.encode(picture)
        assert alone.grid == frame.grid == vlm.token_grid(*picture.shape[:2])
        assert len(alone.tokens) == alone.grid[0] * alone.grid[1]
        assert difference(alone.rows, frame.rows) < EXACT


# Batches, training, prefixes


@pytest.fixture
def two(vlm: Vlm, prepared: Prepared, pictures: list[NDArray[np.uint8]]
        ) -> tuple[list[Prepared], list[NDArray[np.int32] | None]]:
    """Return windows of different length and question, the shorter one first."""
    short = vlm.prepare([vlm.encode(picture) for picture in pictures[:2]], CAPTIONS[:2], OTHER)
    return [short, prepared], [None, keep_list('random 2', prepared)]


def test_a_batch_writes_what_single_prompts_write(
        vlm: Vlm, two: tuple[list[Prepared], list[NDArray[np.int32] | None]]) -> None:
    windows, keeps = two
    together = vlm.generate_batch(windows, keeps, 8, **LIVELY)
    with torch.inference_mode():
        logits = vlm.model(**vlm.batch(windows, keeps)).logits
    for window, keep, found, row in zip(windows, keeps, together, logits, strict=True):
        alone = vlm.generate(window, keep, 8, **LIVELY)
        assert (found.token_ids, found.prompt_tokens, found.visual_tokens) == (
            alone.token_ids, alone.prompt_tokens, alone.visual_tokens)
        expected = vlm.logits(window, keep)
        assert difference(row[-len(expected):], expected) < EXACT


def test_training_sees_what_generation_sees(
        vlm: Vlm, two: tuple[list[Prepared], list[NDArray[np.int32] | None]]) -> None:
    windows, keeps = two
    with torch.inference_mode():
        output = vlm.model(**vlm.batch(windows, keeps, [ANSWER, 'No.']), use_cache=False)
    assert float(output.loss) > 0.0
    for window, keep, row in zip(windows, keeps, output.logits, strict=True):
        expected = vlm.logits(window, keep)
        assert difference(row[:len(expected)], expected) < EXACT


def test_two_questions_on_one_prefix_are_two_fresh_runs(
        vlm: Vlm, prepared: Prepared, pictures: list[NDArray[np.uint8]]) -> None:
    features = [vlm.encode(picture) for picture in pictures]
    asked = [vlm.prepare(features, CAPTIONS, prompt) for prompt in (PROMPT, OTHER)]
    for kind in ('random 3', 'none'):
        keep = keep_list(kind, prepared)
        prefix = vlm.prefix(asked[0], keep)
        for window in (*asked, asked[0]):
            fresh, after = Notes(), Notes()
            expected = vlm.generate(window, keep, 8, **LIVELY,
                                    logits_processor=LogitsProcessorList([fresh]))
            found = vlm.generate(window, keep, 8, prefix=prefix, **LIVELY,
                                 logits_processor=LogitsProcessorList([after]))
            assert (found.token_ids, found.prompt_tokens, found.visual_tokens) == (
                expected.token_ids, expected.prompt_tokens, expected.visual_tokens)
            assert difference(torch.stack(after.logits), torch.stack(fresh.logits)) < EXACT


@pytest.mark.parametrize('vlm', names(*sorted({*FAMILIES} - {'molmo2'})), indirect=True)
def test_pictures_that_are_laid_out_one_by_one_are_those_of_the_whole_prompt(
        vlm: Vlm, prepared: Prepared, pictures: list[NDArray[np.uint8]]) -> None:
    features = [vlm.encode(picture) for picture in pictures]
    cells = len(features[0].tokens)
    held = [Picture(frame, np.arange(index, cells, index + 2, dtype=np.int32))
            for index, frame in enumerate(features)]
    reader = PrefixReader(vlm)
    for count in range(1, FRAMES + 1):
        texts = vlm.texts(CAPTIONS[:count], PROMPT)
        prefix = reader.read_on(reader.part(texts[:-1], held[:count]))
    assert reader.counters['began'] == 1
    keep = np.concatenate([picture.keep + cells * index for index, picture in enumerate(held)])
    for prompt in (OTHER, PROMPT):
        whole = vlm.prepare(features, CAPTIONS, prompt)
        end = reader.end(vlm.texts(CAPTIONS, prompt)[-1:])
        question = Question(prefix, keep, end, partial(vlm.prepare, features, CAPTIONS, prompt))
        pruned = whole.prune(keep)
        rest = question.after(prefix, keep)
        assert torch.equal(rest.input_ids, pruned.input_ids)
        assert torch.equal(rest.position_ids, pruned.position_ids)
        assert not len(rest.tokens)
        assert torch.equal(torch.cat(prefix.read.tokens), pruned.tokens)
        fresh, after = Notes(), Notes()
        expected = vlm.generate(whole, keep, 6, logits_processor=LogitsProcessorList([fresh]))
        found = vlm.generate(question, keep, 6, prefix=prefix,
                             logits_processor=LogitsProcessorList([after]))
        assert found == replace(expected, latency_ms=found.latency_ms)
        assert difference(torch.stack(after.logits), torch.stack(fresh.logits)) < EXACT
    for kept in (keep[1:], None):
        with pytest.raises(VlmError, match='does not begin with what was read before'):
            vlm.generate(question, kept, 2, prefix=prefix)


@pytest.mark.parametrize('vlm', ['molmo2'], indirect=True)
def test_pictures_that_see_later_ones_are_read_again_when_another_follows(
        vlm: Vlm, pictures: list[NDArray[np.uint8]]) -> None:
    """What was read of two pictures is where the prompt of four begins, and still of no use."""
    features = [vlm.encode(picture) for picture in pictures]
    begun = vlm.prefix(vlm.prepare(features[:2], CAPTIONS[:2], PROMPT))
    prepared = vlm.prepare(features, CAPTIONS, PROMPT)
    assert begun.begins(prepared.prune(None))
    prefix = vlm.prefix(prepared, None, begun)
    assert begun.cache is not prefix.cache
    assert vlm.prefix(prepared, None, prefix) is prefix
    fresh, after = Notes(), Notes()
    vlm.generate(prepared, None, 4, logits_processor=LogitsProcessorList([fresh]))
    vlm.generate(prepared, None, 4, prefix=prefix, drafts=Drafts(),
                 logits_processor=LogitsProcessorList([after]))
    assert difference(torch.stack(after.logits), torch.stack(fresh.logits)) < EXACT
    # The proof notices pictures that see earlier ones only.
    inputs = vlm.batch([prepared], [None])
    del inputs['mm_token_type_ids']
    with torch.inference_mode():
        causal = vlm.model(**inputs, use_cache=False).logits[0]
    assert difference(causal, vlm.logits(prepared)) > 100 * EXACT


#: Families whose chat templates place all pictures before all texts.
PICTURES_FIRST = [name for name, kind in KINDS.items()
                  if kind.template in (vlm_maker.PICTURES_FIRST, vlm_maker.MOLMO)]
FIRST = Prompt('You watch the road.', '', before='What is the risk here?')


@pytest.mark.parametrize('vlm', names(*sorted({*FAMILIES} - {*PICTURES_FIRST})), indirect=True)
def test_a_text_before_the_pictures_is_read_once_for_all_windows(
        vlm: Vlm, prepared: Prepared, pictures: list[NDArray[np.uint8]]) -> None:
    try:
        check_instructions_first(vlm.model.config.model_type)
    except VlmError as error:
        pytest.skip(str(error))
    features = [vlm.encode(picture) for picture in pictures]
    reader = PrefixReader(vlm)
    lengths = []
    for number, first in enumerate(('-1.2s', '-1.3s', '-1.2s', '-2.0s')):
        window = vlm.prepare(features[number:] + features[:number], [first, *CAPTIONS[1:]], FIRST)
        keep = keep_list('none' if number == 3 else f'random {number + 1}', prepared)
        prefix = reader.opening(window)
        lengths.append(prefix.length)
        assert FIRST.before in vlm.tokenizer.decode(prefix.read.input_ids)
        fresh = Notes()
        expected = vlm.generate(window, keep, 8, **LIVELY,
                                logits_processor=LogitsProcessorList([fresh]))
        # An answer leaves nothing behind: the second is as the first.
        for _ in range(2):
            after = Notes()
            found = vlm.generate(window, keep, 8, prefix=prefix, **LIVELY,
                                 logits_processor=LogitsProcessorList([after]))
            assert found == replace(expected, latency_ms=found.latency_ms)
            assert difference(torch.stack(after.logits), torch.stack(fresh.logits)) < EXACT
        # A question about this window has its pictures read, too; the next window none of it.
        asked = vlm.prepare(features[number:] + features[:number], [first, *CAPTIONS[1:]],
                            replace(FIRST, instruction=OTHER.instruction))
        whole = reader.read(asked, keep)
        assert vlm.generate(asked, keep, 6, prefix=whole).token_ids == vlm.generate(
            asked, keep, 6).token_ids
    # The caption of the first picture is not held for long.
    assert lengths[0] > lengths[1] >= lengths[3]
    if vlm.name not in SHORTENED and vlm.name != 'gemma3':
        assert reader.counters['began'] == 1
    # The proof notices another text at the same place.
    other = vlm.prepare(features, CAPTIONS, replace(FIRST, before='What is the time now ?'))
    with pytest.raises(VlmError, match='does not begin with what was read before'):
        vlm.generate(other, None, 2, prefix=reader.opening(window))


@pytest.mark.parametrize('name', names(*PICTURES_FIRST))
def test_a_template_that_places_pictures_before_texts_has_no_instructions_first(
        name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    load(name, tmp_path_factory)
    with pytest.raises(VlmError, match=r'places all pictures before the texts: set vlm\.instr'):
        Pipeline.load(PipelineConfig(model=str(DIRECTORIES[name]), instructions='first'))


@pytest.mark.parametrize('vlm', names(*SHORTENED), indirect=True)
def test_a_pass_that_fails_leaves_the_state_as_it_was(
        vlm: Vlm, prepared: Prepared, pictures: list[NDArray[np.uint8]],
        monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [Picture(frame, np.arange(len(frame.tokens), dtype=np.int32))
             for frame in (vlm.encode(picture) for picture in pictures)]
    texts = vlm.texts(CAPTIONS, PROMPT)[:-1]
    reader = PrefixReader(vlm)
    reader.read_on(reader.part(texts[:2], whole[:2]))
    with monkeypatch.context() as patch:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("can't allocate memory")
        # When all layers have taken in what is new.
        patch.setattr(vlm.model.lm_head, 'forward', fail)
        with pytest.raises(VlmError, match='out of memory'):
            reader.read_on(reader.part(texts, whole))
    prefix = reader.read_on(reader.part(texts, whole))
    assert reader.counters['began'] == 1
    fresh, after = Notes(), Notes()
    vlm.generate(prepared, None, 4, logits_processor=LogitsProcessorList([fresh]))
    vlm.generate(prepared, None, 4, prefix=prefix, logits_processor=LogitsProcessorList([after]))
    assert difference(torch.stack(after.logits), torch.stack(fresh.logits)) < EXACT


@pytest.mark.parametrize('vlm', names(*SHORTENED), indirect=True)
def test_where_guesses_cannot_be_taken_back_none_are_made(vlm: Vlm, prepared: Prepared) -> None:
    expected = vlm.generate(prepared, None, 6, **LIVELY)
    found = vlm.generate(prepared, None, 6, drafts=Drafts([expected.token_ids]), **LIVELY)
    assert (found.token_ids, found.drafted) == (expected.token_ids, 0)


def test_a_prefix_of_other_pictures_is_refused(vlm: Vlm, prepared: Prepared) -> None:
    keep = keep_list('random 3', prepared)
    prefix = vlm.prefix(prepared, keep)
    others = replace(prepared, tokens=prepared.tokens.roll(1, 0))
    for window, kept in ((others, keep), (prepared, keep[1:]), (prepared, None)):
        with pytest.raises(VlmError, match='does not begin with what was read before'):
            vlm.generate(window, kept, 2, prefix=prefix)


@pytest.mark.parametrize('name', names())
def test_half_precision_runs(name: str, tmp_path_factory: pytest.TempPathFactory,
                             pictures: list[NDArray[np.uint8]]) -> None:
    vlm = load(name, tmp_path_factory, 'bfloat16')
    features = [vlm.encode(picture) for picture in pictures]
    assert {frame.rows.dtype for frame in features} == {torch.bfloat16}
    prepared = vlm.prepare(features, CAPTIONS, PROMPT)
    keep = keep_list('random 1', prepared)
    assert len(vlm.generate(prepared, keep, 3, **LIVELY).token_ids) == 3


# The grid of a frame


@pytest.mark.parametrize('size', [(90, 150), (64, 64), (300, 40)])
def test_one_tile_holds_the_whole_frame(tiled: Vlm, size: tuple[int, int]) -> None:
    """A bright cell of the picture is a bright cell of what the vision encoder sees."""
    assert tiled.token_grid(*size) == (SIDE, SIDE)
    picture = np.zeros((*size, 3), np.uint8)
    height, width = size
    picture[height // 2:3 * height // 4, :width // 4] = 255
    seen = tiled.preprocess([picture])['pixel_values'].flatten(0, -4)[0].mean(0)
    side = seen.shape[0] // SIDE
    cells = seen[:side * SIDE, :side * SIDE].unflatten(0, (SIDE, -1)).unflatten(2, (SIDE, -1))
    assert int(cells.mean((1, 3)).argmax()) == 2 * SIDE


def test_a_picture_that_the_model_takes_for_padding_is_refused(tmp_path: Path) -> None:
    for name in ('smolvlm', 'idefics3'):
        directory = make(name, tmp_path / name)
        path = directory / 'preprocessor_config.json'
        settings = {**json.loads(path.read_text(encoding='utf-8')), 'do_normalize': False}
        path.write_text(json.dumps(settings), encoding='utf-8')
        with pytest.raises(VlmError, match='a picture is blank'):
            Vlm.load(directory).encode(np.zeros((90, 150, 3), np.uint8))


def test_an_image_processor_of_another_size_is_refused(tmp_path: Path) -> None:
    directory = make('internvl', tmp_path / 'model')
    GotOcr2ImageProcessorPil(size={'height': 64, 'width': 96}).save_pretrained(directory)
    with pytest.raises(VlmError, match='makes pictures of 96x64 px, the model needs 64x64'):
        Vlm.load(directory).token_grid(90, 150)


# What is refused


@pytest.mark.parametrize('name', ONE_TILE)
def test_a_template_that_leaves_a_text_out_is_refused(name: str, tmp_path: Path) -> None:
    directory = make(name, tmp_path / 'model')
    path = directory / 'chat_template.jinja'
    template = path.read_text(encoding='utf-8')
    path.write_text(template.replace('{% for message in messages %}',
                                     '{% for message in messages[1:] %}')
                    .replace(' + first }}', ' }}'), encoding='utf-8')
    with pytest.raises(VlmError, match="leaves out 'You watch the road"):
        Vlm.load(directory).layout([(SIDE, SIDE)], ['0.0s'], PROMPT)
    path.write_text('{{ nothing.here }}', encoding='utf-8')
    with pytest.raises(VlmError, match=r'^the chat template of model fails: '):
        Vlm.load(directory).layout([(SIDE, SIDE)], ['0.0s'], PROMPT)


def test_every_family_is_tested_and_an_unknown_one_told_which_there_are(tmp_path: Path) -> None:
    assert set(KINDS) == set(FAMILIES)
    directory = make('internvl', tmp_path / 'model')
    path = directory / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    path.write_text(json.dumps({**config, 'model_type': 'fuyu'}), encoding='utf-8')
    with pytest.raises(VlmError, match='is a fuyu model; supported are: ') as caught:
        Vlm.load(directory)
    assert all(name in str(caught.value) for name in FAMILIES)


SMALL: dict[str, Any] = {'hidden_size': 48, 'num_hidden_layers': 4, 'vocab_size': 300}


@pytest.mark.parametrize(('text', 'reason'), [
    (Qwen3NextConfig(**SMALL), 'its text model qwen3_next has layers of linear_attention'),
    (Mamba2Config(), 'its text model mamba2 '),
    (Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=1),
     'its text model qwen2 has layers of sliding_attention'),
    (MistralConfig(**SMALL, sliding_window=16),
     'its text model mistral has layers of sliding_attention'),
    (GPT2Config(vocab_size=300), 'its text model gpt2 has no rotary positions'),
    (Qwen2Config(**SMALL), None),
    (MistralConfig(**SMALL, sliding_window=None), None),
])
def test_text_models_in_which_dropping_is_not_masking(text: Any, reason: str | None) -> None:
    config = InternVLConfig(text_config=text)
    found = why_inexact(config)
    assert found is None if reason is None else str(found).startswith(reason)
    assert pruning_of(config) == ('exact' if reason is None else 'shortened')
    refused = f'its text model {text.model_type} has no rotary positions'
    assert why_not(config) == (refused if text.model_type in ('gpt2', 'mamba2') else None)


def test_a_checkpoint_that_cannot_be_pruned_is_refused_in_one_line(tmp_path: Path) -> None:
    directory = make('internvl', tmp_path / 'model')
    path = directory / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    config['text_config'] = GPT2Config(vocab_size=300).to_dict()
    path.write_text(json.dumps(config), encoding='utf-8')
    with pytest.raises(VlmError) as caught:
        Vlm.load(directory)
    assert str(caught.value) == (f'{directory} cannot be pruned: its text model gpt2 has no '
                                 'rotary positions')


def test_a_family_that_is_known_and_cannot_be_had_is_refused_by_name(tmp_path: Path) -> None:
    directory = make('internvl', tmp_path / 'model')
    path = directory / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    for name, reason in REFUSED.items():
        assert name not in FAMILIES
        path.write_text(json.dumps({**config, 'model_type': name}), encoding='utf-8')
        with pytest.raises(VlmError, match=f'is a {name} model, which is not supported: '
                                           f'{reason}'):
            Vlm.load(directory)


def test_of_one_family_both_kinds_are_told_apart(tmp_path: Path) -> None:
    """InternVL3.5 has the text model of Qwen3; a window of attention changes what is claimed."""
    for text, expected in (({'model_type': 'qwen3'}, 'exact'),
                           ({'use_sliding_window': True, 'sliding_window': 16,
                             'max_window_layers': 1}, 'shortened')):
        vlm = Vlm.load(make('internvl', tmp_path / expected, **text), device='cpu')
        assert vlm.pruning == expected


def test_windows_of_attention_really_are_inexact(
        tmp_path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    """Why they are called otherwise: after pruning, a window reaches further back than before."""
    directory = make('internvl', tmp_path / 'internvl', use_sliding_window=True,
                     sliding_window=16, max_window_layers=1)
    vlm = Vlm.load(directory, device='cpu')
    prepared = vlm.prepare([vlm.encode(picture) for picture in pictures], CAPTIONS, PROMPT)
    keep = keep_list('random 1', prepared)
    dropped = not_kept(prepared, keep)
    length = len(prepared.layout.input_ids)
    near = torch.ones(length, length).tril().triu(-15).bool()
    near[:, dropped] = False
    # A masked row keeps itself, or there would be nothing to attend to; such rows do not count.
    near |= torch.eye(length).bool()
    every = torch.ones(length, length).tril().bool()
    every[:, dropped] = False
    every |= torch.eye(length).bool()
    masks = {name: torch.zeros(length, length).masked_fill(
        ~seen, torch.finfo(torch.float32).min)[None, None]
        for name, seen in (('full_attention', every), ('sliding_attention', near))}
    inputs = vlm.batch([prepared], [None])
    with torch.inference_mode():
        expected = vlm.model(**{**inputs, 'attention_mask': masks}, use_cache=False).logits[0]
    assert difference(vlm.logits(prepared, keep), expected[~dropped]) > 100 * EXACT


# Versions


def test_setup_asks_for_the_version_that_is_checked() -> None:
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    assert f"'transformers>={MINIMUM_TRANSFORMERS}'," in setup
    check_transformers()
    with pytest.raises(VlmError, match=r'^vts_ros needs transformers 999 or newer, [\d.]+ is '):
        check_transformers('999')


def test_a_family_that_came_later_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make('idefics3', tmp_path / 'model')
    monkeypatch.setitem(LATER, 'idefics3', '999')
    with pytest.raises(VlmError, match=r'^a idefics3 model needs transformers 999 or newer'):
        Vlm.load(directory)


def test_instructions_first_need_transformers_that_read_on_as_they_should(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make('gemma3', tmp_path / 'model')
    monkeypatch.setitem(READ_ON, 'gemma3', '999')
    Pipeline.load(PipelineConfig(model=str(directory), threads=1))
    with pytest.raises(VlmError, match=r'^a gemma3 model with vlm\.instructions first needs '
                                       r'transformers 999 or newer'):
        Pipeline.load(PipelineConfig(model=str(directory), threads=1, instructions='first'))
