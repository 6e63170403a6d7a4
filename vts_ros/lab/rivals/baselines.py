# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Simpler ways to choose visual tokens, to compare with.

Functions take the evidence of a window and the number of tokens to keep, and return exactly so
many positions. Benchmarks of token pruning find such controls hard to beat: UniPruneBench (2025,
arXiv 2511.02650) the choice at random, VTC-Bench (2025, arXiv 2510.07143) smaller pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
import zlib

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.rivals.ranking import ascending, evenly, spread
from vts_ros.rgb import check_rgb
from vts_ros.sparsify.selection import Proposal, Selection, token_budget, WindowFeatures


class RandomSelector:
    """
    Keep tokens at random, equally many of every frame; the newest frame counts as the key frame.

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
        keep = ascending(evenly(score)[:budget])
        return Selection(frames - 1, np.zeros(frames, np.float32), keep, score)


def rng_of_window(evidence: WindowFeatures, seed: int) -> np.random.Generator:
    """Return a random generator that depends on the pictures and the seed, not on calls before."""
    return np.random.default_rng((seed, zlib.crc32(evidence.frames.tobytes())))


def random(evidence: WindowFeatures, budget: int, seed: int = 0) -> NDArray[np.int32]:
    """
    Keep tokens at random, equally many of every frame.

    Exactly the budget by its nature: where it does not divide by the frames, chance decides which
    frames keep one token more.
    """
    score = rng_of_window(evidence, seed).random(evidence.tokens.shape[:2])
    return ascending(evenly(score)[:budget])


def downsample(evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
    """
    Keep a coarser grid of tokens of every frame.

    Stands for smaller pictures (VTC-Bench, 2025, arXiv 2510.07143) on the same features: the
    nearest token stands for each cell of a coarser grid. Frames get equal shares of the budget,
    the newest ones one more if it does not divide; what a coarser grid leaves over is filled up
    by the tokens farthest from those kept, see :func:`vts_ros.lab.rivals.ranking.spread`.
    """
    frames, tokens = evidence.tokens.shape[:2]
    share, rest = divmod(budget, frames)
    return ascending(np.concatenate([
        frame * tokens + spread(evidence.grid, share + (frame >= frames - rest))
        for frame in range(frames)]))


def newest(evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
    """
    Keep the newest frames whole.

    What is left of the budget goes to the frame before them, spread evenly over the picture.
    """
    frames, tokens = evidence.tokens.shape[:2]
    whole, rest = divmod(budget, tokens)
    kept = np.arange((frames - whole) * tokens, frames * tokens)
    return ascending(np.concatenate(
        [(frames - whole - 1) * tokens + spread(evidence.grid, rest), kept]))
