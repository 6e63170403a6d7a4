# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Molmo2 (``molmo2``): frames as pictures in two views, or as a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vts_ros.vlm.boxes import Size
from vts_ros.vlm.families.family import Flat, FrameFeatures, Grid, Modality

#: Tokens that belong to pictures, as Molmo2Processor lists them.
_OF_PICTURES = ('<im_patch>', '<im_col>', '<im_start>', '<low_res_im_start>', '<frame_start>',
                '<im_end>', '<frame_end>', '<im_low>')


class Molmo(Flat):
    """
    A picture as a whole, and again in detail at about its own aspect ratio.

    As a whole it is scaled to the square of the vision encoder (378x378 px in the published ones,
    14x14 tokens); this view is never dropped. The grid is that of the picture in detail: of
    overlapping crops, each as large as that square, which together are 23x42 tokens for 1280x720
    px, or 14x14 tokens of a single crop. Where the patches cannot be paired, the last row and
    column of the grid are half as wide.

    All tokens of all pictures see each other, those of later pictures, too. So what is read of
    pictures is of no use once another has come. The published chat template places all pictures
    before the texts, numbered, so the captions follow as a list.
    """

    reads_together = 'its pictures see each other, later ones, too'

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any) -> None:
        super().__init__(model, tokenizer, images)
        self.placeholder = self._marker('image_token', '<|image|>')
        # As its processor does where the chat template leaves it out.
        self.opening = str(tokenizer.bos_token or tokenizer.eos_token or '')
        self._marks = images.marks
        side = -(-(images.size['height'] // images.patch_size) // images.pooling_size[0])
        self._view: Grid = (side, side)
        self._patch_px = int(images.patch_size)
        self._pooling = [int(count) for count in images.pooling_size]
        self._overlap = sum(images.overlap_margins)
        self._window = images.size['height'] // self._patch_px - self._overlap
        self.whole = side * side
        self.tail = 1 + self._marks.image_use_col_tokens
        known = tokenizer.get_vocab()
        self._ids = torch.tensor([known[token] for token in _OF_PICTURES if token in known])

    def limited(self, images: Any, tokens: int) -> Mapping[str, Any]:
        """Return how many tokens a picture in detail may have."""
        return {'max_tokens': tokens}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid in detail, of each picture."""
        return [(rows, columns) for _, _, rows, columns in pixels['image_grids'].tolist()]

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height in pixels of a picture in detail."""
        # Crops lie side by side but for what they overlap; the last cells may be cut in half.
        rows, columns = (
            (cells * pooled - self._overlap) // self._window * self._window + self._overlap
            for cells, pooled in zip(grid, self._pooling))
        return float(self._patch_px * columns), float(self._patch_px * rows)

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode pictures; the vision encoder looks at each view and crop for itself."""
        encoded = self._model.get_image_features(
            pixels['pixel_values'].to(self._model.dtype), pixels['image_token_pooling'],
            pixels['image_grids'], return_dict=True)
        return [FrameFeatures(rows[self.whole:], (), grid,
                              whole=rows[:self.whole] if self.whole else None)
                for rows, grid in zip(encoded.pooler_output, self.grids(pixels), strict=True)]

    def image_tokens(self, token: str, grid: Grid) -> str:
        """Return the picture as a whole and in detail, with their marks, as its processor does."""
        marks = self._marks
        ends_rows = (marks.image_use_col_tokens if marks.use_single_crop_col_tokens is None
                     else marks.use_single_crop_col_tokens)
        start = '<low_res_im_start>' if marks.use_single_crop_start_token else '<im_start>'
        return (start + _rows(token, self._view, ends_rows) + '<im_end><im_start>'
                + _rows(token, grid, marks.image_use_col_tokens) + '<im_end>')

    def told(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """Return which tokens [B, S] are those of pictures, which see each other."""
        return {'mm_token_type_ids': torch.isin(input_ids, self._ids).long()}


class MolmoVideo(Molmo):
    """
    Frames of a video: each as a whole, in few tokens (9x9 in the published ones), after its time.

    All frames see each other here, too. A prompt has one video, as the processor of transformers
    wants it.
    """

    picture_options: Mapping[str, Any] = {'as_video': True}
    modality: Modality = 'video'
    tells_time = is_alone = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any, interval_sec: float = 0.0) -> None:
        super().__init__(model, tokenizer, images)
        self.placeholder = self._marker('video_token', '<|video|>')
        self.whole = 0
        self.tail = 1 + self._marks.video_use_col_tokens
        self._side_px = float(images.size['height'])

    def limited(self, images: Any, tokens: int) -> Mapping[str, Any]:
        """Return nothing: every frame has the same number of tokens."""
        return {}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grid of each frame."""
        return [(rows, columns) for rows, columns, _, _ in pixels['image_grids'].tolist()]

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height of the square."""
        return self._side_px, self._side_px

    def image_tokens(self, token: str, grid: Grid) -> str:
        """Return the tokens of a frame; its marks stand around the step."""
        return _rows(token, grid, self._marks.video_use_col_tokens)

    def around_video(self, times_sec: Sequence[float]) -> tuple[str, str]:
        """Return what stands before and after a video: nothing."""
        return '', ''

    def around_step(self, place: int, time_sec: float) -> tuple[str, str]:
        """Return time and marks of a frame."""
        start, end = ('<frame_start>', '<frame_end>') if self._marks.use_frame_special_tokens \
            else ('<im_start>', '<im_end>')
        return f'{" " if place else ""}{time_sec:.1f} {start}', end


def _rows(token: str, grid: Grid, ends_rows: bool) -> str:
    """Return the tokens of a grid, row by row."""
    rows, columns = grid
    return (token * columns + '<im_col>' * ends_rows) * rows
