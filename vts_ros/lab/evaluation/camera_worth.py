# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What tokens of several cameras are worth: in which camera it lies, and which score finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.camera_recall import features_of
from vts_ros.lab.evaluation.generated_page import between
from vts_ros.lab.evaluation.redundancy import area_of, is_top, rank_correlation
from vts_ros.lab.evaluation.token_worth import divergence_of_tokens
from vts_ros.lab.rivals.ranking import cosine
from vts_ros.lab.scenes.several_cameras import camera_windows, CAMERAS, FRONT
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Sparsifier, WindowFeatures

SCORES = ('vts', 'vts-cameras-as-one', 'vts-score-importance')


class _Worth(NamedTuple):
    """What is known of a window."""

    is_ahead: bool
    figures: dict[str, float]


def camera_worth(pipeline: Pipeline, n: int,
                 progress: Callable[[int], None] = lambda windows: None) -> dict[str, Any]:
    """
    Measure what each token of windows of three cameras is worth to the answer.

    Parameters
    ----------
    pipeline
        With a model that knows several cameras.
    n
        Windows of the split ``test`` that have a risk object.
    progress
        Called with the number of windows that were looked at.

    Returns
    -------
    ``{'n', 'ahead', 'aside': {'n', name: [mean, interval]}}``, by the camera with the object.
    ``own`` is the share of the importance in the pictures of that camera, ``newest`` in those of
    the newest moment, ``top`` in a tenth of the tokens; ``same`` and ``any`` are rank correlations
    of importance with the redundancy against the other frames of the same and of any camera; the
    names of ``SCORES`` are areas under the curve for the most important tenth. Intervals are of
    95 %, over windows.

    """
    found: list[_Worth] = []
    windows = camera_windows('test', 4 * n, cameras=CAMERAS)
    for window in windows:
        if len(found) == n:
            break
        if window.camera is None:
            continue
        evidence, _ = features_of(pipeline, window)
        assert evidence.cameras is not None
        worth, tokens = _divergence(pipeline, evidence, window.times)
        own = np.array([camera == window.camera for camera in evidence.cameras])
        total = max(float(worth.sum()), 1e-12)
        same, anywhere = _redundancy(tokens, evidence.cameras)
        figures = {
            'own': float(worth[own].sum()) / total,
            'newest': float(worth[-len(CAMERAS):].sum()) / total,
            'top': float(worth[is_top(worth)].sum()) / total,
            'same': rank_correlation(worth, same), 'any': rank_correlation(worth, anywhere),
            **{name: area_of(score, worth)
               for name, score in _scores(pipeline.sparsifier, evidence).items()}}
        found.append(_Worth(window.camera == FRONT, figures))
        progress(len(found))
    return {'n': len(found), **{
        part: _means([one.figures for one in found if one.is_ahead == is_ahead])
        for part, is_ahead in (('ahead', True), ('aside', False))}}


def _divergence(pipeline: Pipeline, evidence: WindowFeatures, times: Sequence[float]
                ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the worth of the tokens [T, N] and their embeddings [T, N, D]."""
    vlm, cameras = pipeline.vlm, evidence.cameras or ()
    moments = np.repeat(times, len(CAMERAS))
    frames = [Frame(camera, round(t * 1e9), picture)
              for camera, t, picture in zip(cameras, moments, evidence.frames, strict=True)]
    features = [vlm.encode(frame.rgb()) for frame in frames]
    prompt = pipeline.prompts.description.seen_by(sorted(set(cameras)))
    prepared = vlm.prepare(features, prompt.captions(frames), prompt)
    return (divergence_of_tokens(vlm, prepared, len(frames), evidence.grid),
            np.stack([step.tokens.float().cpu().numpy() for step in features]))


def _redundancy(tokens: NDArray[np.float32], cameras: Sequence[str]
                ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the largest cosine at the same place in another frame of the same, of any camera."""
    same, anywhere = [], []
    for place, mine in enumerate(tokens):
        alike = {other: cosine(mine, tokens[other]) for other in range(len(tokens))
                 if other != place}
        anywhere.append(np.max(list(alike.values()), axis=0))
        same.append(np.max([value for other, value in alike.items()
                            if cameras[other] == cameras[place]], axis=0))
    return np.stack(same), np.stack(anywhere)


def _scores(sparsifier: Sparsifier, evidence: WindowFeatures) -> dict[str, NDArray[np.float32]]:
    frames, cells = len(evidence.frames), evidence.grid[0] * evidence.grid[1]
    grids = [evidence.grid] * frames
    salient = sparsifier.variant(alpha=0.0)
    found = (sparsifier.select_each(evidence.proposals, grids, 0.5, cameras=evidence.cameras),
             sparsifier.select_each(evidence.proposals, grids, 0.5),
             salient.select_each(evidence.proposals, grids, 0.5, cameras=evidence.cameras))
    return {name: selection.score.reshape(frames, cells)
            for name, selection in zip(SCORES, found, strict=True)}


def _means(figures: Sequence[dict[str, float]]) -> dict[str, Any]:
    if not figures:
        return {'n': 0}
    bootstrap = Bootstrap(len(figures))
    values = {name: np.array([one[name] for one in figures]) for name in figures[0]}
    return {'n': len(figures), **{
        name: [round(float(some.mean()), 4), list(bootstrap.mean(some))]
        for name, some in values.items()}}


def worth_section(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a page says of a result."""
    yield ('\nWhat a token is worth to the answer of the adapter ([redundancy.md](redundancy.md) '
           f'says how that is measured): {result["n"]} windows\nof three cameras of the split '
           '`test` with a risk object, by the camera that shows it best. Shares of the importance '
           'in percent;\nrank correlation with redundancy, against frames of the same camera and '
           'of any; area under the curve for the most\nimportant tenth.\n')
    rows = {'in the pictures of that camera': ('own', 100.0), 'in the newest moment':
            ('newest', 100.0), 'in a tenth of the tokens': ('top', 100.0),
            'correlation with redundancy, same camera': ('same', 1.0),
            'correlation with redundancy, any camera': ('any', 1.0),
            **{f'AUC of `{name}`': (name, 1.0) for name in SCORES}}
    parts = {'ahead': 'object ahead', 'aside': 'object at a side'}
    yield '| | ' + ' | '.join(f'{title} (n={result[part]["n"]})'
                              for part, title in parts.items()) + ' |'
    yield '|---' * (1 + len(parts)) + '|'
    for title, (name, scale) in rows.items():
        yield f'| {title} | ' + ' | '.join(
            _cell(result[part].get(name), scale) for part in parts) + ' |'


def _cell(found: Sequence[Any] | None, scale: float) -> str:
    if found is None:
        return '-'
    if scale == 100.0:
        return between(found[0], found[1], '.0f')
    return f'{found[0]:.2f} [{found[1][0]:.2f}, {found[1][1]:.2f}]'
