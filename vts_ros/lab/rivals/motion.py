# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a place of one picture is in another, and what moves by itself.

Dense inverse search (Kroeger et al., 2016, arXiv 1603.03590; in OpenCV) gives the flow. The own
car's motion is what one plane explains of it: a homography through the flow of most of the
picture. What is left moves by itself, or stands far out of that plane.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

#: Width at which flow is computed; wider pictures are made smaller.
FLOW_WIDTH = 224
#: A point that is farther than this from where the plane moves it does not lie on the plane, in
#: pixels; sampling step of the points that the plane is fitted to.
_OFF_PLANE_PX, _STEP_PX = 1.5, 8
Flow = NDArray[np.float32]


class Motion(NamedTuple):
    """
    What moves between two pictures.

    Attributes
    ----------
    flow
        float32 [H, W, 2], where each pixel of the first is in the second, as an offset in pixels
        (x, y).
    own
        float32 [H, W, 2], the part of it that one plane explains: the motion of the own car.

    """

    flow: Flow
    own: Flow

    @property
    def residual(self) -> NDArray[np.float32]:
        """
        Return what the own motion does not explain, beside it: float32 [H, W], no unit.

        As a part of the own motion, which is 0 at the horizon and large at the borders of the
        picture, as what does not lie on the plane is displaced by, too.
        """
        left = np.linalg.norm(self.flow - self.own, axis=-1)
        return np.asarray(left / (1.0 + np.linalg.norm(self.own, axis=-1)), np.float32)


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture [H, W, 3] as flow is computed of it, uint8 [H', W']."""
    height, width = rgb.shape[:2]
    flat = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if width > FLOW_WIDTH:
        size = (FLOW_WIDTH, max(16, round(height * FLOW_WIDTH / width)))
        flat = cv2.resize(flat, size, interpolation=cv2.INTER_AREA)
    return np.asarray(flat, np.uint8)


def motion_between(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Motion:
    """Return what moves from one grey picture [H, W] to another of its size."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.asarray(search.calc(first, second, np.zeros((*first.shape, 2), np.float32)),
                      np.float32)
    return Motion(flow, own_motion(flow))


def own_motion(flow: Flow) -> Flow:
    """Return what one plane explains: a homography through most points, zero if there is none."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    at = np.stack([x, y], axis=-1)
    some = (slice(_STEP_PX // 2, None, _STEP_PX),) * 2
    begin = at[some].reshape(-1, 2)
    found, _ = cv2.findHomography(begin, begin + flow[some].reshape(-1, 2), cv2.RANSAC,
                                  _OFF_PLANE_PX, maxIters=200)
    if found is None:
        return np.zeros_like(flow)
    moved = cv2.perspectiveTransform(at.reshape(-1, 1, 2), found).reshape(at.shape)
    return np.asarray(moved - at, np.float32)


def cell_means(values: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean of values [H, W] or [H, W, C] in each cell of a grid [rows, columns]."""
    rows, columns = grid
    small = cv2.resize(np.asarray(values, np.float32), (columns, rows),
                       interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def residual_motion(frames: NDArray[np.uint8], grid: tuple[int, int]
                    ) -> NDArray[np.float32]:
    """
    Return how much of each cell moves by itself, 0 to 1.

    Parameters
    ----------
    frames
        uint8 [T, H, W, 3], oldest first. Each is compared with the next, the newest with the one
        before it.
    grid
        Rows and columns of cells.

    Returns
    -------
    float32 [T, rows * columns].

    """
    pictures = [grey(frame) for frame in frames]
    if len(pictures) < 2:
        return np.zeros((len(pictures), grid[0] * grid[1]), np.float32)
    pairs = [(place, place + 1) for place in range(len(pictures) - 1)]
    pairs.append((len(pictures) - 1, len(pictures) - 2))
    return np.stack([np.minimum(cell_means(
        motion_between(pictures[first], pictures[second]).residual, grid).ravel(), 1.0)
        for first, second in pairs])


def carried(tokens: NDArray[np.float32], flow: Flow, grid: tuple[int, int]) -> NDArray[np.float32]:
    """
    Return what another frame shows where each cell of this one has moved to.

    Parameters
    ----------
    tokens
        float32 [rows * columns, D], of the other frame.
    flow
        From this frame to the other, in pixels of the flow.
    grid
        Rows and columns.

    Returns
    -------
    float32 [rows * columns, D], interpolated between cells; the nearest cell beyond the border.

    """
    rows, columns = grid
    height, width = flow.shape[:2]
    offset = cell_means(flow, grid)
    column = np.clip(np.arange(columns) + offset[..., 0] * columns / width, 0, columns - 1)
    row = np.clip(np.arange(rows)[:, None] + offset[..., 1] * rows / height, 0, rows - 1)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    right, bottom = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    x, y = (column - left)[..., None], (row - top)[..., None]
    maps = tokens.reshape(rows, columns, -1)
    moved = ((1 - y) * ((1 - x) * maps[top, left] + x * maps[top, right])
             + y * ((1 - x) * maps[bottom, left] + x * maps[bottom, right]))
    return np.asarray(moved.reshape(rows * columns, -1), np.float32)
