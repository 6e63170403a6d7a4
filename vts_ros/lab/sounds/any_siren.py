# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sirens of no maker: pitch that repeats itself in any shape, at any rate, in any voice.

They are there to be learned from, so that a siren is known by what all have in common. What the
kinds of ``sirens.HELD_OUT`` are made of is left out of all ranges here, with a margin: no pitch
comes back after 0.045 to 0.11 s or after 7.5 to 25 s, no two tones 1.45 to 1.8 apart last 0.75 to
1.2 s each, no voices are 1.2 to 1.3 or less than 1.015 apart. Nor is anything of
``sirens.VALIDATION``: no pauses, no stairs, no vibrato; or of ``fresh_kinds.SIRENS``: no pitch is
lower than 220 Hz, every siren repeats one pattern all the time, and its voices move together.
"""

from __future__ import annotations

import numpy as np

from vts_ros.lab.sounds.waves import between, filtered, partials, Samples, smoothed, times
from vts_ros.sound.log_mel import SAMPLE_RATE

#: How long it takes until a glide comes back (s), and how often it is drawn from which range.
_PERIODS_SEC = ((0.02, 0.045), (0.11, 0.6), (0.6, 7.5), (25.0, 45.0))
_PERIOD_SHARES = (0.15, 0.25, 0.4, 0.2)
#: The lowest pitch, and the highest as a multiple of it and in all.
_LOW_HZ, _RATIO, _HIGH_HZ = (250.0, 1100.0), (1.2, 3.2), 2800.0
#: Of alternating tones: those of two, which are not to be those that are held out.
_TONE_SEC, _TONE_RATIO = (0.1, 1.6), (1.1, 2.1)
_NOT_TONE_SEC, _NOT_TONE_RATIO = (0.75, 1.2), (1.45, 1.8)
#: A second voice as a multiple of the first.
_VOICES = ((1.015, 1.06), (1.06, 1.19), (1.31, 2.0))


def any_ramps(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a pitch that rises and falls, each as fast and as bent as it likes."""
    place, up = _place(rng, seconds, _period(rng)), rng.uniform(0.03, 0.97)
    height = np.where(place < up, place / up, (1.0 - place) / (1.0 - up))
    return _any_voice(rng, _pitch(rng, height ** between(rng, 0.4, 2.5)))


def any_waves(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a pitch with waves on its waves; the third of a period is none that is left out."""
    place = _place(rng, seconds, between(rng, 0.36, 7.5))
    curve = sum((rng.normal() / number * np.sin(2.0 * np.pi * number * place + rng.uniform(
        0.0, 2.0 * np.pi)) for number in (1, 2, 3)), np.zeros(len(place)))
    return _any_voice(rng, _pitch(rng, (curve - curve.min()) / max(1e-9, np.ptp(curve))))


def any_motor(rng: np.random.Generator, seconds: float) -> Samples:
    """Return the pitch of a motor switched on and off: it nears its speed, and runs out."""
    place = _place(rng, seconds, between(rng, 1.5, 7.5) if rng.random() < 0.5 else _period(rng))
    up, pull = rng.uniform(0.25, 0.75), rng.uniform(0.5, 4.0)
    rise = (1.0 - np.exp(-pull * place / up)) / (1.0 - np.exp(-pull))
    fall = (np.exp(-pull * (place - up) / (1.0 - up)) - np.exp(-pull)) / (1.0 - np.exp(-pull))
    return _any_voice(rng, _pitch(rng, np.where(place < up, rise, fall).clip(0.0, 1.0)))


def _period(rng: np.random.Generator) -> float:
    return between(rng, *_PERIODS_SEC[rng.choice(len(_PERIODS_SEC), p=_PERIOD_SHARES)])


def _place(rng: np.random.Generator, seconds: float, period_sec: float) -> Samples:
    """Return how far each sample is in its period, 0 to 1."""
    return (times(seconds) / period_sec + rng.uniform()) % 1.0


def _pitch(rng: np.random.Generator, height: Samples) -> Samples:
    """Return frequencies for heights of 0 to 1."""
    low = between(rng, *_LOW_HZ)
    high = min(low * between(rng, *_RATIO), _HIGH_HZ)
    return low * (high / low) ** height


def any_alternation(rng: np.random.Generator, seconds: float) -> Samples:
    """Return two to five tones in turn, over and over."""
    count = int(rng.choice([2, 2, 2, 3, 4, 5]))
    is_good = False
    while not is_good:
        pitches = between(rng, 320.0, 1100.0) * np.exp(np.append(0.0, np.cumsum(
            rng.choice([-1.0, 1.0], count - 1) * np.log(rng.uniform(*_TONE_RATIO, count - 1)))))
        lasts = between(rng, *_TONE_SEC) * (
            np.ones(count) if rng.random() < 0.6 else rng.uniform(0.6, 1.6, count))
        is_good = pitches.min() > 220.0 and pitches.max() < _HIGH_HZ and not _is_held_out(
            pitches, lasts)
    at = (times(seconds) + rng.uniform(0.0, lasts.sum())) % lasts.sum()
    hz = pitches[np.searchsorted(np.cumsum(lasts), at, side='right').clip(0, count - 1)]
    # Some glide from tone to tone.
    slow = int(rng.uniform(0.01, 0.08) * SAMPLE_RATE)
    if rng.random() < 0.5:
        hz = smoothed(hz, slow)
    return _any_voice(rng, hz)


def _is_held_out(pitches: Samples, lasts: Samples) -> bool:
    """Return whether two of the tones that follow each other are as those of the held out."""
    ratios = np.exp(np.abs(np.log(pitches / np.roll(pitches, 1))))
    return bool(np.any((ratios > _NOT_TONE_RATIO[0]) & (ratios < _NOT_TONE_RATIO[1])) and np.any(
        (lasts > _NOT_TONE_SEC[0]) & (lasts < _NOT_TONE_SEC[1])))


def _any_voice(rng: np.random.Generator, hz: Samples) -> Samples:
    """Return a tone of any colour: harmonics of any levels, one or two voices, a resonance."""
    count = int(rng.integers(3, 15))
    levels = (np.arange(count) + 1.0) ** -rng.uniform(0.75, 2.0) * np.exp(
        rng.normal(0.0, rng.uniform(0.0, 0.9), count))
    if rng.random() < 0.25:
        # As of a rectangle: what a chopper of air or a cheap circuit makes.
        levels[1::2] *= 0.1
    sound = partials(hz, list(levels))
    if rng.random() < 0.45:
        ratio = between(rng, *_VOICES[rng.integers(len(_VOICES))])
        sound = sound + rng.uniform(0.3, 1.0) * partials(hz * ratio, list(levels))
    sound = sound / (sound.std() + 1e-9)
    if rng.random() < 0.5:
        sound = np.tanh(between(rng, 0.5, 3.0) * sound)
    if rng.random() < 0.5:
        centre, width, gain = between(rng, 500.0, 4000.0), rng.uniform(0.3, 1.0), between(
            rng, 1.0, 8.0)
        sound = filtered(sound, lambda f: 1.0 + gain * np.exp(
            -0.5 * (np.log2((f + 1.0) / centre) / width) ** 2))
    if rng.random() < 0.2:
        # A lamp or a reflector that turns.
        sound = sound * (1.0 + rng.uniform(0.2, 0.9) * np.sin(
            2.0 * np.pi * between(rng, 0.5, 12.0) * np.arange(len(sound)) / SAMPLE_RATE))
    return sound
