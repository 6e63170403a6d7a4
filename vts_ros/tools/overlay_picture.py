# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One answer as a picture: a newest frame, its kept tokens, the risk and the texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.pipeline.report import SceneReport
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
    seconds,
    TEXT,
)

#: Size of the overlay; even, as video codecs want it.
WIDTH, PICTURE_HEIGHT = 960, 540
BAND_HEIGHT, TEXT_HEIGHT, STRIP_HEIGHT, FOOTER_HEIGHT = 48, 138, 150, 32
#: Most frames beside the newest that are shown.
STRIP_FRAMES = 6


def overlay(rgb: Picture, report: SceneReport, window: Sequence[Picture | None] = (),
            start_ns: int | None = None) -> Picture:
    """
    Draw an answer: the newest frame, what was kept of it, the risk and the words.

    The large picture is the newest frame, of several cameras that of the one with the object, and
    not the key frame: the box says where the object is now, and in a key frame of a second ago it
    would lie beside it. The key frame is marked in the strip, which always holds it.

    Parameters
    ----------
    rgb
        The frame ``shown`` of the report, uint8 (height, width, 3), of any size.
    report
        The answer.
    window
        The pictures of all frames of the report in their order, None where one is missing; shown
        as a strip. Without them the picture has no strip.
    start_ns
        Stamp that counts as second zero; without it no time is shown.

    Returns
    -------
    uint8 (height, width, 3); the size depends on whether there is a strip, on nothing else.

    """
    strip = STRIP_HEIGHT if window else 0
    height = BAND_HEIGHT + PICTURE_HEIGHT + TEXT_HEIGHT + strip + FOOTER_HEIGHT
    canvas = Canvas.empty(WIDTH, height)
    kept = kept_cells(report)
    _band(canvas, report, start_ns)
    _main_picture(canvas, rgb, report, kept[report.shown])
    _words(canvas, report, BAND_HEIGHT + PICTURE_HEIGHT)
    if window:
        _strip(canvas, report, window, kept, BAND_HEIGHT + PICTURE_HEIGHT + TEXT_HEIGHT)
    _footer(canvas, report, height - FOOTER_HEIGHT)
    return canvas.array()


def _band(canvas: Canvas, report: SceneReport, start_ns: int | None) -> None:
    answer = report.answer
    canvas.draw.rectangle((0, 0, WIDTH, BAND_HEIGHT - 1), fill=report.colour)
    middle = BAND_HEIGHT / 2
    canvas.text(MARGIN, middle, RISK_TITLES[answer.risk], 25, DARK, bold=True, anchor='lm')
    if words := advice(answer):
        canvas.text(WIDTH / 2, middle, words, 22, DARK, anchor='mm')
    when = report.shown_frame.camera
    if start_ns is not None:
        when = f'{when}   {seconds(report.stamp, start_ns)}'
    canvas.text(WIDTH - MARGIN, middle, when, 18, DARK, anchor='rm')


def _main_picture(canvas: Canvas, rgb: Picture, report: SceneReport,
                  kept: NDArray[np.bool_]) -> None:
    picture, (x, y) = fit(rgb, WIDTH, PICTURE_HEIGHT)
    y += BAND_HEIGHT
    canvas.paste(dim_dropped(picture, kept), x, y)
    area = x, y, picture.shape[1], picture.shape[0]
    found = report.risk_object
    if found and found.box:
        canvas.risk_box(found.box, found.label, report.colour, area)
    note = f'newest frame: {int(kept.sum())} of {kept.size} tokens kept, grey ones dropped'
    bottom = y + picture.shape[0]
    canvas.chip(x + 10, bottom - 30, note, 13, DARK, TEXT)
    if report.key_frame.index == report.shown:
        canvas.key_frame(area, 16)


def _words(canvas: Canvas, report: SceneReport, top: int) -> None:
    answer = report.answer
    y, width = top + 12.0, WIDTH - 2 * MARGIN
    if answer.risk == 'unknown' and not answer.description:
        canvas.text(MARGIN, y, 'The model gave no answer that can be read.', 20, MUTED)
        return
    for text, size, bold, lines, colour in (
            (answer.description, 18, False, 2, MUTED), (answer.explanation, 21, True, 3, TEXT)):
        for line in wrap(text, font_of(text, size, bold), width, lines):
            canvas.text(MARGIN, y, line, size, colour, bold)
            y += 1.32 * size
        y += 5


def _strip(canvas: Canvas, report: SceneReport, window: Sequence[Picture | None],
           kept: Sequence[NDArray[np.bool_]], top: int) -> None:
    """Draw the other frames: the key frame, and as many of the last as fit."""
    canvas.draw.rectangle((0, top, WIDTH, top + STRIP_HEIGHT), fill=PANEL)
    others = _strip_frames(len(window), report.key_frame.index, report.shown)
    has_several = len({frame.camera for frame in report.frames}) > 1
    gap, slots = 10, max(4, len(others))
    width = (WIDTH - 2 * MARGIN - (slots - 1) * gap) // slots
    height = min(STRIP_HEIGHT - 34, width * 9 // 16)
    for place, index in enumerate(others):
        x, y = MARGIN + place * (width + gap), top + 8
        picture = window[index]
        area = x, y, width, height
        if picture is None:
            canvas.text(x + width / 2, y + height / 2, 'not recorded', 13, MUTED, anchor='mm')
        else:
            small, (dx, dy) = fit(picture, width, height)
            canvas.paste(dim_dropped(small, kept[index]), x + dx, y + dy)
            area = x + dx, y + dy, small.shape[1], small.shape[0]
        if index == report.key_frame.index:
            canvas.key_frame(area, 12)
        if has_several:
            canvas.chip(area[0], area[1] + area[3] - 17, report.frames[index].camera, 11, DARK,
                        TEXT)
        age = 1e-9 * (report.frames[index].stamp - report.stamp)
        note = f'{age:+.1f} s   {int(kept[index].sum())} of {kept[index].size} tokens'
        canvas.text(x + width / 2, top + 8 + height + 5, note, 13, TEXT, anchor='ma')


def _strip_frames(count: int, key: int, shown: int) -> list[int]:
    """Return the places of the frames in the strip of a window of so many, ascending."""
    last = [place for place in range(count) if place != shown][-STRIP_FRAMES:]
    return [key, *last[1:]] if last and key < last[0] else last


def _footer(canvas: Canvas, report: SceneReport, top: int) -> None:
    kept, total = len(report.keep), report.tokens_total
    if report.asked_stamp is not None:
        ago_sec = 1e-9 * (report.stamp - report.asked_stamp)
        parts = [f'confirmed: the model was asked {ago_sec:.1f} s before']
    else:
        parts = [f'{kept} of {total} visual tokens ({kept / total:.0%})']
        if 'total' in report.latency_ms:
            parts.append(f'answer took {1e-3 * report.latency_ms["total"]:.2f} s')
    parts += [f'{kind} {name}' for kind, name in (
        ('model', report.model), ('engine', report.engine)) if name]
    canvas.text(MARGIN, top + FOOTER_HEIGHT / 2, '   ·   '.join(parts), 14, MUTED, anchor='lm')
