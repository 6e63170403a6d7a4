# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Health of the cameras and the GPU, as statuses of ``/diagnostics``."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
import time

from diagnostic_msgs.msg import DiagnosticStatus

from vts_ros.nodes.conversions import to_status
from vts_ros.pipeline.pipeline_health import percentile
from vts_ros.pipeline.raw_images import camera_name
from vts_ros.pipeline.report_messages import HARDWARE_ID

#: Silence of a camera that is worth a warning where any age of pictures is accepted.
SILENCE_SEC = 3.0
#: For so long a picture that could not be used is worth a warning.
PROBLEM_SEC = 5.0
#: So many frames in a row that no set takes are worth a warning.
UNMATCHED = 10
#: From this share of its memory on, a GPU is nearly full.
GPU_FULL = 0.95


@dataclass
class CameraHealth:
    """
    One camera topic.

    Attributes
    ----------
    given_name
        Name in reports; without one it follows from topic and frame_id, as offline.
    seconds
        Clock for durations: steady, or that of a recording.
    time_goes_on
        Whether that clock may still advance; if not, durations are those of the machine.
    frame_id
        That of the last message.
    stamp_ns
        Time of the newest picture.
    counters
        Messages ``received``, ``refused``, from the ``future`` and with ``no_stamp``, what the
        buffer did with the others, pictures that turned out ``broken`` when decoded, and those
        ``lost`` on their way. Packets of a video ``waiting`` for one that needs none before, and
        ``overrun`` by others before they were decoded.
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
        """Note the arrival of a message; the first one determines the name if none is given."""
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
        Return why this camera does not show the present, or ``''``.

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
        if limit_sec and not self.stamp_ns:
            return 'no picture yet that can be used'
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
            reason = self.problem if self.has_problem() else publishers
            level, message = DiagnosticStatus.WARN, f'{missing}: {reason}'
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
        """Forget everything after time went back: earlier pictures belong to another drive."""
        self.arrivals.clear()
        self.problem_at = float('-inf')
        self.stamp_ns = 0

    def fits_no_set(self) -> bool:
        """Return whether the last frames were all too far from those of other cameras."""
        return self._unmatched >= UNMATCHED


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
