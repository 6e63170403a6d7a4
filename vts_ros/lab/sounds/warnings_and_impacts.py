# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Horns, bells of level crossings, screeching tyres and crashes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vts_ros.lab.sounds.waves import (
    between,
    faded,
    partials,
    rolled_off,
    Samples,
    shaped_noise,
    slow_changes,
    times,
)
from vts_ros.sound.log_spectrum import SAMPLE_RATE

Sound = Callable[[np.random.Generator], Samples]


def _horn(low: tuple[float, float], ratios: tuple[tuple[float, float], ...],
          seconds: tuple[float, float]) -> Sound:
    def sound(rng: np.random.Generator) -> Samples:
        hz = between(rng, *low)
        steepness, ratio_of = rng.uniform(0.3, 1.0), [rng.uniform(*span) for span in ratios]
        blows = []
        for _ in range(rng.integers(1, 4)):
            base = np.full(int(between(rng, *seconds) * SAMPLE_RATE), hz)
            chord = sum((partials(base * ratio, rolled_off(16, steepness))
                         for ratio in ratio_of), np.zeros(len(base)))
            blows += [faded(chord, 0.02, 0.04),
                      np.zeros(int(rng.uniform(0.1, 0.4) * SAMPLE_RATE))]
        return np.concatenate(blows[:-1])

    return sound


def _screech(pitch: tuple[float, float], noise: tuple[float, float]) -> Sound:
    def sound(rng: np.random.Generator) -> Samples:
        count = int(rng.uniform(0.6, 2.5) * SAMPLE_RATE)
        glide = np.linspace(0.0, 1.0, count) ** rng.uniform(0.7, 2.0)
        jitter = 0.04 * slow_changes(rng, count, 18.0) + 0.012 * slow_changes(rng, count, 90.0)
        hz = between(rng, *pitch) * (1.0 - rng.uniform(0.05, 0.3) * glide + jitter)
        tone = partials(hz, rolled_off(5, rng.uniform(0.5, 1.2)))
        tone *= 1.0 + 0.35 * slow_changes(rng, count, 30.0)
        centre = hz.mean()
        hiss = shaped_noise(rng, count, lambda f: np.exp(
            -0.5 * (np.log2((f + 1.0) / (1.6 * centre)) / 0.8) ** 2))
        return faded(tone / tone.std() + rng.uniform(*noise) * hiss / hiss.std(),
                     rng.uniform(0.03, 0.2), rng.uniform(0.03, 0.25))

    return sound


def _crash(decay_sec: tuple[float, float], impacts: tuple[int, int]) -> Sound:
    def sound(rng: np.random.Generator) -> Samples:
        length = int(1.6 * SAMPLE_RATE)
        whole = np.zeros(length)
        for _ in range(rng.integers(*impacts)):
            start = int(rng.uniform(0.0, 0.35) * SAMPLE_RATE)
            t = times((length - start) / SAMPLE_RATE)[:length - start]
            thud = shaped_noise(rng, len(t), lambda f: 1.0 / (1.0 + (f / 400.0) ** 2))
            metal = sum((np.sin(2.0 * np.pi * between(rng, 300.0, 4500.0) * t
                                + rng.uniform(0.0, 6.0)) * rng.uniform(0.2, 1.0)
                         * np.exp(-t / (decay * 0.6))
                         for decay in rng.uniform(*decay_sec, size=12)), np.zeros(len(t)))
            glass = shaped_noise(rng, len(t), lambda f: np.where(
                f > 2500.0, 1.0, 0.0))
            glass *= np.exp(-t / rng.uniform(0.1, 0.3)) * (
                1.0 + slow_changes(rng, len(t), 60.0)).clip(0.0)
            burst = thud / thud.std() * np.exp(-t / rng.uniform(*decay_sec))
            crush = shaped_noise(rng, len(t), lambda f: 1.0 / (1.0 + f / 1500.0))
            crush *= np.exp(-t / rng.uniform(*decay_sec)) / crush.std()
            whole[start:start + len(t)] += rng.uniform(0.5, 1.0) * (
                1.2 * burst + 1.2 * crush + 0.3 * metal + rng.uniform(0.2, 0.8) * glass / (
                    glass.std() + 1e-9) * 0.4)
        return faded(whole, 0.001, 0.1)

    return sound


def _bell(first: tuple[float, float], strikes: tuple[float, float], decay_sec: tuple[float, float],
          bells: int) -> Sound:
    def sound(rng: np.random.Generator) -> Samples:
        count = int(rng.uniform(3.0, 7.0) * SAMPLE_RATE)
        whole = np.zeros(count)
        ratios = [1.0, *(number * rng.uniform(0.97, 1.03)
                         for number in (1.5, 2.0, 2.67, 3.7, 5.2))]
        pitches = [between(rng, *first) for _ in range(bells)]
        decay, every = between(rng, *decay_sec), SAMPLE_RATE / rng.uniform(*strikes)
        steepness = rng.uniform(0.4, 1.0)
        t = times(5.0 * decay)
        struck = [sum((np.sin(2.0 * np.pi * hz * ratio * t) * (number + 1.0) ** -steepness
                       * np.exp(-t * (1.0 + 0.3 * number) / decay)
                       for number, ratio in enumerate(ratios) if hz * ratio < 7500.0),
                      np.zeros(len(t))) for hz in pitches]
        for number, start in enumerate(np.arange(0.0, count, every)):
            part = struck[number % bells][:count - int(start)]
            whole[int(start):int(start) + len(part)] += part * rng.uniform(0.85, 1.0)
        return faded(whole, 0.002, 0.1)

    return sound


#: What the network learns, and what it never hears before it is judged, by kind and name.
LEARNED: dict[str, dict[str, Sound]] = {
    'horn': {'car': _horn((330.0, 460.0), ((1.0, 1.0), (1.18, 1.28)), (0.25, 1.6)),
             'one tone': _horn((350.0, 480.0), ((1.0, 1.0),), (0.25, 1.6))},
    'screech': {'tyres': _screech((650.0, 1700.0), (0.4, 1.2))},
    'crash': {'impact': _crash((0.06, 0.25), (1, 3))},
    'bell': {'crossing': _bell((600.0, 1500.0), (1.4, 3.2), (0.12, 0.4), 1)},
}
HELD_OUT: dict[str, dict[str, Sound]] = {
    'horn': {'lorry': _horn((190.0, 290.0), ((1.0, 1.0), (1.24, 1.27), (1.48, 1.52)), (0.4, 2.0)),
             'motorcycle': _horn((500.0, 600.0), ((1.0, 1.0),), (0.2, 1.0))},
    'screech': {'higher, more noise': _screech((1800.0, 2400.0), (1.2, 2.0))},
    'crash': {'several impacts': _crash((0.2, 0.4), (3, 5))},
    'bell': {'two bells': _bell((900.0, 1900.0), (3.4, 4.6), (0.1, 0.25), 2)},
}
