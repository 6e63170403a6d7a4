# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page ``token_budget.md``: a keep ratio for every window against one for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vts_ros.lab.evaluation.budget_evaluation import CHANCE, ORACLE, RULE
from vts_ros.lab.evaluation.budget_windows import LAST_RATIO, PREDICTORS
from vts_ros.lab.evaluation.generated_page import (
    between,
    day_and_machine,
    head,
    place,
    Run,
    write_data,
    write_text,
)

PAGE, DATA = 'token_budget.md', 'token_budget.json'
_ABOUT = {RULE: 'all predictors in a rule',
          CHANCE: f'the budgets of *{RULE}*, given to windows at random: mean over all ways',
          ORACLE: 'knows at which budget an answer is lost'}


def write_budget(result: Mapping[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write page and data to a folder; returns what was written."""
    return [write_text(folder / PAGE, _lines(result, run)),
            write_data(folder / DATA, result, run)]


def verdict(result: Mapping[str, Any]) -> str:
    """Return in a sentence whether the rule is ahead, by the intervals of the risk level."""
    where: dict[str, list[str]] = {}
    for share, found in result['rules'][RULE].items():
        where.setdefault(place(found['level_ahead_ci']), []).append(f'{float(share):.0%}')
    words = {'first': 'ahead at', 'behind': 'behind at', 'within noise': 'within noise at'}
    said = '; '.join(f'{words[name]} {", ".join(shares)}' for name, shares in where.items())
    wins = 'first' in where and 'behind' not in where
    return (f'a keep ratio for every window is {said} of the tokens on average, against one for '
            'all.\n' + ('It loses less.' if wins else
                        'It does not lose less, so it is no setting of the node.'))


def _lines(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    yield from head('A keep ratio for every window', run)
    yield f'In short: {verdict(result)}\n'
    yield ('Some windows need more tokens than others. A rule predicts, before the language model '
           'reads a window, how\nprobably its answer is lost at each budget (ordinal regression: '
           'proportional odds), and gives the tokens of all\nwindows to those where they save '
           'most. It is fitted to windows of the split `val`, where it is set to a mean budget,\n'
           'and compared on windows of `test` with one budget for all that is equal to the mean '
           'it comes to there.\n')
    yield (f'- Model `{result["model"]}`, tokens chosen by `vts`, answers end after the facts; '
           f'{result["n"]["val"]} windows of `val`, {result["n"]["test"]} of\n  `test`, 5 frames, '
           'risk levels balanced.\n'
           f'- Lost: the risk level is right with all tokens and wrong at the budget. The last '
           f'risk is that of the answer one\n  frame earlier, at {LAST_RATIO:.0%} of the tokens.\n'
           '- Brackets are bootstrap intervals of 95 % over windows of `test` (seed 0), paired, '
           'with the rule as it was fitted.\n'
           f'- {day_and_machine(run)}\n')
    yield '## One budget for all\n'
    yield 'Right risk level / right risk object, and how often the level is lost, in percent.\n'
    yield '| tokens | level | object | lost, `val` | lost, `test` |'
    yield '|---|---|---|---|---|'
    for share, found in result['fixed'].items():
        lost = result['lost'][share]
        yield (f'| {float(share):.0%} | {between(found["level"], found["level_ci"], ".1f")} | '
               f'{between(found["object"], found["object_ci"], ".1f")} | {100 * lost["val"]:.1f} '
               f'| {100 * lost["test"]:.1f} |')
    yield '\n## A budget for every window\n'
    yield ('How much more of the answers are right than with one budget for all of the same mean, '
           'in points: risk level / risk\nobject. In each column the mean budget that is wanted; '
           'that on `test` stands in the cells.\n')
    wanted = list(next(iter(result['rules'].values())))
    yield '| by | ' + ' | '.join(f'{float(share):.0%}' for share in wanted) + ' |'
    yield '|---|' + '---|' * len(wanted)
    for name, rows in result['rules'].items():
        cells = [f'{100 * found["budget"]:.1f}%: '
                 f'{between(found["level_ahead"], found["level_ahead_ci"], "+.1f")} / '
                 f'{between(found["object_ahead"], found["object_ahead_ci"], "+.1f")}'
                 for found in rows.values()]
        yield f'| {name} | {" | ".join(cells)} |'
    yield ''
    for name, about in {**PREDICTORS, **_ABOUT}.items():
        yield f'- *{name}*: {about}.'
    yield '\n## What the rule says\n'
    yield ('Weights of the predictors, standardised (above 0: the more of it, the more tokens are '
           'needed):\n')
    yield '| ' + ' | '.join(result['weights']) + ' |'
    yield '|---' * len(result['weights']) + '|'
    yield '| ' + ' | '.join(f'{weight:+.2f}' for weight in result['weights'].values()) + ' |'
    yield '\nShare of the windows of `test` that get each budget, in percent:\n'
    shares = [f'{ratio:g}' for ratio in result['budgets']]
    yield '| mean wanted | ' + ' | '.join(f'{float(share):.0%}' for share in shares) + ' |'
    yield '|---' * (1 + len(shares)) + '|'
    for share, found in result['rules'][RULE].items():
        yield f'| {float(share):.0%} | ' + ' | '.join(
            f'{100 * found["share"][ratio]:.0f}' for ratio in shares) + ' |'
