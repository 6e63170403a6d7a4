# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures as another camera might take them: another lens, mounting, hour and weather.

The renderer knows one lens and a few moods, and a handful of recordings know one car each; a
network that sees nothing else takes the blue of a real sky for the paint of a bus, and a caption
for a lorry. All changes are drawn from a random generator, with the limits that stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.vlm.answers import Box

Floats = NDArray[np.float32]

#: Widest changes of the view: zoom out and in (as powers of 2), of the aspect, turn in degrees
#: (a standard deviation), and where the horizon comes to lie in shares of the picture.
_ZOOM, _ASPECT, _TURN_DEG, _SHIFT = (-0.45, 0.7), 0.2, 2.0, (0.15, 0.17)
#: Share of wide-angle lenses, and their distortion at half the width.
_WIDE_SHARE, _DISTORTION = 0.2, (0.05, 0.35)
#: What is left of a box must be this share of it, and this wide and high in shares of the picture.
_LEFT_SHARE, _LEAST_SIZE = 0.15, (0.006, 0.008)
#: Widest changes: gain of each colour and of all, exponent of the tone curve (as a power of 2),
#: saturation, blur in pixels, noise in steps of 255, quality of the JPEG.
_COLOUR_GAIN, _GAIN, _GAMMA, _SATURATION = 0.12, (0.65, 1.3), 0.5, (0.3, 1.5)
_BLUR_PX, _NOISE, _QUALITY = (0.3, 1.6), 8.0, (25, 95)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_LETTERS = tuple('ABCDEFGHIKLMNOPRSTUVWXYZ0123456789 :/-')


class Thing(NamedTuple):
    """
    Something in a picture that matters.

    Attributes
    ----------
    kind
        Index of what it is, whatever the list.
    importance
        0 to 1.
    box
        Left, top, right, bottom in shares of the picture.

    """

    kind: int
    importance: float
    box: Box


class _Lens(NamedTuple):
    """
    The way from a picture to another view of it, in pixels.

    Attributes
    ----------
    matrix, offset
        float64 [2, 2] and [2]; applied first.
    distortion
        Of a wide-angle lens about the middle, at half the width; 0 for none.
    size
        Width and height of the view.

    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    distortion: float
    size: tuple[int, int]

    def forward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where points [n, 2] of the picture are in the view."""
        points = points @ self.matrix.T + self.offset
        if not self.distortion:
            return points
        half = np.array(self.size) / 2.0
        ray = (points - half) / half[0]
        return ray / (1.0 + self.distortion * (ray ** 2).sum(-1, keepdims=True)) * half[0] + half

    def backward(self) -> NDArray[np.float32]:
        """Return from where in the picture each pixel of the view comes, [H, W, 2]."""
        width, height = self.size
        half = np.array(self.size) / 2.0
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + 0.5
        ray = (grid - half) / half[0]
        if self.distortion:
            # The root of r' = r / (1 + k r^2) that is r for a small k.
            far = np.linalg.norm(ray, axis=-1, keepdims=True).clip(1e-6)
            root = np.sqrt((1.0 - 4.0 * self.distortion * far ** 2).clip(0.0))
            ray = ray * (1.0 - root) / (2.0 * self.distortion * far) / far
        source = (ray * half[0] + half - self.offset) @ np.linalg.inv(self.matrix).T
        return source.astype(np.float32)


def another_view(picture: NDArray[np.uint8], things: Sequence[Thing], size: tuple[int, int],
                 rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Thing]]:
    """
    Return a picture and what is in it through another lens, from another place in the car.

    Parameters
    ----------
    picture
        uint8 [H, W, 3].
    things
        What is in it; that which leaves the view is left out.
    size
        Height and width of the view.

    """
    height, width = picture.shape[:2]
    lens = _draw_lens((height, width), size, rng)
    # Not mirrored: that would show things that nobody told of.
    border = cv2.BORDER_REPLICATE if rng.random() < 0.7 else cv2.BORDER_CONSTANT
    # Shrunk first: sampling between two pixels would alias.
    step = max(1, int(1.0 / np.sqrt(abs(np.linalg.det(lens.matrix)))))
    source = lens.backward()
    if step > 1:
        smaller = picture.shape[1] // step, picture.shape[0] // step
        source *= np.array([smaller[0] / picture.shape[1], smaller[1] / picture.shape[0]],
                           np.float32)
        picture = np.asarray(cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    # OpenCV counts from the middle of the first pixel, boxes from its edge.
    view = cv2.remap(picture, source[..., 0] - 0.5, source[..., 1] - 0.5, cv2.INTER_LINEAR,
                     borderMode=border)
    moved = (_through(thing, lens, (width, height)) for thing in things)
    return np.asarray(view, np.uint8), [thing for thing in moved if thing is not None]


def _draw_lens(picture: tuple[int, int], view: tuple[int, int], rng: np.random.Generator
               ) -> _Lens:
    (height, width), (rows, columns) = picture, view
    zoom = 2.0 ** rng.uniform(*_ZOOM)
    sideways = zoom * 2.0 ** rng.uniform(-_ASPECT, _ASPECT)
    if rng.random() < 0.5:
        sideways = -sideways
    turn = np.deg2rad(rng.normal(0.0, _TURN_DEG)) if rng.random() < 0.5 else 0.0
    across, down = sideways * columns / width, zoom * rows / height
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos * across, -sin * down], [sin * across, cos * down]])
    # A point about the horizon comes to lie about the middle.
    point = np.array([0.5 + 0.1 * rng.uniform(-1, 1) * (zoom > 1.0), 0.53 + 0.1 * rng.uniform(
        -1, 1)]) * [width, height]
    place = (0.5 + np.array(_SHIFT) * rng.uniform(-1, 1, 2)) * [columns, rows]
    distortion = rng.uniform(*_DISTORTION) if rng.random() < _WIDE_SHARE else 0.0
    return _Lens(matrix, place - matrix @ point, distortion, (columns, rows))


def _through(thing: Thing, lens: _Lens, size: tuple[int, int]) -> Thing | None:
    """Return a thing as the lens shows it; None if too little of it is left."""
    left, top, right, bottom = thing.box
    share = np.linspace(0.0, 1.0, 5)
    x, y = left + (right - left) * share, top + (bottom - top) * share
    edge = np.concatenate([
        np.stack([x, np.full(5, top)], 1), np.stack([x, np.full(5, bottom)], 1),
        np.stack([np.full(5, left), y], 1), np.stack([np.full(5, right), y], 1)])
    points = lens.forward(edge * size) / lens.size
    low, high = points.min(axis=0), points.max(axis=0)
    shown_low, shown_high = low.clip(0.0, 1.0), high.clip(0.0, 1.0)
    shown = shown_high - shown_low
    if np.prod(shown) <= _LEFT_SHARE * np.prod(high - low) or (shown <= _LEAST_SIZE).any():
        return None
    return thing._replace(box=(float(shown_low[0]), float(shown_low[1]), float(shown_high[0]),
                               float(shown_high[1])))


def another_moment(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture at another hour, in other weather, by another sensor; uint8 [H, W, 3]."""
    light = picture.astype(np.float32)
    if rng.random() < 0.85:
        light = _another_tone(light, rng)
    kind = rng.random()
    if kind < 0.16:
        light = _night(light, rng)
    elif kind < 0.28:
        light = _fog(light, rng)
    elif kind < 0.36:
        light = _glare(light, rng)
    for share, change in ((0.15, _drops), (0.08, _streaks), (0.18, _bonnet), (0.12, _captions)):
        if rng.random() < share:
            light = change(light, rng)
    return _sensor(light, rng)


def _another_tone(light: Floats, rng: np.random.Generator) -> Floats:
    tone = np.float32(2.0 ** rng.uniform(-_GAMMA, _GAMMA))
    light = np.asarray(255.0 * (light / 255.0) ** tone, np.float32)
    grey = (light @ _GREY)[..., None]
    light = np.asarray(grey + (light - grey) * rng.uniform(*_SATURATION), np.float32)
    gains = (1.0 + rng.uniform(-_COLOUR_GAIN, _COLOUR_GAIN, 3)) * rng.uniform(*_GAIN)
    return np.asarray(light * gains.astype(np.float32))


def _rows(light: Floats) -> Floats:
    return np.linspace(0.0, 1.0, len(light), endpoint=False, dtype=np.float32)[:, None, None]


def _night(light: Floats, rng: np.random.Generator) -> Floats:
    """Darken all but what the headlamps reach, and add lamps."""
    height, width = light.shape[:2]
    dark = light * rng.uniform(0.08, 0.4)
    beam = np.exp(-((_rows(light) - rng.uniform(0.6, 0.9)) / rng.uniform(0.2, 0.6)) ** 2)
    lamps = np.zeros_like(light)
    for _ in range(rng.integers(0, 9)):
        place = int(rng.integers(width)), int(rng.integers(int(0.6 * height)))
        colour = np.array([255.0, rng.integers(150, 255), rng.integers(60, 220)])
        cv2.circle(lamps, place, int(rng.integers(1, 4)),
                   (colour * rng.uniform(0.5, 1.0)).tolist(), -1)
    halo = cv2.GaussianBlur(lamps, (0, 0), rng.uniform(1.5, 6.0))
    return np.asarray(dark * (beam * rng.uniform(0.8, 1.6) + 0.4) + lamps + 2.0 * halo, np.float32)


def _fog(light: Floats, rng: np.random.Generator) -> Floats:
    """Hide what is far, which is what is near the horizon."""
    far = np.exp(-np.abs(_rows(light) - rng.uniform(0.4, 0.55)) / rng.uniform(0.1, 0.6))
    share = far * rng.uniform(0.3, 0.9)
    return np.asarray(light * (1.0 - share) + share * rng.uniform(140.0, 235.0), np.float32)


def _glare(light: Floats, rng: np.random.Generator) -> Floats:
    height, width = light.shape[:2]
    x, y = rng.uniform(0.0, width), rng.uniform(0.0, 0.6 * height)
    across = np.arange(width, dtype=np.float32)[None, :, None]
    far = (across - x) ** 2 + (_rows(light) * height - y) ** 2
    sun = np.exp(-far / (2.0 * rng.uniform(20.0, 90.0) ** 2))
    return np.asarray(light + sun * rng.uniform(80.0, 260.0) + rng.uniform(0.0, 30.0), np.float32)


def _drops(light: Floats, rng: np.random.Generator) -> Floats:
    """Put drops on the windscreen, behind which all is blurred."""
    height, width = light.shape[:2]
    blurred = cv2.GaussianBlur(light, (0, 0), rng.uniform(2.0, 5.0))
    mask = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(5, 60)):
        cv2.ellipse(mask, (int(rng.integers(width)), int(rng.integers(height))),
                    (int(rng.integers(1, 7)), int(rng.integers(1, 9))),
                    float(rng.uniform(0.0, 180.0)), 0, 360, 1.0, -1)
    share = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None]
    return np.asarray(light * (1.0 - share) + share * blurred * rng.uniform(0.8, 1.3), np.float32)


def _streaks(light: Floats, rng: np.random.Generator) -> Floats:
    """Let it rain."""
    height, width = light.shape[:2]
    rain = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(20, 120)):
        x, y, length = int(rng.integers(width)), int(rng.integers(height)), rng.integers(4, 16)
        cv2.line(rain, (x, y), (x + int(rng.integers(-3, 4)), y + int(length)), 1.0, 1)
    soft = cv2.GaussianBlur(rain, (0, 0), 0.6)[..., None]
    return np.asarray(light + soft * rng.uniform(20.0, 70.0), np.float32)


def _bonnet(light: Floats, rng: np.random.Generator) -> Floats:
    """Put the own bonnet or dashboard into view, dull or with the sky in it."""
    height, width = light.shape[:2]
    across = np.linspace(0.0, width, 6)
    edge = (rng.uniform(0.78, 0.97) + rng.uniform(-0.03, 0.03, 6)
            + (across / width - 0.5) ** 2 * rng.uniform(-0.2, 0.35)) * height
    outline = np.concatenate([np.stack([across, edge], 1), [[width, height], [0, height]]])
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 1.0)
    colour = rng.uniform(5.0, 200.0) * (1.0 + rng.uniform(-0.3, 0.3, 3))
    body = np.broadcast_to(colour.astype(np.float32), light.shape)
    if rng.random() < 0.6:
        sky = cv2.GaussianBlur(light[::-1], (0, 0), 3.0)
        body = body * 0.6 + 0.5 * sky * rng.uniform(0.3, 0.9)
    share = cv2.GaussianBlur(mask, (0, 0), 1.0)[..., None]
    return np.asarray(light * (1.0 - share) + share * body, np.float32)


def _captions(light: Floats, rng: np.random.Generator) -> Floats:
    """Burn text into the picture, as dashcams do."""
    height, width = light.shape[:2]
    picture = np.ascontiguousarray(light.clip(0.0, 255.0).astype(np.uint8))
    for _ in range(rng.integers(1, 4)):
        text = ''.join(rng.choice(_LETTERS, rng.integers(4, 22)))
        row = rng.choice([rng.integers(8, 30), rng.integers(height - 30, height - 2),
                          rng.integers(height)])
        white = int(rng.integers(150, 256))
        cv2.putText(picture, text, (int(rng.integers(-10, width - 40)), int(row)),
                    int(rng.integers(0, 4)), rng.uniform(0.25, 0.8),
                    (white, white, int(rng.integers(0, 256))), 1, cv2.LINE_AA)
    return picture.astype(np.float32)


def _sensor(light: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, add noise, compress."""
    if rng.random() < 0.4:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), rng.uniform(*_BLUR_PX)), np.float32)
    if rng.random() < 0.1:
        smear = np.zeros((9, 9), np.float32)
        length = int(rng.integers(2, 8))
        cv2.line(smear, (4 - length // 2, 4), (4 + length // 2, 4), 1.0, 1)
        light = np.asarray(cv2.filter2D(light, -1, smear / smear.sum()), np.float32)
    noise = rng.standard_normal(light.shape, np.float32) * rng.uniform(0.0, _NOISE)
    picture = (light + noise).clip(0.0, 255.0).astype(np.uint8)
    if rng.random() < 0.4:
        _, data = cv2.imencode('.jpg', picture, [
            cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_QUALITY))])
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return picture
