# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the embedded model on larger pictures within minutes, on a machine with a GPU."""

from __future__ import annotations

import os
from pathlib import Path

from vts_ros.lab.scenes.model_picture import ModelPicture
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.lab.training.vlm_training import Course, Steps, train_vlm
from vts_ros.paths import model_path

#: Four times the pixels.
_SIZE = '448x256'
#: More steps than there is time for: they say how the time is shared. First the encoder learns
#: what it can see now, then the language model what that means, then both together.
_STEPS = Steps(seeing=4000, understanding=1000, answering=2000, together=3000)
_BATCH, _RATE = 48, 0.5
#: Cores that are left to the training itself.
_OWN_CORES = 2


def train_on_gpu(folder: Path, minutes: float, patch_px: int = 0, tiny: bool = False) -> None:
    """
    Go on from the shipped model with windows rendered meanwhile, and write the checkpoint.

    Parameters
    ----------
    folder
        For the checkpoint, ``embedded``, and the state, ``work``: the same folder goes on where
        the last run was stopped, for as long again. Copy it back from a machine that is lent.
    minutes
        For everything but loading the first windows.
    patch_px
        Side of a patch: 0 for 4 x 7 tokens, which begin with all that the shipped model knows; 8
        for 8 x 14, which see more and begin with less.
    tiny
        On the CPU, a step of each stage with random weights of the same shape.

    """
    work, picture = folder / 'work', ModelPicture.of(_SIZE, patch_px)
    if tiny:
        start = folder / 'tiny'
        create_checkpoint(start, ['a car ahead', 'brake'], vocab_size=600, depth=1,
                          deepstack_visual_indexes=[0])
        course = Course(Steps(1, 1, 1, 1), batch=2, start=start, picture=picture, renderers=1,
                        minutes=minutes)
    else:
        renderers = max(1, len(os.sched_getaffinity(0)) - _OWN_CORES)
        course = Course(_STEPS, _BATCH, start=model_path('embedded'), rate=_RATE,
                        picture=picture, renderers=renderers, device='cuda', minutes=minutes)
    train_vlm(folder / 'ahead', folder / 'embedded', work, course)
