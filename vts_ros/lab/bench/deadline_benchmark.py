# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether answers come in time where the fixed setting is late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vts_ros.lab.bench.benchmark_drive import drive_frames, windows_of
from vts_ros.lab.bench.measured_answers import measured_here
from vts_ros.lab.bench.workloads import EMBEDDED_SIZE, Progress
from vts_ros.pipeline.pipeline import EMBEDDED, Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport

WARM_UP = 5


def keep_deadline(model: str = EMBEDDED, windows: int = 60, share: float = 0.6, seed: int = 7,
                  device: str = 'auto', frames: int = 5, progress: Progress = lambda *_: None
                  ) -> dict[str, Any]:
    """
    Answer a stream of windows with a fixed setting and with one that is planned, in turns.

    Parameters
    ----------
    model
        Checkpoint.
    windows
        How many count, after those that warm up.
    share
        The deadline, as a share of the median time of the fixed setting.
    seed
        Of the drive.

    Returns
    -------
    ``{'deadline_ms', 'n', 'fixed': figures, 'planned': figures, ...}``.

    """
    fixed = Pipeline.load(PipelineConfig(model=model, device=device))
    planned = Pipeline(fixed.sparsifier, fixed.language_model, fixed.prompts, fixed.config)
    stream = windows_of(
        drive_frames(frames + windows + 2 * WARM_UP - 1, EMBEDDED_SIZE, seed), frames)
    before = [fixed.describe(window).latency_ms['total'] for window in stream[:WARM_UP]]
    deadline_ms = share * float(np.median(before[1:]))
    planned.config = replace(planned.config, deadline_ms=deadline_ms)
    found: dict[str, list[tuple[SceneReport, int]]] = {'fixed': [], 'planned': []}
    for index, window in enumerate(stream[WARM_UP:]):
        progress(index / (windows + WARM_UP), f'window {index + 1} of {windows + WARM_UP}')
        for name, pipeline in (('fixed', fixed), ('planned', planned)):
            report = pipeline.describe(window)
            found[name].append((report, report.answer_tokens))
    return {**measured_here(str(fixed.vlm.model.device)),
            'model': model, 'deadline_ms': round(deadline_ms, 1), 'share': share, 'seed': seed,
            'n': windows, 'warm_up': WARM_UP,
            **{name: _figures(answers[WARM_UP:], deadline_ms)
               for name, answers in found.items()}}


def _figures(answers: Sequence[tuple[SceneReport, int]], deadline_ms: float) -> dict[str, float]:
    times = [report.latency_ms['total'] for report, _ in answers]
    return {
        'late': round(float(np.mean([time > deadline_ms for time in times])), 4),
        'p50_ms': round(float(np.percentile(times, 50)), 1),
        'p95_ms': round(float(np.percentile(times, 95)), 1),
        'keep_ratio': round(float(np.mean(
            [len(report.keep) / report.tokens_total for report, _ in answers])), 3),
        'answer_tokens': round(float(np.mean([tokens for _, tokens in answers])), 1),
        'read': round(float(np.mean(
            [report.answer.risk != 'unknown' for report, _ in answers])), 4)}
