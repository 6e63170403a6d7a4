# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The image processor of Molmo2, without torchvision, and the marks that its processor writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BatchFeature

# Not from transformers itself, which hand it out with torchvision only.
from transformers.models.molmo2.image_processing_molmo2 import (
    arange_for_pooling,
    batch_pixels_to_patches,
    build_resized_image,
    Molmo2ImageProcessor,
)


class Marks(NamedTuple):
    """
    Which marks stand around and between the tokens of a picture, see Molmo2Processor.

    Attributes
    ----------
    image_use_col_tokens, use_single_crop_col_tokens, video_use_col_tokens
        Whether one ends each row of the picture in detail, as a whole, and of a frame of a video.
    use_single_crop_start_token, use_frame_special_tokens
        Whether the picture as a whole and the frame of a video begin with marks of their own.

    """

    image_use_col_tokens: bool = True
    use_single_crop_col_tokens: bool | None = None
    use_single_crop_start_token: bool = True
    video_use_col_tokens: bool = False
    use_frame_special_tokens: bool = True


class MolmoPictures(Molmo2ImageProcessor):
    """
    Makes pictures, or frames of a video, as Molmo2 was trained to see them.

    Views, crops and pooling are those of transformers. What these leave to torchvision is here:
    pictures are scaled by ``interpolate`` of PyTorch, which torchvision calls, too.

    Attributes
    ----------
    marks
        Those of the checkpoint.
    video_pooling
        How many rows and columns of patches become a token of a frame of a video.

    """

    marks = Marks()
    video_pooling = (3, 3)

    @classmethod
    def load(cls, directory: Path, **options: Any) -> MolmoPictures:
        """Return that of a checkpoint folder, with the settings of its processor."""
        pictures: MolmoPictures = cls.from_pretrained(directory, **options)
        said = _settings(directory / 'processor_config.json')
        pictures.marks = Marks(**{name: said[name] for name in Marks._fields if name in said})
        video = {**said.get('video_processor', {}),
                 **_settings(directory / 'video_preprocessor_config.json')}
        rows, columns = video.get('pooling_size', cls.video_pooling)
        pictures.video_pooling = (int(rows), int(columns))
        return pictures

    # The options of transformers are a TypedDict, which no others can replace.
    def __call__(  # type: ignore[override]
            self, images: Sequence[Any], *, as_video: bool = False, max_tokens: int = 0,
            **options: Any) -> BatchFeature:
        """
        Return pictures for the vision encoder.

        Parameters
        ----------
        images
            The pictures.
        as_video
            Whether they are frames of a video: each as a whole, with few tokens.
        max_tokens
            Tokens of a picture in detail: it has as many crops as that allows, but at least one.
        options
            Those of the image processor.

        """
        in_detail: Any = super().__call__
        parts = [self._frame(image, options) if as_video else in_detail(
            images=[image], max_crops=self._crops(image, max_tokens, options), **options)
            for image in images]
        pooling, begin = [], 0
        for part in parts:
            places = part['image_token_pooling']
            pooling.append(torch.where(places >= 0, places + begin, places))
            begin += part['pixel_values'].shape[0] * part['pixel_values'].shape[1]
        return BatchFeature({
            'pixel_values': torch.cat([part['pixel_values'] for part in parts]),
            'image_token_pooling': torch.cat(pooling),
            'image_grids': torch.cat([part['image_grids'] for part in parts])})

    def _crops(self, image: Any, max_tokens: int, options: Mapping[str, Any]) -> int:
        """Return how many crops a picture may have."""
        for crops in range(int(self.max_crops), 1, -1):
            grid, _ = self.get_image_grid_and_crops(
                *self._height_width(image, options), {'max_crops': crops})
            if not max_tokens or grid[2] * grid[3] <= max_tokens:
                return crops
        return 1

    @staticmethod
    def _height_width(image: Any, options: Mapping[str, Any]) -> tuple[int, int]:
        is_last = options.get('input_data_format') == 'channels_last'
        height, width = image.shape[:2] if is_last else image.shape[-2:]
        return int(height), int(width)

    def _frame(self, image: Any, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return a frame of a video, as Molmo2VideoProcessor makes it."""
        pixels = self.process_image(
            image, do_convert_rgb=True, input_data_format=options.get('input_data_format'))
        side: Any = self.size
        resized, places = build_resized_image(
            self, pixels[None], side['height'], self.resample, self.do_rescale,
            self.rescale_factor, self.do_normalize, self.image_mean, self.image_std,
            self.patch_size)
        pooling, rows, columns = arange_for_pooling(places, *self.video_pooling)
        return {'pixel_values': batch_pixels_to_patches(resized[0], self.patch_size),
                'image_token_pooling': pooling,
                'image_grids': torch.tensor([[rows, columns, 0, 0]])}

    def convert_to_rgb(self, image: Any, *args: Any, **options: Any) -> Any:
        """Return pictures as they are: they are RGB."""
        return image

    def resize(self, image: Any, size: Any, *args: Any, **options: Any) -> Any:
        """Scale pictures [..., C, H, W] of floats, without smoothing."""
        return functional.interpolate(image, (size.height, size.width), mode='bilinear',
                                      align_corners=False)

    def normalize(self, image: Any, mean: Any, std: Any, *args: Any, **options: Any) -> Any:
        """Return pictures [..., C, H, W] with mean and spread per channel taken out."""
        mean, std = (torch.as_tensor(value)[:, None, None] for value in (mean, std))
        return (image - mean) / std


def _settings(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding='utf-8'))) if path.is_file() else {}
