# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM, as transformers have it (``fast_vlm``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from vts_ros.vlm.boxes import Size
from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, square

#: Side of the part of a picture that becomes a token: FastViTHD halves it six times.
_CELL_PX = 64


class FastVlm(Flat):
    """
    A convolutional encoder that makes few tokens of a large picture.

    The whole frame is scaled to the square that the model was made for (1024x1024 px and 16x16
    tokens in the published ones). Its image processor would cut the middle out of a wide one:
    the sides of the road would be lost.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any) -> None:
        super().__init__(model, tokenizer, images)
        self._side = math.isqrt(int(self._config.image_seq_length))
        side_px = self._side * _CELL_PX
        self.picture_options = {'size': {'height': side_px, 'width': side_px},
                                'do_center_crop': False}

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height of the square."""
        side_px = float(self._side * _CELL_PX)
        return side_px, side_px

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid of the square, for each picture."""
        square(pixels['pixel_values'], self._side * _CELL_PX)
        return [(self._side, self._side)] * len(pixels['pixel_values'])

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode pictures; the vision encoder looks at each for itself."""
        encoded = self._model.get_image_features(
            pixels['pixel_values'].to(self._model.dtype), return_dict=True)
        return frames(encoded.pooler_output, self.grids(pixels))

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one large picture."""
        outputs: dict[str, Any] = {'pooler_output': tokens[None]}
        return BaseModelOutputWithPooling(**outputs)
