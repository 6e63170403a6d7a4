# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Building blocks of pictures: colours, a canvas, dimmed cells, image files."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.picture_fonts import font_of
from vts_ros.vlm.answers import Answer, Box, RiskLevel

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

RISK_TITLES: dict[RiskLevel, str] = {
    'none': 'NO RISK', 'low': 'LOW RISK', 'medium': 'MEDIUM RISK', 'high': 'HIGH RISK',
    'unknown': 'RISK UNKNOWN',
}

BACKGROUND: Colour = (20, 23, 28)
PANEL: Colour = (32, 37, 45)
TEXT: Colour = (238, 241, 245)
MUTED: Colour = (160, 168, 180)
KEY: Colour = (255, 221, 87)
DARK: Colour = (12, 14, 18)

MARGIN = 16
#: What becomes of a brightness in a dropped cell, and below the lines between cells.
_DIMMED = (0.46 * np.arange(256) + 20).astype(np.uint8)
_LINED = (0.78 * np.arange(256) + 0.22 * 90).astype(np.uint8)


def kept_cells(report: SceneReport) -> list[NDArray[np.bool_]]:
    """
    Return which visual tokens were kept of each frame, as bool (rows, columns).

    The two frames of a video step share their tokens, and so what is kept.
    """
    # Of a window that the model was not asked about nothing was dropped either.
    kept = np.full(report.tokens_total, report.is_confirmed)
    kept[np.asarray(report.keep, np.intp)] = True
    ends = np.cumsum([rows * columns for rows, columns in report.step_grids])[:-1]
    cells = {index: kept_cells.reshape(grid) for kept_cells, grid, frames in zip(
        np.split(kept, ends), report.step_grids, report.step_frames) for index in frames}
    return [cells[index] for index in range(len(report.frames))]


def fit(rgb: Picture, width: int, height: int) -> tuple[Picture, tuple[int, int]]:
    """Return the picture as large as its aspect ratio allows, and the offset to centre it."""
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    size = max(1, round(scale * rgb.shape[1])), max(1, round(scale * rgb.shape[0]))
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    resized = np.asarray(cv2.resize(rgb, size, interpolation=interpolation), np.uint8)
    return resized, ((width - size[0]) // 2, (height - size[1]) // 2)


def dim_dropped(rgb: Picture, kept: NDArray[np.bool_]) -> Picture:
    """
    Show dropped cells grey and dark, kept ones as they are, with a thin grid.

    Parameters
    ----------
    rgb
        uint8 (height, width, 3).
    kept
        bool (rows, columns).

    """
    height, width = rgb.shape[:2]
    mask = cv2.resize(kept.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    grey = cv2.LUT(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), _DIMMED)
    shaded = np.asarray(cv2.copyTo(rgb, mask, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)), np.uint8)
    rows, columns = kept.shape
    across = [round(row * height / rows) for row in range(1, rows)]
    down = [round(column * width / columns) for column in range(1, columns)]
    # Where they cross a pixel is of both lines, and is shaded once.
    of_rows = _LINED[shaded[across]]
    shaded[:, down] = _LINED[shaded[:, down]]
    shaded[across] = of_rows
    return shaded


@dataclass
class Canvas:
    """A picture under construction."""

    image: Image.Image

    @classmethod
    def empty(cls, width: int, height: int, colour: Colour = BACKGROUND) -> Canvas:
        """Return a canvas of a single colour."""
        return cls(Image.new('RGB', (width, height), colour))

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        """Return the object that draws on it."""
        return ImageDraw.Draw(self.image)

    def array(self) -> Picture:
        """Return the picture."""
        return np.asarray(self.image, np.uint8).copy()

    def paste(self, rgb: Picture, x: int, y: int) -> None:
        """Put a picture with its upper left corner at a place."""
        self.image.paste(Image.fromarray(rgb), (x, y))

    def text(self, x: float, y: float, text: str, size: int, colour: Colour = TEXT,
             bold: bool = False, anchor: str = 'la') -> None:
        """Write a line; the anchor is one of Pillow."""
        self.draw.text((x, y), text, font=font_of(text, size, bold), fill=colour, anchor=anchor)

    def chip(self, x: float, y: float, text: str, size: int, fill: Colour, colour: Colour = DARK,
             anchor: str = 'l') -> float:
        """Draw a filled label whose top is y; return its width."""
        font, pad = font_of(text, size, bold=True), 0.45 * size
        width = font.getlength(text) + 2 * pad
        left = x if anchor == 'l' else x - width
        self.draw.rounded_rectangle(
            (left, y, left + width, y + 1.55 * size), radius=0.3 * size, fill=fill)
        self.draw.text((left + pad, y + 0.78 * size), text, font=font, fill=colour, anchor='lm')
        return width

    def risk_box(self, box: Box, label: str, colour: Colour,
                 area: tuple[int, int, int, int], size: int = 18) -> None:
        """Draw the box of the risk object into an area (x, y, width, height) of the picture."""
        left, top, width, height = area
        x1, x2 = (left + side * (width - 1) for side in (box[0], box[2]))
        y1, y2 = (top + side * (height - 1) for side in (box[1], box[3]))
        stroke = max(2, size // 5)
        # A dark line outside keeps the box visible on any background.
        self.draw.rectangle((x1 - stroke - 1, y1 - stroke - 1, x2 + stroke + 1, y2 + stroke + 1),
                            outline=DARK, width=2)
        self.draw.rectangle((x1 - stroke, y1 - stroke, x2 + stroke, y2 + stroke),
                            outline=colour, width=stroke)
        chip_height = 1.55 * size
        above = y1 - stroke - chip_height - 2
        y = above if above >= top else min(y2 + stroke + 3, top + height - chip_height)
        chip_width = font_of(label, size, bold=True).getlength(label) + 0.9 * size
        x = min(max(x1 - stroke, left), left + width - chip_width)
        self.chip(x, y, label, size, colour)

    def key_frame(self, area: tuple[int, int, int, int], size: int) -> None:
        """Mark an area (x, y, width, height) as the key frame."""
        x, y, width, height = area
        self.draw.rectangle((x, y, x + width - 1, y + height - 1), outline=KEY, width=3)
        self.chip(x + width - 1, y, 'KEY FRAME', size, KEY, anchor='r')


def seconds(stamp_ns: int, start_ns: int) -> str:
    """Return a stamp as seconds after the start, for people."""
    return f'{1e-9 * (stamp_ns - start_ns):.1f} s'


def advice(answer: Answer) -> str:
    """Return the text of the action; empty for an unknown risk."""
    if answer.risk == 'unknown' or not answer.action:
        return ''
    return f'advice: {answer.action}'


def encode(rgb: Picture, suffix: str = '.jpg', quality: int = 85) -> bytes:
    """Return a picture as JPEG or PNG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == '.jpg' else []
    _, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()
