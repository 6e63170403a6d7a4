# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Samples to steps of a spectrogram, as they come: level in dB, over the logarithm of the frequency.

A band is a semitone: a siren that is higher, or nearer by its Doppler shift, is the same pattern
some bands away, which convolutions over the bands know as the same. In bands of mel, which are
equally wide up to 700 Hz, it is another pattern.

All that is computed has the shape of one step, so that it makes no difference in any bit how the
samples were cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np
from numpy.typing import NDArray

#: Of what the network hears.
SAMPLE_RATE = 16_000
#: Samples of a window of the spectrogram, and from one window to the next. Of a window of 64
#: ms a bin is as wide as a semitone at 260 Hz; it tells two tones so close apart from 525 Hz on.
WINDOW, HOP = 1024, 320
#: Bands of the spectrogram, and the middle of the lowest; the highest is at 6.6 kHz.
BANDS = 72
LOW_HZ = 110.0
#: Windows of a step, its samples and its time.
STEP_FRAMES = 5
STEP_SAMPLES = STEP_FRAMES * HOP
STEP_SEC = STEP_SAMPLES / SAMPLE_RATE
#: Of a band without sound. Below that is the noise of a converter of 16 bits.
FLOOR_DB = -90.0

#: Half of the length of the filter that changes the sample rate, in samples of the lower rate.
_LOBES = 12


def band_edges_hz() -> NDArray[np.float64]:
    """Return the edges of the bands, ascending: band b is a triangle from edge b to b + 2."""
    found: NDArray[np.float64] = LOW_HZ * 2.0 ** (np.arange(-1, BANDS + 1) / 12.0)
    return found


def _band_weights() -> NDArray[np.float64]:
    """Return the weights (bins, BANDS) that make bands of a power spectrum."""
    hz = np.fft.rfftfreq(WINDOW, 1.0 / SAMPLE_RATE)[:, None]
    edges = band_edges_hz()
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)).clip(0.0)
    # The lowest bands are narrower than a bin: they take the bin that is nearest.
    for band in np.flatnonzero(weights.sum(0) == 0.0):
        weights[np.abs(hz[:, 0] - middle[band]).argmin(), band] = 1.0
    return weights


_WEIGHTS = _band_weights()
_HANN = np.hanning(WINDOW + 1)[:-1]
_STARTS = np.arange(STEP_FRAMES)[:, None] * HOP + np.arange(WINDOW)


class LogSpectrum:
    """Makes a step of the spectrogram of the samples of a step and those just before."""

    def __init__(self) -> None:
        self._before = np.zeros(WINDOW - HOP)

    def step(self, samples: NDArray[np.float64]) -> NDArray[np.float32]:
        """
        Return the spectrogram of the next step.

        Parameters
        ----------
        samples
            STEP_SAMPLES of them at SAMPLE_RATE, full scale is 1.

        Returns
        -------
        Level in dB of full scale, float32 (STEP_FRAMES, BANDS).

        """
        known = np.concatenate([self._before, samples])
        self._before = known[STEP_SAMPLES:]
        spectrum = np.fft.rfft(known[_STARTS] * _HANN, axis=1)
        power = (np.abs(spectrum) / (0.5 * _HANN.sum())) ** 2 @ _WEIGHTS
        level: NDArray[np.float32] = (
            10.0 * np.log10(power + 10.0 ** (0.1 * FLOOR_DB))).astype(np.float32)
        return level


class Resampler:
    """
    Brings samples of any rate to SAMPLE_RATE, in steps.

    Parameters
    ----------
    rate
        Samples per second of what comes, a whole number.

    """

    def __init__(self, rate: int) -> None:
        common = gcd(rate, SAMPLE_RATE)
        self._up, self._down = SAMPLE_RATE // common, rate // common
        self._filter = _polyphase(self._up, self._down)
        taps = self._filter.shape[1]
        # The first output is in the middle of the filter, over the first sample.
        self._waiting = np.zeros(taps // 2 - 1)
        #: Position of the next output, in samples that come, as a whole number and a phase.
        self._phase = 0
        numbers = np.arange(STEP_SAMPLES, dtype=np.int64)
        self._numbers = numbers * self._down
        self._taps = np.arange(taps)

    def add(self, samples: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Yield as many steps of STEP_SAMPLES samples as are complete with these."""
        self._waiting = np.concatenate([self._waiting, samples])
        while True:
            last = self._phase + (STEP_SAMPLES - 1) * self._down
            if last // self._up + len(self._taps) > len(self._waiting):
                return
            places = self._phase + self._numbers
            starts, phases = places // self._up, places % self._up
            if self._up == self._down:
                step = self._waiting[starts + len(self._taps) // 2 - 1]
            else:
                step = (self._waiting[starts[:, None] + self._taps]
                        * self._filter[phases]).sum(axis=1)
            following = self._phase + STEP_SAMPLES * self._down
            used = following // self._up
            self._phase = following % self._up
            self._waiting = self._waiting[used:]
            yield step


def _polyphase(up: int, down: int) -> NDArray[np.float64]:
    """Return a windowed sinc for each phase between two samples, (up, taps)."""
    # Below the lower of the two Nyquist frequencies, in cycles per sample that comes.
    cutoff = min(1.0, up / down) * 0.94
    half = int(np.ceil(_LOBES / min(1.0, up / down)))
    taps = np.arange(-half + 1, half + 1)
    places = taps - np.arange(up)[:, None] / up
    window = np.cos(0.5 * np.pi * (places / half).clip(-1.0, 1.0)) ** 2
    weights = cutoff * np.sinc(cutoff * places) * window
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised
