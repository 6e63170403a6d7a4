# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A keep ratio for every window: what it needs, predicted from what is known of it beforehand.

The smallest budget that a window needs is an ordinal variable, so it is fitted as one
(proportional odds): ``P(an answer is lost at budget b) = sigmoid(a_b + w . x)``. Budgets are then
given where they save most: each window gets the budget with the least of expected loss plus price
times budget, and the price is what makes the mean budget of the fitted windows the wanted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Weight of the squares of ``w`` beside the mean log likelihood, and steps of Newton's method.
_RIDGE, _STEPS = 0.01, 50
#: Halvings of the interval of prices.
_HALVINGS = 60


class BudgetRule(NamedTuple):
    """
    A fitted rule.

    Attributes
    ----------
    ratios
        Budgets to choose from, as shares of the tokens, falling; the first loses nothing.
    mean, deviation
        Of what is known, [K].
    weights
        [K], of what is known, standardised.
    offsets
        [len(ratios) - 1], of all budgets but the first.

    """

    ratios: Floats
    mean: Floats
    deviation: Floats
    weights: Floats
    offsets: Floats

    def need(self, known: Floats) -> Floats:
        """Return how much windows [n, K] need, without a unit: [n]."""
        found: Floats = (known - self.mean) / self.deviation @ self.weights
        return found

    def losses(self, known: Floats) -> Floats:
        """Return how probably an answer is lost at each budget, [n, budgets]."""
        logits = self.need(known)[:, None] + self.offsets
        lost: Floats = 1.0 / (1.0 + np.exp(-logits))
        return np.concatenate([np.zeros((len(known), 1)), lost], axis=1)


def fit_rule(known: Floats, right: Floats, ratios: Sequence[float]) -> BudgetRule:
    """
    Fit a rule to windows.

    Parameters
    ----------
    known
        [n, K].
    right
        Whether the answer is right at each budget, 0 or 1: [n, budgets].
    ratios
        The budgets, falling; what is right at the first only counts as lost.

    Raises
    ------
    ValueError
        If the budgets do not fall.

    """
    shares = np.array(ratios, np.float64)
    if (np.diff(shares) >= 0.0).any():
        raise ValueError(f'budgets have to fall, not {list(ratios)}')
    mean, deviation = known.mean(axis=0), known.std(axis=0).clip(1e-9)
    inputs = (known - mean) / deviation
    windows, count = inputs.shape
    lost = (right[:, :1] > right[:, 1:]).astype(np.float64)
    # Offsets first, from how often each budget loses an answer; then all by Newton's method.
    often = lost.mean(axis=0).clip(0.5 / windows, 1.0 - 0.5 / windows)
    parameters = np.concatenate([np.zeros(count), np.log(often / (1.0 - often))])
    budgets = lost.shape[1]
    design = np.concatenate([
        np.repeat(inputs, budgets, axis=0), np.tile(np.eye(budgets), (windows, 1))], axis=1)
    # Offsets of budgets that lose nothing have no maximum: they are held a little, too.
    hold = np.concatenate([np.full(count, _RIDGE), np.full(budgets, 1e-6)])
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-(design @ parameters)))
        slope = design.T @ (chance - lost.ravel()) / windows + hold * parameters
        curve = (design * (chance * (1.0 - chance))[:, None]).T @ design / windows
        step = np.linalg.solve(curve + np.diag(hold), slope)
        parameters = parameters - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    return BudgetRule(shares, mean, deviation, parameters[:count], parameters[count:])


def allocate(losses: Floats, ratios: Floats, price: float) -> NDArray[np.int64]:
    """Return which budget each window [n, budgets] gets at a price of the tokens."""
    return np.asarray((losses + price * ratios).argmin(axis=1), np.int64)


def price_of(losses: Floats, ratios: Floats, wanted: float) -> float:
    """
    Return the price at which the mean budget is the wanted one.

    The mean falls in steps; the cheapest price with a mean of at most `wanted` is meant.
    """
    low, high = 0.0, 1.0 / float(np.min(-np.diff(ratios)))
    for _ in range(_HALVINGS):
        price = 0.5 * (low + high)
        if ratios[allocate(losses, ratios, price)].mean() > wanted:
            low = price
        else:
            high = price
    return high


def fixed_right(right: Floats, ratios: Floats, wanted: float) -> Floats:
    """
    Return how right each window is with one budget for all, [n].

    Between two budgets that were measured, the mean of both that has the wanted budget.
    """
    place = int(np.clip(np.searchsorted(-ratios, -wanted), 1, len(ratios) - 1))
    above, below = ratios[place - 1], ratios[place]
    share = float(np.clip((wanted - below) / (above - below), 0.0, 1.0))
    found: Floats = share * right[:, place - 1] + (1.0 - share) * right[:, place]
    return found
