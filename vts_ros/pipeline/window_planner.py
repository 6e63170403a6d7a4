# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a window gets of the time that there is, and what is learned from how long it took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from vts_ros.pipeline.confidence import Tokenizer
from vts_ros.pipeline.context import PreparedWindow
from vts_ros.pipeline.deadline import AnswerTiming, Deadline, Plan
from vts_ros.pipeline.features import StepEntry
from vts_ros.vlm import Generation
from vts_ros.vlm.answers import has_facts


@dataclass(frozen=True)
class WindowPlanner:
    """Plans a window by the deadline, if there is one."""

    most: Plan
    deadline: Deadline | None
    deadline_ms: float

    def __call__(self, entries: Sequence[StepEntry], visual_tokens: int) -> Plan:
        """Return what the window of these entries gets, which have so many visual tokens."""
        if self.deadline is None:
            return self.most
        newest = {entry.frame.camera: entry for entry in entries}
        return self.deadline.plan(
            self.deadline_ms, self.most, visual_tokens=visual_tokens,
            risk=max(float(entry.proposal.saliency.max()) for entry in newest.values()))

    def note(self, prepared: PreparedWindow, generation: Generation,
             latency_ms: dict[str, float], tokenizer: Tokenizer | None) -> None:
        """Have the deadline learn from an answer; without its tokens there is nothing to learn."""
        written, longest = len(generation.token_ids), prepared.plan.max_new_tokens
        if self.deadline is None or not written:
            return
        read = prepared.prefix.length if prepared.prefix is not None else 0
        self.deadline.note(AnswerTiming(
            0 if read else generation.visual_tokens, generation.prompt_tokens - read, written,
            facts=facts_length(generation, tokenizer),
            whole=written < longest or longest == self.most.max_new_tokens,
            prefill_ms=latency_ms['prefill'], decode_ms=latency_ms['decode'],
            total_ms=latency_ms['total']))


def facts_length(generation: Generation, tokenizer: Tokenizer | None) -> int:
    """Return after how many tokens an answer has its facts, all of them where nobody can tell."""
    ids = generation.token_ids
    if tokenizer is None:
        return len(ids)
    if not has_facts(generation.text):
        # Cut too early, or not in the form: so much was too little.
        return 2 * len(ids)
    return bisect_left(range(1, len(ids)), True,
                       key=lambda length: has_facts(str(tokenizer.decode(ids[:length])))) + 1
