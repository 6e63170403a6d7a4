# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5, and Cosmos3-Edge, which is built alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from vts_ros.vlm.boxes import Size
from vts_ros.vlm.families.family import FrameFeatures, Grid


class QwenVl:
    """
    Qwen2-VL to Qwen3.5 and Cosmos3-Edge: 3D positions; Qwen3-VL has deepstack features.

    A frame is a picture of its own, one moment long, at its own aspect ratio: no tubelets.
    """

    picture_options: Mapping[str, Any] = {}
    pinned = 0
    placeholder = ''

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model: Any = model.model
        vision = model.config.vision_config
        self._merge = int(vision.spatial_merge_size)
        self._cell_px = float(self._merge * vision.patch_size)

    def limited(self, images: Any, tokens: int) -> Mapping[str, Any]:
        """Return the pixels, from which the image processor scales down, for so many tokens."""
        most = min(images.size['longest_edge'], tokens * (images.patch_size * self._merge) ** 2)
        return {'size': {'shortest_edge': min(images.size['shortest_edge'], most),
                         'longest_edge': most}}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grids after merging; the time axis of a picture is 1."""
        return [(height // self._merge, width // self._merge)
                for _, height, width in pixels['image_grid_thw'].tolist()]

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height in pixels of a preprocessed picture with this grid."""
        rows, columns = grid
        return self._cell_px * columns, self._cell_px * rows

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode pictures; the vision encoder attends within each picture only."""
        encoded = self._model.get_image_features(
            pixels['pixel_values'], pixels['image_grid_thw'], return_dict=True)
        levels = getattr(encoded, 'deepstack_features', None) or []
        return [FrameFeatures(tokens, tuple(level[index] for level in levels), grid)
                for index, (tokens, grid) in enumerate(
                    zip(encoded.pooler_output, self.grids(pixels), strict=True))]

    def frame(self, image_tokens: str) -> str:
        """Return the image tokens alone: the chat template itself writes the marks around them."""
        return image_tokens

    def positions(self, input_ids: Tensor, visual: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Return time, height and width positions [3, S], as the installed transformers do."""
        grid_thw = torch.tensor([(1, rows * self._merge, columns * self._merge)
                                 for rows, columns in grids])
        positions, _ = self._model.get_rope_index(
            input_ids[None], mm_token_type_ids=visual[None].int(), image_grid_thw=grid_thw)
        return positions[:, 0]

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one large picture."""
        # Lists of pictures, as the models' own encoders return them whatever the annotations say.
        outputs: dict[str, Any] = {'pooler_output': [tokens]}
        if not deepstack:
            return BaseModelOutputWithPooling(**outputs)
        outputs['deepstack_features'] = [[level] for level in deepstack]
        return BaseModelOutputWithDeepstackFeatures(**outputs)

    def told(self, visual: Tensor) -> Mapping[str, Tensor]:
        """Return nothing: positions are given."""
        return {}
