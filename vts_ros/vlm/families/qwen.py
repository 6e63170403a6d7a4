# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Qwen2-VL to Qwen3.5, and Cosmos3-Edge, which is alike: frames as pictures or a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from vts_ros.errors import VlmError
from vts_ros.vlm.boxes import Size
from vts_ros.vlm.families.family import FrameFeatures, Grid, Modality, Plain, Span

_CHANNELS = 3


class QwenVl(Plain):
    """
    Frames as pictures: 3D positions; Qwen3-VL has deepstack features.

    A frame is a picture of its own, one moment long, at its own aspect ratio: no tubelets. The
    chat template itself writes the marks around the image tokens.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any) -> None:
        self._model: Any = model.model
        vision = model.config.vision_config
        self._merge = int(vision.spatial_merge_size)
        self._cell_px = float(self._merge * vision.patch_size)

    def limited(self, images: Any, tokens: int) -> Mapping[str, Any]:
        """Return the pixels, from which the image processor scales down, for so many tokens."""
        most = min(images.size['longest_edge'], tokens * (images.patch_size * self._merge) ** 2)
        return {'size': {'shortest_edge': min(images.size['shortest_edge'], most),
                         'longest_edge': most}}

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return the grids after merging; the time axis of a picture is 1."""
        return [(height // self._merge, width // self._merge)
                for _, height, width in pixels['image_grid_thw'].tolist()]

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height in pixels of a preprocessed picture with this grid."""
        rows, columns = grid
        return self._cell_px * columns, self._cell_px * rows

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode pictures; the vision encoder attends within each picture only."""
        return _features(self._model.get_image_features(
            pixels['pixel_values'], pixels['image_grid_thw'], return_dict=True),
            self.grids(pixels))

    def positions(self, input_ids: Tensor, visual: Tensor, spans: Sequence[Span]) -> Tensor:
        """Return time, height and width positions [3, S], as the installed transformers do."""
        return self._positions(input_ids, visual.int(), image_grid_thw=self._patches(spans))

    def _positions(self, input_ids: Tensor, token_types: Tensor, **grids: Any) -> Tensor:
        positions, _ = self._model.get_rope_index(
            input_ids[None], mm_token_type_ids=token_types[None], **grids)
        return positions[:, 0]

    def _patches(self, spans: Sequence[Span]) -> Tensor:
        """Return the spans in patches, as the model counts them."""
        return torch.tensor([(steps, rows * self._merge, columns * self._merge)
                             for steps, rows, columns in spans], dtype=torch.int64).reshape(-1, 3)

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one large picture."""
        # Lists of pictures, as the models' own encoders return them whatever the annotations say.
        outputs: dict[str, Any] = {'pooler_output': [tokens]}
        if not deepstack:
            return BaseModelOutputWithPooling(**outputs)
        outputs['deepstack_features'] = [[level] for level in deepstack]
        return BaseModelOutputWithDeepstackFeatures(**outputs)

class QwenVideo(QwenVl):
    """
    Frames as a video: two frames that follow each other become one grid of visual tokens.

    Frames are scaled as pictures are. Of an odd number the last one is taken twice, as the video
    processors of transformers do.

    Parameters
    ----------
    interval_sec
        Spacing of the frames, by which Qwen2.5-VL counts time; 0 where it is not known, which is
        then as if a step were a second.

    """

    modality: Modality = 'video'
    handed_as: Modality = 'video'
    step_frames = 2
    tells_time = is_alone = False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any, interval_sec: float = 0.0) -> None:
        super().__init__(model, tokenizer, images)
        vision = model.config.vision_config
        if vision.temporal_patch_size != self.step_frames:
            raise VlmError('the model does not make one step of two frames of a video: set '
                           'vlm.frames_as to images')
        self._step_sec = self.step_frames * interval_sec or 1.0

    def around_video(self, times_sec: Sequence[float]) -> tuple[str, str]:
        """Return what stands before and after a video: the chat template itself writes it."""
        return '', ''

    def around_step(self, place: int, time_sec: float) -> tuple[str, str]:
        """Return what stands before and after the visual tokens of a step: nothing."""
        return '', ''

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """
        Encode pictures, two at a time; the vision encoder attends within each step only.

        Raises
        ------
        VlmError
            If two pictures that become one step have different grids.

        """
        patches, grids = pixels['pixel_values'], pixels['image_grid_thw']
        pictures = list(patches.split(grids.prod(1).tolist()))
        if len(pictures) % 2:
            pictures.append(pictures[-1])
            grids = torch.cat([grids, grids[-1:]])
        if not torch.equal(grids[::2], grids[1::2]):
            raise VlmError('two pictures of different sizes cannot be one step of a video')
        pairs = [_pair(*pair) for pair in zip(pictures[::2], pictures[1::2])]
        return _features(
            self._model.get_video_features(torch.cat(pairs), grids[::2], return_dict=True),
            self.grids({'image_grid_thw': grids[::2]}))

    def positions(self, input_ids: Tensor, visual: Tensor, spans: Sequence[Span]) -> Tensor:
        """Return time, height and width positions [3, S], as the installed transformers do."""
        return self._positions(
            input_ids, 2 * visual.int(), video_grid_thw=self._patches(spans),
            second_per_grid_ts=torch.full((len(spans),), self._step_sec))


class QwenTimedVideo(QwenVideo):
    """Qwen3-VL and Qwen3.5: each step stands between marks of its own, after its time as text."""

    tells_time = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any, interval_sec: float = 0.0) -> None:
        super().__init__(model, tokenizer, images, interval_sec)
        self._begin, self._end = (str(tokenizer.convert_ids_to_tokens(token)) for token in (
            model.config.vision_start_token_id, model.config.vision_end_token_id))

    def around_step(self, place: int, time_sec: float) -> tuple[str, str]:
        """Return what stands before and after the visual tokens of a step."""
        return f'<{time_sec:.1f} seconds>{self._begin}', self._end


def _pair(first: Tensor, second: Tensor) -> Tensor:
    """Return the patches [N, D] of two moments from those of two pictures, each twice its own."""
    # A patch is channels, moments, rows and columns.
    pair = first.unflatten(1, (_CHANNELS, QwenVideo.step_frames, -1)).clone()
    pair[:, :, 1] = second.unflatten(1, (_CHANNELS, QwenVideo.step_frames, -1))[:, :, 1]
    return pair.flatten(1)


def _features(encoded: Any, grids: Sequence[Grid]) -> list[FrameFeatures]:
    """Return what the vision encoder says, step by step."""
    levels = getattr(encoded, 'deepstack_features', None) or []
    return [FrameFeatures(tokens, tuple(level[index] for level in levels), grid)
            for index, (tokens, grid) in enumerate(
                zip(encoded.pooler_output, grids, strict=True))]
