# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A model behind vLLM with the plugin of this package: it takes the list of visual tokens to keep.

What is kept is chosen here, as for a model in this process, and the server drops the other tokens
after its vision encoder. Pictures are sent as the image processor of the checkpoint scales them,
without loss, so that the server sees what a model in this process would see. As a video two of
them become one step, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import VlmError
from vts_ros.vlm.boxes import Size
from vts_ros.vlm.conventions import Convention, TRAINED_HERE
from vts_ros.vlm.language_model import Grid
from vts_ros.vlm.loading import load_processor
from vts_ros.vlm.picture_reduction import picture_reduction
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.pruning import Pruning
from vts_ros.vlm.served import ServedVlm
from vts_ros.vlm.served_families import OURS
from vts_ros.vlm.served_prompt import (
    AS_IN_PROCESS,
    KEEP,
    picture_part,
    ServedFrame,
    ServedPrompt,
    text_part,
)
from vts_ros.vlm.served_steps import StepsPrompt
from vts_ros.vlm.video_steps import VideoStep

#: Models that the plugin knows, by ``model_type``.
FAMILIES = ('qwen2_5_vl', 'qwen3_vl')
#: A server that was just started takes longer for its first answers than for any later ones.
_CHECK_SEC = 60.0
#: Frames of a step of a video, in the families above.
_STEP_FRAMES = 2


class KeepListPrompt(ServedPrompt):
    """A window whose frames are all sent, each with the visual tokens to keep."""

    ending = AS_IN_PROCESS
    def request(self, keep: NDArray[np.int32] | None) -> dict[str, Any]:
        """Return what a request says about what is kept [B] of the window, all if None."""
        content: list[dict[str, Any]] = []
        for frame, caption in zip(self.frames, self.captions, strict=True):
            content += [text_part(caption), picture_part(frame.picture, '.png')]
        request: dict[str, Any] = {'messages': self.chat(content)}
        if keep is not None:
            request['extra_body'] = {'mm_processor_kwargs': {KEEP: [
                {'grid': list(frame.grid), 'keep': kept.tolist()}
                for frame, kept in zip(self.frames, self._by_frame(keep))]}}
        return request

    def _by_frame(self, keep: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        """Return the tokens to keep of each frame, counted from its first."""
        starts = np.cumsum([0, *(math.prod(frame.grid) for frame in self.frames)])
        bounds = np.searchsorted(keep, starts)
        return [keep[begin:end] - start for begin, end, start in zip(bounds, bounds[1:], starts)]


class KeepListServedVlm(ServedVlm):
    """
    The same as :class:`ServedVlm` with the pruning of a model in this process.

    Parameters
    ----------
    url, model, options
        As for :class:`ServedVlm`.
    local_files_only
        Whether the image processor is looked up in the local cache only, never downloaded.
    tokens_per_frame
        Pictures are scaled down to so many visual tokens; 0 leaves it to the image processor.
    frames_as
        ``images``: each frame is a picture. ``video``: the frames of a camera are a video, of
        which two become one step.
    interval_sec
        Spacing of the frames of a video, by which Qwen2.5-VL counts time; 0 if not known, which
        is then as if a step were a second.

    Attributes
    ----------
    folder
        Where the files of the checkpoint are here.

    Raises
    ------
    VlmError
        As :class:`ServedVlm` does; if the image processor of the checkpoint is not at hand, if
        it is of another family or has no such videos, or if the server drops nothing.

    """

    pruning: Pruning = 'exact'

    def __init__(self, url: str, model: str = '', *, local_files_only: bool = True,
                 tokens_per_frame: int = 0, frames_as: str = 'images', interval_sec: float = 0.0,
                 **options: Any) -> None:
        self._local_files_only = local_files_only
        super().__init__(url, model, **options)
        try:
            images = self._images
            if frames_as == 'video':
                if images.temporal_patch_size != _STEP_FRAMES:
                    raise VlmError(f'{self.name} does not make one step of two frames of a video: '
                                   'set vlm.frames_as to images')
                self.frames_as, self.step_frames = frames_as, _STEP_FRAMES
                self._step_sec = _STEP_FRAMES * interval_sec or 1.0
            self._grids: dict[tuple[int, int], Grid] = {}
            self._cell_px = images.patch_size * images.merge_size
            self._size = images.size
            if tokens_per_frame:
                most = min(self._size.longest_edge, tokens_per_frame * self._cell_px ** 2)
                self._size = type(self._size)(
                    longest_edge=most, shortest_edge=min(self._size.shortest_edge, most))
            self._check_server()
        except BaseException:
            self.close()
            raise

    def _recognised(self, family: str) -> tuple[str, Convention]:
        """Return as which family it is asked: its files here say which it is."""
        self._images, convention, of_files, self.folder = load_processor(
            self.root, self._local_files_only)
        if of_files not in FAMILIES:
            raise VlmError(f'{self.name} is a {of_files} model; a server drops tokens of: '
                           f'{", ".join(FAMILIES)}. Set vlm.server_pruning to scaled')
        return OURS if convention == TRAINED_HERE else of_files, convention

    def seen_size(self, features: ServedFrame, kept: float = 1.0) -> Size:
        """Return width and height in pixels of a picture, of which always all is sent."""
        height, width = features.picture.shape[:2]
        return float(width), float(height)

    def _check_server(self) -> None:
        """See that the server drops what is not kept: without the plugin it says nothing."""
        frame = self.encode(np.zeros((64, 64, 3), np.uint8))
        captions: Any = [VideoStep(0.0)] if self.frames_as == 'video' else ['.']
        prompt = self.prepare([frame], captions, Prompt('', '.'))
        total = math.prod(frame.grid)
        few, whole = (self.generate_batch(
            [prompt], [np.arange(kept, dtype=np.int32)], 1, limit_sec=_CHECK_SEC)[0]
            for kept in (1, total))
        if whole.prompt_tokens - few.prompt_tokens != total - 1:
            raise VlmError(f'{self._client.place} drops no tokens: start it with the plugin of '
                           'vts_ros (docs/vllm.md), or set vlm.server_pruning to scaled')

    def encode(self, *pictures: NDArray[np.uint8]) -> ServedFrame:
        """
        Scale the RGB pictures uint8 [H, W, 3] of a frame or a step as the image processor does.

        Raises
        ------
        VlmError
            If the two pictures of a step of a video have different sizes.

        """
        picture, *others = (self._scaled(shown) for shown in pictures)
        if any(other.shape != picture.shape for other in others):
            raise VlmError('two pictures of different sizes cannot be one step of a video')
        height, width = picture.shape[:2]
        return ServedFrame(picture, (height // self._cell_px, width // self._cell_px), *others)

    def _scaled(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(self._images.resize(
            np.ascontiguousarray(picture.transpose(2, 0, 1)), self._size,
            self._images.resample, factor=self._cell_px).transpose(1, 2, 0))

    def token_grid(self, height: int, width: int) -> Grid:
        """Return rows and columns of visual tokens for pictures of this size in pixels."""
        if (height, width) not in self._grids:
            self._grids[height, width] = self.encode(np.zeros((height, width, 3), np.uint8)).grid
        return self._grids[height, width]

    def reduction(self, height: int, width: int, least: tuple[int, int] = (0, 0)) -> int:
        """Return by what a picture can be divided, as a model in this process has it."""
        return picture_reduction(self.token_grid, self._size_of, height, width, least)

    def _size_of(self, grid: Grid) -> Size:
        rows, columns = grid
        return float(columns * self._cell_px), float(rows * self._cell_px)

    def prepare(self, features: Sequence[ServedFrame], captions: Any, prompt: Prompt
                ) -> ServedPrompt:
        """Put frames, oldest first, or the steps of videos in a prompt."""
        if self.frames_as == 'video':
            return StepsPrompt(tuple(features), (), prompt, tuple(captions), self._step_sec)
        return KeepListPrompt(tuple(features), tuple(captions), prompt)
