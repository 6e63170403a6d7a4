# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a frame really shows of one thing: its pixels that nothing nearer, no veil covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.clips import CLEAR_PX, CLEAR_PX2, CLEAR_SHARE
from vts_ros.lab.scenes.drawing import draw, Drawing, outlines, SHIFT, veil_share
from vts_ros.lab.scenes.ground_truth import (
    MODEL_ASPECT,
    MODEL_HEIGHT_PX,
    MODEL_WIDTH_PX,
    shot,
)
from vts_ros.lab.scenes.renderer import PROPS_M
from vts_ros.lab.scenes.scenery import sketch_prop
from vts_ros.lab.scenes.shapes import sketch
from vts_ros.lab.scenes.world import Body, HORIZON, Prop, Scene
from vts_ros.vlm.answers import Box

Mask = NDArray[np.bool_]
#: Twice the model-size picture, the size at which the renderer draws that.
WIDTH, HEIGHT = 2 * MODEL_WIDTH_PX, 2 * MODEL_HEIGHT_PX
#: Sizes in which a thing has to be hidden: the model's, a camera's, and twice that.
_SIZES = ((WIDTH, HEIGHT), (480, 270), (960, 540))
#: Edges of polygons reach so far beyond their corners, rounded up.
_SPILL_PX = 4.0
#: Kinds that stand on a pole, which tells nothing.
_ON_A_POLE = frozenset(('traffic light', 'sign'))


class Sight(NamedTuple):
    """
    What a frame shows of a thing.

    Attributes
    ----------
    frame
        Its index in the window.
    box
        Extent of the visible part, normalised.
    share
        Visible share of it, 0 to 1: neither covered nor out of the picture.

    """

    frame: int
    box: Box
    share: float

    @property
    def is_clear(self) -> bool:
        """Return whether anybody would see what it is, by the limits of all other windows."""
        left, top, right, bottom = self.box
        height = (bottom - top) * MODEL_HEIGHT_PX
        return (self.share >= CLEAR_SHARE and height >= CLEAR_PX
                and height * (right - left) * MODEL_WIDTH_PX >= CLEAR_PX2)

    @property
    def area(self) -> float:
        """Return the visible extent as a share of the picture."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def silhouette(scene: Scene, index: int, thing: Body | Prop, width: int = WIDTH,
               height: int = HEIGHT, alone: bool = False) -> Mask:
    """
    Return the pixels that show a thing, bool [height, width].

    Parameters
    ----------
    thing
        A body (found by its id) or a piece of scenery of the scene.
    alone
        As if nothing else were there.

    """
    return _Posed(scene, index, thing).silhouette(width, height, alone)


class _Posed:
    """A thing in a frame, and what else is there: drawn once for pictures of all sizes."""

    def __init__(self, scene: Scene, index: int, thing: Body | Prop) -> None:
        view = scene.view(index)
        props = [prop for prop in scene.props
                 if prop.kind != 'junction' and 1.0 < _place(scene, prop) - view.s < PROPS_M]
        taken = shot(scene, index)
        owned = []
        self._drawings: list[Drawing] = []
        #: Smallest extent of a polygon that is drawn, in pixels.
        self._least: list[float] = []
        if props:
            self._drawings.append(draw([sketch_prop(prop, scene.look.lamps) for prop in props],
                                       view))
            self._least.append(0.9)
            owned.append([prop is thing for prop in props])
        if taken.drawing is not None:
            self._drawings.append(taken.drawing)
            self._least.append(0.3)
            owned.append([isinstance(thing, Body) and body.id == thing.id
                          for body in taken.bodies])
        self._mine = []
        for drawing, owns in zip(self._drawings, owned):
            of_thing = np.repeat(owns, np.diff(drawing.figures))
            if thing.kind in _ON_A_POLE:
                of_thing[drawing.figures[:-1]] = False
            self._mine.append(of_thing)
        t = float(scene.times[index])
        self._veils = [veil for veil in scene.veils if veil.start <= t <= veil.end]

    def silhouette(self, width: int, height: int, alone: bool = False) -> Mask:
        """Return the pixels that show the thing, bool [height, width]."""
        canvas = np.zeros((height, width), np.uint8)
        if not any(of_thing.any() for of_thing in self._mine):
            return canvas > 0
        # As the renderer does: where it does not average, edges are smooth, and what is behind
        # the seam of two faces shines through.
        line = cv2.LINE_8 if width == WIDTH else cv2.LINE_AA
        wanted = self._mine if alone else _around(self._drawings, self._mine, _SPILL_PX / width)
        for pixels, number, polygon in outlines(self._drawings, self._least, width, height,
                                                wanted):
            cv2.fillPoly(canvas, [pixels], 255 if self._mine[number][polygon] else 0, line, SHIFT)
        shown = canvas > 0
        for veil in () if alone else self._veils:
            shown &= veil_share(veil, width, height) < 1.0
        return shown


def _around(drawings: Sequence[Drawing], mine: Sequence[Mask], margin: float) -> Sequence[Mask]:
    """Return which polygons of each drawing may cover those that are marked, and these."""
    own = [(drawing.low[of_thing], drawing.high[of_thing], drawing.far[of_thing])
           for drawing, of_thing in zip(drawings, mine)]
    lows, highs, fars = map(np.concatenate, zip(*own))
    low, high, far = lows.min(axis=0) - margin, highs.max(axis=0) + margin, fars.max()
    return [of_thing | ((drawing.low < high) & (drawing.high > low)).all(axis=1)
            & (drawing.far <= far) for drawing, of_thing in zip(drawings, mine)]


def _place(scene: Scene, prop: Prop) -> float:
    return sketch_prop(prop, scene.look.lamps).s


def sight(scene: Scene, index: int, thing: Body | Prop) -> Sight | None:
    """Return what a frame shows of a thing, None where it shows nothing of it."""
    posed = _Posed(scene, index, thing)
    shown = posed.silhouette(WIDTH, HEIGHT)
    if not shown.any():
        return None
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    whole = posed.silhouette(WIDTH, HEIGHT, alone=True).sum()
    box = (float(columns[0]) / WIDTH, float(rows[0]) / HEIGHT,
           float(columns[-1] + 1) / WIDTH, float(rows[-1] + 1) / HEIGHT)
    return Sight(index, box,
                 _inside(scene, index, thing) * float(shown.sum() / max(whole, 1)))


def _inside(scene: Scene, index: int, thing: Body | Prop) -> float:
    """Return which share of the extent of a thing is in the picture."""
    view = scene.view(index)
    if isinstance(thing, Body):
        drawn = sketch(thing, float(scene.times[index]), view, dark=False)
    else:
        drawn = sketch_prop(thing, scene.look.lamps)
    left, top, right, bottom = draw([drawn], view).bounds[0].tolist()
    low, high = -HORIZON * MODEL_ASPECT, (1.0 - HORIZON) * MODEL_ASPECT
    across = max(0.0, min(right, 0.5) - max(left, -0.5)) / max(right - left, 1e-9)
    return across * max(0.0, min(bottom, high) - max(top, low)) / max(bottom - top, 1e-9)


def is_hidden(scene: Scene, index: int, thing: Body | Prop) -> bool:
    """Return whether a frame shows nothing of a thing, in larger pictures either."""
    posed = _Posed(scene, index, thing)
    return not any(posed.silhouette(*size).any() for size in _SIZES)
