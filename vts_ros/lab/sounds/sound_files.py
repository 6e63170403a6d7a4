# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files of sound as samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vts_ros.errors import SoundError
from vts_ros.lab.sounds.waves import Samples
from vts_ros.sound.log_spectrum import Resampler, SAMPLE_RATE
from vts_ros.tools.audio_tracks import read_sound


def read_at_rate(path: Path, most_sec: float = math.inf) -> Samples:
    """
    Return a file at SAMPLE_RATE, not more than so many seconds.

    Raises
    ------
    SoundError
        If it cannot be read.

    """
    parts, rate, seconds = [], 0, 0.0
    for chunk in read_sound(path):
        rate = chunk.rate
        parts.append(chunk.samples)
        seconds += len(chunk.samples) / rate
        if seconds >= most_sec:
            break
    if not parts:
        raise SoundError(f'{path} has no sound')
    # Silence, for what fills the resampler and the last step.
    samples = np.concatenate([*parts, np.zeros(round(0.2 * rate))])
    steps = list(Resampler(rate).add(samples))
    count = round(min(seconds, most_sec) * SAMPLE_RATE)
    return np.concatenate(steps)[:count] if steps else np.zeros(0)
