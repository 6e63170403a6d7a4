# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sketches of bodies and scenery, posed in the picture, nearest last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.sketches import Sketch
from vts_ros.lab.scenes.world import Floats, FOCAL, HORIZON, NEAREST_M, Veil, View

#: Fractional bits of the pixel coordinates that OpenCV gets.
SHIFT = 4
_CAP = np.array([[math.cos(a), math.sin(a)] for a in np.radians([90, 150, 210, 270]).tolist()])


class Drawing(NamedTuple):
    """
    Sketches as the camera sees them: polygons in picture coordinates.

    Attributes
    ----------
    points
        (n, 2) picture coordinates.
    starts
        (k + 1,) first point of each polygon, and the end.
    low, high
        (k, 2) bounds of each polygon.
    colours, glow
        (k, 3), (k,) as in the sketches.
    figures
        (f + 1,) first polygon of each sketch, and the end.
    bounds
        (f, 4) left, top, right, bottom of each sketch.
    x, y
        (f,) distance forward and to the left of the camera in m.

    """

    points: Floats
    starts: NDArray[np.intp]
    low: Floats
    high: Floats
    colours: Floats
    glow: NDArray[np.bool_]
    figures: NDArray[np.intp]
    bounds: Floats
    x: Floats
    y: Floats

    @property
    def far(self) -> Floats:
        """Return the distance of each polygon, which is that of its sketch, (k,) in m."""
        return np.repeat(self.x, np.diff(self.figures))


def _capsules(ends: Floats, depth: Floats, widths: Floats) -> Floats:
    """Return the outlines (8 points each) of limbs from their ends (2k, 2) in the picture."""
    a, b = ends[0::2], ends[1::2]
    half = 0.5 * FOCAL * widths / depth[0::2]
    along = b - a
    length = np.sqrt((along * along).sum(axis=1))
    short = length < 1e-6
    along[short] = (0.0, 1.0)
    along *= (half / np.where(short, 1.0, length))[:, None]
    across = np.empty_like(along)
    across[:, 0], across[:, 1] = -along[:, 1], along[:, 0]
    cap = (_CAP[None, :, :1] * along[:, None], _CAP[None, :, 1:] * across[:, None])
    tail = a[:, None] + cap[0] + cap[1]
    head = b[:, None] - cap[0] - cap[1]
    return np.concatenate((tail, head), axis=1).reshape(-1, 2)


def in_front(points: Floats, depth: Floats) -> Floats:
    """Return what of a polygon, (n, 3) with its depths (n,), is in front of the camera, (m, 3)."""
    before = depth >= NEAREST_M
    if before.all():
        return points
    if not before.any():
        return points[:0]
    kept: list[Floats] = []
    for index in range(len(points)):
        if before[index - 1] != before[index]:
            share = (NEAREST_M - depth[index - 1]) / (depth[index] - depth[index - 1])
            kept.append(points[index - 1] + share * (points[index] - points[index - 1]))
        if before[index]:
            kept.append(points[index])
    return np.array(kept)


def _cut(sketch: Sketch, view: View) -> Sketch:
    """Return what of a sketch is in front of a camera that is turned aside."""
    depth = view.depth(sketch.points)
    if (depth >= NEAREST_M).all():
        return sketch
    parts = np.split(np.arange(len(depth)), np.cumsum(
        sketch.lengths if len(sketch.lengths) else np.full(len(sketch.widths), 2))[:-1])
    if len(sketch.widths):
        cut = [sketch.points[part] if (depth[part] >= NEAREST_M).all() else sketch.points[:0]
               for part in parts]
    else:
        cut = [in_front(sketch.points[part], depth[part]) for part in parts]
    # What is gone becomes a point of what is left, so that it counts for no box; where nothing is
    # left, a point that is far out of the picture.
    left = next((part[:1] for part in cut if len(part)), None)
    if left is None:
        turn = view.yaw + 0.5 * math.pi
        left = np.array([[view.s + math.cos(turn) * 50.0, math.sin(turn) * 50.0, 0.0]])
        left[0, :2] += math.cos(view.yaw), math.sin(view.yaw)
    corners = [part if len(part) else left.repeat(2 if len(sketch.widths) else 3, axis=0)
               for part in cut]
    widths = sketch.widths if not len(sketch.widths) else np.where(
        [len(part) > 0 for part in cut], sketch.widths, 0.0)
    return sketch._replace(points=np.concatenate(corners), widths=widths, lengths=np.array(
        [] if len(widths) else [len(part) for part in corners], np.intp))


def draw(sketches: Sequence[Sketch], view: View) -> Drawing:
    """Project sketches; all at once, as that is where the time goes."""
    if view.yaw:
        sketches = [_cut(item, view) for item in sketches]
    points, depth = view.project(np.concatenate(
        [item.points for item in sketches] + [np.array([(item.s, item.d, 0.0)
                                                        for item in sketches])]))
    anchors = len(points) - len(sketches)
    kinds = [len(item.widths) > 0 for item in sketches]
    is_limb = np.repeat(kinds, [len(item.points) for item in sketches])
    corners, ends = points[:anchors][~is_limb], points[:anchors][is_limb]
    widths = np.concatenate([item.widths for item in sketches])
    outlines = _capsules(ends, depth[:anchors][is_limb], widths)
    # Polygons keep the order of their sketches: their points come from two arrays.
    lengths = np.concatenate([np.full(len(item.widths), 8) if limb else item.lengths
                              for item, limb in zip(sketches, kinds)])
    counts = np.array([max(len(item.lengths), len(item.widths)) for item in sketches])
    from_limb = np.repeat(np.repeat(kinds, counts), lengths)
    merged = np.empty((len(from_limb), 2))
    merged[from_limb], merged[~from_limb] = outlines, corners
    starts = np.concatenate(([0], np.cumsum(lengths)))
    low = np.minimum.reduceat(merged, starts[:-1])
    high = np.maximum.reduceat(merged, starts[:-1])
    figures = np.concatenate(([0], np.cumsum(counts)))
    boxed = figures[:-1] + [item.unboxed for item in sketches]
    # Pairs (from, to): every other result of reduceat is that of a figure.
    pairs = np.stack((boxed, figures[1:]), axis=1).ravel()
    pad = np.concatenate((low, low[-1:])), np.concatenate((high, high[-1:]))
    bounds = np.concatenate((np.minimum.reduceat(pad[0], pairs)[::2],
                             np.maximum.reduceat(pad[1], pairs)[::2]), axis=1)
    x = depth[anchors:]
    return Drawing(merged, starts, low, high,
                   np.concatenate([item.colours for item in sketches]),
                   np.concatenate([item.glow for item in sketches]), figures, bounds,
                   x, -points[anchors:, 0] * x / FOCAL)


def to_pixels(points: Floats, width: int, height: int) -> NDArray[np.int32]:
    """Return picture coordinates as pixels with ``SHIFT`` fractional bits."""
    scaled = points * (width * 2 ** SHIFT)
    scaled[..., 0] += (0.5 * width - 0.5) * 2 ** SHIFT
    scaled[..., 1] += (HORIZON * height - 0.5) * 2 ** SHIFT
    # Beyond some screens away OpenCV would overflow; edges there are out of the picture.
    return np.clip(np.rint(scaled), -2e6, 2e6).astype(np.int32)


class Outline(NamedTuple):
    """A polygon in pixels, and which of which drawing it is."""

    pixels: NDArray[np.int32]
    drawing: int
    polygon: int


def outlines(drawings: Sequence[Drawing], least: Sequence[float], width: int, height: int,
             wanted: Sequence[NDArray[np.bool_]] | None = None) -> Iterator[Outline]:
    """
    Yield the polygons of drawings that are in the picture, farthest first.

    Parameters
    ----------
    least
        Smallest extent of a polygon that is drawn, in pixels, of each drawing.
    wanted
        Which polygons of each drawing are looked at; all if it is None.

    """
    polygons, far = [], []
    for number, drawing in enumerate(drawings):
        size = drawing.high - drawing.low
        seen = ((drawing.low[:, 0] < 0.5) & (drawing.high[:, 0] > -0.5)
                & (size.min(axis=1) > least[number] / width))
        polygons.append((seen if wanted is None else seen & wanted[number]).nonzero()[0])
        far.append(drawing.far[polygons[-1]])
    if not drawings:
        return
    numbers = np.repeat(np.arange(len(drawings)), list(map(len, polygons)))
    chosen = np.concatenate(polygons)
    # Polygons of a figure share their distance, and keep their order.
    order = np.lexsort((chosen, numbers, -np.concatenate(far)))
    pixels = [to_pixels(drawing.points, width, height) for drawing in drawings]
    starts = [drawing.starts.tolist() for drawing in drawings]
    for number, polygon in zip(numbers[order].tolist(), chosen[order].tolist()):
        begin, end = starts[number][polygon:polygon + 2]
        yield Outline(pixels[number][begin:end], number, polygon)


def veil_share(veil: Veil, width: int, height: int) -> NDArray[np.float32]:
    """Return how much of each pixel a veil takes, 0 to 1, float32 [height, width]."""
    u = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / width - np.float32(veil.u)
    v = (np.arange(height, dtype=np.float32) + 0.5 - HORIZON * height) / width
    r = np.hypot(u[None], v[:, None] - np.float32(veil.v)) / np.float32(veil.radius)
    return np.asarray(np.clip(3.0 - 2.0 * r, 0.0, 1.0), np.float32)
