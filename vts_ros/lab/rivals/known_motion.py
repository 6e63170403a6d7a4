# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a place of one picture is in another by what the car says of its motion: no optical flow.

Below the horizon everything lies on a flat road, so speed and yaw rate move it; above, everything
is so far away that only the yaw does. What does not lie where it should then stands out of that
plane, or moves by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.rivals.motion import cell_means, Flow, grey
from vts_ros.lab.scenes.world import CAMERA_HEIGHT_M, FOCAL, HORIZON

#: Least distance ahead in m (for what is far away, part of the distance before the turn) at which
#: something still has a place in a picture.
_NEAREST = 0.01
#: Blur in pixels before pictures are compared: a plane is not exact to the pixel.
_BLUR_PX = 1.5


class Camera(NamedTuple):
    """
    How a camera that looks ahead sees a flat road; as ``CameraInfo`` and a mount tell it.

    Attributes
    ----------
    focal
        Focal length in picture widths.
    horizon
        Share of the picture above the horizon.
    height_m
        Above the road.

    """

    focal: float
    horizon: float
    height_m: float


#: The camera of all rendered windows.
RENDERED = Camera(FOCAL, HORIZON, CAMERA_HEIGHT_M)


def driven(times_sec: NDArray[np.float64], speeds_mps: NDArray[np.float64],
           yaw_rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Return where the camera was, by trapezoids between what was said.

    Parameters
    ----------
    times_sec, speeds_mps, yaw_rates
        Each [n], in time order; to the left is positive, in radians per second.

    Returns
    -------
    float64 [n, 3], metres forward and to the left of the first place, and heading in radians to
    the left of the first one. The camera is taken to move as it looks.

    """
    step = np.diff(times_sec)
    heading = np.concatenate(([0.0], np.cumsum(step * 0.5 * (yaw_rates[1:] + yaw_rates[:-1]))))
    way = step * 0.5 * (speeds_mps[1:] + speeds_mps[:-1])
    middle = 0.5 * (heading[1:] + heading[:-1])
    forward = np.concatenate(([0.0], np.cumsum(way * np.cos(middle))))
    left = np.concatenate(([0.0], np.cumsum(way * np.sin(middle))))
    return np.stack((forward, left, heading), axis=1)


def known_flow(start: NDArray[np.floating], end: NDArray[np.floating], camera: Camera,
               size: tuple[int, int]) -> Flow:
    """
    Return where each pixel of a picture is in another one.

    Parameters
    ----------
    start, end
        [3] each, where the camera was, see :func:`driven`; of this picture and of the other.
    size
        Height and width in pixels.

    Returns
    -------
    float32 [H, W, 2], an offset in pixels (x, y). What the other picture does not show is at its
    nearest border.

    """
    height, width = size
    right = (np.arange(width) + 0.5) / width - 0.5
    down = ((np.arange(height) + 0.5) - camera.horizon * height) / width
    u, v = np.meshgrid(right, down)
    # On the road: metres ahead and to the left. Far away: a direction, and no way to it.
    is_road = v > 0.0
    ahead = np.where(is_road, camera.focal * camera.height_m / np.where(is_road, v, 1.0), 1.0)
    beside = -u * ahead / camera.focal
    turn = float(end[2] - start[2])
    moved = _turned(float(end[0] - start[0]), float(end[1] - start[1]), float(start[2]))
    x, y = _turned(ahead - is_road * moved[0], beside - is_road * moved[1], turn)
    x = np.maximum(x, _NEAREST)
    u2 = -camera.focal * y / x
    v2 = np.where(is_road, camera.focal * camera.height_m, v) / x
    column = np.clip((u2 + 0.5) * width - 0.5, 0.0, width - 1.0)
    row = np.clip(v2 * width + camera.horizon * height - 0.5, 0.0, height - 1.0)
    at = np.mgrid[0:height, 0:width]
    return np.stack((column - at[1], row - at[0]), axis=-1).astype(np.float32)


def _turned(x: NDArray[np.float64] | float, y: NDArray[np.float64] | float, heading: float
            ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return metres ahead and to the left as seen with a heading to the left of before."""
    cos, sin = np.cos(heading), np.sin(heading)
    return np.asarray(x * cos + y * sin), np.asarray(y * cos - x * sin)


def unexplained(frames: NDArray[np.uint8], path: NDArray[np.floating], camera: Camera,
                grid: tuple[int, int]) -> NDArray[np.float32]:
    """
    Return how much of the grey values of each cell the known motion does not explain, 0 to 1.

    The grey values of a frame beside those that the frame before (the next one, for the oldest)
    has where the motion carries them. In the frame before, the road lies farther ahead: it still
    shows what the car drives over now. What the other frame does not show counts as explained.

    Parameters
    ----------
    frames
        uint8 [T, H, W, 3], oldest first.
    path
        [T, 3], see :func:`driven`.
    grid
        Rows and columns of cells.

    Returns
    -------
    float32 [T, rows * columns].

    """
    pictures = [cv2.GaussianBlur(grey(frame), (0, 0), _BLUR_PX).astype(np.float32)
                for frame in frames]
    if len(pictures) < 2:
        return np.zeros((len(pictures), grid[0] * grid[1]), np.float32)
    size = pictures[0].shape[:2]
    rows, columns = np.mgrid[0:size[0], 0:size[1]].astype(np.float32)
    found = []
    for place, mine in enumerate(pictures):
        other = place - 1 if place else 1
        flow = known_flow(path[place], path[other], camera, (size[0], size[1]))
        x, y = columns + flow[..., 0], rows + flow[..., 1]
        expected = cv2.remap(pictures[other], x, y, cv2.INTER_LINEAR)
        is_seen = (x > 0) & (x < size[1] - 1) & (y > 0) & (y < size[0] - 1)
        found.append(cell_means(np.abs(mine - expected) * is_seen, grid).ravel() / 255.0)
    return np.stack(found).astype(np.float32)
