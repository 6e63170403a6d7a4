# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Counts what was drafted and which windows met their deadline, for diagnostics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vts_ros.vlm import Generation


class AnswerCounters:
    """Counts over all answers of a pipeline."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def add(self, generations: Sequence[Generation]) -> None:
        """Count the tokens of answers that were drafted."""
        for generation in generations:
            self._count['drafted'] += generation.drafted
            self._count['accepted'] += generation.accepted

    def add_deadline(self, is_late: bool) -> None:
        """Count a window with a deadline."""
        self._count['deadline_windows'] += 1
        self._count['deadline_misses'] += is_late

    def drafted(self) -> dict[str, float]:
        """Return how many tokens were ``drafted`` and ``accepted``, and their ratio."""
        drafted, accepted = self._count['drafted'], self._count['accepted']
        return {'drafted': drafted, 'accepted': accepted,
                'draft_acceptance': accepted / max(drafted, 1)}

    def deadlines(self) -> dict[str, float]:
        """Return ``deadline_windows`` and ``deadline_misses``."""
        return {name: self._count[name] for name in ('deadline_windows', 'deadline_misses')}
