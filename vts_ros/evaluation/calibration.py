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

import cv2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
import numpy as np
from numpy.typing import NDArray

from vts_ros.bags import read_frames, until_damage
from vts_ros.confidence import Calibration, Scale, structure, World
from vts_ros.evaluation.benchmark import Progress
from vts_ros.evaluation.metrics import score
from vts_ros.evaluation.quality import Run
from vts_ros.frames import Frame, FrameBuffer, FrameError
from vts_ros.pipeline import Pipeline
from vts_ros.report import SceneReport
from vts_ros.scenes.clips import balanced_scenes, SPLITS
from vts_ros.scenes.drive import DEMO_HAZARDS, DEMO_SEED, draw_drive, make_drive
from vts_ros.scenes.render import Renderer
from vts_ros.scenes.windows import FRAMES, HEIGHT, render_window, through_jpeg, WIDTH
from vts_ros.scenes.world import Scene

PAGE, PLOT = 'confidence.md', 'confidence.png'
_BATCH, _BINS = 12, 10
#: Share of the held-out windows of training kind that is left outside; the aim is 2 % of others.
OUTSIDE = 0.005
#: Drives beside the scenes, because there a vehicle may fill the picture for long: their seeds,
#: for the fit, for the limit and for the check, and every how many frames a window ends.
_DRIVES = {'train': SPLITS['train'][-12:], 'val': SPLITS['val'][-6:], 'test': SPLITS['test'][-5:]}
_DRIVE_STEP = 2
_INTERVAL_SEC = 0.4
#: Sizes at which drives of the fit are drawn, as cameras have them, and the JPEG quality of those
#: of the check, as ``vts render`` has it.
_SIZES, _QUALITY = ((WIDTH, HEIGHT), (480, 270), (960, 540)), 92

Picture = NDArray[np.uint8]
Structure = NDArray[np.float64]


class Judged(NamedTuple):
    """
    A report about a window of known truth.

    Attributes
    ----------
    right
        Whether object and risk level are.
    structures
        Of its pictures, [T, D].

    """

    report: SceneReport
    right: bool
    structures: Structure


def calibrate(pipeline: Pipeline, n: int, train_n: int, world: bool = True,
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
        Windows of the split ``train``, for the world; drives come on top.
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
    train = [_structures(render_window(scene).frames)
             for scene in _counted(balanced_scenes('train', train_n), train_n, progress)]
    train += itertools.chain.from_iterable(map(_drive_windows, _DRIVES['train']))
    held_out = [one.structures for one in judged]
    held_out += itertools.chain.from_iterable(map(_drive_windows, _DRIVES['val']))
    return Calibration(scale, World.fit(np.stack(train), np.stack(held_out), OUTSIDE))


def _counted(scenes: Iterator[Scene], n: int, progress: Progress) -> Iterator[Scene]:
    for done, scene in enumerate(scenes):
        progress(0.6 + 0.3 * done / n, f'{done} windows of train looked at')
        yield scene
    progress(0.9, 'looking at drives')


def check(pipeline: Pipeline, n: int, bags: Sequence[Path] = (),
          progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Measure the calibration of a pipeline on windows of the split ``test`` and on recordings.

    Returns
    -------
    ``{'n', 'model', 'right', 'without': {'ece', 'brier'}, 'calibrated': {'ece', 'brier',
    'bins'}}``, and with a world also ``'marked'``, the share of the windows that is outside,
    ``'drives'`` and ``'bags'``, each ``{name: {'n', 'marked'}}``, and ``'changed': {name:
    share}``, that of windows of the bags whose pictures were changed. ECE is the expected
    calibration error over ten bins of equal width, a bin is ``[confidence, share right,
    answers]``.

    """
    calibration = pipeline.calibration
    if calibration is None:
        raise ValueError('there is no calibration to check')
    # Without the world: a risk that it makes unknown is not what the confidence is about.
    with _calibration(pipeline, Calibration(Scale())):
        judged = list(_judge(pipeline, 'test', n, lambda done: progress(
            0.7 * done / n, f'{done} of {n} windows of test')))
    known = [one for one in judged if one.report.confidence is not None]
    raw = np.array([one.report.confidence for one in known], np.float64)
    fitted = np.array([calibration.scale(_log(one.report)) for one in known], np.float64)
    right = np.array([one.right for one in known], np.float64)
    found = {
        'n': n, 'model': pipeline.vlm.name, 'keep_ratio': pipeline.config.keep_ratio,
        'right': round(float(np.mean([one.right for one in judged])), 4),
        'without': _errors(raw, right),
        'calibrated': {**_errors(fitted, right), 'bins': reliability(fitted, right)}}
    if calibration.world is not None:
        progress(0.7, 'looking at drives and recordings')
        found.update(_check_world(calibration.world, [one.structures for one in judged], bags))
    return found


def _check_world(world: World, rendered: Sequence[Structure],
                 bags: Sequence[Path]) -> dict[str, Any]:
    drives = {'of the demonstration': make_drive(DEMO_SEED, DEMO_HAZARDS,
                                                 interval_sec=_INTERVAL_SEC)}
    for scene in map(draw_drive, _DRIVES['test']):
        drives[f'{scene.seed}, {scene.look.light}, {scene.look.weather}'] = scene
    bag_windows = {bag.name: list(_bag_windows(bag)) for bag in bags}
    every = [window for windows in bag_windows.values() for window in windows]
    return {
        'marked': _marked(world, rendered)['marked'],
        'drives': {name: _marked(world, _windows(_filmed(scene, _SIZES[-1], _QUALITY)))
                   for name, scene in drives.items()},
        'bags': {name: _marked(world, (window[_AS_IT_IS] for window in windows))
                 for name, windows in bag_windows.items()},
        'changed': {name: _marked(world, (window[name] for window in every))['marked']
                    for name in CHANGES if every and name != _AS_IT_IS}}


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
           progress: Callable[[int], None]) -> Iterator[Judged]:
    """Yield a report for each window of a split, and whether it is right."""
    scenes = balanced_scenes(split, n)
    done = 0
    while chunk := list(itertools.islice(scenes, _BATCH)):
        clips = [render_window(scene) for scene in chunk]
        reports = pipeline.describe_batch([
            [Frame(f'scene {scene.seed}', truth.stamp_ns, picture)
             for picture, truth in zip(clip.frames, clip.truths)]
            for scene, clip in zip(chunk, clips)])
        for report, clip in zip(reports, clips):
            found = score(report.answer, clip.window_truth())
            yield Judged(report, found.risk and found.object, _structures(clip.frames))
        pipeline.clear()
        done += len(chunk)
        progress(done)


def _structures(pictures: Iterable[Picture]) -> Structure:
    return np.stack([structure(picture) for picture in pictures])


def _drive_windows(seed: int) -> Iterator[Structure]:
    """Yield windows of a drive, as some camera may have filmed it."""
    rng = np.random.default_rng((seed, 4))
    size = _SIZES[int(rng.integers(len(_SIZES)))]
    quality = int(rng.integers(60, 96)) if rng.random() < 0.7 else None
    windows = _windows(_filmed(draw_drive(seed, _INTERVAL_SEC), size, quality))
    return itertools.islice(windows, 0, None, _DRIVE_STEP)


def _filmed(scene: Scene, size: tuple[int, int], quality: int | None) -> Iterator[Picture]:
    renderer = Renderer(scene, *size)
    for index in range(len(scene.times)):
        picture = renderer.frame(index)
        yield picture if quality is None else _through_jpeg(picture, quality)


def _through_jpeg(rgb: Picture, quality: int) -> Picture:
    return np.ascontiguousarray(through_jpeg(rgb[..., ::-1], quality)[..., ::-1])


def _windows(pictures: Iterable[Picture]) -> Iterator[Structure]:
    """Yield the structures of all windows of a drive."""
    found = _structures(pictures)
    for end in range(FRAMES, len(found) + 1):
        yield found[end - FRAMES:end]


def _marked(world: World, windows: Iterable[Structure]) -> dict[str, Any]:
    """Return how many windows there are, and which share of them is outside."""
    outside = [not world.holds(one) for one in windows]
    return {'n': len(outside),
            'marked': round(float(np.mean(outside)), 4) if outside else None}


def _noisy(picture: Picture) -> Picture:
    noise = np.random.default_rng(0).normal(0.0, 10.0, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _blurred(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), picture.shape[1] / WIDTH), np.uint8)


_AS_IT_IS = 'none'
#: What the check of a recording should not depend on.
CHANGES: dict[str, Callable[[Picture], Picture]] = {
    _AS_IT_IS: lambda picture: picture,
    'noise of standard deviation 10': _noisy,
    f'blurred by 1/{WIDTH} of the width': _blurred,
    'a quarter as bright': lambda picture: picture // 4,
    'half the contrast': lambda picture: picture // 2 + 64,
    'JPEG of quality 30': lambda picture: _through_jpeg(picture, 30),
}


def _bag_windows(bag: Path) -> Iterator[dict[str, Structure]]:
    """Yield the structures of each window of a recording for each of the changes."""
    buffer = FrameBuffer()
    known: dict[tuple[str, int], list[Structure]] = {}
    for frame in until_damage(read_frames(bag), Counter()):
        if buffer.push(frame) not in ('admitted', 'gap', 'back'):
            continue
        try:
            picture = frame.rgb()
        except FrameError:
            buffer.discard(frame)
            continue
        known[frame.key] = [structure(change(picture)) for change in CHANGES.values()]
        window = buffer.window()
        if window is not None:
            yield {name: np.stack([known[one.key][index] for one in window])
                   for index, name in enumerate(CHANGES)}


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
    if 'marked' not in result:
        return
    yield '\n## Pictures that the model does not know\n'
    yield ('A window that looks unlike those of the training gets the risk `unknown`; its text is '
           'kept and marked.')
    yield ('Compared is how far brightness changes in one direction from place to place. It is '
           'fitted to rendered windows\nalone.\n')
    yield '| windows | number | marked |\n|---|---|---|'
    yield f'| rendered, split `test` | {result["n"]} | {result["marked"]:.1%} |'
    for kind, title in (('drives', 'all of the rendered drive {}'), ('bags', 'recording `{}`')):
        for name, found in result[kind].items():
            marked = '-' if found['marked'] is None else f'{found["marked"]:.1%}'
            yield f'| {title.format(name)} | {found["n"]} | {marked} |'
    if result['changed']:
        yield '\nOf all windows of the recordings, changed:\n'
        yield '| change | marked |\n|---|---|'
        for name, marked in result['changed'].items():
            yield f'| {name} | {marked:.1%} |'


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
