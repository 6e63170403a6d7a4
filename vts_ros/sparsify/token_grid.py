# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Geometry between the cells of the proposal maps and the visual tokens of a language model."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def area_weights(tokens: int, cells: int) -> NDArray[np.float32]:
    """
    Return which share of each token is covered by each cell, along one axis.

    Returns
    -------
    float32 [tokens, cells]; rows sum to 1. Read-only, because it is cached.

    """
    edges = np.arange(tokens + 1) * (cells / tokens)
    cell = np.arange(cells)
    start = np.maximum(edges[:-1, None], cell)
    stop = np.minimum(edges[1:, None], cell + 1)
    overlap = np.clip(stop - start, 0.0, None)
    overlap /= overlap.sum(axis=1, keepdims=True)
    weights: NDArray[np.float32] = overlap.astype(np.float32)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=16)
def neighbours(rows: int, columns: int, radius: int) -> NDArray[np.int64]:
    """
    Return the tokens within a Chebyshev distance of each token, on one grid.

    Beyond the border the nearest token on the grid stands in: it is within the distance, so a
    maximum over the neighbours stays what it is.

    Returns
    -------
    int64 [rows, columns, (2 * radius + 1) ** 2], row-major positions. Read-only.

    """
    step = np.arange(-radius, radius + 1)
    row = np.clip(np.arange(rows)[:, None] + step, 0, rows - 1)
    column = np.clip(np.arange(columns)[:, None] + step, 0, columns - 1)
    near: NDArray[np.int64] = (
        row[:, None, :, None] * columns + column[None, :, None, :]).reshape(rows, columns, -1)
    near.setflags(write=False)
    return near
