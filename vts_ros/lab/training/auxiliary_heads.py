# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Heads that read the dense targets off a token while a model is trained; dropped afterwards.

A token covers several cells, and each cell has its own targets: a token must not forget the
child in one of them over the car in another.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.lab.scenes.scene_truth import (
    CURVES,
    LABELS,
    LIGHTS,
    MOTIONS,
    ROADS,
    TRUE_LEVELS,
    WEATHERS,
    WindowTruth,
)
from vts_ros.lab.training.cell_targets import CellTargets, DETAILS
from vts_ros.lab.training.loop import Losses

#: Facts about a whole picture, and what they can be.
_SCENE = {'light': LIGHTS, 'weather': WEATHERS, 'road': ROADS, 'curve': CURVES,
          'lanes': (1, 2, 3, 4, 5, 6)}
#: Most cells are background; that of an actor counts four times as much.
_LABEL_WEIGHTS = torch.tensor([0.5] + [2.0] * len(LABELS))
#: Cells of the risk object are fewer still.
_RISK_WEIGHT = torch.tensor(4.0)


class _Cells(nn.Module):
    """Splits what a linear map reads off a token by cell and by name."""

    def __init__(self, width: int, cells: int, sizes: dict[str, int]) -> None:
        super().__init__()
        self._sizes, self._cells = sizes, cells
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, cells * sum(sizes.values()))

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Read tokens [n, width]; values are [n, cells, size]."""
        read = self.head(self.norm(tokens.float())).view(len(tokens), self._cells, -1)
        return dict(zip(self._sizes, read.split(list(self._sizes.values()), -1)))


def _tensor(field: NDArray[np.generic], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(field)).to(like.device)


class SeeingHeads(nn.Module):
    """What one frame shows: kinds, boxes, distances and lamps of things, and the whole scene."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.cells = _Cells(width, cells, {
            'label': 1 + len(LABELS), 'box': 4, 'distance': 1, 'lateral': 1,
            'detail': len(DETAILS), 'risk': 1})
        self.scene_head = nn.Linear(width, sum(map(len, _SCENE.values())))

    def losses(self, tokens: Tensor, targets: CellTargets, windows: list[WindowTruth]) -> Losses:
        """
        Return the losses.

        Parameters
        ----------
        tokens
            Visual tokens of B frames [B, N, width].
        targets
            Fields [B * N, cells, ...].
        windows
            Truth of the window that each frame is of.

        """
        said = self.cells(tokens.flatten(0, 1))
        label = _tensor(targets.label, tokens)
        there = label > 0
        wrong = functional.cross_entropy(said['label'].flatten(0, 1), label.flatten(),
                                         weight=_LABEL_WEIGHTS.to(label.device),
                                         reduction='none')
        # What an answer will be about weighs three times as much as what is by the way.
        stakes = 1.0 + 2.0 * _tensor(targets.risk, tokens).flatten()
        losses = {
            'label': 2.0 * (stakes * wrong).mean(),
            'risk': 0.5 * functional.binary_cross_entropy_with_logits(
                said['risk'][..., 0], _tensor(targets.risk, tokens),
                pos_weight=_RISK_WEIGHT.to(label.device)),
            'scene': 0.15 * self._scene_loss(tokens, windows)}
        if there.any():
            losses |= {
                'box': 6.0 * functional.smooth_l1_loss(
                    said['box'][there].sigmoid(), _tensor(targets.box, tokens)[there], beta=0.03),
                # Half the logarithm, of the size of the others.
                'distance': 1.5 * functional.smooth_l1_loss(
                    said['distance'][there][:, 0], 0.5 * _tensor(targets.distance, tokens)[there],
                    beta=0.1),
                'lateral': functional.smooth_l1_loss(
                    said['lateral'][there][:, 0], _tensor(targets.lateral, tokens)[there],
                    beta=0.1),
                'lamps': 0.5 * functional.binary_cross_entropy_with_logits(
                    said['detail'][there], _tensor(targets.detail, tokens)[there])}
        return losses

    def _scene_loss(self, tokens: Tensor, windows: list[WindowTruth]) -> Tensor:
        said = self.scene_head(self.cells.norm(tokens.float()).mean(1))
        losses = []
        for (name, values), logits in zip(
                _SCENE.items(), said.split([len(values) for values in _SCENE.values()], -1)):
            known = [index for index, window in enumerate(windows)
                     if getattr(window, name) is not None]
            wanted = [values.index(getattr(windows[index], name)) for index in known]
            if known:
                losses.append(functional.cross_entropy(
                    logits[known], torch.tensor(wanted, device=logits.device)))
        return torch.stack(losses).sum() if losses else tokens.new_zeros(())


class Outlook(NamedTuple):
    """
    What the newest frame of each window is about, on the cells of n visual tokens.

    Attributes
    ----------
    level
        int64 [n, cells], level of risk, 0 where the risk object is not; negative in all other
        frames, where it does not count.
    ttc
        float32 [n, cells], natural logarithm of the seconds to the collision with the risk
        object; NaN where it is not or there is no conflict.
    window
        int64 [n], which window a token of the newest frame is of; negative in other frames.
    speed_mps
        float32 [windows], speed of the ego vehicle.

    """

    level: NDArray[np.int64]
    ttc: NDArray[np.float32]
    window: NDArray[np.int64]
    speed_mps: NDArray[np.float32]


class UnderstandingHeads(nn.Module):
    """What only the frames before can tell: how things move, and which is the risk and why."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.cells = _Cells(width, cells, {
            'label': 1 + len(LABELS), 'motion': 1 + len(MOTIONS), 'approach': 2, 'distance': 1,
            'risk': 1, 'level': len(TRUE_LEVELS), 'ttc': 1})
        self.speed_head = nn.Linear(width, 1)

    def losses(self, tokens: Tensor, targets: CellTargets, outlook: Outlook) -> Losses:
        """
        Return the losses.

        Parameters
        ----------
        tokens
            States of n visual tokens [n, width].
        targets
            Fields [n, cells, ...].
        outlook
            Of the same tokens.

        """
        said = self.cells(tokens)
        label, approach = _tensor(targets.label, tokens), _tensor(targets.approach, tokens)
        there, moved = label > 0, ~approach[..., 0].isnan()
        losses = {
            'kind': 0.5 * functional.cross_entropy(
                said['label'].flatten(0, 1), label.flatten(),
                weight=_LABEL_WEIGHTS.to(label.device)),
            'where': functional.binary_cross_entropy_with_logits(
                said['risk'][..., 0], _tensor(targets.risk, tokens),
                pos_weight=_RISK_WEIGHT.to(label.device))}
        if there.any():
            losses['range'] = functional.smooth_l1_loss(
                said['distance'][there][:, 0], 0.5 * _tensor(targets.distance, tokens)[there],
                beta=0.1)
        if moved.any():
            stakes = 1.0 + 3.0 * _tensor(targets.risk, tokens)[moved]
            losses |= {
                'motion': (stakes * functional.cross_entropy(
                    said['motion'][moved], _tensor(targets.motion, tokens)[moved],
                    reduction='none')).mean(),
                'approach': 4.0 * (stakes[:, None] * functional.smooth_l1_loss(
                    said['approach'][moved], approach[moved], beta=0.1,
                    reduction='none')).mean()}
        return losses | self._outlook(tokens, said, outlook)

    def _outlook(self, tokens: Tensor, said: dict[str, Tensor], outlook: Outlook) -> Losses:
        losses = {}
        level, ttc = _tensor(outlook.level, tokens), _tensor(outlook.ttc, tokens)
        for name, some in (('newest', level >= 0), ('level', level > 0)):
            if some.any():
                losses[name] = functional.cross_entropy(said['level'][some], level[some])
        timed = ~ttc.isnan()
        if timed.any():
            losses['ttc'] = 2.0 * functional.smooth_l1_loss(
                said['ttc'][timed][:, 0], ttc[timed], beta=0.1)
        window = _tensor(outlook.window, tokens)
        newest = window >= 0
        if newest.any():
            said_mps = 10.0 + 10.0 * self.speed_head(self.cells.norm(tokens[newest].float()))[:, 0]
            # Each token says it for itself, so that it is known wherever it is needed.
            losses['speed'] = 0.2 * functional.smooth_l1_loss(
                0.1 * said_mps, 0.1 * _tensor(outlook.speed_mps, tokens)[window[newest]],
                beta=0.1)
        return losses
