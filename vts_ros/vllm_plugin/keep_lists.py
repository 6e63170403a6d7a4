# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keep lists of pictures and videos as they come with a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
import math
from typing import Any, NamedTuple

#: Name of the keep lists in ``mm_processor_kwargs``, and of the field of a picture or a video that
#: holds its own.
KEEP = 'vts_keep'
_PICTURE = {'grid', 'keep'}
_VIDEO = {*_PICTURE, 'times_sec', 'step_sec'}


class KeepList(NamedTuple):
    """
    The visual tokens to keep of a picture or a video.

    Attributes
    ----------
    grid
        Rows and columns of the visual tokens of a picture, or of each step of a video.
    keep
        Those to keep, ascending [K], row-major; of a video step after step.
    times_sec
        When each step of a video is; none of a picture.
    step_sec
        Spacing of the steps of a video.

    """

    grid: tuple[int, int]
    keep: tuple[int, ...]
    times_sec: tuple[float, ...] = ()
    step_sec: float = 0.0

    @property
    def steps(self) -> int:
        """Return how many grids there are: one of a picture, one for each step of a video."""
        return len(self.times_sec) or 1

    @classmethod
    def of(cls, given: object, is_video: bool = False) -> KeepList:
        """
        Read one from a request.

        ``{"grid": [rows, columns], "keep": [...]}``, of a video with ``"times_sec": [...],
        "step_sec": ...``.

        Raises
        ------
        ValueError
            If it is none, or names tokens that the grid does not have.

        """
        if not isinstance(given, Mapping) or set(given) != (_VIDEO if is_video else _PICTURE):
            raise ValueError(f'each entry of {KEEP} for a video is an object with "grid", "keep", '
                             '"times_sec" and "step_sec"' if is_video else
                             f'each entry of {KEEP} is an object with "grid" and "keep"')
        grid, keep = given['grid'], given['keep']
        if not (_are_numbers(grid) and len(grid) == 2 and _are_numbers(keep)):
            raise ValueError(f'"grid" and "keep" of {KEEP} are lists of whole numbers')
        found = cls(tuple(grid), tuple(keep))
        if is_video:
            times_sec, step_sec = given['times_sec'], given['step_sec']
            if not (_is_list(times_sec) and times_sec and all(map(_is_time, times_sec))
                    and _is_time(step_sec)):
                raise ValueError(f'"times_sec" of {KEEP} is a list of seconds, one for each step '
                                 'of the video, and "step_sec" is one')
            found = found._replace(times_sec=tuple(map(float, times_sec)),
                                   step_sec=float(step_sec))
        total = found.steps * math.prod(grid)
        if any(second <= first for first, second in pairwise(keep)) or (
                keep and not 0 <= keep[0] <= keep[-1] < total):
            raise ValueError(f'a list of {KEEP} is not ascending within 0..{total - 1}')
        return found

    def check(self, grid: tuple[int, int]) -> None:
        """Raise ValueError if the picture has another grid here than the client took it for."""
        if self.grid != grid:
            raise ValueError(
                f'{KEEP} is for a grid of {self.grid[0]} x {self.grid[1]} visual tokens, but the '
                f'picture has {grid[0]} x {grid[1]} here: the client needs the image processor of '
                'this checkpoint')


def keep_lists(options: Mapping[str, Any], count: int, is_video: bool = False
               ) -> list[KeepList] | None:
    """
    Return the keep lists of a request, one per picture or video; None if it has none.

    Raises
    ------
    ValueError
        If there are not as many as pictures or videos, or one is wrong.

    """
    given = options.get(KEEP)
    if given is None:
        return None
    if not _is_list(given) or len(given) != count:
        raise ValueError(f'{KEEP} is a list with an entry for each of the {count} '
                         f'{"videos" if is_video else "pictures"}')
    return [KeepList.of(item, is_video) for item in given]


def _is_list(given: object) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def _is_time(given: object) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool) and (
        0.0 <= given < math.inf)


def _are_numbers(given: object) -> bool:
    return isinstance(given, Sequence) and all(
        isinstance(position, int) and not isinstance(position, bool) for position in given)
