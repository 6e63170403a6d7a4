# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The risk is read off an answer while it is being written."""

from itertools import count

import pytest

from vts_ros.pipeline.early_risk import EarlyRisk
from vts_ros.vlm.answers import Answer, parse, render

ANSWER = Answer('A street.', 'high', 'child', (0.41, 0.2, 0.55, 1.0), 'It runs.', 'brake')
BOTH = [Answer(risk='high'), Answer(risk='high', label='child', box=ANSWER.box)]


def heard(pieces: list[str], *, is_thought: bool = False) -> tuple[list[Answer], float | None]:
    """Return what is told of an answer that comes in pieces, and when the level was known."""
    told: list[Answer] = []
    early = EarlyRisk(parse, told.append, count(1).__next__, is_thought=is_thought)
    for piece in pieces:
        if not early.on_text(piece):
            break
    return told, early.known_sec


@pytest.mark.parametrize('size', [1, 2, 5, 17])
def test_first_the_level_and_then_the_object(size: int) -> None:
    text = render(ANSWER)
    told, known = heard([text[start:start + size] for start in range(0, len(text), size)])
    assert told == BOTH
    assert known == 1


def test_both_at_once_are_told_once() -> None:
    assert heard([render(ANSWER)]) == (BOTH[1:], 1)


def test_nothing_is_wanted_after_the_object() -> None:
    early = EarlyRisk(parse, lambda answer: None, lambda: 0.0, is_thought=False)
    text = render(ANSWER)
    cut = text.index(', "explanation"')
    assert early.on_text(text[:cut - 1])
    assert not early.on_text(text[cut - 1:])


def test_without_an_object_the_level_is_told_and_that_there_is_none() -> None:
    assert heard(list(render(Answer(risk='none')))) == ([Answer(risk='none')] * 2, 1)


def test_an_unknown_level_is_told_to_nobody() -> None:
    assert heard(list(render(Answer()))) == ([], 1)


def test_a_draft_in_a_thought_is_no_answer() -> None:
    draft = render(Answer(risk='none'))
    assert heard([draft, '</think>', *render(ANSWER)], is_thought=True)[0] == BOTH
    assert heard([f'<think>{draft}', '</think>', *render(ANSWER)])[0] == BOTH
    assert heard([f'<think>{draft}']) == ([], None)


def test_an_answer_in_another_form_is_waited_for() -> None:
    assert heard(list('The risk is "none", I think: {"risk": "none"}')) == ([], None)
