# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record of windows and answers, and its diagnostic statuses. No ROS."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import time
from typing import Any

import numpy as np

from vts_ros.errors import VtsError
from vts_ros.pipeline.report import SceneReport
from vts_ros.pipeline.report_messages import HARDWARE_ID, Make, status

#: Levels of diagnostic_msgs/DiagnosticStatus.
_OK, _WARN, _ERROR = 0, 1, 2

#: Whether it is worth a warning, the message, and the values of a part.
Part = tuple[bool, str, dict[str, object]]


@dataclass
class PipelineHealth:
    """
    The record of what the worker did.

    Attributes
    ----------
    counters
        Windows ``described``, ``confirmed`` (the answer before holds still, and the language
        model was not asked), ``skipped`` (a newer one came before the worker was free),
        ``unanswered`` (nothing to describe, or interrupted) and ``failed``; answers that could
        not be ``unparsed``, and ``questions_refused``.
    vlm_ms, tokens_per_sec
        Time of the language model for the last answers, and how fast it wrote the last one.
    report
        The last report.
    answered_at
        When that was, or since when one is due; seconds on its clock.
    errors
        What went wrong in each part since it last went well.
    info
        What runs where, see ``Pipeline.info``; empty while no model is loaded. Read once, as
        another thread must not look into a pipeline that runs.
    stats
        What was not computed again, see ``Pipeline.stats``; as it was after the last job.
    seconds
        The clock: that of the machine, or that of a recording.

    """

    counters: Counter[str] = field(default_factory=Counter)
    vlm_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    tokens_per_sec: float = 0.0
    report: SceneReport | None = None
    answered_at: float = 0.0
    errors: dict[str, str] = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, float] = field(default_factory=dict)
    seconds: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Start: answers are due from now on."""
        self.due()

    def start_anew(self) -> None:
        """Forget answers, counters and errors: the node was configured."""
        self.counters.clear()
        self.vlm_ms.clear()
        self.tokens_per_sec, self.report, self.errors = 0.0, None, {}
        self.due()

    def unloaded(self) -> None:
        """Note that no model is loaded any more."""
        self.info, self.stats = {}, {}

    def described(self, report: SceneReport) -> None:
        """Note an answer."""
        self.counters['confirmed' if report.is_confirmed else 'described'] += 1
        if not report.is_confirmed:
            self.counters['unparsed'] += is_unparsed(report)
            vlm_ms = sum(report.latency_ms.get(stage, 0.0) for stage in ('prefill', 'decode'))
            self.vlm_ms.append(vlm_ms)
            self.tokens_per_sec = 1e3 * report.answer_tokens / vlm_ms if vlm_ms else 0.0
        self.report = report
        self.answered_at = self.seconds()
        # Replaced, not emptied: another thread may be going through the old ones.
        self.errors = {}

    def failed(self, error: Exception) -> str:
        """Note a failure and the part that failed; return it as text."""
        self.counters['failed'] += 1
        self.errors = _by_part(error)
        return self.errors['pipeline']

    def waits(self, error: Exception) -> None:
        """Note why there is no language model yet: no answer fails of that."""
        self.errors = _by_part(error)

    def contacted(self) -> None:
        """Note that there is a language model, and that answers are due from now on."""
        self.errors = {}
        self.due()

    def due(self) -> None:
        """Note that answers are due from now on."""
        self.answered_at = self.seconds()

    def statuses(self, make: Make, node: str, info: Mapping[str, str], state: str,
                 warning: str = '', job: str = '') -> list[Any]:
        """
        Return the status of engine, sparsifier, language model and of the whole.

        Parameters
        ----------
        make
            Makes the messages.
        node
            Prefix of their names.
        info
            What runs where; empty while no model is loaded.
        state
            State of the node, shown if nothing is wrong.
        warning
            What is wrong with the answers, or ``''``.
        job
            What the worker does, ``''`` where it waits.

        """
        parts = {
            'engine': self._engine(info), 'sparsifier': self._sparsifier(),
            'vlm': self._vlm(info), 'pipeline': self._whole(state, warning, job)}
        found, errors = [], self.errors
        for part, (problem, message, values) in parts.items():
            level = _WARN if problem else _OK
            if part in errors:
                level, message = _ERROR, errors[part]
            found.append(status(make, f'{node}: {part}', level, message, HARDWARE_ID, values))
        return found

    def _engine(self, info: Mapping[str, str]) -> Part:
        latency_ms = self.report.latency_ms if self.report else {}
        return False, info.get('engine', 'not loaded'), {
            **{name: value for name, value in info.items() if name.startswith('engine_')},
            'propose_ms': latency_ms.get('propose', 0.0)}

    def _sparsifier(self) -> Part:
        report = self.report
        total, kept = (report.tokens_total, len(report.keep)) if report else (0, 0)
        drops_nothing = 0 < total == kept
        message = 'drops nothing: sparsify.keep_ratio is 1' if drops_nothing else \
            'keeps the tokens that matter'
        return drops_nothing, message, {
            'tokens_in': total, 'tokens_out': kept,
            'select_ms': report.latency_ms.get('select', 0.0) if report else 0.0,
            **self._stats_of('frames', 'groups')}

    def _vlm(self, info: Mapping[str, str]) -> Part:
        unparsed = self.report is not None and is_unparsed(self.report)
        message = 'answers' if info else 'not loaded'
        return unparsed, 'the last answer was not understood' if unparsed else message, {
            **info, 'p50_ms': percentile(self.vlm_ms, 50),
            'p95_ms': percentile(self.vlm_ms, 95),
            'tokens_per_sec': self.tokens_per_sec, 'parse_failures': self.counters['unparsed'],
            **self._stats_of('tokens', 'kv', 'draft', 'accepted')}

    def _stats_of(self, *beginnings: str) -> dict[str, object]:
        return {name: value for name, value in self.stats.items() if name.startswith(beginnings)}

    def _whole(self, state: str, warning: str, job: str) -> Part:
        report = self.report
        return bool(warning), warning or state, {
            'state': state, 'job': job, 'age_ms': report.age_ms if report else None,
            'total_ms': report.latency_ms.get('total', 0.0) if report else 0.0,
            'time_to_risk_ms': report.time_to_risk_ms if report else None,
            'since_answer_sec': self.seconds() - self.answered_at,
            **{name: self.counters[name] for name in
               ('described', 'confirmed', 'skipped', 'unanswered', 'failed', 'questions_refused')},
            **self._stats_of('deadline', 'speak')}


def _by_part(error: Exception) -> dict[str, str]:
    """Return what is wrong with the whole, and with the part that an error names."""
    text = f'{type(error).__name__}: {error}'
    component = error.component if isinstance(error, VtsError) else 'pipeline'
    return {'pipeline': text, component: text}


def is_unparsed(report: SceneReport) -> bool:
    """Return whether an answer could not be parsed; a rejected one does not count."""
    return report.answer.risk == 'unknown' and report.in_distribution is not False


def percentile(values: Iterable[float], q: float) -> float:
    """Return a percentile; 0 of nothing."""
    found = list(values)
    return float(np.percentile(found, q)) if found else 0.0
