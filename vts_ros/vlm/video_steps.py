# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How frames stand in a prompt as a video: which steps are one video, and what is said of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vts_ros.vlm.prompts import Stamped


class VideoStep(NamedTuple):
    """
    What is to be told of a step.

    Attributes
    ----------
    time_sec
        When it was, the mean of its frames, since the first frame of the prompt.
    begins
        Whether it begins a video; otherwise it goes on with that of the step before.
    camera
        Said before the video; empty where there is one camera only.
    is_later
        Whether the prompt has an earlier video of this camera.

    """

    time_sec: float
    begins: bool = True
    camera: str = ''
    is_later: bool = False

    def title(self, tells_time: bool) -> str:
        """Return the text before the video, with its time if that is told nowhere else."""
        told = f' {self.time_sec:.1f}s' if self.is_later and not tells_time else ''
        return f'{self.camera}{told}'


def video_steps(steps: Sequence[Sequence[Stamped]]) -> list[VideoStep]:
    """
    Return what is to be told of steps: those of a camera that follow each other are one video.

    Parameters
    ----------
    steps
        The frames of each.

    """
    first_ns = steps[0][0].stamp_ns
    several = len({step[0].camera for step in steps}) > 1
    found: list[VideoStep] = []
    shown: list[str] = []
    for step in steps:
        camera = step[0].camera
        ago_ns = sum(frame.stamp_ns - first_ns for frame in step) / len(step)
        # Cameras are not quite of one moment; nothing is before the beginning.
        found.append(VideoStep(
            max(0.0, ago_ns * 1e-9), shown[-1:] != [camera], camera if several else '',
            camera in shown))
        shown.append(camera)
    return found
