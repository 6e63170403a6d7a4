# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fit the confidence of a model, and check it on other windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import score
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.dataset_runner import Progress
from vts_ros.lab.evaluation.generated_page import (
    day_and_machine,
    head,
    new_figure,
    plain_axis,
    Run,
    write_text,
)
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.pipeline.confidence import Calibration, PlattScaler
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import SceneReport

PAGE, PLOT = 'confidence.md', 'confidence.png'
_BATCH, _BINS = 12, 10


class JudgedAnswer(NamedTuple):
    """
    A report about a window of known truth.

    Attributes
    ----------
    right
        Whether object and risk level are.

    """

    report: SceneReport
    right: bool


def calibrate(pipeline: Pipeline, n: int,
              progress: Progress = lambda share, what: None) -> Calibration:
    """
    Fit the confidence on rendered windows.

    Parameters
    ----------
    pipeline
        Asked at its keep ratio; its calibration is left alone.
    n
        Windows of the split ``val``.

    Raises
    ------
    CalibrationError
        If no answer has a confidence.

    """
    with _judging(pipeline, Calibration(PlattScaler())):
        judged = list(_judge(pipeline, 'val', n, lambda done: progress(
            done / n, f'{done} of {n} windows of val')))
    known = [answer for answer in judged if answer.report.confidence is not None]
    return Calibration(PlattScaler.fit([_log(answer.report) for answer in known],
                                 [answer.right for answer in known]))


def check(pipeline: Pipeline, n: int,
          progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Measure the calibration of a pipeline on windows of the split ``test``.

    Returns
    -------
    ``{'n', 'model', 'right', 'without': {'ece', 'brier'}, 'calibrated': {'ece', 'brier',
    'bins'}}``. ECE is the expected calibration error over ten bins of equal width, a bin is
    ``[confidence, share right, answers]``.

    """
    calibration = pipeline.calibration
    if calibration is None:
        raise ValueError('there is no calibration to check')
    with _judging(pipeline, Calibration(PlattScaler())):
        judged = list(_judge(pipeline, 'test', n, lambda done: progress(
            done / n, f'{done} of {n} windows of test')))
    known = [answer for answer in judged if answer.report.confidence is not None]
    raw = np.array([answer.report.confidence for answer in known], np.float64)
    fitted = np.array([calibration.scale(_log(answer.report)) for answer in known], np.float64)
    right = np.array([answer.right for answer in known], np.float64)
    return {
        'n': n, 'model': pipeline.vlm.name, 'keep_ratio': pipeline.config.keep_ratio,
        'right': round(float(np.mean([answer.right for answer in judged])), 4),
        'without': _errors(raw, right),
        'calibrated': {**_errors(fitted, right), 'bins': reliability(fitted, right)}}


def reliability(confidence: NDArray[np.float64],
                right: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Return mean confidence, share right and number of the answers in each bin that has any."""
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [(round(float(confidence[place == bin_].mean()), 4),
             round(float(right[place == bin_].mean()), 4), int((place == bin_).sum()))
            for bin_ in range(_BINS) if (place == bin_).any()]


def _errors(confidence: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, Any]:
    if not len(right):
        return {'ece': None, 'brier': None}
    bins = reliability(confidence, right)
    ece = sum(count * abs(said - true) for said, true, count in bins) / len(right)
    return {'ece': round(ece, 4), 'brier': round(float(((confidence - right) ** 2).mean()), 4)}


def _log(report: SceneReport) -> float:
    """Return the log-probability that a scale of 1 has left as a confidence."""
    assert report.confidence is not None
    return float(np.log(max(report.confidence, 1e-9)))


@contextmanager
def _judging(pipeline: Pipeline, calibration: Calibration) -> Iterator[None]:
    """Have another calibration for a while."""
    before, pipeline.calibration = pipeline.calibration, calibration
    try:
        yield
    finally:
        pipeline.calibration = before


def _judge(pipeline: Pipeline, split: str, n: int,
           progress: Callable[[int], None]) -> Iterator[JudgedAnswer]:
    """Yield a report for each window of a split, and whether it is right."""
    scenes = balanced_scenes(split, n)
    done = 0
    while chunk := list(itertools.islice(scenes, _BATCH)):
        clips = [render_window(scene) for scene in chunk]
        reports = describe_batch(pipeline, [
            [Frame(f'scene {scene.seed}', truth.stamp_ns, picture)
             for picture, truth in zip(clip.frames, clip.truths)]
            for scene, clip in zip(chunk, clips)])
        for report, clip in zip(reports, clips):
            found = score(report.answer, clip.window_truth())
            yield JudgedAnswer(report, found.risk and found.object)
        pipeline.clear()
        done += len(chunk)
        progress(done)


def write_page(result: Mapping[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write the page about the confidence, and its plot; return the files."""
    path = write_text(folder / PAGE, _page(result, run))
    _reliability_figure(result).savefig(folder / PLOT)
    return [path, folder / PLOT]


def _page(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    yield from head('How sure an answer is', run)
    yield (f'- The first {result["n"]} rendered windows of the split `test`, risk levels '
           'balanced; the fit saw `val` and `train`.')
    yield (f'- Model `{result["model"]}`, {result["keep_ratio"]:.0%} of the visual tokens, greedy '
           f'decoding. {day_and_machine(run)}')
    yield ('\nThe `confidence` of a report is the probability that object and risk level are both '
           f'right;\n{100 * result["right"]:.1f} % of the answers are.\n')
    yield f'![Share of right answers over confidence]({PLOT})\n'
    yield '| | expected calibration error | Brier score |\n|---|---|---|'
    for name, title in (('without', 'as the model has it'), ('calibrated', 'calibrated')):
        yield f'| {title} | {result[name]["ece"]:.3f} | {result[name]["brier"]:.3f} |'
    yield ('\nOf pictures unlike those of its training a model says nothing: see '
           '[guard.md](guard.md).')


def _reliability_figure(result: Mapping[str, Any]) -> Figure:
    figure = new_figure(5.2, 4.6)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color='0.5', linestyle=':', linewidth=1.0)
    said, true, counts = zip(*result['calibrated']['bins'])
    axis.plot(said, true, color='#0072B2', linewidth=1.8)
    # The area says how many answers stand behind a point.
    axis.scatter(said, true, s=[20 + 280 * count / sum(counts) for count in counts],
                 color='#0072B2', zorder=3)
    for confidence, share, count in zip(said, true, counts):
        axis.annotate(str(count), (confidence, share), textcoords='offset points', xytext=(8, -12),
                      fontsize=9, color='0.35')
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel='confidence',
             ylabel='object and risk level right', title=f'{result["n"]} windows')
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(1.0, decimals=0))
    plain_axis(axis)
    return figure
