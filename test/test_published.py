# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Published sizes of every family, without their weights: a window of 1280x720 pictures.

Prompt, token counts, positions, pruned inputs and keys and values are those of the processors and
models of transformers. Networks are on the meta device.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from published import PUBLISHED, table
import pytest
import torch
from torch import Tensor
from transformers.image_utils import SizeDict
from transformers.models.cosmos3_edge.processing_cosmos3_edge import Cosmos3EdgeProcessor
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor
from transformers.models.molmo2.processing_molmo2 import Molmo2Processor
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
from vlm_maker import names, THREE_D

from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.cost import window_cost
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import FrameFeatures, Prepared, Vlm
from vts_ros.vlm.conventions import CONVENTIONS
from vts_ros.vlm.families import FAMILIES, VIDEO_FAMILIES
from vts_ros.vlm.kv_cache import bytes_of
from vts_ros.vlm.loading import load_blueprint
from vts_ros.vlm.prompts import Prompt, Prompts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 5
KEEP_RATIO = 0.6
#: Visual tokens of a 1280x720 picture, and of one with 256 at most; parameters; keys and values
#: of a token in bfloat16.
KNOWN = {
    'qwen2_vl': (1196, 252, 2_208_985_600, 28_672),
    'qwen2_5_vl': (1196, 252, 8_292_166_656, 57_344),
    'qwen3_vl': (880, 252, 4_437_815_808, 147_456),
    'internvl': (256, 256, 2_088_957_440, 28_672),
    'internvl3_5': (256, 256, 2_348_347_392, 114_688),
    'gemma3': (256, 256, 4_300_079_472, 139_264),
    'qwen3_5': (880, 252, 9_409_813_744, 32_768),
    'cosmos3_edge': (880, 252, 2_435_616_496, 114_688),
    'llava_onevision': (729, 729, 8_030_807_584, 57_344),
    'smolvlm': (81, 81, 2_246_784_880, 196_608),
    'molmo2': (966, 196, 4_850_869_200, 147_456),
    'idefics3': (169, 169, 8_462_086_384, 131_072),
}
#: Some layers of these keep a window of the text or a state; with all others every token takes the
#: same.
GROWING_UNEVENLY = ('gemma3', 'qwen3_5')
PROCESSORS: dict[str, Any] = {
    'qwen2_vl': Qwen2VLProcessor, 'qwen2_5_vl': Qwen2_5_VLProcessor, 'qwen3_vl': Qwen3VLProcessor,
    'internvl': InternVLProcessor, 'internvl3_5': InternVLProcessor,
    'qwen3_5': Qwen3VLProcessor, 'cosmos3_edge': Cosmos3EdgeProcessor,
    'llava_onevision': LlavaOnevisionProcessor,
    'molmo2': Molmo2Processor, 'smolvlm': SmolVLMProcessor, 'idefics3': Idefics3Processor}
#: How people write a picture in a message.
PICTURE_FORMS: dict[str, dict[str, Any]] = {
    'type alone': {'type': 'image'},
    'a file': {'type': 'image', 'image': 'front.jpg'},
    'a path': {'type': 'image', 'path': 'front.jpg'},
    'a URL': {'type': 'image', 'url': 'https://example.org/front.jpg'},
    'as servers take it': {'type': 'image_url', 'image_url': {'url': 'data:'}},
    'no type': {'image': 'front.jpg'},
}


def forms(name: str) -> list[str]:
    """Return the forms that the template of a family knows."""
    return [form for form in PICTURE_FORMS if name in THREE_D or form not in (
        'as servers take it', 'no type')]


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    """Return a drive: a road of noise, on which something moves."""
    road = np.random.default_rng(0).integers(90, 110, (720, 1280, 3), np.uint8)
    drive = []
    for index in range(FRAMES):
        picture = road.copy()
        picture[400:520, 200 + 120 * index:320 + 120 * index] = (200, 30, 30)
        drive.append(Frame('front', 400_000_000 * index, picture))
    return drive


@pytest.fixture(scope='module')
def proposals(frames: list[Frame]) -> tuple[Sparsifier, list[Any]]:
    sparsifier = Sparsifier()
    return sparsifier, [sparsifier.propose(frame.rgb()) for frame in frames]


@pytest.fixture(scope='module', params=names(*PUBLISHED))
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
          ) -> tuple[str, Any]:
    name: str = request.param
    path = PUBLISHED[name].save(tmp_path_factory.mktemp('published') / name)
    return name, load_blueprint(path, device='cpu', dtype='bfloat16')


def stock_pixels(name: str, images: Any, frames: list[Frame], most: int) -> Any:
    """Return pictures as the image processor makes them when told to leave them whole."""
    pictures = [frame.rgb() for frame in frames]
    options: dict[str, Any] = {'return_tensors': 'pt'}
    if name in THREE_D and most:
        # What a user of transformers sets: pixels, by the side of a token.
        pixels = most * (images.patch_size * images.merge_size) ** 2
        options['size'] = {'shortest_edge': min(pixels, images.size['shortest_edge']),
                           'longest_edge': pixels}
    if name.startswith('internvl'):
        options['crop_to_patches'] = False
    if name == 'llava_onevision':
        # Square already, so there is nothing to pad; a list of lists is one prompt of several.
        side = SizeDict(height=384, width=384)
        squares = [images.resize(picture.transpose(2, 0, 1), side, resample=images.resample)
                   for picture in pictures]
        return images(images=[squares], input_data_format='channels_first', **options)
    if name == 'molmo2':
        # One crop is all that so few tokens allow.
        options['max_crops'] = 1 if most else 8
        return Molmo2ImageProcessor.__call__(images, pictures, **options)
    if name in ('smolvlm', 'idefics3'):
        return images(images=[pictures], return_row_col_info=True, do_image_splitting=False,
                      **options)
    return images(images=pictures, **options)


def stock_placeholders(name: str, tokenizer: Any, images: Any, pixels: Any) -> list[str]:
    """Return what the processor of the family writes for each picture."""
    published = PUBLISHED[name]
    named = SimpleNamespace(
        image_processor=images, image_token=tokenizer.convert_ids_to_tokens(next(
            published.config[key] for key in ('image_token_id', 'image_token_index',
                                              'image_patch_id') if key in published.config)),
        # As processor_config.json says of the published ones.
        image_seq_length=256, image_seq_len={'smolvlm': 81, 'idefics3': 169}.get(name),
        num_image_tokens=729, vision_feature_select_strategy='full',
        start_image_token='<img>', end_image_token='</img>',
        fake_image_token='<fake_token_around_image>', global_image_token='<global-img>',
        global_image_tag='<global-img>', **published.processor)
    # Not made, as most cannot be without torchvision: only their text is asked for.
    if name == 'gemma3':
        # Its processor writes the same text for every picture, and makes it with itself.
        return FRAMES * ['\n\n<start_of_image>' + 256 * '<image_soft_token>'
                         + '<end_of_image>\n\n']
    write = PROCESSORS[name].replace_image_token
    return [write(named, pixels, index) for index in range(FRAMES)]


def stock_ids(name: str, parts: Any, frames: list[Frame], pixels: Any,
              picture: dict[str, Any], prompt: Prompt) -> Tensor:
    """Return the prompt as chat template, processor and tokenizer of the family make it."""
    content: list[dict[str, Any]] = []
    for caption in prompt.captions(frames):
        content += [{'type': 'text', 'text': caption}, picture]
    content.append({'type': 'text', 'text': prompt.instruction})
    messages = [{'role': 'user', 'content': content}]
    if prompt.system:
        system = [{'type': 'text', 'text': prompt.system}]
        messages.insert(0, {'role': 'system', 'content': system})
    text = parts.tokenizer.apply_chat_template(messages, tokenize=False,
                                               add_generation_prompt=True)
    placeholders = stock_placeholders(name, parts.tokenizer, parts.images, pixels)
    token = parts.tokenizer.convert_ids_to_tokens(parts.network.config.image_token_id)
    if name == 'molmo2':
        # Its processor begins a prompt with the end token if there is no other for that.
        text = '<|im_end|>' + text
    first, *others = text.split(
        {'gemma3': '<start_of_image>', 'molmo2': '<|image|>'}.get(name, token))
    first += ''.join(first + other for first, other in zip(placeholders, others, strict=True))
    ids: Tensor = parts.tokenizer(first, add_special_tokens=False, return_tensors='pt')[
        'input_ids'][0]
    return ids


def stock_positions(name: str, parts: Any, ids: Tensor, pixels: Any) -> Tensor:
    """Return the positions [3, S] or [1, S] that the model itself counts."""
    if name not in THREE_D:
        return torch.arange(len(ids))[None]
    visual = (ids == parts.network.config.image_token_id).int()
    positions, _ = parts.network.model.get_rope_index(
        ids[None], mm_token_type_ids=visual[None], image_grid_thw=pixels['image_grid_thw'])
    return torch.as_tensor(positions)[:, 0]


def features(name: str, vlm: Vlm) -> FrameFeatures:
    """Return what the vision encoder would say of a frame, without the numbers."""
    rows, columns = vlm.token_grid(720, 1280)
    width = vlm.model.config.get_text_config().hidden_size
    levels = len(getattr(vlm.model.config.vision_config, 'deepstack_visual_indexes', ()))

    def some(count: int) -> Tensor:
        return torch.empty(count, width, device='meta', dtype=torch.bfloat16)

    beside = {'whole' if name == 'molmo2' else 'pinned': some(vlm.pinned) if vlm.pinned else None}
    return FrameFeatures(some(rows * columns), tuple(some(rows * columns) for _ in range(levels)),
                         (rows, columns), **beside)


def test_every_family_is_here() -> None:
    assert set(PUBLISHED) == set(KNOWN)
    # FastViTHD is not made without timm, which needs torchvision.
    types = {checkpoint.config['model_type'] for checkpoint in PUBLISHED.values()}
    assert types == {*FAMILIES} - {'fast_vlm'}
    assert all(checkpoint.source for checkpoint in PUBLISHED.values())


@pytest.mark.parametrize('most', [0, 256])
def test_a_window_is_that_of_transformers(
        named: tuple[str, Any], most: int, frames: list[Frame],
        proposals: tuple[Sparsifier, list[Any]]) -> None:
    name, parts = named
    vlm = Vlm(name, parts.network, parts.tokenizer, parts.images, tokens_per_frame=most)
    whole, limited, parameters, kv_token_bytes = KNOWN[name]
    prompt = Prompts.load(convention=vlm.convention).description
    pixels = stock_pixels(name, parts.images, frames, most)

    frame = features(name, vlm)
    assert len(frame.tokens) == (limited if most else whole)
    prepared = vlm.prepare([frame] * FRAMES, prompt.captions(frames), prompt)
    layout = prepared.layout
    for form in forms(name):
        ids = stock_ids(name, parts, frames, pixels, PICTURE_FORMS[form], prompt)
        assert torch.equal(layout.input_ids, ids), form
    positions = stock_positions(name, parts, ids, pixels)
    assert torch.equal(layout.position_ids, positions)
    assert len(layout.visual_slots) == FRAMES * len(frame.tokens)

    sparsifier, seen = proposals
    keep = sparsifier.select(seen, frame.grid, KEEP_RATIO).keep
    check_pruned(vlm, prepared, keep, positions)
    told = window_cost(vlm, [(1280, 720)], PipelineConfig(
        tokens_per_frame=most, keep_ratio=KEEP_RATIO), FRAMES, 'cpu')
    assert (told.parameters, told.kv_token_bytes) == (parameters, kv_token_bytes)
    assert told.kept_tokens == len(keep)
    assert told.visual_tokens + told.text_tokens == len(ids)
    assert told.cameras[0].full_tokens == whole
    if name not in GROWING_UNEVENLY:
        assert told.kv_bytes == len(prepared.prune(keep).input_ids) * kv_token_bytes
    if most and name in ('qwen3_vl', *GROWING_UNEVENLY):
        assert told.kv_bytes == kv_bytes(vlm, prepared, keep)
    assert told.kv_bytes >= len(keep) * kv_token_bytes
    assert told.feature_bytes == (FRAMES + 1) * sum(
        level.nbytes for level in (frame.rows, *frame.deepstack))


def check_pruned(vlm: Vlm, prepared: Prepared, keep: NDArray[np.int32], positions: Tensor) -> None:
    """See that what is dropped is missing in ids, positions and features, and nothing else."""
    layout = prepared.layout
    stays = torch.ones(len(layout.input_ids), dtype=torch.bool)
    stays[layout.visual_slots] = False
    stays[layout.visual_slots[torch.from_numpy(keep).long()]] = True
    pruned = prepared.prune(keep)
    assert torch.equal(pruned.input_ids, layout.input_ids[stays])
    assert torch.equal(pruned.position_ids, positions[:, stays])
    left = int((pruned.input_ids == vlm.model.config.image_token_id).sum())
    assert left == len(keep) + FRAMES * vlm.pinned
    assert len(pruned.tokens) == left
    assert [len(level) for level in pruned.deepstack] == [left] * len(prepared.deepstack)


@torch.inference_mode()
def kv_bytes(vlm: Vlm, prepared: Prepared, keep: NDArray[np.int32]) -> int:
    """Return the size of the keys and values of a pruned prompt, as the text model makes them."""
    pruned = prepared.prune(keep)
    inner = vlm.model.model
    text = inner.language_model if hasattr(inner, 'language_model') else inner.text_model
    positions = pruned.position_ids[:, None].to('meta')
    cache = text(
        inputs_embeds=torch.empty(1, len(pruned.input_ids), text.config.hidden_size,
                                  device='meta', dtype=torch.bfloat16),
        position_ids=positions[0] if len(positions) == 1 else positions,
        use_cache=True).past_key_values
    return bytes_of(cache)


#: What families are called in the docs.
CALLED = {'qwen2_vl': 'Qwen2-VL', 'qwen2_5_vl': 'Qwen2.5-VL', 'qwen3_vl': 'Qwen3-VL',
          'qwen3_5': 'Qwen3.5', 'internvl': 'InternVL', 'llava_onevision': 'LLaVA-OneVision',
          'molmo2': 'Molmo2', 'smolvlm': 'SmolVLM, SmolVLM2', 'idefics3': 'Idefics3',
          'cosmos3_edge': 'Cosmos3-Edge',
          'gemma3': 'Gemma 3', 'fast_vlm': 'FastVLM'}
CAPTIONS = {'{age}s': '`-0.4s`', '<{time} seconds>': '`<1.2 seconds>` since the first picture',
            'Frame{number}: ': '`Frame1: `, counted per camera'}
BOXES = {1.0: '0 to 1', 1000.0: '0 to 1000',
         None: 'pixels of the picture as its processor resizes it'}


@pytest.mark.parametrize('name', FAMILIES)
def test_the_docs_say_of_each_family_how_it_is_asked_and_what_it_costs(
        name: str, tmp_path: Path) -> None:
    page = (ROOT / 'docs' / 'models.md').read_text(encoding='utf-8')
    row, = (line[2:-2].split(' | ') for line in page.splitlines()
            if line.startswith(f'| {CALLED[name]} | `') and line.count(' | ') == 7)
    convention = CONVENTIONS[name]
    # LLaVA-OneVision and Molmo2 have pictures before all texts; the latter says which is which.
    caption = CAPTIONS[convention.caption] + (
        ', after all pictures, which its chat template numbers' if name == 'molmo2' else '')
    assert row[1:3] == [caption, BOXES[convention.box.scale]]
    key = f'"{convention.box.key}"'
    fields = f'"label", {key}' if convention.box.label_first else f'{key}, "label"'
    assert row[3] == f'`{{{fields}}}`'
    assert row[4] == ('images, video' if name in VIDEO_FAMILIES else 'images')
    assert row[7]
    if name not in PUBLISHED:
        assert row[6] == 'not known here'
        return
    parts = load_blueprint(PUBLISHED[name].save(tmp_path / name), device='cpu', dtype='bfloat16')
    vlm = Vlm(name, *parts, tokens_per_frame=PipelineConfig.tokens_per_frame)
    assert row[5] == vlm.pruning
    rows, columns = vlm.token_grid(720, 1280)
    full, default = KNOWN[name][0], f'{rows * columns} ({rows} x {columns})'
    assert row[6] == (default if full == rows * columns else f'{full:,}; by default {default}')


@pytest.mark.parametrize('name', ['llava_onevision', 'molmo2', 'smolvlm'])
def test_the_docs_say_what_frames_of_a_video_cost(name: str, tmp_path: Path) -> None:
    page = (ROOT / 'docs' / 'models.md').read_text(encoding='utf-8')
    row, = (line[2:-2].split(' | ') for line in page.splitlines()
            if line.startswith(f'| {CALLED[name]} | a frame'))
    parts = load_blueprint(PUBLISHED[name].save(tmp_path / name), device='cpu', dtype='bfloat16')
    counts = []
    for frames_as in ('images', 'video'):
        vlm = Vlm(name, *parts, tokens_per_frame=PipelineConfig.tokens_per_frame,
                  frames_as=frames_as)
        rows, columns = vlm.token_grid(720, 1280)
        whole = vlm.pinned if name == 'molmo2' else 0
        count = f'({rows * columns} + {whole})' if whole else f'{rows * columns}'
        counts.append(f'5 x {count} = {5 * (rows * columns + whole):,}')
    assert row[3] == ', '.join(counts)


def test_the_table_in_the_docs_is_that_of_the_command() -> None:
    page = (ROOT / 'docs' / 'models.md').read_text(encoding='utf-8')
    assert '\n'.join(table()) in page
