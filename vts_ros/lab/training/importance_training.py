# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Teach the saliency of the proposal network how important a fitted measure says each token is.

The measure knows the visual token and the place of its frame in the window, and was fitted to what
hiding a token really changes; the network sees one frame alone, before any token is there. It
begins with the shipped weights, and ends half-way between these and what it has learned. Backbone
and embedding stay as they are, bit for bit, so that only the saliency changes, and what the
backbone says of each frame is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.errors import VtsError
from vts_ros.lab.evaluation.difficulty import object_area
from vts_ros.lab.evaluation.proposal_recall import (
    find_rate,
    object_tokens,
    RecallTarget,
    REPORT,
)
from vts_ros.lab.evaluation.redundancy import is_top
from vts_ros.lab.evaluation.score_recall import evidence_of
from vts_ros.lab.evaluation.worth_windows import to_fit
from vts_ros.lab.recordings import fingerprint
from vts_ros.lab.rivals.worth_measure import fit_measure, inputs_of, WorthMeasure
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.onnx_export import write_frame, write_window_step
from vts_ros.paths import model_path
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Proposal
from vts_ros.sparsify.proposal_network import load_net, MAP_SIZE, ProposalNet, SALIENCY_PARTS
from vts_ros.sparsify.token_grid import area_weights
from vts_ros.sparsify.window_step import resample_saliency

#: Number of the first window in the split ``train``: neither models nor measures learned from it.
_FIRST = 910_000_000
#: The last windows are held out.
_HOLDOUT_SHARE = 0.1
BUDGETS = (0.6, 0.4, 0.2, 0.1, 0.05)
#: So near to 0 and 1 a saliency may come in the loss.
_EDGE = 1e-4

Progress = Callable[[float, str], None]


class ImportanceError(VtsError, ValueError):
    """Nothing can be learned like this; the message says why in one line."""


class Lesson(NamedTuple):
    """
    A window as it is learned from.

    Attributes
    ----------
    features
        float16 [T, C, h, w], what the backbone says of its frames.
    measure
        float32 [T, rows, columns], logits of the measure.
    object
        bool [T, N], tokens of the risk object.
    area
        float32 [T], how much of the picture it covers in each frame.

    """

    features: NDArray[np.float16]
    measure: NDArray[np.float32]
    object: NDArray[np.bool_]
    area: NDArray[np.float32]


def learn_importance(pipeline: Pipeline, out: Path, work: Path, worth: Path, windows: int = 1200,
                     fitted: int = 63, steps: int = 600, batch: int = 32, seed: int = 0,
                     progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Fit the measure, let it judge rendered windows, and train the saliency on what it says.

    Parameters
    ----------
    pipeline
        With the shipped proposal network, and the language model that the tokens are for.
    out
        Folder for the graphs and ``REPORT``.
    work
        Folder for the judged windows and the checkpoint; the same call goes on.
    worth
        Folder for the worth of tokens, see :func:`vts_ros.lab.evaluation.worth_windows.to_fit`.
    windows, fitted
        Rendered windows of the split ``train`` to learn from, and to fit the measure to.
    steps, batch
        Optimiser steps, and frames in each.
    seed
        Of the fit and of the order of the data.

    Returns
    -------
    ``{'n', 'train', 'settings', 'shipped': rates, 'trained': rates, 'whole way': rates}``, rates
    as of ``find_rate`` on the windows held out; used is what the measure says is important. The
    whole way is what is learned, trained is :func:`half_way` to it.

    Raises
    ------
    ImportanceError
        If there are too few windows to hold some out.
    ValueError
        If the folder is of a run that learned from something else.

    """
    held = round(_HOLDOUT_SHARE * windows)
    if not 0 < held < windows:
        raise ImportanceError(f'{windows} windows are too few to learn from and to hold some out')
    shipped = model_path('proposal/frame.onnx')
    net, before = load_net(shipped), load_net(shipped)
    about = {'model': pipeline.vlm.name, 'fitted': fitted, 'seed': seed,
             'start': fingerprint(shipped)}
    lessons = _lessons(pipeline, before, about, work / 'importance', worth, windows, progress)
    train, held_out = lessons[:-held], lessons[-held:]
    torch.manual_seed(seed)
    _train(net, before, train, work / 'importance.pt', Schedule(
        steps, learning_rate=1e-3, warmup=min(50, steps // 4)), batch, {
            **about, 'windows': windows})
    write_frame(net, out / 'frame.onnx')
    # Read again, with batch norms folded as in the network that it began with.
    whole_way = load_net(out / 'frame.onnx')
    net = half_way(before, whole_way)
    write_frame(net, out / 'frame.onnx')
    write_window_step(out)
    report: dict[str, Any] = {
        'n': held, 'train': len(train), 'settings': {
            'bags': [], 'model': pipeline.vlm.name, 'targets': 'importance', 'windows': windows,
            'fitted': fitted, 'steps': steps, 'batch': batch, 'seed': seed, 'anew': False}}
    grid = train[0].measure.shape[1], train[0].measure.shape[2]
    for name, judged in (('shipped', before), ('trained', net), ('whole way', whole_way)):
        report[name] = find_rate(pipeline.sparsifier, (_wanted(judged, lesson)
                                                       for lesson in held_out), grid, BUDGETS)
    (out / REPORT).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return report


def half_way(before: ProposalNet, after: ProposalNet) -> ProposalNet:
    """
    Return a network whose weights are the mean of those of two.

    Training on rendered pictures alone forgets some of what the shipped network knows of real
    roads. Half of the way (WiSE-FT, arXiv 2109.01903) brings most of what is learned.
    """
    old, new = before.state_dict(), after.state_dict()
    found = ProposalNet().eval()
    found.load_state_dict({name: 0.5 * (value + new[name]) for name, value in old.items()})
    return found


def targets(measure: NDArray[np.floating], salient: NDArray[np.floating]
            ) -> NDArray[np.float32]:
    """
    Return what the saliency of tokens should be, of the same shape as both.

    The ranks are those of the measure, the values those of the saliency so far: it goes on to
    weigh as much beside novelty. Frames of each age are ranked by themselves, because the network
    does not know how old a frame is.

    Parameters
    ----------
    measure, salient
        What the measure says of tokens, and how salient they are so far, [windows, T, ...].

    """
    found = np.empty(measure.shape, np.float32)
    for age in range(measure.shape[1]):
        order = np.argsort(measure[:, age], axis=None, kind='stable')
        part = np.empty(order.size, np.float32)
        part[order] = np.sort(salient[:, age], axis=None)
        found[:, age] = part.reshape(measure[:, age].shape)
    return found


def token_saliency(saliency: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the saliency of tokens [B, rows, columns] from that of cells [B, h, w]."""
    rows, columns = (torch.tensor(area_weights(tokens, cells))
                     for tokens, cells in zip(grid, MAP_SIZE))
    return resample_saliency(saliency, rows, columns)


def _lessons(pipeline: Pipeline, net: ProposalNet, about: dict[str, Any], folder: Path,
             worth: Path, windows: int, progress: Progress) -> list[Lesson]:
    """Return windows from the disk, and judge those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder / 'settings.json', about)
    paths = [folder / f'{number:05d}.npz' for number in range(windows)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        known, tops = [], []
        for window in to_fit(pipeline, about['fitted'], worth):
            known.append(inputs_of(pipeline.sparsifier, window.evidence))
            tops.append(is_top(window.divergence))
            progress(0.0, f'{len(known)} of {about["fitted"]} windows to fit to')
        measure = fit_measure(known, tops, about['seed'])
        for done, (number, lesson) in enumerate(_judged(pipeline, net, measure, missing), 1):
            partial = paths[number].with_suffix('.part.npz')
            np.savez(partial, **lesson._asdict())
            partial.replace(paths[number])
            progress(done / len(missing), f'{done} of {len(missing)} windows judged')
    return [_read(path) for path in paths]


def _claim(path: Path, about: dict[str, Any]) -> None:
    """Note what windows are judged by, or see that it is the same as before."""
    if path.exists() and json.loads(path.read_text(encoding='utf-8')) != about:
        raise ImportanceError(f'{path.parent} is of another measure, model or network: remove it '
                              'or take another folder')
    path.write_text(json.dumps(about), encoding='utf-8')


def _read(path: Path) -> Lesson:
    with np.load(path) as found:
        return Lesson(**{name: found[name] for name in Lesson._fields})


@torch.inference_mode()
def _judged(pipeline: Pipeline, net: ProposalNet, measure: WorthMeasure,
            numbers: Sequence[int]) -> Iterator[tuple[int, Lesson]]:
    for number in numbers:
        clip = render_window(next(balanced_scenes('train', 1, _FIRST + number)))
        evidence = evidence_of(pipeline, clip)
        yield number, Lesson(
            net.features(torch.from_numpy(clip.frames)).numpy().astype(np.float16),
            measure.scores(pipeline.sparsifier, evidence).reshape(
                len(clip.frames), *evidence.grid),
            object_tokens(clip.truths, evidence.grid), object_area(clip.truths))


def _train(net: ProposalNet, before: ProposalNet, lessons: Sequence[Lesson], checkpoint: Path,
           schedule: Schedule, batch: int, about: dict[str, Any]) -> None:
    features = torch.from_numpy(np.concatenate([lesson.features for lesson in lessons]))
    measure = np.stack([lesson.measure for lesson in lessons])
    grid = measure.shape[2], measure.shape[3]
    with torch.inference_mode():
        salient = torch.cat([token_saliency(_saliency(before, some), grid)
                             for some in features.split(64)]).numpy()
    wanted = torch.from_numpy(targets(measure, salient.reshape(measure.shape))).flatten(0, 1)

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([about['seed'], step])
        picks = torch.from_numpy(rng.integers(len(features), size=batch))
        found = token_saliency(_saliency(net, features[picks]), grid)
        return {'saliency': functional.binary_cross_entropy(
            found.clamp(_EDGE, 1.0 - _EDGE), wanted[picks])}

    fit([nn.ModuleList([net.get_submodule(name) for name in SALIENCY_PARTS])], losses, schedule,
        checkpoint, 'saliency', about)


def _saliency(net: ProposalNet, features: Tensor) -> Tensor:
    return torch.sigmoid(net.raw_of(features.float()).saliency_logits)


@torch.inference_mode()
def _wanted(net: ProposalNet, lesson: Lesson) -> RecallTarget:
    """Return what a window held out ought to keep."""
    raw = net.raw_of(torch.from_numpy(lesson.features).float())
    maps = zip(torch.sigmoid(raw.saliency_logits).numpy(),
               functional.normalize(raw.embedding, dim=1).numpy())
    chance = 1.0 / (1.0 + np.exp(-lesson.measure.reshape(len(lesson.measure), -1)))
    return RecallTarget(tuple(Proposal(*map_) for map_ in maps), lesson.area, lesson.object,
                        chance.astype(np.float32))
