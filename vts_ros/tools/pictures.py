# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures for people: what the model saw, what it dropped and what it said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
import logging
from pathlib import Path
import subprocess

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vts_ros.pipeline.report import RISK_COLOURS, SceneReport
from vts_ros.vlm.answers import Answer, Box, RISK_LEVELS, RiskLevel

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

#: Size of the overlay; even, as video codecs want it.
WIDTH, PICTURE_HEIGHT = 960, 540
BAND_HEIGHT, TEXT_HEIGHT, STRIP_HEIGHT, FOOTER_HEIGHT = 48, 138, 150, 32
MARGIN = 16
#: Most frames beside the newest that are shown.
STRIP_FRAMES = 6

#: Where fonts for Chinese, Japanese and Korean lie, if they do; fontconfig knows of others.
CJK_FONTS = (
    '/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc',
    '/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc',
    '/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc',
    '/usr/share/fonts/truetype/fonts-japanese-gothic.ttf',
    '/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc',
    '/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf',
)
#: No font has a sign for it, so all draw what stands for signs that they have not.
_NO_SIGN = '\U0010ffff'

LOG = logging.getLogger(__name__)


@lru_cache(maxsize=32)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans where it is installed, or the font of Pillow."""
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    # Looked up, not imported: a car has no matplotlib.
    matplotlib = find_spec('matplotlib')
    places = [Path('/usr/share/fonts/truetype/dejavu')]
    if matplotlib and matplotlib.origin:
        places.append(Path(matplotlib.origin).parent / 'mpl-data' / 'fonts' / 'ttf')
    for place in places:
        if (place / name).is_file():
            return ImageFont.truetype(str(place / name), size)
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def font_of(text: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the usual font, or one that has the signs of the text where one is installed."""
    usual = _font(size, bold)
    # Nearly all texts, and at no cost.
    if text.isascii():
        return usual
    missing = next((sign for sign in text if not _has(usual, sign)), None)
    place = missing and _place_of_font(missing)
    return _truetype(place, size) if place else usual


@lru_cache(maxsize=32)
def _truetype(place: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(place, size)


def _has(font: ImageFont.FreeTypeFont, sign: str) -> bool:
    return sign.isspace() or bytes(font.getmask(sign)) != bytes(font.getmask(_NO_SIGN))


@lru_cache(maxsize=4096)
def _place_of_font(sign: str) -> str | None:
    """Return the file of a font that has a sign; None, and a note in the log, if there is none."""
    for place in (*CJK_FONTS, _known_to_fontconfig(sign)):
        try:
            if place and _has(_truetype(place, 16), sign):
                return place
        except OSError:
            continue
    _note_missing_font()
    return None


def _known_to_fontconfig(sign: str) -> str:
    try:
        return subprocess.run(
            ['fc-match', '-f', '%{file}', f':charset={ord(sign):x}'], check=False, timeout=5.0,
            capture_output=True, text=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ''


@lru_cache(maxsize=1)
def _note_missing_font() -> None:
    LOG.warning('no font that is installed has the signs of the answers: pictures show boxes in '
                'their place (for Chinese, Japanese and Korean: apt install fonts-noto-cjk)')


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """Break a text into at most so many lines of so many pixels; the last may end in '…'."""
    words = [part for word in text.split() for part in _parts(word, font, width)]
    wrapped: list[str] = []
    while words and len(wrapped) < lines:
        line = words.pop(0)
        while words and font.getlength(f'{line} {words[0]}') <= width:
            line = f'{line} {words.pop(0)}'
        wrapped.append(line)
    if wrapped and (words or font.getlength(wrapped[-1]) > width):
        cut = wrapped[-1]
        while cut and font.getlength(f'{cut}…') > width:
            cut = cut[:-1]
        wrapped[-1] = f'{cut.rstrip()}…'
    return wrapped


def _parts(word: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break what is wider than a line, such as a sentence of a language without blanks."""
    parts = []
    while font.getlength(word) > width and len(word) > 1:
        end = max(1, int(len(word) * width / font.getlength(word)))
        while end > 1 and font.getlength(word[:end]) > width:
            end -= 1
        parts.append(word[:end])
        word = word[end:]
    return [*parts, word]


def kept_cells(report: SceneReport) -> list[NDArray[np.bool_]]:
    """
    Return which visual tokens were kept of each frame, as bool (rows, columns).

    Two frames of a step of a video have their tokens in common: what is kept is kept of both.
    """
    # Of a window that the model was not asked about nothing was dropped either.
    kept = np.full(report.tokens_total, report.is_confirmed)
    kept[np.asarray(report.keep, np.intp)] = True
    ends = np.cumsum([rows * columns for rows, columns in report.step_grids])[:-1]
    cells = {index: one.reshape(grid) for one, grid, frames in zip(
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
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None]
    shaded = np.where(mask[..., None] > 0, rgb, (0.46 * grey + 20).astype(np.uint8))
    rows, columns = kept.shape
    lines = np.zeros((height, width), np.bool_)
    lines[[round(row * height / rows) for row in range(1, rows)], :] = True
    lines[:, [round(column * width / columns) for column in range(1, columns)]] = True
    shaded[lines] = (0.78 * shaded[lines] + 0.22 * 90).astype(np.uint8)
    return np.asarray(shaded, np.uint8)


@dataclass
class _Canvas:
    """A picture under construction."""

    image: Image.Image

    @classmethod
    def empty(cls, width: int, height: int, colour: Colour = BACKGROUND) -> _Canvas:
        return cls(Image.new('RGB', (width, height), colour))

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def array(self) -> Picture:
        return np.asarray(self.image, np.uint8).copy()

    def paste(self, rgb: Picture, x: int, y: int) -> None:
        self.image.paste(Image.fromarray(rgb), (x, y))

    def text(self, x: float, y: float, text: str, size: int, colour: Colour = TEXT,
             bold: bool = False, anchor: str = 'la') -> None:
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


def seconds(stamp_ns: int, start_ns: int) -> str:
    """Return a stamp as seconds after the start, for people."""
    return f'{1e-9 * (stamp_ns - start_ns):.1f} s'


def overlay(rgb: Picture, report: SceneReport, window: Sequence[Picture | None] = (),
            start_ns: int | None = None) -> Picture:
    """
    Draw an answer: the newest frame, what was kept of it, the risk and the words.

    The large picture is the newest frame, not the key frame: the box says where the object is
    now, and in a key frame of a second ago it would lie beside it. The key frame is marked in the
    strip, which always holds it.

    Parameters
    ----------
    rgb
        The newest frame of the report, uint8 (height, width, 3), of any size.
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
    canvas = _Canvas.empty(WIDTH, height)
    kept = kept_cells(report)
    _band(canvas, report, start_ns)
    _main_picture(canvas, rgb, report, kept[-1])
    _words(canvas, report, BAND_HEIGHT + PICTURE_HEIGHT)
    if window:
        _strip(canvas, report, window, kept, BAND_HEIGHT + PICTURE_HEIGHT + TEXT_HEIGHT)
    _footer(canvas, report, height - FOOTER_HEIGHT)
    return canvas.array()


def _band(canvas: _Canvas, report: SceneReport, start_ns: int | None) -> None:
    answer = report.answer
    canvas.draw.rectangle((0, 0, WIDTH, BAND_HEIGHT - 1), fill=RISK_COLOURS[answer.risk])
    middle = BAND_HEIGHT / 2
    canvas.text(MARGIN, middle, RISK_TITLES[answer.risk], 25, DARK, bold=True, anchor='lm')
    if advice := _advice(answer):
        canvas.text(WIDTH / 2, middle, advice, 22, DARK, anchor='mm')
    when = report.frames[-1].camera
    if start_ns is not None:
        when = f'{when}   {seconds(report.stamp, start_ns)}'
    canvas.text(WIDTH - MARGIN, middle, when, 18, DARK, anchor='rm')


def _main_picture(canvas: _Canvas, rgb: Picture, report: SceneReport,
                  kept: NDArray[np.bool_]) -> None:
    picture, (x, y) = fit(rgb, WIDTH, PICTURE_HEIGHT)
    y += BAND_HEIGHT
    canvas.paste(dim_dropped(picture, kept), x, y)
    area = x, y, picture.shape[1], picture.shape[0]
    found = report.risk_object
    if found and found.box and found.camera == report.frames[-1].camera:
        canvas.risk_box(found.box, found.label, RISK_COLOURS[report.answer.risk], area)
    note = f'newest frame: {int(kept.sum())} of {kept.size} tokens kept, grey ones dropped'
    bottom = y + picture.shape[0]
    canvas.chip(x + 10, bottom - 30, note, 13, DARK, TEXT)
    if report.key_frame.index == len(report.frames) - 1:
        _key_frame(canvas, area, 16)


def _key_frame(canvas: _Canvas, area: tuple[int, int, int, int], size: int) -> None:
    x, y, width, height = area
    canvas.draw.rectangle((x, y, x + width - 1, y + height - 1), outline=KEY, width=3)
    canvas.chip(x + width - 1, y, 'KEY FRAME', size, KEY, anchor='r')


def _words(canvas: _Canvas, report: SceneReport, top: int) -> None:
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


def _strip(canvas: _Canvas, report: SceneReport, window: Sequence[Picture | None],
           kept: Sequence[NDArray[np.bool_]], top: int) -> None:
    """Draw the frames before the newest: the key frame, and as many of the last as fit."""
    canvas.draw.rectangle((0, top, WIDTH, top + STRIP_HEIGHT), fill=PANEL)
    others = _strip_frames(len(window), report.key_frame.index)
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
            _key_frame(canvas, area, 12)
        if has_several:
            canvas.chip(area[0], area[1] + area[3] - 17, report.frames[index].camera, 11, DARK,
                        TEXT)
        age = 1e-9 * (report.frames[index].stamp - report.stamp)
        note = f'{age:+.1f} s   {int(kept[index].sum())} of {kept[index].size} tokens'
        canvas.text(x + width / 2, top + 8 + height + 5, note, 13, TEXT, anchor='ma')


def _strip_frames(count: int, key: int) -> list[int]:
    """Return the places of the frames in the strip of a window of so many, ascending."""
    last = list(range(count - 1))[-STRIP_FRAMES:]
    return [key, *last[1:]] if last and key < last[0] else last


def _footer(canvas: _Canvas, report: SceneReport, top: int) -> None:
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


_TILE_WIDTH, _TILE_PICTURE, _TILE_TEXT = 460, 259, 118


SHEET_NOTE = ('Each picture is one answer of the model: how risky the scene is, because of what '
              '(box), and why. Grey cells were dropped before it looked.')


def contact_sheet(pictures: Sequence[Picture], reports: Sequence[SceneReport],
                  captions: Sequence[str], title: str, note: str = SHEET_NOTE) -> Picture:
    """
    Put answers side by side, with all a stranger needs to read them.

    Parameters
    ----------
    pictures
        Newest frame per answer, uint8 (height, width, 3).
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
    canvas = _Canvas.empty(width, head + rows * (tile_height + MARGIN))
    _sheet_head(canvas, title, note)
    for place, tile in enumerate(zip(pictures, reports, captions, strict=True)):
        row, column = divmod(place, columns)
        _tile(canvas, MARGIN + column * (_TILE_WIDTH + MARGIN),
              head + row * (tile_height + MARGIN), tile_height, *tile)
    return canvas.array()


def _sheet_head(canvas: _Canvas, title: str, note: str) -> None:
    canvas.text(MARGIN, 14, title, 28, bold=True)
    canvas.text(MARGIN, 54, note, 16, MUTED)
    x = float(MARGIN)
    for level in RISK_LEVELS:
        x += canvas.chip(x, 82, RISK_TITLES[level], 14, RISK_COLOURS[level]) + 10


def _tile(canvas: _Canvas, x: int, y: int, height: int, picture: Picture, report: SceneReport,
          caption: str) -> None:
    answer, colour = report.answer, RISK_COLOURS[report.answer.risk]
    canvas.draw.rectangle((x, y, x + _TILE_WIDTH - 1, y + height - 1), fill=PANEL)
    canvas.draw.rectangle((x, y, x + _TILE_WIDTH - 1, y + 39), fill=colour)
    canvas.text(x + 12, y + 20, RISK_TITLES[answer.risk], 19, DARK, bold=True, anchor='lm')
    canvas.text(x + _TILE_WIDTH - 12, y + 20, caption, 17, DARK, anchor='rm')
    small, (dx, dy) = fit(picture, _TILE_WIDTH, _TILE_PICTURE)
    area = x + dx, y + 40 + dy, small.shape[1], small.shape[0]
    canvas.paste(dim_dropped(small, kept_cells(report)[-1]), area[0], area[1])
    found = report.risk_object
    if found and found.box and found.camera == report.frames[-1].camera:
        canvas.risk_box(found.box, found.label, colour, area, size=13)
    inner, line_y = _TILE_WIDTH - 24, y + 40 + _TILE_PICTURE + 9.0
    text = answer.explanation or answer.description or 'No answer that can be read.'
    advice = _advice(answer)
    for line in wrap(text, font_of(text, 16), inner, 3 if advice else 4):
        canvas.text(x + 12, line_y, line, 16)
        line_y += 22
    if advice:
        canvas.text(x + 12, y + height - 32, advice, 16, MUTED)


def _advice(answer: Answer) -> str:
    """Return the words for the action; none for a risk that is not known."""
    if answer.risk == 'unknown' or not answer.action:
        return ''
    return f'advice: {answer.action}'


def encode(rgb: Picture, suffix: str = '.jpg', quality: int = 85) -> bytes:
    """Return a picture as JPEG or PNG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == '.jpg' else []
    _, data = cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]), options)
    return data.tobytes()
