# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the proposal network finds: the key frame, and the tokens of the risk object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.difficulty import object_area, risk_object
from vts_ros.lab.scenes.cells import claimed
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.scenes.scene_truth import FrameTruth
from vts_ros.sparsify import Proposal, Sparsifier

#: Beside the graphs of a network that learned from a language model: what it finds in windows
#: held out, and how it was trained.
REPORT = 'holdout.json'
#: Beside those of a network that learned from the truth: how it was trained.
NOTE = 'training.json'
#: A key frame is a hit if it is worth at least this share of the best frame.
HIT_SHARE = 0.9


class RecallTarget(NamedTuple):
    """
    A window, and what ought to be kept of it.

    Attributes
    ----------
    proposals
        What the network sees in its frames.
    worth
        float32 [T], what each frame is worth as the key frame; all 0 where that is open.
    object
        bool [T, N], tokens of the risk object.
    use
        float32 [T, N], how much each token is used; None where that is not known.

    """

    proposals: tuple[Proposal, ...]
    worth: NDArray[np.float32]
    object: NDArray[np.bool_]
    use: NDArray[np.float32] | None = None


def find_rate(sparsifier: Sparsifier, windows: Iterable[RecallTarget], grid: tuple[int, int],
              budgets: Sequence[float]) -> dict[str, Any]:
    """
    Return how often the key frame is a good one, and how much of what is wanted is kept.

    Returns
    -------
    ``{'n', 'key_frame_hit_rate', 'object_recall': {budget: share}, 'use_recall': {budget:
    share}}``: means over the windows that have a good key frame, an object, or a known use; None
    where there is none.

    """
    hits: list[bool] = []
    objects: dict[str, list[float]] = {f'{ratio:g}': [] for ratio in budgets}
    uses: dict[str, list[float]] = {f'{ratio:g}': [] for ratio in budgets}
    n = 0
    for window in windows:
        n += 1
        for index, ratio in enumerate(budgets):
            selection = sparsifier.select(window.proposals, grid, ratio)
            kept = np.zeros(window.object.shape, bool)
            np.put(kept, selection.keep, True)
            # The key frame is the same at every budget.
            if index == 0 and window.worth.max() > 0.0:
                hits.append(bool(window.worth[selection.key] >= HIT_SHARE * window.worth.max()))
            if window.object.any():
                objects[f'{ratio:g}'].append(float(kept[window.object].mean()))
            if window.use is not None and window.use.sum() > 0.0:
                uses[f'{ratio:g}'].append(
                    float((window.use * kept).sum() / window.use.sum()))
    return {'n': n, 'key_frame_hit_rate': mean(hits),
            'object_recall': {ratio: mean(shares) for ratio, shares in objects.items()},
            'use_recall': {ratio: mean(shares) for ratio, shares in uses.items()}}


def rendered(sparsifier: Sparsifier, split: str, n: int, grid: tuple[int, int],
             progress: Callable[[int], None] = lambda windows: None) -> Iterator[RecallTarget]:
    """Yield windows of a split; worth is the visible area of the risk object in each frame."""
    for scene in balanced_scenes(split, n):
        clip = render_window(scene)
        yield RecallTarget(tuple(sparsifier.propose(picture) for picture in clip.frames),
                     object_area(clip.truths), object_tokens(clip.truths, grid))
        progress(1)


def object_tokens(frames: Sequence[FrameTruth], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which tokens of a window show its risk object, bool [T, N]."""
    return np.stack([
        (np.zeros(grid, bool) if actor is None else claimed(actor, *grid)).ravel()
        for actor in risk_object(frames)])


def mean(values: Sequence[float]) -> float | None:
    """Return the mean as it is reported; None of nothing."""
    return round(float(np.mean(values)), 4) if values else None
