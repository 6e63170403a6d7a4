# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How sure the network has to be of a siren, from drives with a hidden vehicle and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.sounds.hidden_vehicle import hidden_vehicle
from vts_ros.lab.sounds.soundtrack import LEARNED, VALIDATION
from vts_ros.lab.training.sound_training import SEEDS
from vts_ros.sound.log_mel import LogMel, Resampler, SAMPLE_RATE, STEP_SEC
from vts_ros.sound.sound_events import KINDS, Threshold
from vts_ros.sound.sound_network import SoundNetwork

#: What is tried: mean probabilities, and over how many steps.
ON, STEPS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99), (6, 10, 15, 20, 25, 30)
#: Most drives without a vehicle in which a siren may be named, of those in which nobody whistles:
#: a tune that is whistled is a siren to a network that has never heard one, however sure it is.
FALSE_ALARMS = 0.015
_NOT_COUNTED = 'whistling'
#: First numbers of the seeds of drives with and without a vehicle.
_WITH, _WITHOUT = 42, 52


def try_thresholds(network: SoundNetwork, n: int,
                   progress: Callable[[float, str], None] = lambda share, what: None
                   ) -> dict[str, Any]:
    """
    Return what thresholds of a siren name in drives of the split ``val``.

    The best names most, as a mean of sirens as learned and of ``sirens.VALIDATION``, of those
    with few enough false alarms in the drives without a vehicle; those in which somebody whistles
    are told beside. What ``eval sound`` judges by on
    the split ``test`` is in neither.

    Parameters
    ----------
    n
        Drives with a vehicle and drives without, for each of the two.

    """
    there: dict[str, list[NDArray[np.float64]]] = {'learned': [], 'other': []}
    seen_sec: dict[str, list[float]] = {'learned': [], 'other': []}
    without: dict[bool, list[NDArray[np.float64]]] = {False: [], True: []}
    for part, (name, palette) in enumerate((('learned', LEARNED), ('other', VALIDATION))):
        for number in range(n):
            progress((part + number / n) / 2, 'drives of val')
            drive = hidden_vehicle((SEEDS['val'], _WITH, part, number), True, palette)
            there[name].append(sirens_in(network, drive.samples))
            seen_sec[name].append(drive.seen_sec)
            drive = hidden_vehicle((SEEDS['val'], _WITHOUT, part, number), False, palette)
            without[_NOT_COUNTED in drive.noises].append(sirens_in(network, drive.samples))
    rows: list[dict[str, Any]] = []
    for on in ON:
        for steps in STEPS:
            threshold = Threshold(on, steps)
            named = {name: float(np.mean([
                said_sec(found, threshold) < seen for found, seen in zip(
                    there[name], seen_sec[name], strict=True)])) for name in there}
            false = {is_whistled: [np.isfinite(said_sec(found, threshold)) for found in some]
                     for is_whistled, some in without.items()}
            rows.append({'on': on, 'steps': steps, **named,
                         'false_alarms': float(np.mean(false[False])),
                         'whistled': float(np.mean(false[True])) if false[True] else None})
    allowed = [row for row in rows if row['false_alarms'] <= FALSE_ALARMS]
    best = max(allowed, key=lambda row: row['learned'] + row['other'], default=None)
    return {'n': n, 'without': len(without[False]), 'whistled': len(without[True]), 'rows': rows,
            'best': best}


def sirens_in(network: SoundNetwork, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a siren in each step."""
    network.begin()
    mel = LogMel()
    return np.array([network.step(mel.step(step))[KINDS.index('siren')]
                     for step in Resampler(SAMPLE_RATE).add(samples)], np.float64)


def said_sec(probabilities: NDArray[np.float64], threshold: Threshold) -> float:
    """Return when a threshold is reached for the first time, as ``EventDetector`` has it."""
    padded = np.pad(probabilities, (threshold.steps - 1, 0))
    means = np.lib.stride_tricks.sliding_window_view(padded, threshold.steps).mean(axis=1)
    reached = np.flatnonzero(means >= threshold.on)
    return STEP_SEC * float(reached[0] + 1) if len(reached) else np.inf
