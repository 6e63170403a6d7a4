# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Questions about a window of which the truth is known, right answers, and how any is graded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vts_ros.lab.scenes.question_kinds import KINDS, PRESENCE
from vts_ros.lab.scenes.scene_truth import WindowTruth
from vts_ros.lab.scenes.sentences import pick, write


@dataclass(frozen=True)
class Question:
    """
    A question about a window.

    Attributes
    ----------
    kind
        Key of ``KINDS``.
    answer
        A right one.
    facts
        What a right answer states: true values by kind, that of the question first.

    """

    kind: str
    text: str
    answer: str
    facts: Mapping[str, str]

    @property
    def topic(self) -> str:
        """Return the kind, or 'presence' whatever is looked for."""
        return 'presence' if self.kind in PRESENCE else self.kind

    def is_right(self, text: str) -> bool:
        """Grade a free answer as ``answer_right`` does."""
        return _states(self.facts, text)


def questions(truth: WindowTruth, rng: np.random.Generator, n: int = 5) -> list[Question]:
    """Ask n different kinds of questions about a window, fewer if it has no more to ask."""
    kinds = [name for name in KINDS
             if name not in PRESENCE and KINDS[name].value(truth) is not None]
    # That something is not there is only known where all is known.
    if truth.is_whole:
        kinds.append(_presence_kind(truth, rng))
    return [_question(kinds[i], truth, rng)
            for i in rng.permutation(len(kinds))[:n]]


def answer_right(question: str, truth: WindowTruth, text: str) -> bool:
    """
    Grade a free answer by the facts that it states.

    It is right if it states the true value of what is asked, and no other value of that, in
    whatever words of this grammar. Where a reason is asked for, too, that must be true in object,
    place and motion. What else an answer says is not graded.

    Parameters
    ----------
    question
        Kind or text of the question.
    truth
        Truth of the window that was asked about.
    text
        The answer.

    Returns
    -------
    bool
        False also where the answer states nothing that can be read, and where the truth is not
        clear enough to ask.

    Raises
    ------
    ValueError
        If no such question is known.

    """
    name = question if question in KINDS else _KIND_BY_TEXT.get(question.strip().lower())
    if name is None:
        raise ValueError(f'unknown question {question!r}')
    return _states(_asked(name, truth), text)


def _states(values: Mapping[str, str], text: str) -> bool:
    """Tell whether a text states these values of kinds, and no others of them."""
    return bool(values) and all(
        KINDS[name].stated(text) == {value} for name, value in values.items())


def _asked(name: str, truth: WindowTruth) -> dict[str, str]:
    """Return what an answer must state; nothing where the truth is not clear enough."""
    values = {kind: KINDS[kind].value(truth) for kind in (name, *KINDS[name].reasons)}
    return {kind: value for kind, value in values.items() if value is not None}


def _question(name: str, truth: WindowTruth, rng: np.random.Generator) -> Question:
    kind = KINDS[name]
    facts = _asked(name, truth)
    templates = kind.answers[facts[name] if facts[name] in kind.answers else '*']
    return Question(name, pick(rng, kind.texts), write(pick(rng, templates), truth, rng),
                    facts)


def _presence_kind(truth: WindowTruth, rng: np.random.Generator) -> str:
    """Choose what to look for. Slightly more often present: some windows have nothing."""
    by_value: dict[str | None, list[str]] = {'yes': [], 'no': [], None: []}
    for name in PRESENCE:
        by_value[KINDS[name].value(truth)].append(name)
    wanted = 'yes' if rng.random() < 0.6 else 'no'
    return pick(rng, by_value[wanted] or by_value['no'] or by_value['yes'])


_KIND_BY_TEXT = {text.lower(): name for name, kind in KINDS.items() for text in kind.texts}

#: All questions as they are asked, whether it is safe first.
TAUGHT = tuple(text for name in ('safety', *(kind for kind in KINDS if kind != 'safety'))
               for text in KINDS[name].texts)
