# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What frozen networks say of the windows.

Where the language model is trained over many passes, they would say the same each time: it is
computed when first asked for and then kept on disk. Of windows that are seen once, nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.lab.rivals.ranking import ascending, ranked
from vts_ros.lab.training.fast_forward import FastVision, products_in_bfloat16
from vts_ros.lab.training.shards import Shards, Windows
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import FrameFeatures

#: Share of the tokens at which a window is scored; the scores hold for every other share.
_RATIO = 0.6


class TokenFeatures(Protocol):
    """Features of windows, and the tokens that are kept of them."""

    def windows(self, indices: Sequence[int]) -> list[list[FrameFeatures]]:
        """Return the features of the frames of windows."""

    def keep(self, index: int, budget: int) -> NDArray[np.int32]:
        """Return the tokens that the sparsifier keeps of a window, ascending int32 [budget]."""


class PassingFeatures:
    """Features and keep lists of windows that come once; nothing is kept."""

    def __init__(self, data: Windows, vision: FastVision, sparsifier: Sparsifier) -> None:
        self._data, self._vision, self._sparsifier = data, vision, sparsifier

    @torch.no_grad()
    def windows(self, indices: Sequence[int]) -> list[list[FrameFeatures]]:
        """Return the features of the frames of windows."""
        pictures = [self._data.frames(index) for index in indices]
        with products_in_bfloat16(self._vision.device):
            tokens, deepstack = self._vision(torch.from_numpy(np.concatenate(pictures)))
        # As others read them from disk.
        frames = [FrameFeatures(rows.float(), tuple(level.float() for level in levels),
                                self._vision.grid)
                  for rows, *levels in zip(tokens, *deepstack)]
        length = len(pictures[0])
        return [frames[first:first + length] for first in range(0, len(frames), length)]

    def keep(self, index: int, budget: int) -> NDArray[np.int32]:
        """Return the tokens that the sparsifier keeps of a window, ascending int32 [budget]."""
        proposals = [self._sparsifier.propose(frame) for frame in self._data.frames(index)]
        return self._sparsifier.choose(proposals, self._vision.grid, budget).keep


class Features:
    """
    Features and token scores of windows; several processes may use one folder.

    Parameters
    ----------
    folder
        Where they are kept; of one vision encoder and one proposal network.

    """

    def __init__(self, folder: Path, data: Shards, vision: FastVision,
                 sparsifier: Sparsifier) -> None:
        self._data, self._vision, self._sparsifier = data, vision, sparsifier
        frames = len(data.frames(0))
        tokens = vision.grid[0] * vision.grid[1]
        config = vision.visual.config
        levels = 1 + len(config.deepstack_visual_indexes)
        folder.mkdir(parents=True, exist_ok=True)
        self._features = _array(folder / 'features.npy', np.float16, (
            len(data), frames, levels, tokens, config.out_hidden_size))
        #: Score and saliency.
        self._scores = _array(folder / 'scores.npy', np.float32, (len(data), 2, frames, tokens))
        self._have = _array(folder / 'have.npy', np.uint8, (len(data),))
        #: Key frame of each window, from 1; 0 where its tokens have no scores yet.
        self._keys = _array(folder / 'keys.npy', np.uint8, (len(data),))

    def windows(self, indices: Sequence[int]) -> list[list[FrameFeatures]]:
        """Return the features of the frames of windows."""
        missing = [index for index in indices if not self._have[index]]
        if missing:
            self._encode(missing)
        return [[self._frame(levels) for levels in torch.from_numpy(
            self._features[index].astype(np.float32))] for index in indices]

    def keep(self, index: int, budget: int) -> NDArray[np.int32]:
        """Return the tokens that the sparsifier keeps of a window, ascending int32 [budget]."""
        if not self._keys[index]:
            self._score(index)
        score, salient = self._scores[index].copy()
        reserves = self._sparsifier.reserves(budget, score.shape[1])
        for frame, reserve in zip((int(self._keys[index]) - 1, -1), reserves):
            score[frame, ranked(salient[frame])[:reserve]] = np.inf
        return ascending(ranked(score)[:budget])

    def _frame(self, levels: torch.Tensor) -> FrameFeatures:
        return FrameFeatures(levels[0], tuple(levels[1:]), self._vision.grid)

    @torch.no_grad()
    def _encode(self, indices: Sequence[int]) -> None:
        frames = np.concatenate([self._data.frames(index) for index in indices])
        with products_in_bfloat16(self._vision.device):
            tokens, deepstack = self._vision(torch.from_numpy(frames))
        levels = torch.stack([tokens, *deepstack], 1).float().cpu().numpy()
        for index, window in zip(indices, np.split(levels, len(indices))):
            self._features[index] = window
            self._have[index] = 1

    def _score(self, index: int) -> None:
        proposals = [self._sparsifier.propose(frame) for frame in self._data.frames(index)]
        selection = self._sparsifier.select(proposals, self._vision.grid, _RATIO)
        # Without novelty the score is the saliency.
        salient = self._sparsifier.variant(alpha=0.0).select(proposals, self._vision.grid, _RATIO)
        self._scores[index] = selection.score, salient.score
        self._keys[index] = selection.key + 1


def _array(path: Path, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Open an array on disk for reading and writing; made empty if it is not there."""
    if not path.exists():
        made = path.with_name(f'{path.name}.{np.random.default_rng().integers(1 << 62)}')
        np.lib.format.open_memmap(made, 'w+', kind, shape).flush()
        # Only the first of several processes brings it in place.
        with suppress(FileExistsError):
            path.hardlink_to(made)
        made.unlink()
    array = np.lib.format.open_memmap(path, 'r+')
    if array.shape != shape:
        raise ValueError(f'{path} is of other windows or another model: remove its folder')
    return array
