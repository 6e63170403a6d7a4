# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Move the token budget of a window to the frames of moments that matter.

After the published form of an audio-guided budget, rho(t) = rho_max - (rho_max - rho_min) * s(t),
in which rho is the share that is kept and s how little a moment matters. Here s(t) is how much it
matters, so the sign is the other: rho(t) = rho_min + (rho_max - rho_min) * s(t). What the pictures
alone give a frame is multiplied by rho(t), then all of it is scaled so that the total stays the
same. So only the ratio of rho_max and rho_min counts, and what matters all the time changes
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.sparsify.selection import Selection

#: rho_max / rho_min: how many times as much a moment gets that matters as one that does not.
RATIO = 3.0


def rho(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rho(t) / rho_min, 1 to RATIO, for how much moments matter, 0 to 1."""
    return 1.0 + (RATIO - 1.0) * weights


def frame_budgets(counts: NDArray[np.int64], cells: int, weights: NDArray[np.float64]
                  ) -> NDArray[np.int64]:
    """
    Return how many tokens each frame keeps; together as many as before.

    Parameters
    ----------
    counts
        int64 [T], how many each frame would keep if all moments mattered alike.
    cells
        Tokens of a frame: none keeps more.
    weights
        float64 [T], how much each moment matters, 0 to 1.

    """
    total, wanted = int(counts.sum()), counts * rho(weights)
    exact = np.zeros(len(counts))
    is_free = counts > 0
    # What a full frame cannot take is shared by the others.
    while is_free.any():
        left = total - cells * int((exact == cells).sum())
        exact[is_free] = left * wanted[is_free] / wanted[is_free].sum()
        is_over = is_free & (exact >= cells)
        if not is_over.any():
            break
        exact[is_over] = cells
        is_free &= ~is_over
    budgets = np.floor(exact + 1e-9).astype(np.int64)
    # The largest remainders get what is left, equal ones in their order.
    by_remainder = np.argsort(-np.where(budgets < cells, exact - budgets, -1.0), kind='stable')
    budgets[by_remainder[:total - int(budgets.sum())]] += 1
    return budgets


def moved(selection: Selection, salient: NDArray[np.float32], reserves: Sequence[int],
          weights: NDArray[np.float64]) -> Selection:
    """
    Return a selection of as many tokens with more of the frames that matter.

    Parameters
    ----------
    selection
        What is kept if all moments matter alike; its score is [T, N].
    salient
        float32 [T, N], the saliency of the tokens.
    reserves
        How many tokens of each frame are kept for their saliency, whatever their score is. Their
        share in what the frame keeps stays the same.
    weights
        float64 [T], how much each moment matters, 0 to 1.

    """
    frames, cells = selection.score.shape
    counts = np.bincount(selection.keep // cells, minlength=frames)
    budgets = frame_budgets(counts, cells, weights)
    keep: list[NDArray[np.int64]] = []
    for frame in range(frames):
        budget, count = int(budgets[frame]), int(counts[frame])
        # Of a count of 0 nothing was reserved.
        reserved = reserves[frame] * budget // max(count, 1)
        rank = np.empty(cells, np.int64)
        rank[np.argsort(-salient[frame], kind='stable')] = np.arange(cells)
        score = np.where(rank < reserved, np.inf, selection.score[frame])
        best = np.argsort(-score, kind='stable')[:budget]
        keep.append(frame * cells + np.sort(best))
    return selection._replace(keep=np.concatenate(keep).astype(np.int32))
