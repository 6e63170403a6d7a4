# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keep lists as they come with a request, and the positions of what is left of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Name of the keep lists in ``mm_processor_kwargs``, and of the field of a picture that holds its
#: own.
KEEP = 'vts_keep'


class KeepList(NamedTuple):
    """Rows and columns of the visual tokens of a picture, and those to keep, ascending [K]."""

    grid: tuple[int, int]
    keep: tuple[int, ...]

    @classmethod
    def of(cls, given: object) -> KeepList:
        """
        Read one from a request: ``{"grid": [rows, columns], "keep": [...]}``.

        Raises
        ------
        ValueError
            If it is none, or names tokens that the grid does not have.

        """
        if not isinstance(given, Mapping) or set(given) != {'grid', 'keep'}:
            raise ValueError(f'each entry of {KEEP} is an object with "grid" and "keep"')
        grid, keep = given['grid'], given['keep']
        if not (_are_numbers(grid) and len(grid) == 2 and _are_numbers(keep)):
            raise ValueError(f'"grid" and "keep" of {KEEP} are lists of whole numbers')
        rows, columns = grid
        if any(second <= first for first, second in pairwise(keep)) or (
                keep and not 0 <= keep[0] <= keep[-1] < rows * columns):
            raise ValueError(
                f'a list of {KEEP} is not ascending within 0..{rows * columns - 1}')
        return cls((rows, columns), tuple(keep))

    def check(self, grid: tuple[int, int]) -> None:
        """Raise ValueError if the picture has another grid here than the client took it for."""
        if self.grid != grid:
            raise ValueError(
                f'{KEEP} is for a grid of {self.grid[0]} x {self.grid[1]} visual tokens, but the '
                f'picture has {grid[0]} x {grid[1]} here: the client needs the image processor of '
                'this checkpoint')


def keep_lists(options: Mapping[str, Any], pictures: int) -> list[KeepList] | None:
    """
    Return the keep lists of a request, one per picture; None if it has none.

    Raises
    ------
    ValueError
        If there are not as many as pictures, or one is wrong.

    """
    given = options.get(KEEP)
    if given is None:
        return None
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != pictures:
        raise ValueError(f'{KEEP} is a list with an entry for each of the {pictures} pictures')
    return [KeepList.of(one) for one in given]


class PrunedPicture(NamedTuple):
    """
    A picture in a pruned prompt.

    Attributes
    ----------
    start
        Where its first visual token is, or would be, in the pruned prompt.
    grid
        Rows and columns of all of its visual tokens.
    keep
        Those that are left [K], row-major.

    """

    start: int
    grid: tuple[int, int]
    keep: NDArray[np.int64]


def positions(length: int, pictures: Iterable[PrunedPicture]) -> NDArray[np.int64]:
    """
    Return the positions [3, S] (time, height, width) of a pruned prompt.

    Survivors stand where they stand in the whole prompt, and so does the text: a picture takes as
    many positions as its longer side has tokens, whatever is left of it, as in Qwen2.5-VL and
    Qwen3-VL.

    Parameters
    ----------
    length
        Of the pruned prompt.
    pictures
        In the order of the prompt.

    """
    parts: list[NDArray[np.int64]] = []
    done = position = 0
    for start, (rows, columns), keep in pictures:
        text = start - done
        parts.append(np.tile(position + np.arange(text), (3, 1)))
        position += text
        row, column = np.divmod(keep, columns)
        parts.append(position + np.stack([np.zeros_like(row), row, column]))
        position += max(rows, columns)
        done = start + len(keep)
    parts.append(np.tile(position + np.arange(length - done), (3, 1)))
    return np.concatenate(parts, axis=1)


def _are_numbers(given: object) -> bool:
    return isinstance(given, Sequence) and all(
        isinstance(one, int) and not isinstance(one, bool) for one in given)
