# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is always there on the road and means nothing, and what only sounds like a warning."""

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
from vts_ros.sound.log_spectrum import SAMPLE_RATE

Noise = Callable[[np.random.Generator, int], Samples]


def _tyres(rng: np.random.Generator, count: int) -> Samples:
    corner, steepness = between(rng, 200.0, 1200.0), rng.uniform(1.0, 2.2)
    noise = shaped_noise(rng, count, lambda f: 1.0 / (1.0 + (f / corner) ** steepness))
    return noise * (1.0 + 0.25 * slow_changes(rng, count, 0.5)).clip(0.1)


def _engine(rng: np.random.Generator, count: int) -> Samples:
    hz = between(rng, 18.0, 110.0) * (1.0 + 0.2 * slow_changes(rng, count, 0.3)).clip(0.4, 2.0)
    tone = partials(hz, [level * rng.uniform(0.3, 1.0)
                         for level in rolled_off(24, rng.uniform(0.5, 1.2))])
    return tone / tone.std() + rng.uniform(0.1, 0.8) * _tyres(rng, count)


def _wind(rng: np.random.Generator, count: int) -> Samples:
    corner = between(rng, 80.0, 400.0)
    noise = shaped_noise(rng, count, lambda f: 1.0 / (1.0 + (f / corner) ** 1.5))
    return noise * (1.0 + 0.6 * slow_changes(rng, count, 1.5)).clip(0.05)


def _rain(rng: np.random.Generator, count: int) -> Samples:
    hiss = shaped_noise(rng, count, lambda f: f / (f + 2500.0))
    drops = (rng.random(count) < between(rng, 20.0, 300.0) / SAMPLE_RATE) * rng.exponential(
        1.0, count)
    ring = filtered(drops, lambda f: np.exp(-0.5 * (np.log2((f + 1.0) / between(
        rng, 900.0, 3000.0)) / 0.7) ** 2))
    return hiss / hiss.std() + rng.uniform(0.3, 1.5) * ring / (ring.std() + 1e-9)


def _speech(rng: np.random.Generator, count: int) -> Samples:
    """Return voiced syllables with formants, between hisses and pauses."""
    pitch = between(rng, 90.0, 240.0) * (1.0 + 0.15 * slow_changes(rng, count, 2.5))
    voice = partials(pitch, rolled_off(30, 1.0))
    parts = np.zeros(count)
    for low, high in ((300.0, 800.0), (900.0, 2200.0), (2300.0, 3200.0)):
        centre = between(rng, low, high)
        part = filtered(voice, lambda f, at=centre: np.exp(  # type: ignore[misc]
            -0.5 * ((f - at) / 160.0) ** 2))
        parts += part * (0.6 + 0.5 * slow_changes(rng, count, 5.0)).clip(0.0)
    syllables = (slow_changes(rng, count, rng.uniform(5.0, 9.0)) + 0.4).clip(0.0)
    hiss = shaped_noise(rng, count, lambda f: np.where(f > 3000.0, 1.0, 0.0))
    hiss *= (slow_changes(rng, count, 6.0) - 0.8).clip(0.0)
    return parts / (parts.std() + 1e-9) * syllables + 0.4 * hiss


def _passing(rng: np.random.Generator, count: int) -> Samples:
    """Return cars that pass by."""
    sound = 0.15 * _tyres(rng, count)
    t = np.arange(count) / SAMPLE_RATE
    for _ in range(max(1, round(count / SAMPLE_RATE / 4.0))):
        at, width = rng.uniform(0.0, t[-1]), between(rng, 0.3, 1.5)
        sound += _tyres(rng, count) / (1.0 + ((t - at) / width) ** 2)
    return sound


def _music(rng: np.random.Generator, count: int, vibrato: float = 0.0) -> Samples:
    """Return chords and drums: what a radio plays."""
    beat = int(rng.uniform(0.22, 0.6) * SAMPLE_RATE)
    sound, key = np.zeros(count), between(rng, 130.0, 260.0)
    steps = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    levels = rolled_off(6, rng.uniform(0.8, 1.8))
    for start in range(0, count, beat):
        length = min(int(beat * rng.choice([1, 1, 2, 4])), count - start)
        for _ in range(rng.integers(1, 4)):
            hz = np.full(length, key * 2.0 ** (rng.choice(steps) / 12.0) * rng.choice([1, 2, 4]))
            if vibrato:
                hz *= 1.0 + vibrato * np.sin(2.0 * np.pi * 5.5 * np.arange(length) / SAMPLE_RATE)
            note = partials(hz, levels) * np.exp(
                -np.arange(length) / SAMPLE_RATE / between(rng, 0.15, 1.5))
            sound[start:start + length] += faded(note, 0.01, 0.02)
        drum = shaped_noise(rng, min(2000, count - start), lambda f: 1.0 / (
            1.0 + f / 3000.0)) if count - start > 200 else np.zeros(0)
        sound[start:start + len(drum)] += rng.uniform(0.0, 1.5) * drum * np.exp(
            -np.arange(len(drum)) / 500.0)
    return sound


def _beeper(rng: np.random.Generator, count: int) -> Samples:
    """Return the warning of a lorry that reverses, a seat belt, a phone: one tone, repeated."""
    hz = between(rng, 600.0, 3000.0)
    is_on = (times(count / SAMPLE_RATE)[:count] * rng.uniform(0.7, 4.0) % 1.0) < rng.uniform(
        0.15, 0.6)
    return partials(np.full(count, hz), rolled_off(3, 1.5)) * np.resize(is_on, count)


def _knocks(rng: np.random.Generator, count: int) -> Samples:
    """Return joints of the road, doors, the indicator: short and harmless."""
    sound = np.zeros(count)
    for start in rng.integers(0, count, size=max(1, int(count / SAMPLE_RATE * between(
            rng, 0.3, 3.0)))):
        length = min(int(rng.uniform(0.01, 0.12) * SAMPLE_RATE), count - start)
        if length > 16:
            corner = between(rng, 80.0, 1500.0)
            knock = shaped_noise(rng, length, lambda f, at=corner: 1.0 / (  # type: ignore[misc]
                1.0 + (f / at) ** 2))
            sound[start:start + length] += knock / knock.std() * np.exp(
                -5.0 * np.arange(length) / length) * rng.uniform(0.3, 1.0)
    return sound


def _birds(rng: np.random.Generator, count: int) -> Samples:
    sound = np.zeros(count)
    for start in rng.integers(0, count, size=max(1, int(2.0 * count / SAMPLE_RATE))):
        length = min(int(rng.uniform(0.05, 0.3) * SAMPLE_RATE), count - start)
        if length > 100:
            hz = between(rng, 2000.0, 5500.0) * np.linspace(
                rng.uniform(0.8, 1.0), rng.uniform(0.8, 1.3), length)
            sound[start:start + length] += faded(partials(hz, (1.0,)), 0.01, 0.02)
    return sound


def _hum(rng: np.random.Generator, count: int) -> Samples:
    """Return a steady tone with harmonics: the inverter of an electric car, a fan."""
    hz = between(rng, 200.0, 1800.0) * (1.0 + 0.1 * slow_changes(rng, count, 0.15)).clip(0.5, 1.5)
    return partials(hz, rolled_off(6, rng.uniform(0.6, 1.8)))


#: What is always there, and what now and then is heard, too, and must not be taken for a warning.
BACKGROUND: dict[str, Noise] = {
    'tyres': _tyres, 'engine': _engine, 'wind': _wind, 'rain': _rain, 'passing cars': _passing}
HARMLESS: dict[str, Noise] = {
    'speech': _speech, 'music': _music, 'beeper': _beeper, 'knocks': _knocks, 'birds': _birds,
    'hum': _hum}


def _melody(rng: np.random.Generator, count: int) -> Samples:
    """Return an instrument that plays one note after another, without drums."""
    sound, key = np.zeros(count), between(rng, 180.0, 700.0)
    steps = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19])
    levels = [level * float(np.exp(rng.normal(0.0, 0.5)))
              for level in rolled_off(8, rng.uniform(0.6, 1.8))]
    beat, decay, step, start = rng.uniform(0.12, 0.5), between(rng, 0.3, 6.0), 4, 0
    while start < count:
        length = min(int(beat * rng.choice([1, 1, 1, 2, 3]) * SAMPLE_RATE), count - start)
        if rng.random() > 0.12:
            step = int(np.clip(step + rng.integers(-3, 4), 0, len(steps) - 1))
            note = partials(np.full(length, key * 2.0 ** (steps[step] / 12.0)), levels)
            sound[start:start + length] += faded(
                note * np.exp(-np.arange(length) / SAMPLE_RATE / decay), 0.01, 0.02)
        start += length
    return sound


def _revving(rng: np.random.Generator, count: int) -> Samples:
    """Return an engine that speeds up, changes gears, and slows down."""
    t, place, points = np.arange(count) / SAMPLE_RATE, 0.0, []
    while place < count / SAMPLE_RATE + 1.0:
        low, high = between(rng, 30.0, 90.0), between(rng, 90.0, 240.0)
        rise = rng.uniform(0.8, 5.0)
        points += [(place, low), (place + rise, high), (place + rise + 0.3, 0.7 * high)]
        place += rise + rng.uniform(0.4, 3.0)
    knots = np.array(points)
    hz = np.interp(t, knots[:, 0], knots[:, 1])
    tone = partials(hz, [level * rng.uniform(0.2, 1.0)
                         for level in rolled_off(24, rng.uniform(0.3, 1.0))])
    return tone / tone.std() + rng.uniform(0.05, 0.5) * _tyres(rng, count)


def _ringing(rng: np.random.Generator, count: int) -> Samples:
    """Return a phone: a few short tones, and a pause as long or longer."""
    tones, each = between(rng, 500.0, 2200.0) * rng.uniform(0.6, 1.7, rng.integers(1, 5)), (
        rng.uniform(0.05, 0.2))
    rings = int(rng.integers(1, 4)) * len(tones)
    number = (np.arange(count) / SAMPLE_RATE / each).astype(int) % (
        rings + int(rings * rng.uniform(1.0, 4.0)) + 1)
    hz = tones[number % len(tones)]
    return partials(hz, rolled_off(4, rng.uniform(1.0, 2.5))) * (number < rings)


def _whistling(rng: np.random.Generator, count: int) -> Samples:
    """Return somebody who whistles a tune, gliding from note to note."""
    points = max(4, int(count / SAMPLE_RATE * rng.uniform(1.5, 4.0)))
    notes = between(rng, 900.0, 1600.0) * 2.0 ** (rng.integers(-5, 8, points) / 12.0)
    at = np.linspace(0.0, points - 1.0, count)
    glide = ((at % 1.0 - 0.7) / 0.3).clip(0.0, 1.0)
    first = at.astype(int)
    hz = notes[first] * (notes[(first + 1).clip(0, points - 1)] / notes[first]) ** glide
    return partials(hz, (1.0, 0.05)) * (0.5 + slow_changes(rng, count, 1.0)).clip(0.0, 1.5)


def _mower(rng: np.random.Generator, count: int) -> Samples:
    """Return a small engine with a blade, which labours now and then."""
    hz = between(rng, 40.0, 60.0) * (1.0 + 0.08 * slow_changes(rng, count, 0.8)).clip(0.7, 1.3)
    blade = partials(3.0 * hz, rolled_off(12, rng.uniform(0.2, 0.8)))
    return partials(hz, rolled_off(30, 0.6)) + blade * (
        1.0 + 0.5 * slow_changes(rng, count, 3.0)).clip(0.0)


def _singing(rng: np.random.Generator, count: int) -> Samples:
    return _music(rng, count, vibrato=rng.uniform(0.01, 0.04))


def _drill(rng: np.random.Generator, count: int) -> Samples:
    """Return a jackhammer."""
    t = times(count / SAMPLE_RATE)[:count]
    strokes = np.exp(-8.0 * (np.resize(t, count) * rng.uniform(15.0, 30.0) % 1.0))
    return strokes * shaped_noise(rng, count, lambda f: f / (f + 500.0) / (1.0 + f / 4000.0))


def _tram(rng: np.random.Generator, count: int) -> Samples:
    """Return wheels on rails, which now and then squeal a little."""
    rumble = shaped_noise(rng, count, lambda f: np.exp(-0.5 * (np.log2((f + 1.0) / 250.0)) ** 2))
    hz = between(rng, 2500.0, 4500.0) * (1.0 + 0.01 * slow_changes(rng, count, 20.0))
    squeal = partials(hz, (1.0,)) * (slow_changes(rng, count, 1.0) - 0.7).clip(0.0)
    return rumble / rumble.std() + 0.5 * squeal


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


#: Harmless, and nearer to a siren than most; learned from beside the others.
MORE: dict[str, Noise] = {
    'melody': _melody, 'revving': _revving, 'ringing': _ringing, 'whistling': _whistling,
    'mower': _mower, 'singing': _singing, 'drill': _drill, 'tram': _tram, 'flute': _flute,
    'accordion': _accordion, 'dance music': _dance, 'children': _children, 'saw': _saw}
