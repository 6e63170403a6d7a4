# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Answers about windows of several cameras: with an adapter that has learned them, and without.

What a user could have instead is the shipped model, shown the pictures of all cameras or of the
camera that looks ahead alone. What is right is of all cameras together in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import intersection_over_union
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import between, day_and_machine, Run
from vts_ros.lab.evaluation.twin_evaluation import ordinary_answers
from vts_ros.lab.scenes.several_cameras import (
    camera_windows,
    CAMERAS,
    CameraWindow,
    FRONT,
    LEFT,
    pair_windows,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import Answer

#: Windows that are answered at once: those of three cameras have three times as many pictures.
_BATCH = 6
ADAPTER, RENAMED, SHIPPED, AHEAD = WAYS = (
    'with the adapter', 'with it, cameras in another order', 'shipped model, all cameras',
    'shipped model, the camera ahead alone')
METRICS = {'level': 'level', 'object': 'object', 'camera': 'camera of the object', 'iou': 'box'}
#: Between two windows that are answered at once.
_BETWEEN_NS, _SEEDS_APART = 10_000_000_000, 100_000
#: Which windows: by the camera that shows the risk object.
ALL, IN_FRONT, ASIDE, NOTHING = GROUPS = (
    'all', 'object ahead', 'object at a side', 'nothing at risk')
#: Names of the cameras where their order says nothing of where they look.
_OTHER_NAMES = {FRONT: 'camera_b', LEFT: 'camera_c'}

Progress = Callable[[str, int, int], None]


class _Said(NamedTuple):
    """How right an answer is; None where there is nothing to be right about."""

    level: float
    object: float
    camera: float | None
    iou: float | None


def evaluate_cameras(shipped: Pipeline, adapted: Pipeline, split: str, n: int, ordinary: int,
                     progress: Progress = lambda what, done, total: None) -> dict[str, Any]:
    """
    Ask about windows of three cameras, of two, and of one.

    Parameters
    ----------
    shipped, adapted
        The same model without and with the adapter.
    split
        ``val`` or ``test``.
    n
        Windows of three cameras, with balanced levels; half as many of two.
    ordinary
        Windows of one camera; 0 for none.

    Returns
    -------
    ``{'n', 'split', 'ordinary', 'three', 'two': {group: {'n', way: {metric: [mean, interval]}}},
    'ahead': {metric: [difference, interval]}, 'one': {metric: {way: [mean, interval], 'loss'}}}``;
    ``ahead`` is the adapter less the shipped model with the camera ahead alone, on the same
    windows of three cameras. Intervals are of 95 %, over windows.

    """
    sets = {'three': (n, camera_windows(split, n, cameras=CAMERAS)),
            'two': (n // 2, pair_windows(split, n // 2))}
    result: dict[str, Any] = {'n': n, 'split': split, 'ordinary': ordinary}
    for name, (count, windows) in sets.items():
        said, where = _answer_all(shipped, adapted, windows, partial(
            _told, progress, f'windows of {name} cameras', count))
        result[name] = {group: _figures(said, _chosen(where, group)) for group in GROUPS}
        if name == 'three':
            result['ahead'] = _ahead(said)
    if ordinary:
        result['one'] = _one(shipped, adapted, split, ordinary, progress)
    return result


def _told(progress: Progress, what: str, total: int, done: int) -> None:
    progress(what, done, total)


def _answer_all(shipped: Pipeline, adapted: Pipeline, windows: Iterable[CameraWindow],
                progress: Callable[[int], None]
                ) -> tuple[dict[str, list[_Said]], list[str | None]]:
    said: dict[str, list[_Said]] = {way: [] for way in WAYS}
    where: list[str | None] = []
    iterator = iter(windows)
    while chunk := list(itertools.islice(iterator, _BATCH)):
        pictures = [window.frames() for window in chunk]
        for way, pipeline, names in (
                (ADAPTER, adapted, {name: name for name in CAMERAS}),
                (RENAMED, adapted, {name: _OTHER_NAMES.get(name, 'camera_a') for name in CAMERAS}),
                (SHIPPED, shipped, {name: name for name in CAMERAS}),
                (AHEAD, shipped, {FRONT: FRONT})):
            shown = [_shown(window, frames, names)
                     for window, frames in zip(chunk, pictures, strict=True)]
            reports = describe_batch(pipeline, shown, is_brief=True)
            said[way] += [_rate(report.answer, window, names)
                          for report, window in zip(reports, chunk, strict=True)]
            pipeline.clear()
        where += [window.camera for window in chunk]
        progress(len(where))
    return said, where


def _shown(window: CameraWindow, frames: Mapping[str, NDArray[np.uint8]],
           names: Mapping[str, str]) -> list[Frame]:
    """Return the frames of the cameras that are shown, by these names, as a node orders them."""
    # What is seen of a frame is kept by camera and stamp: no two windows have the same ones.
    begin_ns = window.truth.seed % _SEEDS_APART * _BETWEEN_NS
    found = [Frame(names[camera], begin_ns + round(t * 1e9), frames[camera][index])
             for index, t in enumerate(window.times)
             for camera in window.cameras if camera in names]
    return sorted(found, key=lambda frame: (frame.stamp_ns, frame.camera))


def _rate(answer: Answer, window: CameraWindow, names: Mapping[str, str]) -> _Said:
    right = window.truth
    # Of a single camera there is nothing to say: all that it shows is in it.
    named = names.get(window.camera or '') if len(names) > 1 else None
    camera = None if window.camera is None else float(
        answer.camera == named if len(names) > 1 else window.camera in names)
    iou = None
    if right.box is not None:
        iou = 0.0 if answer.box is None or not camera else intersection_over_union(
            answer.box, right.box)
    return _Said(float(answer.risk == right.risk), float(answer.label == right.label), camera, iou)


def _chosen(where: Sequence[str | None], group: str) -> list[int]:
    wanted: dict[str, Callable[[str | None], bool]] = {
        ALL: lambda camera: True, IN_FRONT: lambda camera: camera == FRONT,
        ASIDE: lambda camera: camera not in (FRONT, None), NOTHING: lambda camera: camera is None}
    return [index for index, camera in enumerate(where) if wanted[group](camera)]


def _figures(said: Mapping[str, Sequence[_Said]], chosen: Sequence[int]) -> dict[str, Any]:
    found: dict[str, Any] = {'n': len(chosen)}
    for way, answers in said.items():
        found[way] = {metric: _mean([getattr(answers[index], metric) for index in chosen])
                      for metric in METRICS}
    return found


def _mean(values: Sequence[float | None]) -> list[Any] | None:
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return None
    return [round(float(known.mean()), 4), list(Bootstrap(len(known)).mean(known))]


def _ahead(said: Mapping[str, Sequence[_Said]]) -> dict[str, Any]:
    bootstrap, found = Bootstrap(len(said[ADAPTER])), {}
    for metric in ('level', 'object'):
        ours, other = (np.array([getattr(rating, metric) for rating in said[way]])
                       for way in (ADAPTER, AHEAD))
        found[metric] = [round(float((ours - other).mean()), 4),
                         list(bootstrap.difference(ours, other))]
    return found


def _one(shipped: Pipeline, adapted: Pipeline, split: str, count: int, progress: Progress
         ) -> dict[str, Any]:
    scores = {}
    for way, pipeline in ((SHIPPED, shipped), (ADAPTER, adapted)):
        scores[way] = ordinary_answers(pipeline, split, count, False)
        progress(f'windows of one camera, {way}', count, count)
    bootstrap, found = Bootstrap(count), {}
    for name, metric in (('level', 'risk'), ('object', 'object')):
        values = {way: np.array([float(getattr(score, metric)) for score in some])
                  for way, some in scores.items()}
        found[name] = {way: [round(float(some.mean()), 4), list(bootstrap.mean(some))]
                       for way, some in values.items()}
        found[name]['loss'] = [round(float((values[SHIPPED] - values[ADAPTER]).mean()), 4),
                               list(bootstrap.difference(values[SHIPPED], values[ADAPTER]))]
    return found


def section(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    """Yield what a page says of a result."""
    yield f'\n    {run.command}\n'
    yield (f'Windows of {result["split"]} with balanced levels, 60 % of the visual tokens, '
           'answers end after risk and object; in percent, with the interval of 95 % over '
           f'windows. {day_and_machine(run)}\n')
    for name in ('three', 'two'):
        groups = result[name]
        yield (f'{groups[ALL]["n"]} windows of {name} cameras: '
               + ', '.join(f'{groups[group]["n"]} with {group}' for group in GROUPS[1:3])
               + f', {groups[NOTHING]["n"]} with {NOTHING}.\n')
        yield '| windows | | ' + ' | '.join(WAYS) + ' |'
        yield '|---|---|' + '---|' * len(WAYS)
        for group in GROUPS:
            for metric, title in METRICS.items():
                cells = [groups[group][way][metric] for way in WAYS]
                # One camera has nothing to choose.
                cells[-1] = None if metric == 'camera' else cells[-1]
                if any(cell is not None for cell in cells):
                    yield f'| {group} | {title} | {" | ".join(map(_cell, cells))} |'
        yield ''
    ahead = result['ahead']
    yield ('With three cameras the adapter is ahead of the shipped model with the camera ahead '
           'alone by ' + ' and '.join(f'{_cell(ahead[metric], "+.1f")} points of the {metric}'
                                      for metric in ahead) + '.')
    if result.get('one'):
        yield f'\nOne camera: {result["ordinary"]} ordinary windows.\n'
        yield '| right | shipped model | with the adapter | loss in points |'
        yield '|---|---|---|---|'
        for metric, found in result['one'].items():
            yield (f'| {metric} | {_cell(found[SHIPPED])} | {_cell(found[ADAPTER])} | '
                   f'{_cell(found["loss"], "+.1f")} |')


def _cell(value: Sequence[Any] | None, form: str = '.0f') -> str:
    return '-' if value is None else between(value[0], value[1], form)
