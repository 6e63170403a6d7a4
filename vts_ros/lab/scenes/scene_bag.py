# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A rendered scene as a recording, with one camera or several, and its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from rosbags.typesys.store import Typestore

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.several_cameras import FRONT, seen_by
from vts_ros.lab.scenes.world import FOCAL, HORIZON, Scene

_JPEG_QUALITY = 92


def write_bag(path: str | Path, scene: Scene, width: int = 960, height: int = 540, *,
              cameras: Sequence[str] = (FRONT,), truth_topic: str = '/vts/truth',
              start_ns: int = 1_700_000_000_000_000_000) -> None:
    """
    Render a scene into a rosbag2 MCAP bag.

    The bag has the pictures (sensor_msgs/CompressedImage, JPEG, ``/camera/NAME/image_raw/
    compressed``), the cameras (CameraInfo, beside the pictures as ``camera_info``), and per moment
    the truth (std_msgs/String) as JSON with ``frame`` and ``window``: the fields of ``FrameTruth``
    of the first camera, and of ``WindowTruth``, of all cameras together, of the window that ends
    there; and with ``camera``, the name of the one that shows the risk object.

    Parameters
    ----------
    path
        Directory of the bag; must not exist.
    cameras
        Names of ``several_cameras.CAMERAS``.
    start_ns
        Stamp of the first frame in nanoseconds.

    Raises
    ------
    rosbags.rosbag2.WriterError
        If the bag exists already.

    """
    types = get_typestore(Stores.ROS2_JAZZY)
    string, image, info, header_type, stamp_type = (types.types[name] for name in (
        'std_msgs/msg/String', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo',
        'std_msgs/msg/Header', 'builtin_interfaces/msg/Time'))
    # The camera that looks ahead sees the scene itself.
    scenes = [scene if name == FRONT else seen_by(scene, (name,))[0] for name in cameras]
    renderers = [Renderer(seen, width, height) for seen in scenes]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        to = [[bag.add_connection(f'/camera/{name}/{topic}', kind.__msgtype__, typestore=types)
               for topic, kind in (('image_raw/compressed', image),
                                   ('camera_info', info))] for name in cameras]
        to_truth = bag.add_connection(truth_topic, string.__msgtype__, typestore=types)
        for index in range(len(scene.times)):
            stamp = start_ns + round(float(scene.times[index]) * 1e9)
            for name, renderer, (to_image, to_info) in zip(cameras, renderers, to, strict=True):
                header = header_type(stamp=stamp_type(sec=stamp // 10**9, nanosec=stamp % 10**9),
                                     frame_id=f'camera_{name}_optical_frame')
                _, jpeg = cv2.imencode('.jpg', renderer.frame(index)[:, :, ::-1],
                                       (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
                for connection, message in (
                        (to_image, image(header=header, format='jpeg', data=jpeg.ravel())),
                        (to_info, _camera_info(types, header, width, height))):
                    bag.write(connection, stamp, types.serialize_cdr(message, connection.msgtype))
            said = string(data=_truth_json(scenes, cameras, index, height / width))
            bag.write(to_truth, stamp, types.serialize_cdr(said, to_truth.msgtype))


def _truth_json(scenes: Sequence[Scene], cameras: Sequence[str], index: int, aspect: float) -> str:
    seen = truth.truth_seen(scenes, index, aspect)
    return json.dumps({'frame': asdict(truth.frame_truth(scenes[0], index, aspect)),
                       'window': asdict(seen.truth),
                       'camera': None if seen.camera is None else cameras[seen.camera]})


def _camera_info(types: Typestore, header: Any, width: int, height: int) -> Any:
    focal = FOCAL * width
    middle = 0.5 * width, HORIZON * height
    return types.types['sensor_msgs/msg/CameraInfo'](
        header=header, height=height, width=width, distortion_model='plumb_bob', d=np.zeros(5),
        k=np.array([focal, 0, middle[0], 0, focal, middle[1], 0, 0, 1.0]),
        r=np.eye(3).ravel(),
        p=np.array([focal, 0, middle[0], 0, 0, focal, middle[1], 0, 0, 0, 1.0, 0]),
        binning_x=0, binning_y=0, roi=types.types['sensor_msgs/msg/RegionOfInterest'](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False))
