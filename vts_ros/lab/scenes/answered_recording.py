# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered windows with right answers as a folder of ``vts annotate``, to be learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS
from vts_ros.vlm.answers import Answer

#: The camera of windows that have one.
CAMERA = 'camera_front'
_JPEG_QUALITY = 95
_BEGIN_NS, _BETWEEN_NS = 1_700_000_000_000_000_000, 10_000_000_000


class Shown(NamedTuple):
    """
    Pictures of a window and what is to be said of them.

    Attributes
    ----------
    times
        Of the pictures, in s; of less than 10 s in all.
    frames
        uint8 [T, H, W, 3], RGB, of each camera by its name, such as ``CAMERA``.
    rows
        Lines of ``answers.jsonl`` without their frames, see :func:`row_of`; several where what
        is right depends on more than the pictures.

    """

    times: Sequence[float]
    frames: Mapping[str, NDArray[np.uint8]]
    rows: Sequence[dict[str, Any]]


def as_jpeg(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3], RGB, as the bytes of a JPEG."""
    _, data = cv2.imencode('.jpg', frame[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return np.asarray(data, np.uint8).ravel()


def row_of(answer: Answer, **known: Any) -> dict[str, Any]:
    """Return what training reads of a report, and what else is known of the window."""
    return {
        'risk': {'level': answer.risk},
        'object': None if answer.label is None else {
            'label': answer.label, 'camera': answer.camera or CAMERA,
            'box': None if answer.box is None else [round(side, 4) for side in answer.box]},
        'explanation': answer.explanation, 'action': answer.action,
        'description': answer.description, **known}


def write_shown(folder: Path, windows: Iterable[Shown]) -> int:
    """
    Write windows as ``vts annotate`` does: an annotated recording and ``answers.jsonl``.

    Parameters
    ----------
    folder
        Must not have a recording yet.

    Returns
    -------
    The number of windows.

    Raises
    ------
    rosbags.rosbag2.WriterError
        If there is one.

    """
    folder.mkdir(parents=True, exist_ok=True)
    types = get_typestore(Stores.ROS2_JAZZY)
    image, header, time = (types.types[name] for name in (
        'sensor_msgs/msg/CompressedImage', 'std_msgs/msg/Header', 'builtin_interfaces/msg/Time'))
    count = 0
    with Writer(folder / ANNOTATED_BAG, version=9, storage_plugin=StoragePlugin.MCAP) as bag, \
            (folder / ANSWERS).open('w', encoding='utf-8') as lines:
        cameras: dict[str, Connection] = {}
        for window in windows:
            for name in sorted(window.frames.keys() - cameras.keys()):
                cameras[name] = bag.add_connection(
                    f'/{name.replace("_", "/", 1)}/image_raw/compressed', image.__msgtype__,
                    typestore=types)
            stamps = [_BEGIN_NS + count * _BETWEEN_NS + round(float(t) * 1e9)
                      for t in window.times]
            frames = [{'camera': name, 'stamp': stamp} for stamp in stamps
                      for name in sorted(window.frames)]
            for index, stamp in enumerate(stamps):
                for name in sorted(window.frames):
                    message = image(header=header(
                        stamp=time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id='camera'),
                        format='jpeg', data=as_jpeg(window.frames[name][index]))
                    bag.write(cameras[name], stamp,
                              types.serialize_cdr(message, image.__msgtype__))
            for row in window.rows:
                lines.write(f'{json.dumps({"frames": frames, **row})}\n')
            count += 1
    return count
