# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sirens of emergency vehicles as frequencies over time, as they leave the vehicle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vts_ros.lab.sounds.waves import between, partials, rolled_off, Samples, times
from vts_ros.sound.log_spectrum import SAMPLE_RATE

Siren = Callable[[np.random.Generator, float], Samples]


def _voice(rng: np.random.Generator, hz: Samples, steepness: tuple[float, float] = (0.7, 1.8)
           ) -> Samples:
    """Return the sound of a loudspeaker that a horn amplifies: rich in harmonics."""
    return np.tanh(between(rng, 0.6, 2.0) * partials(
        hz, rolled_off(10, rng.uniform(*steepness))))


def _two_tones(low: tuple[float, float], ratio: tuple[float, float],
               tone_sec: tuple[float, float]) -> Siren:
    def sound(rng: np.random.Generator, seconds: float) -> Samples:
        hz, step = between(rng, *low), between(rng, *ratio)
        number = (times(seconds) / rng.uniform(*tone_sec) + rng.uniform(0.0, 2.0)).astype(int)
        return _voice(rng, np.where(number % 2, hz * step, hz))

    return sound


def _sweep(low: tuple[float, float], high: tuple[float, float], period_sec: tuple[float, float],
           rise: tuple[float, float] = (0.35, 0.65)) -> Siren:
    def sound(rng: np.random.Generator, seconds: float) -> Samples:
        bottom, top = between(rng, *low), between(rng, *high)
        place = (times(seconds) / between(rng, *period_sec) + rng.uniform()) % 1.0
        up = rng.uniform(*rise)
        height = np.where(place < up, place / up, (1.0 - place) / (1.0 - up))
        # Capacitors load and unload: the pitch nears its ends slowly.
        bent = height ** between(rng, 0.6, 1.6)
        return _voice(rng, bottom * (top / bottom) ** bent)

    return sound


def _air_horns(rng: np.random.Generator, seconds: float) -> Samples:
    """Return two pairs of trumpets that compressed air blows in turn, each pair a chord."""
    hz, ratio = between(rng, 360.0, 450.0), between(rng, 1.30, 1.36)
    number = (times(seconds) / rng.uniform(0.6, 0.9) + rng.uniform(0.0, 2.0)).astype(int)
    base = np.where(number % 2, hz * ratio, hz)
    levels = rolled_off(14, rng.uniform(0.3, 0.7))
    return partials(base, levels) + partials(base * rng.uniform(1.004, 1.012), levels)


def _rotor(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a siren of metal that a motor spins up, and that runs out again and again."""
    place = times(seconds) / rng.uniform(6.0, 11.0) + rng.uniform(0.3, 0.6)
    turning = 1.0 - np.abs(place % 2.0 - 1.0) ** 2
    hz = between(rng, 650.0, 900.0) * (0.45 + 0.55 * turning)
    return partials(hz, rolled_off(8, 0.9)) + 0.5 * partials(
        hz * 1.25, rolled_off(6, 0.9))


def _whoop(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a pitch that rises, and a pause before it rises again."""
    rise, pause = rng.uniform(0.5, 1.2), rng.uniform(0.15, 0.4)
    place = (times(seconds) + rng.uniform(0.0, rise)) % (rise + pause)
    height = (place / rise).clip(0.0, 1.0)
    return _voice(rng, between(rng, 400.0, 700.0) * between(rng, 1.8, 3.0) ** height) * (
        place < rise)


def _stairs(rng: np.random.Generator, seconds: float) -> Samples:
    """Return a wail that climbs and falls in steps, as a cheap circuit makes it."""
    steps, every = int(rng.integers(5, 12)), rng.uniform(0.08, 0.35)
    number = (times(seconds) / every).astype(int) % (2 * steps)
    stair = np.minimum(number, 2 * steps - number) / steps
    return _voice(rng, between(rng, 450.0, 750.0) * between(rng, 1.7, 2.6) ** stair)


def _trembling(rng: np.random.Generator, seconds: float) -> Samples:
    """Return two tones in turn, both with vibrato."""
    number = (times(seconds) / rng.uniform(0.5, 1.0)).astype(int)
    hz = between(rng, 400.0, 800.0) * np.where(number % 2, between(rng, 1.2, 1.4), 1.0)
    return _voice(rng, hz * (1.0 + rng.uniform(0.03, 0.08) * np.sin(
        2.0 * np.pi * rng.uniform(5.0, 9.0) * times(seconds))))


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


#: Sirens as most are, which the network learns and is judged by with other seeds.
LEARNED: dict[str, Siren] = {
    'two-tone': _two_tones((355.0, 480.0), (1.26, 1.42), (0.38, 0.75)),
    'hi-lo': _two_tones((600.0, 1050.0), (1.25, 1.5), (0.3, 0.6)),
    'wail': _sweep((480.0, 750.0), (1100.0, 1650.0), (3.0, 7.0)),
    'yelp': _sweep((480.0, 800.0), (1100.0, 1650.0), (0.22, 0.42)),
}
#: Others that it learns.
MORE: dict[str, Siren] = {
    'two-tone, wider and slower': _two_tones((380.0, 450.0), (1.5, 1.75), (0.8, 1.1)),
    'air horns': _air_horns,
    'wail, lower and slower': _sweep((380.0, 460.0), (850.0, 1050.0), (8.0, 12.0)),
    'piercer': _sweep((700.0, 1000.0), (1400.0, 1900.0), (0.05, 0.10)),
    'rotor': _rotor, 'whoop with pauses': _whoop, 'stairs': _stairs,
    'trembling two-tone': _trembling, 'rumbler': _rumbler,
    'wail and yelp at once': _two_at_once, 'changing programs': _changing, 'by hand': _by_hand,
    'three tones and a pause': _calls}
