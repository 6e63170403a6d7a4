# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LLaVA-OneVision (``llava_onevision``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, square


class LlavaOnevision(Flat):
    """
    The base view of a frame only, as in a prompt of several pictures: no anyres tiles.

    The whole frame is scaled to the square of the vision encoder (384x384 px in the published
    ones, 27x27 tokens). One image newline follows the grid; it stands on an image token of its
    own and is never dropped. Not padded to a square, which transformers do with several
    pictures: the grid would not be that of the frame, and nearly half of a wide one empty.
    The published chat template places all pictures before the texts, so the captions follow the
    pictures as a list.
    """

    pinned = 1

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any) -> None:
        super().__init__(model, tokenizer, images)
        self._side_px = int(self._config.vision_config.image_size)
        # One tile beside the base view, the least that the image processor makes; it is not used.
        self.picture_options = {
            'image_grid_pinpoints': [[self._side_px, self._side_px]]}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid of the base view, for each picture."""
        square(pixels['pixel_values'], self._side_px)
        side = self._side_px // self._config.vision_config.patch_size
        return [(side, side)] * len(pixels['pixel_values'])

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode base views; the vision encoder attends within each view only."""
        views = pixels['pixel_values'][:, 0]
        # A picture that is one of several in its prompt is never split into tiles, so none is
        # said to be alone.
        encoded = self._model.get_image_features(
            views, pixels['image_sizes'], batch_num_images=[len(views) + 1], return_dict=True)
        return frames(encoded.pooler_output, self.grids(pixels), self.pinned)
