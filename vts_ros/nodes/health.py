# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node knows about its own health, and how that reads on ``/diagnostics``."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
import time

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np

from vts_ros.images import camera_name
from vts_ros.nodes.conversions import to_status
from vts_ros.report import SceneReport

HARDWARE_ID = 'vts_ros'
#: Silence of a camera that is worth a warning where any age of pictures is accepted.
SILENCE_SEC = 3.0
#: For so long a picture that could not be used is worth a warning.
PROBLEM_SEC = 5.0


@dataclass
class CameraHealth:
    """
    One camera topic.

    Attributes
    ----------
    frame_id
        That of the last message.
    stamp_ns
        Time of the newest picture.
    counters
        Messages ``received`` and ``refused``, what the buffer did with the others, and pictures
        that turned out ``broken`` when they were decoded.
    problem
        Why the last picture that could not be used could not.
    problem_at
        When that was, seconds on the steady clock.
    arrivals
        When the last messages came, seconds on the steady clock.

    """

    topic: str
    frame_id: str = ''
    stamp_ns: int = 0
    counters: Counter[str] = field(default_factory=Counter)
    problem: str = ''
    problem_at: float = float('-inf')
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=30))

    def __post_init__(self) -> None:
        """Take the name from the topic."""
        self.name = camera_name(self.topic)

    def received(self, frame_id: str) -> None:
        """Note that a message came; the first one settles the name, as in offline reports."""
        if not self.arrivals:
            self.name = camera_name(self.topic, frame_id)
        self.frame_id = frame_id
        self.counters['received'] += 1
        self.arrivals.append(time.monotonic())

    def unusable(self, kind: str, reason: str) -> bool:
        """Count a picture as refused or broken; return whether that is news."""
        is_news = not self.has_problem()
        self.counters[kind] += 1
        self.problem, self.problem_at = reason, time.monotonic()
        return is_news

    def has_problem(self) -> bool:
        """Return whether there lately was a picture that could not be used."""
        return time.monotonic() - self.problem_at < PROBLEM_SEC

    def missing(self, now_ns: int, limit_sec: float) -> str:
        """
        Return why nothing can be said about the present view of this camera, or ``''``.

        Parameters
        ----------
        now_ns
            Present time in nanoseconds.
        limit_sec
            Largest age of the newest picture by its stamp; 0 takes any.

        """
        if not self.arrivals:
            return 'no picture yet'
        silent_sec = time.monotonic() - self.arrivals[-1]
        if silent_sec > (limit_sec or SILENCE_SEC):
            return f'no picture for {silent_sec:.1f} s'
        age_sec = self.age_sec(now_ns)
        if limit_sec and age_sec > limit_sec:
            return (f'pictures are {age_sec:.1f} s old; for a recording set use_sim_time and '
                    'play it with --clock, or set max_frame_age_sec to 0')
        return ''

    def age_sec(self, now_ns: int) -> float:
        """Return the age of the newest picture by its stamp."""
        return (now_ns - self.stamp_ns) * 1e-9 if self.stamp_ns else float('inf')

    def rate_hz(self) -> float:
        """Return the rate of the last messages."""
        if len(self.arrivals) < 2:
            return 0.0
        return (len(self.arrivals) - 1) / max(time.monotonic() - self.arrivals[0], 1e-9)

    def status(self, node: str, now_ns: int, limit_sec: float, publishers: int
               ) -> DiagnosticStatus:
        """Return the status, with a remedy where pictures are missing."""
        missing = self.missing(now_ns, limit_sec)
        level, message = DiagnosticStatus.OK, 'pictures arrive'
        if not self.arrivals:
            level = DiagnosticStatus.WARN
            message = f'{missing}; {publishers} publishers on {self.topic}'
        elif self.has_problem():
            level, message = DiagnosticStatus.WARN, self.problem
        elif missing:
            level, message = DiagnosticStatus.ERROR, missing
        return to_status(f'{node}: camera {self.name}', level, message, HARDWARE_ID, {
            'topic': self.topic, 'rate_hz': self.rate_hz(), 'age_sec': self.age_sec(now_ns),
            **self.counters})


@dataclass
class PipelineHealth:
    """
    What came out of the worker.

    Attributes
    ----------
    counters
        Windows ``described``, ``skipped`` (a newer one came before the worker was free),
        ``unanswered`` (nothing to describe, or interrupted) and ``failed``; answers that could
        not be ``unparsed``, and ``questions_refused``.
    vlm_ms
        Time of the language model for the last answers.
    report
        The last report.
    error
        What went wrong last, if nothing was described since.

    """

    counters: Counter[str] = field(default_factory=Counter)
    vlm_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    report: SceneReport | None = None
    error: str = ''

    def described(self, report: SceneReport) -> None:
        """Note an answer."""
        self.counters['described'] += 1
        self.counters['unparsed'] += report.answer.risk == 'unknown'
        self.vlm_ms.append(sum(report.latency_ms.get(one, 0.0) for one in ('prefill', 'decode')))
        self.report, self.error = report, ''

    def failed(self, error: Exception) -> None:
        """Note that a window could not be described."""
        self.counters['failed'] += 1
        self.error = f'{type(error).__name__}: {error}'

    def statuses(self, node: str, info: Mapping[str, str], state: str) -> list[DiagnosticStatus]:
        """Return the status of engine, sparsifier, language model and of the whole."""
        ok, report = DiagnosticStatus.OK, self.report
        latency_ms = report.latency_ms if report else {}
        unparsed = report is not None and report.answer.risk == 'unknown'
        p50, p95 = np.percentile(self.vlm_ms, (50, 95)) if self.vlm_ms else (0.0, 0.0)
        parts: dict[str, tuple[bytes, str, dict[str, object]]] = {
            'engine': (ok, info.get('engine', 'not loaded'), {
                name: value for name, value in info.items() if name.startswith('engine_')}),
            'sparsifier': (ok, 'keeps the tokens that matter', {
                'tokens_in': report.tokens_total if report else 0,
                'tokens_out': len(report.keep) if report else 0,
                'select_ms': latency_ms.get('select', 0.0)}),
            'vlm': (DiagnosticStatus.WARN if unparsed else ok,
                    'the last answer was not understood' if unparsed else 'answers', {
                        **info, 'p50_ms': float(p50), 'p95_ms': float(p95),
                        'parse_failures': self.counters['unparsed']}),
            'pipeline': (DiagnosticStatus.ERROR if self.error else ok, self.error or state, {
                'state': state, 'age_ms': report.age_ms if report else None,
                'total_ms': latency_ms.get('total', 0.0),
                **{name: self.counters[name] for name in
                   ('described', 'skipped', 'unanswered', 'failed', 'questions_refused')}}),
        }
        return [to_status(f'{node}: {part}', level, message, HARDWARE_ID, values)
                for part, (level, message, values) in parts.items()]
