# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Guesses at how an answer goes on, from the answers before it.

Scenes stay alike, and models have their turns of phrase. So the tokens that followed the same last
few tokens in one of the last answers are a good guess at the next ones (prompt lookup decoding,
Saxena, 2023, here over answers). How many to guess follows from how often such guesses were right
and from what a token more costs in a pass, both as measured so far: a guess that would cost more
than it saves is not made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: So many answers are remembered, and so many tokens in a row compared.
ANSWERS, ALIKE = 32, 8
#: Most tokens of a guess.
MOST = 64
#: What is measured counts half after so many guesses or passes.
_HALF_LIFE = 40
_FORGET = 0.5 ** (1 / _HALF_LIFE)
#: Before anything is measured: share of a pass that a token more costs.
_TOKEN_COST = 0.02
#: Stands before the first token of an answer.
_BEGIN = -1


class Guess(NamedTuple):
    """Tokens that may come next, and how many tokens before them were alike."""

    tokens: list[int]
    alike: int


class Drafts:
    """
    Answers so far, and how well they foretold the next.

    Parameters
    ----------
    answers
        Tokens of answers, oldest first.

    """

    def __init__(self, answers: Iterable[Sequence[int]] = ()) -> None:
        self._answers: deque[tuple[int, list[int]]] = deque()
        self._added = 0
        # Where the last few tokens stood last: number of the answer, place of the next token.
        self._places: dict[tuple[int, ...], tuple[int, int]] = {}
        self._cost = PassCost()
        # Tokens that were guessed right and wrong by how many before them were alike. At first
        # a longer likeness is believed more.
        self._right = [float(alike) for alike in range(ALIKE + 1)]
        self._wrong = [1.0] * (ALIKE + 1)
        for answer in answers:
            self.add(answer)

    def add(self, answer: Sequence[int]) -> None:
        """Remember an answer."""
        if len(self._answers) == ANSWERS:
            number, tokens = self._answers.popleft()
            for key, _ in _keys(tokens):
                # What it has twice is gone at once.
                if self._places.get(key, (None, 0))[0] == number:
                    del self._places[key]
        tokens = [_BEGIN, *answer]
        self._answers.append((self._added, tokens))
        for key, end in _keys(tokens):
            self._places[key] = self._added, end
        self._added += 1

    def clear(self) -> None:
        """Forget the answers; how dear passes are stays known."""
        self._answers.clear()
        self._places.clear()

    def guess(self, written: Sequence[int], most: int) -> Guess:
        """
        Guess how an answer goes on.

        Parameters
        ----------
        written
            The answer so far.
        most
            Tokens that may be guessed.

        """
        tail = [_BEGIN, *written][-ALIKE:]
        for length in range(len(tail), 0, -1):
            place = self._places.get(tuple(tail[-length:]))
            if place is not None:
                number, end = place
                tokens = self._answers[number - self._answers[0][0]][1]
                reach = min(most, self._reach(length))
                return Guess(tokens[end:end + reach], length)
        return Guess([], 0)

    def note(self, guess: Guess, right: int) -> None:
        """Take in how many tokens of a guess were right, from the first on."""
        if guess.tokens:
            is_wrong = right < len(guess.tokens)
            self._right[guess.alike] = self._right[guess.alike] * _FORGET + right
            self._wrong[guess.alike] = self._wrong[guess.alike] * _FORGET + is_wrong

    def note_pass(self, tokens: int, seconds: float) -> None:
        """Take in how long the model took for so many tokens."""
        self._cost.note(tokens, seconds)

    def _reach(self, alike: int) -> int:
        """Return how many tokens to guess, so that most are written per time."""
        rate = self._right[alike] / (self._right[alike] + self._wrong[alike])
        cost, expected, chance = self._cost.token, 1.0, 1.0
        best, reach = 1.0, 0
        for length in range(1, MOST + 1):
            chance *= rate
            expected += chance
            if expected / (1.0 + cost * length) > best:
                best, reach = expected / (1.0 + cost * length), length
        return reach


class PassCost:
    """What a token more costs in a pass of the model: a line through the passes so far."""

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0

    def note(self, tokens: int, seconds: float) -> None:
        """Take in how long a pass over so many tokens took."""
        for name, value in (('_weight', 1.0), ('_n', tokens), ('_t', seconds),
                            ('_nn', tokens * tokens), ('_nt', tokens * seconds)):
            setattr(self, name, getattr(self, name) * _FORGET + value)

    @property
    def token(self) -> float:
        """Return the cost of a token more, as a share of a pass over one."""
        spread = self._weight * self._nn - self._n ** 2
        if self._weight < 2.0 or spread < 0.01 * self._n ** 2:
            return _TOKEN_COST
        slope = (self._weight * self._nt - self._n * self._t) / spread
        single = (self._t - slope * (self._n - self._weight)) / self._weight
        return max(slope / single, 0.0) if single > 0.0 else 1.0


def _keys(tokens: Sequence[int]) -> Iterable[tuple[tuple[int, ...], int]]:
    """Yield the last few tokens before each place of an answer, of each length, and the place."""
    for end in range(1, len(tokens)):
        for length in range(1, min(ALIKE, end) + 1):
            yield tuple(tokens[end - length:end]), end
