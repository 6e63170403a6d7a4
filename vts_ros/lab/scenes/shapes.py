# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What actors look like: vehicles, people, riders, animals, traffic lights and barriers."""

from __future__ import annotations

from collections.abc import Sequence

from vts_ros.lab.scenes.skeletons import skeleton, skeleton_sketch
from vts_ros.lab.scenes.sketches import Colour, disc, flat_sketch, Point, rectangle, Sketch
from vts_ros.lab.scenes.vehicle_meshes import has_mesh, vehicle_sketch
from vts_ros.lab.scenes.world import Body, State, View

RED, YELLOW, GREEN = (255, 44, 30), (255, 196, 40), (44, 240, 130)


def _traffic_light(body: Body, state: State, t: float) -> Sketch:
    width, top = body.size[1:]
    low = top - 1.6
    polygons: list[tuple[Sequence[Point], Colour, bool]] = [
        (rectangle(-0.09, 0.09, 0.0, low, 0.05), (92, 96, 100), False),
        (rectangle(-width / 2, width / 2, low, top), (20, 22, 24), False),
        (rectangle(-width / 2 + 0.06, width / 2 - 0.06, low + 0.06, top - 0.06, -0.02),
         (48, 50, 54), False),
    ]
    lit = body.phase(t)
    for index, (name, on) in enumerate((('green', GREEN), ('yellow', YELLOW), ('red', RED))):
        z = low + 0.30 + index * 0.50
        colour: Colour = on if lit == name else (on[0] * 0.16, on[1] * 0.16, on[2] * 0.16)
        polygons.append((disc(0.0, z, 0.22, -0.04), colour, lit == name))
    return flat_sketch(polygons, state, unboxed=1)


def _board(body: Body, state: State, t: float) -> Sketch:
    """Return a red and white barrier board on two feet with a warning lamp."""
    _, width, height = body.size
    half = width / 2
    polygons: list[tuple[Sequence[Point], Colour, bool]] = []
    for y in (-half + 0.25, half - 0.25):
        polygons.append((rectangle(y - 0.05, y + 0.05, 0.0, height - 0.1), (70, 72, 76), False))
    for low, high in ((0.30 * height, 0.52 * height), (0.62 * height, 0.86 * height)):
        polygons.append((rectangle(-half, half, low, high, -0.05), (236, 236, 232), False))
        stripes = max(2, round(width / 0.6))
        step = width / stripes
        lean = 0.5 * step
        for k in range(stripes):
            y = -half + k * step
            polygons.append(([(-0.06, y, low), (-0.06, y + lean, low),
                              (-0.06, min(half, y + step), high),
                              (-0.06, min(half, y + step) - lean, high)], (206, 34, 28), False))
    blink = (t % 0.8) < 0.5
    for y in (-half + 0.15, half - 0.15):
        polygons.append((disc(y, height - 0.09, 0.09, -0.05),
                         (255, 190, 40) if blink else (150, 110, 40), blink))
    return flat_sketch(polygons, state)


def sketch(body: Body, t: float, view: View, dark: bool) -> Sketch:
    """
    Return a body at a time.

    Parameters
    ----------
    view
        Decides which sides and how much detail of a vehicle are drawn.
    dark
        Whether lamps and lights are on.

    """
    state = body.state(t)
    if has_mesh(body.kind):
        return vehicle_sketch(body, state, view, t, dark)
    if body.kind == 'traffic light':
        return _traffic_light(body, state, t)
    if body.kind == 'board':
        return _board(body, state, t)
    return skeleton_sketch(skeleton(body, state, dark), state)
