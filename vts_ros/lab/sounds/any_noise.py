# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tunes, voices, machines and beeps of no maker: what is taken for a siren and is none.

Every property of them is drawn, so that what is learned is what sirens have and these have not,
rather than some instruments.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vts_ros.lab.sounds.any_tune import any_tune, colour, SCALES
from vts_ros.lab.sounds.any_voice import any_voice
from vts_ros.lab.sounds.moving_source import placed
from vts_ros.lab.sounds.waves import (
    between,
    partials,
    rolled_off,
    Samples,
    shaped_noise,
    slow_changes,
    smoothed,
)
from vts_ros.sound.log_spectrum import SAMPLE_RATE


def any_machine(rng: np.random.Generator, count: int) -> Samples:
    """Return what turns: tools, blowers, scooters, trams; it runs up, labours and runs down."""
    speed = _speed(rng, count)
    low = between(rng, 30.0, 2500.0)
    shaft = low / round(between(rng, 1.0, 24.0)) if rng.random() < 0.6 else low
    sound, top = np.zeros(count), np.maximum(speed, 1e-3)
    for _ in range(int(rng.integers(1, 4))):
        number = rng.choice([1.0, float(rng.integers(2, 24)), between(rng, 1.0, 8.0)])
        hz = (min(max(shaft, 8.0) * number, 4500.0) * top)
        teeth = partials(hz, (np.array(rolled_off(10, rng.uniform(0.2, 2.0))) * np.exp(
            rng.normal(0.0, rng.uniform(0.0, 1.0), 10))).tolist())
        sound += between(rng, 0.15, 1.0) * teeth / (teeth.std() + 1e-9)
    centre, width = between(rng, 300.0, 4000.0), rng.uniform(0.5, 2.0)
    air = shaped_noise(rng, count, lambda f: 0.05 + np.exp(
        -0.5 * (np.log2((f + 1.0) / centre) / width) ** 2))
    if rng.random() < 0.4:
        # Each blade cuts the air.
        air = air * (1.0 + rng.uniform(0.2, 1.0) * np.sin(
            2.0 * np.pi * np.cumsum(top * between(rng, 10.0, 120.0)) / SAMPLE_RATE))
    load = 1.0 + between(rng, 0.05, 1.0) * slow_changes(rng, count, between(rng, 0.5, 12.0))
    sound = sound + between(rng, 0.05, 2.0) * air / air.std() * load.clip(0.0)
    return placed(rng, sound * speed.clip(0.0, 1.2) ** rng.uniform(0.3, 2.0))


def _speed(rng: np.random.Generator, count: int) -> Samples:
    """Return a speed of 0 to about 1 at each sample, which follows no regular pattern."""
    at, seconds, kind = np.arange(count) / SAMPLE_RATE, count / SAMPLE_RATE, rng.random()
    if kind < 0.25:
        # Steady, with load.
        knots = [(0.0, 1.0), (seconds, rng.choice([1.0, rng.uniform(0.7, 1.3)]))]
    elif kind < 0.5:
        # One run-up and one run-down, or one of them.
        up, hold = rng.uniform(-0.6, 0.5) * seconds, between(rng, 0.1, 0.8) * seconds
        down, idle = up + between(rng, 0.2, 6.0), rng.choice([0.0, 0.0, rng.uniform(0.1, 0.6)])
        end = down + hold + between(rng, 0.2, 8.0)
        knots = [(up, idle), (0.7 * down + 0.3 * up, 0.8), (down, 1.0), (down + hold, 1.0),
                 (0.5 * (down + hold + end), rng.uniform(0.3, 0.6)), (end, idle)]
    elif kind < 0.7:
        # A tool in hand: quickly up, for as long as it takes.
        knots, place = [(-0.1, 0.0)], rng.uniform(-2.0, 1.0)
        while place < seconds:
            up, hold = between(rng, 0.03, 0.6), between(rng, 0.15, 6.0)
            down, full = between(rng, 0.05, 2.0), rng.uniform(0.6, 1.0)
            knots += [(place, 0.0), (place + up, full),
                      (place + up + hold, full * rng.uniform(0.8, 1.0)),
                      (place + up + hold + down, 0.0)]
            place = knots[-1][0] + between(rng, 0.1, 4.0)
    elif kind < 0.85:
        # Gears, or the steps of an inverter: glides, and jumps between them.
        knots, place, now, way = [(-1.0, 0.2)], 0.0, rng.uniform(0.2, 1.0), rng.choice([-1, 1])
        jump = rng.uniform(0.6, 1.6)
        while place < seconds:
            knots.append((place, now))
            place += between(rng, 0.3, 4.0)
            now = float(np.clip(now * np.exp(way * rng.uniform(0.0, 0.5)), 0.1, 1.5))
            knots.append((place, now))
            place, now = place + 0.02 + rng.uniform(0.0, 0.3), float(np.clip(now * jump, 0.1, 1.5))
    else:
        # Traffic: slower and faster at no regular times.
        points = int(seconds / between(rng, 0.5, 4.0)) + 3
        knots = [(float(t), float(np.exp(rng.normal(-0.3, 0.4))))
                 for t in np.sort(rng.uniform(-1.0, seconds + 1.0, points))]
    times_sec, speeds = np.array(sorted(knots)).T
    speed = smoothed(np.interp(at, times_sec, speeds), int(rng.uniform(0.01, 0.3) * SAMPLE_RATE))
    labour = 1.0 - between(rng, 0.002, 0.15) * slow_changes(
        rng, count, between(rng, 0.3, 6.0)).clip(-0.3, 2.0)
    return speed.clip(0.0, 1.6) * labour


def any_beeps(rng: np.random.Generator, count: int) -> Samples:
    """Return one tone with gaps, rings, chimes, tunes of phones, quacks, or whistles."""
    kind = rng.choice(5, p=[0.3, 0.2, 0.2, 0.1, 0.2])
    return placed(rng, (_repeated, _chimes, _phone, _quacks, _whistle)[kind](rng, count))


def _repeated(rng: np.random.Generator, count: int) -> Samples:
    """Return one tone, in bursts, with a pause after some or none."""
    hz, rate = between(rng, 250.0, 4200.0), between(rng, 0.3, 14.0)
    at = np.arange(count) / SAMPLE_RATE * rate + rng.uniform()
    is_on = at % 1.0 < rng.uniform(0.1, 0.75)
    if rng.random() < 0.4:
        beeps = int(rng.integers(1, 9))
        is_on &= at % (beeps + rng.integers(1, 2 * beeps + 2)) < beeps
    tone = partials(np.full(count, hz), colour(rng))
    if rng.random() < 0.25:
        tone = tone + partials(np.full(count, hz * rng.uniform(1.05, 2.0)), colour(rng))
    return tone * smoothed(is_on.astype(np.float64), int(between(rng, 0.001, 0.02) * SAMPLE_RATE))


def _chimes(rng: np.random.Generator, count: int) -> Samples:
    """Return bells and gongs that are struck and die away."""
    notes = between(rng, 300.0, 2500.0) * rng.uniform(0.6, 1.7, rng.integers(1, 7))
    ratios = np.append(1.0, np.sort(rng.uniform(1.5, 7.0, rng.integers(1, 5)))).tolist()
    levels = rolled_off(len(ratios), rng.uniform(0.5, 2.0))
    decay, every = between(rng, 0.05, 1.5), between(rng, 0.1, 3.0)
    irregular = rng.uniform(0.0, 0.5)
    sound, start, length = np.zeros(count), rng.uniform(0.0, every), int(
        min(4.0 * decay, 3.0) * SAMPLE_RATE)
    bells = [partials(np.full(length, hz), levels, ratios) * np.exp(
        -np.arange(length) / SAMPLE_RATE / decay) for hz in notes]
    while start * SAMPLE_RATE < count:
        first = int(start * SAMPLE_RATE)
        bell = bells[rng.integers(len(bells))][:count - first]
        sound[first:first + len(bell)] += bell * rng.uniform(0.4, 1.0)
        start += every * np.exp(rng.normal(0.0, irregular)) + (
            between(rng, 0.5, 4.0) if rng.random() < 0.2 else 0.0)
    return sound + 1e-6 * rng.standard_normal(count)


def _phone(rng: np.random.Generator, count: int) -> Samples:
    """Return a short tune of quick notes, a pause, and the tune again."""
    size = int(rng.integers(4, 17))
    each, low = between(rng, 0.05, 0.3), between(rng, 350.0, 1600.0)
    tune = low * 2.0 ** (rng.permutation(np.resize(np.array(
        SCALES[rng.integers(len(SCALES))])[:int(rng.integers(4, 8))], size)) / 12.0)
    # Fewer than four pitches would be a siren's.
    tune[:4] = low * 2.0 ** (rng.permutation([0, 3, 7, 12]) / 12.0)
    place = np.arange(count) / SAMPLE_RATE / each + rng.uniform(0.0, size)
    note = (place % (size + between(rng, 1.0, 20.0))).astype(int)
    wave = partials(tune[note % size], colour(rng))
    return wave * smoothed(((note < size) & (place % 1.0 < rng.uniform(0.4, 1.0))).astype(
        np.float64), 60) * np.exp(-(place % 1.0) * rng.uniform(0.0, 3.0))


def _quacks(rng: np.random.Generator, count: int) -> Samples:
    """Return bursts of noise, as of lorries that reverse."""
    low, high = between(rng, 300.0, 1500.0), between(rng, 2000.0, 7000.0)
    noise = shaped_noise(rng, count, lambda f: ((f > low) & (f < high)).astype(np.float64))
    at = np.arange(count) / SAMPLE_RATE * between(rng, 0.6, 6.0) + rng.uniform()
    return noise * smoothed((at % 1.0 < rng.uniform(0.15, 0.7)).astype(np.float64), int(
        between(rng, 0.002, 0.05) * SAMPLE_RATE))


def _whistle(rng: np.random.Generator, count: int) -> Samples:
    """Return a referee or policeman who blows a whistle, with a pea in it or without."""
    base, trill = between(rng, 1800.0, 4200.0), rng.uniform(18.0, 60.0) * (rng.random() < 0.7)
    blown, start = np.zeros(count), rng.uniform(-0.5, 1.5)
    while start < count / SAMPLE_RATE:
        last = between(rng, 0.06, 1.8)
        blown[max(0, int(start * SAMPLE_RATE)):max(0, int((start + last) * SAMPLE_RATE))] = (
            rng.uniform(0.4, 1.0))
        start += last + between(rng, 0.05, 4.0)
    air = smoothed(blown, int(rng.uniform(0.01, 0.06) * SAMPLE_RATE))
    pea = np.sin(2.0 * np.pi * np.cumsum(trill * (1.0 + 0.1 * slow_changes(
        rng, count, 5.0))) / SAMPLE_RATE)
    hz = base * (0.9 + 0.1 * air) * (1.0 + rng.uniform(0.0, 0.05) * pea
                                    + 0.005 * slow_changes(rng, count, 20.0))
    tone = partials(hz, (1.0, rng.uniform(0.0, 0.2)))
    if rng.random() < 0.5:
        tone = tone + partials(hz * rng.uniform(1.02, 1.2), (1.0,))
    return air * (tone * (1.0 + rng.uniform(0.0, 0.9) * pea) + between(
        rng, 0.05, 0.5) * rng.standard_normal(count)) + 1e-6 * rng.standard_normal(count)


ANY: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    'any tune': any_tune, 'any voice': any_voice, 'any machine': any_machine,
    'any beeps': any_beeps}
