# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames as pictures against frames as a video: quality with all tokens and with equally many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import itertools
from typing import Any

import numpy as np

from vts_ros.lab.evaluation.answer_metrics import Score, score, summary
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.config import FRAMES_AS
from vts_ros.pipeline.pipeline import Pipeline

_BATCH = 12


def compare_frames_as(pipeline: Pipeline, shares: Sequence[float], split: str = 'test',
                      n: int = 100, progress: Callable[[int], None] = lambda windows: None
                      ) -> dict[str, Any]:
    """
    Describe the same windows with frames as pictures and as a video.

    Parameters
    ----------
    pipeline
        With frames as pictures; its guard does not count.
    shares
        Of the tokens of all pictures; a video is left as many, where it has so many.
    split, n
        Windows, see :func:`evaluate`.
    progress
        Called with the number of windows that were answered since the last call.

    Returns
    -------
    ``{'n', 'split', 'model', 'rows': {name: {'tokens': mean number that was kept, metrics}}}``
    with the rows ``stock images``, ``stock video``, ``pruned images 0.4`` and so on.

    Raises
    ------
    VlmError
        If the model cannot read a video.

    """
    vlm = pipeline.vlm
    ways = {frames_as: Pipeline(
        pipeline.sparsifier, vlm.reading(frames_as, pipeline.config.interval_sec),
        pipeline.prompts, pipeline.config) for frames_as in FRAMES_AS}
    scores: dict[str, list[Score]] = {}
    kept: dict[str, list[int]] = {}
    scenes = balanced_scenes(split, n)
    while chunk := list(itertools.islice(scenes, _BATCH)):
        clips = [render(scene) for scene in chunk]
        windows = [frames_of(clip, f'scene {scene.seed}') for scene, clip in zip(chunk, clips)]
        whole: dict[str, int] = {}
        for share, (frames_as, way) in itertools.product((1.0, *shares), ways.items()):
            is_stock = share == 1.0
            ratio = 1.0 if is_stock else share * whole['images'] / whole[frames_as]
            if ratio > 1.0:
                continue
            way.set_keep_ratio(ratio)
            name = f'stock {frames_as}' if is_stock else f'pruned {frames_as} {share:g}'
            reports = describe_batch(way, windows)
            whole.setdefault(frames_as, reports[0].tokens_total)
            scores.setdefault(name, []).extend(
                score(report.answer, clip.window_truth()) for report, clip in zip(reports, clips))
            kept.setdefault(name, []).extend(len(report.keep) for report in reports)
        for way in ways.values():
            way.clear()
        progress(len(chunk))
    return {'n': len(kept['stock images']), 'split': split, 'model': vlm.name, 'rows': {
        name: {'tokens': round(float(np.mean(kept[name])), 1), **summary(scores[name])}
        for name in scores}}
