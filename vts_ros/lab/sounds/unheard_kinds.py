# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sirens and noises of the split ``test``, by which a network is judged at the very end.

They were written from what is heard on roads, not from what a network does, and apart from what
is learned. Nothing is learned or chosen by them, and their generators are used nowhere else. What
is learned has motors, horns, instruments, whistles and voices of other making.
"""

from __future__ import annotations

from collections.abc import Callable

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


def _driver(rng: np.random.Generator, hz: Samples) -> Samples:
    """Return a loudspeaker of some make: how it clips and where it is loudest differs."""
    tone = partials(hz, rolled_off(11, rng.uniform(0.6, 1.7)))
    tone = np.tanh(between(rng, 0.5, 2.5) * tone + rng.uniform(-0.3, 0.3))
    return resonant(tone - tone.mean(), (between(rng, 800.0, 2200.0),), rng.uniform(0.8, 1.5), 0.3)


def _compressor_horns(rng: np.random.Generator, seconds: float) -> Samples:
    """Return four trumpets in turn; each begins flat until the air of the compressor is there."""
    tone_sec = rng.uniform(0.55, 0.85)
    at = times(seconds) + rng.uniform(0.0, 4.0 * tone_sec)
    number, since = (at / tone_sec).astype(int) % 4, at % tone_sec
    # A fourth apart, and no two of a pair quite in tune.
    bells = between(rng, 400.0, 455.0) * np.array([1.0, 4.0 / 3.0, 1.0, 4.0 / 3.0]) * (
        1.0 + rng.normal(0.0, 0.012, 4))
    scoop = 1.0 - rng.uniform(0.05, 0.15) * np.exp(-since / rng.uniform(0.03, 0.09))
    swell = (1.0 - np.exp(-since / 0.03)) * ((tone_sec - since) / 0.04).clip(0.0, 1.0)
    brass = partials(bells[number] * scoop, rolled_off(16, rng.uniform(0.2, 0.6)))
    air = shaped_noise(rng, len(at), lambda f: f / (f + 1500.0))
    return swell * (brass / brass.std() + rng.uniform(0.05, 0.25) * air / air.std())


def _coaster(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a mechanical siren on the bumper: a pedal winds it up, it coasts, a brake ends it."""
    pull, drag, brake = rng.uniform(1.0, 2.5), rng.uniform(8.0, 16.0), rng.uniform(0.6, 1.5)
    speed, has_brake = rng.uniform(0.3, 1.0), rng.random() < 0.6
    speeds: list[float] = []
    while len(speeds) < 100.0 * seconds + 2.0:
        spans = ((rng.uniform(2.0, 6.0), 1.0, pull), (rng.uniform(3.0, 12.0), 0.0, drag),
                 (rng.uniform(0.2, 1.0) * has_brake, 0.0, brake))
        for span_sec, goal, pace_sec in spans:
            for _ in range(int(100.0 * span_sec)):
                speed = max(0.2, speed + (goal - speed) / (100.0 * pace_sec))
                speeds.append(speed)
    turning = np.interp(times(seconds), np.arange(len(speeds)) / 100.0, speeds)
    hz = between(rng, 700.0, 1100.0) * turning
    # Ten ports a turn, none quite as the next: once a turn it growls.
    growl = 1.0 + rng.uniform(0.2, 0.6) * np.sin(2.0 * np.pi * np.cumsum(hz / 10.0) / SAMPLE_RATE)
    air = shaped_noise(rng, len(hz), lambda f: np.exp(-0.5 * (np.log2((f + 1.0) / 1800.0)) ** 2))
    tone = partials(hz, [level * rng.uniform(0.4, 1.0)
                         for level in rolled_off(14, rng.uniform(0.4, 0.9))])
    return turning * growl * (tone / tone.std() + rng.uniform(0.1, 0.4) * air / air.std())


def _soft_two_tone(rng: np.random.Generator, seconds: float) -> Samples:
    """Return the two soft tones of a Japanese ambulance, 960 and 770 Hz, each of which dies."""
    tone_sec = rng.uniform(0.6, 0.7)
    at = times(seconds) + rng.uniform(0.0, 2.0 * tone_sec)
    hz = rng.uniform(0.97, 1.03) * np.where((at / tone_sec).astype(int) % 2, 770.0, 960.0)
    hz = smoothed(hz, int(0.01 * SAMPLE_RATE))
    sound = partials(hz, (1.0, rng.uniform(0.02, 0.15), rng.uniform(0.02, 0.12)))
    if rng.random() < 0.4:
        # What is sold as gentler adds a third and a fourth below.
        sound = sound + rng.uniform(0.2, 0.6) * (partials(0.8 * hz, (1.0,)) + partials(
            0.75 * hz, (1.0,)))
    since = at % tone_sec
    return sound * (since / 0.02).clip(0.0, 1.0) * np.exp(-since / between(rng, 0.3, 2.0))


def _fire_bell(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a fire engine that strikes its bell while it wails."""
    at, period_sec, up = times(seconds), rng.uniform(4.0, 7.0), rng.uniform(0.2, 0.45)
    place = (at / period_sec + rng.uniform()) % 1.0
    height = np.where(place < up, np.sin(0.5 * np.pi * place / up), np.exp(
        -2.5 * (place - up) / (1.0 - up)) - np.exp(-2.5) * (place - up) / (1.0 - up))
    wail = _driver(rng, between(rng, 330.0, 480.0) * between(rng, 1.8, 2.5) ** height)
    every = rng.uniform(0.22, 0.6)
    since = (at + rng.uniform(0.0, every)) % every
    bell = sum((np.exp(-since * ratio / between(rng, 0.2, 0.8)) * partials(
        np.full(len(at), between(rng, 900.0, 1100.0) * ratio), (rng.uniform(0.3, 1.0),))
        for ratio in (1.0, 1.48, 2.09, 2.56, 3.39, 4.1)), np.zeros(len(at)))
    return wail / wail.std() + rng.uniform(0.4, 1.2) * bell / bell.std()


def _bullhorn(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a wail that bursts of the air horn interrupt, at what crossing there is."""
    at = times(seconds)
    number, since, left = irregular(rng, len(at), (
        (2.0, 6.0), (0.3, 1.2), (0.1, 1.5), (0.2, 0.6), (0.1, 0.8), (0.4, 1.5)))
    place = (at / between(rng, 3.0, 6.0) + rng.uniform()) % 1.0
    wail = _driver(rng, between(rng, 550.0, 750.0) * between(rng, 1.7, 2.3) ** np.sin(
        np.pi * place) ** rng.uniform(0.7, 1.5))
    base = between(rng, 280.0, 420.0) * (1.0 - 0.06 * np.exp(-since / 0.03))
    blast = sum((partials(ratio * base, rolled_off(14, 0.4))
                 for ratio in (1.0, rng.uniform(1.18, 1.27))), np.zeros(len(at)))
    blast = np.tanh(blast)
    rough = 1.0 + 0.3 * np.sin(2.0 * np.pi * rng.uniform(25.0, 60.0) * at)
    blast = (blast - blast.mean()) * rough
    level = np.minimum(since, left).clip(0.0, 0.02) / 0.02
    return level * np.where(number % 2, rng.uniform(0.8, 1.5) * blast / blast.std(),
                            wail / wail.std())


def _phaser(rng: np.random.Generator, seconds: float) -> Samples:
    """Return zips: pitches that drop faster than can be followed, some in a row and a gap."""
    zip_sec, row = between(rng, 0.07, 0.2), int(rng.integers(3, 12))
    gap_sec = rng.uniform(0.0, 0.25)
    at = (times(seconds) + rng.uniform(0.0, 1.0)) % (row * zip_sec + gap_sec)
    place = at % zip_sec / zip_sec
    bottom, top, haste = between(rng, 450.0, 800.0), between(rng, 1700.0, 3000.0), rng.uniform(
        1.5, 5.0)
    fall = (np.exp(-haste * place) - np.exp(-haste)) / (1.0 - np.exp(-haste))
    level = (np.minimum(place, 1.0 - place) * zip_sec).clip(0.0, 0.003) / 0.003
    return _driver(rng, bottom * (top / bottom) ** fall) * level * (at < row * zip_sec)


def _between_houses(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a whooping siren round the corner: walls that it moves along send it back late."""
    at = times(seconds)
    place = (at / between(rng, 0.3, 1.2) + rng.uniform()) % 1.0
    up = rng.uniform(0.6, 0.9)
    height = np.where(place < up, (place / up) ** 1.5, (1.0 - place) / (1.0 - up))
    siren = _driver(rng, between(rng, 500.0, 750.0) * between(rng, 1.8, 2.4) ** height)
    sound = rng.uniform(0.2, 1.0) * siren * np.exp(0.5 * slow_changes(rng, len(at), 0.5))
    for _ in range(6):
        # To a wall that comes nearer by 5 m/s the way there and back takes 0.03 s less a second.
        first = between(rng, 0.04, 0.8)
        late = first + rng.uniform(-0.03, 0.03) * at
        sound += between(rng, 0.2, 0.8) / (1.0 + 3.0 * first) * np.interp(
            at - np.abs(late), at, siren, left=0.0)
    dull = between(rng, 1200.0, 5000.0)
    return filtered(sound, lambda f: 1.0 / (1.0 + (f / dull) ** 2))


def _worn(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a cheap siren on a weak battery: clipped, one of two loudspeakers with a bad wire."""
    at = times(seconds)
    rate = np.exp(0.15 * slow_changes(rng, len(at), 0.5)) * between(rng, 0.4, 3.0)
    place = (np.cumsum(rate) / SAMPLE_RATE + rng.uniform()) % 1.0
    height = (1.0 - np.exp(-3.0 * np.minimum(place, 1.0 - place) * 2.0)) / (1.0 - np.exp(-3.0))
    hz = between(rng, 500.0, 900.0) * between(rng, 1.5, 2.3) ** height * (
        1.0 - rng.uniform(0.0, 0.06) * height + 0.01 * slow_changes(rng, len(at), 6.0))
    square = np.clip(between(rng, 3.0, 20.0) * partials(hz, (1.0, 0.3)), -1.0, 1.0)
    first, second = (resonant(square, (between(rng, 900.0, 2800.0),), rng.uniform(0.3, 0.7), 0.05)
                     for _ in range(2))
    wire = smoothed((slow_changes(rng, len(at), 4.0) > -0.3).astype(np.float64), 100)
    crackle = rng.standard_normal(len(at)) * (rng.random(len(at)) < 0.002)
    return first / first.std() + wire * second / second.std() + rng.uniform(0.0, 3.0) * crackle


SIRENS: dict[str, Callable[[np.random.Generator, float], Samples]] = {
    'compressor horns': _compressor_horns, 'coaster': _coaster, 'soft two-tone': _soft_two_tone,
    'wail and fire bell': _fire_bell, 'wail and bullhorn': _bullhorn, 'phaser': _phaser,
    'between houses': _between_houses, 'worn loudspeakers': _worn}


def _violin(rng: np.random.Generator, count: int) -> Samples:
    """Return a violin alone: long bows, vibrato that begins late, slides from note to note."""
    number, since, left = irregular(rng, count, ((0.2, 0.8), (0.3, 2.5), (0.15, 0.6)))
    scale = np.array([0, 2, 3, 5, 7, 8, 11, 12, 14, 15, 17, 19])
    steps = scale[np.abs(np.cumsum(rng.integers(-3, 4, number[-1] + 1))) % len(scale)][number]
    steps = smoothed(steps.astype(np.float64), int(rng.uniform(0.02, 0.15) * SAMPLE_RATE))
    vibrato = rng.uniform(0.1, 0.4) * (since / 0.4).clip(0.0, 1.0) * np.sin(
        2.0 * np.pi * np.cumsum(rng.uniform(5.0, 7.0) * np.ones(count)) / SAMPLE_RATE)
    string = partials(between(rng, 196.0, 660.0) * 2.0 ** ((steps + vibrato) / 12.0),
                      rolled_off(18, rng.uniform(0.8, 1.2)))
    string += 0.15 * shaped_noise(rng, count, lambda f: f / (f + 3000.0))
    bow = np.minimum(since / 0.06, left / 0.03).clip(0.0, 1.0) * np.exp(
        0.3 * slow_changes(rng, count, 1.5))
    return resonant(string * bow, (280.0, 460.0, between(rng, 900.0, 1300.0), 2600.0), 0.35, 0.2)


def _brass_band(rng: np.random.Generator, count: int) -> Samples:
    """Return a march: tubas on the beat, horns after it, trumpets with the tune, a drum."""
    beat, at = rng.uniform(0.24, 0.32), np.arange(count) / SAMPLE_RATE
    half, key = (at / beat).astype(int), between(rng, 180.0, 250.0)
    since, levels = at % beat, rolled_off(10, rng.uniform(0.5, 0.9))
    roots = rng.choice([0, 0, 5, 7], half[-1] // 4 + 1)[half // 4]
    blown = np.minimum(since / 0.02, (beat - since) / 0.03).clip(0.0, 1.0)
    sound = 1.5 * partials(0.25 * key * 2.0 ** (roots / 12.0), levels) * blown * (half % 2 == 0)
    for chord in (4, 7, 12):
        sound += 0.4 * partials(0.5 * key * 2.0 ** ((roots + chord) / 12.0), levels) * blown * (
            half % 2)
    number, since, left = irregular(rng, count, ((beat, beat), (beat, beat), (2.0 * beat,) * 2))
    tune = rng.choice([0, 2, 4, 5, 7, 9, 12], number[-1] + 1)[number]
    lips = np.minimum(since / 0.03, left / 0.03).clip(0.0, 1.0)
    for detune in (1.0, rng.uniform(1.003, 1.008)):
        sound += lips * partials(2.0 * detune * key * 2.0 ** (tune / 12.0), levels)
    return sound + 2.0 * np.exp(-(at % (2.0 * beat)) / 0.06) * np.sin(2.0 * np.pi * 70.0 * at)


def _opera(rng: np.random.Generator, count: int) -> Samples:
    """Return a trained voice: held notes with wide vibrato, glides, vowels, a ring at 2.8 kHz."""
    number, since, left = irregular(rng, count, ((0.25, 1.0), (0.5, 3.5), (0.3, 1.2), (0.15, 0.5)))
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 16])
    steps = scale[np.abs(np.cumsum(rng.integers(-3, 4, number[-1] + 1))) % len(scale)][number]
    steps = smoothed(steps.astype(np.float64), int(rng.uniform(0.08, 0.3) * SAMPLE_RATE))
    shake = np.sin(2.0 * np.pi * rng.uniform(4.8, 6.8) * np.arange(count) / SAMPLE_RATE)
    throat = partials(between(rng, 130.0, 520.0) * 2.0 ** (
        (steps + rng.uniform(0.4, 1.1) * shake) / 12.0), rolled_off(20, 0.9))
    ah = resonant(throat, (750.0, 1150.0, 2800.0), 0.3, 0.03)
    ee = resonant(throat, (350.0, 2000.0, 2900.0), 0.3, 0.03)
    mouth = smoothed((rng.random(number[-1] + 1) < 0.4)[number].astype(np.float64), 1500)
    # Three notes in one breath.
    kind = number % 4
    breath = np.where(kind == 0, since, np.where(kind == 2, left, 1.0)).clip(0.0, 0.08) / 0.08
    return (mouth * ee / ee.std() + (1.0 - mouth) * ah / ah.std()) * breath * (
        kind < 3) * (1.0 + 0.15 * shake)


def _church_bells(rng: np.random.Generator, count: int) -> Samples:
    """Return a peal: each bell swings at its own pace, with hum, minor third and nominal."""
    sound, largest = np.zeros(count), between(rng, 180.0, 420.0)
    at = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    for bell in range(rng.integers(1, 5)):
        hz = largest * 2.0 ** (rng.choice([0, 2, 3, 4, 5, 7]) / 12.0 + 0.2 * bell)
        strike = sum((level * np.sin(2.0 * np.pi * hz * ratio * at) * np.exp(
            -at * ratio ** 0.8 / rng.uniform(1.0, 3.0)) for ratio, level in (
                (0.5, 0.5), (1.0, 0.8), (1.19, 0.8), (1.5, 0.3), (2.0, 1.0), (2.52, 0.4),
                (3.01, 0.5), (4.17, 0.3)) if hz * ratio < 7000.0), np.zeros(len(at)))
        every = between(rng, 0.8, 1.6) * (largest / hz) ** 0.3
        start = rng.uniform(0.0, every)
        while start * SAMPLE_RATE < count:
            begin = int(start * SAMPLE_RATE)
            part = faded(strike, 0.002, 0.3)[:count - begin]
            sound[begin:begin + len(part)] += rng.uniform(0.7, 1.0) * part
            start += every * rng.uniform(0.97, 1.03)
    return sound


def _ice_cream_van(rng: np.random.Generator, count: int) -> Samples:
    """Return a music box by a tinny loudspeaker: a phrase, again and again, a little out."""
    beat = rng.uniform(0.14, 0.3)
    phrase = rng.choice([0, 2, 4, 5, 7, 9, 12], int(rng.choice([12, 16, 24])))
    sounds = rng.random(len(phrase)) < 0.8
    at = np.arange(count) / SAMPLE_RATE
    # A note rings on where the next is a rest.
    played = np.maximum.accumulate(np.where(sounds, np.arange(len(phrase)), 0))
    place = (at / beat).astype(int) % len(phrase)
    since = at % beat + (place - played[place]) * beat
    wow = 1.0 + rng.uniform(0.0, 0.01) * np.sin(2.0 * np.pi * rng.uniform(0.5, 3.0) * at)
    hz = between(rng, 600.0, 1200.0) * 2.0 ** (phrase[played[place]] / 12.0) * wow
    chime = partials(hz, (1.0, 0.3, 0.5, 0.2), (1.0, 2.0, 3.0, 5.4)) * np.exp(
        -since / between(rng, 0.15, 0.8)) * (since / 0.003).clip(0.0, 1.0)
    return resonant(np.tanh(between(rng, 0.8, 3.0) * chime), (1800.0,), 0.9, 0.02)


def _dogs(rng: np.random.Generator, count: int) -> Samples:
    """Return dogs: one barks in rows, and now and then one howls."""
    sound, start, size = np.zeros(count), 0, between(rng, 0.6, 1.7)
    howls = rng.uniform(0.1, 0.6)
    while start < count:
        howl = rng.random() < howls
        for _ in range(1 if howl else rng.integers(1, 7)):
            length = min(int((rng.uniform(1.2, 4.0) if howl else rng.uniform(0.08, 0.2))
                             * SAMPLE_RATE), count - start)
            if length < 200:
                break
            arch = np.sin(np.pi * np.linspace(0.0, 1.0, length) ** rng.uniform(0.4, 0.9))
            hz = size * (380.0 if howl else 320.0) * (1.0 + rng.uniform(0.3, 0.8) * arch) * (
                1.0 + (0.01 if howl else 0.06) * slow_changes(rng, length, 25.0)).clip(0.5)
            call = partials(hz, rolled_off(12, 1.4 if howl else 0.4))
            call = call / call.std() + (0.02 if howl else 0.7) * rng.standard_normal(length)
            sound[start:start + length] += arch ** 0.5 * resonant(
                call, (700.0 * size, 1400.0 * size), 0.5, 0.05)
            start += length + int(rng.uniform(0.08, 0.4) * SAMPLE_RATE)
        start += int(rng.uniform(0.1, 2.5) * SAMPLE_RATE)
    return sound


def _baby(rng: np.random.Generator, count: int) -> Samples:
    """Return a baby that cries: a long breath out, a gasp in, and again."""
    number, since, left = irregular(rng, count, ((0.5, 1.6), (0.08, 0.3), (0.15, 0.3), (0.1, 0.8)))
    whole = since + left
    arch = np.sin(np.pi * (since / whole) ** 0.6)
    hz = between(rng, 330.0, 520.0) * (1.0 + rng.uniform(0.1, 0.4) * arch) * (
        1.0 + 0.03 * slow_changes(rng, count, 12.0))
    cry = partials(hz, rolled_off(14, 0.5))
    # When it is hoarse, every other period is weaker.
    rough = smoothed((slow_changes(rng, count, 2.0) > 0.8).astype(np.float64), 400)
    cry = cry * (1.0 + 0.5 * rough * np.sin(np.pi * np.cumsum(hz) / SAMPLE_RATE))
    cry = resonant(cry, (between(rng, 1000.0, 1400.0), between(rng, 2800.0, 3800.0)), 0.4, 0.1)
    gasp = shaped_noise(rng, count, lambda f: f / (f + 2000.0))
    return arch ** 0.4 * np.where(number % 4 == 0, cry / cry.std(), np.where(
        number % 4 == 2, 0.25 * gasp / gasp.std(), 0.0))


def _leaf_blower(rng: np.random.Generator, count: int) -> Samples:
    """Return a two-stroke engine with a fan, whose trigger a hand pulls and lets go."""
    number, _, _ = irregular(rng, count, ((0.5, 5.0), (0.3, 2.5)))
    trigger = np.where(number % 2, rng.uniform(0.4, 0.7), 1.0)
    spin = smoothed(trigger, int(rng.uniform(0.3, 0.9) * SAMPLE_RATE)) * (
        1.0 + 0.01 * slow_changes(rng, count, 5.0))
    hz = between(rng, 90.0, 130.0) * spin
    engine = partials(hz, [level * rng.uniform(0.2, 1.0) for level in rolled_off(30, 0.4)])
    blades = partials(hz * rng.integers(8, 14), (1.0, 0.5, 0.2))
    air = resonant(rng.standard_normal(count), (between(rng, 800.0, 2500.0),), 1.2, 0.02)
    return spin ** 2 * (engine / engine.std() + rng.uniform(0.2, 1.0) * blades
                        + rng.uniform(0.4, 1.2) * air / air.std())


def _metro(rng: np.random.Generator, count: int) -> Samples:
    """Return a train that starts and stops: its inverter climbs a scale, or whines up and down."""
    at, every = np.arange(count) / SAMPLE_RATE, rng.uniform(8.0, 16.0)
    place = (at + rng.uniform(0.0, every)) % every / every
    speed = np.interp(place, [0.0, 0.4, 0.55, 0.9, 1.0], [0.02, 1.0, 1.0, 0.02, 0.02])
    hz = between(rng, 900.0, 1600.0) * speed
    if rng.random() < 0.5:
        gear = int(rng.integers(6, 12))
        scale = np.cumsum(rng.choice([1, 2, 2, 3], gear)) / 12.0
        hz = between(rng, 180.0, 350.0) * 2.0 ** scale[(speed * (gear - 1)).astype(int)]
    whine = partials(hz + 20.0, rolled_off(10, rng.uniform(0.5, 1.2))) + 0.4 * partials(
        between(rng, 300.0, 700.0) * speed + 20.0, rolled_off(6, 0.8))
    moves = smoothed((place < 0.9).astype(np.float64), int(0.1 * SAMPLE_RATE))
    wheels = shaped_noise(rng, count, lambda f: 1.0 / (1.0 + (f / 500.0) ** 1.5))
    return (0.1 + moves) * whine / whine.std() * (1.2 - speed) + (
        rng.uniform(0.4, 1.2) * speed * wheels / wheels.std())


def _video_game(rng: np.random.Generator, count: int) -> Samples:
    """Return an old game: a tune of square waves with arpeggios, coins, jumps and shots."""
    beat, at = rng.uniform(0.1, 0.2), np.arange(count) / SAMPLE_RATE
    place = (at / beat).astype(int)
    tune = rng.choice([0, 2, 4, 7, 9, 12, 14], 32)[place % 32]
    chord = np.array([0, 4, 7])[(at * rng.uniform(15.0, 30.0)).astype(int) % 3]
    square = [1.0 / number if number % 2 else 0.0 for number in range(1, 12)]
    key = between(rng, 220.0, 520.0)
    sound = partials(key * 2.0 ** (tune / 12.0), square) * np.exp(-2.0 * (at % beat) / beat)
    sound += 0.5 * partials(0.5 * key * 2.0 ** (chord / 12.0), square)
    for start in rng.integers(0, count, max(1, int(count / SAMPLE_RATE))):
        length = min(int(rng.uniform(0.08, 0.4) * SAMPLE_RATE), count - start)
        run = np.linspace(0.0, 1.0, length)
        effect = int(rng.integers(3))
        curve = (np.where(run < 0.2, 0.0, 5.0 / 12.0), run, 1.5 - 2.5 * run)[effect]
        hz = between(rng, 300.0, 1000.0) * 2.0 ** curve
        sound[start:start + length] += faded(partials(hz, square), 0.002, 0.05)
    return sound


def _seagulls(rng: np.random.Generator, count: int) -> Samples:
    """Return gulls: long calls that fall in pitch, then a row of shorter ones, ever quicker."""
    sound, beak_hz = np.zeros(count), between(rng, 1300.0, 2300.0)
    for begin in rng.integers(0, count, max(1, int(0.4 * count / SAMPLE_RATE))):
        start, pace, level = int(begin), rng.uniform(0.3, 0.8), between(rng, 0.1, 1.0)
        low = between(rng, 600.0, 1100.0)
        for _ in range(rng.integers(1, 9)):
            length = min(int(0.75 * pace * SAMPLE_RATE), count - start)
            if length < 200:
                break
            run = np.linspace(0.0, 1.0, length)
            hz = low * (1.0 + rng.uniform(0.4, 0.9) * np.sin(np.pi * run ** 0.5)) * (
                1.0 + 0.03 * slow_changes(rng, length, 60.0))
            call = resonant(partials(hz, rolled_off(8, 0.6)), (
                beak_hz, 1.8 * beak_hz), 0.5, 0.1)
            sound[start:start + length] += level * faded(call, 0.03, 0.1)
            start += int(pace * SAMPLE_RATE)
            pace *= rng.uniform(0.8, 1.0)
    return sound


NOISES: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    'violin': _violin, 'brass band': _brass_band, 'opera': _opera, 'church bells': _church_bells,
    'ice-cream van': _ice_cream_van, 'dogs': _dogs, 'baby': _baby, 'leaf blower': _leaf_blower,
    'metro': _metro, 'video game': _video_game, 'seagulls': _seagulls}
