# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the car does, from its signals: for the model in words, and as events that move tokens.

The same for the node and for recordings. Nothing here raises: whatever a signal is, the pictures
are described.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

from vts_ros.pipeline.events import Event, EventLog
from vts_ros.pipeline.signal_map import Signal
from vts_ros.vlm.vehicle import TurnSignal, Vehicle

#: What the car said of itself longer ago is not said to the model.
VALID_SEC = 1.0
#: A deceleration and a yaw rate that drivers avoid where nothing forces them: about 0.3 g, and a
#: turn at a crossing taken fast.
HARD_BRAKING_MPS2, SHARP_TURN_RADPS = 3.0, 0.4
#: Over so long a signal is averaged, so that a pothole is no braking.
STEADY_SEC = 0.3
#: What goes on after so short a pause is the same event.
PAUSE_SEC = 0.5

Kind = Literal['hard_braking', 'sharp_turn']


class _Known(NamedTuple):
    value: float
    at_sec: float
    valid_sec: float
    signal: Signal | None

    def holds(self, now_sec: float) -> bool:
        return self.valid_sec == 0.0 or 0.0 <= now_sec - self.at_sec < self.valid_sec


class _Course:
    """The last values of a source, as far as they are of the last moment."""

    def __init__(self) -> None:
        self._values: deque[tuple[int, float]] = deque(maxlen=512)

    def add(self, stamp_ns: int, value: float) -> None:
        if self._values and stamp_ns <= self._values[-1][0]:
            # Time went back, or stands.
            self._values.clear()
        self._values.append((stamp_ns, value))
        while len(self._values) > 2 and stamp_ns - self._values[1][0] >= STEADY_SEC * 1e9:
            self._values.popleft()

    @property
    def seconds(self) -> float:
        return (self._values[-1][0] - self._values[0][0]) * 1e-9 if self._values else 0.0

    def is_steady(self) -> bool:
        """Return whether it spans the moment, and has no hole in which anything may have been."""
        return STEADY_SEC <= self.seconds + 1e-6 <= 4 * STEADY_SEC

    def mean(self) -> float:
        """Return the mean over time, by trapezoids."""
        area = sum((after[0] - before[0]) * 1e-9 * (after[1] + before[1]) / 2
                   for before, after in pairwise(self._values))
        return area / self.seconds

    def slope(self) -> float:
        return (self._values[-1][1] - self._values[0][1]) / self.seconds


class VehicleSignals:
    """
    The last signals of the car, as long as they are true.

    Parameters
    ----------
    seconds
        The clock for durations.
    is_told, is_evidence
        Whether models are told at the moment, and whether events move tokens; either may be
        switched off alone.
    events
        Returns the log that events go to; None while there is none.

    """

    def __init__(self, seconds: Callable[[], float], is_told: Callable[[], bool],
                 is_evidence: Callable[[], bool] = lambda: False,
                 events: Callable[[], EventLog | None] = lambda: None) -> None:
        self._seconds, self._is_told = seconds, is_told
        self._is_evidence, self._events = is_evidence, events
        self._known: dict[str, _Known] = {}
        self._courses: dict[tuple[str, str], _Course] = {}
        self._open: dict[str, Event] = {}

    def take(self, name: str, value: float, stamp_ns: int, signal: Signal | None = None,
             source: str = '') -> None:
        """
        Take the newest value of a signal.

        Parameters
        ----------
        name
            One of ``signal_map.UNITS``; the value is in the unit of REP 103.
        stamp_ns
            When it was true, in the clock of the pictures.
        signal
            Of the map, where it is one of these.
        source
            Tells sources of the same name apart.

        """
        own = self._known.get(name)
        # What the map names comes before what is guessed from other topics.
        if signal is not None or own is None or own.signal is None \
                or not own.holds(self._seconds()):
            self._known[name] = _Known(value, self._seconds(), VALID_SEC if signal is None
                                       else signal.valid_sec, signal)
        if self._is_evidence() or self._is_told():
            self._notice(name, value, stamp_ns, signal, source)

    def vehicle(self) -> Vehicle | None:
        """Return what the car does; None if models are not told, or nothing is known."""
        if not self._is_told():
            return None
        now = self._seconds()
        known = {name: value for name, value in self._known.items() if value.holds(now)}
        if not known:
            return None

        def value(name: str) -> float | None:
            return known[name].value if name in known else None

        def is_over(name: str) -> bool | None:
            value = known.get(name)
            return None if value is None or value.signal is None else abs(
                value.value) >= value.signal.over

        turned = is_over('steering')
        return Vehicle(
            speed_mps=value('speed'), yaw_rate_radps=value('yaw_rate'),
            turn_signal=_turn(known.get('turn_signal')), is_braking=is_over('brake'),
            has_wipers_on=is_over('wipers'),
            steering=None if not turned else 'left' if known['steering'].value > 0 else 'right')

    def _notice(self, name: str, value: float, stamp_ns: int, signal: Signal | None,
                source: str) -> None:
        """Make an event of what the car does, or let the one that goes on last longer."""
        least = None if signal is None else signal.event
        if name in ('brake', 'steering'):
            kind: Kind = 'hard_braking' if name == 'brake' else 'sharp_turn'
            if least is not None and abs(value) >= least:
                self._add(kind, stamp_ns, stamp_ns)
            return
        if name not in ('speed', 'acceleration', 'yaw_rate'):
            return
        course = self._courses.setdefault((name, source), _Course())
        course.add(stamp_ns, value)
        if not course.is_steady():
            return
        began_ns = stamp_ns - round(course.seconds * 1e9)
        if name == 'yaw_rate':
            if abs(course.mean()) >= (least or SHARP_TURN_RADPS):
                self._add('sharp_turn', began_ns, stamp_ns)
            return
        along = course.mean() if name == 'acceleration' else self._along(course, value)
        if -along >= (least or HARD_BRAKING_MPS2):
            self._add('hard_braking', began_ns, stamp_ns)

    @staticmethod
    def _along(course: _Course, speed_mps: float) -> float:
        """Return the acceleration in the direction of travel, also backwards."""
        return course.slope() * (1.0 if speed_mps >= 0.0 else -1.0)

    def _add(self, kind: Kind, start_ns: int, end_ns: int) -> None:
        log = self._events()
        if log is None:
            return
        last = self._open.get(kind)
        if last is not None and last.start_ns <= end_ns and \
                start_ns - last.end_ns <= PAUSE_SEC * 1e9:
            start_ns, end_ns = last.start_ns, max(end_ns, last.end_ns)
        event = Event(kind, start_ns, end_ns, 1.0 if self._is_evidence() else 0.0,
                      is_told=self._is_told())
        self._open[kind] = event
        log.add(event)


def _turn(known: _Known | None) -> TurnSignal | None:
    if known is None or known.signal is None:
        return None
    states: tuple[TurnSignal, ...] = ('off', 'left', 'right', 'hazard')
    return next((state for state in states if known.signal.turns.get(state) == known.value), None)
