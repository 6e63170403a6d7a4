# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Soundtracks to learn from, mixed of parts as spectrograms.

The power of a sum of sounds is the sum of their powers, but for how their phases meet, which is
drawn; a test compares it with the spectrogram of the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

from vts_ros.lab.sounds.soundtrack import EMPTY, SNR_DB
from vts_ros.lab.training.sound_parts import Parts
from vts_ros.sound.log_spectrum import (
    band_edges_hz,
    BANDS,
    FLOOR_DB,
    SAMPLE_RATE,
    STEP_FRAMES,
    WINDOW,
)
from vts_ros.sound.sound_events import KINDS

#: How often the one and the other kind is to be heard.
_KIND_SHARES = (0.5, 0.125, 0.125, 0.125, 0.125)
#: Share of the sirens that come from behind houses or a car body.
_HIDDEN = 0.4
#: A step counts as one with the sound from this ratio on, in which it is just audible; steps in
#: which it is there, but weaker, count as neither.
_AUDIBLE_DB = -10.0
#: How often there are none, one, two harmless sounds.
_HARMLESS_COUNTS = (0.2, 0.5, 0.3)
#: Share of what is to be heard that is clearer than in a drive, and by how much.
_CLEAR, _CLEARER_DB = 0.25, 20.0
#: By how many semitones sounds are moved, as a standard deviation: parts of another pitch.
_MOVED, _MOST_MOVED = 2.0, 5
_MIDDLE_HZ = torch.from_numpy(band_edges_hz()[1:-1]).float()
#: What comes round corners is duller.
_DULLED = -20.0 * torch.log10(1.0 + _MIDDLE_HZ / 1200.0)
_IS_ABOVE = _MIDDLE_HZ > 300.0
#: Bins of a band that do not depend on each other: so much how phases meet averages out.
_BINS = torch.from_numpy(np.maximum(
    1.0, np.diff(band_edges_hz())[1:] / (1.5 * SAMPLE_RATE / WINDOW))).float()


class Mixer:
    """
    Mixes batches of soundtracks.

    Parameters
    ----------
    parts
        By their kind.
    likely
        How likely each part of a kind is to be drawn, where not all are alike.

    """

    def __init__(self, parts: Mapping[str, Parts],
                 likely: Mapping[str, NDArray[np.float64]] = MappingProxyType({})) -> None:
        self._parts, self._likely = parts, likely
        self._frames, self._steps = parts['siren'].levels.shape[1], parts['siren'].loud.shape[1]

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """
        Return soundtracks.

        Returns
        -------
        Levels in dB as a microphone has them, float32 [size, frames, bands], and the truth about
        them, float32 [size, steps, kinds]: 1 if it can be heard, 0 if not, NaN where that is
        nobody's fault.

        """
        mix = Mix(rng, size, self._frames, self._steps)
        for slot in range(3):
            rows = np.flatnonzero(rng.random(size) < (1.0, 0.67, 0.33)[slot])
            part = self._drawn(rng, 'background', rows)
            gain = torch.from_numpy(_between(rng, 0.3, 1.0, len(rows))) / part.std
            mix.add_noise(rows, part, gain)
        mix.settle()
        counts = rng.choice(3, size, p=_HARMLESS_COUNTS)
        for slot in range(2):
            rows = np.flatnonzero(counts > slot)
            # Half are far louder than all else, as sirens are, and half begin late: neither being
            # loud and clear is a sign, nor that something new is heard.
            loud = np.where(rng.random(len(rows)) < 0.5, _between(rng, 0.3, 3.0, len(rows)),
                            _between(rng, 3.0, 300.0, len(rows)))
            part = _moved(rng, self._drawn(rng, 'harmless', rows))
            mix.add_noise(rows, _for_a_while(rng, part), torch.from_numpy(loud))
        mix.settle()
        truth = torch.zeros(size, self._steps, len(KINDS))
        events = np.where(rng.random(size) < EMPTY, 0, np.where(rng.random(size) < 0.7, 1, 2))
        for slot in range(2):
            kinds = rng.choice(len(KINDS), size, p=_KIND_SHARES)
            for number, kind in enumerate(KINDS):
                rows = np.flatnonzero((events > slot) & (kinds == number))
                if len(rows):
                    part = _moved(rng, self._drawn(rng, kind, rows))
                    if kind == 'siren':
                        part = _dulled(part, rng.random(len(rows)) < _HIDDEN)
                    snr_db = rng.uniform(*SNR_DB, len(rows)) + np.where(
                        rng.random(len(rows)) < _CLEAR, _CLEARER_DB, 0.0)
                    gain = torch.from_numpy(10.0 ** (0.05 * snr_db)).float()
                    _note(truth[:, :, number], rows, mix.audible(rows, part, gain))
                    mix.add(rows, part, gain)
        return mix.recorded(), truth

    def _drawn(self, rng: np.random.Generator, kind: str, rows: NDArray[np.int64]) -> Parts:
        some = self._parts[kind]
        chosen = torch.from_numpy(rng.choice(len(some.std), len(rows), p=self._likely.get(kind)))
        return Parts(*(values[chosen] for values in some))


class Mix:
    """Powers that add up, and how loud noise is in each step, above 300 Hz."""

    def __init__(self, rng: np.random.Generator, size: int, frames: int, steps: int) -> None:
        self._rng, self._random = rng, torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        self.power = torch.zeros(size, frames, BANDS)
        self._noise = torch.zeros(size, steps)
        self._square = torch.zeros(size)

    def add(self, rows: NDArray[np.int64], part: Parts, gain: Tensor) -> None:
        """Add parts to some soundtracks, with gains of amplitude."""
        square = gain.float() ** 2
        power = torch.exp2(part.levels.float() * (np.log2(10.0) / 10.0)) * square[:, None, None]
        before = self.power[rows]
        # 2 cos(phase), averaged over the bins of a band.
        meets = 2.0 * torch.cos(6.2831853 * torch.rand(power.shape, generator=self._random)
                                ) / _BINS.sqrt()
        total = before + power + meets * (before * power).sqrt()
        self.power[rows] = total.clamp(min=0.01 * torch.maximum(before, power))
        self._square[rows] += square * part.std ** 2

    def add_noise(self, rows: NDArray[np.int64], part: Parts, gain: Tensor) -> None:
        """Add parts that are not to be heard."""
        self.add(rows, part, gain)
        self._noise[rows] += (gain.float()[:, None] * part.loud) ** 2

    def settle(self) -> None:
        """Give the noise a level of 1 above 300 Hz."""
        square = self._noise.mean(dim=1)
        self._noise /= square[:, None]
        self.power /= square[:, None, None]
        self._square /= square

    def audible(self, rows: NDArray[np.int64], part: Parts, gain: Tensor) -> Tensor:
        """Return the truth about parts [rows, steps]: audible 1, too weak NaN, not there 0."""
        held = _held(part.loud * gain[:, None])
        ratio_db = 20.0 * torch.log10((held + 1e-9) / (
            self._noise[rows].sqrt().mean(dim=1, keepdim=True) + 1e-9))
        is_there = _held(part.there.float()) > 0.0
        return torch.where(is_there, torch.where(ratio_db >= _AUDIBLE_DB, 1.0, torch.nan), 0.0)

    def recorded(self) -> Tensor:
        """Return the levels that microphones of any sensitivity and colour have."""
        rng, size = self._rng, len(self.power)

        def drawn(low: float, high: float) -> Tensor:
            return torch.from_numpy(_between(rng, low, high, size))[:, None].float()

        top, low = drawn(2500.0, 12_000.0), drawn(20.0, 180.0)
        tilt = torch.from_numpy(rng.uniform(-0.15, 0.15, (size, 1))).float()
        colour = (-10.0 * torch.log10(1.0 + (_MIDDLE_HZ / top) ** 4)
                  + 20.0 * torch.log10(_MIDDLE_HZ / (_MIDDLE_HZ + low))
                  + 20.0 * tilt * torch.log10((_MIDDLE_HZ + 50.0) / 1000.0)
                  + torch.from_numpy(rng.normal(0.0, 1.0, (size, BANDS))).float())
        loud = drawn(0.002, 0.25) ** 2 / self._square[:, None]
        power = self.power * (loud * 10.0 ** (0.1 * colour))[:, None]
        return 10.0 * torch.log10(power + 10.0 ** (0.1 * FLOOR_DB))


def _between(rng: np.random.Generator, low: float, high: float, count: int
             ) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return found


def _moved(rng: np.random.Generator, part: Parts) -> Parts:
    """Return parts some semitones higher or lower."""
    by = np.clip(np.round(rng.normal(0.0, _MOVED, len(part.std))), -_MOST_MOVED, _MOST_MOVED)
    bands = (torch.arange(BANDS) - torch.from_numpy(by).long()[:, None]).clamp(0, BANDS - 1)
    return part._replace(levels=torch.stack([
        levels[:, order] for levels, order in zip(part.levels, bands, strict=True)])
        if len(by) else part.levels)


def _for_a_while(rng: np.random.Generator, part: Parts) -> Parts:
    """Return parts of which half begin late, and half end early."""
    count, steps = part.loud.shape
    start = np.where(rng.random(count) < 0.5, rng.integers(0, steps, count), 0)
    last = np.where(rng.random(count) < 0.5, _between(rng, 5.0, float(steps), count), steps)
    number = np.arange(steps)
    is_on = torch.from_numpy((number >= start[:, None]) & (number < (start + last)[:, None]))
    windows = is_on.float().repeat_interleave(STEP_FRAMES, dim=1)
    # A window that is cut has what is in it.
    share = functional.avg_pool1d(functional.pad(windows, (1, 1))[:, None], 3, 1)[:, 0]
    quieter = 10.0 * torch.log10(share + 1e-12)
    return Parts((part.levels + quieter[:, :, None]).to(part.levels.dtype), part.loud * is_on,
                 part.there & is_on, part.std * is_on.float().mean(dim=1).sqrt())


def _dulled(part: Parts, is_dull: NDArray[np.bool_]) -> Parts:
    """Return parts of which some come round corners, with the level that they had."""
    rows = torch.from_numpy(np.flatnonzero(is_dull))
    levels = part.levels.clone()
    dull = levels[rows].float() + _DULLED

    def above(found: Tensor) -> Tensor:
        return (10.0 ** (0.1 * found[:, :, _IS_ABOVE])).sum(dim=(1, 2))

    lost_db = 10.0 * torch.log10(above(levels[rows].float()) / above(dull))
    levels[rows] = (dull + lost_db[:, None, None]).to(levels.dtype)
    return part._replace(levels=levels)


def _held(values: Tensor) -> Tensor:
    """Return the highest of each step and the three before: a bell goes on between strokes."""
    return functional.max_pool1d(functional.pad(values, (3, 0))[:, None], 4, 1)[:, 0]


def _note(truth: Tensor, rows: NDArray[np.int64], found: Tensor) -> None:
    """Take the truth about one more sound of a kind: where two overlap, what is heard is heard."""
    before = truth[rows]
    # A sum with NaN is NaN: what is nobody's fault stays so, unless the other is heard.
    truth[rows] = torch.where((before == 1.0) | (found == 1.0), 1.0, before + found)
