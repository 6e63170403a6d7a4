# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that an image processor has cut in patches, as the steps of a video."""

from __future__ import annotations

import torch
from torch import Tensor

_CHANNELS = 3


def step_patches(patches: Tensor, grids: Tensor, moments: int) -> Tensor:
    """
    Return the patches of the steps of videos from those of their frames as pictures.

    Parameters
    ----------
    patches
        Of the frames [P, C * moments * patch * patch], each a picture: one moment, repeated.
    grids
        Of the frames in patches [T * moments, 3]; those of a step are alike.
    moments
        Frames of a step.

    Returns
    -------
    Tensor
        [P / moments, C * moments * patch * patch].

    """
    frames = patches.split(grids.prod(1).tolist())
    # A patch is channels, moments, rows and columns.
    split = [frame.unflatten(1, (_CHANNELS, moments, -1)) for frame in frames]
    steps = [torch.stack([frame[:, :, moment] for moment, frame in enumerate(
        split[begin:begin + moments])], dim=2) for begin in range(0, len(split), moments)]
    return torch.cat(steps).flatten(1)
