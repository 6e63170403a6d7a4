# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gemma 3 (``gemma3``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, square


class Gemma3(Flat):
    """
    The whole frame as one picture: no pan and scan.

    It is scaled to the square of the vision encoder (896x896 px in the published ones), whose
    patches are averaged to 16x16 tokens. These stand between ``<start_of_image>``, which is what
    the chat template writes for a picture, and ``<end_of_image>``; they attend to each other in
    both directions. Both marks are never dropped.
    """

    picture_options: Mapping[str, Any] = {'do_pan_and_scan': False}

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any) -> None:
        super().__init__(model, tokenizer, images)
        self.placeholder = self._marker('boi_token', '<start_of_image>')

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid after averaging, for each picture."""
        square(pixels['pixel_values'], int(self._config.vision_config.image_size))
        side = math.isqrt(int(self._config.mm_tokens_per_image))
        return [(side, side)] * len(pixels['pixel_values'])

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode pictures; the vision encoder attends within each picture only."""
        encoded = self._model.get_image_features(pixels['pixel_values'], return_dict=True)
        return frames(encoded.pooler_output, self.grids(pixels))

    def frame(self, image_tokens: str) -> str:
        """Return the image tokens between the marks of a picture, in a paragraph of their own."""
        end = self._marker('eoi_token', '<end_of_image>')
        return f'\n\n{self.placeholder}{image_tokens}{end}\n\n'

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one large picture."""
        outputs: dict[str, Any] = {'pooler_output': tokens[None]}
        return BaseModelOutputWithPooling(**outputs)

    def told(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """Return which tokens [B, S] attend to each other in both directions, by runs of 1."""
        return {'token_type_ids': (input_ids == self._config.image_token_id).long()}
