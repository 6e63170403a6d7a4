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
from vts_ros.vlm.families.idefics import Idefics, SmolVideo
from vts_ros.vlm.families.internvl import InternVl
from vts_ros.vlm.families.llava import LlavaOnevision, LlavaVideo
from vts_ros.vlm.families.molmo import Molmo, MolmoVideo
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

#: Families that people try and that are not supported, by ``model_type``, and why.
REFUSED: dict[str, str] = {
    'internvl_chat': 'it is in the form of its authors; take the one that was converted for '
                     'transformers, whose name ends in -HF',
    'llava_qwen2': 'if it is a FastVLM in the form of its authors, convert it for transformers',
    'lfm2_vl': 'its image processor needs torchvision',
}

#: Those to which frames can be shown as a video. The Qwen families make one grid of visual tokens
#: of two frames; the others read them one by one, with other words or fewer tokens than pictures.
VIDEO_FAMILIES: dict[str, Callable[
    [PreTrainedModel, PreTrainedTokenizerBase, Any, float], VideoFamily]] = {
    'llava_onevision': LlavaVideo,
    'molmo2': MolmoVideo,
    'smolvlm': SmolVideo,
    'qwen2_vl': QwenVideo,
    'qwen2_5_vl': QwenVideo,
    'qwen3_vl': QwenTimedVideo,
    'qwen3_5': QwenTimedVideo,
}
