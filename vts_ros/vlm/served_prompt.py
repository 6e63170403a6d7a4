# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A window as a server gets it: pictures, each as large as what is kept of it, and texts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.vlm.language_model import Grid
from vts_ros.vlm.prompts import Prompt

#: Name of the keep lists in a request, see vts_ros/vllm_plugin/keep_lists.py.
KEEP = 'vts_keep'
#: What a model in this process reads after instructions before the pictures, see PromptWriter.
AS_IN_PROCESS = '\n'
#: A frame of which little is kept is sent at a quarter of its sides: less shows nothing.
LEAST_SCALE = 0.25
#: Pictures with shorter sides are refused by servers.
MIN_SIDE_PX = 32
_JPEG_QUALITY = 90
_KINDS = {'.jpg': 'jpeg', '.png': 'png'}


class ServedFrame(NamedTuple):
    """
    A frame as it is sent, or a step of a video.

    Attributes
    ----------
    picture
        RGB, uint8 [H, W, 3].
    grid
        Its cells.
    second
        The other picture of a step of a video; None of a frame.

    """

    picture: NDArray[np.uint8]
    grid: Grid
    second: NDArray[np.uint8] | None = None

    def at(self, share: float) -> NDArray[np.uint8]:
        """Return the picture with about such a share of its pixels, above 0 to 1."""
        scale = self._scale(share)
        return self.picture if scale == 1.0 else resized(self.picture, scale)

    def size_at(self, share: float) -> tuple[int, int]:
        """Return height and width of that picture."""
        return _scaled(self.picture, self._scale(share))

    def _scale(self, share: float) -> float:
        least = MIN_SIDE_PX / min(self.picture.shape[:2])
        return min(1.0, max(share ** 0.5, LEAST_SCALE, least))


@dataclass(frozen=True, eq=False)
class ServedPrompt:
    """
    A window with the text before each of its frames, and what is asked.

    Attributes
    ----------
    ending
        Of what is asked before the pictures.

    """

    ending = ''
    frames: tuple[ServedFrame, ...]
    captions: tuple[str, ...]
    prompt: Prompt

    @property
    def cells(self) -> int:
        """Return how many cells all frames have."""
        return sum(math.prod(frame.grid) for frame in self.frames)

    def messages(self, keep: NDArray[np.int32] | None) -> list[dict[str, Any]]:
        """Return the chat with what is kept [B] of the window, all if None."""
        kept = np.full(self.cells, keep is None)
        if keep is not None:
            kept[keep] = True
        ends = np.cumsum([math.prod(frame.grid) for frame in self.frames])[:-1]
        content: list[dict[str, Any]] = []
        for frame, caption, part in zip(
                self.frames, self.captions, np.split(kept, ends), strict=True):
            if part.any():
                content += [text_part(caption), picture_part(frame.at(float(part.mean())))]
        return self.chat(content)

    def chat(self, content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the chat with what is shown."""
        system = [{'role': 'system', 'content': self.prompt.system}] if self.prompt.system else []
        before = f'{self.prompt.before}{self.ending}' if self.prompt.before else ''
        texts, after = ([text_part(text)] if text else [] for text in (
            before, self.prompt.instruction))
        return [*system, {'role': 'user', 'content': [*texts, *content, *after]}]

    def request(self, keep: NDArray[np.int32] | None) -> dict[str, Any]:
        """Return what a request says about what is kept [B] of the window, all if None."""
        return {'messages': self.messages(keep)}


def text_part(text: str) -> dict[str, Any]:
    """Return a text as a part of a message."""
    return {'type': 'text', 'text': text}


def resized(rgb: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Return an RGB picture with its sides scaled."""
    height, width = _scaled(rgb, scale)
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _scaled(rgb: NDArray[np.uint8], scale: float) -> tuple[int, int]:
    height, width = rgb.shape[:2]
    return max(1, round(scale * height)), max(1, round(scale * width))


def picture_part(rgb: NDArray[np.uint8], suffix: str = '.jpg') -> dict[str, Any]:
    """Return an RGB picture as a part of a message; ``.png`` loses nothing."""
    url = f'data:image/{_KINDS[suffix]};base64,{_encoded(rgb, suffix)}'
    return {'type': 'image_url', 'image_url': {'url': url}}


def video_part(pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """
    Return RGB pictures as a video, a part of a message, without loss.

    As vLLM takes frames that are cut out already: it calls them JPEGs, and reads what they are.
    """
    url = f'data:video/jpeg;base64,{",".join(_encoded(rgb, ".png") for rgb in pictures)}'
    return {'type': 'video_url', 'video_url': {'url': url}}


def _encoded(rgb: NDArray[np.uint8], suffix: str) -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == '.jpg' else []
    done, data = cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]), options)
    assert done
    return b64encode(data.tobytes()).decode()
