# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node knows about its own health, and how that reads on ``/diagnostics``."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import time

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np

from vts_ros.errors import VtsError
from vts_ros.nodes.conversions import to_status
from vts_ros.pipeline.raw_images import camera_name
from vts_ros.pipeline.report import SceneReport

HARDWARE_ID = 'vts_ros'
#: Silence of a camera that is worth a warning where any age of pictures is accepted.
SILENCE_SEC = 3.0
#: For so long a picture that could not be used is worth a warning.
PROBLEM_SEC = 5.0
#: So many frames in a row that no set takes are worth a warning.
UNMATCHED = 10
#: From this share of its memory on, a GPU is nearly full.
GPU_FULL = 0.95

#: Whether it is worth a warning, the message, and the values of a part.
Part = tuple[bool, str, dict[str, object]]


@dataclass
class CameraHealth:
    """
    One camera topic.

    Attributes
    ----------
    given_name
        Name in reports; without one it follows from topic and frame_id, as offline.
    seconds
        The clock for durations: steady, or that of a recording.
    time_goes_on
        Whether that clock may still move; where it does not, durations are those of the machine.
    frame_id
        That of the last message.
    stamp_ns
        Time of the newest picture.
    counters
        Messages ``received``, ``refused``, from the ``future`` and with ``no_stamp``, what the
        buffer did with the others, pictures that turned out ``broken`` when decoded, and those
        ``lost`` on their way.
    problem
        Why the last picture that could not be used could not.
    problem_at
        When that was, seconds on its clock.
    arrivals
        When the last messages came, seconds on its clock.
    delivery_ms
        Time from publication to callback of the last messages, by the clocks of both machines.
    incompatible
        QoS policy that a publisher does not offer, if there is one.

    """

    topic: str
    given_name: str = ''
    seconds: Callable[[], float] = time.monotonic
    time_goes_on: Callable[[], bool] = lambda: True
    frame_id: str = ''
    stamp_ns: int = 0
    counters: Counter[str] = field(default_factory=Counter)
    problem: str = ''
    problem_at: float = float('-inf')
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=30))
    delivery_ms: deque[float] = field(default_factory=lambda: deque(maxlen=300))
    incompatible: str = ''

    def __post_init__(self) -> None:
        """Take the name from the topic if none is given."""
        self.name = self.given_name or camera_name(self.topic)
        self._unmatched = 0
        # By the clock of the machine.
        self._arrived_at = float('-inf')

    def received(self, frame_id: str, published_ns: int = 0) -> None:
        """Note that a message came; the first one settles the name if none is given."""
        if not (self.arrivals or self.given_name):
            self.name = camera_name(self.topic, frame_id)
        self.frame_id = frame_id
        self.counters['received'] += 1
        self.arrivals.append(self.seconds())
        self._arrived_at = time.monotonic()
        if published_ns:
            self.delivery_ms.append(1e-6 * (time.time_ns() - published_ns))

    def unusable(self, kind: str, reason: str, count: int = 1) -> bool:
        """Count pictures as lost, refused or broken; return whether that is news."""
        is_news = not self.has_problem()
        self.counters[kind] += count
        self.problem, self.problem_at = reason, self.seconds()
        return is_news

    def has_problem(self) -> bool:
        """Return whether there lately was a picture that could not be used."""
        return self.seconds() - self.problem_at < PROBLEM_SEC

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
        silent_sec = self.seconds() - self.arrivals[-1]
        if not self.time_goes_on():
            silent_sec = time.monotonic() - self._arrived_at
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
        return (len(self.arrivals) - 1) / max(self.seconds() - self.arrivals[0], 1e-9)

    def status(self, node: str, now_ns: int, limit_sec: float, publishers: str
               ) -> DiagnosticStatus:
        """Return the status, with a remedy where pictures are missing."""
        missing = self.missing(now_ns, limit_sec)
        level, message = DiagnosticStatus.OK, 'pictures arrive'
        if not self.arrivals and self.incompatible:
            level = DiagnosticStatus.ERROR
            message = f'incompatible QoS ({self.incompatible}): {publishers}'
        elif not self.arrivals:
            level, message = DiagnosticStatus.WARN, f'{missing}: {publishers}'
        elif self.has_problem():
            level, message = DiagnosticStatus.WARN, self.problem
        elif missing:
            level, message = DiagnosticStatus.ERROR, missing
        elif self.fits_no_set():
            level = DiagnosticStatus.WARN
            message = 'no frame within buffer.max_skew_sec of those of the other cameras'
        return to_status(f'{node}: camera {self.name}', level, message, HARDWARE_ID, {
            'topic': self.topic, 'rate_hz': self.rate_hz(), 'age_sec': self.age_sec(now_ns),
            'delivery_p99_ms': percentile(self.delivery_ms, 99),
            **self.counters})

    def placed(self, outcome: str, stamp_ns: int) -> None:
        """Note what the buffer did with a frame."""
        self.counters[outcome] += 1
        self._unmatched = self._unmatched + 1 if outcome == 'unmatched' else 0
        if outcome != 'late':
            self.stamp_ns = stamp_ns

    def forget(self) -> None:
        """Start anew after time went back: what came before is of another drive."""
        self.arrivals.clear()
        self.problem_at = float('-inf')
        self.stamp_ns = 0

    def fits_no_set(self) -> bool:
        """Return whether the last frames were all too far from those of other cameras."""
        return self._unmatched >= UNMATCHED


@dataclass
class PipelineHealth:
    """
    What came out of the worker.

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
        When that was, or since when one is due; seconds on the steady clock.
    errors
        What went wrong in each part since it last went well.
    info
        What runs where, see ``Pipeline.info``; empty while no model is loaded. Read once, as
        another thread must not look into a pipeline that runs.
    stats
        What was not computed again, see ``Pipeline.stats``; as it was after the last job.

    """

    counters: Counter[str] = field(default_factory=Counter)
    vlm_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    tokens_per_sec: float = 0.0
    report: SceneReport | None = None
    answered_at: float = field(default_factory=time.monotonic)
    errors: dict[str, str] = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, float] = field(default_factory=dict)

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
        self.answered_at = time.monotonic()
        # Replaced, not emptied: another thread may be going through the old ones.
        self.errors = {}

    def failed(self, error: Exception) -> str:
        """Note that something could not be done, and in which part; return it as one text."""
        self.counters['failed'] += 1
        text = f'{type(error).__name__}: {error}'
        component = error.component if isinstance(error, VtsError) else 'pipeline'
        self.errors = {'pipeline': text, component: text}
        return text

    def due(self) -> None:
        """Note that answers are due from now on."""
        self.answered_at = time.monotonic()

    def statuses(self, node: str, info: Mapping[str, str], state: str, warning: str = '',
                 job: str = '') -> list[DiagnosticStatus]:
        """
        Return the status of engine, sparsifier, language model and of the whole.

        Parameters
        ----------
        info
            What runs where; empty while no model is loaded.
        state
            What the node does, where nothing is wrong.
        warning
            Why the answers of the whole are not as they should be.
        job
            What the worker does, ``''`` where it waits.

        """
        parts = {
            'engine': self._engine(info), 'sparsifier': self._sparsifier(),
            'vlm': self._vlm(info), 'pipeline': self._whole(state, warning, job)}
        found, errors = [], self.errors
        for part, (problem, message, values) in parts.items():
            level = DiagnosticStatus.WARN if problem else DiagnosticStatus.OK
            if part in errors:
                level, message = DiagnosticStatus.ERROR, errors[part]
            found.append(to_status(f'{node}: {part}', level, message, HARDWARE_ID, values))
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
            'since_answer_sec': time.monotonic() - self.answered_at,
            **{name: self.counters[name] for name in
               ('described', 'confirmed', 'skipped', 'unanswered', 'failed', 'questions_refused')},
            **self._stats_of('deadline', 'speak')}


def is_unparsed(report: SceneReport) -> bool:
    """Return whether an answer was not understood; one that was rejected is another matter."""
    return report.answer.risk == 'unknown' and report.in_distribution is not False


def percentile(values: Iterable[float], q: float) -> float:
    """Return a percentile; 0 of nothing."""
    found = list(values)
    return float(np.percentile(found, q)) if found else 0.0


def gpu_status(node: str, device: str) -> DiagnosticStatus | None:
    """Return the status of the memory of a GPU; None for other devices."""
    if not device.startswith('cuda'):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    used = 1.0 - free / total
    is_full = used > GPU_FULL
    return to_status(
        f'{node}: gpu', DiagnosticStatus.WARN if is_full else DiagnosticStatus.OK,
        f'{used:.0%} of the memory used', HARDWARE_ID, {
            'device': device, 'name': torch.cuda.get_device_name(torch.device(device)),
            'used_mib': (total - free) / 2**20, 'total_mib': total / 2**20,
            'of_this_process_mib': torch.cuda.memory_reserved(torch.device(device)) / 2**20})
