# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""InternVL, as transformers have it (``internvl``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, square


class InternVl(Flat):
    """
    One tile per frame, as the model reads the frames of a video: no dynamic tiles, no thumbnail.

    The frame is scaled to the square of the vision encoder (448x448 px in the published ones,
    16x16 tokens) and stands between ``<img>`` and ``</img>``, which are never dropped.
    """

    picture_options: Mapping[str, Any] = {'crop_to_patches': False}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid of the tile after pixel shuffle, for each tile."""
        vision = self._config.vision_config
        square(pixels['pixel_values'], vision.image_size[0])
        side = vision.image_size[0] // vision.patch_size[0]
        side = int(side * self._config.downsample_ratio)
        return [(side, side)] * len(pixels['pixel_values'])

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode tiles; the vision encoder attends within each tile only."""
        encoded = self._model.get_image_features(pixels['pixel_values'], return_dict=True)
        return frames(encoded.pooler_output, self.grids(pixels))

    def frame(self, image_tokens: str) -> str:
        """Return the image tokens between the marks of a picture."""
        return (self._marker('start_image_token', '<img>') + image_tokens
                + self._marker('end_image_token', '</img>'))

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one large tile."""
        outputs: dict[str, Any] = {'pooler_output': tokens[None]}
        return BaseModelOutputWithPooling(**outputs)
