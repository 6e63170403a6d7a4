# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where an object is: the form that a model is asked for, and what models write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import math
import re
from typing import Any, NamedTuple

#: Left, top, right, bottom; 0 to 1 from the left and from the top of the picture.
Box = tuple[float, float, float, float]
#: Width and height.
Size = tuple[float, float]

#: What models call a box, whatever they were asked for.
KEYS = ('box', 'bbox_2d', 'bbox', 'bounding_box')
_ONE, _THOUSAND = (1.0, 1.0), (1000.0, 1000.0)
#: Coordinates may lie so far outside of the picture; they are clipped.
_MARGIN = 0.05
_NUMBER = re.compile(r'-?\d+(?:\.\d+)?')
#: So many boxes have to be there before most of them say anything.
_FEWEST = 5


class PictureSize(NamedTuple):
    """
    Sizes of the picture that a box is in, in pixels.

    Attributes
    ----------
    seen
        As the model gets it, after its image processor.
    taken
        As it came.

    """

    seen: Size
    taken: Size


class FoundBox(NamedTuple):
    """A box that a model wrote; None if it is of no use. And whether its unit was another."""

    box: Box | None
    in_other_unit: bool = False


@dataclass(frozen=True)
class BoxForm:
    """
    How a model is asked to write a box.

    Attributes
    ----------
    key
        In the JSON object of what is found.
    scale
        Full width and height of the picture in the unit of the box; None for pixels of the
        picture as the model gets it.
    label_first
        Whether the label is written before the box.

    """

    key: str = 'box'
    scale: float | None = 1.0
    label_first: bool = True

    @property
    def range(self) -> tuple[str, str]:
        """Return the least and the largest number as they are written, if they are known."""
        return ('0.00', '1.00') if self.scale == 1.0 else ('0', f'{self.scale or 0:.0f}')

    def write(self, box: Box, seen: Size | None = None) -> str:
        """
        Return a box as a model is to write it.

        Parameters
        ----------
        box
            From 0 to 1.
        seen
            Width and height in pixels of the picture as the model gets it; only for boxes in
            pixels.

        Raises
        ------
        ValueError
            If that is needed and not given.

        """
        if self.scale == 1.0:
            return f'[{", ".join(f"{value:.2f}" for value in box)}]'
        if self.scale is None and seen is None:
            raise ValueError('a box in pixels needs the size of the picture')
        width, height = seen if self.scale is None and seen else (self.scale or 0.0,) * 2
        sides = [value * full for value, full in zip(box, (width, height) * 2)]
        return f'[{", ".join(f"{side:.0f}" for side in sides)}]'

    def read(self, written: Any, picture: PictureSize | None = None) -> FoundBox:
        """
        Return a box as it was meant, as far as there is no doubt.

        Parameters
        ----------
        written
            What stands in the answer: four numbers, perhaps in lists or in a text.
        picture
            Sizes of the picture; without, only the unit that was asked for and 0 to 1 are known.

        """
        sides = _sides(written)
        if sides is None:
            return FoundBox(None)
        if self.scale != 1.0 and max(map(abs, sides)) <= 1.0:
            # A box of a pixel or a thousandth is none.
            return FoundBox(_within(sides, _ONE), in_other_unit=True)
        unit = self._unit(picture)
        box = _within(sides, unit) if unit is not None else None
        if box is not None or picture is None:
            return FoundBox(box)
        box, *others = [_within(sides, other) for other in self._others(picture)
                        if _within(sides, other) is not None] or [None]
        is_certain = all(_alike(box, other) for other in others)
        return FoundBox(box, in_other_unit=True) if box and is_certain else FoundBox(None)

    def _unit(self, picture: PictureSize | None) -> Size | None:
        """Return full width and height of a picture in the unit that was asked for."""
        if self.scale is None:
            return None if picture is None else picture.seen
        return self.scale, self.scale

    def _others(self, picture: PictureSize) -> tuple[Size, ...]:
        """Return them in the units that may be meant by a box that is not in this one."""
        # Who knows pixels or thousandths well enough to be asked for them knows no third unit.
        return (picture.seen, picture.taken, _THOUSAND)[:3 if self.scale == 1.0 else 2]


#: Hundredths from 0 to 1: of those who know no other form.
ZERO_TO_ONE = BoxForm()


def _sides(written: Any) -> list[float] | None:
    """Return four numbers, if that is what stands there."""
    try:
        sides = [float(part) for part in _parts(written)]
    except (TypeError, ValueError, OverflowError):
        return None
    return sides if len(sides) == 4 and all(map(math.isfinite, sides)) else None


def _parts(written: Any) -> Iterator[Any]:
    """Yield numbers of lists within lists, and of a text such as ``<box>[[1, 2, 3, 4]]</box>``."""
    if isinstance(written, (list, tuple)):
        for part in written[:5]:
            yield from _parts(part) if isinstance(part, (list, tuple)) else (part,)
    elif isinstance(written, str):
        yield from _NUMBER.findall(written)


def _within(sides: Sequence[float], unit: Size) -> Box | None:
    """Return the box from 0 to 1, None if it lies outside of the picture or is turned."""
    left, top, right, bottom = (side / length for side, length in zip(sides, 2 * unit))
    if left > right or top > bottom:
        return None
    if min(left, top) < -_MARGIN or max(right, bottom) > 1.0 + _MARGIN:
        return None
    return (max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0))


def _alike(box: Box | None, other: Box | None) -> bool:
    return box is not None and other is not None and all(
        abs(side - side_of_other) <= _MARGIN for side, side_of_other in zip(box, other))


class UnitWatch:
    """Notices once that a model writes most of its boxes in another unit than it was asked for."""

    def __init__(self) -> None:
        self._boxes = self._astray = 0
        self._is_told = False

    def note(self, astray: bool) -> bool:
        """Take a box into account; return whether it is time to say so."""
        self._boxes += 1
        self._astray += astray
        is_wrong = self._boxes >= _FEWEST and 2 * self._astray > self._boxes
        is_news = is_wrong and not self._is_told
        self._is_told |= is_wrong
        return is_news
