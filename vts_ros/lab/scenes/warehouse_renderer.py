# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws a warehouse: the renderer of roads with another floor, another light and a ceiling."""

from __future__ import annotations

import numpy as np

from vts_ros.lab.scenes.renderer import Palette, Picture, Renderer
from vts_ros.lab.scenes.world import Floats, HORIZON, Scene, View

#: Gaps in the racks are drawn with a crossing on the floor.
CROSSING = 'junction'
_STRIPE_M, _LINE_M = 0.45, 0.1


class HallPalette(Palette):
    """Colours of light and floor of a hall."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        rng = np.random.default_rng((scene.look.variety, 31))
        self.ambient = float(rng.uniform(0.66, 1.05))
        warm = float(rng.uniform(-0.05, 0.05))
        self.tint = (1.0 + warm, 1.0, 1.0 - warm)
        level = self.ambient * float(rng.uniform(96.0, 124.0))
        self.haze = self.sky_low = (level, level, 1.03 * level)
        self.sky_top = (0.55 * level, 0.56 * level, 0.6 * level)
        self.sight_m = 90.0
        floor = np.array(((158, 158, 154), (140, 144, 148), (150, 140, 128), (122, 134, 128))[
            int(rng.integers(4))]) + rng.normal(0.0, 5.0, 3)
        self.verge = self.asphalt = self.under((float(floor[0]), float(floor[1]),
                                                float(floor[2])))
        yellow = rng.random() < 0.75
        self.mark = self.under((232, 190, 40) if yellow else (228, 228, 224))


class WarehouseRenderer(Renderer):
    """Draws the frames of one scene of a warehouse at one size."""

    def _make_palette(self) -> Palette:
        return HallPalette(self.scene)

    def _make_sky(self) -> Picture:
        """Return the ceiling: darker overhead, as light comes from the lamps below it."""
        rows = np.clip(np.arange(self.h) / (HORIZON * self.h), 0.0, 1.0)[:, None]
        top, low = np.array(self.palette.sky_top), np.array(self.palette.sky_low)
        column = np.clip(top * (1 - rows) + low * rows, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(column[:, None], (self.h, self.w, 3)))

    def _draw_skyline(self, image: Picture, view: View) -> None:
        """Draw none: the hall ends at a wall."""

    def _draw_ground(self, image: Picture, view: View) -> None:
        palette, road = self.palette, self.scene.road
        self._draw_ribbons(image, view, [(-60.0, 60.0, palette.verge, False)])
        self._draw_crossings(image, view)
        self._texture_ground(image, view)
        for edge in (road.right + 0.12, road.left - 0.12):
            self._draw_ribbons(image, view, [
                (edge - _LINE_M / 2, edge + _LINE_M / 2, palette.mark, True)], 60.0)

    def _draw_crossings(self, image: Picture, view: View) -> None:
        """Draw stripes across the aisle where another one crosses it."""
        road = self.scene.road
        for prop in self.scene.props:
            near, far = max(prop.s, view.s + 1.0), prop.s + prop.length
            if prop.kind != CROSSING or near >= far or near - view.s > 60.0:
                continue
            y = np.arange(road.right + 0.3, road.left - 0.3 - _STRIPE_M / 2, 2 * _STRIPE_M)
            quads: Floats = np.zeros((len(y), 4, 3))
            quads[:, (0, 3), 0], quads[:, (1, 2), 0] = near, far
            quads[:, :2, 1], quads[:, 2:, 1] = y[:, None], y[:, None] + _STRIPE_M
            self._quads(image, view, quads, self.palette.mark)
