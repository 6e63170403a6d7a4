# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the figures about scores say, and whether one takes the place of the score that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vts_ros.lab.evaluation.fitted_measures import IMPORTANCE
from vts_ros.lab.evaluation.generated_page import place
from vts_ros.lab.evaluation.score_answers import FACTS
from vts_ros.lab.evaluation.score_recall import FIRST, TURNING_DEG
from vts_ros.lab.rivals.registry import (
    KNOWN_MOTION,
    MEASURE,
    MEMORYLESS,
    NETWORK,
    RECURRENT,
)

#: Scores that need no more than what is in the car already.
CANDIDATES = ('vts-share-none', 'vts-score-importance')
#: What could take the place of the score that ships, where it was looked at.
JUDGED = (*CANDIDATES, MEASURE, NETWORK)
#: The condition that has windows of its own.
FAST = f'turning over {TURNING_DEG:g} deg/s'
#: Where a score has to be ahead to take the place of the one that ships.
_GAINS = ('the risk object', *(f'answers about the {fact}' for fact in FACTS))
#: What an AUC is of.
_FOUND = {'test': 'finding what matters in rendered windows',
          'recordings': 'finding what matters in recordings'}
_WORDS = {'first': 'ahead', 'behind': 'behind', 'within noise': 'within noise'}


def verdicts(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the figures say, in sentences made from them."""
    auc = result['areas']['test']['auc']
    for other in (MEMORYLESS, MEASURE):
        found = auc[other]
        low, high = found['ahead_ci']
        yield (f'`{RECURRENT}` has an AUC of {auc[RECURRENT]["mean"]:.3f} for the tokens that '
               f'matter, `{other}` {found["mean"]:.3f}:\n  {found["ahead"]:+.3f} [{low:+.3f}, '
               f'{high:+.3f}], {_WORDS[place(found["ahead_ci"])]}.')
    for title, part in (('the risk object', result['object']['parts']['all']),
                        ('the risk object in tight bends', result['turning']),
                        *_of_cameras(result),
                        ('what only the past shows', result['past']['parts']['all'])):
        better = [f'`{name}` at ' + ' and '.join(shares) for name, shares in (
            (name, [f'{float(share):.0%}' for share, cell in cells.items()
                    if place(cell['ahead_ci']) == 'first'])
            for name, cells in part['methods'].items() if name != FIRST) if shares]
        yield (f'Of {title}, more is kept than by `{FIRST}` by '
               + (', '.join(better) if better else 'none') + '.')
    parts, gains = result['object']['parts'], result['object']['gains']
    for name, base in KNOWN_MOTION.items():
        own = {**{title: part['methods'][name] for title, part in parts.items()},
               FAST: result['turning']['methods'][name]}
        without = {**{title: part[name] for title, part in gains.items()},
                   FAST: result['turning']['gains'][name]}
        for other, found in ((FIRST, own), (base, without)):
            yield (f'Of the risk object, `{name}` keeps more than `{other}` in '
                   f'{_where(found, "first")}; less in {_where(found, "behind")}.')
        yield (f'So what the known motion adds to `{base}` makes it better than `{FIRST}` in '
               f'{_where(own, "first", without)}.')
    for name in JUDGED:
        if name in result['object']['parts']['all']['methods']:
            ahead, behind = ({**_places(result, name, wanted), **_finds(result, name, wanted)}
                             for wanted in ('first', 'behind'))
            ships = not behind and any(title in _GAINS for title in ahead)
            yield (f'`{name}`, which could ship, is ahead of `{FIRST}` in {_listed(ahead)}; it is '
                   f'behind in {_listed(behind)}. By the rule it '
                   f'{"takes its place" if ships else "does not take its place"}.')
    yield ('The rule: ahead in what is kept of the risk object or in answers, and behind in '
           'nothing, at any budget; nor in finding the tokens that matter (AUC), where a network '
           'is judged.')


def _of_cameras(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if 'cameras' in result:
        yield 'the risk object of three cameras', result['cameras']['parts']['all']


def _places(result: Mapping[str, Any], name: str, wanted: str) -> dict[str, list[str]]:
    """Return in what, and at which budgets, a method has a place beside the first."""
    found = {title: [f'{float(share):.0%}' for share, cell in part['methods'][name].items()
                     if place(cell['ahead_ci']) == wanted]
             for title, part in _judged(result) if name in part['methods']}
    return {title: shares for title, shares in found.items() if shares}


def _finds(result: Mapping[str, Any], name: str, wanted: str) -> dict[str, list[str]]:
    """Return where a network has a place beside the first by its AUC, at no budget."""
    if name != NETWORK:
        return {}
    return {_FOUND[part]: [] for part, found in result['network']['areas'].items()
            if place(found['auc'][IMPORTANCE]['ahead_ci']) == wanted}


def _listed(places: Mapping[str, Sequence[str]]) -> str:
    return ', '.join(f'{title} at {" and ".join(shares)}' if shares else title
                     for title, shares in places.items()) or 'nothing'


def _where(found: Mapping[str, Any], wanted: str, also: Mapping[str, Any] | None = None) -> str:
    """Return the conditions and budgets in which a score has a place beside another, or two."""
    shares = {title: [f'{float(share):.0%}' for share, cell in cells.items()
                      if place(cell['ahead_ci']) == wanted
                      and (also is None or place(also[title][share]['ahead_ci']) == wanted)]
              for title, cells in found.items()}
    return ', '.join(f'{title} at {" and ".join(some)}'
                     for title, some in shares.items() if some) or 'nothing'


def _judged(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all that speaks for a score or against it, as figures with a name."""
    yield 'the risk object', result['object']['parts']['all']
    yield 'the risk object in tight bends', result['turning']
    yield from _of_cameras(result)
    yield 'what only the past shows', result['past']['parts']['all']
    yield 'a standing car', result['still']
    if 'roads' in result:
        yield 'road users', result['roads']
        yield 'road users at the tokens of the model', result['token_roads']
    if 'answers' in result:
        for fact in FACTS:
            yield f'answers about the {fact}', result['answers']['parts']['all'][fact]
