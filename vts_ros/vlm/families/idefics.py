# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Idefics3 and SmolVLM (``idefics3``, ``smolvlm``), and the latter's frames of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.smolvlm.processing_smolvlm import (
    DEFAULT_CHAT_TEMPLATE,
    DEFAULT_MEDIA_OUTTRO,
    DEFAULT_VIDEO_INTRO,
    FRAME_TIMESTAMP_MESSAGE,
)

from vts_ros.errors import VlmError
from vts_ros.vlm.families.family import Flat, FrameFeatures, frames, Grid, Modality, square
from vts_ros.vlm.families.number_words import in_words


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


class SmolVideo(Idefics):
    """
    Frames of a video, as the processor of SmolVLM writes them: "Frame from 00:01:".

    Each frame is a picture and read as such, scaled first to the size of videos that the
    checkpoint names. How many there are and how long the video is stands before the first, so
    what is read of pictures is of no use once another has come. Times are whole seconds since the
    first frame of the prompt. The words, and a chat template that knows videos, are those of
    transformers.
    """

    chat_template: str | None = DEFAULT_CHAT_TEMPLATE
    placeholder = '<video>'
    modality: Modality = 'video'
    reads_together = 'the number of its frames stands before the first'
    tells_time, is_alone = True, False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any, interval_sec: float = 0.0) -> None:
        super().__init__(model, tokenizer, images)
        self.placeholder = self._marker('video_token', self.placeholder)
        size = (getattr(images, 'video_sampling', None) or {}).get('video_size')
        if size:
            self.picture_options = {**self.picture_options, 'size': size}

    def frame(self, image_tokens: str) -> str:
        """Return the image tokens alone: marks stand around each step."""
        return image_tokens

    def around_video(self, times_sec: Sequence[float]) -> tuple[str, str]:
        """Return what is said of a video, and the lines that end it."""
        duration = str(timedelta(seconds=int(times_sec[-1])))
        return DEFAULT_VIDEO_INTRO.format(
            frame_count=in_words(len(times_sec)), video_duration=duration), DEFAULT_MEDIA_OUTTRO

    def around_step(self, place: int, time_sec: float) -> tuple[str, str]:
        """Return time and marks of a frame."""
        minutes, seconds = divmod(int(time_sec), 60)
        said = FRAME_TIMESTAMP_MESSAGE.format(timestamp=f'{minutes:02d}:{seconds:02d}')
        before, after = super().frame('|').split('|')
        return said + before, after
