# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What differs between the families of vision language models, and only that."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vts_ros.vlm.families.family import Family, FrameFeatures, Grid, Span, VideoFamily
from vts_ros.vlm.families.idefics import Idefics
from vts_ros.vlm.families.internvl import InternVl
from vts_ros.vlm.families.llava import LlavaOnevision
from vts_ros.vlm.families.qwen import QwenTimedVideo, QwenVideo, QwenVl

__all__ = [
           'FAMILIES',
           'VIDEO_FAMILIES',
           'Family',
           'FrameFeatures',
           'Grid',
           'Span',
           'VideoFamily',
]

#: Family of each ``model_type`` of a checkpoint's config.json.
FAMILIES: dict[str, Callable[[PreTrainedModel, PreTrainedTokenizerBase], Family]] = {
    'idefics3': Idefics,
    'internvl': InternVl,
    'llava_onevision': LlavaOnevision,
    'smolvlm': Idefics,
    'qwen2_vl': QwenVl,
    'qwen2_5_vl': QwenVl,
    'qwen3_vl': QwenVl,
}

#: Those that make one grid of visual tokens of two frames of a video. Others read the frames of a
#: video one by one, as pictures: it would cost them the same.
VIDEO_FAMILIES: dict[str, Callable[
    [PreTrainedModel, PreTrainedTokenizerBase, float], VideoFamily]] = {
    'qwen2_vl': QwenVideo,
    'qwen2_5_vl': QwenVideo,
    'qwen3_vl': QwenTimedVideo,
}
