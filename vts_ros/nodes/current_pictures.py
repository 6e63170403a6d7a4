# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The present window: without pictures that are old, lost or broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vts_ros.nodes.camera import Cameras
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import BrokenFrame

UNDECODABLE = 'the newest pictures cannot be decoded'


class UnansweredError(Exception):
    """There is nothing to describe, or nobody wants it any more; the message says why."""


class StaleError(UnansweredError):
    """There are pictures, but none shows the present."""


class WaitingError(UnansweredError):
    """There is no language model yet, which the log has said."""


class CurrentPictures:
    """
    Returns the window to be described now; may be used from two threads.

    Parameters
    ----------
    cameras
        Those that the node listens to.
    now_ns
        The present time of the node in nanoseconds.
    max_age_sec
        Gives the largest age of the newest picture of a camera; 0 takes any.

    """

    def __init__(self, cameras: Cameras, now_ns: Callable[[], int],
                 max_age_sec: Callable[[], float]) -> None:
        self.buffer = FrameBuffer()
        self._cameras, self._now_ns, self._max_age_sec = cameras, now_ns, max_age_sec
        # By camera the newest stamp of a broken picture.
        self._broken: dict[str, int] = {}

    def forget(self) -> None:
        """Forget which pictures were broken."""
        self._broken.clear()

    def window(self, is_full: bool) -> list[Frame]:
        """
        Return the newest window, of the cameras that show the present.

        Parameters
        ----------
        is_full
            Whether it must have all its frames.

        Raises
        ------
        UnansweredError
            If there is none; StaleError if no camera shows the present.

        """
        window = self.buffer.window(is_full)
        if not window:
            all_broken = self._broken and not self.buffer.window(full=False)
            raise UnansweredError(UNDECODABLE if all_broken else 'no window of pictures yet')
        if not self._max_age_sec():
            return window
        missing = {**self._too_old(window), **self.missing()}
        fresh = [frame for frame in window if frame.camera not in missing]
        if not fresh:
            raise StaleError(list_reasons(missing))
        return fresh

    def missing(self) -> dict[str, str]:
        """Return the cameras that do not show the present, each with the reason."""
        now_ns, limit_sec = self._now_ns(), self._max_age_sec()
        reasons = {camera.health.name: camera.health.missing(now_ns, limit_sec)
                   for camera in self._cameras}
        return {name: reason for name, reason in reasons.items() if reason}

    def is_described(self, newest: tuple[str, int], described: tuple[str, int] | None) -> bool:
        """Return whether a window was described before, as all newer frames are broken."""
        return newest == described and newest[1] < max(self._broken.values(), default=0)

    def is_current(self, stamp_ns: int) -> bool:
        """Return whether an answer about a picture of this time may still stand."""
        limit_sec = self._max_age_sec()
        return not limit_sec or self._now_ns() - stamp_ns <= limit_sec * 1e9

    def drop(self, broken: BrokenFrame) -> None:
        """Leave out a frame that cannot be decoded, and count it."""
        frame = broken.frame
        self.buffer.discard(frame)
        self._broken[frame.camera] = max(frame.stamp_ns, self._broken.get(frame.camera, 0))
        for camera in self._cameras:
            if camera.health.name == frame.camera:
                camera.leave_out('broken', str(broken))

    def _too_old(self, window: Sequence[Frame]) -> dict[str, str]:
        """Return the cameras whose newest frame of a window is too old, each with the reason."""
        now_ns, limit_sec = self._now_ns(), self._max_age_sec()
        newest_ns = {frame.camera: frame.stamp_ns for frame in window}
        return {
            camera: UNDECODABLE if stamp_ns < self._broken.get(camera, 0)
            else f'no picture of the last {limit_sec:.1f} s is in the window'
            for camera, stamp_ns in newest_ns.items() if now_ns - stamp_ns > limit_sec * 1e9}


def list_reasons(reasons: Mapping[str, str]) -> str:
    """Return the cameras with their reasons in one line."""
    return ', '.join(f'{name}: {reason}' for name, reason in reasons.items())
