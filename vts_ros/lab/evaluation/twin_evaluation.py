# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Answers about twins that differ by a signal of the car: with the signal, without, and absent.

With: both windows of a pair, each with what its car says. Without: the same pictures, and nothing
is said; what is right by the pictures alone is asked for. Absent: ordinary windows of a car that
says nothing, by the shipped model and with the adapter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np

from vts_ros.lab.evaluation.answer_metrics import Score, score
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import between, day_and_machine, Run
from vts_ros.lab.evaluation.key_frame_answers import is_higher
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.scene_truth import WindowTruth
from vts_ros.lab.scenes.signal_twins import KINDS, signal_twins, Twins, vehicle_of
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import Answer
from vts_ros.vlm.vehicle import Vehicle

#: Prompts that are answered at once.
_BATCH = 12

Progress = Callable[[int], None]


class _Asked(NamedTuple):
    """A window, what its car says, and what is right."""

    frames: list[Frame]
    vehicle: Vehicle | None
    right: WindowTruth


class TwinAnswers(NamedTuple):
    """
    What a model says of the same pictures.

    Attributes
    ----------
    harmless, risky
        With what either car says.
    alone
        Without; None where the pictures alone leave it open.

    """

    kind: str
    harmless: tuple[Answer, Score]
    risky: tuple[Answer, Score]
    alone: tuple[Answer, Score] | None

    @property
    def told_apart(self) -> bool:
        """Return whether the risky one has the higher level."""
        return is_higher(self.risky[0].risk, self.harmless[0].risk)


def twin_answers(pipeline: Pipeline, twins: Sequence[Twins],
                 progress: Progress = lambda windows: None) -> list[TwinAnswers]:
    """Ask a model about twins; ``progress`` is called with their number."""
    found = []
    for number, pair in enumerate(twins):
        frames = [Frame(f'twins {number}', round(float(t) * 1e9), picture)
                  for t, picture in zip(pair.scene.times, pair.frames())]
        asked = [_Asked(frames, told.vehicle, told.truth) for told in (pair.harmless, pair.risky)]
        if pair.alone is not None:
            asked.append(_Asked(frames, None, pair.alone))
        harmless, risky, *alone = _answers(pipeline, asked)
        pipeline.clear()
        found.append(TwinAnswers(pair.kind, harmless, risky, alone[0] if alone else None))
        progress(1)
    return found


def ordinary_answers(pipeline: Pipeline, split: str, count: int, is_told: bool,
                     progress: Progress = lambda windows: None) -> list[Score]:
    """
    Return scores of answers about ordinary windows.

    Parameters
    ----------
    is_told
        Whether the car says how fast it is, that it does not brake and that no signal is on.

    """
    scores: list[Score] = []
    scenes = balanced_scenes(split, count)
    while chunk := list(itertools.islice(scenes, _BATCH)):
        asked = []
        for scene in chunk:
            clip = render(scene)
            right = clip.window_truth()
            place = scene.ego.at(float(scene.times[-1]))[0]
            asked.append(_Asked(
                frames_of(clip, f'scene {scene.seed}'),
                vehicle_of(right, scene.road.curvature(place)) if is_told else None, right))
        scores += [found for _, found in _answers(pipeline, asked)]
        pipeline.clear()
        progress(len(chunk))
    return scores


def _answers(pipeline: Pipeline, asked: Sequence[_Asked]) -> list[tuple[Answer, Score]]:
    reports = describe_batch(pipeline, [question.frames for question in asked],
                             [question.vehicle for question in asked], is_brief=True)
    return [(report.answer, score(report.answer, question.right))
            for report, question in zip(reports, asked)]


def evaluate_twins(load: Callable[[bool], Pipeline], split: str, n: int, ordinary: int,
                   progress: Callable[[str, int, int], None] = lambda what, done, total: None,
                   kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """
    Compare a model with an adapter and without.

    Parameters
    ----------
    load
        Returns the pipeline with the adapter, or without.
    split
        ``val`` or ``test``.
    n
        Twins of each kind.
    ordinary
        Ordinary windows; 0 for none, and nothing is said of ``absent``.
    progress
        Called with what is asked, how many were, and of how many.
    kinds
        Of ``KINDS``, to ask about these only; they are the same twins as among all.

    Returns
    -------
    ``{'n', 'split', 'ordinary', 'kinds': {kind: {'with', 'told_apart', 'without',
    'without_shipped': [share, interval]}}, 'absent': {metric: {'shipped', 'adapter', 'told':
    [share, interval], 'loss': [...], 'loss_told': [...]}}}``, and under ``levels`` how often which
    level was said where which is right, with the signal and the adapter; losses are the shipped
    model less the adapter, on the same windows. Intervals are of 95 %, over twins or windows.

    """
    twins = list(signal_twins(split, n * len(KINDS), is_measured=True, kinds=kinds))

    def step(what: str, total: int) -> Progress:
        asked = itertools.count()

        def advance(windows: int) -> None:
            done = [next(asked) for _ in range(windows)][-1] + 1
            progress(what, done, total)

        return advance

    shipped, adapted = load(False), load(True)
    before = twin_answers(shipped, twins, step('twins, shipped model', len(twins)))
    after = twin_answers(adapted, twins, step('twins, with the adapter', len(twins)))
    absent = {} if not ordinary else {
        'shipped': ordinary_answers(shipped, split, ordinary, False,
                                    step('ordinary windows, shipped model', ordinary)),
        'adapter': ordinary_answers(adapted, split, ordinary, False,
                                    step('ordinary windows, with the adapter', ordinary)),
        'told': ordinary_answers(adapted, split, ordinary, True,
                                 step('ordinary windows, with the adapter and signals',
                                      ordinary))}
    return {'n': n, 'split': split, 'ordinary': ordinary,
            'kinds': {kind: _of_kind(kind, before, after) for kind in kinds},
            'levels': {kind: _levels(twins, after, kind) for kind in kinds},
            'absent': _absent(absent) if absent else None}


def _levels(twins: Sequence[Twins], answers: Sequence[TwinAnswers], kind: str) -> dict[str, int]:
    """Return how often which level was said where which is right, most often first."""
    said: Counter[str] = Counter()
    for pair, found in zip(twins, answers, strict=True):
        if pair.kind == kind:
            for name, told, (answer, _) in (('harmless', pair.harmless, found.harmless),
                                            ('risky', pair.risky, found.risky)):
                said[f'{name}, {pair.scene.family}: {told.truth.risk} as {answer.risk}'] += 1
    return dict(said.most_common())


def _of_kind(kind: str, before: Sequence[TwinAnswers], after: Sequence[TwinAnswers]
             ) -> dict[str, Any]:
    first, second = ([pair for pair in some if pair.kind == kind] for some in (before, after))
    bootstrap = Bootstrap(len(second))
    right: dict[str, Sequence[float]] = {
        'with': [0.5 * (pair.harmless[1].risk + pair.risky[1].risk) for pair in second],
        'told_apart': [pair.told_apart for pair in second],
        'with_shipped': [0.5 * (pair.harmless[1].risk + pair.risky[1].risk) for pair in first],
        'without': [pair.alone[1].risk for pair in second if pair.alone is not None],
        'without_shipped': [pair.alone[1].risk for pair in first if pair.alone is not None]}
    return {name: _share(values, bootstrap) if values else None
            for name, values in right.items()}


def _absent(scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    bootstrap = Bootstrap(len(scores['shipped']))
    for metric in ('risk', 'object'):
        by_name = {name: np.array([float(getattr(rating, metric)) for rating in some])
                   for name, some in scores.items()}
        found[metric] = {name: _share(values.tolist(), bootstrap)
                         for name, values in by_name.items()}
        for name, loss in (('adapter', 'loss'), ('told', 'loss_told')):
            found[metric][loss] = [
                round(float((by_name['shipped'] - by_name[name]).mean()), 4),
                list(bootstrap.difference(by_name['shipped'], by_name[name]))]
    return found


def _share(values: Sequence[float], bootstrap: Bootstrap) -> list[Any]:
    known = np.array(values, float)
    return [round(float(known.mean()), 4), list(bootstrap.mean(known))]


def section(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    """Yield what a page says of a result."""
    yield f'\n    {run.command}\n'
    yield (f'{result["n"]} twins of each kind of {result["split"]}, 60 % of the visual tokens, '
           'answers end after risk and object; in percent, with the interval of 95 % over twins. '
           + day_and_machine(run) + '\n')
    yield ('| signal | level right with it | told apart | shipped model, as text | level right '
           'without it | shipped model |')
    yield '|---|---|---|---|---|---|'
    for kind, found in result['kinds'].items():
        cells = [_cell(found[name]) for name in (
            'with', 'told_apart', 'with_shipped', 'without', 'without_shipped')]
        yield f'| {kind} | {" | ".join(cells)} |'
    if not result['absent']:
        return
    yield (f'\nAbsent: {result["ordinary"]} ordinary windows of {result["split"]}, levels '
           'balanced.\n')
    yield ('| right | shipped model | with the adapter | loss in points | with adapter and '
           'signals | loss in points |')
    yield '|---|---|---|---|---|---|'
    for metric, name in (('risk', 'level'), ('object', 'object')):
        found = result['absent'][metric]
        yield (f'| {name} | {_cell(found["shipped"])} | {_cell(found["adapter"])} | '
               f'{_cell(found["loss"], "+.1f")} | {_cell(found["told"])} | '
               f'{_cell(found["loss_told"], "+.1f")} |')


def _cell(value: Sequence[Any] | None, form: str = '.0f') -> str:
    return '-' if value is None else between(value[0], value[1], form)
