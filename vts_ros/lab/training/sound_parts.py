# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What soundtracks to learn from are mixed of: spectrograms of single sounds, made once.

A soundtrack that is mixed anew in every step of a training is never heard twice, and costs a
hundredth of one that is synthesised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from vts_ros.lab.sounds import any_noise, any_siren, noises, sirens
from vts_ros.lab.sounds.moving_source import echoes, Pass
from vts_ros.lab.sounds.soundtrack import emitted, step_levels, TRAINING
from vts_ros.lab.sounds.waves import level_of, Samples
from vts_ros.sound.log_spectrum import LogSpectrum, SAMPLE_RATE, STEP_SAMPLES, STEP_SEC
from vts_ros.sound.sound_events import KINDS

#: First numbers of the seeds of soundtracks: what one split has, no other has.
SEEDS = {'train': 1, 'val': 2, 'test': 3}
#: Length of a part, and of a soundtrack to learn from: slow sirens run up and down in it.
PART_SEC = 10.0
#: Kinds of parts, with their share of all: what is always there, what is harmless, what is to be
#: heard.
SHARES = {'background': 0.07, 'harmless': 0.43, 'siren': 0.38,
          **{kind: 0.03 for kind in KINDS if kind != 'siren'}}
_SIRENS, _SIREN_SHARES = (sirens.LEARNED, sirens.MORE, any_siren.ANY), (0.3, 0.25, 0.45)
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


def make_parts(work: Path, count: int, progress: Callable[[int], None] = lambda done: None
               ) -> dict[str, Parts]:
    """
    Return parts by their kind, so many in all; those that are there already are read.

    Parameters
    ----------
    work
        Folder for them, about 70 kB each.
    count
        How many, of all kinds together; at least one of each is made.
    progress
        Called with how many are there.

    """
    folder = work / 'sounds'
    folder.mkdir(parents=True, exist_ok=True)
    parts, done = {}, 0
    for kind, share in SHARES.items():
        wanted, held = max(1, round(count * share)), []
        for start in range(0, wanted, _SHARD):
            held.append(_shard(folder / f'{kind}-{start:06d}.npz', kind, start,
                               min(_SHARD, wanted - start)))
            done += len(held[-1]['std'])
            progress(done)
        parts[kind] = Parts(*(torch.from_numpy(np.concatenate([shard[name] for shard in held]))
                              for name in Parts._fields))
    return parts


def _shard(path: Path, kind: str, start: int, wanted: int) -> Mapping[str, NDArray[np.generic]]:
    """Return some parts, from a file if it has as many: a run before may have had fewer."""
    if path.exists():
        with np.load(path) as held:
            if len(held['std']) >= wanted:
                return {name: held[name][:wanted] for name in Parts._fields}
    made = [_part(kind, start + number) for number in range(wanted)]
    stacked = {name: np.stack([part[name] for part in made]) for name in Parts._fields}
    partial = path.with_suffix('.part.npz')
    np.savez(partial, **stacked)  # type: ignore[arg-type]
    partial.replace(path)
    return stacked


def _part(kind: str, number: int) -> dict[str, NDArray[np.generic]]:
    sound = as_it_arrives(kind, number)
    loud, whole = step_levels(sound)
    return {'levels': spectrogram(sound).astype(np.float16), 'loud': loud.astype(np.float32),
            'there': whole > 1e-9, 'std': np.float32(sound.std())}  # type: ignore[dict-item]


def as_it_arrives(kind: str, number: int) -> Samples:
    """Return a sound of a kind from its number, as it arrives at a car, with echoes."""
    rng = np.random.default_rng((SEEDS['train'], list(SHARES).index(kind), number))
    sound = echoes(rng, _sound(rng, kind))
    # It may have nothing there.
    return sound / (level_of(sound) + 1e-9)


def _sound(rng: np.random.Generator, kind: str) -> Samples:
    count = int(PART_SEC * SAMPLE_RATE)
    if kind == 'background':
        return noises.BACKGROUND[str(rng.choice(list(noises.BACKGROUND)))](rng, count)
    if kind == 'harmless':
        # Half are of the wide families: what is common to tunes, voices and machines.
        some = any_noise.ANY if rng.random() < 0.5 else TRAINING.harmless
        return some[str(rng.choice(list(some)))](rng, count)
    palette = TRAINING
    if kind == 'siren':
        # Those that most vehicles have, others, and what is common to all.
        palette = palette._replace(sirens=_SIRENS[rng.choice(3, p=_SIREN_SHARES)])
    _, sound = emitted(rng, kind, palette, rng.uniform(3.0, PART_SEC))
    sound = sound[:count]
    start = int(rng.uniform(0.0, count - len(sound) + 1))
    whole = np.zeros(count)
    whole[start:start + len(sound)] = Pass.drawn(rng, PART_SEC).heard(sound, start / SAMPLE_RATE)
    return whole


assert round(PART_SEC / STEP_SEC) * STEP_SAMPLES == PART_SEC * SAMPLE_RATE
