# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the points of a LiDAR or radar to the nearest range in each cell of a picture. No ROS."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import RangeError
from vts_ros.sparsify.proposal_network import MAP_SIZE

#: Numbers of distortion of OpenCV (and of CameraInfo) that are understood, by their model. A
#: radar or LiDAR has no use for the models of fisheye cameras yet.
DISTORTIONS = {'': (0, 5), 'plumb_bob': (0, 4, 5), 'rational_polynomial': (8,)}
#: Nearer to the plane of the camera than this, in m, a point has no place in a picture.
NEAREST_M = 0.1
#: Samples along each edge of the picture, to find what it shows.
_EDGE_SAMPLES = 16
#: What is this much beyond the edge, as a share of the picture, need not be projected.
_MARGIN = 0.05


class Lens(NamedTuple):
    """
    How a camera maps points to its picture.

    Attributes
    ----------
    matrix
        float64 [3, 3], K of the picture as it comes from the camera, in pixels; the centre of the
        first pixel is 0.
    distortion
        float64 [D], as OpenCV has it; empty for none.
    width, height
        Size of the picture in pixels.

    """

    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    width: int
    height: int

    @classmethod
    def of(cls, matrix: object, distortion: object, width: int, height: int,
           model: str = '') -> Lens:
        """
        Return a lens, after checking what a CameraInfo says of it.

        Raises
        ------
        RangeError
            If the camera is not calibrated, or has a model of distortion that is not understood.

        """
        k = np.asarray(matrix, np.float64)
        d = np.asarray(distortion, np.float64).ravel()
        if k.size != 9 or not np.isfinite(k).all():
            raise RangeError('the camera matrix K has to be 9 numbers')
        k = k.reshape(3, 3)
        if k[0, 0] <= 0.0 or k[1, 1] <= 0.0 or width < 1 or height < 1:
            raise RangeError('the camera is not calibrated: its camera_info has no focal length '
                             'or no size; calibrate it, for instance with camera_calibration')
        if model not in DISTORTIONS:
            raise RangeError(f'the distortion model {model!r} is not understood, there are: '
                             f'{", ".join(filter(None, DISTORTIONS))}')
        if not np.isfinite(d).all() or not d.any():
            d = np.zeros(0)
        elif len(d) not in DISTORTIONS[model]:
            raise RangeError(f'the distortion model {model!r} has {len(d)} numbers')
        return cls(k, d, int(width), int(height))

    def shown(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """
        Return what the picture shows, at most: lowest and highest x / z and y / z, [2] each.

        Beyond it the polynomials of the distortion come back into the picture, so that what is far
        outside would be taken for something inside.
        """
        across = np.linspace(-_MARGIN, 1.0 + _MARGIN, _EDGE_SAMPLES)
        left, right = np.full(_EDGE_SAMPLES, -_MARGIN), np.full(_EDGE_SAMPLES, 1.0 + _MARGIN)
        edge = np.concatenate([np.stack(pair, axis=1) for pair in (
            (across, left), (across, right), (left, across), (right, across))])
        pixels = edge * (self.width, self.height) - 0.5
        seen = cv2.undistortPoints(pixels[:, None], self.matrix, self.distortion)[:, 0]
        return seen.min(axis=0), seen.max(axis=0)


def in_camera(points: NDArray[np.floating], transform: NDArray[np.floating]
              ) -> NDArray[np.float64]:
    """
    Return points in the optical frame of a camera: x right, y down, z ahead (REP 103).

    Parameters
    ----------
    points
        [N, 3] in the frame of the sensor, in m. Those that are not finite are left out.
    transform
        [4, 4], from the frame of the sensor to the optical frame of the camera.

    """
    found = np.asarray(points, np.float64).reshape(-1, 3)
    found = found[np.isfinite(found).all(axis=1)]
    moved: NDArray[np.float64] = found @ transform[:3, :3].T + transform[:3, 3]
    return moved


def nearest_range(points: NDArray[np.floating], lens: Lens,
                  cells: tuple[int, int] = MAP_SIZE) -> NDArray[np.float32]:
    """
    Return how far the nearest point in each cell of a picture is.

    Parameters
    ----------
    points
        [N, 3] in the optical frame of the camera, see :func:`in_camera`. Those behind the camera
        and beside the picture count nowhere.
    cells
        Rows and columns over the whole picture.

    Returns
    -------
    float32 [rows, columns]: metres from the camera to the point along the ray (not along the
    axis of the camera); inf where there is none.

    """
    rows, columns = cells
    nearest = np.full(rows * columns, np.inf, np.float32)
    ahead = points[points[:, 2] > NEAREST_M]
    low, high = lens.shown()
    slopes = ahead[:, :2] / ahead[:, 2:]
    ahead = ahead[((slopes >= low) & (slopes <= high)).all(axis=1)]
    if len(ahead):
        pixels = cv2.projectPoints(np.ascontiguousarray(ahead, np.float64), np.zeros(3),
                                   np.zeros(3), lens.matrix, lens.distortion)[0][:, 0]
        # The picture begins half a pixel before the centre of its first.
        place = np.floor((pixels + 0.5) * (columns / lens.width, rows / lens.height)).astype(int)
        inside = ((place >= 0) & (place < (columns, rows))).all(axis=1)
        ranges = np.linalg.norm(ahead[inside], axis=1).astype(np.float32)
        np.minimum.at(nearest, place[inside, 1] * columns + place[inside, 0], ranges)
    return nearest.reshape(cells)
