# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows at the size that the models work on, some with the marks that cameras leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.clips import render
from vts_ros.lab.scenes.composite import render_over
from vts_ros.lab.scenes.model_picture import ModelPicture, SHIPPED
from vts_ros.lab.scenes.scene_truth import Clip
from vts_ros.lab.scenes.world import Scene

FRAMES = 5
#: Share of the windows that are drawn larger and scaled down, as a camera picture is.
_SCALED_SHARE = 0.35
_JPEG_SHARE = 0.5


def render_window(scene: Scene, behind: Sequence[NDArray[np.uint8]] | None = None,
                  picture: ModelPicture = SHIPPED) -> Clip:
    """
    Render a scene at model size, some by way of a larger or a compressed picture.

    Parameters
    ----------
    behind
        Pictures to draw it over, one per frame.
    picture
        Of the model.

    """
    rng = np.random.default_rng([scene.seed, 2])
    scaled = rng.random() < _SCALED_SHARE
    size = picture.camera if scaled else picture[:2]
    clip = render(scene, *size) if behind is None else render_over(scene, behind, *size)
    frames = clip.frames
    if rng.random() < _JPEG_SHARE:
        frames = np.stack([through_jpeg(frame, int(rng.integers(60, 96))) for frame in frames])
    if scaled:
        frames = np.stack([cv2.resize(frame, picture[:2], interpolation=cv2.INTER_AREA)
                           for frame in frames])
    return replace(clip, frames=frames)


def through_jpeg(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a picture, in whatever order of colours, as it comes out of a JPEG."""
    _, data = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
