# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How sure the network has to be of a siren, from drives with a hidden vehicle and without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.sounds.hidden_vehicle import hidden_vehicle
from vts_ros.lab.sounds.soundtrack import LEARNED, SEEDS, VALIDATION
from vts_ros.sound.log_spectrum import LogSpectrum, Resampler, SAMPLE_RATE, STEP_SEC
from vts_ros.sound.sound_events import KINDS, Threshold
from vts_ros.sound.sound_network import SoundNetwork

#: What is tried: mean probabilities, and over how many steps.
ON, STEPS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), (6, 10, 15, 20, 25, 30)
#: Most drives without a vehicle in which a siren may be named.
FALSE_ALARMS = 0.015
#: Least share of the vehicles with sirens as learned that has to be named in time.
NAMED = 0.8
#: First numbers of the seeds of drives with and without a vehicle.
_WITH, _WITHOUT = 42, 52


def try_thresholds(network: SoundNetwork, n: int,
                   progress: Callable[[float, str], None] = lambda share, what: None,
                   real: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """
    Return what thresholds of a siren name in drives of the split ``val``.

    The best has few enough false alarms in the drives without a vehicle, over learned and other
    noise. Of those it names most, as a mean of sirens as learned and of kinds that were not. With
    real sound it is the one with the fewest false alarms there that names enough of the sirens as
    learned, and none in recorded traffic. What ``eval sound`` judges by on the split ``test`` is
    in none of them.

    Parameters
    ----------
    n
        Drives with a vehicle and drives without, for each of the two.
    real
        ``thresholds`` of ``evaluate_real_sound``, of ``val``, if that is there.

    """
    found_in_real = {(row['on'], row['steps']): row for row in real}
    there: dict[str, list[NDArray[np.float64]]] = {'learned': [], 'other': []}
    seen_sec: dict[str, list[float]] = {'learned': [], 'other': []}
    without: dict[str, list[NDArray[np.float64]]] = {'learned': [], 'other': []}
    for part, (name, palette) in enumerate((('learned', LEARNED), ('other', VALIDATION))):
        for number in range(n):
            progress((part + number / n) / 2, 'drives of val')
            drive = hidden_vehicle((SEEDS['val'], _WITH, part, number), True, palette)
            there[name].append(sirens_in(network, drive.samples))
            seen_sec[name].append(drive.seen_sec)
            drive = hidden_vehicle((SEEDS['val'], _WITHOUT, part, number), False, palette)
            without[name].append(sirens_in(network, drive.samples))
    rows: list[dict[str, Any]] = []
    for on in ON:
        for steps in STEPS:
            threshold = Threshold(on, steps)
            named = {name: float(np.mean([
                said_sec(found, threshold) < seen for found, seen in zip(
                    there[name], seen_sec[name], strict=True)])) for name in there}
            false = {name: float(np.mean([
                np.isfinite(said_sec(found, threshold)) for found in some]))
                for name, some in without.items()}
            rows.append({'on': on, 'steps': steps, **named, 'false_learned': false['learned'],
                         'false_other': false['other'],
                         'false_alarms': (false['learned'] + false['other']) / 2,
                         **{name: found_in_real.get((on, steps), {}).get(name)
                            for name in ('per_hour', 'in_traffic')}})
    return {'n': n, 'rows': rows, 'best': best_of(rows)}


def best_of(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the best of what was tried, as ``try_thresholds`` says, None if none is allowed."""
    allowed = [row for row in rows if row['false_alarms'] <= FALSE_ALARMS]
    if all(row['per_hour'] is None for row in allowed):
        return max(allowed, key=lambda row: float(row['learned'] + row['other']), default=None)
    enough = [row for row in allowed if row['learned'] >= NAMED and not row['in_traffic']]
    return min(enough, key=lambda row: float(row['per_hour']), default=None)


def sirens_in(network: SoundNetwork, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a siren in each step."""
    network.begin()
    spectrum = LogSpectrum()
    return np.array([network.step(spectrum.step(step))[KINDS.index('siren')]
                     for step in Resampler(SAMPLE_RATE).add(samples)], np.float64)


def siren_secs(siren: NDArray[np.float64], threshold: Threshold) -> list[float]:
    """
    Return when sirens would be named with a threshold, as ``EventDetector`` does it.

    Parameters
    ----------
    siren
        Probability in each step.

    """
    if not len(siren):
        return []
    padded = np.pad(siren, (threshold.steps - 1, 0))
    means = np.lib.stride_tricks.sliding_window_view(padded, threshold.steps).mean(axis=1)
    reached = np.flatnonzero(means >= threshold.on)
    if not len(reached):
        return []
    numbers = np.arange(len(siren))
    sure = np.maximum.accumulate(np.where(siren >= 0.5 * threshold.on, numbers, -1))
    over = np.flatnonzero(numbers - sure >= threshold.off_steps)
    found, at = [], 0
    while (place := np.searchsorted(reached, at)) < len(reached):
        begin = int(reached[place])
        found.append(round(STEP_SEC * (begin + 1), 3))
        end = np.searchsorted(over, begin, side='right')
        if end == len(over):
            break
        at = int(over[end]) + 1
    return found


def said_sec(siren: NDArray[np.float64], threshold: Threshold) -> float:
    """Return when a siren would be named for the first time, infinity if it would not."""
    return min(siren_secs(siren, threshold), default=np.inf)
