# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tunes of no maker: any instrument, any scale, any rhythm, alone or with others."""

from __future__ import annotations

import numpy as np

from vts_ros.lab.sounds.moving_source import placed
from vts_ros.lab.sounds.waves import (
    between,
    partials,
    rolled_off,
    Samples,
    slow_changes,
    smoothed,
)
from vts_ros.sound.log_spectrum import SAMPLE_RATE

#: Half tones of scales.
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10),
           (0, 1, 4, 5, 7, 8, 11), (0, 4, 7), (0, 3, 7, 10), tuple(range(12)), (0, 2, 4, 6, 8, 10))
#: Above this (Hz) no note is played.
_HIGHEST_HZ = 3000.0


def any_tune(rng: np.random.Generator, count: int) -> Samples:
    """Return an instrument that plays a melody, alone or with others."""
    beat, low = between(rng, 0.08, 1.2), between(rng, 120.0, 1400.0)
    starts = _note_starts(rng, count, beat)
    lines = int(rng.choice([1, 2, 3, 4], p=[0.55, 0.25, 0.1, 0.1]))
    pitches = _melody(rng, len(starts), beat)
    is_together, sound = rng.random() < 0.6, np.zeros(count)
    levels, legato = colour(rng), rng.random() < 0.35
    glide = 0.0 if rng.random() < 0.5 else between(rng, 0.03, 1.0)
    vibrato = rng.uniform(0.0, 0.06) if rng.random() < 0.5 else 0.0
    rest = rng.uniform(0.0, 0.4) if rng.random() < 0.6 else 0.0
    for number in range(lines):
        if number and is_together:
            line = pitches + rng.choice([-12, -5, 3, 4, 5, 7, 9, 12], len(pitches)) if (
                rng.random() < 0.5) else pitches + rng.choice([-12, -5, -4, 3, 4, 7, 12])
        elif number:
            starts = _note_starts(rng, count, beat * rng.choice([1, 1, 2, 4]))
            line = _melody(rng, len(starts), beat) - 12 * rng.integers(2)
        else:
            line = pitches
        sound += _line(rng, count, starts, low * 2.0 ** (line / 12.0), levels, glide, vibrato,
                       rest, legato)
    if rng.random() < 0.3:
        sound = sound / (sound.std() + 1e-9) + between(rng, 0.1, 1.0) * _drums(rng, count, beat)
    return placed(rng, sound)


def _note_starts(rng: np.random.Generator, count: int, beat: float) -> Samples:
    """Return when notes begin (samples); the first is before the start."""
    seconds = count / SAMPLE_RATE
    notes = int(seconds / beat * 2.0) + 8
    rhythm = rng.random()
    if rhythm < 0.35:
        lasts = np.ones(notes)
    elif rhythm < 0.8:
        figure = rng.choice([0.5, 1.0, 1.0, 1.5, 2.0, 3.0], int(rng.integers(2, 12)))
        lasts = np.resize(figure, notes) if rng.random() < 0.5 else rng.choice(figure, notes)
    else:
        lasts = np.exp(rng.normal(0.0, 0.5, notes))
    lasts = (lasts * beat * np.exp(rng.normal(0.0, rng.uniform(0.0, 0.08), notes))).clip(0.05, 1.6)
    starts: Samples = (np.cumsum(lasts) - lasts[0] * (1.0 + rng.uniform())) * SAMPLE_RATE
    return starts[:max(4, int(np.searchsorted(starts, count)))]


def _melody(rng: np.random.Generator, notes: int, beat: float) -> Samples:
    """Return half tones: at least four different ones within a few seconds."""
    if rng.random() < 0.8:
        scale = np.array(SCALES[rng.integers(len(SCALES))])
        ladder = np.concatenate([scale + 12 * octave for octave in range(-1, 4)]).astype(float)
    else:
        ladder = np.sort(rng.uniform(-12.0, 30.0, int(rng.integers(12, 30))))
    span, kind = int(rng.integers(5, len(ladder) + 1)), rng.random()
    offset = int(rng.integers(0, len(ladder) - span + 1))
    if kind < 0.45:
        leap = int(rng.integers(1, 6))
        moves = rng.integers(-leap, leap + 1, notes)
        places = np.cumsum(np.where(moves == 0, rng.random(notes) < 0.7, moves))
    elif kind < 0.65:
        size, skip = int(rng.integers(4, 9)), int(rng.integers(1, 4))
        figure = np.arange(size) * skip
        figure = np.concatenate([figure, figure[-2:0:-1]]) if rng.random() < 0.5 else (
            rng.permutation(figure))
        places = np.resize(figure, notes) + np.repeat(
            rng.integers(0, span, notes), int(rng.choice([4, 8, 16])))[:notes]
    else:
        size = int(rng.integers(3, 13))
        motif = rng.integers(0, span, size)
        moved = np.cumsum(rng.integers(-2, 3, notes // size + 1))
        places = (np.resize(motif, notes) + np.repeat(moved, size)[:notes]
                  + (rng.random(notes) < 0.1))
    # What goes out at the top comes back down.
    folded = np.abs(places % (2 * (span - 1)) - (span - 1))
    return _four_pitches(rng, ladder[offset + folded], ladder[offset:offset + span], beat)


def _four_pitches(rng: np.random.Generator, pitches: Samples, ladder: Samples, beat: float
                  ) -> Samples:
    """Replace notes so that in no few seconds there are only two or three pitches."""
    window, result = int(np.clip(2.5 / beat, 5, 12)), pitches.copy()
    for number in range(1, len(result)):
        before = set(result[max(0, number - window + 1):number].tolist())
        if len(before | {result[number]}) < min(4, number + 1):
            others = [pitch for pitch in ladder.tolist() if pitch not in before]
            result[number] = others[rng.integers(len(others))]
    return result


def colour(rng: np.random.Generator) -> list[float]:
    """Return levels of harmonics: flutes, reeds, pipes, brass, strings and what is in between."""
    kind = rng.random()
    if kind < 0.25:
        return [1.0, *(rng.uniform(0.0, 0.25, int(rng.integers(1, 4)))).tolist()]
    count = int(rng.integers(4, 13))
    levels = np.array(rolled_off(count, rng.uniform(0.1, 2.0))) * np.exp(
        rng.normal(0.0, rng.uniform(0.0, 1.0), count))
    if kind < 0.4:
        levels[1::2] *= rng.uniform(0.0, 0.2)
    elif kind < 0.5:
        # An organ: octaves and twelfths.
        levels *= np.isin(np.arange(count) + 1, (1, 2, 3, 4, 6, 8, 10)) + 0.01
    return levels.tolist()


def _line(rng: np.random.Generator, count: int, starts: Samples, hz: Samples,
          levels: list[float], glide: float, vibrato: float, rest: float, legato: bool) -> Samples:
    """Return one note after another."""
    every = np.arange(count)
    note = (np.searchsorted(starts, every, side='right') - 1).clip(0, len(starts) - 1)
    since = (every - starts[note]) / SAMPLE_RATE
    ends = np.append(starts[1:], starts[-1] + SAMPLE_RATE)
    lasts = (ends - starts) / SAMPLE_RATE
    left = lasts[note] - since
    # Notes above what is heard are an octave lower.
    log_hz = np.log(hz.clip(60.0, None))
    log_hz -= np.log(2.0) * np.ceil((log_hz - np.log(_HIGHEST_HZ)) / np.log(2.0)).clip(0.0)
    bends = np.append(0.0, log_hz[:-1] - log_hz[1:])
    pitch = log_hz[note]
    if glide > 0.0:
        part = (since / (glide * lasts[note])).clip(0.0, 1.0)
        pitch = pitch + bends[note] * (1.0 - part * part * (3.0 - 2.0 * part))
    if vibrato > 0.0:
        depth = ((since - rng.uniform(0.0, 0.4)) / 0.2).clip(0.0, 1.0)
        pitch = pitch + vibrato * depth * np.sin(2.0 * np.pi * np.cumsum(rng.uniform(
            4.0, 8.0) * (1.0 + 0.1 * slow_changes(rng, count, 2.0))) / SAMPLE_RATE)
    if rng.random() < 0.15:
        is_trill = rng.random(len(starts)) < rng.uniform(0.05, 0.3)
        pitch = pitch + is_trill[note] * (
            since * rng.uniform(6.0, 14.0) % 1.0 < 0.5) * rng.choice([1, 2]) * np.log(2.0) / 12.0
    pitch = pitch + rng.uniform(0.0, 0.006) * slow_changes(rng, count, 6.0)
    loudness = np.exp(rng.normal(0.0, rng.uniform(0.0, 0.5), len(starts))) * (
        rng.random(len(starts)) >= rest)
    wave = _played(rng, np.exp(pitch), levels)
    if legato:
        envelope = smoothed(loudness[note], int(rng.uniform(0.01, 0.1) * SAMPLE_RATE))
    else:
        attack, sustained = between(rng, 0.003, 0.15), rng.choice([0.0, 1.0, rng.uniform()])
        held = lasts[note] * (rng.uniform(0.2, 1.0) if rng.random() < 0.5 else 1.0)
        release = between(rng, 0.01, 0.08)
        envelope = loudness[note] * np.minimum(since / attack, 1.0).clip(0.0) * (
            sustained + (1.0 - sustained) * np.exp(-since / between(rng, 0.05, 2.0))) * (
            (np.minimum(held, lasts[note]) - lasts[note] + left) / release).clip(0.0, 1.0)
    return envelope * wave


def _played(rng: np.random.Generator, hz: Samples, levels: list[float]) -> Samples:
    """Return an instrument that is played at these frequencies."""
    if rng.random() < 0.1:
        # Bars, bells and strings that are stiff.
        ratios = [(number + 1.0) ** rng.uniform(1.0, 1.15) for number in range(len(levels[:6]))]
        wave = partials(hz, levels[:6], ratios)
    else:
        wave = partials(hz, levels)
    if rng.random() < 0.3:
        wave = wave + rng.uniform(0.3, 1.0) * partials(hz * rng.uniform(0.985, 1.015), levels)
    wave = wave / (wave.std() + 1e-9)
    if rng.random() < 0.25:
        wave = np.tanh(between(rng, 0.7, 6.0) * wave)
    if rng.random() < 0.4:
        # Breath, or a bow.
        breath = rng.standard_normal(len(hz))
        wave = wave + between(rng, 0.02, 0.5) * np.diff(breath, prepend=0.0)
    return wave


def _drums(rng: np.random.Generator, count: int, beat: float) -> Samples:
    """Return a bass drum, a snare and a hat, and a bass."""
    at = np.arange(count) / SAMPLE_RATE / np.clip(beat, 0.12, 0.3)
    slot, since = at.astype(int) % 16, (at % 1.0) * np.clip(beat, 0.12, 0.3)
    hiss, hits = rng.standard_normal(count), rng.random((3, 16)) < ((0.3,), (0.2,), (0.5,))
    sound = hits[0, slot] * np.sin(2.0 * np.pi * 60.0 * since) * np.exp(-since / 0.08) * 2.0
    sound += hits[1, slot] * hiss * np.exp(-since / 0.05)
    sound += hits[2, slot] * np.diff(hiss, prepend=0.0) * np.exp(-since / 0.02) * 0.5
    if rng.random() < 0.6:
        roots = between(rng, 45.0, 110.0) * 2.0 ** (rng.choice([0, 0, 3, 5, 7], 16) / 12.0)
        sound += 0.7 * partials(roots[slot], rolled_off(6, 1.0)) * np.exp(-since / 0.2)
    return sound
