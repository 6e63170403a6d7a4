# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where what is left of a prompt stands: in the places that it has in the whole prompt.

A video of Qwen2.5-VL is one block of visual tokens, whose steps are apart in time by as much as
they are in the world. In Qwen3-VL each step is a block of its own between marks, after its time as
text, and all of them are at time 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PrunedBlock(NamedTuple):
    """
    What is left of visual tokens that follow each other without text.

    A picture, a video of Qwen2.5-VL, or a step of a video of Qwen3-VL.

    Attributes
    ----------
    start
        Where its first visual token is, or would be, in the pruned prompt.
    grid
        Rows and columns of all of its visual tokens, of each step.
    keep
        Those that are left [K], row-major, step after step.
    times
        Positions in time of its steps, from the first.

    """

    start: int
    grid: tuple[int, int]
    keep: NDArray[np.int64]
    times: Sequence[int] = (0,)


def positions(length: int, blocks: Iterable[PrunedBlock]) -> NDArray[np.int64]:
    """
    Return the positions [3, S] (time, height, width) of a pruned prompt.

    Survivors stand where they stand in the whole prompt, and so does the text: a block takes as
    many positions as its longer side has tokens, whatever is left of it, as in Qwen2.5-VL and
    Qwen3-VL.

    Parameters
    ----------
    length
        Of the pruned prompt.
    blocks
        In the order of the prompt.

    """
    parts: list[NDArray[np.int64]] = []
    done = position = 0
    for start, (rows, columns), keep, times in blocks:
        text = start - done
        parts.append(np.tile(position + np.arange(text), (3, 1)))
        position += text
        step, place = np.divmod(keep, rows * columns)
        row, column = np.divmod(place, columns)
        parts.append(position + np.stack([np.asarray(times, np.int64)[step], row, column]))
        position += max(rows, columns)
        done = start + len(keep)
    parts.append(np.tile(position + np.arange(length - done), (3, 1)))
    return np.concatenate(parts, axis=1)


def step_times(steps: int, step_sec: float, tokens_per_second: float) -> list[int]:
    """
    Return the positions in time of the steps of a video of Qwen2.5-VL, from the first.

    As transformers computes them, with floats of 32 bits.
    """
    interval = np.float32(tokens_per_second) * np.float32(step_sec)
    return [int(time) for time in np.arange(steps, dtype=np.float32) * interval]


def counts_of_steps(keep: NDArray[np.int64], grid: tuple[int, int], steps: int) -> list[int]:
    """Return how many visual tokens are kept [K] of each step of a video."""
    rows, columns = grid
    return [int(count) for count in np.bincount(keep // (rows * columns), minlength=steps)]


def timed_steps(stamps: Sequence[Sequence[int]], counts: Sequence[int], begin: int, token: int,
                end: int) -> list[int]:
    """
    Return the tokens of a pruned video of Qwen3-VL, without the marks around all of it.

    Parameters
    ----------
    stamps
        Tokens of the time of each step.
    counts
        How many visual tokens are left of each.
    begin, token, end
        Mark before a step, visual token, mark after a step.

    """
    return [token_id for stamp, count in zip(stamps, counts, strict=True)
            for token_id in (*stamp, begin, *[token] * count, end)]


def blocks_of_timed_steps(tokens: Sequence[int], span: range, begin: int,
                          grid: tuple[int, int], keep: NDArray[np.int64]) -> list[PrunedBlock]:
    """
    Return the steps of a video of Qwen3-VL in a pruned prompt.

    Parameters
    ----------
    tokens
        The prompt [S].
    span
        Where the video is in it, with the marks around it.
    begin
        Mark before a step, and before the video.
    grid, keep
        Rows and columns of each step, and what is kept [K], step after step.

    """
    rows, columns = grid
    _, *begins = (place for place in span if tokens[place] == begin)
    bounds = np.searchsorted(keep, rows * columns * np.arange(len(begins) + 1))
    return [PrunedBlock(place + 1, grid, keep[first:last] - index * rows * columns)
            for index, (place, first, last) in enumerate(zip(begins, bounds, bounds[1:]))]
