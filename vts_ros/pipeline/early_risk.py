# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The risk, known while the rest of the answer is still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vts_ros.vlm import OnText
from vts_ros.vlm.answers import Answer, AnswerForm, begun

#: Given what is known so far of an answer: first the level, then the object, too.
OnFacts = Callable[[Answer], None]


class EarlyRisk:
    """
    Finds level and object in an answer that is being written.

    Parameters
    ----------
    read
        Reads an answer that is cut off.
    on_facts
        Called when the level is known and again when the object is; once if both come together.
        Not called for an unknown level.
    clock
        Seconds.
    is_thought
        Whether answers begin within a thought: a draft in it is no answer.
    of_task
        The form of another task than driving.

    Attributes
    ----------
    known_sec
        When the level was there; None before.

    """

    def __init__(self, read: Callable[[str], Answer], on_facts: OnFacts,
                 clock: Callable[[], float], *, is_thought: bool,
                 of_task: AnswerForm | None = None) -> None:
        self._read, self._on_facts = read, on_facts
        self._clock, self._is_thought = clock, is_thought
        self._of_task = of_task
        self._text = ''
        self.known_sec: float | None = None

    def on_text(self, piece: str) -> bool:
        """Take a piece of the answer; return whether more pieces are wanted."""
        self._text += piece
        found = begun(self._text, is_thought=self._is_thought, of_task=self._of_task)
        if found is None:
            return True
        level, is_whole = found
        is_first = self.known_sec is None
        if is_first:
            self.known_sec = self._clock()
        if (is_first or is_whole) and level != 'unknown':
            so_far = self._read(self._text) if is_whole else Answer()
            self._on_facts(replace(so_far, description='', explanation='', action='', risk=level))
        return not is_whole


def told_to_all(listeners: Sequence[OnText]) -> OnText:
    """Return a listener that passes the pieces of an answer to several, until each has enough."""
    wanting = list(listeners)

    def on_text(piece: str) -> bool:
        wanting[:] = [listener for listener in wanting if listener(piece) is not False]
        return bool(wanting)

    return on_text
