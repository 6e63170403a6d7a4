# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of means over the same windows, by resampling the windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
#: Between these shares of the resamples lies what is given as an interval: 95 %.
_EDGES = (0.025, 0.975)

Interval = tuple[float, float]


class Bootstrap:
    """
    The percentile bootstrap over windows, the same resamples for everything that is asked.

    All methods answer the same windows, so differences of two are taken within each resample:
    that is surer than the intervals of both suggest.

    Parameters
    ----------
    windows
        How many there are, at least one.
    seed
        Of the resamples.

    """

    def __init__(self, windows: int, seed: int = 0) -> None:
        shares = np.full(windows, 1.0 / windows)
        counts = np.random.default_rng(seed).multinomial(windows, shares, RESAMPLES)
        self._weights = (counts / windows).astype(np.float32)

    def means(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean of values [windows] in each resample."""
        return np.asarray(self._weights @ values.astype(np.float32), np.float64)

    def mean(self, values: NDArray[np.floating]) -> Interval:
        """Return the interval of a mean."""
        return _interval(self.means(values))

    def difference(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> Interval:
        """Return the interval of how much higher the first mean is."""
        return _interval(self.means(first) - self.means(second))

    def ratio(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> Interval | None:
        """Return the interval of the first mean over the second; None if that may be zero."""
        below = self.means(second)
        return _interval(self.means(first) / below) if (below > 0.0).all() else None


def _interval(means: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(means, _EDGES)
    return round(float(low), 4), round(float(high), 4)
