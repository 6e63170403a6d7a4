# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A window as videos for vLLM with the plugin of this package, with the tokens to keep."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import VlmError
from vts_ros.vlm.served_prompt import (
    AS_IN_PROCESS,
    KEEP,
    ServedFrame,
    ServedPrompt,
    text_part,
    video_part,
)
from vts_ros.vlm.video_steps import VideoStep


@dataclass(frozen=True, eq=False)
class StepsPrompt(ServedPrompt):
    """
    A window whose frames are sent as one video of each camera.

    Attributes
    ----------
    frames
        Two of each step; it has no captions.
    steps
        What is to be told of each.
    step_sec
        Spacing of the steps, by which Qwen2.5-VL counts time.

    """

    ending = AS_IN_PROCESS
    steps: tuple[VideoStep, ...]
    step_sec: float

    def request(self, keep: NDArray[np.int32] | None) -> dict[str, Any]:
        """Return what a request says about what is kept [B] of the window, all if None."""
        begins = [index for index, step in enumerate(self.steps) if step.begins]
        cells = np.cumsum([0, *(math.prod(frame.grid) for frame in self.frames)])
        kept = np.arange(cells[-1]) if keep is None else keep
        content: list[dict[str, Any]] = []
        lists: list[dict[str, Any]] = []
        for begin, end in zip(begins, [*begins[1:], len(self.steps)]):
            frames, steps = self.frames[begin:end], self.steps[begin:end]
            if steps[0].camera:
                content.append(text_part(steps[0].camera))
            content.append(video_part(_pictures(frames)))
            first, last = np.searchsorted(kept, [cells[begin], cells[end]])
            lists.append({
                'grid': list(frames[0].grid), 'keep': (kept[first:last] - cells[begin]).tolist(),
                'times_sec': [step.time_sec for step in steps], 'step_sec': self.step_sec})
        return {'messages': self.chat(content), 'extra_body': {
            'mm_processor_kwargs': {KEEP: lists},
            # As many frames as come; vLLM takes 32 otherwise.
            'media_io_kwargs': {'video': {'num_frames': -1}}}}


def _pictures(frames: tuple[ServedFrame, ...]) -> list[NDArray[np.uint8]]:
    """Return the pictures of a video; a step of a single frame has it twice."""
    if len({frame.picture.shape for frame in frames}) > 1:
        raise VlmError('pictures of different sizes cannot be one video')
    return [picture for frame in frames for picture in (
        frame.picture, frame.picture if frame.second is None else frame.second)]
