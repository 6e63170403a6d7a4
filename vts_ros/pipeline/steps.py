# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Steps: the frames that become one grid of visual tokens.

As pictures every frame is a step. As a video two frames of one camera that follow each other are,
or with some families every frame, camera by camera.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from vts_ros.pipeline.frames import Frame
from vts_ros.vlm.prompts import Stamped

Step = tuple[Frame, ...]
AnyFrame = TypeVar('AnyFrame', bound=Stamped)


def steps_of(window: Sequence[AnyFrame], length: int, is_video: bool = False
             ) -> list[tuple[AnyFrame, ...]]:
    """
    Return the steps of a window.

    Parameters
    ----------
    window
        In the order of time.
    length
        Frames of a step; of an odd number the last is a step of its own.
    is_video
        Whether the steps come camera by camera, so that each is one video. Steps of several
        frames always do.

    """
    if length == 1 and not is_video:
        return [(frame,) for frame in window]
    cameras: dict[str, list[AnyFrame]] = {}
    for frame in window:
        cameras.setdefault(frame.camera, []).append(frame)
    return [tuple(frames[begin:begin + length]) for _, frames in sorted(cameras.items())
            for begin in range(0, len(frames), length)]


def places(steps: Iterable[Step], frames: Sequence[Frame]) -> tuple[tuple[int, ...], ...]:
    """Return where the frames of each step are among the frames of a report."""
    place = {frame.key: index for index, frame in enumerate(frames)}
    return tuple(tuple(place[frame.key] for frame in step) for step in steps)


class StepMaker:
    """
    Makes steps of frames as they come.

    Parameters
    ----------
    length
        Frames of a step.

    Attributes
    ----------
    waiting
        By camera, frames that have no partner yet.

    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._sizes: dict[str, tuple[int, int]] = {}
        self.waiting: dict[str, Step] = {}

    def take(self, frame: Frame, size: tuple[int, int]) -> list[Step]:
        """Return the steps that are complete with a frame of a size; one of another size ends."""
        before = self.waiting.pop(frame.camera, ())
        done = []
        if before and size != self._sizes[frame.camera]:
            done, before = [before], ()
        step = (*before, frame)
        if len(step) == self._length:
            return [*done, step]
        self.waiting[frame.camera], self._sizes[frame.camera] = step, size
        return done
