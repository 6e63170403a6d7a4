# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Idefics3 and SmolVLM (``idefics3``, ``smolvlm``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vts_ros.errors import VlmError
from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, square


class Idefics(Flat):
    """
    The global view of a frame only, as SmolVLM reads the frames of a video: no splitting.

    The whole frame is scaled to the square of the vision encoder (364x364 px and 13x13 tokens in
    Idefics3, 512x512 px and 8x8 tokens in SmolVLM2). Its tokens stand between
    ``<fake_token_around_image><global-img>`` and ``<fake_token_around_image>``, which are never
    dropped; there are no row and column markers, as these name the parts of a split picture.
    """

    picture_options: Mapping[str, Any] = {'do_image_splitting': False}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid of the global view after pixel shuffle, for each picture."""
        vision = self._config.vision_config
        square(pixels['pixel_values'], vision.image_size)
        side = vision.image_size // vision.patch_size // self._config.scale_factor
        return [(side, side)] * pixels['pixel_values'].shape[1]

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """
        Encode pictures [1, F, C, H, W]; the vision encoder attends within each picture only.

        Raises
        ------
        VlmError
            If a picture is blank, that is 0 all over after normalisation. The model takes such
            for padding and leaves it out.

        """
        grids = self.grids(pixels)
        values = pixels['pixel_values']
        if not bool(values.flatten(2).any(dim=2).all()):
            raise VlmError('a picture is blank: the model would take it for padding')
        encoded = self._model.get_image_features(
            values, pixels['pixel_attention_mask'], return_dict=True)
        rows = encoded.pooler_output[0]
        return frames(rows.unflatten(0, (len(grids), -1)), grids)

    def frame(self, image_tokens: str) -> str:
        """Return the image tokens between the marks of a picture that is not split."""
        around = self._marker('fake_image_token', '<fake_token_around_image>')
        return (around + self._marker('global_image_token', '<global-img>') + image_tokens
                + around)
