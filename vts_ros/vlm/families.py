# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What differs between the families of vision language models, and only that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

Grid = tuple[int, int]


class FrameFeatures(NamedTuple):
    """
    What the vision encoder says of one frame; does not depend on other frames, so cacheable.

    Attributes
    ----------
    tokens
        Visual tokens [N, D], row-major over the grid.
    deepstack
        Further features [N, D] that are added in the first layers of the language model.
    grid
        Rows and columns, N = rows * columns.

    """

    tokens: Tensor
    deepstack: tuple[Tensor, ...]
    grid: Grid


class Family(Protocol):
    """One family: how it encodes pictures, counts positions and takes visual tokens."""

    name: str

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return rows and columns of visual tokens of each preprocessed picture."""

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode preprocessed pictures, each for itself."""

    def positions(self, input_ids: Tensor, visual: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Return the positions [..., S] of a prompt [S]; ``visual`` marks its visual tokens."""

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return visual tokens in the form in which the model takes them over."""


class QwenVl:
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL: 3D positions; Qwen3-VL has deepstack features."""

    name = 'qwen-vl'

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model.model
        self._merge = int(model.config.vision_config.spatial_merge_size)

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grids after merging; the time axis of a picture is 1."""
        return [(height // self._merge, width // self._merge)
                for _, height, width in pixels['image_grid_thw'].tolist()]

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode pictures; the vision encoder attends within each picture only."""
        encoded = self._model.get_image_features(
            pixels['pixel_values'], pixels['image_grid_thw'], return_dict=True)
        levels = getattr(encoded, 'deepstack_features', None) or []
        return [FrameFeatures(tokens, tuple(level[index] for level in levels), grid)
                for index, (tokens, grid) in enumerate(
                    zip(encoded.pooler_output, self.grids(pixels), strict=True))]

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


#: Family of each ``model_type`` of a checkpoint's config.json.
FAMILIES: dict[str, Callable[[PreTrainedModel], Family]] = {
    'qwen2_vl': QwenVl,
    'qwen2_5_vl': QwenVl,
    'qwen3_vl': QwenVl,
}
