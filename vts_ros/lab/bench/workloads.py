# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is measured: models, windows, and the ways from a window to an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from vts_ros.lab.bench.model_shapes import SHAPES, TOKEN_PX
from vts_ros.pipeline.pipeline import EMBEDDED
from vts_ros.vlm import Vlm
from vts_ros.vlm.int8_weights import INT8

Progress = Callable[[float, str], None]

#: Pictures that the embedded model was trained on at a time.
TOLD_FRAMES = 5
#: The embedded model sees pictures of 4 x 7 visual tokens, the others 8 x 14.
EMBEDDED_SIZE, SHAPE_SIZE = (224, 128), (14 * TOKEN_PX, 8 * TOKEN_PX)
QUICK_SIZE = (8 * TOKEN_PX, 5 * TOKEN_PX)
DENSE = 'dense'
#: Two frames as one step, as stock transformers read a video: fewer tokens before any pruning.
DENSE_VIDEO = 'dense_video'
#: Prompt and answer without a picture.
ROOFLINE = 'roofline'



@dataclass(frozen=True)
class Variant:
    """
    One way through the pipeline.

    Attributes
    ----------
    keep_ratio
        Share of visual tokens that is kept.
    is_cached
        Whether what was computed for earlier windows may be used.
    mode, draft, frames_as, instructions, quantization
        See ``PipelineConfig``.

    """

    keep_ratio: float
    is_cached: bool = True
    mode: str = 'window'
    draft: bool = False
    frames_as: str = 'images'
    instructions: str = 'after'
    quantization: str = ''


_ALL_AT_ONCE = Variant(0.4, mode='causal', draft=True, instructions='first')
VARIANTS = {
    'window_0.6': Variant(0.6, is_cached=False),
    'window_0.4': Variant(0.4, is_cached=False),
    'cached_0.4': Variant(0.4),
    'causal_0.4': Variant(0.4, mode='causal'),
    'drafted_0.4': Variant(0.4, mode='causal', draft=True),
    'window_video_0.6': Variant(0.6, is_cached=False, frames_as='video'),
    'window_video_0.4': Variant(0.4, is_cached=False, frames_as='video'),
    'drafted_video_0.4': Variant(0.4, mode='causal', draft=True, frames_as='video'),
    'all_0.4': _ALL_AT_ONCE,
    'all_int8_0.4': replace(_ALL_AT_ONCE, quantization=INT8),
}
CASES = (DENSE, DENSE_VIDEO, *VARIANTS)


def cases_of(vlm: Vlm, is_told: bool, quantization: str = '') -> tuple[str, ...]:
    """
    Return the cases of a model, with plain weights and those that are quantised so.

    Those with a video are of Qwen2-VL and Qwen2.5-VL, and those that ask in another order or round
    the weights of models that are told what to say: otherwise they would say something else.
    """
    is_of_video = vlm.model.config.model_type in ('qwen2_vl', 'qwen2_5_vl')
    return tuple(
        name for name in CASES
        if (is_of_video or not name.startswith(DENSE_VIDEO)) and (name not in VARIANTS or (
            (is_of_video or VARIANTS[name].frames_as == 'images')
            and (is_told or VARIANTS[name].instructions == 'after')
            and VARIANTS[name].quantization in ('', quantization))))


@dataclass(frozen=True)
class Workload:
    """
    What is measured.

    Attributes
    ----------
    model
        ``embedded``, a key of SHAPES, or a checkpoint of the class Qwen-VL.
    frames, cameras
        Instants of a window, and pictures of each.
    longest
        The windows end where those of so many instants would, if that is more: windows of any
        length are then answered alike, and their drafts are as good.
    windows
        How many windows are measured; fewer when the time is over, but at least two.
    budget_sec
        Time for the measurement of times; what comes before and after it is not in it.
    is_told
        Whether the model is held, word for word, to what the embedded model answers about the
        last five pictures. Random weights always are.
    answer_tokens
        Where such answers are cut.
    size
        Width and height of the pictures; (0, 0) takes the usual size of the model.
    seed
        Of the drive and of random weights.

    """

    model: str = EMBEDDED
    frames: int = 5
    cameras: int = 1
    longest: int = 0
    windows: int = 12
    budget_sec: float = 120.0
    is_told: bool = False
    answer_tokens: int = 24
    size: tuple[int, int] = (0, 0)
    seed: int = 7
    device: str = 'auto'
    threads: int = 0

    @property
    def picture_size(self) -> tuple[int, int]:
        """Return width and height of the pictures."""
        if self.size != (0, 0):
            return self.size
        return SHAPE_SIZE if self.model in SHAPES else EMBEDDED_SIZE


def default_models(device: str) -> list[str]:
    """Return what is measured where nothing is said: what the device can run in minutes."""
    on_gpu = device.startswith('cuda') or (device == 'auto' and torch.cuda.is_available())
    return [*(['qwen2.5-vl-3b', 'qwen2.5-vl-7b'] if on_gpu else ['qwen2.5-0.5b']), EMBEDDED]


def quick_workloads(common: Workload, models: Sequence[str]) -> list[Workload]:
    """Return workloads of windows of five small pictures, for a first look."""
    small = replace(common, frames=TOLD_FRAMES, windows=min(common.windows, 4), answer_tokens=10)
    return [replace(small, model=model, budget_sec=45.0 if model in SHAPES else 8.0,
                    size=QUICK_SIZE if model in SHAPES else (0, 0)) for model in models]
