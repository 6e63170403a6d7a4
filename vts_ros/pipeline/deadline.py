# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Share of visual tokens and length of the answer with which a window meets its deadline.

The latency model has three parts: everything before the language model, prefill per token, and
decoding per token. Each is measured on the last answers and taken at a high quantile, so that the
plan also holds for slow answers. A margin grows with every answer that is late nevertheless and
shrinks with the others, so that few are late in the long run (as in adaptive conformal inference,
Gibbs and Candès, 2021, arXiv 2106.00170).

If the deadline is too short, first tokens are dropped, fewer where the proposal network sees a
risk; then the answer is cut, never before risk and object; then more tokens, down to the minimum.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: Of the measured times; a plan adds several of them, so fewer answers are late than that.
QUANTILE = 0.95
#: Number of past answers that are used.
MEMORY = 32
#: Share of the answers that may be late; step and maximum of the margin, in shares of the limit.
MAY_BE_LATE, FOLLOWS, WIDEST = 0.03, 0.05, 0.3


class Plan(NamedTuple):
    """Share of the visual tokens of a window, and longest answer in tokens."""

    keep_ratio: float
    max_new_tokens: int


@dataclass(frozen=True)
class AnswerTiming:
    """
    The times of an answer.

    Attributes
    ----------
    visual_tokens, prompt_tokens
        Tokens that were prefilled for the answer: those of the pictures, and all.
    written
        Tokens of the answer.
    facts
        Number of these until risk and object were complete.
    whole
        Whether it came to its end, or to the longest allowed answer.
    prefill_ms, decode_ms, total_ms
        Time to the first token, for the other tokens, and in all.

    """

    visual_tokens: int
    prompt_tokens: int
    written: int
    facts: int
    whole: bool
    prefill_ms: float
    decode_ms: float
    total_ms: float


class LatencyModel(NamedTuple):
    """
    Expected times, by the last answers.

    Attributes
    ----------
    before_ms
        Everything but prefill and decoding.
    token_ms
        Prefill, per token.
    step_ms
        Decoding, per token; prefill includes one such step.
    text_tokens
        Of the prompt without the pictures.
    length, facts
        Tokens of an uncut answer, and of its beginning with risk and object.

    """

    before_ms: float
    token_ms: float
    step_ms: float
    text_tokens: float
    length: float
    facts: float

    @classmethod
    def of(cls, spent: deque[AnswerTiming], lengths: deque[int]) -> LatencyModel:
        """Return the latency model of the slow answers among these."""
        def high(values: list[float]) -> float:
            return float(np.quantile(values, QUANTILE))

        steps = [answer.decode_ms / max(answer.written - 1, 1) for answer in spent]
        step_ms = high(steps)
        usual_ms = float(np.median(steps))
        return cls(
            before_ms=high([answer.total_ms - answer.prefill_ms - answer.decode_ms
                            for answer in spent]),
            token_ms=high([max(answer.prefill_ms - usual_ms, 0.0) / max(answer.prompt_tokens, 1)
                           for answer in spent]),
            step_ms=step_ms,
            text_tokens=float(max(
                answer.prompt_tokens - answer.visual_tokens for answer in spent)),
            length=high([float(length) for length in lengths]),
            facts=float(max(answer.facts for answer in spent)))


class Deadline:
    """
    Plans windows by what those before took.

    Parameters
    ----------
    min_keep_ratio
        Never keeps less than this share of the visual tokens.

    """

    def __init__(self, min_keep_ratio: float = 0.2) -> None:
        self.min_keep_ratio = min_keep_ratio
        self._spent: deque[AnswerTiming] = deque(maxlen=MEMORY)
        self._lengths: deque[int] = deque(maxlen=MEMORY)
        self._is_cold = True
        self._margin = 0.0
        # The deadline of the last plan that was to hold it.
        self._held_ms: float | None = None

    def note(self, spent: AnswerTiming) -> None:
        """Learn from the answer to the window that was planned last."""
        if self._held_ms is not None:
            is_late = spent.total_ms > self._held_ms
            self._margin = float(np.clip(
                self._margin + FOLLOWS * (is_late - MAY_BE_LATE), 0.0, WIDEST))
        if len(self._spent) == 1 and self._is_cold:
            # The first answer also paid for what is set up once: it only stands in for a better.
            self._spent.clear()
            self._is_cold = False
        self._spent.append(spent)
        if spent.whole or not self._lengths:
            self._lengths.append(spent.written)

    def plan(self, deadline_ms: float, most: Plan, visual_tokens: int, risk: float) -> Plan:
        """
        Return what the next window gets.

        Parameters
        ----------
        deadline_ms
            Time for the answer, from the beginning; 0 is without a limit.
        most
            What it gets where time is no object.
        visual_tokens
            Of the whole window; 0 where dropping some would save no time.
        risk
            How much there is to be seen, 0 to 1.

        Returns
        -------
        At most what is wanted. Before the first answer that is what it gets: nothing is known.

        """
        self._held_ms = None
        if not deadline_ms or not self._spent:
            return most
        costs = LatencyModel.of(self._spent, self._lengths)
        for_model_ms = (deadline_ms * (1.0 - self._margin) - costs.before_ms
                        - costs.token_ms * costs.text_tokens)
        picture_ms = costs.token_ms * visual_tokens
        floor = min(self.min_keep_ratio, most.keep_ratio)
        facts = min(costs.facts, float(most.max_new_tokens))

        def ratio_for(length: float) -> float:
            """Return the keep ratio that is possible with an answer of this length."""
            left_ms = for_model_ms - costs.step_ms * length
            return left_ms / picture_ms if picture_ms else most.keep_ratio

        def length_for(ratio: float) -> float:
            left_ms = for_model_ms - picture_ms * ratio
            return left_ms / costs.step_ms if costs.step_ms else float(most.max_new_tokens)

        wanted = min(costs.length, float(most.max_new_tokens))
        where_risky = floor + (most.keep_ratio - floor) * min(max(risk, 0.0), 1.0)
        ratio = float(np.clip(ratio_for(wanted), where_risky, most.keep_ratio))
        if length_for(ratio) < facts:
            ratio = float(np.clip(ratio_for(facts), floor, ratio))
        time_left = length_for(ratio)
        if time_left >= facts:
            self._held_ms = deadline_ms
        return Plan(ratio, int(np.clip(time_left, max(facts, 1.0), most.max_new_tokens)))
