# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LLaVA-OneVision (``llava_onevision``): frames as pictures or as a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, Modality, square


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


class LlavaVideo(LlavaOnevision):
    """
    Frames of a video: the same view, its grid shrunk by half (14x14 tokens in the published ones).

    One image newline follows the last frame of a video. The published chat template places all
    videos before the texts.
    """

    modality: Modality = 'video'
    handed_as: Modality = 'video'
    reads_together = 'what ends its video stands after the last frame'
    tells_time = is_alone = False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any, interval_sec: float = 0.0) -> None:
        super().__init__(model, tokenizer, images)

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid of each frame."""
        return [(-(-rows // 2), -(-columns // 2)) for rows, columns in super().grids(pixels)]

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode frames, each as a video of its own, for it has no part in the others."""
        encoded = self._model.get_video_features(
            pixels['pixel_values'][:, :1], return_dict=True)
        return frames(encoded.pooler_output, self.grids(pixels), self.pinned)

    def around_video(self, times_sec: Sequence[float]) -> tuple[str, str]:
        """Return what stands before and after a video: nothing."""
        return '', ''

    def around_step(self, place: int, time_sec: float) -> tuple[str, str]:
        """Return what stands before and after the tokens of a frame: nothing."""
        return '', ''

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one long video."""
        outputs: dict[str, Any] = {'pooler_output': tokens[None]}
        return BaseModelOutputWithPooling(**outputs)
