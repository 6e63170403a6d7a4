# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The rendered drive that is measured on, and its windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vts_ros.lab.scenes.drive import make_drive
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.frames import Frame

#: Between two instants of a window.
INTERVAL_SEC = 0.4


def drive_frames(count: int, size: tuple[int, int], seed: int, cameras: int = 1
                 ) -> list[list[Frame]]:
    """
    Return pictures of a rendered drive up to and through its first hazard, by instant.

    Further cameras see what the first one does, mirrored or shifted: it is about their cost.
    """
    scene = _drive(seed)
    begin = round(scene.families[1][0] / INTERVAL_SEC) - count // 2
    begin = min(max(begin, 0), max(len(scene.times) - count, 0))
    renderer = Renderer(scene, *size)
    instants = []
    for index in range(begin, begin + count):
        picture = renderer.frame(index % len(scene.times))
        stamp = round(index * INTERVAL_SEC * 1e9)
        seen = [picture[:, ::-1] if camera % 2 else picture for camera in range(cameras)]
        instants.append([
            Frame(f'camera{camera}', stamp, np.roll(picture, camera // 2 * 40, axis=1).copy())
            for camera, picture in enumerate(seen)])
    return instants


@lru_cache(maxsize=1)
def _drive(seed: int) -> Scene:
    """Return a drive of all that is measured in a process; to make it takes seconds."""
    return make_drive(seed, interval_sec=INTERVAL_SEC)


def windows_of(instants: Sequence[Sequence[Frame]], frames: int) -> list[list[Frame]]:
    """Return the windows of so many instants, each one instant further than the one before."""
    return [[frame for instant in instants[end - frames:end] for frame in instant]
            for end in range(frames, len(instants) + 1)]
