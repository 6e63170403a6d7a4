# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws a scene with OpenCV: sky, ground, road, scenery, actors, light and weather."""

from __future__ import annotations

from functools import lru_cache
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.drawing import (
    draw,
    Drawing,
    in_front,
    outlines,
    SHIFT,
    to_pixels,
    veil_share,
)
from vts_ros.lab.scenes.ground_truth import shot
from vts_ros.lab.scenes.scenery import sketch_prop
from vts_ros.lab.scenes.sketches import Colour
from vts_ros.lab.scenes.world import (
    CAMERA_HEIGHT_M,
    Floats,
    FOCAL,
    HORIZON,
    Road,
    Scene,
    SIDEWALK_M,
    Veil,
    View,
)
from vts_ros.pipeline.signature import sign

#: OpenCV does not say of what type its pictures are.
Picture = NDArray[Any]

#: Pictures narrower than this are drawn at twice the size and averaged down.
FINE_WIDTH = 480
#: How far the camera may pitch, as share of the height.
_MARGIN = 0.03
#: Scenery is drawn up to here.
PROPS_M = 190.0
_TEXELS_PER_M = 10.0
_TEXTURE_M = (160.0, 60.0)
_TILE_M = 16.0
_DISTANCES = 1.7 * 1.22 ** np.arange(26)
#: From where on the ground is drawn, in m ahead of a camera that looks ahead, or is turned aside.
_AHEAD_FROM_M, _ASIDE_FROM_M = 1.5, -4.0


@lru_cache(maxsize=1)
def _texture() -> NDArray[np.float32]:
    """Return ground texture around 0: rows to the left, columns forward, periodic forward."""
    rng = np.random.default_rng(0)
    forward, left = (round(length * _TEXELS_PER_M) for length in _TEXTURE_M)
    tile = round(_TILE_M * _TEXELS_PER_M)
    grain = np.zeros((left, tile), np.float32)
    for size, strength in ((1, 0.5), (4, 0.6), (16, 0.9)):
        coarse = rng.standard_normal((left // size + 1, tile // size)).astype(np.float32)
        # Wrapped by one cell on both sides, so that the tile joins itself.
        wide = np.concatenate((coarse[:, -1:], coarse, coarse[:, :1]), axis=1)
        large = cv2.resize(wide, None, fx=size, fy=size, interpolation=cv2.INTER_LINEAR)
        grain += strength * large[:left, size:size + tile]
    return np.ascontiguousarray(np.tile(grain, (1, forward // tile + 2)))


@lru_cache(maxsize=8)
def _noise(width: int, height: int) -> list[NDArray[np.int16]]:
    """Return a few fields of sensor noise, larger than the picture so that they can be moved."""
    rng = np.random.default_rng(1)
    return [rng.normal(0.0, 2.2, (height + 32, width + 32, 3)).round().astype(np.int16)
            for _ in range(3)]


@lru_cache(maxsize=16)
def _beam(w: int, h: int, street: bool, ambient: float, yaw: float) -> Picture:
    """Return the light on the ground at night, 255 = full, from ``_MARGIN`` over the horizon."""
    margin = round(_MARGIN * h)
    rows = np.maximum(np.arange(h - int(HORIZON * h) + 2 * margin) - margin, 0) + 0.5
    x = FOCAL * CAMERA_HEIGHT_M * w / rows[:, None]
    y = -((np.arange(w) + 0.5 - w / 2) / w)[None] * x / FOCAL
    cone = _lamp_light(*_of_car(x, y, yaw), 30.0, 0.30)
    light = np.clip(ambient * 0.7 + (0.10 if street else 0.0) + 0.95 * cone, 0.0, 1.0)
    warm = light[..., None] * np.array((255.0, 246.0, 226.0))
    return np.ascontiguousarray(warm.astype(np.uint8))


def _begin(view: View) -> float:
    """Return from where along the road on the ground is drawn."""
    return view.s + (_ASIDE_FROM_M if view.yaw else _AHEAD_FROM_M)


def _of_car(x: Floats, y: Floats, yaw: float) -> tuple[Floats, Floats]:
    """Return how far ahead and to the left of the car is what a turned camera sees at (x, y)."""
    if not yaw:
        return x, y
    cos, sin = math.cos(yaw), math.sin(yaw)
    return cos * x - sin * y, sin * x + cos * y


def _lamp_light(x: Floats, y: Floats, reach_m: float, spread: float) -> Floats:
    """Return the light of the headlamps at a place ahead and to the left of the car, 0 to 1."""
    x = np.maximum(x, 0.0)
    return np.asarray(np.exp(-x / reach_m - (y / (1.6 + spread * x)) ** 2))


@lru_cache(maxsize=8)
def _bloom(w: int, h: int, light: str) -> Picture:
    """Return the bloom of a low sun, twice as wide as the picture."""
    rows, columns = np.mgrid[0:h, 0:2 * w].astype(np.float32)
    r = np.hypot(columns - w, rows - 0.30 * h) / w
    glow = 225.0 * np.exp(-(r / 0.055) ** 2) + 120.0 * np.exp(-r / 0.16) + 26.0
    tint = np.array((1.0, 0.95, 0.80) if light == 'day' else (1.0, 0.78, 0.5))
    return np.clip(glow[..., None] * tint, 0, 255).astype(np.uint8)


class Palette:
    """Colours of light and ground of one scene."""

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng((scene.look.variety, 11))
        light, weather = scene.look.light, scene.look.weather
        self.dark = light == 'night'
        self.sky_top: Colour
        self.sky_low: Colour
        if light == 'night':
            self.sky_top, self.sky_low = (8, 10, 22), (30, 34, 52)
            self.ambient, self.tint = 0.26, (0.86, 0.92, 1.12)
        elif light == 'dusk':
            self.sky_top, self.sky_low = (58, 70, 118), (236, 158, 104)
            self.ambient, self.tint = 0.62, (1.06, 0.96, 0.92)
        else:
            self.sky_top, self.sky_low = (92, 146, 212), (204, 222, 238)
            self.ambient, self.tint = 1.0, (1.0, 1.0, 1.0)
        if weather == 'rain':
            grey = {'day': (150, 156, 162), 'dusk': (104, 102, 108), 'night': (20, 22, 28)}[light]
            self.sky_top = tuple(0.82 * c for c in grey)  # type: ignore[assignment]
            self.sky_low = tuple(1.12 * c for c in grey)  # type: ignore[assignment]
            self.ambient *= 0.86
        if weather == 'glare':
            self.sky_low = (252, 236, 200) if light == 'day' else (255, 190, 120)
        self.haze = self.sky_low
        self.sight_m = 120.0 if weather == 'rain' else 320.0
        shift = rng.normal(0.0, 5.0, 3)
        grass = np.array(((104, 128, 66), (126, 134, 74), (146, 136, 88))[rng.integers(3)]) + shift
        paving = np.array(((150, 146, 140), (136, 138, 140), (160, 150, 136))[rng.integers(3)])
        asphalt = np.array(((88, 90, 94), (104, 104, 104), (76, 78, 84))[rng.integers(3)])
        wet = 0.72 if weather == 'rain' else 1.0
        self.verge = self.under(tuple((paving if scene.road.kind == 'city street'
                                       else grass).tolist()))
        self.grass = self.under(tuple(grass.tolist()))
        self.asphalt = self.under(tuple((asphalt * wet).tolist()))
        self.paving = self.under(tuple((paving * 1.04 * (0.5 + 0.5 * wet)).tolist()))
        self.kerb = self.under((178, 176, 170))
        self.mark = self.under((226, 226, 220))
        self.centre = self.under((222, 190, 84) if rng.random() < 0.2 else (226, 226, 220))

    def under(self, colour: Colour) -> Colour:
        """Return a colour under the light of the scene, without headlights."""
        k, (r, g, b) = (1.0 if self.dark else self.ambient), self.tint
        return min(255.0, colour[0] * k * r), min(255.0, colour[1] * k * g), \
            min(255.0, colour[2] * k * b)

    def shaded(self, colour: Colour, x: float, light: float) -> tuple[int, int, int]:
        """Return a colour of something ``x`` metres away under a given light."""
        veil = 0.0 if x < 12.0 else 1.0 - math.exp(-(x - 12.0) / self.sight_m)
        r, g, b = (c * light * t * (1.0 - veil) + h * veil
                   for c, t, h in zip(colour, self.tint, self.haze))
        return int(min(r, 255)), int(min(g, 255)), int(min(b, 255))

    def lit(self, drawing: Drawing, yaw: float = 0.0) -> list[list[int]]:
        """Return the colours of the polygons of a drawing under light and haze."""
        x = drawing.x
        light = np.full(len(x), self.ambient)
        if self.dark:
            lamps = _lamp_light(*_of_car(x, drawing.y, yaw), 34.0, 0.32)
            light = np.minimum(1.0, light + 0.85 * lamps)
        veil = 1.0 - np.exp(-np.maximum(0.0, x - 12.0) / self.sight_m)
        counts = np.diff(drawing.figures)
        scale = np.repeat((light * (1.0 - veil))[:, None] * self.tint, counts, axis=0)
        added = np.repeat(veil[:, None] * self.haze, counts, axis=0)
        shining = drawing.glow[:, None]
        colours = np.where(shining, drawing.colours, drawing.colours * scale + added)
        return np.minimum(colours, 255.0).astype(int).tolist()


class Renderer:
    """
    Draws the frames of one scene at one size.

    Parameters
    ----------
    width, height
        Size of the picture in pixels.

    """

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self.scene, self.width, self.height = scene, width, height
        self.fine = 2 if width < FINE_WIDTH else 1
        self.w, self.h = width * self.fine, height * self.fine
        # Averaging smooths the edges already; without it OpenCV has to.
        self._line = cv2.LINE_8 if self.fine > 1 else cv2.LINE_AA
        self.horizon = HORIZON * self.h
        self.palette = self._make_palette()
        self._sky = self._make_sky()
        self._skyline = _Skyline(scene)
        self._props = [sketch_prop(prop, scene.look.lamps) for prop in scene.props
                       if prop.kind != 'junction']
        street = scene.road.kind == 'city street'
        self._beam = _beam(self.w, self.h, street, self.palette.ambient, scene.yaw) \
            if self.palette.dark else None
        self._bloom = _bloom(self.w, self.h, scene.look.light) \
            if scene.look.weather == 'glare' else None

    # --- what is drawn once per scene ---

    def _make_palette(self) -> Palette:
        return Palette(self.scene)

    def _make_sky(self) -> Picture:
        rows = np.clip(np.arange(self.h) / self.horizon, 0.0, 1.0)[:, None] ** 1.3
        top, low = np.array(self.palette.sky_top), np.array(self.palette.sky_low)
        column = np.clip(top * (1 - rows) + low * rows, 0, 255).astype(np.uint8)
        sky = np.ascontiguousarray(np.broadcast_to(column[:, None], (self.h, self.w, 3)))
        return self._clouds(sky)

    def _clouds(self, sky: Picture) -> Picture:
        rng = np.random.default_rng((self.scene.look.variety, 12))
        if self.scene.look.light == 'night' or rng.random() < 0.35:
            return sky
        # Clouds are soft: a sixth of the size is enough.
        size = self.w // 6, self.h // 6
        cover: Picture = cv2.resize(rng.random((7, 9), np.float32), size,
                                    interpolation=cv2.INTER_CUBIC)
        cover += 0.5 * cv2.resize(rng.random((26, 14), np.float32), size,
                                  interpolation=cv2.INTER_CUBIC)
        fade = np.clip(1.1 - np.arange(size[1]) / (HORIZON * size[1]), 0.0, 0.7)[:, None]
        weight = np.clip((cover - 0.75) * 2.0, 0.0, 1.0) * fade.astype(np.float32)
        white = 0.5 * np.array(self.palette.sky_low) + 0.5 * 244.0 * (
            0.55 if self.scene.look.light == 'dusk' else 1.0)
        share = cv2.cvtColor(cv2.resize((weight * 255).astype(np.uint8), (self.w, self.h)),
                             cv2.COLOR_GRAY2RGB)
        cloud = np.broadcast_to(np.minimum(white, 255).astype(np.uint8), sky.shape)
        return cv2.add(cv2.multiply(sky, 255 - share, scale=1 / 255),
                       cv2.multiply(np.ascontiguousarray(cloud), share, scale=1 / 255))

    # --- drawing ---

    def _pixels(self, points: Floats) -> NDArray[np.int32]:
        return to_pixels(points, self.w, self.h)

    def _fill(self, image: Picture, points: NDArray[np.int32],
              colour: tuple[float, float, float]) -> None:
        cv2.fillPoly(image, [points], colour, self._line, SHIFT)

    def frame(self, index: int) -> Picture:
        """Return one frame as uint8 (height, width, 3), RGB, with the signature."""
        scene, palette = self.scene, self.palette
        rng = np.random.default_rng((scene.seed, index, 13))
        view = scene.view(index)
        image = self._sky.copy()
        self._draw_skyline(image, view)
        self._draw_ground(image, view)
        self._draw_objects(image, view, index)
        for veil in scene.veils:
            if veil.start <= scene.times[index] <= veil.end:
                image = self._under_veil(image, veil)
        if scene.look.weather == 'rain':
            self._draw_rain(image, rng)
        if self._bloom is not None:
            self._add_bloom(image, view)
        if palette.dark:
            self._add_lamp_glow(image)
        if self.fine > 1:
            image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
        field = _noise(self.width, self.height)[int(rng.integers(3))]
        dx, dy = (int(n) for n in rng.integers(0, 32, 2))
        grain = field[dy:dy + self.height, dx:dx + self.width]
        return sign(np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8))

    def over(self, picture: Picture, index: int) -> Picture:
        """Return a picture, uint8 (h, w, 3), RGB, with the actors of a frame drawn over it."""
        image = cv2.resize(picture, (self.w, self.h), interpolation=cv2.INTER_AREA)
        view = self.scene.view(index)
        self._draw_stop_lines(image, view)
        self._draw_objects(image, view, index)
        return cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def _draw_skyline(self, image: Picture, view: View) -> None:
        heading = view.road.heading(view.s) + view.yaw
        for points, colour in self._skyline.layers(heading, view):
            self._fill(image, self._pixels(points), self.palette.shaded(
                colour, 60.0, max(self.palette.ambient * 0.7, 0.2)))

    def _draw_ground(self, image: Picture, view: View) -> None:
        palette, road = self.palette, self.scene.road
        top = view.pitch * -FOCAL
        corners = np.array([(-0.8, top + 0.8 * -view.roll), (0.8, top + 0.8 * view.roll),
                            (0.8, 1.0), (-0.8, 1.0)])
        self._fill(image, self._pixels(corners), palette.verge)
        ribbons = _ribbons(road, palette)
        surfaces = [ribbon for ribbon in ribbons if not ribbon[3]]
        self._draw_ribbons(image, view, surfaces)
        self._draw_crossings(image, view)
        self._texture_ground(image, view)
        # Farther away markings are finer than a pixel.
        reach = 70.0 if self.w < 700 else 130.0
        self._draw_ribbons(image, view, [ribbon for ribbon in ribbons if ribbon[3]], reach)
        self._draw_dashes(image, view, reach)
        self._draw_stop_lines(image, view)
        if self._beam is not None:
            margin = round(_MARGIN * self.h)
            sunk = int(FOCAL * view.pitch * self.w + abs(view.roll) * self.w / 2) + 1
            top = int(self.horizon) - max(-margin, min(margin, sunk))
            rows = image[top:]
            cv2.multiply(rows, self._beam[margin:margin + rows.shape[0]], dst=rows, scale=1 / 255)

    def _draw_ribbons(self, image: Picture, view: View,
                      ribbons: list[tuple[float, float, Colour, bool]],
                      reach: float = 400.0) -> None:
        ahead = _DISTANCES[reach > _DISTANCES]
        if view.yaw:
            ahead = np.concatenate(([_ASIDE_FROM_M, 0.0], ahead))
        n = len(ahead)
        s = view.s + ahead
        points = np.zeros((len(ribbons), 2, n, 3))
        points[..., 0] = s
        points[:, 0, :, 1] = np.array([ribbon[0] for ribbon in ribbons])[:, None]
        points[:, 1, :, 1] = np.array([ribbon[1] for ribbon in ribbons])[:, None]
        points[:, 1] = points[:, 1, ::-1]
        if view.yaw:
            for ribbon, strip in zip(ribbons, points.reshape(len(ribbons), 2 * n, 3)):
                self._polygon(image, view, strip, ribbon[2])
            return
        projected, _ = view.project(points.reshape(-1, 3))
        pixels = self._pixels(projected).reshape(len(ribbons), 2 * n, 2)
        for ribbon, outline in zip(ribbons, pixels):
            self._fill(image, outline, ribbon[2])

    def _polygon(self, image: Picture, view: View, corners: Floats, colour: Colour) -> None:
        """Draw what a camera that is turned aside sees of a polygon (n, 3)."""
        corners = in_front(corners, view.depth(corners))
        if len(corners):
            self._fill(image, self._pixels(view.project(corners)[0]), colour)

    def _quads(self, image: Picture, view: View, quads: Floats, colour: Colour) -> None:
        """Draw quads (n, 4, 3) of one colour that do not overlap."""
        if len(quads) == 0:
            return
        if view.yaw:
            for quad in quads:
                self._polygon(image, view, quad, colour)
            return
        projected, _ = view.project(quads.reshape(-1, 3))
        pixels = self._pixels(projected).reshape(-1, 4, 2)
        cv2.fillPoly(image, list(pixels), colour, self._line, SHIFT)

    def _draw_dashes(self, image: Picture, view: View, reach: float) -> None:
        road = self.scene.road
        period, length = {'city street': (9.0, 3.0), 'country road': (12.0, 4.0),
                          'motorway': (18.0, 6.0)}[road.kind]
        first = math.ceil((_begin(view) - length) / period)
        starts = np.arange(first, int((view.s + reach) / period) + 1) * period
        starts = np.array([s for s in starts.tolist() if not self._junction(s, s + length + 4.0)])
        if len(starts) == 0:
            return
        near = np.maximum(starts, _begin(view))
        far = starts + length
        dividers = [road.right + k * road.lane_m for k in range(1, road.lanes)]
        dividers += [road.centre + k * road.lane_m for k in range(1, road.oncoming)]
        for d, colour in [(d, self.palette.mark) for d in dividers] + (
                [(road.centre, self.palette.centre)] if road.oncoming and road.lanes == 1 else []):
            quads = np.zeros((len(starts), 4, 3))
            quads[:, (0, 3), 0], quads[:, (1, 2), 0] = near[:, None], far[:, None]
            quads[:, :2, 1], quads[:, 2:, 1] = d - 0.08, d + 0.08
            self._quads(image, view, quads, colour)

    def _junction(self, near: float, far: float) -> bool:
        return any(p.s < far and p.s + p.length > near for p in self.scene.props
                   if p.kind == 'junction')

    def _draw_crossings(self, image: Picture, view: View) -> None:
        road, palette = self.scene.road, self.palette
        for prop in self.scene.props:
            if prop.kind != 'junction' or not -5 < prop.s - view.s < 180:
                continue
            near, far = max(prop.s, _begin(view)), prop.s + prop.length
            if far > near:
                self._quads(image, view, np.array([[(near, -60, 0), (far, -60, 0), (far, 60, 0),
                                                    (near, 60, 0)]], float), palette.asphalt)
            low = max(prop.s - 3.6, _begin(view))
            if prop.s - 0.8 > low:
                y = np.arange(road.right + 0.3, road.left - 0.5, 1.0)
                quads = np.zeros((len(y), 4, 3))
                quads[:, (0, 3), 0], quads[:, (1, 2), 0] = low, prop.s - 0.8
                quads[:, :2, 1], quads[:, 2:, 1] = y[:, None], y[:, None] + 0.5
                self._quads(image, view, quads, palette.mark)

    def _draw_stop_lines(self, image: Picture, view: View) -> None:
        road = self.scene.road
        for body in self.scene.bodies:
            if body.label != 'traffic light':
                continue
            s = body.along.at(0.0)[0] - body.stop_line
            near, far = max(s, _begin(view)), s + 0.5
            if near < far and s - view.s < 90.0:
                quad = np.array([[(near, road.right, 0.0), (far, road.right, 0.0),
                                  (far, road.centre, 0.0), (near, road.centre, 0.0)]])
                self._quads(image, view, quad, self.palette.mark)

    def _texture_ground(self, image: Picture, view: View) -> None:
        """Multiply with grain that lies on the ground and flows with it."""
        top = int(self.horizon) + 2
        part = image[top:]
        # Where the picture is drawn finer than it will be, half the texels are enough.
        fine = self.fine
        h, w = part.shape[0] // fine, self.w // fine
        # Pixel (column, row) -> ground (x, y) -> texel; homogeneous with b = row under horizon.
        reach, k = FOCAL * CAMERA_HEIGHT_M, _TEXELS_PER_M
        b = np.array((-view.roll / w, 1.0 / w,
                      (top - self.horizon) / self.w + FOCAL * view.pitch + 0.5 * view.roll))
        a = np.array((1.0 / w, view.roll / w, -0.5))
        along = (view.s % _TILE_M) * k
        middle = 0.5 * _TEXTURE_M[1] * k
        x, y = _of_car(np.array((0.0, 0.0, reach * k)), -CAMERA_HEIGHT_M * k * a, view.yaw)
        matrix = np.stack((x + along * b, y + middle * b, b))
        grain: Picture = cv2.warpPerspective(_texture(), matrix, (w, h),
                                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        rows = np.arange(h, dtype=np.float32) + 1.0
        x = np.float32(reach * w) / rows
        fade = np.clip(1.15 - x / 38.0, 0.0, 1.0) * np.float32(8.0)
        grain *= fade[:, None]
        grain += 128.0
        factor = cv2.resize(grain.astype(np.uint8), (self.w, part.shape[0]))
        cv2.multiply(part, cv2.cvtColor(factor, cv2.COLOR_GRAY2BGR), dst=part, scale=1 / 128)

    def _draw_objects(self, image: Picture, view: View, index: int) -> None:
        # What is beside the car is seen by a camera that is turned aside.
        nearest = _ASIDE_FROM_M if view.yaw else 1.0
        sketches = [item for item in self._props if nearest < item.s - view.s < PROPS_M]
        drawings = [draw(sketches, view)] if sketches else []
        actors = shot(self.scene, index).drawing
        if actors is not None:
            drawings.append(actors)
        colours = [self.palette.lit(drawing, view.yaw) for drawing in drawings]
        least = [0.3 if drawing is actors else 0.9 for drawing in drawings]
        fill = cv2.fillPoly
        for pixels, number, polygon in outlines(drawings, least, self.w, self.h):
            fill(image, [pixels], colours[number][polygon], self._line, SHIFT)

    def _under_veil(self, image: Picture, veil: Veil) -> Picture:
        share = veil_share(veil, self.w, self.h)[..., None]
        mixed = image * (1.0 - share) + np.array(veil.colour, np.float32) * share
        return np.rint(mixed).astype(np.uint8)

    def _draw_rain(self, image: Picture, rng: np.random.Generator) -> None:
        count = 70
        start = rng.random((count, 2)) * (self.w, self.h)
        fall = (0.04 + 0.05 * rng.random((count, 1))) * self.h * np.array([[0.12, 1.0]])
        streaks = np.stack((start, start + fall), axis=1).astype(np.int32)
        layer = np.zeros((self.h, self.w), np.uint8)
        thickness = max(1, self.w // 800)
        cv2.polylines(layer, list(streaks), False, 34 if self.palette.dark else 46, thickness)
        cv2.add(image, cv2.cvtColor(layer, cv2.COLOR_GRAY2BGR), dst=image)

    def _add_bloom(self, image: Picture, view: View) -> None:
        assert self._bloom is not None
        heading = view.road.heading(view.s) + view.road.curvature(view.s) * 20.0
        place = np.random.default_rng((self.scene.look.variety, 14)).uniform(-0.25, 0.25)
        place += FOCAL * (heading + math.tan(view.yaw))
        if view.yaw and abs(place) > 0.5:
            # The sun is beside what this camera sees.
            return
        shift = int(np.clip(self.w / 2 - self.w * place, 0, self.w))
        cv2.add(image, self._bloom[:, shift:shift + self.w], dst=image)

    def _add_lamp_glow(self, image: Picture) -> None:
        """Let the lamps bloom: blurred highlights on top."""
        small = cv2.resize(image, (self.w // 8, self.h // 8), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(np.maximum(small, 110) - 110, (0, 0), 1.6)
        large = cv2.resize(small, (self.w, self.h), interpolation=cv2.INTER_LINEAR)
        cv2.add(image, large, dst=image)


def _ribbons(road: Road, palette: Palette) -> list[tuple[float, float, Colour, bool]]:
    """Return strips along the road: right edge, left edge, colour, whether it is a marking."""
    strips: list[tuple[float, float, Colour, bool]] = []
    if road.kind == 'city street':
        for kerb, out in ((road.kerb_right, -1.0), (road.kerb_left, 1.0)):
            strips.append((kerb, kerb + out * SIDEWALK_M, palette.paving, False))
        strips.append((road.kerb_right - 0.18, road.kerb_left + 0.18, palette.kerb, False))
        strips.append((road.kerb_right, road.kerb_left, palette.asphalt, False))
    elif road.kind == 'country road':
        strips.append((road.right - 0.5, road.left + 0.5, palette.asphalt, False))
    else:
        other = road.left + 3.0
        strips.append((road.right - 2.6, road.left + 0.8, palette.asphalt, False))
        strips.append((other + 1.0, other + 1.0 + 2 * road.lane_m + 3.0, palette.asphalt, False))
    half = 0.07
    if road.kind != 'city street' or any(road.parking):
        for edge in (road.right + 0.15, road.left - 0.15):
            strips.append((edge - half, edge + half, palette.mark, True))
    if road.kind == 'motorway':
        other = road.left + 4.6
        for edge in (other, other + 2 * road.lane_m):
            strips.append((edge - half, edge + half, palette.mark, True))
    if road.oncoming and road.lanes > 1:
        for edge in (road.centre - 0.14, road.centre + 0.14):
            strips.append((edge - half, edge + half, palette.centre, True))
    return strips


class _Skyline:
    """What stands on the horizon; it turns with the heading of the ego vehicle."""

    SAMPLES = 48

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng((scene.look.variety, 15))
        self.city = scene.road.kind == 'city street'
        self.phases = rng.uniform(0, 2 * math.pi, (2, 3))
        self.height = rng.uniform(0.02, 0.07)
        self.blocks = rng.uniform(0.01, 0.075, 256)

    def layers(self, heading: float, view: View) -> list[tuple[Floats, Colour]]:
        """Return outlines in picture coordinates with their colours, farthest first."""
        u = np.linspace(-0.62, 0.62, self.SAMPLES)
        # Angles to the left of the start of the road.
        angle = heading - np.arctan(u / FOCAL)
        layers: list[tuple[Floats, Colour]] = []
        for k, (colour, share) in enumerate((((126, 144, 164), 1.0), ((92, 118, 98), 0.5))):
            p = self.phases[k]
            z = self.height * share * (1.1 + 0.6 * np.sin(5 * angle + p[0])
                                       + 0.3 * np.sin(11 * angle + p[1])
                                       + 0.12 * np.sin(29 * angle + p[2]))
            layers.append((self._outline(u, z, view), colour))
        if self.city:
            cell = np.floor(angle * 40.0).astype(int)
            steps = np.repeat(np.arange(len(u)), 2)
            z = self.blocks[cell % 256]
            u2 = np.concatenate(([u[0]], np.repeat(0.5 * (u[1:] + u[:-1]), 2), [u[-1]]))
            layers.append((self._outline(u2, z[steps], view), (128, 130, 140)))
        return layers

    @staticmethod
    def _outline(u: Floats, z: Floats, view: View) -> Floats:
        level = -FOCAL * view.pitch + view.roll * u
        top = np.stack((u, level - z), axis=1)
        base = np.array([(u[-1], level[-1] + 0.01), (u[0], level[0] + 0.01)])
        return np.concatenate((top, base))
