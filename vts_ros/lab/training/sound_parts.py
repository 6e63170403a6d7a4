# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What soundtracks to learn from are mixed of: spectrograms of single sounds, made once.

Most are synthesised; some are speech and music of programs that play recordings.
A soundtrack that is mixed anew in every step of a training is never heard twice, and costs a
hundredth of one that is synthesised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from vts_ros.lab.sounds import any_noise, any_siren, noises, recorded_noise, sirens
from vts_ros.lab.sounds.moving_source import echoes, Pass
from vts_ros.lab.sounds.soundtrack import emitted, SEEDS, step_levels, TRAINING
from vts_ros.lab.sounds.waves import level_of, Samples
from vts_ros.sound.log_spectrum import LogSpectrum, SAMPLE_RATE, STEP_SAMPLES, STEP_SEC
from vts_ros.sound.sound_events import KINDS

#: Length of a part, and of a soundtrack to learn from: slow sirens run up and down in it.
PART_SEC = 10.0
#: Kinds of parts, with their share of all: what is always there, what is harmless, what is to be
#: heard.
SHARES = {'background': 0.07, 'harmless': 0.43, 'siren': 0.38,
          **{kind: 0.03 for kind in KINDS if kind != 'siren'}}
#: Sirens that most vehicles have, others, and what is common to all.
_SIRENS, _SIREN_SHARES = (sirens.LEARNED, sirens.MORE, any_siren.ANY), (0.3, 0.25, 0.45)
#: How often each group is drawn once the network knows what sirens have in common.
_LATER_SHARES = (0.5, 0.3, 0.2)
#: Kinds of parts that come from recordings.
RECORDED = ('spoken', 'played')
#: Parts in a file.
_SHARD = 100


class Parts(NamedTuple):
    """
    Sounds of a kind, each with a root mean square of 1 above 300 Hz.

    Attributes
    ----------
    levels
        Spectrograms in dB, float16 [n, frames, bands].
    loud
        Root mean square above 300 Hz of each step, float32 [n, steps].
    there
        Whether it has begun and has not ended, bool [n, steps].
    std
        Root mean square of everything, float32 [n].

    """

    levels: Tensor
    loud: Tensor
    there: Tensor
    std: Tensor


def spectrogram(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the spectrogram of whole steps, (frames, bands)."""
    spectrum = LogSpectrum()
    return np.concatenate([
        spectrum.step(samples[start:start + STEP_SAMPLES])
        for start in range(0, len(samples) - STEP_SAMPLES + 1, STEP_SAMPLES)])


def parts_in_all(synthesised: int, recorded: int) -> int:
    """Return how many parts are made where so many are asked for."""
    return sum(_counts(synthesised).values()) + len(RECORDED) * _each(recorded)


def _counts(count: int) -> dict[str, int]:
    return {kind: max(1, round(count * share)) for kind, share in SHARES.items()}


def _each(recorded: int) -> int:
    return recorded // len(RECORDED)


def make_parts(work: Path, count: int, progress: Callable[[int], None] = lambda done: None
               ) -> dict[str, Parts]:
    """
    Return synthesised parts by their kind, so many in all; those that are there already are read.

    Parameters
    ----------
    work
        Folder for them, about 70 kB each.
    count
        How many, of all kinds together; at least one of each is made.
    progress
        Called with how many more are there.

    """
    return {kind: _parts(work, kind, wanted, progress) for kind, wanted in _counts(count).items()}


def make_recorded_parts(work: Path, count: int,
                        progress: Callable[[int], None] = lambda done: None) -> Parts:
    """
    Return speech and music, half each, at least two; the rest is as in ``make_parts``.

    Raises
    ------
    SoundError
        If a program that speaks or plays is not installed.

    """
    recorded_noise.require_programs()
    both = [_parts(work, kind, _each(count), progress) for kind in RECORDED]
    return Parts(*(torch.cat(values) for values in zip(*both, strict=True)))


def more_common_sirens(count: int) -> NDArray[np.float64]:
    """Return how likely to draw each of the first parts with a siren: common ones more often."""
    groups = np.array([_siren_group(_rng('siren', number)) for number in range(count)])
    likely: NDArray[np.float64] = np.divide(_LATER_SHARES, _SIREN_SHARES)[groups]
    return likely / likely.sum()


def _siren_group(rng: np.random.Generator) -> int:
    """Return to which group a siren belongs; the first number that its generator gives."""
    return int(rng.choice(3, p=_SIREN_SHARES))


def _parts(work: Path, kind: str, count: int, progress: Callable[[int], None]) -> Parts:
    folder, held = work / 'sounds', []
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, _SHARD):
        held.append(_shard(folder / f'{kind}-{start:06d}.npz', kind, start,
                           min(_SHARD, count - start)))
        progress(len(held[-1]['std']))
    return Parts(*(torch.from_numpy(np.concatenate([shard[name] for shard in held]))
                   for name in Parts._fields))


def _shard(path: Path, kind: str, start: int, wanted: int) -> Mapping[str, NDArray[np.generic]]:
    """Return some parts, from a file if it has as many: a run before may have had fewer."""
    if path.exists():
        with np.load(path) as held:
            if len(held['std']) >= wanted:
                return {name: held[name][:wanted] for name in Parts._fields}
    made = [_part(sound) for sound in as_they_arrive(kind, range(start, start + wanted))]
    stacked = {name: np.stack([part[name] for part in made]) for name in Parts._fields}
    partial = path.with_suffix('.part.npz')
    np.savez(partial, **stacked)  # type: ignore[arg-type]
    partial.replace(path)
    return stacked


def _part(sound: Samples) -> dict[str, NDArray[np.generic]]:
    loud, whole = step_levels(sound)
    return {'levels': spectrogram(sound).astype(np.float16), 'loud': loud.astype(np.float32),
            'there': whole > 1e-9, 'std': np.float32(sound.std())}  # type: ignore[dict-item]


def _rng(kind: str, number: int) -> np.random.Generator:
    return np.random.default_rng(
        (SEEDS['train'], [*SHARES, *RECORDED].index(kind), number))


def as_they_arrive(kind: str, numbers: Iterable[int]) -> Iterator[Samples]:
    """Yield sounds of a kind from their numbers, as they arrive at a car, with echoes."""
    rngs = [_rng(kind, number) for number in numbers]
    sounds = (recorded_noise.played(rngs, int(PART_SEC * SAMPLE_RATE)) if kind == 'played'
              else (_sound(rng, kind) for rng in rngs))
    for rng, emitted_sound in zip(rngs, sounds, strict=True):
        sound = echoes(rng, emitted_sound)
        # It may have nothing there.
        yield sound / (level_of(sound) + 1e-9)


def _sound(rng: np.random.Generator, kind: str) -> Samples:
    count = int(PART_SEC * SAMPLE_RATE)
    if kind == 'background':
        return noises.BACKGROUND[str(rng.choice(list(noises.BACKGROUND)))](rng, count)
    if kind == 'spoken':
        return recorded_noise.spoken(rng, count)
    if kind == 'harmless':
        # Half are of the wide families: what is common to tunes, voices and machines.
        some = any_noise.ANY if rng.random() < 0.5 else TRAINING.harmless
        return some[str(rng.choice(list(some)))](rng, count)
    palette = TRAINING
    if kind == 'siren':
        palette = palette._replace(sirens=_SIRENS[_siren_group(rng)])
    _, sound = emitted(rng, kind, palette, rng.uniform(3.0, PART_SEC))
    sound = sound[:count]
    start = int(rng.uniform(0.0, count - len(sound) + 1))
    whole = np.zeros(count)
    whole[start:start + len(sound)] = Pass.drawn(rng, PART_SEC).heard(sound, start / SAMPLE_RATE)
    return whole


assert round(PART_SEC / STEP_SEC) * STEP_SAMPLES == PART_SEC * SAMPLE_RATE
