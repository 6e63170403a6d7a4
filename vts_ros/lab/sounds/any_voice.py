# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Voices of no maker: people and animals that call, sing, laugh, cry, bark or howl."""

from __future__ import annotations

import numpy as np

from vts_ros.lab.sounds.moving_source import placed
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
)
from vts_ros.sound.log_spectrum import SAMPLE_RATE


def any_voice(rng: np.random.Generator, count: int) -> Samples:
    """Return people or animals that call, shout, sing, laugh, cry, bark, mew or howl."""
    sources = round(between(rng, 1.0, 20.0))
    # Each of a few groups has a mouth of its own, which moves.
    mouths = [np.zeros(count) for _ in range(min(sources, int(rng.integers(1, 3))))]
    left = 1.2 * count
    for number in range(sources):
        pitch, length_sec = between(rng, 90.0, 1600.0), between(rng, 0.08, 1.6)
        gap_sec, irregular = length_sec * between(rng, 0.3, 4.0), rng.uniform(0.1, 0.8)
        loud, speaker = between(rng, 0.1, 1.0) if number else 1.0, _Voice(rng, pitch)
        start, bout = int(rng.uniform(0.0, 0.4 if number else 0.1) * count), int(
            rng.integers(1, 9))
        while start < count and left > 0:
            length = min(int(length_sec * np.exp(rng.normal(0.0, 0.6 * irregular)) * SAMPLE_RATE),
                         count - start)
            if length > 400:
                mouths[number % len(mouths)][start:start + length] += loud * speaker.call(length)
            left, bout = left - length, bout - 1
            pause = length_sec + gap_sec * np.exp(rng.normal(0.0, irregular))
            if bout <= 0:
                bout, pause = int(rng.integers(1, 9)), pause + between(rng, 0.3, 5.0)
            start += int(max(pause, 0.05) * SAMPLE_RATE)
    sound = np.zeros(count)
    for mouth in mouths:
        opened = smoothed((0.5 + 0.7 * slow_changes(rng, count, between(rng, 0.5, 6.0))).clip(
            0.0, 1.0), 200)
        sound += opened * _formants(rng, mouth) + (1.0 - opened) * _formants(rng, mouth)
    if rng.random() < 0.25:
        # A crowd behind.
        crowd = shaped_noise(rng, count, lambda f: np.exp(-0.5 * (np.log2(
            (f + 1.0) / 700.0) / 0.9) ** 2))
        crowd = crowd * (1.0 + 0.5 * slow_changes(rng, count, 4.0)).clip(0.1)
        sound = sound + between(rng, 0.05, 0.6) * sound.std() * crowd / crowd.std()
    return placed(rng, sound)


class _Voice:
    """Whose calls resemble each other."""

    def __init__(self, rng: np.random.Generator, pitch_hz: float) -> None:
        self._rng, self._pitch_hz = rng, pitch_hz
        self._levels = rolled_off(int(rng.integers(3, 20)), rng.uniform(0.3, 1.8))
        # How a call goes, and by how much each is different; singers hold a pitch.
        self._sings = rng.random() < 0.25
        self._arch, self._slope = rng.normal(0.0, 0.35), rng.normal(0.0, 0.25)
        self._bend = rng.uniform(0.3, 3.0)
        self._varies = rng.uniform(0.05, 0.4)
        self._rough = between(rng, 0.05, 1.0) if rng.random() < 0.4 else 0.0
        self._breath = between(rng, 0.01, 0.6)
        self._vibrato = rng.uniform(0.0, 0.05) if rng.random() < 0.5 else 0.0
        self._attack_sec = between(rng, 0.005, 0.15)

    def call(self, count: int) -> Samples:
        rng, varies = self._rng, self._varies
        place, at = np.linspace(0.0, 1.0, count), np.arange(count) / SAMPLE_RATE
        arch = (self._arch + varies * rng.normal()) * np.sin(np.pi * place ** self._bend)
        slope = (self._slope + varies * rng.normal()) * (place - 0.5)
        pitch = varies * rng.normal() + (0.2 if self._sings else 1.0) * (arch + slope)
        if self._sings:
            pitch = pitch + rng.choice([0, 2, 4, 5, 7, 9, 12]) / 12.0 * np.log(2.0)
        elif rng.random() < 0.1:
            # The voice breaks.
            pitch = pitch + (place > rng.uniform()) * rng.choice([-0.7, 0.4, 0.7])
        pitch = pitch + self._vibrato * np.sin(2.0 * np.pi * rng.uniform(4.0, 8.0) * at)
        pitch = pitch + 0.02 * slow_changes(rng, count, 15.0)
        wave = partials((self._pitch_hz * np.exp(pitch)).clip(60.0, 3500.0), self._levels)
        if self._rough > 0.0:
            wave = wave * (1.0 + self._rough * np.sin(
                2.0 * np.pi * between(rng, 25.0, 160.0) * at
                + 2.0 * slow_changes(rng, count, 20.0)))
        wave = wave / (wave.std() + 1e-9) + self._breath * rng.standard_normal(count)
        return faded(wave, self._attack_sec, 2.0 * self._attack_sec) * np.exp(
            rng.normal(0.0, 0.4)) * (1.0 + 0.3 * slow_changes(rng, count, 8.0)).clip(0.1)


def _formants(rng: np.random.Generator, sound: Samples) -> Samples:
    """Return a voice through a mouth: three resonances, or a beak that has hardly any."""
    centres = [between(rng, 300.0, 1100.0), between(rng, 800.0, 2600.0),
               between(rng, 2000.0, 4000.0)]
    widths = rng.uniform(0.12, 0.8, 3)
    floor = between(rng, 0.02, 0.3) if rng.random() < 0.65 else between(rng, 0.5, 5.0)
    tilt, levels = rng.normal(0.0, 0.5), np.exp(rng.normal(0.0, 1.0, 3))

    def gain(f: Samples) -> Samples:
        log = np.log2(f + 1.0)
        return ((f + 50.0) / 1000.0) ** tilt * sum(
            (level * np.exp(-0.5 * ((log - np.log2(centre)) / width) ** 2)
             for level, centre, width in zip(levels, centres, widths, strict=True)),
            np.full(len(f), floor))

    return filtered(sound, gain)
