# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The sparsifier: the key frame and the visual tokens worth keeping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from vts_ros.engines import Engine, make_engine
from vts_ros.errors import SparsifierError
from vts_ros.rgb import check_rgb
from vts_ros.sparsify.compiled_steps import make_engines
from vts_ros.sparsify.frame_budgets import moved
from vts_ros.sparsify.selection import (
    Proposal,
    Selection,
    share_of,
    token_budget,
)
from vts_ros.sparsify.token_grid import area_weights, neighbours

#: Weight of novelty against saliency; radius, in tokens, of what counts as the same place in the
#: key frame; share by which another frame must be more salient to become the key frame. No
#: parameters of the node: docs/method.md has what other values were measured to give.
ALPHA, SEARCH_RADIUS, HYSTERESIS = 0.5, 1, 0.05

#: How much the moments of frames matter, float64 [T], 0 to 1; None where all matter alike.
FrameWeights = NDArray[np.float64] | None


class Sparsifier:
    """
    Choose tokens by what the proposal network sees: the method of this project.

    The frame with the highest mean saliency is the key frame. It has a share of the budget, and so
    has the newest frame; both spend it on what is most salient. The rest goes to the tokens of any
    frame that are salient or show what the key frame does not.

    Parameters
    ----------
    frame_engine, window_engine
        The two exported graphs; by default the shipped ones in ONNX Runtime on the CPU.
    alpha
        Weight of novelty against saliency, 0 to 1.
    search_radius
        Tokens around the same place in the key frame that count as the same place, so that what
        moved a little is not new. 0 for the same place only.
    hysteresis
        Share by which the saliency of another frame must exceed that of the key frame so far.
    key_share, newest_share
        Shares of the budget for the key frame and for the newest frame, at most 1 together. With
        a key share of 1, a budget of one frame is spent on one moment, in which nothing moves.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    EngineError, FileNotFoundError
        If the shipped graphs cannot be loaded.

    """

    def __init__(self, frame_engine: Engine | None = None, window_engine: Engine | None = None, *,
                 alpha: float = ALPHA, search_radius: int = SEARCH_RADIUS,
                 hysteresis: float = HYSTERESIS,
                 key_share: float = 0.25, newest_share: float = 0.25) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise SparsifierError(f'alpha must be 0 to 1, not {alpha}')
        if search_radius < 0:
            raise SparsifierError(f'search_radius must not be negative, not {search_radius}')
        if not 0.0 <= hysteresis < float('inf'):
            raise SparsifierError(f'hysteresis must not be negative, not {hysteresis}')
        if not (key_share >= 0.0 and newest_share >= 0.0 and key_share + newest_share <= 1.0):
            raise SparsifierError('key_share and newest_share must not be negative and at most 1 '
                             f'together, not {key_share} and {newest_share}')
        if frame_engine is None or window_engine is None:
            shipped = make_engines()
            frame_engine = frame_engine or shipped.frame
            window_engine = window_engine or shipped.window
        self._frame, self._window = frame_engine, window_engine
        self._radius, self._shares = search_radius, (key_share, newest_share)
        self._alpha = np.array([alpha], np.float32)
        self._hysteresis = np.array([hysteresis], np.float32)
        self._settings_of: dict[tuple[tuple[int, int], tuple[int, int]], dict[str, Any]] = {}

    @classmethod
    def load(cls, folder: Path) -> Sparsifier:
        """Return a sparsifier with ``frame.onnx`` and ``window.onnx`` of a folder."""
        return cls(*(make_engine('onnxruntime', folder / f'{graph}.onnx')
                     for graph in ('frame', 'window')))

    @property
    def engine(self) -> str:
        """Return the name of the engine that looks at the frames."""
        return self._frame.name

    @property
    def hysteresis(self) -> float:
        """Return the relative gain in saliency that a new key frame needs."""
        return float(self._hysteresis[0])

    def variant(self, *, alpha: float | None = None, search_radius: int | None = None,
                hysteresis: float | None = None,
                shares: tuple[float, float] | None = None) -> Sparsifier:
        """Return a sparsifier with other settings and the same graphs."""
        return Sparsifier(
            self._frame, self._window,
            alpha=float(self._alpha[0]) if alpha is None else alpha,
            search_radius=self._radius if search_radius is None else search_radius,
            hysteresis=self.hysteresis if hysteresis is None else hysteresis,
            key_share=(shares or self._shares)[0], newest_share=(shares or self._shares)[1])

    @property
    def info(self) -> dict[str, str]:
        """Return precision, version, build and the like of both engines."""
        return {**{f'engine_{name}': value for name, value in self._frame.info.items()},
                **{f'engine_window_{name}': value for name, value in self._window.info.items()
                   if value != self._frame.info.get(name)}}

    def reserves(self, budget: int, tokens: int) -> tuple[int, int]:
        """Return the numbers of tokens reserved for the key frame and for the newest frame."""
        key_share, newest_share = self._shares
        return (min(tokens, math.ceil(key_share * budget)),
                min(tokens, math.floor(newest_share * budget)))

    def propose(self, rgb: NDArray[np.uint8] | Tensor) -> Proposal:
        """
        Look at one frame.

        Parameters
        ----------
        rgb
            uint8 [H, W, 3]; a tensor that is on the GPU of the engine stays there.

        Raises
        ------
        FrameError
            If it is not one.

        """
        frame = rgb if isinstance(rgb, Tensor) else check_rgb(rgb)
        outputs = self._frame.run({'frame': to_device(frame[None], self._frame.device)})
        return Proposal(outputs['saliency'][0], outputs['embedding'][0])

    def wait(self) -> None:
        """Wait until a GPU has done what it was given, to measure how long that takes."""
        for device in {self._frame.device, self._window.device} - {'cpu'}:
            torch.cuda.synchronize(device)

    def select(self, proposals: Sequence[Proposal], grid: tuple[int, int], keep_ratio: float,
               previous_key: int | None = None, weights: FrameWeights = None) -> Selection:
        """Choose the tokens of a window; see ``TokenSelector`` and :meth:`choose`."""
        return self.choose(proposals, grid, token_budget(
            len(proposals), grid, keep_ratio, previous_key), previous_key, weights)

    def select_each(self, proposals: Sequence[Proposal], grids: Sequence[tuple[int, int]],
                    keep_ratio: float, previous_key: int | None = None,
                    weights: FrameWeights = None, cameras: Sequence[str] | None = None
                    ) -> Selection:
        """
        Choose the tokens of a window of one or of several cameras.

        What is new in a frame is what the key frame of its own camera does not show: another one
        looks elsewhere, so that all of its tokens would count as new. The tokens of all cameras
        are then ranked together, with no share for anything: what matters may be in a single one.
        The key frame is the most salient of theirs.

        Parameters
        ----------
        proposals, grids
            One per frame, oldest first.
        keep_ratio, previous_key, weights
            As in :meth:`select`.
        cameras
            The camera of each frame; of one if not given. Frames of several sizes are of several.

        Raises
        ------
        ValueError
            If an argument is out of its range.

        """
        names = cameras or [''] * len(grids)
        groups: dict[Any, list[int]] = {}
        for index, (name, proposal, grid) in enumerate(zip(names, proposals, grids, strict=True)):
            groups.setdefault((name, grid, tuple(proposal.saliency.shape)), []).append(index)
        if len(groups) < 2:
            return self.select(proposals, grids[0], keep_ratio, previous_key, weights)
        # Of frames of one size this would be the budget: here only its checks are of interest.
        token_budget(len(grids), grids[0], keep_ratio, previous_key)
        tokens = [rows * columns for rows, columns in grids]
        scores: list[Any] = [None] * len(tokens)
        frame_scores = np.zeros(len(tokens), np.float32)
        keys = []
        for members in groups.values():
            # Whatever the budget is: only scores and key frame are of interest.
            chosen = self._choose([proposals[index] for index in members], grids[members[0]], 1,
                                  members.index(previous_key) if previous_key in members else None,
                                  self._alpha)
            frame_scores[members] = chosen.frame_scores
            keys.append(members[chosen.key])
            for index, score in zip(members, chosen.score):
                scores[index] = score
        bonus = 1.0 + float(self._hysteresis[0])
        key = max(keys, key=lambda index: float(frame_scores[index]) * (
            bonus if index == previous_key else 1.0))
        score = np.concatenate(scores)
        best = np.argsort(-score, kind='stable')[:share_of(sum(tokens), keep_ratio)]
        selection = Selection(key, frame_scores, np.sort(best).astype(np.int32), score)
        if weights is None or np.ptp(weights) == 0.0:
            return selection
        return selection._replace(keep=self._moved(selection, groups.values(), tokens, weights))

    @staticmethod
    def _moved(selection: Selection, groups: Iterable[Sequence[int]], tokens: Sequence[int],
               weights: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return what is kept where more is for the moments that matter, camera by camera."""
        begins = np.cumsum([0, *tokens])
        keep = []
        for members in groups:
            cells = tokens[members[0]]
            own = np.stack([selection.score[begins[index]:begins[index] + cells]
                            for index in members])
            kept = [np.flatnonzero(np.isin(np.arange(begins[index], begins[index] + cells),
                                           selection.keep)) + place * cells
                    for place, index in enumerate(members)]
            # Nothing is reserved, so that nothing is chosen by saliency alone.
            found = moved(Selection(0, selection.frame_scores[members],
                                    np.concatenate(kept).astype(np.int32), own),
                          own, [0] * len(members), weights[members]).keep
            place, cell = np.divmod(found, cells)
            keep.append(begins[np.array(members)[place]] + cell)
        return np.sort(np.concatenate(keep)).astype(np.int32)

    def choose(self, proposals: Sequence[Proposal], grid: tuple[int, int], budget: int,
               previous_key: int | None = None, weights: FrameWeights = None) -> Selection:
        """
        Choose so many tokens of a window; otherwise as :meth:`select`.

        Parameters
        ----------
        weights
            float64 [T], how much the moment of each frame matters, 0 to 1: more of the budget is
            for those that matter more, see :mod:`vts_ros.sparsify.frame_budgets`. Where they are
            alike, as without any, the window step alone decides.

        """
        selection = self._choose(proposals, grid, budget, previous_key, self._alpha)
        if weights is None or len(weights) < 2 or np.ptp(weights) == 0.0:
            return selection
        key_reserve, newest_reserve = self.reserves(budget, grid[0] * grid[1])
        reserves = [0] * len(proposals)
        reserves[selection.key] = key_reserve
        reserves[-1] = max(reserves[-1], newest_reserve)
        # Without novelty the score of the same step is the saliency of the tokens.
        salient = self._choose(proposals, grid, budget, previous_key, np.zeros(1, np.float32))
        return moved(selection, salient.score, reserves, weights)

    def _choose(self, proposals: Sequence[Proposal], grid: tuple[int, int], budget: int,
                previous_key: int | None, alpha: NDArray[np.float32]) -> Selection:
        if len({proposal.embedding.shape for proposal in proposals}) > 1:
            raise SparsifierError('proposals of different shapes in one window')
        device = self._window.device
        outputs = self._window.run({
            'saliency': stack_on_device([proposal.saliency for proposal in proposals], device),
            'embedding': stack_on_device([proposal.embedding for proposal in proposals], device),
            **self._settings(grid, proposals[0].saliency.shape),
            'alpha': to_device(alpha, device),
            'budget': to_device(np.array([budget]), device),
            'reserves': to_device(np.array(self.reserves(budget, grid[0] * grid[1])), device),
            'previous_key': to_device(
                np.array([-1 if previous_key is None else previous_key]), device)})
        key, frame_scores, order, score = (
            to_device(outputs[name], 'cpu') for name in ('key', 'frame_scores', 'order', 'score'))
        return Selection(int(key[0]), frame_scores, order[:budget], score)

    def _settings(self, grid: tuple[int, int], maps: tuple[int, int]) -> dict[str, Any]:
        """Return the inputs that stay the same from window to window, where the engine is."""
        if (found := self._settings_of.get((grid, maps))) is None:
            values: dict[str, NDArray[Any]] = {
                'row_weights': area_weights(grid[0], maps[0]),
                'column_weights': area_weights(grid[1], maps[1]),
                'neighbours': neighbours(*grid, self._radius),
                'hysteresis': self._hysteresis}
            found = self._settings_of[grid, maps] = {
                name: to_device(value, self._window.device) for name, value in values.items()}
        return found


def to_device(value: NDArray[Any] | Tensor, device: str) -> Any:
    """Return a value as a NumPy array (`cpu`) or as a tensor on a device; copied if need be."""
    if device == 'cpu':
        return value.cpu().numpy() if isinstance(value, Tensor) else value
    if isinstance(value, Tensor):
        return value.to(device)
    # From pinned memory the host need not wait for the copy.
    pinned = torch.empty(value.shape, dtype=torch.from_numpy(np.empty(0, value.dtype)).dtype,
                         pin_memory=True)
    np.copyto(pinned.numpy(), value)
    return pinned.to(device, non_blocking=True)


def stack_on_device(values: Sequence[NDArray[Any] | Tensor], device: str) -> Any:
    """Stack values of the same shape on a device; see :func:`to_device`."""
    if device == 'cpu':
        return np.stack([to_device(value, device) for value in values])
    return torch.stack([to_device(value, device) for value in values])
