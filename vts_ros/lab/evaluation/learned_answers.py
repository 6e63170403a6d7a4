# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How often a model says what it was to learn, on windows that it did not learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vts_ros.lab.evaluation.answer_metrics import intersection_over_union
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.training.answered_windows import AnsweredWindow, with_pictures
from vts_ros.pipeline.features import BrokenFrame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import Answer, RISK_LEVELS
from vts_ros.vlm.boxes import Box

#: Shares of windows; the last is a mean over those with two boxes.
METRICS = ('level', 'within one step', 'object', 'box, IoU')


def measure(pipeline: Pipeline, windows: Sequence[AnsweredWindow],
            progress: Callable[[int], None] = lambda windows: None, *,
            is_guarded: bool = False) -> dict[str, Any]:
    """
    Describe windows and compare with the answers that they are to have.

    Parameters
    ----------
    is_guarded
        Whether the guard of the pipeline has a word in it: where it knows the pictures.

    Returns
    -------
    ``{'n', 'recordings', metric: [value, [low, high]], ...}``, with 95 % intervals over
    recordings where there are several, and over windows of a single one.

    """
    if not is_guarded:
        pipeline.guard = None
    said: list[tuple[AnsweredWindow, Answer]] = []
    for window, frames in with_pictures(windows):
        try:
            report, = describe_batch(pipeline, [frames], [window.vehicle])
        except BrokenFrame:
            continue
        said.append((window, report.answer))
        progress(1)
    return compared(said)


def most_frequent(train: Sequence[AnsweredWindow], held_out: Sequence[AnsweredWindow]
                  ) -> dict[str, Any]:
    """Return the same of a rule that knows no picture: always the most frequent answer."""
    (level, label), _ = Counter(
        (window.answer.risk, window.answer.label) for window in train).most_common(1)[0]
    return compared([(window, Answer(risk=level, label=label)) for window in held_out])


def compared(said: Sequence[tuple[AnsweredWindow, Answer]]) -> dict[str, Any]:
    """Return the metrics of answers beside those that they are to be."""
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for window, answer in said:
        wanted = window.answer
        steps = abs(RISK_LEVELS.index(answer.risk) - RISK_LEVELS.index(wanted.risk))
        values['level'].append(steps == 0)
        # Unknown is no level.
        values['within one step'].append(steps <= 1 and answer.risk != 'unknown')
        values['object'].append(
            answer.risk != 'unknown' and _name(answer.label) == _name(wanted.label))
        values['box, IoU'].append(_overlap(answer.box, wanted.box))
    recordings = [window.recording for window, _ in said]
    names = sorted(set(recordings))
    result: dict[str, Any] = {'n': len(said), 'recordings': len(names)}
    for name in METRICS:
        known = np.array(values[name], float)
        groups = [known[[recording == drive for recording in recordings]] for drive in names] \
            if len(names) > 1 else [known[index:index + 1] for index in range(len(known))]
        means = np.array([np.nanmean(group) for group in groups
                          if np.isfinite(group).any()])
        result[name] = None if not len(means) else [
            round(float(means.mean()), 4), list(Bootstrap(len(means)).mean(means))]
    return result


def _name(label: str | None) -> str:
    return (label or '').casefold().strip()


def _overlap(box: Box | None, wanted: Box | None) -> float:
    """Return the intersection over union; NaN where there is nothing to be found, 0 if missed."""
    if wanted is None:
        return float('nan')
    if box is None:
        return 0.0
    return intersection_over_union(box, wanted)
