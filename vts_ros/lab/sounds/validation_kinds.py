# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sirens and noises of the split ``val``, by which thresholds are chosen.

Nothing is learned from them, and their generators are neither those of what is learned nor those
of the test. What is learned has motors, horns, instruments and animals of other making.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vts_ros.lab.sounds.waves import (
    between,
    faded,
    filtered,
    irregular,
    partials,
    resonant,
    rolled_off,
    Samples,
    shaped_noise,
    slow_changes,
    smoothed,
    times,
)
from vts_ros.sound.log_spectrum import SAMPLE_RATE


def _ring(length: int, hz: float, ratios: Sequence[float], decay_sec: float) -> Samples:
    """Return metal that is struck: its higher partials die away sooner."""
    at = np.arange(length) / SAMPLE_RATE
    return sum((partials(np.full(length, hz * ratio), (1.0,)) * np.exp(
        -at * (0.5 + 0.5 * ratio) / decay_sec) / ratio ** 0.5 for ratio in ratios),
        np.zeros(length))


def _horn(rng: np.random.Generator, hz: Samples) -> Samples:
    """Return a loudspeaker with a horn, which passes nothing low."""
    tone = np.tanh(between(rng, 0.7, 2.5) * partials(hz, rolled_off(12, rng.uniform(0.6, 1.6))))
    cut = between(rng, 250.0, 600.0)
    return filtered(tone, lambda f: f ** 2 / (f ** 2 + cut ** 2))


def _rhythm(rng: np.random.Generator, seconds: float) -> Samples:
    """Return the two tones of Italy: wide apart, some long and some short, in a fixed rhythm."""
    unit = rng.uniform(0.14, 0.22)
    lasts = np.array([[3, 1, 1, 3], [1, 1, 1, 1, 4, 4], [2, 1, 2, 1, 1, 1]][rng.integers(3)])
    edges = np.cumsum(lasts) * unit
    at = (times(seconds) + rng.uniform(0.0, edges[-1])) % edges[-1]
    number = np.searchsorted(edges, at, side='right').clip(0, len(lasts) - 1)
    low, ratio = between(rng, 380.0, 480.0), (660.0 / 392.0, 622.0 / 466.0)[rng.integers(2)]
    # The horn needs a moment for each tone.
    left = edges[number] - at
    since = at - np.append(0.0, edges)[number]
    level = np.minimum(since, left).clip(0.0, 0.015) / 0.015
    return level * _horn(rng, np.where(number % 2, low, ratio * low))


def _held(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a wail that stays up for seconds before it falls, as in East Asia."""
    rise, stay, fall, rest = (rng.uniform(*span) for span in (
        (0.8, 2.5), (1.0, 4.0), (1.0, 3.5), (0.1, 0.8)))
    edges = np.cumsum([0.0, rise, stay, fall, rest])
    place = (times(seconds) + rng.uniform(0.0, edges[-1])) % edges[-1]
    height = np.interp(place, edges, [0.0, 1.0, 1.0, 0.0, 0.0]) ** rng.uniform(0.5, 1.3)
    return _horn(rng, between(rng, 350.0, 650.0) * between(rng, 1.9, 2.8) ** height)


def _stutter(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a wail that is chopped many times a second, and jumps in pitch as it is."""
    at = times(seconds)
    slow = 0.5 - 0.5 * np.cos(2.0 * np.pi * (at / between(rng, 2.5, 7.0) + rng.uniform()))
    chop = (at * between(rng, 9.0, 18.0) % 1.0 < rng.uniform(0.4, 0.7)).astype(np.float64)
    chop = smoothed(chop, int(0.006 * SAMPLE_RATE))
    hz = between(rng, 500.0, 800.0) * between(rng, 1.6, 2.4) ** slow
    return _horn(rng, hz * between(rng, 1.05, 1.3) ** chop) * (rng.uniform(0.1, 0.5) + chop)


def _quacks(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a yelp, and between it the rough quacks by which a driver wants way."""
    count = len(times(seconds))
    number, since, left = irregular(rng, count, (
        (1.0, 4.0), (0.12, 0.35), (0.06, 0.2), (0.12, 0.35), (0.06, 0.2), (0.2, 0.7), (0.05, 0.2)))
    kind, at = number % 7, times(seconds)
    up = at * between(rng, 2.2, 4.0) % 1.0
    yelp = _horn(rng, between(rng, 550.0, 750.0) * between(rng, 1.8, 2.4) ** np.where(
        up < 0.7, up / 0.7, (1.0 - up) / 0.3))
    rough = between(rng, 110.0, 190.0) * (1.0 + 0.15 * np.exp(-since / 0.03))
    quack = resonant(partials(rough, rolled_off(30, 0.3)), (
        between(rng, 600.0, 1000.0), between(rng, 1600.0, 2600.0)), 0.4, 0.05)
    level = np.minimum(since, left).clip(0.0, 0.01) / 0.01
    return level * np.where(kind == 0, yelp / yelp.std(), np.where(
        kind % 2, 1.5 * quack / quack.std(), 0.0))


def _announced(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a siren that is turned down while the crew speaks by the same loudspeaker."""
    at = times(seconds)
    number, _, _ = irregular(rng, len(at), ((3.0, 7.0), (1.2, 2.5)))
    speaks = smoothed((number % 2).astype(np.float64), int(0.1 * SAMPLE_RATE))
    place = (at / between(rng, 0.7, 2.2) + rng.uniform()) % 1.0
    # A saw: it rises, and begins low again.
    siren = _horn(rng, between(rng, 450.0, 700.0) * between(rng, 1.7, 2.6) ** smoothed(
        place, int(0.03 * SAMPLE_RATE)))
    voice = np.tanh(2.0 * _voice(rng, len(at), between(rng, 110.0, 260.0)))
    return siren / siren.std() * (1.0 - rng.uniform(0.5, 0.8) * speaks) + speaks * voice


def _cranked(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a siren with a crank: it takes some turns to be loud, and every turn is heard."""
    at, every = times(seconds), rng.uniform(5.0, 7.4)
    place = (at + rng.uniform(0.0, every)) % every / every
    speed = np.interp(place, [0.0, 0.45, 0.6, 1.0], [0.4, 1.0, 1.0, 0.4])
    turns = np.cumsum(speed) * between(rng, 1.0, 1.8) / SAMPLE_RATE
    speed = speed * (1.0 + rng.uniform(0.02, 0.07) * np.sin(4.0 * np.pi * turns))
    hz = between(rng, 420.0, 700.0) * speed
    # Two rows of holes, six to five.
    tone = partials(hz, rolled_off(10, 0.7)) + 0.8 * partials(hz * 5.0 / 6.0, rolled_off(10, 0.7))
    gears = shaped_noise(rng, len(at), lambda f: np.exp(-0.5 * (np.log2((f + 1.0) / 1500.0)) ** 2))
    return speed * (tone / tone.std() + rng.uniform(0.05, 0.2) * gears / gears.std())


SIRENS: dict[str, Callable[[np.random.Generator, float], Samples]] = {
    'rhythm of two tones': _rhythm, 'rise, hold, fall': _held, 'stutter': _stutter,
    'quacks and yelp': _quacks, 'siren and announcement': _announced, 'cranked': _cranked}


def _voice(rng: np.random.Generator, count: int, pitch_hz: float) -> Samples:
    """Return somebody who speaks: vowels that differ, consonants, a pitch that falls."""
    number, since, left = irregular(rng, count, ((0.1, 0.28), (0.03, 0.09)))
    accents = rng.normal(0.0, 0.1, number[-1] + 1) - np.linspace(0.0, 0.15, number[-1] + 1)
    pitch = pitch_hz * np.exp(smoothed(accents[number], int(0.08 * SAMPLE_RATE)))
    glottis, sound = partials(pitch, rolled_off(24, 0.9)), np.zeros(count)
    which = rng.integers(0, 3, number[-1] + 1)[number]
    for vowel, mouth in enumerate(((700.0, 1150.0), (330.0, 2100.0), (420.0, 900.0))):
        part = resonant(glottis, mouth, 0.25, 0.02)
        sound += (which == vowel) * part / part.std()
    hiss = shaped_noise(rng, count, lambda f: f ** 2 / (f ** 2 + 3500.0 ** 2))
    return np.where(number % 2, 0.4 * hiss / hiss.std(), sound) * (
        np.minimum(since, left).clip(0.0, 0.02) / 0.02)


def _guitar(rng: np.random.Generator, count: int) -> Samples:
    """Return an electric guitar that plays a solo: overdriven, with bends and vibrato."""
    number, since, _ = irregular(rng, count, ((0.12, 0.3), (0.12, 0.6), (0.2, 2.0)))
    scale = np.array([0, 3, 5, 7, 10, 12, 15, 17, 19])
    steps = np.abs(np.cumsum(rng.integers(-2, 3, number[-1] + 1))) % len(scale)
    bends = rng.choice([0.0, 0.0, -1.0, -2.0], number[-1] + 1)[number]
    semitones = scale[steps][number] + bends * np.exp(-since / rng.uniform(0.08, 0.25))
    shake = rng.uniform(0.1, 0.4) * since.clip(0.0, 1.0) * np.sin(
        2.0 * np.pi * rng.uniform(4.5, 6.5) * since)
    hz = between(rng, 165.0, 330.0) * 2.0 ** ((semitones + shake) / 12.0)
    string = partials(hz, rolled_off(10, 1.0)) * np.exp(-since / between(rng, 0.4, 2.5))
    return resonant(np.tanh(between(rng, 1.5, 12.0) * string), (between(rng, 700.0, 2500.0),),
                    1.0, 0.1)


def _bagpipes(rng: np.random.Generator, count: int) -> Samples:
    """Return a chanter over its drones, which never pauses; short graces part the notes."""
    number, since, _ = irregular(rng, count, ((0.15, 0.6), (0.15, 0.4), (0.3, 1.2)))
    scale = np.array([-2, 0, 2, 4, 5, 7, 9, 10, 12])
    tonic = between(rng, 420.0, 490.0)
    steps = scale[np.abs(np.cumsum(rng.integers(-3, 4, number[-1] + 1))) % len(scale)][number]
    graces = rng.choice([0, 12], number[-1] + 1)[number]
    semitones = np.where(since < 0.04, np.maximum(steps, graces), steps)
    chanter = partials(tonic * 2.0 ** (semitones / 12.0), rolled_off(14, rng.uniform(0.2, 0.6)))
    pressure = 1.0 + 0.003 * slow_changes(rng, count, 1.0)
    drones = sum((partials(tonic * ratio * detune * pressure, rolled_off(12, 0.6))
                  for ratio, detune in ((0.25, 1.0), (0.5, 1.001), (0.5, rng.uniform(0.99, 1.0)))),
                 np.zeros(count))
    return chanter / chanter.std() + rng.uniform(0.3, 0.8) * drones / drones.std()


def _cats(rng: np.random.Generator, count: int) -> Samples:
    """Return cats that mew, and that yowl at each other for seconds."""
    number, since, left = irregular(rng, count, ((0.3, 3.0), (0.2, 2.5)))
    total = since + left
    arch = np.sin(np.pi * since / total) ** rng.uniform(0.3, 1.0)
    tops = np.exp(rng.uniform(0.1, 0.7, number[-1] + 1))[number]
    hz = between(rng, 320.0, 600.0) * tops ** arch * (
        1.0 + 0.02 * slow_changes(rng, count, 15.0))
    throat = partials(hz, rolled_off(12, 0.6)) * (1.0 + 0.3 * slow_changes(rng, count, 40.0))
    closed = resonant(throat, (between(rng, 600.0, 900.0),), 0.5, 0.05)
    opened = resonant(throat, (between(rng, 1200.0, 1900.0), between(rng, 2500.0, 3500.0)),
                      0.4, 0.05)
    return (number % 2 == 0) * arch * (arch * opened + (1.0 - arch) * closed)


def _crows(rng: np.random.Generator, count: int) -> Samples:
    """Return crows: hoarse calls, some in a row, near and far."""
    sound, start, throat_hz = np.zeros(count), 0, between(rng, 1000.0, 1700.0)
    while start < count:
        level, hz, length = between(rng, 0.15, 1.0), between(rng, 280.0, 520.0), rng.uniform(
            0.2, 0.45)
        for _ in range(rng.integers(1, 6)):
            part = min(int(length * rng.uniform(0.9, 1.1) * SAMPLE_RATE), count - start)
            if part < 100:
                break
            pitch = hz * np.linspace(1.05, 0.9, part) * (
                1.0 + 0.08 * slow_changes(rng, part, 90.0)).clip(0.5)
            call = resonant(partials(pitch, rolled_off(18, 0.2)), (
                throat_hz, 1.6 * throat_hz), 0.35, 0.05)
            sound[start:start + part] += level * faded(call, 0.03, 0.08)
            start += part + int(rng.uniform(0.1, 0.4) * SAMPLE_RATE)
        start += int(rng.uniform(0.2, 3.0) * SAMPLE_RATE)
    return sound


def _stadium(rng: np.random.Generator, count: int) -> Samples:
    """Return a crowd that roars and claps in time, and the referee's whistle with its pea."""
    roar = resonant(rng.standard_normal(count), (between(rng, 500.0, 900.0), 1500.0), 0.6, 0.02)
    roar *= np.exp(0.7 * slow_changes(rng, count, 0.4))
    at = np.arange(count) / SAMPLE_RATE
    beat = at * rng.uniform(1.5, 2.5) % 1.0
    claps = shaped_noise(rng, count, lambda f: np.exp(-0.5 * (np.log2((f + 1.0) / 1400.0)) ** 2))
    claps *= np.exp(-12.0 * beat) * (slow_changes(rng, count, 0.2) > 0.0)
    number, since, left = irregular(rng, count, ((1.0, 6.0), (0.15, 1.5)))
    pea = np.sin(2.0 * np.pi * np.cumsum(
        rng.uniform(25.0, 40.0) * (1.0 + 0.1 * slow_changes(rng, count, 8.0))) / SAMPLE_RATE)
    whistle = partials(between(rng, 2200.0, 3800.0) * (1.0 + 0.02 * pea), (1.0, 0.1)) * (
        1.0 + 0.6 * pea) * (number % 2) * (np.minimum(since, left).clip(0.0, 0.03) / 0.03)
    return (roar / roar.std() + rng.uniform(0.0, 2.0) * claps / (claps.std() + 1e-9)
            + rng.uniform(0.3, 2.0) * whistle)


def _goods_train(rng: np.random.Generator, count: int) -> Samples:
    """Return waggons that pass: axles over a joint, wheels that ring, the load that rattles."""
    at, speed = np.arange(count) / SAMPLE_RATE, between(rng, 0.8, 2.2)
    # Both axles of a bogie, and those of the next.
    since = np.minimum(at * speed % 1.0, (at * speed - 0.18) % 1.0) / speed
    joint = shaped_noise(rng, count, lambda f: 1.0 / (1.0 + (f / 900.0) ** 2)) * np.exp(
        -since / 0.04)
    roll = resonant(rng.standard_normal(count), (between(rng, 500.0, 1800.0),), 1.0, 0.0)
    ring = sum((partials(np.full(count, between(rng, 500.0, 3500.0)), (1.0,))
                * (slow_changes(rng, count, 1.5) - 0.3).clip(0.0) for _ in range(4)),
               np.zeros(count))
    return (rng.uniform(0.8, 2.0) * joint / joint.std() + roll / roll.std()
            * np.exp(0.3 * slow_changes(rng, count, 2.0)) + rng.uniform(0.0, 0.5) * ring)


def _bicycle_bells(rng: np.random.Generator, count: int) -> Samples:
    """Return the ring-ring of bicycles, and single strikes of newer bells."""
    sound, start = np.zeros(count), 0
    while start < count:
        hz, decay, level = between(rng, 1300.0, 3200.0), between(rng, 0.15, 1.2), between(
            rng, 0.2, 1.0)
        strike = _ring(int(2.0 * SAMPLE_RATE), hz, (1.0, 1.004, 2.3, 3.6), decay)
        fast = rng.random() < 0.6
        for _ in range(rng.integers(6, 16) if fast else rng.integers(1, 4)):
            part = strike[:max(0, count - start)]
            sound[start:start + len(part)] += level * rng.uniform(0.6, 1.0) * part
            start += int((rng.uniform(0.04, 0.07) if fast else rng.uniform(0.25, 0.6))
                         * SAMPLE_RATE)
        start += int(rng.uniform(0.4, 3.0) * SAMPLE_RATE)
    return sound


def _hissing_reverser(rng: np.random.Generator, count: int) -> Samples:
    """Return the newer warning of a lorry that reverses: bursts of noise, and the wall's echo."""
    at = np.arange(count) / SAMPLE_RATE
    is_on = (at * rng.uniform(1.0, 2.5) + rng.uniform()) % 1.0 < rng.uniform(0.3, 0.6)
    centre, octaves = between(rng, 1200.0, 3000.0), rng.uniform(0.4, 1.0)
    burst = resonant(rng.standard_normal(count), (centre,), octaves, 0.01)
    burst *= smoothed(is_on.astype(np.float64), int(0.01 * SAMPLE_RATE))
    late = min(int(rng.uniform(0.02, 0.15) * SAMPLE_RATE), count - 1)
    return burst + rng.uniform(0.1, 0.5) * np.append(np.zeros(late), burst[:count - late])


def _navigation(rng: np.random.Generator, count: int) -> Samples:
    """Return a chime, and a voice that says where to turn; the tick of the indicator."""
    sound, start = np.zeros(count), int(rng.uniform(0.0, 1.0) * SAMPLE_RATE)
    chime, pitch = between(rng, 500.0, 1300.0) * 2.0 ** (
        rng.choice([0, 4, 5, 7, 12], rng.integers(2, 5)) / 12.0), between(rng, 150.0, 240.0)
    gap = int(rng.uniform(0.12, 0.35) * SAMPLE_RATE)
    while start < count:
        for hz in chime:
            part = _ring(SAMPLE_RATE, hz, (1.0, 2.0, 3.0), 0.3)[:max(0, count - start)]
            sound[start:start + len(part)] += faded(part, 0.005, 0.05)
            start += gap
        length = min(int(rng.uniform(1.0, 4.0) * SAMPLE_RATE), count - start)
        if length > SAMPLE_RATE // 4:
            sound[start:start + length] += rng.uniform(0.6, 1.5) * _voice(rng, length, pitch)
        start += length + int(rng.uniform(1.0, 4.0) * SAMPLE_RATE)
    tick = np.exp(-(np.arange(count) / SAMPLE_RATE * rng.uniform(2.4, 3.2) % 1.0) / 0.01)
    return sound + 0.3 * tick * shaped_noise(rng, count, lambda f: f / (f + 1500.0))


NOISES: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    'electric guitar': _guitar, 'bagpipes': _bagpipes, 'cats': _cats, 'crows': _crows,
    'stadium': _stadium, 'goods train': _goods_train, 'bicycle bells': _bicycle_bells,
    'hissing reverser': _hissing_reverser, 'navigation': _navigation}
