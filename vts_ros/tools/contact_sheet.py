# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Many answers side by side, and the choice of interesting ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vts_ros.pipeline.report import colours_of, SceneReport
from vts_ros.tools.picture_fonts import font_of, wrap
from vts_ros.tools.pictures import (
    advice,
    Canvas,
    DARK,
    dim_dropped,
    fit,
    kept_cells,
    MARGIN,
    MUTED,
    PANEL,
    Picture,
    RISK_TITLES,
)
from vts_ros.vlm.answers import RISK_LEVELS, RiskLevel

_TILE_WIDTH, _TILE_PICTURE, _TILE_TEXT = 460, 259, 118
SHEET_NOTE = ('Each picture is one answer of the model: how risky the scene is, because of what '
              '(box), and why. Grey cells were dropped before it looked.')


def interesting(reports: Sequence[SceneReport], limit: int) -> list[int]:
    """
    Choose answers worth a picture.

    Returns
    -------
    At most ``limit`` positions, ascending: first where the risk changed, then where the object
    changed, then spread evenly.

    """
    if len(reports) <= limit:
        return list(range(len(reports)))

    def changes(what: Sequence[object]) -> list[int]:
        return [i for i in range(len(what)) if i == 0 or what[i] != what[i - 1]]

    wanted = [changes([report.answer.risk for report in reports]),
              changes([(report.answer.risk, report.answer.label) for report in reports]),
              list(range(len(reports)))]
    chosen: set[int] = set()
    for candidates in wanted:
        left = [i for i in candidates if i not in chosen]
        room = limit - len(chosen)
        if len(left) > room:
            left = [left[i] for i in np.linspace(0, len(left) - 1, room).round().astype(int)]
        chosen.update(left)
    return sorted(chosen)


def contact_sheet(pictures: Sequence[Picture], reports: Sequence[SceneReport],
                  captions: Sequence[str], title: str, note: str = SHEET_NOTE) -> Picture:
    """
    Put answers side by side, with everything needed to read them.

    Parameters
    ----------
    pictures
        Frame ``shown`` of each answer, uint8 (height, width, 3).
    reports
        The answers; see :func:`interesting` for a good choice.
    captions
        A few words per answer, such as its time.
    title
        Headline.
    note
        What the pictures are.

    """
    columns = min(3, max(1, len(reports)))
    rows = max(1, -(-len(reports) // columns))
    tile_height = 40 + _TILE_PICTURE + _TILE_TEXT
    head = 118
    width = max(3 * _TILE_WIDTH + 4 * MARGIN, columns * _TILE_WIDTH + (columns + 1) * MARGIN)
    canvas = Canvas.empty(width, head + rows * (tile_height + MARGIN))
    _sheet_head(canvas, title, note, colours_of(reports))
    for place, tile in enumerate(zip(pictures, reports, captions, strict=True)):
        row, column = divmod(place, columns)
        _tile(canvas, MARGIN + column * (_TILE_WIDTH + MARGIN),
              head + row * (tile_height + MARGIN), tile_height, *tile)
    return canvas.array()


def _sheet_head(canvas: Canvas, title: str, note: str,
                colours: Mapping[RiskLevel, tuple[int, int, int]]) -> None:
    canvas.text(MARGIN, 14, title, 28, bold=True)
    canvas.text(MARGIN, 54, note, 16, MUTED)
    x = float(MARGIN)
    for level in RISK_LEVELS:
        x += canvas.chip(x, 82, RISK_TITLES[level], 14, colours[level]) + 10


def _tile(canvas: Canvas, x: int, y: int, height: int, picture: Picture, report: SceneReport,
          caption: str) -> None:
    answer, colour = report.answer, report.colour
    canvas.draw.rectangle((x, y, x + _TILE_WIDTH - 1, y + height - 1), fill=PANEL)
    canvas.draw.rectangle((x, y, x + _TILE_WIDTH - 1, y + 39), fill=colour)
    canvas.text(x + 12, y + 20, RISK_TITLES[answer.risk], 19, DARK, bold=True, anchor='lm')
    canvas.text(x + _TILE_WIDTH - 12, y + 20, caption, 17, DARK, anchor='rm')
    small, (dx, dy) = fit(picture, _TILE_WIDTH, _TILE_PICTURE)
    area = x + dx, y + 40 + dy, small.shape[1], small.shape[0]
    canvas.paste(dim_dropped(small, kept_cells(report)[report.shown]), area[0], area[1])
    found = report.risk_object
    if found and found.box:
        canvas.risk_box(found.box, found.label, colour, area, size=13)
    inner, line_y = _TILE_WIDTH - 24, y + 40 + _TILE_PICTURE + 9.0
    text = answer.explanation or answer.description or 'No answer that can be read.'
    words = advice(answer)
    for line in wrap(text, font_of(text, 16), inner, 3 if words else 4):
        canvas.text(x + 12, line_y, line, 16)
        line_y += 22
    if words:
        canvas.text(x + 12, y + height - 32, words, 16, MUTED)
