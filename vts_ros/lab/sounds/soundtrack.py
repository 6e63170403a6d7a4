# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Soundtracks of the road with what can be heard in them, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vts_ros.lab.sounds import (
    any_siren,
    noises,
    sirens,
    unheard_kinds,
    validation_kinds,
    warnings_and_impacts,
)
from vts_ros.lab.sounds.moving_source import echoes, Pass
from vts_ros.lab.sounds.waves import between, filtered, level_of, Samples
from vts_ros.sound.log_spectrum import SAMPLE_RATE, STEP_SAMPLES
from vts_ros.sound.sound_events import KINDS

#: First numbers of the seeds of soundtracks: what one split has, no other has.
SEEDS = {'train': 1, 'val': 2, 'test': 3}
#: Signal-to-noise ratios of what is to be heard (dB, above 300 Hz, over its whole length).
SNR_DB = (-5.0, 20.0)
#: How often there are none, one, two harmless sounds.
_HARMLESS_COUNTS = (0.35, 0.45, 0.2)
#: A share of the soundtracks has nothing to be heard but what is harmless.
EMPTY = 0.35


class Palette(NamedTuple):
    """
    Of what soundtracks are made.

    Attributes
    ----------
    sirens
        By name.
    others
        The other kinds, each by name.
    harmless
        What must not be taken for a warning, by name.

    """

    sirens: Mapping[str, sirens.Siren]
    others: Mapping[str, Mapping[str, warnings_and_impacts.Sound]]
    harmless: Mapping[str, noises.Noise]


#: What was learned, and is judged with other seeds; all that is learned; by what thresholds are
#: chosen; and what is heard for the first time when the network is judged.
LEARNED = Palette(sirens.LEARNED, warnings_and_impacts.LEARNED, noises.HARMLESS)
TRAINING = Palette(
    {**sirens.LEARNED, **sirens.MORE, **any_siren.ANY}, warnings_and_impacts.LEARNED,
    {**noises.HARMLESS, **noises.MORE})
VALIDATION = Palette(validation_kinds.SIRENS, warnings_and_impacts.LEARNED,
                     {**noises.HARMLESS, **validation_kinds.NOISES})
UNHEARD = Palette(unheard_kinds.SIRENS, warnings_and_impacts.HELD_OUT,
                  {**noises.HARMLESS, **unheard_kinds.NOISES})


@dataclass(frozen=True)
class Heard:
    """
    A sound in a soundtrack.

    Attributes
    ----------
    kind, name
        One of KINDS, and which of them.
    start_sec, end_sec
        From when to when it is there.
    snr_db
        Over its whole length.
    source
        How what emits it moves.

    """

    kind: str
    name: str
    start_sec: float
    end_sec: float
    snr_db: float
    source: Pass


@dataclass(frozen=True)
class Soundtrack:
    """
    Samples at SAMPLE_RATE, and what is in them.

    Attributes
    ----------
    samples
        Full scale is 1.
    heard
        What is in it.
    background
        What it consists of otherwise.

    """

    samples: Samples
    heard: tuple[Heard, ...]
    background: tuple[str, ...] = field(default=())


def soundtrack(seed: tuple[int, ...], seconds: float, palette: Palette = LEARNED,
               empty: float = EMPTY) -> Soundtrack:
    """
    Return a soundtrack.

    Parameters
    ----------
    seed
        The same gives the same.
    seconds
        Its length.
    palette
        Of what it is made.
    empty
        Share of the soundtracks with nothing to be heard.

    """
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE)
    sound, names = background(rng, count, palette)
    noise, found = level_of(sound), []
    if rng.random() >= empty:
        for _ in range(1 if rng.random() < 0.7 else 2):
            event, part = _drawn(rng, seconds, noise, palette)
            sound += part
            found.append(event)
    return Soundtrack(recorded(rng, sound), tuple(found), names)


def background(rng: np.random.Generator, count: int, palette: Palette = LEARNED
               ) -> tuple[Samples, tuple[str, ...]]:
    """Return noise with a level of 1 above 300 Hz, and of what it consists."""
    choices = list(noises.BACKGROUND)
    names = list(rng.choice(choices, size=rng.integers(1, 4), replace=False))
    whole = np.zeros(count)
    for name in names:
        part = noises.BACKGROUND[name](rng, count)
        whole += between(rng, 0.3, 1.0) * part / (part.std() + 1e-9)
    whole /= level_of(whole)
    for name in rng.choice(list(palette.harmless), size=rng.choice(
            3, p=_HARMLESS_COUNTS), replace=False):
        part = palette.harmless[name](rng, count)
        whole += between(rng, 0.3, 3.0) * part / (level_of(part) + 1e-9)
        names.append(str(name))
    return whole / level_of(whole), tuple(map(str, names))


def recorded(rng: np.random.Generator, sound: Samples) -> Samples:
    """Return what a microphone of some sensitivity in or on some car makes of a sound."""
    top, low = between(rng, 2500.0, 12_000.0), between(rng, 20.0, 180.0)
    tilt = rng.uniform(-0.15, 0.15)
    coloured = filtered(echoes(rng, sound), lambda f: (
        1.0 / np.sqrt(1.0 + (f / top) ** 4) * f / (f + low) * ((f + 50.0) / 1000.0) ** tilt))
    loud = between(rng, 0.002, 0.25) * coloured / (coloured.std() + 1e-9)
    # The converter has an end, and a smallest step.
    return np.round(np.clip(loud, -1.0, 1.0) * 32767.0) / 32768.0


def emitted(rng: np.random.Generator, kind: str, palette: Palette, seconds: float
            ) -> tuple[str, Samples]:
    """Return a sound of a kind as it leaves its source, with its name; sirens go on for long."""
    if kind == 'siren':
        name = str(rng.choice(list(palette.sirens)))
        return name, palette.sirens[name](rng, seconds)
    others = palette.others[kind]
    name = str(rng.choice(list(others)))
    return name, others[name](rng)


def _drawn(rng: np.random.Generator, seconds: float, noise: float, palette: Palette
           ) -> tuple[Heard, Samples]:
    """Return a sound and its samples over the whole soundtrack."""
    kind = str(rng.choice(KINDS, p=[0.4, 0.15, 0.15, 0.15, 0.15]))
    name, sound = emitted(rng, kind, palette, rng.uniform(
        min(3.0, seconds), seconds))
    count = int(seconds * SAMPLE_RATE)
    sound = sound[:count]
    start = int(rng.uniform(0.0, count - len(sound) + 1))
    source = Pass.drawn(rng, seconds)
    arrived = source.heard(sound, start / SAMPLE_RATE)
    snr_db = rng.uniform(*SNR_DB)
    arrived *= 10.0 ** (0.05 * snr_db) * noise / (level_of(arrived) + 1e-12)
    whole = np.zeros(count)
    whole[start:start + len(arrived)] = arrived
    return Heard(kind, name, start / SAMPLE_RATE, (start + len(arrived)) / SAMPLE_RATE, snr_db,
                 source), whole


def step_levels(sound: Samples) -> tuple[Samples, Samples]:
    """Return the root mean square of each step: above 300 Hz, and of everything."""
    steps = len(sound) // STEP_SAMPLES
    above, whole = (
        np.sqrt(np.square(part[:steps * STEP_SAMPLES].reshape(steps, -1)).mean(axis=1))
        for part in (filtered(sound, lambda f: np.where(f > 300.0, 1.0, 0.0)), sound))
    return above, whole
