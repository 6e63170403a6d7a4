# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Orders and quotas of visual tokens, from which exactly as many as wanted can be taken."""

from __future__ import annotations

from functools import lru_cache
import math

import numpy as np
from numpy.typing import NDArray


def ascending(positions: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return chosen positions as a keep list, sorted int32."""
    return np.sort(positions).astype(np.int32)


def ranked(score: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return all positions by falling score, whatever its shape; equal ones in their order."""
    return np.argsort(-score, axis=None, kind='stable')


def evenly(score: NDArray[np.floating]) -> NDArray[np.int64]:
    """
    Return all positions so that the first of them, however many, are as many of every frame.

    Within a frame the order is that of the score. Where a number does not divide by the frames,
    the frames whose next token has the higher score give one more.

    Parameters
    ----------
    score
        [frames, tokens]; higher is better.

    Returns
    -------
    int64 [frames * tokens], frame-major positions.

    """
    rank = np.argsort(np.argsort(-score, axis=1, kind='stable'), axis=1)
    return np.lexsort((-score.ravel(), rank.ravel()))


def cosine(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float32]:
    """
    Return the cosine over the last axis; 0 where one of the vectors is 0.

    Computed in double precision and then rounded, so that equal vectors have a cosine of exactly
    1 and repeated tokens are ties.
    """
    return (unit(first) * unit(second)).sum(axis=-1).astype(np.float32)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return vectors of length 1 over the last axis, those of length 0 as they are."""
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    result: NDArray[np.float64] = wide / np.where(length > 0.0, length, 1.0)
    return result


def apportion(wanted: NDArray[np.floating], limit: int, total: int) -> NDArray[np.int64]:
    """
    Turn shares into whole numbers of a given sum, by the largest remainder.

    Parameters
    ----------
    wanted
        Shares, not negative, that sum to about `total`.
    limit
        No number gets larger; what is over goes to those that lack most.
    total
        Sum of the result, at most `limit` times their number.

    """
    numbers = np.minimum(np.floor(wanted), limit).astype(np.int64)
    while numbers.sum() < total:
        numbers[np.argmax(np.where(numbers < limit, wanted - numbers, -np.inf))] += 1
    return numbers


@lru_cache(maxsize=256)
def spread(grid: tuple[int, int], count: int) -> NDArray[np.int64]:
    """
    Return so many positions of a grid, spread over it as evenly as a coarser grid is.

    These are the tokens in the middle of the cells of the largest grid of about the same shape
    that has no more cells; the rest is added one by one where the next token taken is farthest.

    Returns
    -------
    int64 [count], row-major positions, not sorted. Read-only, because it is cached.

    """
    rows, columns = grid
    chosen = np.zeros(0, np.int64)
    if count > 0:
        coarse = math.floor(rows * math.sqrt(count / (rows * columns)) + 0.5)
        coarse_rows = min(max(coarse, 1), rows, count)
        coarse_columns = min(columns, count // coarse_rows)
        row, column = _middles(rows, coarse_rows), _middles(columns, coarse_columns)
        chosen = (row[:, None] * columns + column).ravel()
    place = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    while len(chosen) < count:
        apart = ((place[:, None] - place[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen = np.append(chosen, np.argmax(apart))
    chosen.setflags(write=False)
    return chosen


def _middles(fine: int, coarse: int) -> NDArray[np.int64]:
    """Return which of the fine cells lies in the middle of each coarse one, along one axis."""
    return (2 * np.arange(coarse) + 1) * fine // (2 * coarse)
