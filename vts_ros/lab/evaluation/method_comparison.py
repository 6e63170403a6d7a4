# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ways to choose visual tokens, compared at equal budgets on the same features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
import itertools
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import Score, score, summary
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.difficulty import is_hard, object_area
from vts_ros.lab.evaluation.own_path import said_path
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.evaluation.window_conditions import conditions_of
from vts_ros.lab.new_processes import process_context
from vts_ros.lab.rivals.registry import Measure, Method, METHOD_NAMES, methods
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.scene_truth import Clip, FrameTruth, WindowTruth
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import token_budget, WindowFeatures
from vts_ros.vlm import Prepared
from vts_ros.vlm.answers import AFTER_RISK, Answer, parse
from vts_ros.vlm.boxes import PictureSize

#: Windows of which features are held at once, and prompts that are answered at once.
_CHUNK, _BATCH = 16, 32
#: Metrics that are there when answers end after the risk.
BRIEF_METRICS = ('risk_accuracy', 'object_accuracy', 'box_miou')

#: What intervals are given of.
MAIN_METRICS = ('risk_accuracy', 'object_accuracy')
#: The first windows, of which the figures are given for themselves: a test recomputes them.
SLICE_WINDOWS = 12

Metrics = dict[str, Any]
#: Told the share that is done, 0 to 1, and what is being done.
Progress = Callable[[float, str], None]
Keep = NDArray[np.int32]
#: Name of a method, number of its choice, keep ratio.
EntryId = tuple[str, int, float]


class EvaluatedWindow(NamedTuple):
    """A window as the methods and the language model get it, and what is true about it."""

    evidence: WindowFeatures
    prepared: Prepared
    truth: WindowTruth
    hard: bool
    frames: tuple[FrameTruth, ...]
    picture: PictureSize


class Entry(NamedTuple):
    """One choice of one method at one budget."""

    method: Method
    choice: int
    ratio: float

    @property
    def id(self) -> EntryId:
        """Return what names it in other processes, too."""
        return self.method.name, self.choice, self.ratio


@dataclass
class _Tally:
    """Scores of all windows so far, in their order."""

    hard: list[bool] = field(default_factory=list)
    dense: list[Score] = field(default_factory=list)
    scores: dict[EntryId, list[Score]] = field(default_factory=dict)
    select_sec: dict[str, list[float]] = field(default_factory=dict)
    grid: tuple[int, int] = (0, 0)
    #: Group to value of each window.
    conditions: list[dict[str, str]] = field(default_factory=list)

    def add(self, later: _Tally) -> None:
        """Append the windows of another one."""
        self.hard += later.hard
        self.dense += later.dense
        self.grid = later.grid
        self.conditions += later.conditions
        for entry, scores in later.scores.items():
            self.scores.setdefault(entry, []).extend(scores)
        for name, seconds in later.select_sec.items():
            self.select_sec.setdefault(name, []).extend(seconds)


class _Task(NamedTuple):
    """What is asked about every window."""

    names: tuple[str, ...]
    split: str
    budgets: tuple[float, ...]
    brief: bool
    measures: Mapping[str, Measure] | None = None


def compare(pipeline: Pipeline, names: Sequence[str] = METHOD_NAMES, split: str = 'test',
            n: int = 500, budgets: Sequence[float] = (0.6, 0.4), brief: bool = False,
            workers: int = 1, progress: Progress = lambda share, what: None,
            groups: Sequence[str] = (), measures: Mapping[str, Measure] | None = None
            ) -> dict[str, Any]:
    """
    Answer windows of a split with the tokens that each method keeps, and compare with the truth.

    Frames, proposals and features of a window are computed once, for all methods and budgets.
    Methods that keep the same tokens of a window share its answer: decoding is greedy.

    Parameters
    ----------
    names
        Methods, see ``vts_ros.lab.rivals.registry``.
    split
        ``val`` or ``test``; risk levels are balanced.
    n
        Windows.
    budgets
        Keep ratios beside 1.0, which is ``dense``.
    brief
        End answers after object and risk; there are ``BRIEF_METRICS`` only.
    workers
        Processes, each with a model of its own. On a CPU, as many as cores are faster than one
        with as many threads where the model is small.
    groups
        Conditions by which the figures are given apart, see :func:`conditions_of`.
    measures
        What methods that were fitted rank by, by their names.

    Returns
    -------
    ``{'n', 'split', 'model', 'brief', 'grid', 'dense': metrics, 'methods': {name: {budget:
    metrics, or None where the method cannot meet it}}, 'against': {budget: {metric: rival}},
    'hard': {'n', 'dense', 'methods', 'against'}, 'slice': {'n', 'dense', 'methods'}, 'select_ms':
    {name: mean time of a selection}}``, and with `groups`
    ``'groups': {group: {value: as 'hard'}}``. The slice is the first windows alone. Methods that
    choose at random have the mean of several seeds, with ``risk_accuracy_sd`` and
    ``object_accuracy_sd``. ``*_ci`` are bootstrap intervals of 95 %. A rival is ``{'best',
    'ahead', 'ahead_ci', 'kept', 'kept_ci'}``: the best baseline, how far ``vts`` is ahead of it
    on the same windows, and which share ``vts`` keeps of the value with all tokens.

    Raises
    ------
    ValueError
        If a name is not known.

    """
    task = _Task(tuple(names), split, tuple(dict.fromkeys(budgets)), brief, measures)
    entries = _entries(pipeline, task)
    tally = _Tally()
    for part in _tallies(pipeline, task, n, workers, progress):
        tally.add(part)
    progress(1.0, f'{n} windows')
    return {
        'n': n, 'split': split, 'model': pipeline.vlm.name, 'brief': brief,
        'grid': list(tally.grid), **_part(tally, entries, [True] * n, brief),
        'hard': {'n': sum(tally.hard), **_part(tally, entries, tally.hard, brief)},
        **({'groups': {group: _group(tally, entries, group, brief) for group in groups}}
           if groups else {}),
        'slice': {'n': min(n, SLICE_WINDOWS),
                  **_part(tally, entries, [i < SLICE_WINDOWS for i in range(n)], brief)},
        'select_ms': {name: round(1e3 * float(np.mean(seconds)), 3)
                      for name, seconds in tally.select_sec.items()}}


def _group(tally: _Tally, entries: Sequence[Entry], group: str, brief: bool) -> dict[str, Any]:
    """Return the figures of the windows of each value of a condition."""
    values = [conditions[group] for conditions in tally.conditions]
    parts = {}
    for value in sorted(set(values)):
        chosen = [other == value for other in values]
        parts[value] = {'n': sum(chosen), **_part(tally, entries, chosen, brief)}
    return parts


def _entries(pipeline: Pipeline, task: _Task) -> list[Entry]:
    wanted = methods(pipeline.sparsifier, task.names, task.measures)
    return [Entry(method, choice, ratio) for ratio in task.budgets for method in wanted
            for choice in range(len(method.choices))]


def _tallies(pipeline: Pipeline, task: _Task, n: int, workers: int,
             progress: Progress) -> Iterator[_Tally]:
    """Yield the scores of all windows, some at a time, in their order."""
    ranges = [(first, min(_CHUNK, n - first)) for first in range(0, n, _CHUNK)]
    if workers == 1:
        entries = _entries(pipeline, task)
        for first, count in ranges:
            def tell(share: float, what: str, first: int = first, count: int = count) -> None:
                progress((first + share * count) / n,
                         f'windows {first + 1} to {first + count} of {n}: {what}')

            yield _tally(pipeline, task, entries, first, count, tell)
        return
    config = replace(pipeline.config, threads=1, engine_threads=1)
    progress(0.0, f'{n} windows, {workers} processes')
    with ProcessPoolExecutor(workers, process_context(), _begin, (config, task)) as pool:
        futures = [pool.submit(_work, *windows) for windows in ranges]
        done = 0
        try:
            for future in as_completed(futures):
                done += len(future.result().hard)
                progress(done / n, f'{done} of {n} windows')
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    yield from (future.result() for future in futures)


class _Worker(NamedTuple):
    """What a process keeps from one piece of work to the next."""

    pipeline: Pipeline
    task: _Task
    entries: list[Entry]


_worker: _Worker | None = None


def _begin(config: PipelineConfig, task: _Task) -> None:
    global _worker
    pipeline = Pipeline.load(config)
    _worker = _Worker(pipeline, task, _entries(pipeline, task))


def _work(first: int, count: int) -> _Tally:
    assert _worker is not None
    return _tally(*_worker, first, count)


def _tally(pipeline: Pipeline, task: _Task, entries: Sequence[Entry], first: int, count: int,
           progress: Progress = lambda share, what: None) -> _Tally:
    """Return the scores of some windows."""
    progress(0.0, 'frames and features')
    windows = [prepare_window(pipeline, scene)
               for scene in balanced_scenes(task.split, count, first)]
    tally = _Tally(hard=[window.hard for window in windows], grid=windows[0].evidence.grid,
                   conditions=[conditions_of(window.truth) for window in windows])
    for ratio in dict.fromkeys((1.0, *task.budgets)):
        now = [entry for entry in entries if entry.ratio == ratio]
        step = (ratio != 1.0) + sum(entry.ratio > ratio for entry in entries)
        progress(step / (1 + len(entries)), f'{ratio:.0%} of the tokens')
        _answer(pipeline, windows, now, ratio == 1.0, tally, task.brief)
    return tally


def prepare_window(pipeline: Pipeline, scene: Scene) -> EvaluatedWindow:
    """Render a scene and compute all that methods and language model need of it."""
    window = prepare_last(pipeline, render(scene))
    path = said_path(scene)[-len(window.evidence.frames):]
    return window._replace(evidence=window.evidence._replace(path=path))


def prepare_last(pipeline: Pipeline, clip: Clip, length: int = 5) -> EvaluatedWindow:
    """Compute all that methods and language model need of the last frames of a clip."""
    frames = len(clip.frames)
    return prepare_ends(pipeline, clip, [frames], min(length, frames))[0]


def prepare_ends(pipeline: Pipeline, clip: Clip, ends: Sequence[int], length: int = 5
                 ) -> list[EvaluatedWindow]:
    """
    Compute the same of several windows of a clip; what they have in common once.

    Parameters
    ----------
    ends
        Of each window, the number of frames up to its newest one, at least `length`.
    length
        Frames of a window.

    """
    first, last = min(ends) - length, max(ends)
    vlm, prompt = pipeline.vlm, pipeline.prompts.description
    features = {place: vlm.encode(clip.frames[place]) for place in range(first, last)}
    proposals = {place: pipeline.sparsifier.propose(clip.frames[place]) for place in features}
    height, width = clip.frames.shape[1:3]
    found = []
    for end in ends:
        places = range(end - length, end)
        here = [features[place] for place in places]
        truths = clip.truths[end - length:end]
        evidence = WindowFeatures(
            frames=clip.frames[end - length:end],
            proposals=tuple(proposals[place] for place in places),
            tokens=np.stack([frame.tokens.float().cpu().numpy() for frame in here]),
            grid=here[0].grid, object_area=object_area(truths))
        captions = prompt.captions(frames_of(clip, 'front')[end - length:end])
        found.append(EvaluatedWindow(
            evidence, vlm.prepare(here, captions, prompt),
            clip.window_truth(end - 1, length), is_hard(truths, here[0].grid), truths,
            PictureSize(vlm.seen_size(here[-1]), (width, height))))
    return found


def _answer(pipeline: Pipeline, windows: Sequence[EvaluatedWindow], entries: Sequence[Entry],
            dense: bool, tally: _Tally, brief: bool) -> None:
    """Add the scores of some windows, for entries of one budget or with all tokens."""
    #: Each different prompt once: index of the window and what is kept of it.
    asked: dict[tuple[int, bytes], Keep | None] = {}
    wanted: list[tuple[Entry | None, tuple[int, bytes]]] = []
    for index, window in enumerate(windows):
        if dense:
            asked[index, b''] = None
            wanted.append((None, (index, b'')))
        for entry in entries:
            keep = _select(window.evidence, entry, tally)
            if keep is not None:
                job = (index, keep.tobytes())
                asked[job] = keep
                wanted.append((entry, job))
    answers = dict(zip(asked, answer_all(
        pipeline, [windows[index] for index, _ in asked], list(asked.values()), brief)))
    for asker, job in wanted:
        scores = tally.dense if asker is None else tally.scores.setdefault(asker.id, [])
        scores.append(score(answers[job], windows[job[0]].truth))


def _select(evidence: WindowFeatures, entry: Entry, tally: _Tally) -> Keep | None:
    budget = token_budget(len(evidence.proposals), evidence.grid, entry.ratio)
    start_sec = time.perf_counter()
    keep = entry.method.keep(evidence, budget, entry.choice)
    if keep is not None:
        seconds = tally.select_sec.setdefault(entry.method.name, [])
        seconds.append(time.perf_counter() - start_sec)
    return keep


def answer_all(pipeline: Pipeline, windows: Sequence[EvaluatedWindow],
               keeps: Sequence[Keep | None], brief: bool) -> Iterator[Answer]:
    """Yield answers to prompts of equal length, so that none is padded; see ``compare``."""
    vlm = pipeline.vlm
    options: dict[str, Any] = {}
    if brief:
        options = {'stop_strings': [AFTER_RISK], 'tokenizer': vlm.tokenizer}
    form = pipeline.prompts.description.box
    for start in range(0, len(windows), _BATCH):
        batch = slice(start, start + _BATCH)
        generations = vlm.generate_batch([window.prepared for window in windows[batch]],
                                         keeps[batch], pipeline.config.max_new_tokens, **options)
        for window, generation in zip(windows[batch], generations, strict=True):
            yield parse(generation.text.removesuffix(AFTER_RISK), form, window.picture)


def _part(tally: _Tally, entries: Sequence[Entry], chosen: Sequence[bool],
          brief: bool) -> dict[str, Any]:
    """Return the metrics over the windows that are chosen."""
    bootstrap = Bootstrap(sum(chosen)) if any(chosen) else None

    def means(runs: Sequence[Sequence[Score]]) -> Metrics:
        """Return the metrics of one run, or of several that differ by their seeds."""
        here = [list(itertools.compress(scores, chosen)) for scores in runs]
        found = _over_seeds([
            {name: value for name, value in summary(scores).items()
             if not brief or name in BRIEF_METRICS} for scores in here])
        for name in MAIN_METRICS:
            found[f'{name}_ci'] = bootstrap and bootstrap.mean(_values(here, name))
        return found

    found: dict[str, dict[str, Metrics | None]] = {}
    for entry in entries:
        if entry.choice == 0:
            runs = _runs(tally, entries, entry)
            found.setdefault(entry.method.name, {})[f'{entry.ratio:g}'] = (
                means(runs) if runs else None)
    part = {'dense': means([tally.dense]), 'methods': found}
    if bootstrap is not None and 'vts' in found:
        part['against'] = _against(tally, entries, chosen, bootstrap, part)
    return part


def _runs(tally: _Tally, entries: Sequence[Entry], entry: Entry) -> list[list[Score]]:
    """Return the scores of all choices of a method at a budget."""
    return [tally.scores[other.id] for other in entries
            if other.method is entry.method and other.ratio == entry.ratio
            and other.id in tally.scores]


def _values(runs: Sequence[Sequence[Score]], metric: str) -> NDArray[np.float64]:
    """Return a metric of each window, the mean over the runs."""
    name = metric.removesuffix('_accuracy')
    return np.array([[getattr(right, name) for right in scores] for scores in runs],
                    np.float64).mean(axis=0)


def _against(tally: _Tally, entries: Sequence[Entry], chosen: Sequence[bool],
             bootstrap: Bootstrap, part: Metrics) -> dict[str, Any]:
    """Compare VTS with the best baseline, and with all tokens, at every budget."""
    def values(runs: Sequence[Sequence[Score]], metric: str) -> NDArray[np.float64]:
        return _values([list(itertools.compress(scores, chosen)) for scores in runs], metric)

    found: dict[str, Any] = {}
    for entry in entries:
        if entry.method.name != 'vts':
            continue
        share = f'{entry.ratio:g}'
        rivals = {other.method.name: other for other in entries
                  if other.method.group == 'baseline' and other.ratio == entry.ratio
                  and other.choice == 0 and other.id in tally.scores}
        found[share] = {}
        for metric in MAIN_METRICS:
            vts = values(_runs(tally, entries, entry), metric)
            dense = values([tally.dense], metric)
            rival = max(rivals, default=None,
                        key=lambda name: part['methods'][name][share][metric])
            result: dict[str, Any] = {'best': rival, 'ahead': None, 'ahead_ci': None}
            if rival is not None:
                best = values(_runs(tally, entries, rivals[rival]), metric)
                result['ahead'] = round(float(vts.mean() - best.mean()), 4)
                result['ahead_ci'] = bootstrap.difference(vts, best)
            whole = float(dense.mean())
            result['kept'] = round(float(vts.mean()) / whole, 4) if whole > 0.0 else None
            result['kept_ci'] = bootstrap.ratio(vts, dense)
            found[share][metric] = result
    return found


def _over_seeds(runs: Sequence[Metrics]) -> Metrics:
    """Return the metrics of one run, or the mean of several with the spread of what matters."""
    if len(runs) == 1:
        return dict(runs[0])
    found: Metrics = {}
    for name in runs[0]:
        values = [value for value in (run[name] for run in runs) if value is not None]
        found[name] = round(float(np.mean(values)), 4) if values else None
        if name in MAIN_METRICS:
            found[f'{name}_sd'] = round(float(np.std(values, ddof=1)), 4) if values else None
    return found
