# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the model says of pairs that need the past, by what is taken as the key frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np

from vts_ros.lab.evaluation.answer_metrics import Score, score
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.method_comparison import answer_all, EvaluatedWindow
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.rivals.registry import Method
from vts_ros.lab.scenes.memory_windows import MemoryScene
from vts_ros.lab.scenes.scene_truth import Clip, TRUE_LEVELS, WindowTruth
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import token_budget, WindowFeatures
from vts_ros.vlm import FrameFeatures
from vts_ros.vlm.boxes import PictureSize

#: Key frames of which is asked, by the method that takes them.
KEYS = {'learned': 'vts', 'newest': 'vts-key-newest', 'oldest': 'vts-key-oldest',
        'random': 'vts-key-random', 'oracle': 'vts-key-oracle'}


class PairAnswer(NamedTuple):
    """Levels said of hazard and twin, and the scores of both answers."""

    said: tuple[str, str]
    scores: tuple[Score, Score]

    @property
    def told_apart(self) -> bool:
        """Return whether the level of the hazard is above that of its twin."""
        return is_higher(*self.said)

    @property
    def level(self) -> float:
        """Return the share of both levels that is right."""
        return float(np.mean([right.risk for right in self.scores]))


def is_higher(first: str, second: str) -> bool:
    """Return whether a level is above another; nothing is above or below an unknown one."""
    levels: Sequence[str] = TRUE_LEVELS
    return first in levels and second in levels and levels.index(first) > levels.index(second)


def answers_by_key(pipeline: Pipeline, methods: Mapping[str, Method],
                   pair: Sequence[tuple[MemoryScene, Clip, WindowTruth]],
                   budgets: Sequence[float]) -> dict[tuple[float, str], PairAnswer]:
    """
    Ask about both windows of a pair with the tokens that each key frame leaves.

    Parameters
    ----------
    methods
        By the name of their key frame, see ``KEYS``; of one at random one choice is taken.
    pair
        Hazard and twin: scene, pictures and truth.
    budgets
        Keep ratios.

    Returns
    -------
    The answers by keep ratio and key frame. Where two key frames leave the same tokens, the model
    is asked once.

    """
    windows = [_window(pipeline, number, *parts) for number, parts in enumerate(pair)]
    wanted: dict[tuple[float, str], list[tuple[int, bytes]]] = {}
    asked = {}
    for ratio, (name, method) in itertools.product(budgets, methods.items()):
        for number, window in enumerate(windows):
            evidence = window.evidence
            keep = method.keep(evidence, token_budget(
                len(evidence.proposals), evidence.grid, ratio))
            assert keep is not None
            asked[number, keep.tobytes()] = keep
            wanted.setdefault((ratio, name), []).append((number, keep.tobytes()))
    answers = dict(zip(asked, answer_all(
        pipeline, [windows[number] for number, _ in asked], list(asked.values()), brief=True)))
    found = {}
    for key, jobs in wanted.items():
        first, second = (answers[job] for job in jobs)
        found[key] = PairAnswer((first.risk, second.risk), (
            score(first, windows[0].truth), score(second, windows[1].truth)))
    return found


def _window(pipeline: Pipeline, number: int, scene: MemoryScene, clip: Clip, right: WindowTruth
            ) -> EvaluatedWindow:
    vlm, frames = pipeline.vlm, frames_of(clip, f'scene {number}')
    # As the model sees them in the product: the guard may change pictures.
    entries = pipeline.cache.get_all(frames, Stopwatch(pipeline.clock))
    features = [entry.features for entry in entries
                if isinstance(entry.features, FrameFeatures)]
    prompt = pipeline.prompts.description
    area = np.array([0.0 if seen is None else seen.share * seen.area for seen in scene.sights],
                    np.float32)
    grid = features[-1].grid
    evidence = WindowFeatures(
        clip.frames, tuple(entry.proposal for entry in entries),
        np.zeros((len(frames), grid[0] * grid[1], 1), np.float32), grid, area)
    height, width = clip.frames.shape[1:3]
    return EvaluatedWindow(
        evidence, vlm.prepare(features, prompt.captions(frames), prompt), right, False,
        clip.truths, PictureSize(vlm.seen_size(features[-1]), (width, height)))


def key_frame_figures(answers: Mapping[tuple[float, str], Sequence[PairAnswer]]
                      ) -> dict[str, Any]:
    """
    Return what is right by keep ratio and key frame.

    Returns
    -------
    ``{ratio: {key: {'level', 'level_ci', 'told_apart', 'told_apart_ci', 'ahead', 'ahead_ci'}}}``;
    ``ahead`` is how much more levels are right with the learned key frame, on the same pairs.

    """
    found: dict[str, Any] = {}
    for (ratio, name), said in answers.items():
        bootstrap = Bootstrap(len(said))
        level = np.array([answer.level for answer in said])
        apart = np.array([float(answer.told_apart) for answer in said])
        learned = np.array([answer.level for answer in answers[ratio, 'learned']])
        found.setdefault(f'{ratio:g}', {})[name] = {
            'level': round(float(level.mean()), 4), 'level_ci': bootstrap.mean(level),
            'told_apart': round(float(apart.mean()), 4), 'told_apart_ci': bootstrap.mean(apart),
            'ahead': round(float((learned - level).mean()), 4),
            'ahead_ci': bootstrap.difference(learned, level)}
    return found
