# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A task other than driving, on rendered windows of it, without and with an adapter for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from vts_ros.errors import TaskError
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import Run
from vts_ros.lab.evaluation.learned_answers import compared, METRICS
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.answered_recording import as_jpeg, CAMERA
from vts_ros.lab.scenes.clips import balanced_scenes, render, SPLITS
from vts_ros.lab.scenes.warehouse_answers import answer_of
from vts_ros.lab.scenes.warehouse_clips import balanced_truths, balanced_warehouse
from vts_ros.lab.training.answered_windows import AnsweredWindow
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.tools.contact_sheet import contact_sheet
from vts_ros.tools.pictures import Picture
from vts_ros.vlm.answers import Answer

#: Tasks beside driving of which windows can be rendered.
RENDERED = ('warehouse',)
#: Prompts that are answered at once.
_BATCH = 12
#: From the begin of a window to that of the next.
_BETWEEN_NS = 10_000_000_000

Progress = Callable[[int], None]


class TaskWindow(NamedTuple):
    """Frames, oldest first, and what is to be said of them."""

    frames: list[Frame]
    wanted: Answer


def check_rendered(task: str) -> None:
    """
    See that there are rendered windows of a task.

    Raises
    ------
    TaskError
        If there are none.

    """
    if task not in RENDERED:
        raise TaskError(f'no windows of the task {task!r} can be rendered, only of driving and '
                        f'{", ".join(RENDERED)}: learn and measure on recordings of yours, with '
                        'vts annotate and vts train adapter')


def task_windows(split: str, count: int) -> Iterator[TaskWindow]:
    """Yield windows of a warehouse from a split, as :func:`write_answered` writes them."""
    for number, window in enumerate(balanced_warehouse(split, count)):
        # No two frames of a camera have one stamp: by that they are known.
        frames = [Frame(CAMERA, number * _BETWEEN_NS + round(float(t) * 1e9),
                        np.asarray(cv2.imdecode(as_jpeg(picture), cv2.IMREAD_COLOR),
                                   np.uint8)[..., ::-1].copy())
                  for t, picture in zip(window.scene.times, window.frames)]
        yield TaskWindow(frames, answer_of(window.truth))


def wanted_answers(split: str, count: int) -> list[Answer]:
    """Return what is wanted of :func:`task_windows`, without rendering them."""
    return [answer_of(truth) for _, truth in balanced_truths(split, count)]


def answers(pipeline: Pipeline, windows: Sequence[TaskWindow],
            progress: Progress = lambda windows: None, *, is_brief: bool = False) -> list[Answer]:
    """
    Describe windows; the guard of the model has no word in it, and is put back.

    Parameters
    ----------
    is_brief
        Whether answers end after the object: what follows is not measured.

    """
    guard, pipeline.guard = pipeline.guard, None
    said: list[Answer] = []
    rest = iter(windows)
    while chunk := list(itertools.islice(rest, _BATCH)):
        reports = describe_batch(pipeline, [window.frames for window in chunk],
                                 is_brief=is_brief)
        said += [report.answer for report in reports]
        pipeline.clear()
        progress(len(chunk))
    pipeline.guard = guard
    return said


def sheet(pipeline: Pipeline, windows: Sequence[TaskWindow], title: str) -> Picture:
    """Return a picture of answers about windows, each with the answer that is right."""
    reports = []
    for window in windows:
        reports.append(pipeline.describe(window.frames))
        pipeline.clear()
    return contact_sheet(
        [window.frames[-1].rgb() for window in windows], reports,
        [f'right: {window.wanted.risk}, {window.wanted.label or "nothing"}' for window in windows],
        title)


def grades(wanted: Sequence[Answer], said: Sequence[Answer]) -> dict[str, Any]:
    """Return how often answers are those that are wanted, see :func:`compared`."""
    return compared([(AnsweredWindow(str(number), (), right), answer)
                     for number, (right, answer) in enumerate(zip(wanted, said, strict=True))])


def gains(wanted: Sequence[Answer], before: Sequence[Answer], after: Sequence[Answer]
          ) -> dict[str, Any]:
    """Return how much better the second answers are than the first, with 95 % intervals."""
    resamples = Bootstrap(len(wanted))
    found = {}
    for name in METRICS[:3]:
        first, second = (np.array([grades([right], [answer])[name][0]
                                   for right, answer in zip(wanted, said)])
                         for said in (after, before))
        found[name] = [round(float(first.mean() - second.mean()), 4),
                       list(resamples.difference(first, second))]
    return found


def kept(path: Path | None, make: Callable[[], list[Answer]]) -> list[Answer]:
    """Return answers that are on disk, or make them and keep them there; without a path make."""
    if path is not None and path.exists():
        return [Answer(**{**answer, 'box': answer['box'] and tuple(answer['box'])})
                for answer in json.loads(path.read_text(encoding='utf-8'))]
    said = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(answer) for answer in said]), encoding='utf-8')
    return said


def driving_answers(pipeline: Pipeline, count: int) -> list[Answer]:
    """Return what is said of rendered windows of roads from the split of test."""
    return [report.answer for scene in balanced_scenes('test', count)
            for report in describe_batch(pipeline, [frames_of(render(scene), 'front')])]


def size_mb(folder: Path) -> float:
    """Return the size of all files of a folder in MB."""
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6


def fingerprint(folder: Path) -> str:
    """Return what tells the weights of a folder from others."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob('*.safetensors')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def section(result: dict[str, Any], run: Run) -> Iterator[str]:
    """Yield the lines of a section about an adapter."""
    first = SPLITS['test'][0]
    yield ''
    yield f'    {run.command}'
    yield ''
    yield (f'{result["n"]} rendered windows of test (from seed {first} on, levels of risk '
           f'balanced), which no training has seen; 60 % of the visual tokens; 95 % over windows. '
           f'The adapter has {result["adapter_mb"]:.1f} MB. {run.day}; {run.machine}.')
    yield ''
    yield '| the answer has the right | without adapter | with adapter | gain |'
    yield '|---|---|---|---|'
    for name in METRICS:
        gain = result['gains'].get(name)
        yield (f'| {name} | {_cell(result["before"][name])} | {_cell(result["after"][name])} | '
               f'{_points(gain) if gain else ""} |')
    yield ''
    yield (f'With the adapter off, {result["driving_same"]} of {result["driving"]} answers about '
           'rendered windows of roads are the same in every word as those before it was used.')


def _cell(value: list[Any] | None) -> str:
    if value is None:
        return '-'
    mean, (low, high) = value
    return f'{mean:.2f} [{low:.2f}, {high:.2f}]'


def _points(value: list[Any]) -> str:
    mean, (low, high) = value
    return f'{100 * mean:+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}]'
