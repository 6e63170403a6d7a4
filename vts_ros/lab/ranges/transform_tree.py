# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where sensors are mounted: the newest transform of each frame, as /tf_static and /tf say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import RangeError

#: Longer chains are circles.
_LONGEST = 64


class TransformTree:
    """
    Frames and their transforms, without their history: sensors of a car do not move on it.

    Not for two threads at a time.
    """

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}

    def add(self, parent: str, child: str, translation: Sequence[float],
            rotation: Sequence[float]) -> None:
        """
        Note where a frame is in its parent.

        Parameters
        ----------
        translation
            x, y, z in m.
        rotation
            Quaternion x, y, z, w.

        Raises
        ------
        RangeError
            If these are no transform.

        """
        x, y, z, w = (float(value) for value in rotation)
        length = float(np.linalg.norm((x, y, z, w)))
        if not (np.isfinite(length) and length > 1e-6 and np.isfinite(list(translation)).all()):
            raise RangeError(f'the transform from {parent} to {child} is none')
        x, y, z, w = x / length, y / length, z / length, w / length
        matrix = np.eye(4)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
        matrix[:3, 3] = list(translation)
        self.add_matrix(parent, child, matrix)

    def add_matrix(self, parent: str, child: str, matrix: NDArray[np.float64]) -> None:
        """Note the same as [4, 4]: what takes points of the frame to its parent."""
        self._parents[_plain(child)] = _plain(parent), matrix

    def between(self, source: str, target: str) -> NDArray[np.float64] | None:
        """Return what takes points from one frame to another, [4, 4]; None if not known."""
        from_source, from_target = self._chain(_plain(source)), self._chain(_plain(target))
        common = next((frame for frame in from_source if frame in from_target), None)
        if common is None:
            return None
        found: NDArray[np.float64] = np.linalg.inv(from_target[common]) @ from_source[common]
        return found

    def _chain(self, frame: str) -> dict[str, NDArray[np.float64]]:
        """Return the frame and those above it, with what takes its points there."""
        matrix = np.eye(4)
        chain = {frame: matrix}
        while frame in self._parents and len(chain) < _LONGEST:
            frame, step = self._parents[frame]
            matrix = step @ matrix
            if frame in chain:
                break
            chain[frame] = matrix
        return chain


def _plain(frame: str) -> str:
    """Return the name of a frame as tf2 has it: ROS 1 wrote a slash before it."""
    return frame.removeprefix('/')
