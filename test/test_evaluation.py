# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of answers against the truth."""

from dataclasses import replace

import numpy as np
import pytest

from vts_ros.lab.evaluation.answer_metrics import (
    intersection_over_union,
    question_summary,
    score,
    summary,
)
from vts_ros.lab.scenes import sentences, window_questions
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.scene_truth import WindowTruth
from vts_ros.vlm.answers import Answer, Box


@pytest.mark.parametrize(('first', 'second', 'expected'), [
    ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0), 1.0),
    ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), 0.0),
    ((0.0, 0.0, 0.4, 0.4), (0.2, 0.2, 0.6, 0.6), 0.04 / 0.28),
    ((0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.1), 0.0)])
def test_overlap_of_boxes(first: Box, second: Box, expected: float) -> None:
    assert intersection_over_union(first, second) == pytest.approx(expected)


@pytest.fixture(scope='module')
def truths() -> list[WindowTruth]:
    return [render(scene, 64, 36).window_truth() for scene in balanced_scenes('val', 40)]


def test_perfect_answers_score_one(truths: list[WindowTruth]) -> None:
    rng = np.random.default_rng(0)
    means = summary([score(sentences.answer(truth, rng), truth) for truth in truths])
    assert {name: value for name, value in means.items() if name != 'box_miou'} == dict.fromkeys(
        ('risk_accuracy', 'object_accuracy', 'place_accuracy', 'motion_accuracy',
         'action_accuracy', 'facts_accuracy'), 1.0)
    assert (means['box_miou'] or 0.0) > 0.8  # two decimals


def test_each_wrong_fact_costs_its_own_score(truths: list[WindowTruth]) -> None:
    truth = next(truth for truth in truths if truth.risk == 'high')
    right = sentences.answer(truth, np.random.default_rng(1))
    assert not score(replace(right, risk='low'), truth).risk
    assert not score(replace(right, label='animal' if truth.label != 'animal' else 'car'),
                     truth).object
    assert not score(replace(right, action='Nothing.'), truth).action
    assert score(replace(right, box=None), truth).iou == 0.0
    silent = score(replace(right, explanation=''), truth)
    assert silent.risk
    assert not silent.place
    assert not silent.motion


def test_accuracy_of_facts_is_the_mean_of_four(truths: list[WindowTruth]) -> None:
    rng = np.random.default_rng(3)
    answers = [sentences.answer(truth, rng) for truth in truths]
    # The risk is no fact of the explanation: it has a figure of its own.
    found = summary([score(replace(answer, risk='low' if truth.risk == 'none' else 'none',
                                   action='Nothing.'), truth)
                     for answer, truth in zip(answers, truths)])
    assert found['facts_accuracy'] == 0.75
    clear = [truth for truth in truths if truth.risk == 'none']
    assert summary([score(sentences.answer(truth, rng), truth)
                    for truth in clear])['facts_accuracy'] == 1.0


def test_questions_are_graded_by_topic(truths: list[WindowTruth]) -> None:
    asked = [question for truth in truths
             for question in window_questions.questions(truth, np.random.default_rng(truth.seed))]
    right = question_summary([(question, question.answer) for question in asked])
    assert (right['n'], right['accuracy']) == (200, 1.0)
    assert sum(part['n'] for part in right['by_topic'].values()) == 200
    assert all(part['accuracy'] == 1.0 for part in right['by_topic'].values())
    # The same answer to all: as good as the best guess, or a worse one.
    days = question_summary([(question, 'By day.') for question in asked])
    light = days['by_topic']['light']
    assert 0.0 < light['accuracy'] <= light['guess'] < 1.0
    assert days['accuracy'] == pytest.approx(light['accuracy'] * light['n'] / 200, abs=1e-4)
    assert right['guess'] == days['guess'] == pytest.approx(sum(
        part['guess'] * part['n'] for part in right['by_topic'].values()) / 200, abs=1e-3)


def test_an_unknown_answer_is_wrong_at_every_level(truths: list[WindowTruth]) -> None:
    assert not any(score(Answer(), truth).risk for truth in truths)


def test_summary_leaves_out_what_does_not_apply(truths: list[WindowTruth]) -> None:
    clear = [truth for truth in truths if truth.risk == 'none']
    rng = np.random.default_rng(2)
    means = summary([score(sentences.answer(truth, rng), truth) for truth in clear])
    assert means['risk_accuracy'] == 1.0
    assert means['box_miou'] is None
