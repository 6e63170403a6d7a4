# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames have come already, so that each is read once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vts_ros.pipeline.frames import Frame


class Arrivals:
    """The newest frame of each camera that has come, whether it is still held or not."""

    def __init__(self) -> None:
        self._newest_ns: dict[str, int] = {}

    def note(self, frame: Frame) -> None:
        """Note that a frame has come."""
        self._newest_ns[frame.camera] = max(
            frame.stamp_ns, self._newest_ns.get(frame.camera, frame.stamp_ns))

    def clear(self) -> None:
        """Forget all of them."""
        self._newest_ns.clear()

    def unseen(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames that are newer than all earlier ones of their camera."""
        return [frame for frame in frames
                if frame.stamp_ns > self._newest_ns.get(frame.camera, frame.stamp_ns - 1)]

    def unseen_of_window(self, window: Sequence[Frame], held: Iterable[Frame]
                         ) -> list[Frame] | None:
        """
        Return which frames of a window are new; None if it is of another drive.

        It is if it does not end with or after what is held, or has nothing in common with it.

        Parameters
        ----------
        held
            The frames that an answer would be about now.

        Raises
        ------
        ValueError
            If there is no frame.

        """
        if not window:
            raise ValueError('a window needs at least one frame')
        keys = {frame.key for frame in held}
        newest = max(keys, key=lambda key: (key[1], key[0]), default=None)
        new = self.unseen(window)
        goes_on = bool(new) or window[-1].key == newest
        if goes_on and not keys.isdisjoint(frame.key for frame in window):
            return new
        return None
