# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A measure of a token's worth with a memory: a ConvGRU over the cells of the proposal network.

The state of each cell goes from frame to frame, so that the score can depend on what was there
before; nothing moves it with the picture. Like :mod:`vts_ros.lab.rivals.worth_measure`, it is
fitted to what hiding a token really changed. With its state emptied before every frame it is the
control: the same network, trained in the same way, that sees one frame at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.lab.rivals.worth_measure import inputs_of, KNOWN
from vts_ros.sparsify import Sparsifier, WindowFeatures
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS

#: Channels of a cell: the embedding and the saliency. Channels of the state.
_INPUTS, _STATE = EMBEDDING_CHANNELS + 1, 16
_DROPPED, _EPOCHS, _BATCH, _RATE, _DECAY = 0.3, 40, 16, 3e-3, 0.1


class RecurrentMeasure(nn.Module):
    """
    Says how surely a token is among the most important tenth of its window.

    Parameters
    ----------
    mean, deviation
        Of what is known of a token beside its cells, float32 [len(KNOWN)].
    remembers
        Whether the state goes from frame to frame.

    """

    def __init__(self, mean: Tensor, deviation: Tensor, remembers: bool = True) -> None:
        super().__init__()
        self.remembers = remembers
        self.register_buffer('mean', mean)
        self.register_buffer('deviation', deviation)
        self.gates = nn.Conv2d(_INPUTS + _STATE, 2 * _STATE, 3, padding=1)
        self.candidate = nn.Conv2d(_INPUTS + _STATE, _STATE, 3, padding=1)
        self.head = nn.Sequential(
            nn.Dropout(_DROPPED), nn.Linear(2 * _STATE + len(mean), 32), nn.GELU(),
            nn.Dropout(_DROPPED), nn.Linear(32, 1))

    def step(self, cells: Tensor, state: Tensor) -> Tensor:
        """Return the next state [B, S, h, w] from the cells [B, C, h, w] of a frame."""
        update, reset = torch.sigmoid(self.gates(torch.cat([cells, state], 1))).chunk(2, dim=1)
        new = torch.tanh(self.candidate(torch.cat([cells, reset * state], 1)))
        found: Tensor = (1.0 - update) * state + update * new
        return found

    def forward(self, cells: Tensor, known: Tensor, grid: tuple[int, int]) -> Tensor:
        """
        Return logits [B, T, N].

        Parameters
        ----------
        cells
            Saliency and embedding of frames, oldest first, [B, T, C, h, w].
        known
            Of each token, [B, T, N, len(KNOWN)].
        grid
            Rows and columns of tokens.

        """
        empty = torch.zeros_like(cells[:, 0, :1]).repeat(1, _STATE, 1, 1)
        state, seen = empty, []
        for frame in cells.unbind(1):
            state = self.step(frame, state if self.remembers else empty)
            seen.append(torch.cat([functional.adaptive_avg_pool2d(state, grid),
                                   functional.adaptive_max_pool2d(state, grid)], 1))
        tokens = torch.stack(seen, 1).flatten(3).transpose(2, 3)
        scaled = (known - self.get_buffer('mean')) / self.get_buffer('deviation')
        found: Tensor = self.head(torch.cat([tokens, scaled], -1))[..., 0]
        return found

    @torch.inference_mode()
    def scores(self, sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
        """Return the logits [T, N] of a window."""
        known = torch.from_numpy(_known(sparsifier, evidence))[None]
        return np.asarray(self(cells_of(evidence)[None], known, evidence.grid)[0].numpy(),
                          np.float32)


def cells_of(evidence: WindowFeatures) -> Tensor:
    """Return embedding and saliency of the cells of a window, float32 [T, C, h, w]."""
    return torch.stack([torch.cat([
        torch.as_tensor(proposal.embedding), torch.as_tensor(proposal.saliency)[None]]).float()
        for proposal in evidence.proposals])


def _known(sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
    return inputs_of(sparsifier, evidence)[..., :len(KNOWN)]


def fit_recurrent(sparsifier: Sparsifier, windows: Sequence[WindowFeatures],
                  is_top: Sequence[NDArray[np.bool_]], remembers: bool = True, seed: int = 0
                  ) -> RecurrentMeasure:
    """
    Fit a measure to windows of equal length and grid.

    Parameters
    ----------
    is_top
        Which tokens of each window are in the most important tenth, [T, N].
    remembers
        False for the control.

    """
    torch.manual_seed(seed)
    known = torch.from_numpy(np.stack([_known(sparsifier, window) for window in windows]))
    cells = torch.stack([cells_of(window) for window in windows])
    wanted = torch.from_numpy(np.stack(is_top)).float()
    flat = known.reshape(-1, known.shape[-1])
    measure = RecurrentMeasure(flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-6), remembers)
    optimizer = torch.optim.AdamW(measure.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _RATE, total_steps=_EPOCHS * -(-len(windows) // _BATCH))
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(windows)).split(_BATCH):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(
                measure(cells[batch], known[batch], windows[0].grid), wanted[batch]).backward()
            optimizer.step()
            schedule.step()
    return measure.eval()
