# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Take the thoughts of a model off its answer: a draft in one of them is no answer."""

from __future__ import annotations

import json
import re

#: What models that think before they answer put around the thought.
THOUGHT = ('<think>', '</think>')
_MARK = re.compile('|'.join(map(re.escape, THOUGHT)))
_ESCAPED = re.compile(r'\\.', re.DOTALL)


def after_thoughts(text: str, is_thought: bool, form: re.Pattern[str], most: int) -> str | None:
    """
    Return what a model said after its last thought.

    A mark in a text of the answer, such as ``"the sign says <think>"``, begins and ends nothing.

    Parameters
    ----------
    text
        What the model wrote, perhaps cut off.
    is_thought
        Whether it begins within a thought, which the prompt has opened.
    form
        Matches the beginning of an answer that is in the form from its first letter on.
    most
        Characters of an answer that are looked at.

    Returns
    -------
    The rest of the text; None if it ends within a thought.

    """
    _, closed = THOUGHT
    begin = place = 0
    if is_thought:
        begin = place = text.find(closed) + len(closed)
        if begin < len(closed):
            return None
    while mark := _MARK.search(text, place):
        end = _end_of_text_with(text, begin, place, mark.start(), form, most)
        if end is not None:
            place = end
            continue
        # A thought may end that was opened in a prompt that nobody here has seen.
        end = mark.start() if mark.group() == closed else text.find(closed, mark.end())
        if end < 0:
            return None
        begin = place = end + len(closed)
    return text[begin:]


def _end_of_text_with(text: str, begin: int, place: int, mark: int, form: re.Pattern[str],
                      most: int) -> int | None:
    """Return up to where marks are text of an answer, if that at ``mark`` is; otherwise None."""
    decoder = json.JSONDecoder(strict=False)
    # Shorter, as an error of JSON counts the lines before it.
    looked_at, mark = text[begin:begin + most], mark - begin
    brace = looked_at.find('{', place - begin, mark)
    while brace >= 0:
        try:
            _, end = decoder.raw_decode(looked_at, brace)
        except (ValueError, RecursionError):
            end = brace + 1
        if end > mark:
            return begin + end
        brace = looked_at.find('{', end, mark)
    # No whole object: one that is cut off, if it is one from the first letter on.
    is_text = mark < most and form.match(looked_at) is not None \
        and _ESCAPED.sub('', looked_at[:mark]).count('"') % 2 == 1
    return begin + mark + 1 if is_text else None
