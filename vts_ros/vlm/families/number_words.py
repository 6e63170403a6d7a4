# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers in English words, as num2words writes them for the processor of SmolVLM."""

from __future__ import annotations

_SMALL = [
    'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten',
    'eleven', 'twelve', 'thirteen', 'fourteen', 'fifteen', 'sixteen', 'seventeen', 'eighteen',
    'nineteen']
_TENS = ['twenty', 'thirty', 'forty', 'fifty', 'sixty', 'seventy', 'eighty', 'ninety']


def in_words(number: int) -> str:
    """
    Return a number in words: ``forty-two``, ``one hundred and one``.

    Raises
    ------
    ValueError
        If it is below 0 or above 999.

    """
    if not 0 <= number <= 999:
        raise ValueError(f'no words for {number}')
    hundreds, rest = divmod(number, 100)
    if hundreds:
        return f'{_SMALL[hundreds]} hundred' + (f' and {in_words(rest)}' if rest else '')
    if number < len(_SMALL):
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f'-{_SMALL[ones]}' if ones else '')
