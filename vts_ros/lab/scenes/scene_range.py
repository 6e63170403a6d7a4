# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a sensor of range measures of a scene: exactly, or as one that loses and blurs points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.drawing import draw, outlines, SHIFT
from vts_ros.lab.scenes.ground_truth import shot
from vts_ros.lab.scenes.renderer import PROPS_M
from vts_ros.lab.scenes.scenery import sketch_prop
from vts_ros.lab.scenes.shapes import sketch
from vts_ros.lab.scenes.sketches import Sketch
from vts_ros.lab.scenes.world import CAMERA_HEIGHT_M, Floats, FOCAL, HORIZON, Scene, View

#: Size of the depth map: about a quarter of a degree for a ray, as of many LiDARs.
WIDTH, HEIGHT = 224, 128
#: Nothing farther away is measured, in m; in rain, as water scatters the light, half of it.
FAR_M = 120.0
#: From the frame of the sensor (x ahead, y left, z up; on the roof) to that of the camera.
SENSOR_TO_CAMERA = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, -0.5],
                             [1.0, 0.0, 0.0, -0.4], [0.0, 0.0, 0.0, 1.0]])
#: Camera matrix of the depth map.
CAMERA = np.array([[FOCAL * WIDTH, 0.0, 0.5 * WIDTH - 0.5],
                   [0.0, FOCAL * WIDTH, HORIZON * HEIGHT - 0.5], [0.0, 0.0, 1.0]])


class SensorNoise(NamedTuple):
    """
    How a sensor of range is worse than an exact one: assumed, not those of a product.

    Attributes
    ----------
    sigma_m
        Standard deviation of a range.
    lost, lost_in_rain
        Share of the points that do not come back.
    false_in_rain
        Share of the rays that a drop near the sensor sends back.
    rows
        Every so many rows of the depth map is a ring of the sensor.

    """

    sigma_m: float = 0.05
    lost: float = 0.2
    lost_in_rain: float = 0.5
    false_in_rain: float = 0.005
    rows: int = 2


def scene_at(scene: Scene, index: int, ago_sec: float) -> tuple[Scene, int]:
    """Return the scene so long before a frame, and the index of that moment in it."""
    times = np.array([float(scene.times[index]) - ago_sec])
    return replace(scene, times=times, shake=scene.shake[index:index + 1]), 0


def depth_map(scene: Scene, index: int) -> NDArray[np.float32]:
    """
    Return how far ahead what each pixel shows is, float32 [HEIGHT, WIDTH] in m.

    By the polygons that the picture is drawn of, in the same order; inf for the sky.
    """
    view = scene.view(index)
    u, v = _rays(view)
    with np.errstate(divide='ignore', invalid='ignore'):
        ground = np.where(v > 1e-6, FOCAL * CAMERA_HEIGHT_M / v, np.inf)
    depth = np.where(ground < 400.0, ground, np.inf).astype(np.float32)
    dark = scene.look.light != 'day' or scene.look.weather == 'rain'
    props = [item for item in (sketch_prop(prop, scene.look.lamps) for prop in scene.props
                               if prop.kind != 'junction') if 1.0 < item.s - view.s < PROPS_M]
    taken = shot(scene, index)
    t = float(scene.times[index])
    sketches = [props, [sketch(body, t, view, dark) for body in taken.bodies]]
    sketches = [group for group in sketches if group]
    drawings = [draw(group, view) for group in sketches]
    planes = [_planes(group, view) for group in sketches]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for pixels, number, polygon in outlines(drawings, [0.3] * len(drawings), WIDTH, HEIGHT):
        left, top = np.maximum(pixels.min(axis=0) // 2 ** SHIFT - 1, 0)
        right, bottom = np.minimum(pixels.max(axis=0) // 2 ** SHIFT + 2, (WIDTH, HEIGHT))
        if left >= right or top >= bottom:
            continue
        part = slice(int(top), int(bottom)), slice(int(left), int(right))
        mask[part] = 0
        cv2.fillPoly(mask, [pixels], 1, cv2.LINE_8, SHIFT)
        normal, offset, near, far = planes[number][polygon]
        with np.errstate(divide='ignore', invalid='ignore'):
            found = (offset - normal[2] * CAMERA_HEIGHT_M) / (
                normal[0] - (normal[1] * u[part] + normal[2] * v[part]) / FOCAL)
        found = np.clip(np.nan_to_num(found, nan=near), near, far)
        depth[part] = np.where(mask[part] > 0, found, depth[part])
    return depth


def cloud(depth: NDArray[np.float32], noise: SensorNoise | None = None, is_rain: bool = False,
          seed: Sequence[int] = ()) -> Floats:
    """
    Return what a sensor on the roof measures, [N, 3] in its frame, in m.

    Parameters
    ----------
    depth
        See :func:`depth_map`.
    noise
        None for exact ranges of every pixel.
    is_rain
        Whether it rains on a sensor with noise.
    seed
        Of the noise.

    """
    depth = depth.astype(np.float64)
    rng = np.random.default_rng([*seed, 17])
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = np.stack([(columns - CAMERA[0, 2]) / CAMERA[0, 0],
                     (rows - CAMERA[1, 2]) / CAMERA[1, 1], np.ones_like(depth)], axis=-1)
    reach = FAR_M
    if noise is not None:
        rays, depth = rays[::noise.rows], depth[::noise.rows]
        length = np.linalg.norm(rays, axis=-1)
        measured = depth * length + rng.normal(0.0, noise.sigma_m, depth.shape)
        if is_rain:
            reach *= 0.5
            drops = rng.random(depth.shape) < noise.false_in_rain
            measured[drops] = rng.uniform(0.5, 6.0, int(drops.sum()))
        lost = rng.random(depth.shape) < (noise.lost_in_rain if is_rain else noise.lost)
        depth = np.where(lost, np.inf, measured / length)
    points = (rays * np.where(np.isfinite(depth), depth, 0.0)[..., None])[
        np.isfinite(depth) & (depth < reach)]
    back = np.linalg.inv(SENSOR_TO_CAMERA)
    return np.asarray(points @ back[:3, :3].T + back[:3, 3])


def _rays(view: View) -> tuple[Floats, Floats]:
    """Return u and v + pitch of each pixel as if the camera did not shake, [HEIGHT, WIDTH]."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    u = (columns + 0.5) / WIDTH - 0.5
    v = (rows + 0.5 - HORIZON * HEIGHT) / WIDTH
    turned = 1.0 + view.roll ** 2
    return (u + view.roll * v) / turned, (v - view.roll * u) / turned + FOCAL * view.pitch


def _planes(sketches: list[Sketch], view: View
            ) -> list[tuple[Floats, float, float, float]]:
    """Return normal, offset and span of depth of each polygon, in the order of a drawing."""
    planes = []
    for item in sketches:
        offset, heading = float(view.road.offset(np.array(view.s))), view.road.heading(view.s)
        ahead = item.points[:, 0] - view.s
        left = item.points[:, 1] + view.road.offset(item.points[:, 0]) - offset - heading * ahead
        placed = np.stack([ahead, left, item.points[:, 2]], axis=1)
        if len(item.widths):
            corners = [placed[2 * k:2 * k + 2] for k in range(len(item.widths))]
        else:
            ends = np.cumsum(item.lengths)
            corners = [placed[a:b] for a, b in zip(ends - item.lengths, ends)]
        planes += [_plane(part) for part in corners]
    return planes


def _plane(corners: Floats) -> tuple[Floats, float, float, float]:
    near, far = float(max(corners[:, 0].min(), 0.5)), float(max(corners[:, 0].max(), 0.5))
    middle = corners.mean(axis=0)
    normal = np.array([1.0, 0.0, 0.0])
    if len(corners) > 2:
        normal = np.linalg.svd(corners - middle)[2][2]
    return normal, float(normal @ middle), near, far
