# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is done about a window in which some frames cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vts_ros.pipeline.features import BrokenFrame
from vts_ros.pipeline.frames import Frame, Window

OnBroken = Callable[[BrokenFrame], None]
Result = TypeVar('Result')


def without_broken(window: Window, on_broken: OnBroken, run: Callable[[list[Frame]], Result]
                   ) -> Result | None:
    """
    Run on what is left of a window without its broken frames; None if nothing is.

    Nothing of the good frames is computed twice.

    Parameters
    ----------
    on_broken
        Told about each frame that is left out.

    """
    good = list(window)
    while good:
        try:
            return run(good)
        except BrokenFrame as broken:
            on_broken(broken)
            good.remove(broken.frame)
    return None
