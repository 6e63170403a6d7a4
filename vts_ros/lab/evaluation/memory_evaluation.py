# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows that need the past: what a model says of them, and what is kept of what tells.

The second needs no language model: whether the place where the hazard was last seen is among the
kept tokens says what any model could still know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
import itertools
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import question_summary, Score, score
from vts_ros.lab.evaluation.batches import ask_batch, describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.key_frame_answers import (
    answers_by_key,
    is_higher,
    key_frame_figures,
    KEYS,
    PairAnswer,
)
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.new_processes import process_context
from vts_ros.lab.rivals.registry import Method, methods
from vts_ros.lab.scenes.cells import overlaps
from vts_ros.lab.scenes.memory_windows import (
    memory_pairs,
    memory_truth,
    MemoryScene,
    MemoryTruth,
    render_memory,
)
from vts_ros.lab.scenes.past_questions import past_questions, PastQuestion
from vts_ros.lab.scenes.scene_truth import Clip
from vts_ros.lab.scenes.silhouette import Sight
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import token_budget, WindowFeatures

#: What is compared by what it keeps: the key frames, and the two simplest rules.
KEPT_METHODS = ('vts', 'vts-key-newest', 'vts-key-oldest', 'vts-key-random', 'vts-key-oracle',
                'newest', 'random')
#: What is kept counts from this share of the visible extent on.
HELD_SHARE = 0.5
#: Pairs that a worker looks at in one go.
_PAIRS = 4
#: Size of the newest frames that the nearest of another pair is looked for in.
_SMALL = (28, 16)

Progress = Callable[[float, str], None]
Floats = NDArray[np.float64]


class _Window(NamedTuple):
    """One window of a pair."""

    found: MemoryScene
    clip: Clip
    truth: MemoryTruth


def evaluate_memory(pipeline: Pipeline, split: str = 'test', n: int = 96,
                    lengths: Sequence[int] = (8,), budgets: Sequence[float] = (0.6, 0.4, 0.2),
                    questions: bool = False, answered: int | None = None, workers: int = 1,
                    progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Describe both windows of each pair, and look for what tells among the kept tokens.

    Parameters
    ----------
    split
        ``val`` or ``test``.
    n
        Pairs of each length.
    lengths
        Frames of a window.
    budgets
        Keep ratios beside 1.0.
    questions
        Whether to ask free questions about the past, too.
    answered
        So many pairs of each length, the first ones, are shown to the language model; None for
        all. What is kept is looked at in all.
    workers
        Processes, each with a model of its own.

    Returns
    -------
    ``{'n', 'split', 'model', 'budgets', 'lengths': {frames: {'newest_alone': {'equal', 'nearest'},
    'hidden_sec', 'answers': {ratio: metrics}, 'by_key': of ``key_frame_figures``,
    'families', 'key_frame': {method: share},
    'kept': {budget: {method: {'last', 'last_ci', 'ever', 'ever_ci'}}},
    'ahead': {budget: {method: {'last', 'last_ci', 'ever', 'ever_ci'}}}}}}``. ``ahead`` is how far
    ``vts`` is ahead of the others on the same pairs. Intervals are of 95 %, over pairs.

    """
    task = _Task(split, tuple(budgets), questions, n if answered is None else answered)
    jobs = [(frames, first, min(_PAIRS, n - first))
            for frames in lengths for first in range(0, n, _PAIRS)]
    tallies = {frames: _Tally() for frames in lengths}
    for done, (job, part) in enumerate(_parts(pipeline, task, jobs, workers), 1):
        tallies[job[0]].add(part)
        progress(done / len(jobs), f'{job[0]} frames, {job[1] + job[2]} of {n} pairs')
    return {'n': n, 'split': split, 'model': pipeline.vlm.name, 'budgets': list(budgets),
            'lengths': {str(frames): _figures(tallies[frames], task.budgets)
                        for frames in lengths}}


class _Task(NamedTuple):
    """What is asked about every pair."""

    split: str
    budgets: tuple[float, ...]
    questions: bool
    answered: int


#: Frames of a window, first pair, number of pairs.
_Job = tuple[int, int, int]


@dataclass
class _Tally:
    """What was found about pairs of one length, in their order."""

    families: list[str] = field(default_factory=list)
    small: list[NDArray[np.float32]] = field(default_factory=list)
    equal: list[bool] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)
    #: By ratio: level said of hazard and twin, and the scores of both.
    said: dict[float, list[tuple[str, str]]] = field(default_factory=dict)
    scores: dict[float, list[tuple[Score, Score]]] = field(default_factory=dict)
    by_key: dict[tuple[float, str], list[PairAnswer]] = field(default_factory=dict)
    asked: dict[float, list[tuple[PastQuestion, str]]] = field(default_factory=dict)
    kept: dict[tuple[float, str, str], list[float]] = field(default_factory=dict)
    key: dict[str, list[float]] = field(default_factory=dict)

    def add(self, later: _Tally) -> None:
        """Append the pairs of another one."""
        for entry in fields(self):
            mine, others = getattr(self, entry.name), getattr(later, entry.name)
            if isinstance(mine, list):
                mine += others
                continue
            for name, values in others.items():
                mine.setdefault(name, []).extend(values)


def _parts(pipeline: Pipeline, task: _Task, jobs: Sequence[_Job], workers: int
           ) -> Iterator[tuple[_Job, _Tally]]:
    """Yield what is found about some pairs at a time, in their order."""
    if workers == 1:
        looker = _Looker(pipeline, task)
        yield from ((job, looker.look(*job)) for job in jobs)
        return
    config = replace(pipeline.config, threads=1)
    with ProcessPoolExecutor(workers, process_context(), _begin, (config, task)) as pool:
        yield from zip(jobs, pool.map(_work, jobs))


_looker: _Looker | None = None


def _begin(config: PipelineConfig, task: _Task) -> None:
    global _looker
    _looker = _Looker(Pipeline.load(config), task)


def _work(job: _Job) -> _Tally:
    assert _looker is not None
    return _looker.look(*job)


class _Looker:
    """Looks at pairs with one model."""

    def __init__(self, pipeline: Pipeline, task: _Task) -> None:
        self.pipeline, self.task = pipeline, task
        self._methods: list[Method] = methods(pipeline.sparsifier, KEPT_METHODS)
        by_name = {method.name: method for method in self._methods}
        self._keys = {key: by_name[name] for key, name in KEYS.items()}

    def look(self, frames: int, first: int, count: int) -> _Tally:
        """Return what is found about some pairs."""
        tally = _Tally()
        before = self.pipeline.config.keep_ratio
        for number, pair in enumerate(memory_pairs(self.task.split, count, first, frames), first):
            windows = [_Window(found, render_memory(found), memory_truth(found))
                       for found in pair]
            if number < self.task.answered:
                self._answers(windows, tally)
            self._look(windows[0], windows[1], tally)
        self.pipeline.set_keep_ratio(before)
        return tally

    def _look(self, hazard: _Window, twin: _Window, tally: _Tally) -> None:
        tally.families.append(hazard.truth.family)
        newest = [window.clip.frames[-1] for window in (hazard, twin)]
        tally.equal.append(bool(np.array_equal(*newest)))
        tally.small += [
            cv2.resize(frame, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
            for frame in newest]
        times = hazard.found.scene.times
        tally.hidden.append(float(times[-1]) - hazard.truth.seen_until_ns / 1e9)
        both = [self._kept(window, tally) for window in (hazard, twin)]
        for name in both[0]:
            # A pair is told apart by what is seen in both of its windows.
            tally.kept.setdefault(name, []).append(float(np.mean([sight[name] for sight in both])))

    def _kept(self, window: _Window, tally: _Tally) -> dict[tuple[float, str, str], float]:
        """Return what each method keeps of what tells, by budget, method and measure."""
        sparsifier, pictures = self.pipeline.sparsifier, window.clip.frames
        grid = self.pipeline.vlm.encode(pictures[-1]).grid
        area = np.array([0.0 if seen is None else seen.share * seen.area
                         for seen in window.found.sights], np.float32)
        evidence = WindowFeatures(
            pictures, tuple(map(sparsifier.propose, pictures)),
            np.zeros((len(pictures), grid[0] * grid[1], 1), np.float32), grid, area)
        sights = window.truth.sights
        key = sparsifier.select(evidence.proposals, grid, 1.0).key
        clear = {seen.frame for seen in sights}
        for name, share in (('learned', float(key in clear)),
                            ('random', len(clear) / len(pictures))):
            tally.key.setdefault(name, []).append(share)
        found = {}
        for ratio, method in itertools.product(self.task.budgets, self._methods):
            budget = token_budget(len(pictures), grid, ratio)
            choices = [method.keep(evidence, budget, choice)
                       for choice in range(len(method.choices))]
            held = np.mean([[is_held(keep, grid, seen) for seen in sights]
                            for keep in choices if keep is not None], axis=0)
            found[ratio, method.name, 'last'] = float(held[-1])
            found[ratio, method.name, 'ever'] = float(np.mean([any(
                is_held(keep, grid, seen) for seen in sights)
                for keep in choices if keep is not None]))
        return found

    def _answers(self, windows: Sequence[_Window], tally: _Tally) -> None:
        pipeline = self.pipeline
        shown = [frames_of(window.clip, f'scene {number}')
                 for number, window in enumerate(windows)]
        asked = [(frames, question) for frames, window in zip(shown, windows)
                 for question in (past_questions(
                     window.truth, window.clip.truths, np.random.default_rng(window.truth.seed))
                     if self.task.questions else ())]
        for ratio in dict.fromkeys((1.0, *self.task.budgets)):
            pipeline.set_keep_ratio(ratio)
            # What was read was chosen at another ratio.
            pipeline.reset_context()
            answers = [report.answer for report in describe_batch(
                pipeline, shown, is_brief=True)]
            scores = [score(answer, window.truth) for answer, window in zip(answers, windows)]
            hazard, twin = answers
            tally.said.setdefault(ratio, []).append((hazard.risk, twin.risk))
            tally.scores.setdefault(ratio, []).append((scores[0], scores[1]))
            if asked:
                pictures, texts = zip(*asked)
                tally.asked.setdefault(ratio, []).extend(zip(texts, ask_batch(
                    pipeline, pictures, [question.text for question in texts])))
        for key, answer in answers_by_key(
                pipeline, self._keys, windows, self.task.budgets).items():
            tally.by_key.setdefault(key, []).append(answer)
        pipeline.clear()


def _figures(tally: _Tally, budgets: Sequence[float]) -> dict[str, Any]:
    """Return shares, intervals and differences of all pairs of a length."""
    bootstrap = Bootstrap(len(tally.families))
    kept: dict[str, Any] = {}
    ahead: dict[str, Any] = {}
    for ratio, name in itertools.product(budgets, KEPT_METHODS):
        here: dict[str, Any] = {}
        lead: dict[str, Any] = {}
        for which in ('last', 'ever'):
            mine = np.array(tally.kept[ratio, 'vts', which])
            values = np.array(tally.kept[ratio, name, which])
            here[which] = _mean(values)
            here[f'{which}_ci'] = bootstrap.mean(values)
            lead[which] = round(float((mine - values).mean()), 4)
            lead[f'{which}_ci'] = bootstrap.difference(mine, values)
        kept.setdefault(f'{ratio:g}', {})[name] = here
        if name != 'vts':
            ahead.setdefault(f'{ratio:g}', {})[name] = lead
    return {
        'newest_alone': {'equal': _mean(tally.equal),
                         'nearest': nearest_newest(np.stack(tally.small))},
        'hidden_sec': _mean(tally.hidden), 'answered': len(tally.said.get(1.0, ())),
        'answers': {f'{ratio:g}': {
            **_metrics(tally, ratio),
            **({'questions': question_summary(tally.asked[ratio])} if tally.asked else {})}
            for ratio in tally.said},
        'by_key': key_frame_figures(tally.by_key),
        'families': {name: _family(tally, name, budgets) for name in sorted(set(tally.families))},
        'key_frame': {name: _mean(values) for name, values in tally.key.items()},
        'kept': kept, 'ahead': ahead}


def _family(tally: _Tally, name: str, budgets: Sequence[float]) -> dict[str, Any]:
    chosen = [family == name for family in tally.families]
    apart = itertools.compress(tally.said.get(1.0, ()), chosen)
    return {'n': sum(chosen), 'told_apart': _mean(is_higher(*said) for said in apart),
            'kept': {f'{ratio:g}': {
                method: _mean(itertools.compress(tally.kept[ratio, method, 'last'], chosen))
                for method in KEPT_METHODS} for ratio in budgets}}


def _metrics(tally: _Tally, ratio: float) -> dict[str, Any]:
    said, scores = tally.said[ratio], tally.scores[ratio]
    apart = np.array([float(is_higher(hazard, twin)) for hazard, twin in said])
    return {
        'told_apart': _mean(apart), 'told_apart_ci': Bootstrap(len(said)).mean(apart),
        'wrong_way': _mean(is_higher(twin, hazard) for hazard, twin in said),
        'hazard_level': _mean(hazard.risk for hazard, _ in scores),
        'twin_level': _mean(twin.risk for _, twin in scores),
        'hazard_object': _mean(hazard.object for hazard, _ in scores),
        'twin_object': _mean(twin.object for _, twin in scores)}


def is_held(keep: NDArray[np.int32], grid: tuple[int, int], seen: Sight) -> bool:
    """
    Return whether the kept tokens hold what is seen of something in its frame.

    Parameters
    ----------
    keep
        int32 [B], positions in the window, frame-major, then row-major.
    grid
        Rows and columns of tokens of a frame.

    """
    rows, columns = grid
    shared, area = overlaps(seen.box, rows, columns)
    here = keep[keep // (rows * columns) == seen.frame] % (rows * columns)
    return bool(shared.ravel()[here].sum() >= HELD_SHARE * area)


def nearest_newest(small: NDArray[np.float32]) -> float:
    """
    Return how often the newest frame alone tells hazards from twins, by the nearest other pair.

    Parameters
    ----------
    small
        float32 [2 * pairs, ...], the newest frames, hazard and twin in turn. Frames of the own
        pair do not count; of frames that are equally near, both are asked.

    Returns
    -------
    float
        Share of the windows that it is right about; one half is chance.

    """
    flat = small.reshape(len(small), -1)
    pair = np.arange(len(flat)) // 2
    is_hazard = np.arange(len(flat)) % 2 == 0
    right = []
    for index, picture in enumerate(flat):
        far = ((flat - picture) ** 2).sum(axis=1)
        far[pair == pair[index]] = np.inf
        nearest = far <= far.min()
        right.append(float(np.mean(is_hazard[nearest] == is_hazard[index])))
    return round(float(np.mean(right)), 4)


def _mean(values: Iterable[float]) -> float | None:
    known = [float(value) for value in values]
    return round(float(np.mean(known)), 4) if known else None
