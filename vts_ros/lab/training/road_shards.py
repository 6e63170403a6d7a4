# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of recordings, labelled by a teacher, beside the rendered ones to learn from."""

from __future__ import annotations

from pathlib import Path
import re

import cv2
import numpy as np

from vts_ros.errors import VtsError
from vts_ros.lab.recordings import fingerprint, name_of
from vts_ros.lab.road_truth import road_truth
from vts_ros.lab.road_windows import road_windows, RoadWindow
from vts_ros.lab.scenes.model_picture import ModelPicture, SHIPPED
from vts_ros.lab.teacher import Found
from vts_ros.lab.training.shards import check_size, make_sample, REAL, Sample, write_shard


class RoadShardError(VtsError, ValueError):
    """There is nothing to learn from; the message says why in one line."""


def write_road_shard(folder: Path, recording: Path, found: Found, ego_mps: float, most: int,
                     picture: ModelPicture = SHIPPED) -> list[RoadWindow]:
    """
    Write the windows of a recording whose labels are clear, and each of them mirrored.

    What was there of the recording is written anew.

    Parameters
    ----------
    folder
        Of the rendered windows; made if it is not there.
    found
        Road users of the recording.
    ego_mps
        Speed of the car.
    most
        Windows to take, at most, the mirrored ones not counted.
    picture
        Of the model.

    Returns
    -------
    The windows that were taken.

    Raises
    ------
    RoadShardError
        If no window has labels that are clear.
    PictureSizeError
        If windows of another size are there.

    """
    check_size(folder, picture)
    windows = list(road_windows(recording, found, ego_mps, most))
    if not windows:
        raise RoadShardError(
            f'{name_of(recording)} has no window with clear labels: take a longer recording')
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r'[^\w.-]', '_', name_of(recording))
    path = folder / f'train{REAL}-{name}-{fingerprint(recording)[:8]}.npy'
    mirrored = _mirrored(found)
    samples = [sample for window in windows
               for sample in (_sample(window, picture),
                              _mirror(window, mirrored, ego_mps, picture))]
    write_shard(path, samples)
    return windows


def _sample(window: RoadWindow, picture: ModelPicture) -> Sample:
    frames = np.stack([np.asarray(cv2.resize(
        frame.rgb(), picture[:2], interpolation=cv2.INTER_AREA), np.uint8)
        for frame in window.frames])
    return make_sample(frames, window.truth.frames, window.truth.window)


def _mirror(window: RoadWindow, mirrored: Found, ego_mps: float, picture: ModelPicture
            ) -> Sample:
    """Return a window as it were with traffic on the other side."""
    aspect_of = window.frames[-1].rgb().shape
    truth = road_truth(window.frames, mirrored, aspect_of[0] / aspect_of[1], ego_mps)
    sample = _sample(window._replace(truth=truth), picture)
    return make_sample(np.ascontiguousarray(sample.frames[:, :, ::-1]), truth.frames,
                       truth.window)


def _mirrored(found: Found) -> Found:
    return {key: [user._replace(box=(1.0 - user.box[2], user.box[1], 1.0 - user.box[0],
                                     user.box[3])) for user in users]
            for key, users in found.items()}
