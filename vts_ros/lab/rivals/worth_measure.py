# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A measure of a token's worth from all that is known of it before the language model reads it.

The visual token itself, as the language model gets it, and what the proposal network sees there,
through a small network that was fitted to what hiding the token really changed. It looks at each
token by itself, so that it costs microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.lab.rivals import temporal
from vts_ros.sparsify import Sparsifier, WindowFeatures

#: What is known of a token beside itself, in this order.
KNOWN = ('saliency', 'beside the most salient of its frame', 'beside the most salient here',
         'mean saliency of its frame', 'novelty', 'recency', 'whether it is of the newest frame',
         'row', 'distance from the middle')
_HIDDEN, _DROPPED, _STEPS, _RATE, _DECAY = 32, 0.3, 300, 3e-3, 0.1


def inputs_of(sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
    """Return what is known of each token, float32 [T, N, len(KNOWN) + D]."""
    salient = temporal.importance(sparsifier, evidence)
    frames, count = salient.shape
    rows, columns = evidence.grid
    row, column = np.divmod(np.arange(count), columns)

    def everywhere(values: NDArray[np.generic]) -> NDArray[np.float32]:
        return np.broadcast_to(values, (frames, count)).astype(np.float32)

    known = np.stack([
        salient, salient / salient.max(axis=1, keepdims=True).clip(1e-6),
        salient / salient.max(axis=0).clip(1e-6), everywhere(salient.mean(axis=1)[:, None]),
        temporal.novelty(sparsifier, evidence),
        everywhere(np.linspace(0.0, 1.0, frames)[:, None]),
        everywhere((np.arange(frames) == frames - 1)[:, None]),
        everywhere((row + 0.5) / rows), everywhere(np.abs((column + 0.5) / columns - 0.5)),
    ], axis=-1)
    return np.concatenate([known, evidence.tokens], axis=-1, dtype=np.float32)


class WorthMeasure(nn.Module):
    """
    Says how surely a token is among the most important tenth of its window.

    Parameters
    ----------
    mean, deviation
        Of each input, float32 [inputs].

    """

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer('mean', mean)
        self.register_buffer('deviation', deviation)
        self.layers = nn.Sequential(
            nn.Dropout(_DROPPED), nn.Linear(len(mean), _HIDDEN), nn.GELU(), nn.Dropout(_DROPPED),
            nn.Linear(_HIDDEN, 1))

    def forward(self, known: Tensor) -> Tensor:
        """Return logits [...] of what is known of tokens [..., inputs]."""
        scaled = (known - self.get_buffer('mean')) / self.get_buffer('deviation')
        found: Tensor = self.layers(scaled)[..., 0]
        return found

    @torch.inference_mode()
    def scores(self, sparsifier: Sparsifier, evidence: WindowFeatures) -> NDArray[np.float32]:
        """Return the logits [T, N] of a window."""
        known = torch.from_numpy(inputs_of(sparsifier, evidence))
        return np.asarray(self(known).numpy(), np.float32)


def fit_measure(known: Sequence[NDArray[np.float32]], is_top: Sequence[NDArray[np.bool_]],
                seed: int = 0) -> WorthMeasure:
    """
    Fit a measure to windows.

    Parameters
    ----------
    known
        Of each window, [T, N, inputs].
    is_top
        Which of its tokens are in the most important tenth, [T, N].

    """
    torch.manual_seed(seed)
    inputs = torch.from_numpy(np.concatenate(
        [part.reshape(-1, part.shape[-1]) for part in known]))
    wanted = torch.from_numpy(np.concatenate([part.ravel() for part in is_top])).float()
    measure = WorthMeasure(inputs.mean(dim=0), inputs.std(dim=0).clamp(min=1e-6))
    optimizer = torch.optim.AdamW(measure.parameters(), _RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(measure(inputs), wanted).backward()
        optimizer.step()
    return measure.eval()
