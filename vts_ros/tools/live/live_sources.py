# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where live pictures come from: a recording at its pace, a camera, a stream. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
import logging
from pathlib import Path
import threading
import time
from typing import Protocol

import cv2
import numpy as np

from vts_ros.errors import VideoError
from vts_ros.pipeline.frames import Frame
from vts_ros.tools.bag_frames import read_frames_from, until_damage
from vts_ros.tools.bag_signals import NO_SIGNALS, SignalUse
from vts_ros.tools.camera_topics import camera_topics
from vts_ros.tools.recorded_senses import NO_SOUND, RecordedSenses, SoundUse
from vts_ros.tools.videos import read_video, shown, video_info

#: Between two passes of a recording.
REST_SEC = 0.5
#: A machine that is further behind goes on from where it is.
MOST_LATE_SEC = 1.0
#: Between two tries to reach a camera.
RETRY_SEC = 2.0

Push = Callable[[Frame], None]
LOG = logging.getLogger(__name__)


class Source(Protocol):
    """Gives pictures until it is stopped or has no more."""

    @property
    def name(self) -> str:
        """Return its name on the page."""
        ...

    @property
    def senses(self) -> RecordedSenses | None:
        """Return what it has beside its pictures, if anything."""
        ...

    def play(self, push: Push, restart: Callable[[], None], stop: threading.Event) -> None:
        """
        Hand over pictures when they are due.

        Parameters
        ----------
        push
            Takes a picture.
        restart
            Called where the next pictures do not continue the previous ones.
        stop
            Ends it.

        """
        ...


class Recording:
    """
    A bag or a video at its pace.

    Attributes
    ----------
    senses
        What it has beside the pictures.

    """

    def __init__(self, path: Path, frames: Callable[[], Iterator[tuple[int, Frame]]],
                 loop: bool, senses: RecordedSenses | None = None) -> None:
        self._frames, self._loop = frames, loop
        self.name = path.name
        self.senses = senses or RecordedSenses(path)

    @classmethod
    def bag(cls, path: Path, topics: Sequence[str] | None, loop: bool,
            signals: SignalUse = NO_SIGNALS, sound: SoundUse = NO_SOUND) -> Recording:
        """Open a bag; raise BagError, SoundError if it cannot be read or lacks what is wanted."""
        camera_topics(path)
        return cls(path, lambda: until_damage(
            read_frames_from(0, path, topics), Counter()), loop,
            RecordedSenses(path, signals, sound))

    @classmethod
    def video(cls, path: Path, loop: bool, signals: SignalUse = NO_SIGNALS,
              sound: SoundUse = NO_SOUND) -> Recording:
        """Open a video; raise VideoError, SoundError, SignalError as for a bag."""
        video_info(path)
        return cls(path, lambda: ((frame.stamp_ns, frame) for frame in read_video(path)), loop,
                   RecordedSenses(path, signals, sound))

    def play(self, push: Push, restart: Callable[[], None], stop: threading.Event) -> None:
        """Hand over the pictures at their pace, as :class:`Source` has it."""
        while not stop.is_set():
            for frame in self.senses.beside(self._in_time(stop)):
                if stop.is_set():
                    return
                push(frame)
            if not self._loop or stop.wait(REST_SEC):
                return
            restart()

    def _in_time(self, stop: threading.Event) -> Iterator[tuple[int, Frame]]:
        """Yield the pictures of a pass when they are due."""
        began: float | None = None
        for at_ns, frame in self._frames():
            at = 1e-9 * at_ns
            early = 0.0 if began is None else began + at - time.monotonic()
            if began is None or early < -MOST_LATE_SEC:
                began = time.monotonic() - at
            if early > 0.0 and stop.wait(early):
                return
            yield at_ns, frame


class WebCamera:
    """
    A camera of this machine.

    Raises
    ------
    VideoError
        If it does not give a picture.

    """

    senses = None

    def __init__(self, number: int) -> None:
        self.name = f'camera {number}'
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(number)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.read()[0]:
            raise VideoError(f'camera {number} gives no picture: is there a /dev/video{number}, '
                             'and does no other program use it?')
        self._camera = f'camera_{number}'

    def play(self, push: Push, restart: Callable[[], None], stop: threading.Event) -> None:
        """Hand over the pictures as they come."""
        try:
            while not stop.is_set():
                is_there, bgr = self._capture.read()
                if not is_there:
                    raise VideoError(f'{self.name} gives no more pictures')
                push(Frame(self._camera, time.time_ns(),
                           np.ascontiguousarray(np.asarray(bgr, np.uint8)[..., ::-1])))
        finally:
            self._capture.release()


class Stream:
    """
    A network camera; a lost connection is tried again.

    Raises
    ------
    VideoError
        If it cannot be reached at first.

    """

    senses = None

    def __init__(self, address: str) -> None:
        self._address, self.name = address, shown(address)
        video_info(address)

    def play(self, push: Push, restart: Callable[[], None], stop: threading.Event) -> None:
        """Hand over the pictures as they come, stamped with when that is."""
        while not stop.is_set():
            try:
                for frame in read_video(self._address):
                    if stop.is_set():
                        return
                    push(replace(frame, stamp_ns=time.time_ns()))
                LOG.warning('%s has ended; it is looked for again', self.name)
            except VideoError as error:
                LOG.warning('%s; it is tried again', error)
            restart()
            stop.wait(RETRY_SEC)
