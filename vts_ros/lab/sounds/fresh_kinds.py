# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sirens and noises by which a network is judged at the very end, and that nobody tuned by.

What is learned leaves them out with a margin: no pitch of it is lower than 220 Hz, each siren of
it repeats one pattern all the time and without pauses, and its voices move together. The noises
are of generators of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vts_ros.lab.sounds.waves import (
    between,
    faded,
    filtered,
    partials,
    rolled_off,
    Samples,
    shaped_noise,
    slow_changes,
    smoothed,
    times,
)
from vts_ros.sound.log_mel import SAMPLE_RATE


def _loudspeaker(rng: np.random.Generator, hz: Samples) -> Samples:
    return np.tanh(between(rng, 0.6, 2.0) * partials(hz, rolled_off(12, rng.uniform(0.7, 1.8))))


def _up_and_down(rng: np.random.Generator, at: Samples, period_sec: float) -> Samples:
    """Return a height of 0 to 1 that rises and falls."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * (at / period_sec + rng.uniform()))


def _rumbler(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a siren an octave and more below the others, which is felt through the car body."""
    low = between(rng, 120.0, 185.0)
    height = _up_and_down(rng, times(seconds), between(rng, 0.25, 0.4)
                          if rng.random() < 0.5 else between(rng, 3.0, 6.0))
    return np.tanh(2.0 * partials(low * between(rng, 1.8, 2.4) ** height,
                                  rolled_off(16, rng.uniform(0.2, 0.8))))


def _two_at_once(rng: np.random.Generator, seconds: float) -> Samples:
    """Return two loudspeakers of one vehicle, of which one wails while the other yelps."""
    at, sound = times(seconds), np.zeros(len(times(seconds)))
    for period_sec in (between(rng, 3.5, 6.5), between(rng, 0.25, 0.4)):
        low = between(rng, 480.0, 750.0)
        part = _loudspeaker(rng, low * between(rng, 1.8, 2.5) ** _up_and_down(
            rng, at, period_sec))
        sound += rng.uniform(0.6, 1.0) * part / part.std()
    return sound


def _changing(rng: np.random.Generator, seconds: float) -> Samples:
    """Return what a driver switches: some seconds of wail, of yelp, of two tones, and so on."""
    at = times(seconds)
    low, ratio = between(rng, 480.0, 750.0), between(rng, 1.8, 2.5)
    tone_sec = rng.uniform(0.3, 0.6)
    heights = np.stack([
        _up_and_down(rng, at, between(rng, 3.0, 6.0)),
        _up_and_down(rng, at, between(rng, 0.25, 0.4)),
        (at / tone_sec).astype(int) % 2 * 0.45 + 0.1])
    lasts = rng.uniform(1.5, 4.0, 4 + int(seconds / 1.5))
    order = (np.cumsum(rng.integers(1, 3, len(lasts))) + rng.integers(3)) % 3
    program = order[np.searchsorted(np.cumsum(lasts), at, side='right')]
    return _loudspeaker(rng, low * ratio ** heights[program, np.arange(len(at))])


def _by_hand(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a siren that rises while a button is pressed, and falls: at no regular times."""
    at = times(seconds)
    lasts = rng.uniform(0.6, 3.5, 4 + int(seconds / 0.6))
    is_pressed = (np.searchsorted(np.cumsum(lasts), at, side='right') + rng.integers(2)) % 2 == 0
    # It nears what it is switched to, within a second or more.
    pace, place, heights = int(between(rng, 0.5, 1.5) * 100.0), rng.uniform(), []
    for pressed in is_pressed[::SAMPLE_RATE // 100]:
        place += (float(pressed) - place) / pace
        heights.append(place)
    height = np.interp(at, np.arange(len(heights)) / 100.0, heights)
    return _loudspeaker(rng, between(rng, 400.0, 650.0) * between(rng, 2.0, 3.0) ** height)


def _calls(rng: np.random.Generator, seconds: float) -> Samples:
    """Return three tones, high, low, high, and a pause before they come again."""
    tone_sec, pause_sec = rng.uniform(0.25, 0.45), rng.uniform(0.4, 1.0)
    place = (times(seconds) + rng.uniform(0.0, 1.0)) % (3.0 * tone_sec + pause_sec) / tone_sec
    low = between(rng, 380.0, 700.0)
    return _loudspeaker(rng, np.where((place > 1.0) & (place < 2.0), low, between(
        rng, 1.2, 1.45) * low)) * (place < 3.0)


SIRENS: dict[str, Callable[[np.random.Generator, float], Samples]] = {
    'rumbler': _rumbler, 'wail and yelp at once': _two_at_once, 'changing programs': _changing,
    'by hand': _by_hand, 'three tones and a pause': _calls}


def _flute(rng: np.random.Generator, count: int) -> Samples:
    """Return a recorder with trills and breath."""
    sound, start = np.zeros(count), 0
    key, beat = between(rng, 440.0, 800.0), rng.uniform(0.15, 0.5)
    while start < count:
        length = min(int(beat * rng.choice([1, 2, 3]) * SAMPLE_RATE), count - start)
        at = np.arange(length) / SAMPLE_RATE
        hz = np.full(length, key * 2.0 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12.0))
        if rng.random() < 0.25:
            hz = hz * np.where(at * rng.uniform(8.0, 13.0) % 1.0 < 0.5, 1.0, 2.0 ** (1.0 / 6.0))
        note = partials(hz, (1.0, 0.25, 0.12)) + 0.1 * rng.standard_normal(length)
        sound[start:start + length] += faded(note, 0.04, 0.06) * (rng.random() > 0.1)
        start += length
    return sound


def _accordion(rng: np.random.Generator, count: int) -> Samples:
    """Return reeds that beat against each other, in three-four time, with bellows."""
    beat = int(rng.uniform(0.3, 0.5) * SAMPLE_RATE)
    sound, key = np.zeros(count), between(rng, 150.0, 300.0)
    levels = rolled_off(12, rng.uniform(0.4, 0.9))
    for number, start in enumerate(range(0, count, beat)):
        length = min(beat, count - start)
        root = key * 2.0 ** (rng.choice([0, 5, 7]) / 12.0) / 2.0
        for interval in (0,) if number % 3 == 0 else (12, 16, 19):
            reed = np.full(length, root * 2.0 ** (interval / 12.0))
            sound[start:start + length] += 0.4 * faded(partials(reed, levels), 0.02, 0.05)
        reed = np.full(length, 2.0 * key * 2.0 ** (rng.choice([0, 2, 4, 5, 7, 9, 11]) / 12.0))
        for detune in (1.0, rng.uniform(1.005, 1.012)):
            sound[start:start + length] += faded(partials(detune * reed, levels), 0.02, 0.02)
    return sound * (1.0 + 0.3 * slow_changes(rng, count, 1.0)).clip(0.2)


def _dance(rng: np.random.Generator, count: int) -> Samples:
    """Return a synthesiser that repeats a figure of eight notes over a bass drum."""
    at, beat = np.arange(count) / SAMPLE_RATE, rng.uniform(0.4, 0.55)
    figure = rng.choice([0, 3, 7, 10, 12, 15], 8)
    place = at / (beat / 4.0)
    hz = between(rng, 110.0, 440.0) * 2.0 ** (figure[place.astype(int) % 8] / 12.0)
    note = partials(hz, rolled_off(14, 1.0)) * np.exp(-3.0 * (place % 1.0))
    # A filter opens and closes.
    dull = filtered(note, lambda f: 1.0 / (1.0 + (f / 600.0) ** 2))
    opened = 0.5 + 0.5 * np.sin(2.0 * np.pi * at / rng.uniform(4.0, 15.0))
    thump = np.sin(2.0 * np.pi * 60.0 * at) * np.exp(-(at % beat) / 0.1)
    return opened * note + (1.0 - opened) * dull + 1.5 * thump


def _children(rng: np.random.Generator, count: int) -> Samples:
    """Return a playground: voices that call and shriek, each with a pitch that rises and falls."""
    sound = np.zeros(count)
    for start in rng.integers(0, count, max(1, int(1.5 * count / SAMPLE_RATE))):
        length = min(int(between(rng, 0.2, 1.2) * SAMPLE_RATE), count - start)
        arch = np.sin(np.pi * np.linspace(0.0, 1.0, length)) ** rng.uniform(0.5, 2.0)
        hz = between(rng, 280.0, 800.0) * (1.0 + rng.uniform(0.05, 0.5) * arch
                                           + 0.02 * slow_changes(rng, length, 12.0))
        mouth_hz = between(rng, 900.0, 2500.0)
        call = filtered(partials(hz, rolled_off(14, 0.8)), lambda f, at=mouth_hz: (  # type: ignore[misc]
            0.1 + np.exp(-0.5 * (np.log2((f + 1.0) / at) / 0.5) ** 2)))
        sound[start:start + length] += between(rng, 0.1, 1.0) * faded(
            call / (call.std() + 1e-9), 0.03, 0.1)
    return sound


def _saw(rng: np.random.Generator, count: int) -> Samples:
    """Return a circular saw: it spins up, cuts, and runs down."""
    every = rng.uniform(4.0, 9.0)
    place = (np.arange(count) / SAMPLE_RATE + rng.uniform(0.0, every)) % every / every
    spin = np.interp(place, [0.0, 0.08, 0.7, 1.0], [0.0, 1.0, 1.0, 0.0])
    cuts = smoothed(((place > 0.2) & (place < 0.6)).astype(np.float64), SAMPLE_RATE // 4)
    hz = between(rng, 250.0, 500.0) * (0.15 + spin * (1.0 - 0.12 * cuts))
    whine = partials(hz, [level * rng.uniform(0.2, 1.0) for level in rolled_off(14, 0.5)])
    teeth = shaped_noise(rng, count, lambda f: f / (f + 1500.0))
    return spin * (whine / whine.std() + (0.3 + 2.0 * cuts) * teeth / teeth.std())


NOISES: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    'flute': _flute, 'accordion': _accordion, 'dance music': _dance, 'children': _children,
    'saw': _saw}
