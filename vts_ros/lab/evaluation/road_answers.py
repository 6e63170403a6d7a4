# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a model says of recordings, by the labels of a teacher, beside answers without eyes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vts_ros.errors import VtsError
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.recordings import name_of
from vts_ros.lab.road_truth import ALIKE
from vts_ros.lab.road_windows import road_windows, RoadWindow
from vts_ros.lab.scenes.fact_reader import facts
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS, WindowTruth
from vts_ros.lab.teacher import Found
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import Answer

#: What is measured: the level exactly, and at most one step beside it.
METRICS = ('object', 'place', 'motion', 'level', 'level within one step')
#: Rows of the table beside the model.
COMMONEST, CAR_AHEAD = 'most frequent label', 'car, ahead, same speed, low'
_BATCH = 12
_STEPS: dict[str | None, int] = {level: step for step, level in enumerate(TRUE_LEVELS)}


class RoadError(VtsError, ValueError):
    """Nothing can be measured; the message says why in one line."""


class Facts(NamedTuple):
    """Facts of a label or an answer; the level None where it is unknown."""

    object: str | None
    place: str | None
    motion: str | None
    level: str | None


Grades = tuple[float | None, ...]


def true_facts(truth: WindowTruth) -> Facts:
    """Return the facts of a label; of objects, the kind."""
    return Facts(ALIKE.get(truth.label), truth.place, truth.motion, truth.risk)


def said_facts(answer: Answer) -> Facts:
    """Return the facts that an answer states; of objects a teacher does not know, the label."""
    said = facts(answer.explanation)
    return Facts(ALIKE.get(answer.label, answer.label), said['place'], said['motion'],
                 None if answer.risk == 'unknown' else answer.risk)


def grade(said: Facts, true: Facts) -> Grades:
    """
    Return what is right by ``METRICS``, 0 or 1.

    Of windows without a risk object, place and motion are None. Of an unknown answer all is wrong.
    """
    known = said.level is not None
    apart = abs(_STEPS[said.level] - _STEPS[true.level]) if known else len(_STEPS)
    there = true.object is not None
    return (float(known and said.object == true.object),
            float(said.place == true.place) if there else None,
            float(said.motion == true.motion) if there else None,
            float(apart == 0), float(apart <= 1))


def measure(pipeline: Pipeline, recordings: Sequence[Path], find: Callable[[Path], Found],
            ego_mps: float, most: int,
            progress: Callable[[float, str], None] = lambda share, what: None) -> dict[str, Any]:
    """
    Describe windows of recordings without the guard, and compare with the labels of a teacher.

    Parameters
    ----------
    find
        Returns the road users of a recording.
    ego_mps
        Speed of the cars.
    most
        Windows per recording, at most.

    Returns
    -------
    ``{'model', 'speed_mps', 'rows': {row: {metric: [mean, low, high]}}, 'recordings': {name:
    {'n', 'with_object', 'levels', 'rows': {row: {metric: share}}}}}``: means over recordings, with
    95 % intervals over recordings, None of a single one or where nothing applies. Rows are the
    model, the label that is most frequent in these very recordings, and `car, ahead, same speed,
    low`.

    Raises
    ------
    BagError
        If a recording cannot be read.
    RoadError
        If no window has clear labels.

    """
    true: dict[str, list[Facts]] = {}
    said: dict[str, list[Facts]] = {}
    guard, pipeline.guard = pipeline.guard, None
    try:
        for number, recording in enumerate(recordings):
            name = name_of(recording)
            progress(number / len(recordings), f'{name}: road users')
            found = find(recording)
            progress((number + 0.5) / len(recordings), f'{name}: answers')
            both = list(_answered(pipeline, road_windows(recording, found, ego_mps, most)))
            if both:
                true[name], said[name] = map(list, zip(*both))
    finally:
        pipeline.guard = guard
    if not true:
        raise RoadError('no window of these recordings has clear labels')
    return {'model': pipeline.vlm.name, 'speed_mps': ego_mps, **summarize(true, said)}


def _answered(pipeline: Pipeline, windows: Iterator[RoadWindow]
              ) -> Iterator[tuple[Facts, Facts]]:
    """Yield what is true of windows and what is said of them."""
    while chunk := list(itertools.islice(windows, _BATCH)):
        reports = describe_batch(pipeline, [window.frames for window in chunk])
        for window, report in zip(chunk, reports, strict=True):
            yield true_facts(window.truth.window), said_facts(report.answer)
        pipeline.clear()


def summarize(true: dict[str, list[Facts]], said: dict[str, list[Facts]]) -> dict[str, Any]:
    """Return ``rows`` and ``recordings`` of :func:`measure` from the facts by recording."""
    labels = [label for window in true.values() for label in window]
    constants = {COMMONEST: _commonest(labels),
                 CAR_AHEAD: Facts('car', 'ahead', 'same speed', 'low')}
    recordings: dict[str, Any] = {}
    for name, windows in true.items():
        answers = {'model': said[name], **{
            row: [constant] * len(windows) for row, constant in constants.items()}}
        recordings[name] = {
            'n': len(windows), 'with_object': sum(label.object is not None for label in windows),
            'levels': dict(Counter(label.level for label in windows)),
            'rows': {row: shares([grade(*pair) for pair in zip(found, windows, strict=True)])
                     for row, found in answers.items()}}
    rows = {row: {metric: _mean([values['rows'][row][metric] for values in recordings.values()])
                  for metric in METRICS} for row in ('model', *constants)}
    return {'rows': rows, 'recordings': recordings}


def _commonest(labels: Sequence[Facts]) -> Facts:
    """Return of each fact what is most frequent; of place and motion, where there is an object."""
    def of(values: Sequence[str | None]) -> str | None:
        return Counter(values).most_common(1)[0][0] if values else None

    there = [label for label in labels if label.object is not None]
    return Facts(of([label.object for label in labels]), of([label.place for label in there]),
                 of([label.motion for label in there]), of([label.level for label in labels]))


def shares(grades: Sequence[Grades]) -> dict[str, float | None]:
    """Return the mean grade by metric, None where it applies to no window."""
    columns = ([value for value in column if value is not None] for column in zip(*grades))
    return {metric: round(float(np.mean(column)), 4) if column else None
            for metric, column in zip(METRICS, columns)}


def _mean(shares: Sequence[float | None]) -> list[float | None] | None:
    known = [share for share in shares if share is not None]
    if not known:
        return None
    low, high = Bootstrap(len(known)).mean(np.array(known)) if len(known) > 1 else (None, None)
    return [round(float(np.mean(known)), 4), low, high]
