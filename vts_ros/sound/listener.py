# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks of sound in, events out, whatever the chunks are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from vts_ros.sound.log_spectrum import LogSpectrum, Resampler, STEP_SEC
from vts_ros.sound.pcm import Chunk
from vts_ros.sound.sound_events import EventDetector, SoundEvent
from vts_ros.sound.sound_network import SoundNetwork

#: A stamp may be so far from where the samples before it end: less is the jitter of what records.
TOLERANCE_SEC = 0.3
#: Zeros for so long are a microphone that is off. What follows is a new beginning: to a network
#: that remembers silence, noise that sets in is a crash.
_OFF_STEPS = round(0.5 / STEP_SEC)


class Listener:
    """
    Listens to one microphone.

    Parameters
    ----------
    network
        What hears; belongs to this listener alone.
    on_event
        Called with every event when it begins, with each step in which it goes on, and when it is
        over, so that it is as long as what was heard.

    Attributes
    ----------
    counters
        Steps that were heard (``steps``), and places where sound is missing (``gaps``), time
        goes back (``back``), or samples are no numbers (``broken``).

    """

    def __init__(self, network: SoundNetwork, on_event: Callable[[SoundEvent], None]) -> None:
        self._network, self._on_event = network, on_event
        self._detector = EventDetector()
        self._spectrum = LogSpectrum()
        self._rate = 0
        self._resampler: Resampler | None = None
        #: Time of the first sample since the last gap, and how many came since.
        self._begin_ns = self._received = self._steps = self._zeros = 0
        self.counters: Counter[str] = Counter()

    @property
    def heard_ns(self) -> int:
        """Return up to when was heard what came."""
        return self._begin_ns + round(self._steps * STEP_SEC * 1e9)

    def hear(self, chunk: Chunk) -> None:
        """Take the next samples; those after a gap are a new beginning."""
        self._follow(chunk)
        samples = chunk.samples
        is_number = np.isfinite(samples)
        if not is_number.all():
            # One that is no number would stay in the memory of the network for ever.
            self.counters['broken'] += 1
            samples = np.where(is_number, samples, 0.0)
        samples = samples.clip(-1.0, 1.0)
        assert self._resampler
        for step in self._resampler.add(samples):
            start_ns = self.heard_ns
            if step.any():
                if self._zeros >= _OFF_STEPS:
                    self._network.begin()
                self._zeros = 0
            else:
                self._zeros += 1
            level_db = self._spectrum.step(step)
            probabilities = self._network.step(level_db)
            self._steps += 1
            self.counters['steps'] += 1
            for event in self._detector.step(
                    [float(value) for value in probabilities], level_db, start_ns, self.heard_ns):
                self._on_event(event)
        self._received += len(samples)

    def _follow(self, chunk: Chunk) -> None:
        """Begin anew where the samples do not go on from those before."""
        away_sec = 1e-9 * (chunk.stamp_ns - self._begin_ns) - self._received / max(1, self._rate)
        if self._resampler and chunk.rate == self._rate and abs(away_sec) <= TOLERANCE_SEC:
            return
        if self._resampler:
            self.counters['back' if away_sec < -TOLERANCE_SEC else 'gaps'] += 1
        self.begin(chunk.stamp_ns, chunk.rate)

    def begin(self, stamp_ns: int, rate: int) -> None:
        """Forget what was heard, and end what goes on."""
        for event in self._detector.end():
            self._on_event(event)
        self._network.begin()
        self._spectrum = LogSpectrum()
        self._rate, self._resampler = rate, Resampler(rate)
        self._begin_ns, self._received, self._steps, self._zeros = stamp_ns, 0, 0, 0
