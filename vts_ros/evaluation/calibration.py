# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fit the confidence of a model and the limits of its world, and check both on other windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
import numpy as np
from numpy.typing import NDArray

from vts_ros.bags import read_frames, until_damage
from vts_ros.confidence import Calibration, Scale, signature, World
from vts_ros.evaluation.benchmark import Progress
from vts_ros.evaluation.metrics import score
from vts_ros.evaluation.quality import Run
from vts_ros.frames import Frame, FrameBuffer, FrameError
from vts_ros.pipeline import Pipeline
from vts_ros.report import SceneReport
from vts_ros.scenes.clips import balanced_scenes, render
from vts_ros.scenes.drive import make_drive
from vts_ros.sparsify import Proposal
from vts_ros.training.shards import render_window

PAGE, PLOT = 'confidence.md', 'confidence.png'
_BATCH, _BINS = 12, 10
#: Share of the held-out windows of training kind that is left outside; the aim is 2 % of others.
OUTSIDE = 0.015
#: Drives beside the scenes, because what is met along a street looks more alike than scenes do:
#: their seeds, for the fit and for the limit, and every how many frames a window ends.
_TRAIN_DRIVES, _VAL_DRIVES, _DRIVE_STEP = range(1000, 1006), range(2000, 2002), 2
_CAMERA_SIZE = (480, 270)
_WINDOW, _INTERVAL_SEC = 5, 0.4


class Judged(NamedTuple):
    """
    A report about a window of known truth.

    Attributes
    ----------
    right
        Whether object and risk level are.
    inside
        Whether the window is within the world, None if none was given.

    """

    report: SceneReport
    right: bool
    inside: bool | None


def calibrate(pipeline: Pipeline, n: int, train_n: int, drives: bool = True,
              world: bool = True,
              progress: Progress = lambda share, what: None) -> Calibration:
    """
    Fit confidence and world on rendered windows.

    Parameters
    ----------
    pipeline
        Asked at its keep ratio; its calibration is left alone.
    n
        Windows of the split ``val``: for the confidence, and for the limit of the world.
    train_n
        Windows of the split ``train``, for the world.
    drives
        Whether windows of drives count as windows of training, too.
    world
        Whether to fit a world at all: a model that was not trained on rendered windows has none.

    Raises
    ------
    CalibrationError
        If there are too few windows.

    """
    with _calibration(pipeline, Calibration(Scale())):
        judged = list(_judge(pipeline, 'val', n, lambda done: progress(
            0.6 * done / n, f'{done} of {n} windows of val')))
    known = [one for one in judged if one.report.confidence is not None]
    scale = Scale.fit([_log(one.report) for one in known], [one.right for one in known])
    if not world:
        return Calibration(scale)
    signatures: dict[str, list[NDArray[np.float64]]] = {'train': [], 'val': []}
    for split, count, seeds in (('train', train_n, _TRAIN_DRIVES), ('val', n, _VAL_DRIVES)):
        for pictures in _pictures(split, count, seeds if drives else ()):
            signatures[split].append(_signature(pipeline, pictures))
            done = sum(map(len, signatures.values()))
            progress(min(1.0, 0.6 + 0.4 * done / (n + train_n)), f'{done} windows looked at')
    return Calibration(scale, World.fit(
        np.stack(signatures['train']), np.stack(signatures['val']), OUTSIDE))


def check(pipeline: Pipeline, n: int, bags: Sequence[Path] = (),
          progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Measure the calibration of a pipeline on windows of the split ``test`` and on recordings.

    Returns
    -------
    ``{'n', 'model', 'right', 'without': {'ece', 'brier'}, 'calibrated': {'ece', 'brier',
    'bins'}, 'marked': share of test windows or None, 'bags': {name: {'n', 'marked'}}}``; ECE is
    the expected calibration error over ten bins of equal width, a bin is ``[confidence, share
    right, answers]``.

    """
    calibration = pipeline.calibration
    if calibration is None:
        raise ValueError('there is no calibration to check')
    # Without the world: a risk that it makes unknown is not what the confidence is about.
    with _calibration(pipeline, Calibration(Scale())):
        judged = list(_judge(pipeline, 'test', n, lambda done: progress(
            done / n, f'{done} of {n} windows of test'), calibration.world))
    known = [one for one in judged if one.report.confidence is not None]
    raw = np.array([one.report.confidence for one in known], np.float64)
    fitted = np.array([calibration.scale(_log(one.report)) for one in known], np.float64)
    right = np.array([one.right for one in known], np.float64)
    marked = [one.inside is False for one in judged]
    return {
        'n': n, 'model': pipeline.vlm.name, 'keep_ratio': pipeline.config.keep_ratio,
        'right': round(float(np.mean([one.right for one in judged])), 4),
        'without': _errors(raw, right),
        'calibrated': {**_errors(fitted, right), 'bins': reliability(fitted, right)},
        'marked': None if calibration.world is None else round(float(np.mean(marked)), 4),
        'bags': {} if calibration.world is None else {
            bag.name: _marked(pipeline, calibration.world, bag) for bag in bags}}


def reliability(confidence: NDArray[np.float64],
                right: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Return mean confidence, share right and number of the answers in each bin that has any."""
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [(round(float(confidence[place == one].mean()), 4),
             round(float(right[place == one].mean()), 4), int((place == one).sum()))
            for one in range(_BINS) if (place == one).any()]


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
def _calibration(pipeline: Pipeline, calibration: Calibration) -> Iterator[None]:
    before = pipeline.calibration
    pipeline.calibration = calibration
    try:
        yield
    finally:
        pipeline.calibration = before


def _judge(pipeline: Pipeline, split: str, n: int,
           progress: Callable[[int], None], world: World | None = None) -> Iterator[Judged]:
    """Yield a report for each window of a split, and whether it is right."""
    scenes = balanced_scenes(split, n)
    done = 0
    while chunk := list(itertools.islice(scenes, _BATCH)):
        samples = [render_window(scene) for scene in chunk]
        reports = pipeline.describe_batch([
            [Frame(f'scene {scene.seed}', truth.stamp_ns, picture)
             for picture, truth in zip(sample.frames, sample.truths)]
            for scene, sample in zip(chunk, samples)])
        for report, sample in zip(reports, samples):
            found = score(report.answer, sample.window)
            inside = None if world is None else world.holds(
                [pipeline.sparsifier.propose(picture) for picture in sample.frames])
            yield Judged(report, found.risk and found.object, inside)
        pipeline.clear()
        done += len(chunk)
        progress(done)


def _pictures(split: str, n: int, drives: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of windows of a split, and then of windows along drives."""
    for scene in balanced_scenes(split, n):
        yield render_window(scene).frames
    for seed in drives:
        pictures = render(make_drive(seed, interval_sec=_INTERVAL_SEC), *_CAMERA_SIZE).frames
        for end in range(_WINDOW, len(pictures), _DRIVE_STEP):
            yield pictures[end - _WINDOW:end]


def _signature(pipeline: Pipeline, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return signature([pipeline.sparsifier.propose(picture) for picture in pictures])


def _marked(pipeline: Pipeline, world: World, bag: Path) -> dict[str, Any]:
    """Return how many windows of a recording there are, and which share of them is outside."""
    outside = [not world.holds(proposals) for proposals in _bag_proposals(pipeline, bag)]
    return {'n': len(outside),
            'marked': round(float(np.mean(outside)), 4) if outside else None}


def _bag_proposals(pipeline: Pipeline, bag: Path) -> Iterator[list[Proposal]]:
    buffer = FrameBuffer()
    known: dict[tuple[str, int], Proposal] = {}
    for frame in until_damage(read_frames(bag), Counter()):
        if buffer.push(frame) not in ('admitted', 'gap', 'back'):
            continue
        try:
            known[frame.key] = pipeline.sparsifier.propose(frame.rgb())
        except FrameError:
            buffer.discard(frame)
            continue
        window = buffer.window()
        if window is not None:
            yield [known[one.key] for one in window]


def write_page(result: Mapping[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write the page about the confidence, and its plot; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    _reliability_figure(result).savefig(folder / PLOT)
    (folder / PAGE).write_text('\n'.join(_page(result, run)) + '\n', encoding='utf-8')
    return [folder / PAGE, folder / PLOT]


def _page(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    yield '# How sure an answer is\n'
    yield 'Made by the command below; do not edit.\n'
    yield f'    {run.command}\n'
    yield (f'- The first {result["n"]} rendered windows of the split `test`, risk levels '
           'balanced; the fit saw `val` and `train`.')
    yield (f'- Model `{result["model"]}`, {result["keep_ratio"]:.0%} of the visual tokens, greedy '
           f'decoding. {run.day.isoformat()}; {run.machine}.')
    yield ('\nThe `confidence` of a report is the probability that object and risk level are both '
           f'right;\n{100 * result["right"]:.1f} % of the answers are.\n')
    yield f'![Share of right answers over confidence]({PLOT})\n'
    yield '| | expected calibration error | Brier score |\n|---|---|---|'
    for name, title in (('without', 'as the model has it'), ('calibrated', 'calibrated')):
        yield f'| {title} | {result[name]["ece"]:.3f} | {result[name]["brier"]:.3f} |'
    if result['marked'] is None:
        return
    yield '\n## Pictures that the model does not know\n'
    yield ('A window that looks unlike those of the training gets the risk `unknown`; its text is '
           'kept and marked.\n')
    yield '| windows | number | marked |\n|---|---|---|'
    yield f'| rendered, split `test` | {result["n"]} | {result["marked"]:.1%} |'
    for name, found in result['bags'].items():
        marked = '-' if found['marked'] is None else f'{found["marked"]:.1%}'
        yield f'| recording `{name}` | {found["n"]} | {marked} |'


def _reliability_figure(result: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(5.2, 4.6), dpi=110, layout='constrained', facecolor='white')
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color='0.5', linestyle=':', linewidth=1.0)
    said, true, counts = zip(*result['calibrated']['bins'])
    axis.plot(said, true, color='#0072B2', linewidth=1.8)
    # The area says how many answers stand behind a point.
    axis.scatter(said, true, s=[20 + 280 * count / sum(counts) for count in counts],
                 color='#0072B2', zorder=3)
    for one, share, count in zip(said, true, counts):
        axis.annotate(str(count), (one, share), textcoords='offset points', xytext=(8, -12),
                      fontsize=9, color='0.35')
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel='confidence',
             ylabel='object and risk level right', title=f'{result["n"]} windows')
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(color='0.92')
    axis.set_axisbelow(True)
    axis.spines[['top', 'right']].set_visible(False)
    return figure
