# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sirens of no maker: pitch that comes and goes in any shape, at any rate, in any voice.

They are there to be learned from, so that a siren is known by what all have in common. Each is a
height over time, a range of pitch, and a voice, all drawn. Nothing is left out for the sake of
what a network is judged by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vts_ros.lab.sounds.waves import (
    between,
    partials,
    rolled_off,
    Samples,
    slow_changes,
    smoothed,
    times,
    with_peak,
)
from vts_ros.sound.log_spectrum import SAMPLE_RATE

#: How long it takes until a glide comes back (s), and how often it is drawn from which range.
_PERIODS_SEC = ((0.03, 0.12), (0.12, 0.6), (0.6, 2.5), (2.5, 8.0), (8.0, 45.0))
_PERIOD_SHARES = (0.12, 0.25, 0.2, 0.25, 0.18)
#: The lowest pitch, and the highest as a multiple of it and in all.
_LOW_HZ, _RATIO, _HIGH_HZ = (110.0, 1300.0), (1.15, 5.0), 3500.0
#: What takes seconds to get anywhere has to get far to be a siren, in all and within the piece;
#: what is quick at least as far as can be heard; and a low one farther, or it is a hum.
_SLOW_RATIO, _SLOW_MOVE, _MOVE, _HIGHEST_RATIO = 1.7, 1.3, 1.1, 8.0
_DEEP_HZ, _DEEP_RATIO = 250.0, 1.4
#: Of tones in turn.
_TONE_SEC, _TONE_RATIO = (0.08, 1.6), (1.1, 2.2)
#: As loud as pauses are: not 0, so that the truth there is neither that it is heard nor that not.
_SILENCE = 1e-6
#: Steps a second of what is worked out step by step.
_PACE_HZ = 100


class _Course(NamedTuple):
    """
    What a siren does.

    Attributes
    ----------
    height
        Where in its range of pitch it is at each sample, 0 to 1.
    loudness
        At each sample, 0 to 1.
    is_slow
        Whether it takes seconds to get anywhere.
    is_in_tones
        Whether it goes from tone to tone, and does not glide far.

    """

    height: Samples
    loudness: Samples
    is_slow: bool = False
    is_in_tones: bool = False


def any_glides(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a pitch that rises and falls over and over."""
    return _sounded(rng, _glides(rng, seconds))


def any_motor(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a motor that runs up within seconds, holds its speed, and coasts down for long."""
    return _sounded(rng, _motor(rng, seconds))


def any_presses(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a siren that rises while a button is pressed, at no regular times."""
    return _sounded(rng, _presses(rng, seconds))


def any_tones(rng: np.random.Generator, seconds: float) -> Samples:
    """Return two or three tones in turn, over and over."""
    return _sounded(rng, _tones(rng, seconds))


def any_stairs(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a pitch that rises and falls in steps."""
    course = _glides(rng, seconds, between(rng, 0.4, 9.0))
    steps = int(rng.integers(3, 14))
    return _sounded(rng, course._replace(height=np.rint(course.height * steps) / steps))


def any_whoops(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a pitch that rises or falls, and a pause before it does again."""
    move, pause = between(rng, 0.15, 2.5), between(rng, 0.03, 1.2)
    place = (times(seconds) + rng.uniform(0.0, move + pause)) % (move + pause) / move
    height = place.clip(0.0, 1.0) ** between(rng, 0.4, 2.5)
    return _sounded(rng, _Course(height if rng.random() < 0.75 else 1.0 - height, smoothed(
        (place < 1.0).astype(np.float64), int(rng.uniform(0.002, 0.04) * SAMPLE_RATE))))


def any_programs(rng: np.random.Generator, seconds: float) -> Samples:
    """Return what a driver switches: some seconds of one pattern, then of another."""
    at, count = times(seconds), int(rng.integers(2, 5))
    courses = [_ANY_COURSE[rng.integers(len(_ANY_COURSE))](rng, seconds) for _ in range(count)]
    lasts = rng.uniform(1.0, rng.uniform(2.0, 6.0), 4 + int(seconds))
    order = (np.cumsum(rng.integers(1, count, len(lasts))) + rng.integers(count)) % count
    chosen = order[np.searchsorted(np.cumsum(lasts), at, side='right')]
    every = np.arange(len(at))
    # They share a range of pitch, and often each has a place of its own in it.
    spans = np.sort(rng.uniform(0.0, 1.0, (count, 2)), axis=1) if rng.random() < 0.5 else (
        np.tile([0.0, 1.0], (count, 1)))
    heights = np.stack([low + (high - low) * course.height
                        for (low, high), course in zip(spans, courses, strict=True)])
    return _sounded(rng, _Course(
        heights[chosen, every], np.stack([course.loudness for course in courses])[chosen, every],
        all(course.is_slow for course in courses),
        all(course.is_in_tones for course in courses)))


def any_two(rng: np.random.Generator, seconds: float) -> Samples:
    """Return two patterns at once, as of two vehicles or two loudspeakers of one."""
    sound = np.zeros(len(times(seconds)))
    for course in (_glides(rng, seconds, between(rng, 2.0, 9.0)),
                   _glides(rng, seconds, between(rng, 0.1, 0.8)) if rng.random() < 0.7
                   else _tones(rng, seconds)):
        sound += between(rng, 0.3, 1.0) * _sounded(rng, course)
    return sound


def any_horns(rng: np.random.Generator, seconds: float) -> Samples:
    """Return trumpets a third to a fifth apart that compressed air blows in turn or together."""
    count, slow = int(rng.integers(2, 4)), int(rng.uniform(0.01, 0.12) * SAMPLE_RATE)
    hz = between(rng, 180.0, 700.0) * np.cumprod(
        np.append(1.0, rng.uniform(1.18, 1.52, count - 1)))
    lasts = _lasts(rng, count)
    pause = between(rng, 0.1, 1.5) if rng.random() < 0.3 else 0.0
    at = (times(seconds) + rng.uniform(0.0, lasts.sum())) % (lasts.sum() + pause)
    blown = np.searchsorted(np.cumsum(lasts), at, side='right')
    is_chord = rng.random() < 0.3
    levels = rolled_off(16, rng.uniform(0.1, 0.9)) * np.exp(rng.normal(0.0, 0.3, 16))
    sound = np.zeros(len(at))
    for number in range(count):
        # All at once is a siren by its bursts: every second turn they are quiet.
        is_blown = blown % 2 == 0 if is_chord else blown == number
        air = smoothed((is_blown & (blown < count)).astype(np.float64), slow)
        pitch = hz[number] * (1.0 - rng.uniform(0.0, 0.06) * (1.0 - air))
        if rng.random() < 0.2:
            pitch = pitch * _vibrato(rng, len(at))
        voice = partials(pitch, list(levels))
        if rng.random() < 0.5:
            voice = voice + rng.uniform(0.4, 1.0) * partials(
                pitch * rng.uniform(1.003, 1.015), list(levels))
        sound += air.clip(_SILENCE) * voice / voice.std()
    return np.tanh(between(rng, 0.2, 2.0) * sound) if rng.random() < 0.4 else sound


ANY: dict[str, Callable[[np.random.Generator, float], Samples]] = {
    'any glides': any_glides, 'any motor': any_motor, 'any presses': any_presses,
    'any tones': any_tones, 'any stairs': any_stairs, 'any whoops': any_whoops,
    'any programs': any_programs, 'any two': any_two, 'any horns': any_horns}


def _glides(rng: np.random.Generator, seconds: float, period_sec: float | None = None) -> _Course:
    """Return ramps, waves or the loads of a capacitor, with a pause between some."""
    if period_sec is None:
        period_sec = between(rng, *_PERIODS_SEC[rng.choice(len(_PERIODS_SEC), p=_PERIOD_SHARES)])
    place = (times(seconds) / period_sec + rng.uniform()) % 1.0
    loudness, shape = np.ones(len(place)), rng.random()
    if period_sec > 0.4 and rng.random() < 0.15:
        rest = rng.uniform(0.1, 0.4)
        loudness = smoothed((place > rest).astype(np.float64), int(0.02 * SAMPLE_RATE))
        place = ((place - rest) / (1.0 - rest)).clip(0.0, 1.0)
    if shape < 0.25:
        curve = sum((rng.normal() / number ** 1.5 * np.sin(
            2.0 * np.pi * number * place + rng.uniform(0.0, 2.0 * np.pi))
            for number in (1, 2, 3)), np.zeros(len(place)))
        height = (curve - curve.min()) / max(1e-9, np.ptp(curve))
    elif shape < 0.45:
        up, pull = rng.uniform(0.15, 0.85), rng.uniform(0.5, 4.0)
        rise = (1.0 - np.exp(-pull * place / up)) / (1.0 - np.exp(-pull))
        fall = (np.exp(-pull * (place - up) / (1.0 - up)) - np.exp(-pull)) / (1.0 - np.exp(-pull))
        height = np.where(place < up, rise, fall).clip(0.0, 1.0)
    else:
        up = rng.uniform(0.35, 0.65) if shape < 0.75 else rng.uniform(0.02, 0.98)
        height = np.where(place < up, place / up, (1.0 - place) / (1.0 - up)) ** between(
            rng, 0.4, 2.5)
        if rng.random() < 0.3:
            height = 0.5 - 0.5 * np.cos(np.pi * height)
    return _Course(height, loudness, period_sec > 6.0)


def _motor(rng: np.random.Generator, seconds: float) -> _Course:
    pressed, released = between(rng, 2.0, 8.0), between(rng, 3.0, 30.0)
    # A hold is what is pressed after the speed is reached.
    return _switched(rng, seconds, (pressed, pressed + rng.uniform(0.0, 5.0)),
                     (0.4 * released, released), pressed / rng.uniform(1.5, 4.0),
                     released / rng.uniform(1.5, 4.0))


def _presses(rng: np.random.Generator, seconds: float) -> _Course:
    longest = between(rng, 0.8, 5.0)
    return _switched(rng, seconds, (0.2, longest), (0.2, between(rng, 0.8, 5.0)),
                     between(rng, 0.05, 1.5), between(rng, 0.1, 3.0))


def _switched(rng: np.random.Generator, seconds: float, on_sec: tuple[float, float],
              off_sec: tuple[float, float], up_sec: float, down_sec: float) -> _Course:
    """Return a height that nears 1 while it is on, and 0 while it is off."""
    count = int(seconds * _PACE_HZ) + 2
    heights = np.zeros(count)
    # A piece in which it only holds its speed would be a hum.
    for attempt in range(10):
        # It has been going on for a while, or starts from nothing.
        before = 0 if attempt == 9 or rng.random() < 0.3 else int(
            rng.uniform(0.0, on_sec[1] + off_sec[1]) * _PACE_HZ)
        targets: list[float] = []
        while len(targets) < count + before:
            for target, span in ((1.0, on_sec), (0.0, off_sec)):
                targets += [target] * (int(rng.uniform(*span) * _PACE_HZ) + 1)
        heights = _neared(targets[:count + before], up_sec, down_sec)[before:]
        if np.ptp(heights) > 0.35:
            break
    at = times(seconds)
    height = np.interp(at * _PACE_HZ, np.arange(count), heights)
    height = height / max(0.3, height.max())
    # What turns slowly moves little air, and what is electronic falls silent when it is low.
    quiet = rng.uniform(0.0, 1.5) if rng.random() < 0.6 else 0.0
    loudness = (height / 0.6).clip(1e-3, 1.0) ** quiet
    return _Course(height, loudness, up_sec + down_sec > 2.0)


def _neared(targets: list[float], up_sec: float, down_sec: float) -> Samples:
    """Return what nears its targets, upwards and downwards in so many seconds."""
    up, down = 1.0 / (up_sec * _PACE_HZ + 1.0), 1.0 / (down_sec * _PACE_HZ + 1.0)
    place, heights = 0.0, []
    for target in targets:
        place += (target - place) * (up if target else down)
        heights.append(place)
    return np.array(heights)


def _tones(rng: np.random.Generator, seconds: float) -> _Course:
    """Return two or three tones in turn, with a pause after each turn or none."""
    count = int(rng.choice([2, 2, 2, 3]))
    order = [0, 1] if count == 2 else [[0, 1, 2], [2, 1, 0], [0, 1, 0, 2], [1, 0, 1]][
        rng.integers(4)]
    lasts = _lasts(rng, len(order))
    pause = between(rng, 0.1, 1.5) if rng.random() < 0.3 else 0.0
    at = (times(seconds) + rng.uniform(0.0, lasts.sum())) % (lasts.sum() + pause)
    number = np.searchsorted(np.cumsum(lasts), at, side='right')
    pitches = np.array([0.0, 1.0] if count == 2 else [0.0, rng.uniform(0.2, 0.8), 1.0])
    height = pitches[np.array([*order, order[-1]])[number]]
    gap = rng.uniform(0.03, 0.25) if rng.random() < 0.2 else 0.0
    ends = np.append(np.cumsum(lasts), np.inf)
    heard = (number < len(order)) & (ends[number] - at > gap * lasts.min())
    if rng.random() < 0.5:
        # Some glide from tone to tone.
        height = smoothed(height, int(rng.uniform(0.01, 0.12) * SAMPLE_RATE))
    return _Course(height, smoothed(heard.astype(np.float64), int(
        rng.uniform(0.002, 0.03) * SAMPLE_RATE)), is_in_tones=True)


def _lasts(rng: np.random.Generator, count: int) -> Samples:
    """Return how long each of some tones lasts (s)."""
    return between(rng, *_TONE_SEC) * (
        np.ones(count) if rng.random() < 0.6 else rng.uniform(0.6, 1.6, count))


_ANY_COURSE: tuple[Callable[[np.random.Generator, float], _Course], ...] = (
    _glides, _glides, _tones, _presses)


def _sounded(rng: np.random.Generator, course: _Course) -> Samples:
    """Return a course in a range of pitch and a voice."""
    low = between(rng, *(_LOW_HZ if rng.random() < 0.4 else (350.0, 900.0)))
    narrow, wide = _TONE_RATIO if course.is_in_tones else _RATIO
    ratio = between(rng, max(narrow, _SLOW_RATIO) if course.is_slow else narrow, wide)
    loudness = course.loudness if course.loudness.max() > 0.1 else np.ones(len(course.height))
    moved = max(0.05, float(np.ptp(course.height[loudness > 0.1])))
    needed = (_SLOW_MOVE if course.is_slow else _MOVE) ** (1.0 / moved)
    ratio = max(ratio, min(needed, _HIGHEST_RATIO), _DEEP_RATIO if low < _DEEP_HZ else 0.0)
    low = min(low, _HIGH_HZ / ratio)
    hz = low * ratio ** course.height
    if rng.random() < (0.3 if course.is_in_tones else 0.12):
        hz = hz * _vibrato(rng, len(hz))
    return _any_voice(rng, hz) * loudness.clip(_SILENCE)


def _vibrato(rng: np.random.Generator, count: int) -> Samples:
    return 1.0 + rng.uniform(0.01, 0.08) * np.sin(
        2.0 * np.pi * rng.uniform(4.0, 10.0) * np.arange(count) / SAMPLE_RATE)


def _any_voice(rng: np.random.Generator, hz: Samples) -> Samples:
    """Return a tone of any colour: from near a sine to a loudspeaker that is overdriven."""
    colour = rng.random()
    if colour < 0.15:
        levels = rolled_off(3, rng.uniform(2.5, 5.0))
    else:
        # Low ones, and reeds, are heard by their harmonics.
        count = int(rng.integers(10, 20)) if hz.min() < 300.0 else int(rng.integers(3, 15))
        levels = list((np.arange(count) + 1.0) ** -rng.uniform(0.2, 2.0) * np.exp(
            rng.normal(0.0, rng.uniform(0.0, 0.9), count)))
        if rng.random() < 0.25:
            # As of a rectangle: what a chopper of air or a cheap circuit makes.
            levels[1::2] = [0.1 * level for level in levels[1::2]]
    sound = partials(hz, levels)
    if rng.random() < 0.4:
        sound = sound + rng.uniform(0.3, 1.0) * partials(
            hz * between(rng, 1.002, 1.03 if rng.random() < 0.4 else 2.0), levels)
    sound = sound / (sound.std() + 1e-9)
    if colour > 0.5:
        sound = np.tanh(between(rng, 0.5, 6.0) * sound)
    if rng.random() < 0.5:
        centre, width, gain = between(rng, 400.0, 4000.0), rng.uniform(0.3, 1.2), between(
            rng, 1.0, 10.0)
        sound = with_peak(sound, centre, width, gain)
    if rng.random() < 0.2:
        # A lamp or a reflector that turns.
        sound = sound * (1.0 + rng.uniform(0.2, 0.9) * np.sin(
            2.0 * np.pi * between(rng, 0.5, 12.0) * np.arange(len(sound)) / SAMPLE_RATE))
    if rng.random() < 0.15:
        # Wind between there and here.
        sound = sound * (1.0 + 0.3 * slow_changes(rng, len(sound), 2.0)).clip(0.1)
    return sound / (sound.std() + 1e-9)
