# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows that need the past: what a model says of them, and what is kept of what tells.

The second needs no language model: whether the place where the hazard was last seen is among the
kept tokens says what any model could still know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
import itertools
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import question_summary, Score, score
from vts_ros.lab.evaluation.batches import ask_batch, describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.rivals.registry import Method, methods
from vts_ros.lab.scenes.cells import overlaps
from vts_ros.lab.scenes.memory_windows import (
    memory_pairs,
    memory_truth,
    MemoryScene,
    MemoryTruth,
    render_memory,
)
from vts_ros.lab.scenes.past_questions import past_questions
from vts_ros.lab.scenes.scene_truth import Clip, TRUE_LEVELS
from vts_ros.lab.scenes.silhouette import Sight
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import token_budget, WindowFeatures

#: What is compared by what it keeps: the key frames, and the two simplest rules.
KEPT_METHODS = ('vts', 'vts-key-newest', 'vts-key-oldest', 'vts-key-random', 'vts-key-oracle',
                'newest', 'random')
#: What is kept counts from this share of the visible extent on.
HELD_SHARE = 0.5
#: Frames that are held at once.
_FRAMES = 48
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
                    questions: bool = False, progress: Progress = lambda share, what: None
                    ) -> dict[str, Any]:
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

    Returns
    -------
    ``{'n', 'split', 'model', 'budgets', 'lengths': {frames: {'newest_alone': {'equal', 'nearest'},
    'hidden_sec', 'answers': {ratio: metrics}, 'families', 'key_frame': {method: share},
    'kept': {budget: {method: {'last', 'last_ci', 'ever', 'ever_ci'}}},
    'ahead': {budget: {method: {'last', 'last_ci', 'ever', 'ever_ci'}}}}}}``. ``ahead`` is how far
    ``vts`` is ahead of the others on the same pairs. Intervals are of 95 %, over pairs.

    """
    found: dict[str, Any] = {}
    for number, frames in enumerate(lengths):
        def tell(share: float, what: str, number: int = number, frames: int = frames) -> None:
            progress((number + share) / len(lengths), f'{frames} frames: {what}')

        found[str(frames)] = _Length(pipeline, frames, budgets, questions).run(split, n, tell)
    return {'n': n, 'split': split, 'model': pipeline.vlm.name, 'budgets': list(budgets),
            'lengths': found}


class _Length:
    """Collects what is found about windows of one length."""

    def __init__(self, pipeline: Pipeline, frames: int, budgets: Sequence[float],
                 questions: bool) -> None:
        self.pipeline, self.frames, self.budgets = pipeline, frames, budgets
        self.questions = questions
        self.families: list[str] = []
        self.small: list[NDArray[np.float32]] = []
        self.equal: list[bool] = []
        self.hidden: list[float] = []
        #: By ratio: level said of hazard and twin, and the scores of both.
        self.said: dict[float, list[tuple[str, str]]] = defaultdict(list)
        self.scores: dict[float, list[tuple[Score, Score]]] = defaultdict(list)
        self.asked: dict[float, list[Any]] = defaultdict(list)
        self.kept: dict[tuple[float, str, str], list[float]] = defaultdict(list)
        self.key: dict[str, list[float]] = defaultdict(list)
        self._methods: list[Method] = methods(pipeline.sparsifier, KEPT_METHODS)

    def run(self, split: str, n: int, progress: Progress) -> dict[str, Any]:
        """Look at all pairs."""
        pairs = memory_pairs(split, n, 0, self.frames)
        size = max(1, _FRAMES // (2 * self.frames))
        before, done = self.pipeline.config.keep_ratio, 0
        while chunk := list(itertools.islice(pairs, size)):
            windows = [_Window(found, render_memory(found), memory_truth(found))
                       for pair in chunk for found in pair]
            self._answers(windows)
            for first, second in zip(windows[::2], windows[1::2]):
                self._look(first, second)
            done += len(chunk)
            progress(done / n, f'{done} of {n} pairs')
        self.pipeline.set_keep_ratio(before)
        return self._result()

    def _look(self, hazard: _Window, twin: _Window) -> None:
        self.families.append(hazard.truth.family)
        newest = [window.clip.frames[-1] for window in (hazard, twin)]
        self.equal.append(bool(np.array_equal(*newest)))
        self.small += [cv2.resize(frame, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
                       for frame in newest]
        times = hazard.found.scene.times
        self.hidden.append(float(times[-1]) - hazard.truth.seen_until_ns / 1e9)
        both = [self._kept(window) for window in (hazard, twin)]
        for name in both[0]:
            # A pair is told apart by what is seen in both of its windows.
            self.kept[name].append(float(np.mean([one[name] for one in both])))

    def _kept(self, window: _Window) -> dict[tuple[float, str, str], float]:
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
        clear = {seen.index for seen in sights}
        self.key['learned'].append(float(key in clear))
        self.key['newest'].append(float(len(pictures) - 1 in clear))
        self.key['random'].append(len(clear) / len(pictures))
        found = {}
        for ratio, method in itertools.product(self.budgets, self._methods):
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

    def _answers(self, windows: Sequence[_Window]) -> None:
        pipeline = self.pipeline
        shown = [frames_of(window.clip, f'scene {number}')
                 for number, window in enumerate(windows)]
        asked = [(frames, question) for frames, window in zip(shown, windows)
                 for question in (past_questions(
                     window.truth, window.clip.truths, np.random.default_rng(window.truth.seed))
                     if self.questions else ())]
        for ratio in (1.0, *self.budgets):
            pipeline.set_keep_ratio(ratio)
            # What was read was chosen at another ratio.
            pipeline.reset_context()
            answers = [report.answer for report in describe_batch(
                pipeline, shown, is_brief=True)]
            scores = [score(answer, window.truth) for answer, window in zip(answers, windows)]
            self.said[ratio] += [(first.risk, second.risk) for first, second in zip(
                answers[::2], answers[1::2])]
            self.scores[ratio] += zip(scores[::2], scores[1::2])
            if asked:
                pictures, texts = zip(*asked)
                self.asked[ratio] += zip(texts, ask_batch(
                    pipeline, pictures, [question.text for question in texts]))
        pipeline.clear()

    # --- figures ---

    def _result(self) -> dict[str, Any]:
        bootstrap = Bootstrap(len(self.families))
        mine = {(ratio, which): np.array(self.kept[ratio, 'vts', which])
                for ratio in self.budgets for which in ('last', 'ever')}
        kept: dict[str, Any] = {}
        ahead: dict[str, Any] = {}
        for ratio, name in itertools.product(self.budgets, KEPT_METHODS):
            here, lead = {}, {}
            for which in ('last', 'ever'):
                values = np.array(self.kept[ratio, name, which])
                here[which] = _mean(values)
                here[f'{which}_ci'] = bootstrap.mean(values)
                lead[which] = round(float((mine[ratio, which] - values).mean()), 4)
                lead[f'{which}_ci'] = bootstrap.difference(mine[ratio, which], values)
            kept.setdefault(f'{ratio:g}', {})[name] = here
            if name != 'vts':
                ahead.setdefault(f'{ratio:g}', {})[name] = lead
        families = sorted(set(self.families))
        chosen = {name: [family == name for family in self.families] for name in families}
        return {
            'newest_alone': {'equal': _mean(self.equal),
                             'nearest': nearest_newest(np.stack(self.small))},
            'hidden_sec': _mean(self.hidden),
            'answers': {f'{ratio:g}': {
                **self._metrics(ratio, [True] * len(self.families), bootstrap),
                **({'questions': question_summary(self.asked[ratio])} if self.asked else {})}
                for ratio in (1.0, *self.budgets)},
            'families': {name: {
                'n': sum(chosen[name]), **self._metrics(1.0, chosen[name], None),
                'kept': {f'{ratio:g}': {
                    method: _mean(itertools.compress(self.kept[ratio, method, 'last'],
                                                     chosen[name])) for method in KEPT_METHODS}
                    for ratio in self.budgets}} for name in families},
            'key_frame': {name: _mean(values) for name, values in self.key.items()},
            'kept': kept, 'ahead': ahead}

    def _metrics(self, ratio: float, chosen: Sequence[bool], bootstrap: Bootstrap | None
                 ) -> dict[str, Any]:
        said = list(itertools.compress(self.said[ratio], chosen))
        scores = list(itertools.compress(self.scores[ratio], chosen))
        apart, swapped = ([float(_is_higher(*order)) for order in orders] for orders in (
            said, [(twin, hazard) for hazard, twin in said]))
        return {
            'told_apart': _mean(apart),
            **({'told_apart_ci': bootstrap.mean(np.array(apart))} if bootstrap else {}),
            'wrong_way': _mean(swapped),
            'hazard_level': _mean([hazard.risk for hazard, _ in scores]),
            'twin_level': _mean([twin.risk for _, twin in scores]),
            'hazard_object': _mean([hazard.object for hazard, _ in scores]),
            'twin_object': _mean([twin.object for _, twin in scores])}


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
    here = keep[keep // (rows * columns) == seen.index] % (rows * columns)
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
    for index, one in enumerate(flat):
        far = ((flat - one) ** 2).sum(axis=1)
        far[pair == pair[index]] = np.inf
        nearest = far <= far.min()
        right.append(float(np.mean(is_hazard[nearest] == is_hazard[index])))
    return round(float(np.mean(right)), 4)


def _is_higher(first: str, second: str) -> bool:
    """Return whether a level is above another; nothing is above or below an unknown one."""
    levels: Sequence[str] = TRUE_LEVELS
    return first in levels and second in levels and levels.index(first) > levels.index(second)


def _mean(values: Any) -> float:
    return round(float(np.mean([float(value) for value in values])), 4)
