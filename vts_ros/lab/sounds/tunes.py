# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is whistled, sung and played: pitches that change and are no siren.

They are there to be learned from. What is whistled and sung in the splits ``val`` and ``test``
comes from other generators (``noises.VALIDATION``, ``noises.HELD_OUT``, ``fresh_kinds.NOISES``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vts_ros.lab.sounds.waves import (
    between,
    filtered,
    partials,
    rolled_off,
    Samples,
    shaped_noise,
    slow_changes,
    smoothed,
)
from vts_ros.sound.log_mel import SAMPLE_RATE

#: Semitones over the key: major, minor, five notes.
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))


class _Line(NamedTuple):
    """Semitones over the key, seconds since and until the ends of the note, and no rest: 1."""

    semitones: Samples
    since: Samples
    left: Samples
    plays: Samples


def _line(rng: np.random.Generator, count: int, beat_sec: float, rests: float) -> _Line:
    """Return a melody with a rhythm: it walks along a scale and jumps now and then."""
    notes = 4 + int(count / SAMPLE_RATE / (0.5 * beat_sec))
    beats = rng.choice([0.5, 1.0, 1.0, 1.5, 2.0, 4.0], notes)
    samples = (beat_sec * SAMPLE_RATE * beats).astype(int)
    scale = np.array(_SCALES[rng.integers(len(_SCALES))])
    steps = np.cumsum(np.where(rng.random(notes) < 0.2, rng.integers(-4, 5, notes),
                               rng.integers(-1, 2, notes)))
    # It stays within an octave and a half, as tunes do.
    steps = np.abs((steps + 10) % 20 - 10)
    semitones = 12.0 * (steps // len(scale)) + scale[steps % len(scale)]
    starts = np.concatenate([[0], np.cumsum(samples)[:-1]])
    at, number = np.arange(count), np.repeat(np.arange(notes), samples)[:count]
    return _Line(semitones[number], (at - starts[number]) / SAMPLE_RATE,
                 (starts + samples)[number] / SAMPLE_RATE - at / SAMPLE_RATE,
                 (rng.random(notes) >= rests)[number].astype(np.float64))


def _played(line: _Line, attack_sec: float, release_sec: float, decay_sec: float) -> Samples:
    """Return how loud the notes are."""
    return line.plays * (line.since / attack_sec).clip(0.0, 1.0) * (
        line.left / release_sec).clip(0.0, 1.0) * np.exp(-line.since / decay_sec)


def _vibrato(rng: np.random.Generator, count: int, depth: float) -> Samples:
    rate = rng.uniform(4.0, 7.5) * (1.0 + 0.1 * slow_changes(rng, count, 2.0))
    return 1.0 + depth * np.sin(2.0 * np.pi * np.cumsum(rate) / SAMPLE_RATE)


def whistled(rng: np.random.Generator, count: int) -> Samples:
    """Return a tune that somebody whistles: one pure tone that slides, and breath."""
    line = _line(rng, count, rng.uniform(0.2, 0.7), rng.uniform(0.0, 0.25))
    slide = int(between(rng, 0.02, 0.25) * SAMPLE_RATE)
    hz = between(rng, 550.0, 1500.0) * 2.0 ** (smoothed(line.semitones, slide) / 12.0)
    if rng.random() < 0.5:
        hz = hz * _vibrato(rng, count, rng.uniform(0.005, 0.03))
    # Some separate the notes, some do not.
    loud = _played(line, 0.02, 0.05, 20.0) if rng.random() < 0.5 else smoothed(
        line.plays, int(0.08 * SAMPLE_RATE))
    breath = shaped_noise(rng, count, lambda f: np.exp(
        -0.5 * (np.log2((f + 1.0) / 2000.0) / 0.8) ** 2))
    tone = partials(hz, (1.0, rng.uniform(0.0, 0.1), rng.uniform(0.0, 0.05)))
    return loud * (tone + rng.uniform(0.02, 0.3) * breath / breath.std())


def sung(rng: np.random.Generator, count: int) -> Samples:
    """Return a voice that sings, alone: harmonics under formants, that slide and tremble."""
    line = _line(rng, count, rng.uniform(0.25, 1.0), rng.uniform(0.05, 0.25))
    slide = int(between(rng, 0.03, 0.3) * SAMPLE_RATE)
    hz = between(rng, 110.0, 420.0) * 2.0 ** (smoothed(line.semitones, slide) / 12.0)
    hz = hz * _vibrato(rng, count, rng.uniform(0.0, 0.04)) * (
        1.0 + 0.01 * slow_changes(rng, count, 3.0))
    voice = partials(hz, rolled_off(18, rng.uniform(0.6, 1.4)))
    sound = np.zeros(count)
    for low, high in ((350.0, 900.0), (900.0, 2400.0), (2500.0, 3400.0)):
        centre = between(rng, low, high)
        part = filtered(voice, lambda f, at=centre: np.exp(  # type: ignore[misc]
            -0.5 * ((f - at) / 220.0) ** 2))
        # The vowels change.
        sound += part * (0.7 + 0.4 * slow_changes(rng, count, 2.0)).clip(0.05)
    hiss = shaped_noise(rng, count, lambda f: np.where(f > 3500.0, 1.0, 0.0))
    hiss *= (line.since < 0.07) * rng.uniform(0.0, 0.5)
    return _played(line, 0.06, 0.08, 20.0) * sound / (sound.std() + 1e-9) + hiss


def played(rng: np.random.Generator, count: int) -> Samples:
    """Return a band: chords of brass, strings or an organ that last, a tune, a bass and a drum."""
    beat = rng.uniform(0.25, 0.8)
    chords = _line(rng, count, beat * rng.choice([2.0, 4.0]), rng.uniform(0.0, 0.2))
    key, bright = between(rng, 110.0, 330.0), rng.uniform(0.3, 1.6)
    levels = [level * float(np.exp(rng.normal(0.0, 0.4))) for level in rolled_off(10, bright)]
    attack, release = between(rng, 0.01, 0.2), between(rng, 0.02, 0.3)
    loud = _played(chords, attack, release, between(rng, 0.5, 20.0))
    sound = np.zeros(count)
    for interval in rng.choice([(0, 4, 7), (0, 3, 7), (0, 5, 9), (0, 7, 12)]):
        hz = key * 2.0 ** ((chords.semitones + interval) / 12.0)
        if rng.random() < 0.5:
            hz = hz * _vibrato(rng, count, rng.uniform(0.0, 0.012))
        sound += loud * partials(hz, levels)
    if rng.random() < 0.6:
        tune = _line(rng, count, beat, rng.uniform(0.0, 0.3))
        sound += rng.uniform(0.5, 2.0) * _played(
            tune, attack, 0.04, between(rng, 0.3, 10.0)) * partials(
                2.0 * key * 2.0 ** (tune.semitones / 12.0), levels[:6])
    if rng.random() < 0.6:
        since = np.arange(count) / SAMPLE_RATE % beat
        drum = shaped_noise(rng, count, lambda f: 1.0 / (1.0 + f / 2500.0))
        sound += rng.uniform(0.3, 1.5) * drum / drum.std() * np.exp(
            -since / rng.uniform(0.02, 0.1))
    return sound
