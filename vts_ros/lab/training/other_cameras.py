# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rendered pictures as one of many cameras might take them.

The renderer knows one lens, one mounting, one sensor and its own colours; a network that sees
nothing else takes the blue of a real sky for the paint of a bus.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.scene_truth import FrameTruth

#: Widest changes of the view, drawn evenly: zoom (as a power of 2), and shift to the side and up
#: or down in shares of the picture.
_ZOOM, _SHIFT = 0.4, (0.1, 0.15)
#: Widest changes, drawn evenly: gain of each colour and of all, exponent of the tone curve (as a
#: power of 2), and saturation.
_COLOUR_GAIN, _GAIN, _GAMMA, _SATURATION = 0.12, 0.3, 0.5, 0.6
#: Standard deviations at most: of the blur in pixels, of the noise in steps of 255.
_BLUR_PX, _NOISE = 1.2, 8.0
#: Share of the pictures that stay as they are, and of the others that are blurred.
_CLEAN_SHARE, _BLURRED_SHARE = 0.25, 0.5
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def another_camera(frame: NDArray[np.uint8], truth: FrameTruth, rng: np.random.Generator
                   ) -> tuple[NDArray[np.uint8], FrameTruth]:
    """
    Return a picture and its truth as another camera might have them.

    Distances and the like stay as they are; boxes may reach out of the picture.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.

    """
    if rng.random() < _CLEAN_SHARE:
        return frame, truth
    frame, truth = _another_view(frame, truth, rng)
    return _another_sensor(frame, rng), truth


def _another_view(frame: NDArray[np.uint8], truth: FrameTruth, rng: np.random.Generator
                  ) -> tuple[NDArray[np.uint8], FrameTruth]:
    """Mirror, zoom and shift a picture; what was outside is as the edge is."""
    height, width = frame.shape[:2]
    zoom = 2.0 ** rng.uniform(-_ZOOM, _ZOOM)
    x_scale = zoom if rng.random() < 0.5 else -zoom
    # Zoomed about the middle of the picture; in shares of it.
    x, y = 0.5 - 0.5 * x_scale + rng.uniform(-_SHIFT[0], _SHIFT[0]), \
        0.5 - 0.5 * zoom + rng.uniform(-_SHIFT[1], _SHIFT[1])
    # OpenCV counts from the middle of the first pixel, boxes from its edge.
    matrix = np.array([[x_scale, 0.0, x * width + 0.5 * (x_scale - 1.0)],
                       [0.0, zoom, y * height + 0.5 * (zoom - 1.0)]])
    moved = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    actors = []
    for actor in truth.actors:
        left, top, right, bottom = actor.box
        sides = sorted((x_scale * left + x, x_scale * right + x))
        actors.append(replace(
            actor, box=(sides[0], zoom * top + y, sides[1], zoom * bottom + y)))
    return np.asarray(moved, np.uint8), replace(truth, actors=tuple(actors))


def _another_sensor(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change tone, colour, focus and noise."""
    light = frame.astype(np.float32) / 255.0
    light **= np.float32(2.0 ** rng.uniform(-_GAMMA, _GAMMA))
    grey = (light @ _GREY)[..., None]
    light = grey + (light - grey) * np.float32(rng.uniform(1.0 - _SATURATION, 1.0 + _SATURATION))
    gains = rng.uniform(1.0 - _COLOUR_GAIN, 1.0 + _COLOUR_GAIN, 3)
    light *= (gains * rng.uniform(1.0 - _GAIN, 1.0 + _GAIN)).astype(np.float32)
    if rng.random() < _BLURRED_SHARE:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), rng.uniform(0.3, _BLUR_PX)), np.float32)
    noise = rng.standard_normal(light.shape, np.float32) * rng.uniform(0.0, _NOISE)
    return np.clip(255.0 * light + noise, 0.0, 255.0).astype(np.uint8)
