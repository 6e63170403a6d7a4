# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All ways to choose visual tokens behind one interface: baselines, VTS and its ablations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.rivals import baselines, published, temporal
from vts_ros.lab.rivals.ranking import ascending, ranked
from vts_ros.sparsify import Proposal, Sparsifier, WindowFeatures

#: Features of a window and budget B in; ascending int32 [B] out, or None where B cannot be met.
Choose = Callable[[WindowFeatures, int], NDArray[np.int32] | None]
Group = Literal['baseline', 'vts', 'key', 'share', 'score', 'radius', 'time']

RANDOM_SEEDS = 5
#: So large a hysteresis that no frame takes over from the key frame so far.
_NEVER = 1e9


@dataclass(frozen=True)
class Method:
    """
    A way to choose visual tokens.

    Attributes
    ----------
    name
        As the command line and the results call it.
    group
        What it is compared as: a baseline, VTS, an ablation of its key frame, of the shares of
        frames, of its score or of its search radius, or a score that looks at time.
    about
        What it keeps, in a few words, with the source.
    fit
        How it comes to exactly the budget, and when it cannot.
    choices
        One; or several that differ by their seeds, of which the mean counts.
    learned_from
        In a word, what it was fitted to or which network it looks with: results with another are
        not its own. Empty where there is nothing to tell apart.

    """

    name: str
    group: Group
    about: str
    fit: str
    choices: tuple[Choose, ...]
    learned_from: str = ''

    def keep(self, evidence: WindowFeatures, budget: int, choice: int = 0
             ) -> NDArray[np.int32] | None:
        """
        Return exactly so many tokens to keep, or None where the method cannot.

        Raises
        ------
        ValueError
            If the budget is out of range, or the method broke its promise.

        """
        total = len(evidence.proposals) * evidence.grid[0] * evidence.grid[1]
        if not 1 <= budget <= total:
            raise ValueError(f'a budget of {budget} is not within 1 to {total}')
        keep = self.choices[choice](evidence, budget)
        if keep is not None and len(keep) != budget:
            raise ValueError(f'{self.name} keeps {len(keep)} tokens instead of {budget}')
        return keep


_BY_QUOTA = 'equal shares of the frames'

BASELINES: tuple[Method, ...] = (
    Method('random', 'baseline',
           f'at random, equally many of every frame; mean of {RANDOM_SEEDS} seeds',
           f'{_BY_QUOTA}; chance decides about the remainder',
           tuple(partial(baselines.random, seed=seed) for seed in range(RANDOM_SEEDS))),
    Method('downsample', 'baseline',
           'a coarser grid of tokens in every frame, after VTC-Bench (arXiv 2510.07143)',
           f'{_BY_QUOTA}; filled up with the tokens farthest from those kept',
           (baselines.downsample,)),
    Method('newest', 'baseline', 'the newest frames, whole',
           'the rest is spread evenly over the frame before them', (baselines.newest,)),
    Method('evs', 'baseline',
           'the first frame and what changed most since the frame before; EVS (arXiv 2510.14624)',
           'its global ranking, cut at the budget; not below the tokens of one frame',
           (published.evs,)),
    Method('evs-newest', 'baseline', 'EVS with time reversed: the newest frame is whole',
           'as `evs`', (published.evs_newest,)),
    Method('dycoke', 'baseline',
           'every fourth frame, and what differs most in the others; DyCoke-TTM '
           '(arXiv 2411.15024)',
           'equal shares of the frames that are not whole; not below the whole frames',
           (published.dycoke,)),
    Method('dtd', 'baseline',
           'the first frame, and what changed most in each later one; TimeChat-Online '
           '(arXiv 2504.17343)',
           'equal shares of the later frames; not below the tokens of one frame',
           (published.dtd,)),
    Method('vidcom2', 'baseline',
           'what is unlike the mean of video and frame; VidCom2 (arXiv 2505.14454)',
           'its shares of the frames, rounded by the largest remainder', (published.vidcom2,)),
    Method('dart', 'baseline',
           'four pivots per frame and what is least like them, on embeddings; DART '
           '(arXiv 2502.11494)', _BY_QUOTA, (published.dart,)),
)


class _Variant(NamedTuple):
    """What a variant of VTS does in another way."""

    group: Group
    about: str
    key: Callable[[WindowFeatures], int] | None = None
    alpha: float | None = None
    search_radius: int | None = None
    shares: tuple[float, float] | None = None


def _newest_key(evidence: WindowFeatures) -> int:
    return len(evidence.proposals) - 1


def _oldest_key(evidence: WindowFeatures) -> int:
    return 0


def _random_key(evidence: WindowFeatures) -> int:
    return int(baselines.rng_of_window(evidence, RANDOM_SEEDS).integers(len(evidence.proposals)))


def _oracle_key(evidence: WindowFeatures) -> int:
    """Return the frame that really shows most of the risk object, the newest without one."""
    if evidence.object_area is None:
        raise ValueError('an oracle needs the truth about the window')
    return len(evidence.object_area) - 1 - int(np.argmax(evidence.object_area[::-1]))


_VARIANTS: dict[str, _Variant] = {
    'vts': _Variant('vts', 'this project: the most salient frame, and what is new or salient'),
    'vts-key-newest': _Variant('key', 'the newest frame is the key frame', _newest_key),
    'vts-key-oldest': _Variant('key', 'the oldest frame is the key frame', _oldest_key),
    'vts-key-random': _Variant('key', 'any frame, at random, is the key frame', _random_key),
    'vts-key-oracle': _Variant(
        'key', 'the frame that shows most of the risk object is the key frame, by the truth',
        _oracle_key),
    'vts-share-whole': _Variant(
        'share', 'the key frame is whole before anything else is kept', shares=(1.0, 0.0)),
    'vts-share-half': _Variant('share', 'half of the budget for the key frame, not a quarter',
                               shares=(0.5, 0.25)),
    'vts-share-key': _Variant('share', 'no share for the newest frame', shares=(0.25, 0.0)),
    'vts-share-newest': _Variant('share', 'no share for the key frame', shares=(0.0, 0.25)),
    'vts-share-none': _Variant('share', 'no shares, the ranking alone', shares=(0.0, 0.0)),
    'vts-score-similarity': _Variant('score', 'novelty alone, without saliency', alpha=1.0),
    'vts-score-importance': _Variant('score', 'saliency alone, without novelty', alpha=0.0),
    'vts-radius-0': _Variant(
        'radius', 'compared with the same place in the key frame only', search_radius=0),
    'vts-radius-2': _Variant(
        'radius', 'compared with 5 x 5 places in the key frame', search_radius=2),
}

METHOD_NAMES: tuple[str, ...] = (*(method.name for method in BASELINES), *_VARIANTS)

_Score = Callable[[WindowFeatures], NDArray[np.float32]]
#: Scores of :mod:`vts_ros.lab.rivals.temporal`: what each keeps are the tokens with the highest.
_TEMPORAL: dict[str, tuple[str, Callable[[Sparsifier], _Score]]] = {
    'time-motion': ('saliency and novelty after optical flow takes out the motion of the own car',
                    lambda sparsifier: partial(temporal.own_motion, sparsifier)),
    'time-known-motion': ('saliency and novelty after speed and yaw rate take out the motion of '
                          'the own car', lambda sparsifier: partial(
                              temporal.known_novelty, sparsifier)),
    'time-known-residual': ('saliency and what moves other than speed and yaw rate say',
                            lambda sparsifier: partial(temporal.known_residual, sparsifier)),
    'time-volatility': ('what changes over the window, newer frames first, after ST-Prune '
                        '(arXiv 2604.19145)', lambda sparsifier: temporal.volatility),
    'time-uniqueness': ('what is farthest from any other token of the window, after LookWhen '
                        '(arXiv 2605.06809)', lambda sparsifier: temporal.uniqueness),
    'time-attention': ('what attention over the other frames explains worst',
                       lambda sparsifier: temporal.attention),
}
#: VTS with another proposal network.
NETWORK = 'vts-network'
#: VTS that does not know of cameras.
AS_ONE = 'vts-cameras-as-one'
MEASURE, RECURRENT, MEMORYLESS = 'time-measure', 'time-recurrent', 'time-memoryless'
#: Measures that are fitted to the worth of tokens.
_FITTED = {
    MEASURE: 'a small network fitted to what hiding a token changes',
    RECURRENT: 'a ConvGRU over the cells of the proposal network, fitted to the same',
    MEMORYLESS: 'the same network with its state emptied before every frame'}
#: They rank by what changes; not among ``METHOD_NAMES``, because none is ahead of those.
TEMPORAL_NAMES: tuple[str, ...] = tuple(_TEMPORAL)
#: Those of them that need the path of the car, each with what it is without.
KNOWN_MOTION = {'time-known-motion': 'vts-share-none',
                'time-known-residual': 'vts-score-importance'}
#: Methods that do not look at the visual tokens.
WITHOUT_TOKENS = frozenset(('random', *_VARIANTS, *KNOWN_MOTION, NETWORK, AS_ONE))


class Measure(Protocol):
    """A score that was fitted."""

    def scores(self, sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
        """Return float32 [T, N], higher for a token that is more worth keeping."""


def methods(sparsifier: Sparsifier, names: Iterable[str] = METHOD_NAMES,
            measures: Mapping[str, Measure] | None = None) -> list[Method]:
    """
    Return methods by their names, VTS and its ablations with the graphs of a sparsifier.

    Parameters
    ----------
    measures
        What ``MEASURE`` and its like rank by; without them, there are no such methods.

    Raises
    ------
    ValueError
        If a name is not known.

    """
    known = {method.name: method for method in (
        *BASELINES, *vts_methods(sparsifier), *_temporal_methods(sparsifier, measures or {}))}
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise ValueError(f'method {name!r} is none of {", ".join(known)}')
    return [known[name] for name in wanted]


def _temporal_methods(sparsifier: Sparsifier, measures: Mapping[str, Measure]) -> list[Method]:
    found: dict[str, tuple[str, _Score]] = {
        **{name: (about, make(sparsifier)) for name, (about, make) in _TEMPORAL.items()},
        **{name: (_FITTED[name], partial(measure.scores, sparsifier))
           for name, measure in measures.items()}}
    return [Method(name, 'time', about, 'its ranking, cut', (_Highest(score),))
            for name, (about, score) in found.items()]


class _Highest:
    """Keeps the tokens with the highest score of all frames; remembers the last window's order."""

    def __init__(self, score: _Score) -> None:
        self._score = score
        self._last: tuple[WindowFeatures, NDArray[np.int64]] | None = None

    def __call__(self, evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
        if self._last is None or self._last[0] is not evidence:
            self._last = evidence, ranked(self._score(evidence))
        return ascending(self._last[1][:budget])


def network_method(sparsifier: Sparsifier, about: str, learned_from: str) -> Method:
    """Return VTS with the proposal network and the settings of another sparsifier."""
    return Method(NETWORK, 'vts', about, 'as `vts`', (_OtherNetwork(sparsifier),), learned_from)


def as_one_method(sparsifier: Sparsifier) -> Method:
    """Return VTS that takes the frames of several cameras for those of one."""
    return Method(AS_ONE, 'vts', 'all cameras as if they were one, with one key frame',
                  'as `vts` of one camera', (lambda evidence, budget: _selected(
                      sparsifier, evidence._replace(cameras=None), budget),))


class _OtherNetwork:
    """Looks at the frames anew; remembers the last window's proposals."""

    def __init__(self, sparsifier: Sparsifier) -> None:
        self._sparsifier = sparsifier
        self._last: tuple[WindowFeatures, tuple[Proposal, ...]] | None = None

    def __call__(self, evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
        if self._last is None or self._last[0] is not evidence:
            self._last = evidence, tuple(map(self._sparsifier.propose, evidence.frames))
        proposals = self._last[1]
        return _selected(self._sparsifier, evidence._replace(proposals=proposals), budget)


def vts_methods(sparsifier: Sparsifier) -> list[Method]:
    """Return VTS with the settings of a sparsifier, and its ablations, one change in each."""
    fit = 'a quarter each for the key frame and the newest; the ranking of the others, cut'
    return [Method(name, variant.group, variant.about, fit if name == 'vts' else 'as `vts`',
                   (_choose(sparsifier, variant),))
            for name, variant in _VARIANTS.items()]


def _choose(sparsifier: Sparsifier, variant: _Variant) -> Choose:
    changed = sparsifier.variant(
        alpha=variant.alpha, search_radius=variant.search_radius, shares=variant.shares,
        hysteresis=None if variant.key is None else _NEVER)

    def choose(evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
        # A key frame so far that no other can take over from is the key frame.
        key = None if variant.key is None else variant.key(evidence)
        return _selected(changed, evidence, budget, key)

    return choose


def _selected(sparsifier: Sparsifier, evidence: WindowFeatures, budget: int,
              key: int | None = None) -> NDArray[np.int32]:
    frames = len(evidence.proposals)
    ratio = budget / (frames * evidence.grid[0] * evidence.grid[1])
    return sparsifier.select_each(evidence.proposals, [evidence.grid] * frames, ratio, key,
                                  cameras=evidence.cameras).keep
