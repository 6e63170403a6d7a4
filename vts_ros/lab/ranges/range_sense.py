# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a LiDAR or radar knows of a frame: the cloud of its time, as closeness in its cells."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import RangeError
from vts_ros.lab.ranges.closeness import closeness, closing_speed, time_to_collision
from vts_ros.lab.ranges.ground import above_ground
from vts_ros.lab.ranges.point_clouds import points_of
from vts_ros.lab.ranges.range_projection import in_camera, Lens, nearest_range
from vts_ros.lab.ranges.transform_tree import TransformTree
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.signal_map import stamp_of

#: A cloud is of the time of a picture if it is so near, in s: a LiDAR turns ten times a second.
NEAR_SEC = 0.1
#: Closing speed is measured over this time, and over no less and no more than these, in s.
CHANGE_SEC, SHORTEST_SEC, LONGEST_SEC = 0.3, 0.1, 0.6
#: So many clouds are kept: more than the longest change at 20 a second.
_MOST_CLOUDS = 40


class _Cloud(NamedTuple):
    stamp_ns: int
    frame_id: str
    points: NDArray[np.float64]


class Measured(NamedTuple):
    """Nearest range in m and time to collision in s, float32 [h, w] each, and the camera."""

    ranges: NDArray[np.float32]
    ttc_sec: NDArray[np.float32]
    lens: Lens


class RangeSense:
    """
    Clouds of the last seconds, and where cameras and sensors are; safe to use from two threads.

    Called with a frame, it says how close its cells are. What is missing is counted.

    Parameters
    ----------
    tell
        Told in one line what is missing, once per kind.

    Attributes
    ----------
    transforms
        Where cameras and sensors are.
    counters
        Frames ``with_range``, and those without by what was missing: ``no_camera_info``,
        ``no_transform``, ``no_cloud`` of the time of the picture, ``no_change`` as there was none
        before it. And clouds that were ``empty``, and messages ``refused`` that cannot be read.

    """

    def __init__(self, tell: Callable[[str], object] = lambda line: None) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._clouds: deque[_Cloud] = deque(maxlen=_MOST_CLOUDS)
        self._lenses: dict[str, tuple[Lens, str]] = {}
        self._told: set[str] = set()
        self.transforms = TransformTree()
        self.counters: Counter[str] = Counter()

    def take_cloud(self, message: Any, received_ns: int) -> None:
        """Take a sensor_msgs/PointCloud2, of rclpy or of a recording."""
        try:
            points = points_of(message)
        except RangeError as error:
            self._refuse(error)
            return
        self.add_cloud(stamp_of(message, received_ns), str(message.header.frame_id), points)

    def take_camera(self, camera: str, message: Any) -> None:
        """Take the sensor_msgs/CameraInfo of a camera whose frames have this name."""
        try:
            lens = Lens.of(message.k, message.d, message.width, message.height,
                           message.distortion_model)
        except RangeError as error:
            self._refuse(RangeError(f'camera_info of {camera}: {error}'))
            return
        self.add_camera(camera, lens, str(message.header.frame_id))

    def take_transforms(self, message: Any) -> None:
        """Take a tf2_msgs/TFMessage, of /tf_static or /tf."""
        for stamped in message.transforms:
            move, turn = stamped.transform.translation, stamped.transform.rotation
            try:
                self.add_transform(stamped.header.frame_id, stamped.child_frame_id,
                                   (move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
            except RangeError as error:
                self._refuse(error)

    def add_camera(self, camera: str, lens: Lens, frame_id: str) -> None:
        """Note how a camera sees, by the name that its frames have, and its optical frame."""
        with self._lock:
            self._lenses[camera] = lens, frame_id

    def add_transform(self, parent: str, child: str, translation: tuple[float, float, float],
                      rotation: tuple[float, float, float, float]) -> None:
        """Note where a frame is, see :meth:`TransformTree.add`."""
        with self._lock:
            self.transforms.add(parent, child, translation, rotation)

    def add_cloud(self, stamp_ns: int, frame_id: str, points: NDArray[np.floating]) -> None:
        """Note points, [N, 3] in m in the frame of their sensor, and when they were measured."""
        if not len(points):
            self.counters['empty'] += 1
            self._tell_once('empty', 'a cloud without any points')
            return
        with self._lock:
            if self._clouds and stamp_ns < self._clouds[-1].stamp_ns - LONGEST_SEC * 1e9:
                # Time went back: another drive.
                self._clouds.clear()
            self._clouds.append(_Cloud(stamp_ns, frame_id, np.asarray(points, np.float64)))

    def clear(self) -> None:
        """Forget all clouds."""
        with self._lock:
            self._clouds.clear()

    def __call__(self, frame: Frame) -> NDArray[np.float32] | None:
        """
        Return how close the cells of a frame are to a collision, float32 [h, w] of the maps.

        None where anything of it is not known.
        """
        found = self.measure(frame)
        return None if found is None else closeness(*found)

    def measure(self, frame: Frame) -> Measured | None:
        """Return what is measured in the cells of a frame; None where anything is not known."""
        with self._lock:
            clouds = list(self._clouds)
            lens, optical = self._lenses.get(frame.camera, (None, ''))
            now = _nearest(clouds, frame.stamp_ns, 0.0, NEAR_SEC)
            transform = self.transforms.between(now.frame_id, optical) if now and lens else None
        if now is None:
            self._without('no_cloud', f'no cloud within {NEAR_SEC} s of a picture of '
                          f'{frame.camera}: see that their clocks are the same')
            return None
        if lens is None:
            self._without('no_camera_info', f'no camera_info of {frame.camera}')
            return None
        if transform is None:
            self._without('no_transform', f'no transform from {now.frame_id} to {optical}')
            return None
        before = _nearest([cloud for cloud in clouds if cloud.frame_id == now.frame_id and
                           (now.stamp_ns - cloud.stamp_ns) * 1e-9 >= SHORTEST_SEC],
                          now.stamp_ns, CHANGE_SEC, LONGEST_SEC - CHANGE_SEC)
        if before is None:
            self._without('no_change', 'no cloud shortly before that of a picture')
            return None
        self.counters['with_range'] += 1
        ranges, earlier = (nearest_range(above_ground(in_camera(cloud.points, transform)), lens)
                           for cloud in (now, before))
        return Measured(ranges, time_to_collision(ranges, closing_speed(
            earlier, ranges, (now.stamp_ns - before.stamp_ns) * 1e-9)), lens)

    def _refuse(self, error: RangeError) -> None:
        self.counters['refused'] += 1
        self._tell_once(str(error), str(error))

    def _without(self, kind: str, line: str) -> None:
        self.counters[kind] += 1
        self._tell_once(kind, line)

    def _tell_once(self, kind: str, line: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._tell(f'range: {line}; the pictures are described without it (said once)')


def _nearest(clouds: list[_Cloud], stamp_ns: int, ago_sec: float, within_sec: float
             ) -> _Cloud | None:
    """Return the cloud nearest to so long before a moment, if there is one within a time."""
    def away(cloud: _Cloud) -> float:
        return abs((stamp_ns - cloud.stamp_ns) * 1e-9 - ago_sec)

    found = min(clouds, key=away, default=None)
    # Half a millisecond for stamps that were rounded.
    return found if found is not None and away(found) <= within_sec + 5e-4 else None
