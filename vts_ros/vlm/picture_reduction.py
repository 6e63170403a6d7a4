# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""By what a picture can be divided while it is decoded, so that a model still sees all it can."""

from __future__ import annotations

from collections.abc import Callable

from vts_ros.vlm.boxes import Size
from vts_ros.vlm.language_model import Grid

#: Pictures are decoded so many times smaller for less than nothing.
_REDUCTIONS = (8, 4, 2)


def picture_reduction(token_grid: Callable[[int, int], Grid], size_of: Callable[[Grid], Size],
                      height: int, width: int, least: tuple[int, int] = (0, 0)) -> int:
    """
    Return by what a picture can be divided, so that the model still gets all that it sees.

    Parameters
    ----------
    token_grid
        Returns rows and columns of visual tokens for pictures of a height and width in pixels.
    size_of
        Returns width and height in pixels of a picture with such a grid, as the model gets it.
    height, width
        Of the picture in pixels.
    least
        Height and width that the picture must keep, whatever the model sees.

    Returns
    -------
    8, 4, 2, or 1 where it is not that large.

    """
    grid = token_grid(height, width)
    seen_width, seen_height = size_of(grid)
    for factor in _REDUCTIONS:
        rows, columns = -(-height // factor), -(-width // factor)
        if (rows >= max(seen_height, least[0]) and columns >= max(seen_width, least[1])
                and token_grid(rows, columns) == grid):
            return factor
    return 1
