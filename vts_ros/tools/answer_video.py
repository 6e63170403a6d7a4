# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The video of a drive: every answer as long as it was the newest."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from vts_ros.tools.pictures import Picture

#: Frames per second of the video; an answer stays until the next one, as it did in the drive.
VIDEO_FPS = 10
MAX_HOLD_SEC = 5.0
LAST_HOLD_SEC = 1.0


class AnswerVideo:
    """MP4 in which every answer stays for as long as it was the newest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: cv2.VideoWriter | None = None
        self._pending: tuple[Picture, int] | None = None

    def __enter__(self) -> AnswerVideo:
        """Begin; the file is made with the first picture."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the last picture, unless there was an error, and close the file."""
        if self._pending and kind is None:
            self._write(self._pending[0], LAST_HOLD_SEC)
        if self._writer:
            self._writer.release()

    def add(self, picture: Picture, stamp_ns: int) -> None:
        """Show a picture from this stamp on."""
        if self._pending:
            hold_sec = 1e-9 * (stamp_ns - self._pending[1])
            self._write(self._pending[0], min(hold_sec, MAX_HOLD_SEC))
        self._pending = picture, stamp_ns

    def _write(self, picture: Picture, hold_sec: float) -> None:
        if self._writer is None:
            self._writer = _open_video(self._path, picture.shape[1], picture.shape[0])
        bgr = np.ascontiguousarray(picture[..., ::-1])
        for _ in range(max(1, round(hold_sec * VIDEO_FPS))):
            self._writer.write(bgr)


def _open_video(path: Path, width: int, height: int) -> cv2.VideoWriter:
    # Builds of OpenCV without an H.264 encoder are the rule and say so at length: keep them quiet.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        for codec in ('avc1', 'mp4v'):
            writer = cv2.VideoWriter(
                str(path), cv2.VideoWriter.fourcc(*codec), VIDEO_FPS, (width, height))
            if writer.isOpened():
                return writer
    finally:
        cv2.utils.logging.setLogLevel(level)
    raise OSError(f'this OpenCV cannot write {path.suffix} videos')
