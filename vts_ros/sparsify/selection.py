# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all ways to choose visual tokens have in common."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import SparsifierError


class Proposal(NamedTuple):
    """
    What is known about one frame; may be kept as long as the frame is in a window.

    Attributes
    ----------
    saliency
        float32 [h, w], 0 to 1. A NumPy array, or a PyTorch tensor on the GPU that computed it.
    embedding
        float32 [C, h, w], of length 1 over the channels; likewise.

    """

    saliency: Any
    embedding: Any


def joined(proposals: Sequence[Proposal]) -> Proposal:
    """
    Return what is known about frames that have their tokens in common.

    A token is as salient as it is in the frame where it is most so: what one of them shows must
    not be lost for the other. Its embedding is the mean direction.
    """
    if len(proposals) == 1:
        return proposals[0]
    saliency, total = proposals[0].saliency, sum(proposal.embedding for proposal in proposals)
    for other in proposals[1:]:
        # The larger of both, of NumPy arrays and tensors alike.
        saliency = (other.saliency > saliency) * other.saliency + (
            other.saliency <= saliency) * saliency
    length = (total * total).sum(0) ** 0.5
    return Proposal(saliency, total / length.clip(min=1e-6))


class Selection(NamedTuple):
    """
    The tokens of a window that are kept.

    Attributes
    ----------
    key
        Index of the key frame in the window.
    frame_scores
        float32 [T], what the key frame was chosen by.
    keep
        int32 [B], ascending positions in the window (frame-major, then row-major).
    score
        float32 [T, rows * columns], what the tokens were chosen by; where frames have grids of
        their own, [all tokens].

    """

    key: int
    frame_scores: NDArray[np.float32]
    keep: NDArray[np.int32]
    score: NDArray[np.float32]


class WindowFeatures(NamedTuple):
    """
    All that a way to choose tokens may look at, computed once per window.

    Attributes
    ----------
    frames
        uint8 [T, H, W, 3], RGB, oldest first.
    proposals
        What the proposal network saw, one per frame.
    tokens
        float32 [T, N, D], the visual tokens as the language model gets them, row-major.
    grid
        Rows and columns of visual tokens per frame, N = rows * columns.
    object_area
        float32 [T], how much of the picture the risk object really covers in each frame, 0 to 1;
        None where that is not known. Only an oracle may look at it.
    path
        float64 [T, 3], where the camera was by speed and yaw rate: metres forward and to the left
        of its first place, and heading in radians to the left; None where that is not known.
    cameras
        The camera of each frame, where there are several; of one time in the order of their names.

    """

    frames: NDArray[np.uint8]
    proposals: tuple[Proposal, ...]
    tokens: NDArray[np.float32]
    grid: tuple[int, int]
    object_area: NDArray[np.float32] | None = None
    path: NDArray[np.float64] | None = None
    cameras: tuple[str, ...] | None = None


class TokenSelector(Protocol):
    """A way to choose visual tokens."""

    def propose(self, rgb: NDArray[np.uint8]) -> Proposal:
        """Look at one frame, uint8 [H, W, 3]; raise FrameError if it is not one."""

    def select(self, proposals: Sequence[Proposal], grid: tuple[int, int], keep_ratio: float,
               previous_key: int | None = None) -> Selection:
        """
        Choose the tokens of a window.

        Parameters
        ----------
        proposals
            One per frame, oldest first.
        grid
            Rows and columns of visual tokens per frame.
        keep_ratio
            Share of the tokens to keep, above 0 and up to 1.
        previous_key
            Where the key frame of the window before is in this one; None if it has left.

        Raises
        ------
        ValueError
            If an argument is out of its range.

        """


def token_budget(frames: int, grid: tuple[int, int], keep_ratio: float,
                 previous_key: int | None = None) -> int:
    """
    Return the number of tokens to keep of a window, after checking the arguments.

    The share of all tokens, rounded half up; at least 1.

    That is ``keep_ratio * frames * rows * columns``, halves rounded up. The ratio is the decimal
    number that it is written as: 0.15 of 90 tokens are 13.5 and so 14, whatever the order of the
    factors makes of it in floating point.

    Raises
    ------
    ValueError
        If there is no frame or no token, or the ratio or the key frame is out of range.

    """
    if frames < 1:
        raise SparsifierError('a window needs at least one frame')
    if min(grid) < 1:
        raise SparsifierError(f'no tokens in a grid of {grid[0]} x {grid[1]}')
    if not 0.0 < keep_ratio <= 1.0:
        raise SparsifierError(f'keep_ratio must be above 0 and up to 1, not {keep_ratio}')
    if previous_key is not None and not 0 <= previous_key < frames:
        raise SparsifierError(f'previous key frame {previous_key} is not in a window of {frames}')
    return share_of(frames * grid[0] * grid[1], keep_ratio)


def share_of(tokens: int, keep_ratio: float) -> int:
    """Return the number of tokens to keep, see :func:`token_budget`."""
    return max(1, math.floor(Fraction(repr(float(keep_ratio))) * tokens + Fraction(1, 2)))
