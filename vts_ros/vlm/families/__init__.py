# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What differs between the families of vision language models, and only that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vts_ros.vlm.families.family import Family, FrameFeatures, Grid, Span, VideoFamily
from vts_ros.vlm.families.fastvlm import FastVlm
from vts_ros.vlm.families.gemma import Gemma3
from vts_ros.vlm.families.idefics import Idefics
from vts_ros.vlm.families.internvl import InternVl
from vts_ros.vlm.families.llava import LlavaOnevision
from vts_ros.vlm.families.molmo import Molmo
from vts_ros.vlm.families.qwen import QwenTimedVideo, QwenVideo, QwenVl

__all__ = [
           'FAMILIES',
           'REFUSED',
           'VIDEO_FAMILIES',
           'Family',
           'FrameFeatures',
           'Grid',
           'Span',
           'VideoFamily',
]

#: Family of each ``model_type`` of a checkpoint's config.json.
FAMILIES: dict[str, Callable[[PreTrainedModel, PreTrainedTokenizerBase, Any], Family]] = {
    'cosmos3_edge': QwenVl,
    'fast_vlm': FastVlm,
    'gemma3': Gemma3,
    'idefics3': Idefics,
    'internvl': InternVl,
    'llava_onevision': LlavaOnevision,
    'molmo2': Molmo,
    'smolvlm': Idefics,
    'qwen2_vl': QwenVl,
    'qwen2_5_vl': QwenVl,
    'qwen3_vl': QwenVl,
    'qwen3_5': QwenVl,
}

#: Families that transformers have and that are not supported, by ``model_type``, and why.
REFUSED: dict[str, str] = {
    'lfm2_vl': 'its image processor needs torchvision',
}

#: Those that make one grid of visual tokens of two frames of a video. Others read the frames of a
#: video one by one: it would cost them what pictures cost (LLaVA-OneVision less, which shrinks
#: their grids).
VIDEO_FAMILIES: dict[str, Callable[
    [PreTrainedModel, PreTrainedTokenizerBase, Any, float], VideoFamily]] = {
    'qwen2_vl': QwenVideo,
    'qwen2_5_vl': QwenVideo,
    'qwen3_vl': QwenTimedVideo,
    'qwen3_5': QwenTimedVideo,
}
