# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What quantised weights cost in quality and give in speed, on the same rendered windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np

from vts_ros.lab.evaluation.answer_metrics import Score, score, summary
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import machine
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import SceneReport

PLAIN, QUANTIZED = 'as it is', 'quantised'
#: What is shown of the scores, and of the time of an answer.
METRICS = ('risk_accuracy', 'object_accuracy', 'facts_accuracy', 'box_miou')
STAGES = ('prefill', 'decode', 'total')


def price(plain: Pipeline, quantized: Pipeline, split: str = 'test', n: int = 500,
          progress: Callable[[int], None] = lambda windows: None) -> dict[str, Any]:
    """
    Describe the windows of a split by both, in turns, each window as the first of a drive.

    Parameters
    ----------
    plain, quantized
        The same but for the weights of the language model.
    split
        ``val`` or ``test``; risk levels are balanced.
    n
        Windows.
    progress
        Called with the number of windows that were answered since the last call.

    Returns
    -------
    ``{'n', 'split', 'model', 'weights_mb', 'scores': {way: metrics}, 'risk_difference': share,
    'risk_difference_interval': (low, high), 'alike': {'risk', 'object'}, 'ms': {way: {stage:
    median}}, 'faster': {stage: {'median', 'low', 'high'}}, 'date', 'machine'}``. The difference
    is quantised less plain, with the interval of 95 % by resampling windows; ``faster`` is the
    time of the plain model over that of the other, of the same window, the edges are quartiles.

    """
    ways = {PLAIN: plain, QUANTIZED: quantized}
    scores: dict[str, list[Score]] = {name: [] for name in ways}
    reports: dict[str, list[SceneReport]] = {name: [] for name in ways}
    for index, scene in enumerate(balanced_scenes(split, n)):
        clip = render(scene)
        window = frames_of(clip, 'front')
        # Each is the first of a window as often.
        for name in list(ways)[::1 if index % 2 else -1]:
            ways[name].clear()
            report = ways[name].describe(window)
            reports[name].append(report)
            scores[name].append(score(report.answer, clip.window_truth()))
        progress(1)
    right = {name: np.array([rating.risk for rating in found], float)
             for name, found in scores.items()}
    pairs = list(zip(reports[PLAIN], reports[QUANTIZED]))
    return {
        'n': n, 'split': split, 'model': plain.vlm.name,
        'weights_mb': {name: way.vlm.info['weights_mb'] for name, way in ways.items()},
        'scores': {name: {metric: value for metric, value in summary(found).items()
                          if metric in METRICS} for name, found in scores.items()},
        'risk_difference': round(float(right[QUANTIZED].mean() - right[PLAIN].mean()), 4),
        'risk_difference_interval': Bootstrap(n).difference(right[QUANTIZED], right[PLAIN]),
        'alike': {
            'risk': _share(own.answer.risk == other.answer.risk for own, other in pairs),
            'object': _share(own.answer.label == other.answer.label for own, other in pairs)},
        'ms': {name: {stage: round(float(np.median([
            report.latency_ms[stage] for report in found])), 1) for stage in STAGES}
            for name, found in reports.items()},
        'faster': {stage: _quartiles([own.latency_ms[stage] / other.latency_ms[stage]
                                      for own, other in pairs]) for stage in STAGES},
        'date': date.today().isoformat(), 'machine': machine(str(plain.vlm.model.device))}


def _share(values: Iterator[bool]) -> float:
    return round(float(np.mean(list(values))), 4)


def _quartiles(values: list[float]) -> dict[str, float]:
    return {name: round(float(np.percentile(values, percentile)), 2)
            for name, percentile in (('median', 50), ('low', 25), ('high', 75))}


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in the docs."""
    scores, ms, mb = (result[name] for name in ('scores', 'ms', 'weights_mb'))
    yield (f'| {result["model"]}, {result["n"]} windows | weights | risk | object | facts '
           '| box (IoU) | prefill | decode | answer |')
    yield '|---' * 9 + '|'
    for name in scores:
        quality = ' | '.join('-' if value is None else f'{value:.3f}'
                             for value in map(scores[name].get, METRICS))
        times = ' | '.join(f'{ms[name][stage]:.0f} ms' for stage in STAGES)
        yield f'| {name} | {mb[name]} MB | {quality} | {times} |'
    low, high = (100.0 * edge for edge in result['risk_difference_interval'])
    faster = result['faster']['total']
    yield ''
    yield (f'Risk {100.0 * result["risk_difference"]:+.1f} points (95 %: {low:+.1f} to '
           f'{high:+.1f}); the same level in {result["alike"]["risk"]:.1%} of the windows, the '
           f'same object in {result["alike"]["object"]:.1%}. An answer is {faster["median"]:.2f} '
           f'times as fast (half of the windows: {faster["low"]:.2f} to {faster["high"]:.2f}). '
           f'{result["date"]}, {result["machine"]}.')
