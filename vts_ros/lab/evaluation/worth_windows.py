# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows whose tokens' worth is measured: rendered ones and those of recordings, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.method_comparison import prepare_window
from vts_ros.lab.evaluation.token_worth import divergence_of_tokens, Worth, worth_of_tokens
from vts_ros.lab.evaluation.window_conditions import conditions_of
from vts_ros.lab.recordings import every_window, name_of
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.sentences import answer
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import WindowFeatures
from vts_ros.vlm import Prepared
from vts_ros.vlm.answers import render

#: The first window of the split ``train`` that measures are fitted to: far from those that
#: trainings take.
_FIRST_FITTED = 900_000_000


class WorthWindow(NamedTuple):
    """
    A window, what its tokens are worth, and what is known about it.

    Attributes
    ----------
    source
        ``val``, ``test``, or the name of a recording.
    conditions
        Group to value, such as ``light`` to ``night``; of a recording, none.

    """

    source: str
    evidence: WindowFeatures
    worth: Worth
    conditions: dict[str, str]


class FitWindow(NamedTuple):
    """
    A window that measures are fitted to.

    Attributes
    ----------
    divergence
        float32 [T, N], see :class:`vts_ros.lab.evaluation.token_worth.Worth`.

    """

    evidence: WindowFeatures
    divergence: NDArray[np.float32]


class _Job(NamedTuple):
    """A window that is still without the worth of its tokens."""

    source: str
    number: int
    evidence: WindowFeatures
    prepared: Prepared
    right: str | None
    conditions: dict[str, str]


def to_fit(pipeline: Pipeline, n: int, folder: Path) -> Iterator[FitWindow]:
    """Yield rendered windows of the split ``train`` that no model was trained on."""
    for number, scene in enumerate(balanced_scenes('train', n, _FIRST_FITTED)):
        window = prepare_window(pipeline, scene)
        evidence = window.evidence
        yield FitWindow(evidence, kept_divergence(
            folder / f'train-{number:04d}.npz', partial(
                divergence_of_tokens, pipeline.vlm, window.prepared, len(evidence.frames),
                evidence.grid)))


def kept_divergence(path: Path, measure: Callable[[], NDArray[np.float32]]
                    ) -> NDArray[np.float32]:
    """Return what a file says, or what is measured now, which it says from then on."""
    if path.exists():
        with np.load(path) as found:
            return np.asarray(found['divergence'], np.float32)
    divergence = measure()
    _write(path, divergence=divergence)
    return divergence


def rendered(pipeline: Pipeline, split: str, n: int, folder: Path) -> Iterator[WorthWindow]:
    """Yield rendered windows of a split, risk levels balanced."""
    for number, scene in enumerate(balanced_scenes(split, n)):
        window = prepare_window(pipeline, scene)
        truth = window.truth
        yield _measured(pipeline, folder, _Job(
            split, number, window.evidence, window.prepared,
            render(answer(truth, np.random.default_rng(truth.seed))), conditions_of(truth)))


def recorded(pipeline: Pipeline, recording: Path, n: int, folder: Path) -> Iterator[WorthWindow]:
    """
    Yield windows of a recording, evenly over its time; whether the model knows its road or not.

    Raises
    ------
    BagError
        If it cannot be read.

    """
    windows = list(every_window(recording))
    for number, place in enumerate(np.linspace(0, len(windows) - 1, min(n, len(windows)))):
        evidence, prepared = prepare_recorded(pipeline, windows[round(place)])
        yield _measured(pipeline, folder, _Job(
            name_of(recording), number, evidence, prepared, None, {}))


def prepare_recorded(pipeline: Pipeline, window: Sequence[Frame]
                     ) -> tuple[WindowFeatures, Prepared]:
    """Compute all that scores and language model need of a window."""
    vlm, prompt = pipeline.vlm, pipeline.prompts.description
    pictures = [frame.rgb() for frame in window]
    features = [vlm.encode(picture) for picture in pictures]
    evidence = WindowFeatures(
        np.stack(pictures), tuple(map(pipeline.sparsifier.propose, pictures)),
        np.stack([step.tokens.float().cpu().numpy() for step in features]), features[0].grid)
    return evidence, vlm.prepare(features, prompt.captions(list(window)), prompt)


def _measured(pipeline: Pipeline, folder: Path, job: _Job) -> WorthWindow:
    """Return a window with its worth, from the disk if it was measured before."""
    path = folder / f'{job.source}-{job.number:04d}.npz'
    worth = _read(path)
    if worth is None:
        worth = worth_of_tokens(pipeline.vlm, job.prepared, len(job.evidence.frames),
                                job.evidence.grid, job.right)
        _write(path, **{name: value for name, value in worth._asdict().items()
                        if value is not None})
    return WorthWindow(job.source, job.evidence, worth, job.conditions)


def _write(path: Path, **arrays: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.part.npz')
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def _read(path: Path) -> Worth | None:
    if not path.exists():
        return None
    with np.load(path) as found:
        return Worth(found['divergence'], found['patch'],
                     found.get('loss'), found['gradient'])
