# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of a language model, wherever that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vts_ros.vlm.boxes import Size
from vts_ros.vlm.conventions import Convention
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.pruning import Pruning

Grid = tuple[int, int]
#: Given an answer piece by piece; may return False when it wants no more of it.
OnText = Callable[[str], object]


@dataclass(frozen=True)
class Generation:
    """
    What the model wrote.

    Attributes
    ----------
    text
        Decoded, without special tokens.
    token_ids
        As generated, the end token included; empty where a server keeps them to itself.
    prompt_tokens, visual_tokens
        Length of the prompt after sparsification (0 if a server does not tell), and how many
        visual tokens of the window were kept.
    latency_ms
        ``prefill`` until the first token, ``decode`` for the rest; of the whole batch.
    drafted, accepted
        Tokens that were guessed from a draft, and how many of these are in the answer.

    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    visual_tokens: int
    latency_ms: dict[str, float]
    drafted: int = 0
    accepted: int = 0


class Encoded(Protocol):
    """What a language model keeps of a frame; it does not depend on other frames."""

    @property
    def grid(self) -> Grid:
        """Return rows and columns of visual tokens."""


class LanguageModel(Protocol):
    """
    A vision language model that takes a list of visual tokens to keep.

    Attributes
    ----------
    name
        Of the model.
    frames_as
        Whether frames are shown as ``images`` or as a ``video``.

    """

    name: str
    frames_as: str

    @property
    def pruning(self) -> Pruning:
        """Return what it means that tokens are dropped."""

    @property
    def convention(self) -> Convention:
        """Return how it was trained to be told of pictures and boxes."""

    @property
    def info(self) -> dict[str, Any]:
        """Return what runs where, for reports."""

    @property
    def step_frames(self) -> int:
        """Return how many frames have their visual tokens in common: 2 as a video, otherwise 1."""

    def encode(self, *pictures: NDArray[np.uint8]) -> Encoded:
        """Look at the RGB pictures uint8 [H, W, 3] of one step: one, or as a video one or two."""

    def seen_size(self, features: Any, kept: float = 1.0) -> Size:
        """
        Return width and height in pixels of such a picture, as the model gets it.

        That may depend on which share of its visual tokens is kept: a server is sent less then.
        """

    def prepare(self, features: Sequence[Any], captions: Any, prompt: Prompt) -> Any:
        """Put what was kept of the steps, with what is said of each, in a prompt."""

    def generate_batch(self, prepared: Sequence[Any], keeps: Sequence[NDArray[np.int32] | None],
                       max_new_tokens: int = 160, stop: Callable[[], bool] | None = None, *,
                       in_form: bool = False, on_text: OnText | None = None,
                       ) -> list[Generation]:
        """Answer several prompts at once, of each with the visual tokens to keep only."""

    def set_schema(self, schema: Mapping[str, Any]) -> None:
        """Change the JSON schema of the answers, for generations with ``in_form``."""

    def close(self) -> None:
        """Free what it holds."""
