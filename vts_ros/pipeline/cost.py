# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a window costs a language model: tokens and bytes, before anything is loaded.

Token counts come from the image processor, the chat template and the tokenizer of the checkpoint,
weights from its network on the meta device; both are exact. What a pass needs beside these is
estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vts_ros.paths import checkpoint
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.kv_sizes import graph_bytes, kv_bytes, kv_token_bytes
from vts_ros.pipeline.steps import steps_of
from vts_ros.sparsify.selection import share_of
from vts_ros.vlm import Vlm
from vts_ros.vlm.int8_weights import INT8
from vts_ros.vlm.loading import load_blueprint
from vts_ros.vlm.packed_weights import pays
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.tasks import prompt_file
from vts_ros.vlm.video_steps import video_steps

#: Bytes of a weight of a linear layer, its scales included: one float32 per row at 8 bits (next to
#: nothing), one per 64 weights at 4 bits, as bitsandbytes has them.
_QUANTISED = {'int8': 1.0, '4 bits': 0.5 + 4 / 64}
#: What a layer holds of every token while it runs, beside keys and values: so often the width of
#: the MLP and of the hidden states. Measured on layers of seven families, see test/test_cost.py.
_MLP_COPIES, _HIDDEN_COPIES = 3, 5


class CameraCost(NamedTuple):
    """
    What pictures of one camera become.

    Attributes
    ----------
    picture, used
        Width and height in pixels as they come, and as the vision encoder gets them.
    grid
        Rows and columns of visual tokens.
    full_tokens
        How many tokens a picture has without ``vlm.tokens_per_frame``.

    """

    picture: tuple[int, int]
    used: tuple[int, int]
    grid: tuple[int, int]
    full_tokens: int

    @property
    def tokens(self) -> int:
        """Return the number of visual tokens of a picture."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class Cost:
    """
    What windows of some cameras cost with a language model.

    Attributes
    ----------
    model, family, parameters
        Which it is.
    cameras
        One for each.
    frames, steps
        Of a window, per camera; steps have a grid each.
    visual_tokens, kept_tokens, text_tokens
        Of a window before and after pruning, and of all that stands around them.
    dtype
        Of weights and of keys and values.
    weights
        Bytes by dtype; ``used`` are those that are loaded.
    kv_token_bytes
        Keys and values of one token.
    kv_bytes, kv_bytes_unpruned
        Of the prompt, and of the prompt without pruning.
    feature_bytes
        Visual tokens of the frames of a window and of the set that comes next, which are kept; as
        a video those of two ways to pair them.
    pass_bytes
        About what a pass of vision encoder or language model needs beside the former.
    answer_bytes
        Keys and values of the longest answer.
    graph_bytes
        On a GPU where passes are CUDA graphs: memory in which the answer is written, the prompt
        once more included, and logits of the graphs. 0 elsewhere.
    device, memory_bytes
        Where it is to run, and how much memory there is; 0 if not known.

    """

    model: str
    family: str
    parameters: int
    cameras: tuple[CameraCost, ...]
    frames: int
    steps: int
    visual_tokens: int
    kept_tokens: int
    text_tokens: int
    dtype: str
    weights: Mapping[str, int]
    kv_token_bytes: int
    kv_bytes: int
    kv_bytes_unpruned: int
    feature_bytes: int
    pass_bytes: int
    answer_bytes: int
    graph_bytes: int
    device: str
    memory_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Return about how much memory a description takes at most."""
        return (self.weights['used'] + self.kv_bytes + (self.graph_bytes or self.answer_bytes)
                + self.feature_bytes + self.pass_bytes)

    @property
    def fits(self) -> bool | None:
        """Return whether that is less than there is; None if nobody knows how much there is."""
        return self.peak_bytes < self.memory_bytes if self.memory_bytes else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {**asdict(self), 'cameras': [
            {**camera._asdict(), 'tokens': camera.tokens} for camera in self.cameras],
            'peak_bytes': self.peak_bytes, 'fits': self.fits}

    def line(self) -> str:
        """Return the most important of it as one line, for logs."""
        cameras = ', '.join(dict.fromkeys(
            f'{size(camera.picture)} px are {camera.tokens} tokens '
            f'({camera.grid[0]}x{camera.grid[1]})'
            for camera in self.cameras))
        return (f'pictures of {cameras}; a window has {self.visual_tokens}, of which '
                f'{self.kept_tokens} are kept; keys and values {readable(self.kv_bytes)}, '
                f'features {readable(self.feature_bytes)}, weights '
                f'{readable(self.weights["used"])}')


class _Stamped(NamedTuple):
    """A frame, as far as its caption goes."""

    camera: str
    stamp_ns: int


def explain(model: str, sizes: Sequence[tuple[int, int]], config: PipelineConfig,
            frames: int = 5, memory_bytes: int | None = None,
            quantization: Mapping[str, Any] | None = None) -> Cost:
    """
    Return what windows would cost with a checkpoint; its weights need not be there.

    Parameters
    ----------
    model
        Checkpoint, as ``vlm.model``.
    sizes
        Width and height of the pictures of each camera.
    config
        Settings; those count that change the cost.
    frames
        Of a window, per camera.
    memory_bytes
        Of the device; by default that of this computer.
    quantization
        A ``quantization_config`` with which the weights would be loaded.

    Raises
    ------
    VlmError
        If the checkpoint cannot be used.

    """
    path = checkpoint(model)
    parts = load_blueprint(path, device=config.device, dtype=config.dtype,
                           local_files_only=config.local_files_only)
    vlm = Vlm(Path(path).name, *parts, tokens_per_frame=config.tokens_per_frame,
              frames_as=config.frames_as, interval_sec=config.interval_sec)
    device = config.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return window_cost(vlm, sizes, config, frames, device, memory_bytes,
                       quantization or getattr(vlm.model.config, 'quantization_config', None))


def window_cost(vlm: Vlm, sizes: Sequence[tuple[int, int]], config: PipelineConfig,
                frames: int, device: str, memory_bytes: int | None = None,
                quantization: Mapping[str, Any] | None = None) -> Cost:
    """Return the cost of windows with a model, loaded or not; see :func:`explain`."""
    whole = Vlm(vlm.name, vlm.model, vlm.tokenizer, vlm.images, frames_as=vlm.frames_as)
    cameras = tuple(_camera(vlm, whole, picture) for picture in sizes)
    prompt = Prompts.load(config.language, prompt_file(config.task, config.prompts),
                          vlm.convention).description
    stamps = [_Stamped(f'camera_{index}', 400_000_000 * moment)
              for moment in range(frames) for index in range(len(cameras))]
    grids = {f'camera_{index}': camera.grid for index, camera in enumerate(cameras)}
    if vlm.frames_as == 'video':
        steps = steps_of(stamps, vlm.step_frames, is_video=True)
        layout = vlm.layout([grids[step[0].camera] for step in steps], video_steps(steps), prompt)
    else:
        layout = vlm.layout(
            [grids[stamp.camera] for stamp in stamps], prompt.captions(stamps), prompt)
    visual = len(layout.visual_slots)
    text = len(layout.input_ids) - visual
    kept = share_of(visual, config.keep_ratio)
    weights = _weights(vlm.model, quantization, device)
    floats = vlm.model.dtype.itemsize
    kv = kv_token_bytes(vlm)
    rows = sum((frames + 1) * (camera.tokens + vlm.pinned) for camera in cameras)
    hidden = int(vlm.model.config.get_text_config().hidden_size)
    reads = (text + kept) * _pass_width(_text_network(vlm.model), _levels(vlm.model.config))
    looks = max(_patches(vlm, camera) for camera in cameras) * _pass_width(
        _vision_network(vlm.model))
    return Cost(
        model=vlm.name, family=vlm.model.config.model_type,
        parameters=sum(weights.numel() for weights in vlm.model.parameters()), cameras=cameras,
        frames=frames, steps=math.ceil(frames / vlm.step_frames),
        visual_tokens=visual, kept_tokens=kept, text_tokens=text,
        dtype=str(vlm.model.dtype).removeprefix('torch.'), weights=weights, kv_token_bytes=kv,
        kv_bytes=kv_bytes(vlm, text + kept), kv_bytes_unpruned=kv_bytes(vlm, text + visual),
        feature_bytes=rows * hidden * floats * (1 + _levels(vlm.model.config)),
        pass_bytes=max(reads, looks) * floats, answer_bytes=kv * config.max_new_tokens,
        graph_bytes=graph_bytes(vlm, config, text + kept, device),
        device=device, memory_bytes=device_memory(device) if memory_bytes is None
        else memory_bytes)


def device_memory(device: str) -> int:
    """Return the memory of a device in bytes; 0 if it is not available."""
    if device.startswith('cuda'):
        if not torch.cuda.is_available():
            return 0
        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def size(picture: tuple[int, int]) -> str:
    """Return width and height as people write them."""
    return f'{picture[0]}x{picture[1]}'


def readable(count: float) -> str:
    """Return bytes as people read them: ``8.9 GB``."""
    unit = 'B'
    for larger in ('kB', 'MB', 'GB'):
        if count < 1000.0:
            break
        count, unit = count / 1000.0, larger
    return f'{count:.0f} {unit}' if unit == 'B' or count >= 100.0 else f'{count:.1f} {unit}'


def _camera(vlm: Vlm, whole: Vlm, picture: tuple[int, int]) -> CameraCost:
    width, height = picture
    grid = vlm.token_grid(height, width)
    rows, columns = whole.token_grid(height, width)
    used_width, used_height = vlm.size_of(grid)
    return CameraCost(picture, (int(used_width), int(used_height)), grid, rows * columns)


def _patches(vlm: Vlm, camera: CameraCost) -> int:
    """Return how many patches of a picture the vision encoder looks at in a pass."""
    width, height = camera.picture
    pixels = vlm.preprocess([np.zeros((height, width, 3), np.uint8)])
    if 'image_token_pooling' in pixels:
        views, patches = pixels['pixel_values'].shape[:2]
        return int(views * patches)
    patch = vlm.model.config.vision_config.patch_size
    high, wide = (patch, patch) if isinstance(patch, int) else patch
    return (camera.used[0] // wide) * (camera.used[1] // high)


def _weights(model: Any, quantization: Mapping[str, Any] | None, device: str) -> dict[str, int]:
    """Return the bytes of the weights in each dtype, and of those that are loaded."""
    parameters = list(model.parameters())
    count = sum(weights.numel() for weights in parameters)
    outer = model.get_output_embeddings()
    linear = sum(module.weight.numel() for module in model.modules()
                 if isinstance(module, nn.Linear) and module is not outer)
    found = {name: count * getattr(torch, name).itemsize
             for name in ('float32', 'bfloat16', 'float16')}
    for name, width in _QUANTISED.items():
        found[name] = int(linear * width) + 2 * (count - linear)
    if quantization and dict(quantization).get('quant_method') == INT8:
        # The vision encoder and a table of embeddings that is shared with the head stay as they
        # are.
        text = sum(module.weight.numel() for module in _text_network(model).modules()
                   if isinstance(module, nn.Linear))
        tied = model.get_input_embeddings().weight is outer.weight
        head = outer.weight.numel()
        return {'used': text + head + 4 * (count - text - (0 if tied else head)), **found}
    kind = _bits(quantization)
    used = found[kind] if kind else sum(weights.nbytes for weights in parameters)
    if not kind and model.get_input_embeddings().weight is outer.weight and pays(outer, device):
        # The head has its own in another layout.
        used += outer.weight.nbytes
    return {'used': used, **found}


def _bits(quantization: Any) -> str | None:
    """Return which of the quantised sizes a quantization_config has; None if that is not said."""
    if quantization is None:
        return None
    settings = quantization if isinstance(quantization, Mapping) else quantization.to_dict()
    bits = settings.get('bits') or (
        4 if settings.get('load_in_4bit') else 8 if settings.get('load_in_8bit') else None)
    return {4: '4 bits', 8: 'int8'}.get(bits or 0)


def _levels(config: Any) -> int:
    """Return the number of further features of a visual token (deepstack)."""
    return len(getattr(config.vision_config, 'deepstack_visual_indexes', None) or ())


def _text_network(model: Any) -> nn.Module:
    inner = model.model
    return inner.language_model if hasattr(inner, 'language_model') else inner.text_model


def _vision_network(model: Any) -> nn.Module:
    inner = model.model
    return next(getattr(inner, name) for name in ('visual', 'vision_tower', 'vision_model')
                if hasattr(inner, name))


def _pass_width(network: nn.Module, levels: int = 0) -> int:
    """Return about how many numbers a layer holds of each token while it runs."""
    layers = max((module for module in network.modules()
                  if isinstance(module, nn.ModuleList)), key=len)
    linear = [module for module in layers[0].modules() if isinstance(module, nn.Linear)]
    hidden, widest = linear[0].in_features, max(layer.out_features for layer in linear)
    return _MLP_COPIES * widest + (_HIDDEN_COPIES + levels) * hidden
