# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The numbers that H.264 gives its pictures, by which one that was lost is found.

FFmpeg sees such a gap, too, and fills it with the picture before: what follows is smeared, and
nothing says so. (H.265 names the pictures that it needs, and FFmpeg tells that one is missing.)
Fields are those of ITU-T H.264, 7.3.2.1.1 and 7.3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
import re
from typing import NamedTuple

#: Units of a stream begin behind this.
UNIT = re.compile(rb'\x00\x00\x01(.)', re.DOTALL)
#: Kinds of units.
_SLICE, _KEY_SLICE, _PARAMETERS = 1, 5, 7
#: Profiles whose parameters have more in them.
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
#: Of a slice no more is looked at.
_SLICE_BYTES = 32


class _Numbering(NamedTuple):
    """How pictures are numbered: bits of a number, what stands before it, whether gaps are fine.

    A stream of several temporal layers has gaps on purpose.
    """

    bits: int
    has_planes: bool
    has_gaps: bool


class _Bits:
    """Reads a unit bit by bit, without what keeps start codes out of it."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b'\x00\x00\x03', b'\x00\x00')
        self._value, self._left = int.from_bytes(data, 'big'), 8 * len(data)

    def take(self, count: int) -> int:
        """Return so many bits as a number; raise ValueError behind the end."""
        self._left -= count
        if self._left < 0:
            raise ValueError('the unit ends')
        return self._value >> self._left & (1 << count) - 1

    def number(self) -> int:
        """Return an unsigned number of the code of Golomb; of signed ones it takes the bits."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """Return a signed number."""
        code = self.number()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class PictureNumbers:
    """Follows the numbers of the pictures of one stream."""

    def __init__(self) -> None:
        self._numbering: _Numbering | None = None
        #: Of the last picture that others may refer to; None where that is not known.
        self._last: int | None = None

    def lacks_one(self, packet: bytes) -> bool:
        """
        Take a packet in; return whether one that it may need is missing before it.

        Of a stream that is not understood nothing is missing.
        """
        is_missing = False
        try:
            for unit in _units(packet):
                is_missing |= self._is_behind_gap(unit)
        except ValueError:
            return False
        return is_missing

    def _is_behind_gap(self, unit: bytes) -> bool:
        kind, is_referred_to = unit[0] & 0x1f, bool(unit[0] & 0x60)
        if kind == _PARAMETERS:
            self._numbering = _numbering(_Bits(unit[1:]))
        if kind not in (_SLICE, _KEY_SLICE) or self._numbering is None:
            return False
        bits = _Bits(unit[1:_SLICE_BYTES])
        is_first = bits.number() == 0
        bits.number(), bits.number()
        if self._numbering.has_planes:
            bits.take(2)
        number, last = bits.take(self._numbering.bits), self._last
        if is_referred_to:
            self._last = number
        if kind == _KEY_SLICE or last is None or not is_first or self._numbering.has_gaps:
            return False
        # The second field of a picture has the number of the first.
        return number not in (last, (last + 1) % (1 << self._numbering.bits))


def _units(packet: bytes) -> Iterator[bytes]:
    begins = [match.start(1) for match in UNIT.finditer(packet)]
    for begin, end in zip(begins, [*begins[1:], len(packet) + 3]):
        yield packet[begin:end - 3]


def _numbering(bits: _Bits) -> _Numbering:
    """Return what the parameters of a sequence say of the numbers of its pictures."""
    profile = bits.take(8)
    bits.take(16)
    bits.number()
    has_planes = False
    if profile in _HIGH:
        chroma = bits.number()
        has_planes = chroma == 3 and bool(bits.take(1))
        bits.number(), bits.number()
        bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    count = bits.number() + 4
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1)
        bits.number(), bits.number()
        for _ in range(min(bits.number(), 255)):
            bits.number()
    bits.number()
    return _Numbering(count, has_planes, bool(bits.take(1)))


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
