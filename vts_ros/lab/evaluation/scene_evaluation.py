# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Quality on rendered windows that no training has seen, whole and sparsified."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from vts_ros.errors import BagError
from vts_ros.lab.evaluation.answer_metrics import question_summary, Score, score, summary
from vts_ros.lab.evaluation.batches import ask_batch, describe_batch
from vts_ros.lab.scenes import window_questions
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.composite import Backdrop, render_over, scenes_over
from vts_ros.lab.scenes.model_picture import ModelPicture, SHIPPED
from vts_ros.lab.scenes.scene_truth import Clip, WindowTruth
from vts_ros.lab.scenes.window_questions import Question
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.guard import holds
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import RISK_LEVELS

#: Prompts that are answered at once; the frames of so many windows fit the cache of the pipeline.
_BATCH = 12
#: Questions about a window, as many as the training asks.
QUESTIONS = 5


def frames_of(clip: Clip, camera: str) -> list[Frame]:
    """Return the pictures of a clip as frames of a camera."""
    return [Frame(camera, truth.stamp_ns, picture)
            for picture, truth in zip(clip.frames, clip.truths)]


def evaluate(pipeline: Pipeline, split: str = 'test', n: int = 500,
             budgets: Sequence[float] = (0.6, 0.4),
             progress: Callable[[int], None] = lambda windows: None,
             questions: int = 0,
             clips: Iterable[tuple[Scene, Clip]] | None = None,
             is_guarded: bool = True, picture: ModelPicture = SHIPPED) -> dict[str, Any]:
    """
    Describe windows of a split at every token budget and compare with the truth.

    Parameters
    ----------
    pipeline
        Its keep ratio is changed and put back.
    split
        ``val`` or ``test``; risk levels are balanced.
    n
        Windows.
    budgets
        Keep ratios beside 1.0, which is ``dense``.
    progress
        Called with the number of windows that were answered since the last call.
    questions
        Free questions about each window, asked besides at every budget; the seed of the window
        draws them.
    clips
        What to show instead of these windows.
    is_guarded
        Whether the guard of the model applies: over recordings it would leave nothing to measure.
    picture
        Size at which the windows are drawn.

    Returns
    -------
    ``{'n', 'split', 'model', 'dense': metrics, 'vts': {budget: metrics}, 'families', 'levels'}``;
    the last two are the metrics by family and the confusion of levels, both dense. Metrics are
    those of ``answer_metrics.summary``, and with questions ``question_summary`` as
    ``questions``.

    """
    ratios = (1.0, *budgets)
    scores: dict[float, list[Score]] = {ratio: [] for ratio in ratios}
    answered: dict[float, list[tuple[Question, str]]] = {ratio: [] for ratio in ratios}
    truths: list[WindowTruth] = []
    confusion = {level: dict.fromkeys(RISK_LEVELS, 0) for level in RISK_LEVELS[:-1]}
    before = pipeline.config.keep_ratio
    guard = pipeline.guard
    if not is_guarded:
        pipeline.guard = None
    shown = iter(((scene, render(scene, *picture[:2])) for scene in balanced_scenes(split, n))
                 if clips is None else clips)
    while chunk := list(itertools.islice(shown, _BATCH)):
        windows = [frames_of(clip, f'scene {scene.seed}') for scene, clip in chunk]
        found = [clip.window_truth() for _, clip in chunk]
        truths += found
        asked = [(window, question) for window, truth in zip(windows, found)
                 for question in window_questions.questions(
                     truth, np.random.default_rng(truth.seed), questions)]
        for ratio in ratios:
            pipeline.set_keep_ratio(ratio)
            # What was read was chosen at another ratio.
            pipeline.reset_context()
            for report, truth in zip(describe_batch(pipeline, windows), found):
                scores[ratio].append(score(report.answer, truth))
                if ratio == 1.0:
                    confusion[truth.risk][report.answer.risk] += 1
            answered[ratio] += _ask(pipeline, asked)
        pipeline.clear()
        progress(len(chunk))
    pipeline.set_keep_ratio(before)
    pipeline.guard = guard
    metrics = {ratio: {
        **summary(scores[ratio]),
        **({'questions': question_summary(answered[ratio])} if questions else {})}
        for ratio in ratios}
    return {
        'n': len(truths), 'split': split, 'model': pipeline.vlm.name,
        'dense': metrics[1.0], 'vts': {f'{ratio:g}': metrics[ratio] for ratio in budgets},
        'families': _by_family(scores[1.0], truths), 'levels': confusion,
    }


def _ask(pipeline: Pipeline,
         asked: Sequence[tuple[Sequence[Frame], Question]]) -> Iterator[tuple[Question, str]]:
    """Yield questions with their answers."""
    for start in range(0, len(asked), _BATCH):
        windows, questions = zip(*asked[start:start + _BATCH])
        texts = ask_batch(pipeline, windows, [question.text for question in questions])
        yield from zip(questions, texts)


def evaluate_over(pipeline: Pipeline, bags: Sequence[Path], split: str, n: int,
                  budgets: Sequence[float],
                  progress: Callable[[int], None] = lambda windows: None) -> dict[str, Any]:
    """
    Compare answers to hazards over recordings with those to the same ones on rendered ground.

    Both are on a straight road by day without scenery, drawn at the same size.

    Returns
    -------
    ``{'rendered', 'over'}``, each as :func:`evaluate` gives it, ``over`` with ``marked``, the
    share of its windows that the guard of the model refuses (None without one), and ``bags``.

    Raises
    ------
    BagError
        If a recording has no picture.

    """
    backdrops = [Backdrop.load(bag) for bag in bags]
    both = list(scenes_over(backdrops, split, n))
    if not both:
        raise BagError('the recordings are too short for any scene')
    guard = pipeline.guard
    outside: list[bool] = []

    def over() -> Iterator[tuple[Scene, Clip]]:
        for scene, behind in both:
            clip = render_over(scene, behind)
            if guard is not None:
                outside.append(not holds(guard, list(map(guard.evidence, clip.frames))))
            yield scene, clip

    found = {'rendered': evaluate(pipeline, split, len(both), budgets, progress,
                                  clips=((scene, render(scene)) for scene, _ in both)),
             'over': evaluate(pipeline, split, len(both), budgets, progress, clips=over(),
                              is_guarded=False)}
    found['over'].update(marked=round(float(np.mean(outside)), 4) if outside else None,
                         bags=[bag.name for bag in bags])
    return found


def _by_family(scores: Sequence[Score], truths: Sequence[WindowTruth]) -> dict[str, Any]:
    groups: dict[str, list[Score]] = defaultdict(list)
    for right, truth in zip(scores, truths):
        groups[truth.family].append(right)
    return {family: {'n': len(group), **summary(group)}
            for family, group in sorted(groups.items())}
