# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A sound that comes from a moving vehicle: Doppler shift, distance, air and houses between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vts_ros.lab.sounds.waves import between, filtered, Samples, slow_changes, with_peak
from vts_ros.sound.log_spectrum import SAMPLE_RATE

SPEED_OF_SOUND_MPS = 343.0


@dataclass(frozen=True)
class Pass:
    """
    How a vehicle moves past the microphone, in a straight line relative to it.

    Attributes
    ----------
    speed_mps
        Relative speed along its line.
    aside_m
        Smallest distance.
    nearest_sec
        When that is reached, which may be before the begin or after the end.

    """

    speed_mps: float
    aside_m: float
    nearest_sec: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, seconds: float) -> Pass:
        """Return one of any kind: coming, going, passing, or as fast as the microphone."""
        speed = 0.0 if rng.random() < 0.25 else rng.uniform(5.0, 33.0)
        return cls(speed, rng.uniform(3.0, 40.0),
                   rng.uniform(-0.6 * seconds, 1.6 * seconds))

    def distance_m(self, at_sec: Samples) -> Samples:
        """Return the distance at some times."""
        return np.hypot(self.speed_mps * (at_sec - self.nearest_sec), self.aside_m)

    def heard(self, sound: Samples, start_sec: float = 0.0) -> Samples:
        """
        Return what arrives of a sound of the vehicle, louder near than far and shifted in pitch.

        Parameters
        ----------
        sound
            What the vehicle emits; what is heard has the same length.
        start_sec
            When the sound begins, on the clock of the pass.

        """
        at = np.arange(len(sound)) / SAMPLE_RATE
        distance = self.distance_m(at + start_sec)
        # What is heard now was emitted earlier. One refinement is exact to less than a sample, as
        # vehicles are far slower than sound; a constant delay is left out.
        delay = self.distance_m(at + start_sec - distance / SPEED_OF_SOUND_MPS
                                ) / SPEED_OF_SOUND_MPS
        emitted = (at - delay + delay[0]) * SAMPLE_RATE
        arrived = np.interp(emitted, np.arange(len(sound)), sound, right=0.0)
        near = filtered(arrived, lambda f: 1.0 / (1.0 + f / 20_000.0))
        far = filtered(arrived, lambda f: 1.0 / (1.0 + f / 1500.0))
        # Air takes the high frequencies of what is far.
        share = (distance / 300.0).clip(0.0, 1.0)
        return ((1.0 - share) * near + share * far) / distance


def dulled(sound: Samples) -> Samples:
    """Return what comes round corners or through walls: weaker, the higher it is."""
    return filtered(sound, lambda f: 1.0 / (1.0 + f / 1200.0))


def behind_houses(sound: Samples, until_sec: float, loss: float) -> Samples:
    """Return a sound that is weaker and duller until its source comes out from behind houses."""
    dull = loss * dulled(sound)
    at = np.arange(len(sound)) / SAMPLE_RATE
    # Sound bends: it does not become clear in one moment.
    free = ((at - until_sec) / 0.5 + 0.5).clip(0.0, 1.0)
    return free * sound + (1.0 - free) * dull


def echoes(rng: np.random.Generator, sound: Samples) -> Samples:
    """Return a sound with some echoes of walls and of the car itself."""
    whole = sound.copy()
    for _ in range(rng.integers(0, 5)):
        delay = int(rng.uniform(0.003, 0.18) * SAMPLE_RATE)
        whole[delay:] += rng.uniform(-0.4, 0.4) * sound[:-delay]
    return whole


def placed(rng: np.random.Generator, sound: Samples) -> Samples:
    """Return a sound in a place: louder and weaker, coloured, with some echoes."""
    count = len(sound)
    if rng.random() < 0.3:
        centre, width, gain = between(rng, 300.0, 5000.0), rng.uniform(0.4, 1.5), between(
            rng, 0.5, 8.0)
        sound = with_peak(sound, centre, width, gain)
    if rng.random() < 0.4:
        dry, fall = sound.copy(), between(rng, 0.03, 0.3)
        for delay in rng.uniform(0.004, 0.35, int(rng.integers(3, 10))):
            late = int(delay * SAMPLE_RATE)
            if late < count:
                sound[late:] += rng.normal() * np.exp(-delay / fall) * dry[:count - late]
    kind = rng.random()
    if kind < 0.35:
        sound = sound * (1.0 + rng.uniform(0.1, 0.5) * slow_changes(
            rng, count, between(rng, 0.2, 2.0))).clip(0.05)
    elif kind < 0.5:
        # It comes nearer, or goes away.
        sound = sound * np.exp(rng.normal(0.0, 1.0) * np.linspace(-1.0, 1.0, count))
    elif kind < 0.6:
        nearest, width = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.5)
        sound = sound / (1.0 + ((np.linspace(0.0, 1.0, count) - nearest) / width) ** 2)
    level = sound.std()
    # A rest that is longer than the piece is not nothing: somebody breathes.
    return sound / level if level > 1e-5 else 1e-3 * rng.standard_normal(count)
