# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a keep ratio for every window loses less than one for all, at the same mean budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.budget_rule import (
    allocate,
    BudgetRule,
    fit_rule,
    fixed_right,
    Floats,
    price_of,
)
from vts_ros.lab.evaluation.budget_windows import Answered, PREDICTORS

#: The rule with all predictors, and what bounds it: budgets given out at random, and by the truth.
RULE, CHANCE, ORACLE = 'all of them', 'chance', 'oracle'


def judge(val: Answered, test: Answered, ratios: Sequence[float], wanted: Sequence[float]
          ) -> dict[str, Any]:
    """
    Fit rules to windows of the split val, and compare them with fixed budgets on those of test.

    Parameters
    ----------
    ratios
        Budgets of both, falling from 1.
    wanted
        Mean budgets. A rule comes to each on the windows it is fitted to; what it comes to on the
        others is what it is compared at.

    Returns
    -------
    ``{'n': {'val', 'test'}, 'budgets', 'fixed': {budget: {'level', 'level_ci', 'object',
    'object_ci'}}, 'lost': {budget: {'val', 'test'}}, 'weights': {predictor: weight},
    'rules': {name: {wanted: {'budget', 'level', 'level_ahead', 'level_ahead_ci', 'object',
    'object_ahead', 'object_ahead_ci', 'share': {budget: share of the windows}}}}}``. Ahead is by
    how much of all windows more answers are right than with the fixed budget; intervals of 95 %
    are over windows of ``test``, with the rule as it was fitted.

    """
    shares = np.array(ratios, np.float64)
    bootstrap = Bootstrap(len(test.level))
    rules: dict[str, dict[str, Any]] = {}

    def compared(budgets: Floats, level: Floats, seen: Floats) -> dict[str, Any]:
        mean = float(budgets.mean())
        found: dict[str, Any] = {'budget': round(mean, 4), 'share': {
            f'{ratio:g}': round(float((budgets == ratio).mean()), 4) for ratio in shares}}
        for metric, mine, right in (('level', level, test.level), ('object', seen, test.object)):
            fixed = fixed_right(right, shares, mean)
            found[metric] = round(float(mine.mean()), 4)
            found[f'{metric}_ahead'] = round(float((mine - fixed).mean()), 4)
            found[f'{metric}_ahead_ci'] = bootstrap.difference(mine, fixed)
        return found

    def chosen(place: np.ndarray) -> dict[str, Any]:
        rows = np.arange(len(place))
        return compared(shares[place], test.level[rows, place], test.object[rows, place])

    for name, columns in (*((name, [place]) for place, name in enumerate(PREDICTORS)),
                          (RULE, list(range(len(PREDICTORS))))):
        rule = fit_rule(val.known[:, columns], val.level, ratios)
        losses = [rule.losses(part.known[:, columns]) for part in (val, test)]
        rules[name] = {f'{mean:g}': chosen(allocate(
            losses[1], shares, price_of(losses[0], shares, mean))) for mean in wanted}
    # Budgets of the rule, given to other windows: the mean over all ways to do so.
    rules[CHANCE] = {}
    for share, found in rules[RULE].items():
        often = np.array([found['share'][f'{ratio:g}'] for ratio in shares])
        rules[CHANCE][share] = compared(
            np.full(len(test.level), float(often @ shares)), test.level @ often,
            test.object @ often)
    real = np.clip(test.level[:, :1] - test.level, 0.0, None)
    rules[ORACLE] = {f'{mean:g}': chosen(allocate(
        real, shares, price_of(real, shares, mean))) for mean in wanted}
    return {
        'n': {'val': len(val.level), 'test': len(test.level)}, 'budgets': list(ratios),
        'fixed': {f'{ratio:g}': {
            'level': round(float(test.level[:, place].mean()), 4),
            'level_ci': bootstrap.mean(test.level[:, place]),
            'object': round(float(test.object[:, place].mean()), 4),
            'object_ci': bootstrap.mean(test.object[:, place])}
            for place, ratio in enumerate(ratios)},
        'lost': {f'{ratio:g}': {
            name: round(float((part.level[:, 0] > part.level[:, place]).mean()), 4)
            for name, part in (('val', val), ('test', test))}
            for place, ratio in enumerate(ratios)},
        'weights': _weights(fit_rule(val.known, val.level, ratios)), 'rules': rules}


def _weights(rule: BudgetRule) -> dict[str, float]:
    return {name: round(float(weight), 3) for name, weight in zip(PREDICTORS, rule.weights)}
