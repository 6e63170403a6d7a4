# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read the facts that a text states, in whatever words of the phrase tables."""

from __future__ import annotations

from collections.abc import Mapping
import re

from vts_ros.lab.scenes.phrases import FACTS, Table

#: What makes a verdict of 'yes' and 'no': the latter is also part of much else.
_PAUSE = r'(?=\s*(?:[,;:.!]|$))'


class FactReader:
    """
    Finds the values that a text states: where phrases overlap, the first and longest.

    Parameters
    ----------
    table
        The phrases of every value.

    """

    def __init__(self, table: Table) -> None:
        self._values = {phrase.lower(): value for value, phrases in table.items()
                        for phrase in (value, *phrases)}
        longest_first = sorted(self._values, key=len, reverse=True)
        words = (re.escape(phrase) + (_PAUSE if phrase in FACTS['verdict'] else r'\b')
                 for phrase in longest_first)
        self._pattern = re.compile(rf'\b(?:{"|".join(words)})')

    def __call__(self, text: str) -> list[str]:
        """Return the values that a text states, in its order."""
        found = self._pattern.findall(' '.join(text.lower().split()))
        return [self._values[phrase] for phrase in found]


_READERS: Mapping[str, FactReader] = {
    fact: FactReader(FACTS[fact]) for fact in ('object', 'place', 'motion', 'action')}


def facts(text: str) -> dict[str, str | None]:
    """
    Read the facts back from an explanation or an action.

    Parameters
    ----------
    text
        Written by this grammar or by a model that learnt from it.

    Returns
    -------
    dict
        ``object``, ``place``, ``motion`` and ``action``: what the text states first, None where
        it does not say.

    """
    return {fact: next(iter(read(text)), None) for fact, read in _READERS.items()}
