# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What synthesised sounds are made of: oscillators, shaped noise, envelopes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
import itertools

import numpy as np
from numpy.typing import NDArray

from vts_ros.sound.log_spectrum import SAMPLE_RATE

Samples = NDArray[np.float64]

#: Nothing is heard below.
_BOTTOM_HZ = 20.0
#: No partial above: what the network hears ends there.
_TOP_HZ = 7500.0


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number from a range, equally likely by its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def partials(hz: Samples, levels: Sequence[float], ratios: Sequence[float] | None = None
             ) -> Samples:
    """
    Return a tone of several partials.

    Parameters
    ----------
    hz
        Frequency of the first partial at each sample.
    levels
        Amplitudes of the partials.
    ratios
        Their frequencies over that of the first; by default they are harmonics.

    """
    phase = 2.0 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    top = hz.max()
    if ratios is None:
        # Powers of one turning number are its harmonics: summed from the highest down, which takes
        # one product for each.
        heard = [level * np.exp(1.7j * number) for number, level in enumerate(levels)
                 if (number + 1) * top < _TOP_HZ]
        turn, harmonics = np.exp(1j * phase), np.zeros(len(hz), np.complex128)
        for strength in reversed(heard):
            harmonics += strength
            harmonics *= turn
        return harmonics.imag.copy()
    return sum((level * np.sin(ratio * phase) for level, ratio in zip(levels, ratios, strict=True)
                if ratio * top < _TOP_HZ), np.zeros(len(hz)))


def rolled_off(count: int, steepness: float) -> list[float]:
    """Return amplitudes that fall with the number of the partial."""
    return [(number + 1.0) ** -steepness for number in range(count)]


def shaped_noise(rng: np.random.Generator, count: int, gain: Callable[[Samples], Samples]
                 ) -> Samples:
    """Return noise whose amplitude over the frequency (Hz) is as given."""
    return filtered(rng.standard_normal(count), gain)


def filtered(sound: Samples, gain: Callable[[Samples], Samples]) -> Samples:
    """Return a sound with its frequencies weighted."""
    length = _fast_length(len(sound))
    hz = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE).astype(np.float64)
    return np.fft.irfft(np.fft.rfft(sound, length) * gain(hz), length)[:len(sound)]


def with_peak(sound: Samples, centre_hz: float, octaves: float, gain: float) -> Samples:
    """Return a sound that is up to 1 + gain times as strong near a frequency."""
    return filtered(sound, lambda f: 1.0 + gain * np.exp(
        -0.5 * (np.log2((f + 1.0) / centre_hz) / octaves) ** 2))


@lru_cache
def _fast_length(count: int) -> int:
    """Return the next length whose only prime factors are 2, 3 and 5."""
    def is_fast(number: int) -> bool:
        for factor in (2, 3, 5):
            while number % factor == 0:
                number //= factor
        return number == 1

    return next(length for length in itertools.count(max(2, count)) if is_fast(length))


def slow_changes(rng: np.random.Generator, count: int, hz: float) -> Samples:
    """Return a curve of mean 0 and deviation 1 that changes about so often a second."""
    points = max(4, int(count / SAMPLE_RATE * hz) + 3)
    return np.interp(np.linspace(0.0, points - 1.0, count), np.arange(points),
                     rng.standard_normal(points))


def smoothed(curve: Samples, count: int) -> Samples:
    """Return the mean of so many samples around each."""
    padded = np.pad(curve, (count // 2, count - count // 2), mode='edge')
    total = np.cumsum(np.insert(padded, 0, 0.0))
    mean: Samples = ((total[count:] - total[:-count]) / count)[:len(curve)]
    return mean


def faded(sound: Samples, attack_sec: float, release_sec: float) -> Samples:
    """Return a sound that begins and ends softly."""
    up = np.arange(len(sound)) / max(1.0, attack_sec * SAMPLE_RATE)
    down = np.arange(len(sound))[::-1] / max(1.0, release_sec * SAMPLE_RATE)
    return sound * np.minimum(np.minimum(up, down), 1.0)


def level_of(sound: Samples) -> float:
    """Return the root mean square of what is above 300 Hz, where warnings are."""
    length = _fast_length(len(sound))
    spectrum = np.abs(np.fft.rfft(sound, length)) ** 2
    heard = spectrum[np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE) > 300.0]
    return float(np.sqrt(2.0 * heard.sum() / length / max(1, len(sound))))


def times(seconds: float) -> Samples:
    """Return the times of the samples of so many seconds."""
    return np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def resonant(sound: Samples, centres_hz: Sequence[float], octaves: float, floor: float) -> Samples:
    """Return a sound as a body or a mouth passes it on: loud near some frequencies."""
    def gain(hz: Samples) -> Samples:
        return sum((np.exp(-0.5 * (np.log2((hz + 1.0) / at) / octaves) ** 2)
                    for at in centres_hz), np.full(len(hz), floor)) * (hz > _BOTTOM_HZ)

    return filtered(sound, gain)


def irregular(rng: np.random.Generator, count: int, lasts_sec: Sequence[tuple[float, float]]
              ) -> tuple[NDArray[np.int64], Samples, Samples]:
    """
    Divide a time into parts, of which each lasts as long as it happens.

    Parameters
    ----------
    count
        Samples.
    lasts_sec
        How long the parts last (s), from and to: those of the first kind, of the next, and again.

    Returns
    -------
    number, since_sec, left_sec
        Of each sample the number of its part, and the times since it began and until it ends.

    """
    # It was going on before the first sample.
    found = [-int(rng.uniform(0.0, sum(low for low, _ in lasts_sec)) * SAMPLE_RATE)]
    while found[-1] <= count:
        length = between(rng, *lasts_sec[(len(found) - 1) % len(lasts_sec)])
        found.append(found[-1] + max(1, int(length * SAMPLE_RATE)))
    at, edges = np.arange(count), np.array(found)
    number = np.searchsorted(edges, at, side='right') - 1
    return number, (at - edges[number]) / SAMPLE_RATE, (edges[number + 1] - at) / SAMPLE_RATE
