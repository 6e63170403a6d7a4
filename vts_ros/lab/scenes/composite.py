# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rendered hazards over the road of a recording.

What is drawn has a known truth, what is behind it is real. The picture of the recording is cut so
that its vanishing point lies where that of the renderer does: then lanes of equal width lie on
equal lines, whatever the focal lengths. Frames are taken as far apart as the scene drives.

The traffic of the recording itself is not in the truth: take recordings of an empty road.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import BagError
from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes.clips import balanced_scenes, hazard_frame, is_clear
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.scene_truth import Clip
from vts_ros.lab.scenes.world import HORIZON, Look, Scene
from vts_ros.tools.bag_frames import read_frames, until_damage
from vts_ros.vlm.answers import Box

#: What cameras behind a windscreen often have; both in shares of the picture.
VANISHING_POINT = 0.5, 0.585
#: Speed of a car on a motorway, where a recording does not say it.
DRIVEN_MPS = 27.0
#: Pictures are kept at this size, the largest at which scenes are drawn twice as fine.
SIZE = 448, 256


@dataclass(frozen=True)
class Backdrop:
    """
    The pictures of a recording, cut for the renderer.

    Attributes
    ----------
    pictures
        uint8 [N, 256, 448, 3], RGB, in the order of time.
    stamps
        [N], in s.
    speed_mps
        How fast the car drove.

    """

    pictures: NDArray[np.uint8]
    stamps: NDArray[np.float64]
    speed_mps: float = DRIVEN_MPS

    @classmethod
    def load(cls, bag: Path, vanishing_point: tuple[float, float] = VANISHING_POINT,
             speed_mps: float = DRIVEN_MPS, first_sec: float = math.inf) -> Backdrop:
        """
        Read the first camera of a recording, or the first seconds of it.

        Raises
        ------
        BagError
            If it has no picture.

        """
        frames = list(until_damage(read_frames(bag), Counter()))
        if not frames:
            raise BagError(f'{bag} has no picture to draw on')
        frames = [frame for frame in frames if frame.camera == frames[0].camera
                  and 1e-9 * (frame.stamp_ns - frames[0].stamp_ns) <= first_sec]
        return cls(np.stack([_cut(frame.rgb(), vanishing_point) for frame in frames]),
                   np.array([1e-9 * frame.stamp_ns for frame in frames]), speed_mps)

    def behind(self, scene: Scene) -> list[NDArray[np.uint8]] | None:
        """Return a picture for each frame of a scene; None if the recording is too short."""
        way = np.array([scene.ego.at(t)[0] for t in scene.times.tolist()])
        ahead = (way - way[0]) / self.speed_mps
        room = float(self.stamps[-1] - self.stamps[0] - ahead[-1])
        if room < 0.0:
            return None
        start = float(self.stamps[0] + np.random.default_rng((scene.seed, 21)).uniform(0.0, room))
        nearest = np.abs(self.stamps[None] - (start + ahead)[:, None]).argmin(axis=1)
        return [self.pictures[index] for index in nearest.tolist()]


class Cut(NamedTuple):
    """
    The largest part of a picture in which the vanishing point is where the renderer has it.

    Attributes
    ----------
    left, top
        Of the part, in pixels; may lie outside.
    scale
        Pixels of the picture per pixel of the part at ``SIZE``.
    width, height
        Of the picture.

    """

    left: int
    top: int
    scale: float
    width: int
    height: int

    @classmethod
    def at(cls, vanishing_point: tuple[float, float], size: tuple[int, int]) -> Cut:
        """Return that of a picture of a height and width, vanishing point in shares of it."""
        height, width = size
        x, y = vanishing_point[0] * width, vanishing_point[1] * height
        scale = min(2.0 * min(x, width - x) / SIZE[0], y / (HORIZON * SIZE[1]),
                    (height - y) / ((1.0 - HORIZON) * SIZE[1]))
        return cls(round(x - 0.5 * scale * SIZE[0]), round(y - scale * HORIZON * SIZE[1]), scale,
                   width, height)

    def of(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part, uint8 [256, 448, 3]."""
        part = rgb[max(self.top, 0):self.top + round(self.scale * SIZE[1]),
                   max(self.left, 0):self.left + round(self.scale * SIZE[0])]
        return np.asarray(cv2.resize(part, SIZE, interpolation=cv2.INTER_AREA), np.uint8)

    def box(self, box: Box) -> Box:
        """Return where a box of the picture is in the part; may reach out of it."""
        left, top, right, bottom = box
        across, down = self.scale * SIZE[0], self.scale * SIZE[1]
        return ((left * self.width - self.left) / across, (top * self.height - self.top) / down,
                (right * self.width - self.left) / across,
                (bottom * self.height - self.top) / down)


def _cut(rgb: NDArray[np.uint8], vanishing_point: tuple[float, float]) -> NDArray[np.uint8]:
    return Cut.at(vanishing_point, rgb.shape[:2]).of(rgb)


def bare(scene: Scene) -> Scene | None:
    """Return a scene as it is on a straight road by day without scenery; None if not clear."""
    found = replace(scene, road=scene.road.straight(), props=(), shake=0.0 * scene.shake,
                    look=Look('day', 'clear', scene.look.variety))
    index = hazard_frame(len(found.times))
    return found if is_clear(found, index, truth.verdict(scene, index).level) else None


def scenes_over(backdrops: Sequence[Backdrop], split: str, count: int, first: int = 0
                ) -> Iterator[tuple[Scene, list[NDArray[np.uint8]]]]:
    """
    Yield scenes that can happen on recordings, with what is behind them.

    Parameters
    ----------
    first, count
        Those of :func:`balanced_scenes`; some are left out, so that there are fewer.

    """
    for drawn in balanced_scenes(split, count, first):
        scene = bare(drawn)
        behind = scene and backdrops[drawn.seed % len(backdrops)].behind(scene)
        if scene and behind:
            yield scene, behind


def render_over(scene: Scene, behind: Sequence[NDArray[np.uint8]], width: int = 224,
                height: int = 128) -> Clip:
    """
    Draw the actors of a scene over pictures.

    Parameters
    ----------
    behind
        One per frame, uint8 [H, W, 3], RGB; brought to the size.

    """
    renderer = Renderer(scene, width, height)
    frames = np.stack([renderer.over(picture, index) for index, picture in enumerate(behind)])
    aspect = height / width
    truths = tuple(truth.frame_truth(scene, index, aspect) for index in range(len(scene.times)))
    return Clip(frames, truths, scene.interval_sec,
                lambda end, length: truth.window_truth(scene, end, aspect, length))
