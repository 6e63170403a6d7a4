# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a gate costs and what it saves, on rendered drives with hazards.

What a gated model says follows from the records of one that is always asked; what it costs in
processor time is measured with the real pipeline on some of the drives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
import math
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import RESAMPLES
from vts_ros.lab.evaluation.drive_records import drive_windows, DriveRecord
from vts_ros.pipeline.change_gate import ChangeGate, CHANGES, FEATURES, features, Moment, Standing
from vts_ros.pipeline.config import SPEAK
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.speaking import Speaking
from vts_ros.sparsify import Proposal

Gate = Callable[[int, int], bool]
#: How much later the 95th percentile of the delay may be.
LATER_SEC = 0.4
#: A level that is there for fewer windows cannot be expected to be said.
_SHORTEST = 2
#: How many windows ago the model may have been asked, in what a gate is fitted to.
_LAGS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
#: Windows with a hazard count so much more.
_HAZARD_WEIGHT = 3.0
FOLDS, _PENALTY = 4, 3.0
#: So many windows of a drive are run for the time of the processor.
_STRETCH = 50
#: A change that is larger than this share of those between windows of the same truth opens a gate
#: whatever its score.
_USUAL = 0.95
#: Shares of the windows at which the model is asked that a curve is drawn through.
_SHARES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


@dataclass(frozen=True)
class Played:
    """
    What is said in a drive, window by window.

    Attributes
    ----------
    asked_at
        For each window, the one that its answer is from.

    """

    record: DriveRecord
    asked_at: NDArray[np.int64]

    @property
    def levels(self) -> list[str]:
        """Return the level that stands at each window."""
        return [self.record.said[index][0] for index in self.asked_at]

    @property
    def asked(self) -> int:
        """Return how often the model was asked."""
        return int((self.asked_at == np.arange(len(self.asked_at))).sum())

    def risk_only(self, every_sec: float) -> int:
        """Return how often an answer can end after its risk, see ``Speaking.until_risk``."""
        record, count, told = self.record, 0, 0
        for last, index in pairwise(np.unique(self.asked_at).tolist()):
            age_sec = 1e-9 * (record.stamps_ns[index] - record.stamps_ns[told])
            if record.said[index] == record.said[last] and age_sec < every_sec:
                count += 1
            else:
                told = index
        return count


class Quality(NamedTuple):
    """
    How good what is said in one drive is.

    Attributes
    ----------
    delays_sec
        For each hazard, from its onset to the first right level; infinite where it never came.
    missed, changes
        Levels that lasted and were never said while they did, of how many.
    false
        Changes of what is said to a level that is not there.

    """

    delays_sec: tuple[float, ...]
    missed: int
    changes: int
    false: int
    right: int
    windows: int


def always(record: DriveRecord) -> Played:
    """Return what a model that is always asked says."""
    return Played(record, np.arange(len(record.said)))


def play(record: DriveRecord, is_open: Gate, every_sec: float) -> Played:
    """
    Return what is said in a drive where a gate decides.

    Parameters
    ----------
    is_open
        Given the window at which the model was last asked, and the present one.

    """
    asked_at, last = [0], 0
    for index in range(1, len(record.said)):
        age_sec = 1e-9 * (record.stamps_ns[index] - record.stamps_ns[last])
        if record.said[last][0] == 'unknown' or age_sec >= every_sec or is_open(last, index):
            last = index
        asked_at.append(last)
    return Played(record, np.array(asked_at))


def quality(played: Played, interval_sec: float) -> Quality:
    """Compare what is said with what is there."""
    true = [level for level, _ in played.record.truth]
    said = played.levels
    delays = []
    for windows in _hazards(played.record):
        right = [index for index in windows if said[index] == true[index]]
        delays.append(interval_sec * (right[0] - windows[0]) if right else np.inf)
    lasting = [(start, end) for start, end in _runs(true) if start and end - start >= _SHORTEST]
    return Quality(
        tuple(delays),
        sum(true[start] not in said[start:end] for start, end in lasting), len(lasting),
        sum(before != now != there for before, now, there in zip(said, said[1:], true[1:])),
        sum(claimed == there for claimed, there in zip(said, true)), len(said))


def _runs(values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of equal values."""
    start = 0
    for index in range(1, len(values) + 1):
        if index == len(values) or values[index] != values[start]:
            yield start, index
            start = index


def _hazards(record: DriveRecord) -> list[list[int]]:
    """
    Return the windows of each hazard: an object whose risk is medium or high for a while.

    Something nearer may be the risk for a moment in between: it stays one hazard.
    """
    windows: dict[int, list[int]] = defaultdict(list)
    for index, (level, _) in enumerate(record.truth):
        if level in ('medium', 'high'):
            windows[int(record.objects[index])].append(index)
    return [found for found in windows.values() if len(found) >= _SHORTEST]


# --- the gate ------------------------------------------------------------------------------

class _Measured:
    """
    What a gate measures of a drive.

    Attributes
    ----------
    found
        Features [windows, lags, F]: of a window against the one before, the one before that, and
        so on; NaN where there is none.

    """

    def __init__(self, record: DriveRecord, every_sec: float, interval_sec: float) -> None:
        self.record = record
        windows, lags = len(record.said), math.ceil(every_sec / interval_sec)
        moments = [Moment(int(stamp), {'front': Proposal(saliency, embedding)}) for
                   stamp, saliency, embedding in zip(
                       record.stamps_ns, record.saliency, record.embedding)]
        confidences = [None if np.isnan(value) else float(value) for value in record.confidence]
        self.found = np.full((windows, lags, len(FEATURES)), np.nan)
        for index in range(windows):
            for lag in range(1, min(index, lags) + 1):
                last = index - lag
                standing = Standing(moments[last], record.said[last][0],  # type: ignore[arg-type]
                                    confidences[last])
                self.found[index, lag - 1] = features(standing, moments[index])['front']

    def gated(self, gate: ChangeGate, moved: float = 0.0) -> Gate:
        """Return a gate over the windows of the drive, opened by so much more."""
        is_open = (gate.score(self.found) > -moved) | gate.exceeds(self.found)
        return lambda last, index: bool(is_open[index, index - last - 1])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of windows for a fit."""
        lags = [lag for lag in _LAGS if lag <= self.found.shape[1]]
        for index in range(len(self.found)):
            yield from ((index - lag, index) for lag in lags if lag <= index)


def tune(records: Sequence[DriveRecord], share: float | None, every_sec: float,
         interval_sec: float) -> tuple[ChangeGate, dict[str, Any]]:
    """
    Fit a gate to drives.

    The fit is a logistic regression on whether asking now would put right what stands.

    Parameters
    ----------
    share
        Of the windows of these drives at which the model is to be asked; None takes the smallest
        of the curve at which no hazard is missed that is found where the model is always asked,
        and the 95th percentile of the delay is at most ``LATER_SEC`` later.

    Returns
    -------
    The gate, and ``{'drives', 'seeds', 'share', 'curve': [[asked, hazards missed that always
    finds, seconds later at the 95th percentile]]}``; the curve is of gates that were fitted to
    other drives.

    """
    drives = [_Measured(record, every_sec, interval_sec) for record in records]
    best = [quality(always(record), interval_sec) for record in records]
    folds = [[place for place in range(len(drives)) if place % FOLDS == fold]
             for fold in range(FOLDS)]
    others = [[drive for place, drive in enumerate(drives) if place not in fold]
              for fold in folds]
    fitted = [_fit(some) for some in others]
    curve = []
    for wanted in _SHARES:
        played: dict[int, Played] = {}
        for fold, some, gate in zip(folds, others, fitted):
            opened = _opening(gate, some, wanted, every_sec)
            played.update({place: play(drives[place].record, drives[place].gated(opened),
                                       every_sec) for place in fold})
        found = [quality(played[place], interval_sec) for place in range(len(drives))]
        asked = sum(drive.asked for drive in played.values()) / sum(
            drive.windows for drive in found)
        curve.append([round(asked, 3), missed_of(best, found),
                      round(later_sec(best, found), 2)])
    if share is None:
        share = next((wanted for wanted, (_, missed, later) in zip(_SHARES, curve)
                      if not missed and later <= LATER_SEC), _SHARES[-1])
    gate = _opening(_fit(drives), drives, share, every_sec)
    return gate, {'drives': len(records), 'seeds': [records[0].seed, records[-1].seed],
                  'share': share, 'hazards': sum(len(drive.delays_sec) for drive in best),
                  'curve': curve}


def _fit(drives: Sequence[_Measured]) -> ChangeGate:
    """Fit the weights; the offset is that of the regression."""
    rows, targets, weights, is_same = [], [], [], []
    for drive in drives:
        record = drive.record
        for last, index in drive.pairs():
            there = record.truth[index][0]
            rows.append(drive.found[index, index - last - 1])
            targets.append(record.said[last][0] != there == record.said[index][0])
            weights.append(_HAZARD_WEIGHT if there in ('medium', 'high') else 1.0)
            is_same.append(record.truth[last] == record.truth[index])
    found = np.stack(rows)
    typical = np.nan_to_num(np.nanmean(found, axis=0))
    found = np.where(np.isnan(found), typical, found)
    spread = found.std(axis=0) + 1e-6
    slopes, offset = _regress((found - typical) / spread, np.array(targets, float),
                              np.array(weights))
    slopes = slopes / spread
    limits = np.quantile(found[is_same, :len(CHANGES)], _USUAL, axis=0)
    return ChangeGate(tuple(slopes.tolist()), float(offset - slopes @ typical),
                      tuple(typical.tolist()), tuple(limits.tolist()))


def _regress(rows: NDArray[np.float64], targets: NDArray[np.float64],
             weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return slopes and offset of a logistic regression with an L2 penalty, by Newton steps."""
    design = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.append(np.full(rows.shape[1], 2.0 * _PENALTY), 1e-6)
    found = np.zeros(design.shape[1])
    for _ in range(100):
        likely = 1.0 / (1.0 + np.exp(-design @ found))
        slope = design.T @ (weights * (likely - targets)) + penalty * found
        curvature = (design * (weights * likely * (1.0 - likely))[:, None]).T @ design
        step = np.linalg.solve(curvature + np.diag(penalty), slope)
        found = found - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return found[:-1], float(found[-1])


def _opening(gate: ChangeGate, drives: Sequence[_Measured], share: float, every_sec: float
             ) -> ChangeGate:
    """Return a gate moved so that the model is asked at this share of the windows."""
    windows = sum(len(drive.record.said) for drive in drives)
    low, high = -12.0, 12.0
    for _ in range(14):
        moved = 0.5 * (low + high)
        asked = sum(play(drive.record, drive.gated(gate, moved), every_sec).asked
                    for drive in drives)
        low, high = (low, moved) if asked > share * windows else (moved, high)
    return replace(gate, offset=gate.offset + low)


def missed_of(best: Sequence[Quality], found: Sequence[Quality]) -> int:
    """Return how many hazards are missed that are found where the model is always asked."""
    return sum(bool(np.isinf(late) and not np.isinf(first))
               for of_best, of_found in zip(best, found)
               for first, late in zip(of_best.delays_sec, of_found.delays_sec))


def later_sec(best: Sequence[Quality], found: Sequence[Quality], percentile: float = 95.0
              ) -> float:
    """Return by how much a percentile of the delay is later; of hazards that are found."""
    return _delay(found, percentile) - _delay(best, percentile)


def _delay(found: Sequence[Quality], percentile: float) -> float:
    delays = [delay for drive in found for delay in drive.delays_sec if not np.isinf(delay)]
    return float(np.percentile(delays, percentile)) if delays else float('nan')


# --- figures -------------------------------------------------------------------------------

def compare(records: Sequence[DriveRecord], gate: ChangeGate, every_sec: float,
            interval_sec: float, seed: int = 0) -> dict[str, Any]:
    """
    Compare what is said with a gate with what is said without, and with asking as often blindly.

    Parameters
    ----------
    seed
        Of the bootstrap over drives.

    Returns
    -------
    ``{'drives', 'minutes', 'hazards', 'ways': {name: figures}}``; ``periodic`` asks at every so
    many-th window, as often as the gate or more often. Intervals are of 95 %, over drives.

    """
    opened = _opened(records, gate, every_sec, interval_sec)
    windows = sum(len(record.said) for record in records)
    spacing = max(1, int(windows / sum(drive.asked for drive in opened)))
    ways = {
        'always': [always(record) for record in records],
        'gate': opened,
        'periodic': [play(record, lambda last, index: index - last >= spacing, every_sec)
                     for record in records]}
    found = {name: [quality(drive, interval_sec) for drive in played]
             for name, played in ways.items()}
    draws = np.random.default_rng(seed).integers(len(records), size=(RESAMPLES, len(records)))
    return {
        'drives': len(records), 'seeds': [records[0].seed, records[-1].seed],
        'minutes': round(windows * interval_sec / 60.0, 1), 'windows': windows,
        'hazards': sum(len(drive.delays_sec) for drive in found['always']), 'every': spacing,
        'ways': {name: _figures(found['always'], found[name], played, every_sec, interval_sec,
                                draws)
                 for name, played in ways.items()}}


def _opened(records: Sequence[DriveRecord], gate: ChangeGate, every_sec: float,
            interval_sec: float) -> list[Played]:
    return [play(record, _Measured(record, every_sec, interval_sec).gated(gate), every_sec)
            for record in records]


def _figures(best: Sequence[Quality], found: Sequence[Quality], played: Sequence[Played],
             every_sec: float, interval_sec: float, draws: NDArray[np.int64]) -> dict[str, Any]:
    windows = sum(drive.windows for drive in found)
    later = [later_sec([best[place] for place in draw], [found[place] for place in draw])
             for draw in draws]
    return {
        'asked': round(sum(drive.asked for drive in played) / windows, 4),
        'risk_only': round(sum(drive.risk_only(every_sec) for drive in played) / windows, 4),
        'asked_per_minute': round(
            sum(drive.asked for drive in played) / (windows * interval_sec / 60.0), 1),
        'delay_sec': {f'p{percentile}': round(_delay(found, percentile), 2)
                      for percentile in (50, 95)},
        'later_sec': round(later_sec(best, found), 2),
        'later_sec_interval': [round(float(edge), 2)
                               for edge in np.nanquantile(later, (0.025, 0.975))],
        'hazards_missed': sum(np.isinf(drive.delays_sec).sum() for drive in found).item(),
        'missed_that_always_finds': int(missed_of(best, found)),
        'changes': sum(drive.changes for drive in found),
        'changes_missed': sum(drive.missed for drive in found),
        'false_changes_per_minute': round(
            sum(drive.false for drive in found) / (windows * interval_sec / 60.0), 2),
        'level_right': round(sum(drive.right for drive in found) / windows, 4)}


def costs(pipeline: Pipeline, records: Sequence[DriveRecord], gate: ChangeGate, every_sec: float,
          interval_sec: float, progress: Callable[[float, str], None] = lambda share, what: None
          ) -> dict[str, Any]:
    """
    Run the pipeline over the beginnings of drives in every way, for the time of the processor.

    Returns
    -------
    Per way ``cpu_sec_per_minute`` of driving, ``share`` of that where the model is always asked
    (with the smallest and the largest over the drives), milliseconds of processor time per
    window by what was done (``whole``, ``risk``, ``confirmed``), how many of each, and ``agree``:
    at how many windows level and object are those that :func:`play` says.

    """
    before = pipeline.speaking
    runs: dict[str, list[_Run]] = {speak: [] for speak in SPEAK}
    done = 0
    try:
        for record, opened in zip(records, _opened(records, gate, every_sec, interval_sec)):
            windows = drive_windows(record.seed, _STRETCH)
            for speak in SPEAK:
                pipeline.speaking = None if speak == 'always' else Speaking(
                    every_sec, gate, is_brief=speak == 'risk')
                runs[speak].append(_run(pipeline, windows, always(record) if speak == 'always'
                                        else opened))
                done += 1
                progress(done / (len(SPEAK) * len(records)), f'drive {record.seed}, {speak}')
    finally:
        pipeline.speaking = before
        pipeline.clear()
    return {speak: _cost(of_speak, runs['always'], interval_sec)
            for speak, of_speak in runs.items()}


class _Run(NamedTuple):
    """Processor seconds per window by what was done, and at how many the replay agrees."""

    spent: Mapping[str, Sequence[float]]
    windows: int
    agree: int

    @property
    def total(self) -> float:
        return sum(map(sum, self.spent.values()))


def _run(pipeline: Pipeline, windows: Sequence[Any], expected: Played) -> _Run:
    pipeline.clear()
    spent: dict[str, list[float]] = {'whole': [], 'risk': [], 'confirmed': []}
    agree = 0
    for index, window in enumerate(windows):
        start_sec = time.process_time()
        report = pipeline.describe(window)
        what = 'confirmed' if report.is_confirmed else \
            'whole' if report.text_stamp is None else 'risk'
        spent[what].append(time.process_time() - start_sec)
        said = expected.record.said[expected.asked_at[index]]
        agree += (report.answer.risk, report.answer.label or '') == said
    return _Run(spent, len(windows), agree)


def _cost(runs: Sequence[_Run], of_always: Sequence[_Run], interval_sec: float) -> dict[str, Any]:
    windows = sum(run.windows for run in runs)
    shares = [run.total / first.total for run, first in zip(runs, of_always)]
    spent = {what: [seconds for run in runs for seconds in run.spent[what]]
             for what in runs[0].spent}
    return {
        'windows': windows,
        'cpu_sec_per_minute': round(
            sum(run.total for run in runs) / (windows * interval_sec / 60.0), 2),
        'share': round(sum(run.total for run in runs) / sum(
            run.total for run in of_always), 4),
        'share_range': [round(min(shares), 4), round(max(shares), 4)],
        'cpu_ms': {what: round(1e3 * float(np.mean(seconds)), 1) if seconds else None
                   for what, seconds in spent.items()},
        'count': {what: len(seconds) for what, seconds in spent.items()},
        'agree': sum(run.agree for run in runs)}


def projected(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of the computation over all drives, from what each kind of window costs."""
    way, spent = result['ways']['gate'], result['costs']
    whole = spent['always']['cpu_ms']['whole']
    found = {}
    for speak in SPEAK[1:]:
        brief = way['risk_only'] if speak == 'risk' else 0.0
        ms = {what: spent[speak]['cpu_ms'][what] or 0.0 for what in ('whole', 'risk', 'confirmed')}
        found[speak] = round(((way['asked'] - brief) * ms['whole'] + brief * ms['risk']
                              + (1.0 - way['asked']) * ms['confirmed']) / whole, 4)
    return found
