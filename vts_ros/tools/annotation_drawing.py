# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ImageAnnotations over the picture they are about, as a viewer of recordings draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vts_ros.tools.picture_fonts import font_of
from vts_ros.tools.pictures import Picture

#: Of foxglove_msgs/PointsAnnotation.
_LINE_LOOP, _LINE_STRIP, _LINE_LIST = 2, 3, 4


def draw_annotations(picture: Picture, annotations: Any) -> Picture:
    """
    Return a picture with the lines and texts of a message over it.

    Parameters
    ----------
    picture
        uint8 (height, width, 3), RGB.
    annotations
        foxglove_msgs/ImageAnnotations, of rosbags or of rclpy.

    """
    shown = Image.fromarray(picture).convert('RGBA')
    drawing = Image.new('RGBA', shown.size)
    pen = ImageDraw.Draw(drawing)
    for lines in annotations.points:
        for line in _lines(lines):
            pen.line(line, _rgba(lines.outline_color), round(lines.thickness))
    for text in annotations.texts:
        font = font_of(text.text, round(text.font_size))
        # The position is that of the left end of the base line.
        place = text.position.x, text.position.y
        pen.rectangle(pen.textbbox(place, text.text, font, anchor='ls'),
                      _rgba(text.background_color))
        pen.text(place, text.text, _rgba(text.text_color), font, anchor='ls')
    shown.alpha_composite(drawing)
    return np.asarray(shown.convert('RGB'))


def _lines(lines: Any) -> Iterator[list[tuple[float, float]]]:
    points = [(float(point.x), float(point.y)) for point in lines.points]
    if lines.type == _LINE_LIST:
        yield from (points[begin:begin + 2] for begin in range(0, len(points), 2))
    elif lines.type in (_LINE_LOOP, _LINE_STRIP) and points:
        yield points + points[:1] if lines.type == _LINE_LOOP else points


def _rgba(colour: Any) -> tuple[int, int, int, int]:
    red, green, blue, alpha = (
        round(255 * channel) for channel in (colour.r, colour.g, colour.b, colour.a))
    return red, green, blue, alpha
