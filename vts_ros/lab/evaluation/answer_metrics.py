# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of an answer against the truth of its window."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from vts_ros.lab.scenes.fact_reader import facts
from vts_ros.lab.scenes.scene_truth import WindowTruth
from vts_ros.lab.scenes.window_questions import Question
from vts_ros.vlm.answers import Answer, Box


def intersection_over_union(first: Box, second: Box) -> float:
    """Return the area shared by two boxes over the area that they cover together."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    together = sum(areas) - shared
    return shared / together if together > 0.0 else 0.0


@dataclass(frozen=True)
class Score:
    """
    What was right in one answer.

    ``iou`` is None where the truth has no box; ``place`` and ``motion`` where there is no object.
    """

    risk: bool
    object: bool
    action: bool
    place: bool | None
    motion: bool | None
    iou: float | None


def score(answer: Answer, truth: WindowTruth) -> Score:
    """Compare an answer with the truth; facts are read from the explanation and the action."""
    said = facts(answer.explanation)
    there = truth.label is not None
    return Score(
        risk=answer.risk == truth.risk,
        object=answer.label == truth.label,
        action=facts(answer.action)['action'] == truth.action,
        place=said['place'] == truth.place if there else None,
        motion=said['motion'] == truth.motion if there else None,
        iou=None if truth.box is None else
        intersection_over_union(answer.box, truth.box) if answer.box else 0.0)


def summary(scores: Sequence[Score]) -> dict[str, float | None]:
    """
    Return the mean of each score, None where it applies to no answer.

    ``facts_accuracy`` is the mean of those of object, place, motion and action.
    """
    known = {
        'object_accuracy': _mean(right.object for right in scores),
        'place_accuracy': _mean(right.place for right in scores),
        'motion_accuracy': _mean(right.motion for right in scores),
        'action_accuracy': _mean(right.action for right in scores),
    }
    return {
        'risk_accuracy': _mean(right.risk for right in scores), **known,
        'facts_accuracy': _mean(known.values()),
        'box_miou': _mean(right.iou for right in scores),
    }


def question_summary(answered: Sequence[tuple[Question, str]]) -> dict[str, Any]:
    """
    Return how many free answers state what is true, in all and by topic.

    Parameters
    ----------
    answered
        Questions, one or more, and what was answered.

    Returns
    -------
    ``{'n', 'accuracy', 'guess', 'by_topic': {topic: {'n', 'accuracy', 'guess'}}}``. The guess is
    what comes of one and the same answer to all questions of a topic, that which is right most
    often: nothing that is below was seen in the pictures.

    """
    grades: dict[str, list[bool]] = defaultdict(list)
    truths: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for question, text in answered:
        grades[question.topic].append(question.is_right(text))
        truths[question.topic][tuple(question.facts.values())] += 1
    commonest = {topic: max(count.values()) for topic, count in truths.items()}
    return {
        'n': len(answered), 'accuracy': _mean(chain.from_iterable(grades.values())),
        'guess': round(sum(commonest.values()) / len(answered), 4),
        'by_topic': {topic: {
            'n': len(graded), 'accuracy': _mean(graded),
            'guess': round(commonest[topic] / len(graded), 4)}
            for topic, graded in sorted(grades.items())}}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None
