# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an RGB picture must be for the networks to look at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError

#: Smallest side of a picture that still holds one visual token of any supported model.
MIN_SIDE_PX = 16
#: Longer pictures are no camera's; image processors refuse them from 200 on.
MAX_ASPECT = 20


def check_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """
    Return the picture unchanged if a model can look at it.

    Parameters
    ----------
    image
        uint8 array of shape (height, width, 3), RGB.

    Raises
    ------
    FrameError
        If type or shape is wrong, a side is under ``MIN_SIDE_PX``, or one side is more than
        ``MAX_ASPECT`` times the other.

    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise FrameError(f'expected uint8 (height, width, 3), got {image.dtype} {image.shape}')
    check_size(*image.shape[:2])
    return image


def check_size(height: int, width: int) -> None:
    """Raise FrameError if no camera has pictures of such a size; see :func:`check_rgb`."""
    if min(height, width) < MIN_SIDE_PX:
        raise FrameError(f'picture of {width}x{height} px is smaller than {MIN_SIDE_PX} px')
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise FrameError(f'picture of {width}x{height} px is no camera picture')
