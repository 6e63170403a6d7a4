# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Move the token budget of a window to the frames of moments that matter.

After the published form of an audio-guided budget, rho(t) = rho_max - (rho_max - rho_min) * s(t),
in which s says how little a moment matters. Here s(t) is how much it matters, so the sign is the
other, and rho_min is what the pictures alone give a frame, so that what they show counts on:

    rho(t) = rho_pictures(t) + GAIN * rho_mean * (s(t) - min s)

Then all of it is scaled, so that exactly as many tokens are kept. What matters all the time
changes nothing, and a moment that matters gets more even if the pictures would give it nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.sparsify.selection import Selection

#: (rho_max - rho_min) / rho_mean: a moment that matters fully gets as much again as a frame has on
#: average, before all is scaled. `vts eval signals` measures what others give.
GAIN = 1.0


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
    total = int(counts.sum())
    wanted = counts + GAIN * total / len(counts) * (weights - weights.min())
    exact, is_free = np.zeros(len(counts)), wanted > 0.0
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
    # The largest remainders get what is left; of equal ones the moment that matters more, and then
    # in their order.
    remainders = np.where(budgets < cells, exact - budgets, -1.0)
    by_remainder = np.lexsort((-weights, -remainders))
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
