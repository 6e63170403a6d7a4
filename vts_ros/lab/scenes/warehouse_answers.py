# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a right answer about a window of a warehouse says, and such windows as a folder."""

from __future__ import annotations

from collections.abc import Iterable
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from vts_ros.lab.scenes.phrases import with_article
from vts_ros.lab.scenes.warehouse_clips import WarehouseTruth, WarehouseWindow
from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS
from vts_ros.vlm.answers import Answer, RiskLevel

_PLACES = {'left': 'on the left', 'ahead': 'ahead', 'right': 'on the right'}
_MOTIONS = {'stopped': 'stands still', 'oncoming': 'comes towards us',
            'backing': 'moves back towards us', 'crossing': 'crosses',
            'emerging': 'comes into view', 'slower': 'moves slower than us'}
_REASONS: dict[RiskLevel, str] = {
    'low': 'some care is enough for now', 'medium': 'we will be there soon',
    'high': 'there is no time to lose'}
_ACTIONS: dict[RiskLevel, str] = {
    'none': 'keep going', 'low': 'slow down', 'medium': 'brake in time', 'high': 'stop now'}
#: Most things that a description names.
_NAMED = 2
_TOPIC, CAMERA = '/camera/front/image_raw/compressed', 'camera_front'
_JPEG_QUALITY = 95
_BEGIN_NS, _BETWEEN_NS = 1_700_000_000_000_000_000, 10_000_000_000


def answer_of(truth: WarehouseTruth) -> Answer:
    """Return the right answer: few words, each of which tells something."""
    seen = [with_article(label) for label in dict.fromkeys(truth.seen)][:_NAMED]
    explanation = 'The way is clear.'
    if truth.label is not None:
        noun = with_article(truth.label).capitalize()
        explanation = (f'{noun} {_PLACES[truth.place or ""]} {_MOTIONS[truth.motion or ""]}, so '
                       f'{_REASONS[truth.risk]}.')
    return Answer(description=f'We see {" and ".join(seen) or "nobody"}.', risk=truth.risk,
                  label=truth.label, box=truth.box, explanation=explanation,
                  action=_ACTIONS[truth.risk])


def as_jpeg(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3], RGB, as the bytes of a JPEG."""
    _, data = cv2.imencode('.jpg', frame[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return np.asarray(data, np.uint8).ravel()


def write_answered(folder: Path, windows: Iterable[WarehouseWindow]) -> int:
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
        to_image = bag.add_connection(_TOPIC, image.__msgtype__, typestore=types)
        for window in windows:
            stamps = [_BEGIN_NS + count * _BETWEEN_NS + round(float(t) * 1e9)
                      for t in window.scene.times]
            for stamp, frame in zip(stamps, window.frames, strict=True):
                message = image(header=header(
                    stamp=time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id='camera'),
                    format='jpeg', data=as_jpeg(frame))
                bag.write(to_image, stamp, types.serialize_cdr(message, image.__msgtype__))
            lines.write(f'{json.dumps(_row(window.truth, stamps))}\n')
            count += 1
    return count


def _row(truth: WarehouseTruth, stamps: list[int]) -> dict[str, object]:
    """Return a line of ``answers.jsonl``: what training reads of a report, and the family."""
    answer = answer_of(truth)
    return {
        'frames': [{'camera': CAMERA, 'stamp': stamp} for stamp in stamps],
        'risk': {'level': answer.risk},
        'object': None if answer.label is None else {
            'label': answer.label, 'camera': CAMERA,
            'box': [round(side, 4) for side in answer.box or ()]},
        'explanation': answer.explanation, 'action': answer.action,
        'description': answer.description, 'family': truth.family, 'seed': truth.seed}
