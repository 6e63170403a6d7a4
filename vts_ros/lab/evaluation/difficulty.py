# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which windows are hard to judge with few tokens, by the truth about their risk object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.ground_truth import SEEN_SHARE
from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth
from vts_ros.vlm.answers import Box

#: An object is small if so many visual tokens of the newest frame hold this share of it; seen
#: briefly up to so many frames of the window; partly hidden below this visible share.
SMALL_TOKENS, SMALL_SHARE = 2, 0.8
BRIEF_FRAMES = 2
HIDDEN_SHARE = 0.9
HARD_TEXT = (
    f'{SMALL_TOKENS} visual tokens hold {SMALL_SHARE:.0%} or more of the risk object in the '
    f'newest frame, or it is seen ({SEEN_SHARE:.0%} of it or more) in at most {BRIEF_FRAMES} '
    f'frames of the window, or less than {HIDDEN_SHARE:.0%} of it is visible in the newest frame')


def risk_object(frames: Sequence[FrameTruth]) -> list[Actor | None]:
    """
    Return what each frame shows of the risk object of a window; None where it is not shown.

    Parameters
    ----------
    frames
        Truth of the frames, oldest first; the risk object is that of the newest.

    """
    wanted = next((actor.id for actor in frames[-1].actors if actor.is_risk), None)
    return [next((actor for actor in frame.actors if actor.id == wanted), None)
            for frame in frames]


def object_area(frames: Sequence[FrameTruth]) -> NDArray[np.float32]:
    """Return the visible area of the risk object in each frame, as a share of the picture."""
    return np.array([0.0 if actor is None else actor.visible * _area(actor)
                     for actor in risk_object(frames)], np.float32)


def is_hard(frames: Sequence[FrameTruth], grid: tuple[int, int]) -> bool:
    """
    Return whether the risk object of a window is small, seen briefly or partly hidden.

    Parameters
    ----------
    frames
        Truth of the frames, oldest first. A window without a risk object is not hard.
    grid
        Rows and columns of visual tokens of a frame.

    """
    shown = risk_object(frames)
    newest = shown[-1]
    if newest is None:
        return False
    seen = sum(actor is not None and actor.visible >= SEEN_SHARE for actor in shown)
    return (_held(newest.box, grid) >= SMALL_SHARE or seen <= BRIEF_FRAMES
            or newest.visible < HIDDEN_SHARE)


def _held(box: Box, grid: tuple[int, int]) -> float:
    """Return which share of a box the few tokens hold that hold most of it."""
    rows, columns = grid
    held = np.outer(_overlap(box[1], box[3], rows), _overlap(box[0], box[2], columns))
    most = np.sort(held, axis=None)[::-1][:SMALL_TOKENS]
    return float(most.sum() / max(held.sum(), 1e-12))


def _overlap(low: float, high: float, cells: int) -> NDArray[np.float64]:
    """Return the length that each cell along one axis shares with an interval."""
    edges = np.linspace(0.0, 1.0, cells + 1)
    return np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0.0, None)


def _area(actor: Actor) -> float:
    left, top, right, bottom = actor.box
    return (right - left) * (bottom - top)
