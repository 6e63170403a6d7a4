# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The interface of a family, and what the families of plain positions have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from vts_ros.errors import VlmError
from vts_ros.vlm.boxes import Size

Grid = tuple[int, int]
Modality = Literal['image', 'video']
#: Steps, rows and columns of visual tokens that follow each other without text: of a picture, or
#: of a video.
Span = tuple[int, int, int]


class FrameFeatures(NamedTuple):
    """
    What the vision encoder says of one step: a frame, or two that become one in a video.

    It does not depend on other steps, so it can be kept.

    Attributes
    ----------
    tokens
        Visual tokens [N, D], row-major over the grid.
    deepstack
        Further features [N, D] that are added in the first layers of the language model.
    grid
        Rows and columns, N = rows * columns.
    pinned
        Rows [P, D] that stand after the tokens in the prompt and belong to no cell of the grid,
        such as an image newline: never dropped. Of a video only the last step has them there.
    whole
        The same before the tokens, such as a view of the whole picture beside one in detail.

    """

    tokens: Tensor
    deepstack: tuple[Tensor, ...]
    grid: Grid
    pinned: Tensor | None = None
    whole: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """Return all that goes in the prompt [W + N + P, D]."""
        within = self.rows_within
        return within if self.pinned is None else torch.cat([within, self.pinned])

    @property
    def rows_within(self) -> Tensor:
        """Return the same of a step of a video that goes on [W + N, D]."""
        return self.tokens if self.whole is None else torch.cat([self.whole, self.tokens])


class Family(Protocol):
    """
    One family: how it reads pictures, writes them in a prompt, and counts positions.

    Attributes
    ----------
    picture_options
        Options of the image processor with which every picture becomes one grid.
    pinned, whole
        How many image tokens stand after and before those of the grid, see FrameFeatures. Of a
        video the last step alone has pinned ones.
    tail
        How many tokens end a picture after its last image token, and are seen by the others.
    chat_template
        That of its processor, where it is not the one of the tokenizer; else None.
    opening
        What a prompt begins with, where the chat template leaves it to the processor; else empty.
    placeholder
        What the chat template writes for a picture, where that is not an image token; else empty.
    modality
        How frames stand in the prompt: each as an ``image``, or as steps of a ``video``.
    handed_as
        As what their visual tokens are handed to the model.
    step_frames
        How many frames become one grid of visual tokens.
    reads_together
        Why pictures cannot be read before the last one is there; empty where they can.

    """

    picture_options: Mapping[str, Any]
    pinned: int
    whole: int
    tail: int
    chat_template: str | None
    opening: str
    placeholder: str
    modality: Modality
    handed_as: Modality
    step_frames: int
    reads_together: str

    def limited(self, images: Any, tokens: int) -> Mapping[str, Any]:
        """Return options of the image processor with which no picture has more tokens."""

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Return rows and columns of visual tokens of each preprocessed picture."""

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height in pixels of a preprocessed picture with this grid."""

    def encode(self, pixels: Mapping[str, Tensor]) -> list[FrameFeatures]:
        """Encode preprocessed pictures, each step for itself."""

    def frame(self, image_tokens: str) -> str:
        """Return what stands in the prompt for a picture, around its image tokens."""

    def image_tokens(self, token: str, grid: Grid) -> str:
        """Return the image tokens of a picture but for those pinned, and what is between them."""

    def positions(self, input_ids: Tensor, visual: Tensor, spans: Sequence[Span]) -> Tensor:
        """Return the positions [..., S] of a prompt [S]; ``visual`` marks its visual tokens."""

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return visual tokens in the form in which the model takes them over."""

    def told(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """Return what else the model is told of prompts [B, S]."""


class VideoFamily(Family, Protocol):
    """
    A family that reads frames as steps of a video.

    Attributes
    ----------
    tells_time
        Whether the prompt says of each step when it was.
    is_alone
        Whether a prompt may have one video only.

    """

    tells_time: bool
    is_alone: bool

    def around_video(self, times_sec: Sequence[float]) -> tuple[str, str]:
        """Return what stands before and after a video with steps at these times."""

    def around_step(self, place: int, time_sec: float) -> tuple[str, str]:
        """Return what stands before and after the visual tokens of a step of a video."""


class Plain:
    """What most families have in common: image tokens alone, each picture read as it comes."""

    picture_options: Mapping[str, Any] = {}
    pinned = whole = tail = 0
    chat_template: str | None = None
    opening = placeholder = ''
    modality: Modality = 'image'
    handed_as: Modality = 'image'
    step_frames = 1
    reads_together = ''

    def frame(self, image_tokens: str) -> str:
        """Return the image tokens alone."""
        return image_tokens

    def image_tokens(self, token: str, grid: Grid) -> str:
        """Return a token for each cell."""
        return token * (grid[0] * grid[1])

    def told(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """Return nothing: image tokens are found by their id."""
        return {}


class Flat(Plain):
    """
    Families whose tokens are numbered 0, 1, 2 and whose pictures all have the same square grid.

    A picture is scaled to the square that the vision encoder was made for, whatever its aspect
    ratio; so cell (row, column) of the grid is that part of the picture.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 images: Any) -> None:
        self._model: Any = model.model
        self._config = model.config
        self._tokenizer = tokenizer

    def limited(self, images: Any, tokens: int) -> Mapping[str, Any]:
        """Return no options: every picture has the tokens that the vision encoder was made for."""
        return {}

    def seen_size(self, grid: Grid) -> Size:
        """Return width and height of the square."""
        side_px = self._config.vision_config.image_size
        side_px = float(side_px if isinstance(side_px, int) else side_px[0])
        return side_px, side_px

    def positions(self, input_ids: Tensor, visual: Tensor, spans: Sequence[Span]) -> Tensor:
        """Return 0, 1, 2 as [1, S]."""
        return torch.arange(len(input_ids))[None]

    def encoder_outputs(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> ModelOutput:
        """Return the tokens as if they were those of one large picture."""
        # Lists of pictures, as the models' own encoders return them whatever the annotations say.
        outputs: dict[str, Any] = {'pooler_output': [tokens]}
        return BaseModelOutputWithPooling(**outputs)

    def _marker(self, name: str, default: str) -> str:
        """Return a special token by the name that the tokenizer of the checkpoint gives it."""
        return str(getattr(self._tokenizer, name, None) or default)


def square(pixels: Tensor, side_px: int) -> None:
    """Refuse pictures [..., H, W] that are not of the square that gives the expected grid."""
    height, width = pixels.shape[-2:]
    if (height, width) != (side_px, side_px):
        raise VlmError(f'the image processor of the checkpoint makes pictures of {width}x{height} '
                       f'px, the model needs {side_px}x{side_px}')


def frames(features: Sequence[Tensor] | Tensor, grids: Sequence[Grid],
           pinned: int = 0) -> list[FrameFeatures]:
    """
    Split the rows [N + P, D] that a model made of each picture in those of the grid and the rest.

    Raises
    ------
    VlmError
        If there are not as many rows as the grid has cells.

    """
    if [len(rows) - pinned for rows in features] != [high * wide for high, wide in grids]:
        raise VlmError(f'the model made {[len(rows) for rows in features]} visual tokens of '
                       f'pictures with grids {list(grids)}')
    return [FrameFeatures(rows[:len(rows) - pinned], (), grid,
                          rows[len(rows) - pinned:] if pinned else None)
            for rows, grid in zip(features, grids)]
