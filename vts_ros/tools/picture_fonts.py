# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fonts for words in pictures, of any language for which one is installed, and line breaks."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
import logging
from pathlib import Path
import subprocess

from PIL import ImageFont

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
