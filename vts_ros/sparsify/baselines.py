# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simpler ways to choose visual tokens, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.frames import check_rgb
from vts_ros.sparsify.types import Proposal, Selection, token_budget


class RandomSelector:
    """
    Keep tokens by lot, equally many of every frame; the newest frame counts as the key frame.

    Parameters
    ----------
    seed
        Two selectors with the same seed make the same choices in the same order.

    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def propose(self, rgb: NDArray[np.uint8]) -> Proposal:
        """Return an empty proposal: nothing has to be looked at."""
        check_rgb(rgb)
        return Proposal(np.zeros((1, 1), np.float32), np.ones((1, 1, 1), np.float32))

    def select(self, proposals: Sequence[Proposal], grid: tuple[int, int], keep_ratio: float,
               previous_key: int | None = None) -> Selection:
        """Choose the tokens of a window; see ``TokenSelector``."""
        frames, tokens = len(proposals), grid[0] * grid[1]
        budget = token_budget(frames, grid, keep_ratio, previous_key)
        score = self._random.random((frames, tokens), np.float32)
        # The rank within its frame comes first, so frames differ by one token at most.
        rank = np.argsort(np.argsort(-score, axis=1, kind='stable'), axis=1)
        order = np.lexsort((-score.ravel(), rank.ravel()))
        keep = np.sort(order[:budget]).astype(np.int32)
        return Selection(frames - 1, np.zeros(frames, np.float32), keep, score)
