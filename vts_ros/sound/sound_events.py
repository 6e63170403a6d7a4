# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is heard in every step becomes events: kind, time, confidence, coming closer or not."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vts_ros.sound.log_spectrum import band_edges_hz, STEP_SEC

#: What the network knows, in the order of its outputs.
KINDS = ('siren', 'horn', 'screech', 'crash', 'bell')
Trend = Literal['', 'closer', 'away']

#: What an event is called in a sentence.
NAMES = {'siren': 'siren', 'horn': 'horn', 'screech': 'screeching tyres', 'crash': 'crash',
         'bell': 'bell of a level crossing'}
#: Where the tones of sirens are.
_SIREN_HZ = (350.0, 2200.0)
#: Time over which a siren has to become louder or weaker, and by how much (dB per second), before
#: it is said to come closer or to go away: ``vts eval sound`` shows how often that is right.
_TREND_SEC = 4.0
TREND_DB_PER_SEC = 1.2
_TREND_STEPS = round(_TREND_SEC / STEP_SEC)


@dataclass(frozen=True)
class Threshold:
    """
    When a kind is heard.

    Attributes
    ----------
    on
        Least mean probability over the steps that decide.
    steps
        How many steps decide.
    off_steps
        After so many steps below half of ``on`` it is over.

    """

    on: float = 0.9
    steps: int = 5
    off_steps: int = 10


#: A siren or a bell goes on; a crash is short. Chosen on `val`, by drives, by soundtracks
#: and by hours of real sound without any warning: docs/senses.md, "How sure it has to be".
THRESHOLDS: Mapping[str, Threshold] = {
    'siren': Threshold(0.8, 6, 15), 'horn': Threshold(0.5, 3), 'screech': Threshold(0.5, 4),
    'crash': Threshold(0.8, 2, 5), 'bell': Threshold(0.5, 8, 15)}


@dataclass(frozen=True)
class SoundEvent:
    """
    Something that was heard.

    Attributes
    ----------
    kind
        One of KINDS.
    start_ns, end_ns
        From when to when; an event that goes on ends with what was heard last.
    confidence
        Highest mean probability over the steps that decide, 0 to 1.
    trend
        Whether its source comes closer or goes away, where that is clear.
    is_over
        Whether it has ended.

    """

    kind: str
    start_ns: int
    end_ns: int
    confidence: float
    trend: Trend = ''
    is_over: bool = False

    @property
    def text(self) -> str:
        """Return it in words, such as ``siren for 2 s, coming closer``."""
        seconds = max(1, round(1e-9 * (self.end_ns - self.start_ns)))
        trend = {'': '', 'closer': ', coming closer', 'away': ', going away'}[self.trend]
        return f'{NAMES[self.kind]} for {seconds} s{trend}'


class EventDetector:
    """
    Turns the probabilities of steps into events, one at a time of each kind.

    Parameters
    ----------
    thresholds
        When a kind is heard.

    """

    def __init__(self, thresholds: Mapping[str, Threshold] = THRESHOLDS) -> None:
        self._thresholds = [thresholds[kind] for kind in KINDS]
        self._forget()

    def _forget(self) -> None:
        self._trend = LevelTrend()
        self._recent: list[deque[float]] = [
            deque(maxlen=threshold.steps) for threshold in self._thresholds]
        self._quiet = [0] * len(KINDS)
        self._events: list[SoundEvent | None] = [None] * len(KINDS)

    def step(self, probabilities: Sequence[float], level_db: NDArray[np.float32], start_ns: int,
             end_ns: int) -> list[SoundEvent]:
        """
        Take a step; return the events that began, go on or ended with it.

        Parameters
        ----------
        probabilities
            Of KINDS.
        level_db
            Its spectrogram, (STEP_FRAMES, BANDS).
        start_ns, end_ns
            Its time.

        """
        if self._events[KINDS.index('siren')] is None:
            # That it was not there before does not make it come closer.
            self._trend = LevelTrend()
        self._trend.add(level_db)
        told = []
        for number, (kind, threshold) in enumerate(zip(KINDS, self._thresholds, strict=True)):
            probability, recent = float(probabilities[number]), self._recent[number]
            recent.append(probability)
            mean = sum(recent) / threshold.steps
            event = self._events[number]
            self._quiet[number] = 0 if probability >= 0.5 * threshold.on else (
                self._quiet[number] + 1)
            if event is None and mean >= threshold.on:
                # It has begun with the steps that decided.
                since_ns = end_ns - len(recent) * (end_ns - start_ns)
                event = SoundEvent(kind, since_ns, end_ns, mean)
            elif event is None:
                continue
            elif self._quiet[number] >= threshold.off_steps:
                event = replace(event, is_over=True)
            elif not self._quiet[number]:
                event = replace(event, end_ns=end_ns, confidence=max(event.confidence, mean))
            if kind == 'siren' and not self._quiet[number]:
                event = replace(event, trend=self._trend.trend)
            self._events[number] = None if event.is_over else event
            told.append(event)
        return told

    def end(self) -> list[SoundEvent]:
        """Return what goes on, as over: nothing is known of what follows."""
        ended = [replace(event, is_over=True) for event in self._events if event]
        self._forget()
        return ended


class LevelTrend:
    """Whether the loudest tone where sirens are becomes louder or weaker."""

    def __init__(self) -> None:
        edges = band_edges_hz()[1:-1]
        self._bands = (edges > _SIREN_HZ[0]) & (edges < _SIREN_HZ[1])
        self._levels: deque[float] = deque(maxlen=_TREND_STEPS)

    def add(self, level_db: NDArray[np.float32]) -> None:
        """Take the spectrogram of a step."""
        self._levels.append(float(level_db[:, self._bands].max(axis=1).mean()))

    @property
    def slope(self) -> float:
        """Return the median slope in dB per second, 0 where too little was heard."""
        if len(self._levels) < _TREND_STEPS:
            return 0.0
        levels = np.array(self._levels)
        # Pairs half of the time apart or more: the median of their slopes forgives what is short.
        half = len(levels) // 2
        first, second = np.triu_indices(len(levels), half)
        return float(np.median((levels[second] - levels[first]) / ((second - first) * STEP_SEC)))

    @property
    def trend(self) -> Trend:
        """Return what that says of the source."""
        slope = self.slope
        if abs(slope) < TREND_DB_PER_SEC:
            return ''
        return 'closer' if slope > 0.0 else 'away'
