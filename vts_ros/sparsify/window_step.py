# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The window step: key frame, token scores and the order in which tokens are kept."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn, Tensor
from torch.nn import functional

#: Names in the exported graph.
WINDOW_INPUTS = ('saliency', 'embedding', 'row_weights', 'column_weights', 'neighbours',
                 'budget', 'reserves', 'previous_key', 'hysteresis', 'alpha')
WINDOW_OUTPUTS = ('key', 'frame_scores', 'score', 'order')


class WindowResult(NamedTuple):
    """
    What the window step knows of T frames with N tokens each.

    Attributes
    ----------
    key
        int64 [1], index of the key frame.
    frame_scores
        float32 [T], mean saliency of each frame.
    score
        float32 [T, N].
    order
        int32 [T * N], a permutation of all tokens; its first `budget` entries are the tokens to
        keep, ascending.

    """

    key: Tensor
    frame_scores: Tensor
    score: Tensor
    order: Tensor


class WindowStep(nn.Module):
    """
    Choose the key frame and rank the tokens of a window; has no weights.

    Everything that a user may set is an input, so that one graph serves all settings. Shapes of
    the outputs do not depend on the budget: engines want them fixed.

    Parameters
    ----------
    by_counting
        Find the rank of a token by counting those that come before it instead of sorting; the
        result is the same. For runtimes whose sort has a limit or promises no order of equal
        values, such as TensorRT. Work grows with the square of the tokens, which a GPU does not
        mind and a CPU does.

    """

    def __init__(self, by_counting: bool = False) -> None:
        super().__init__()
        self._order = _order_by_counting if by_counting else _order_by_sorting

    def forward(self, saliency: Tensor, embedding: Tensor, row_weights: Tensor,
                column_weights: Tensor, neighbours: Tensor, budget: Tensor, reserves: Tensor,
                previous_key: Tensor, hysteresis: Tensor, alpha: Tensor) -> WindowResult:
        """
        Run the step.

        Parameters
        ----------
        saliency, embedding
            Maps of the proposal network, float32 [T, h, w] and [T, C, h, w].
        row_weights, column_weights
            Share of each token row and column in each map row and column, float32 [rows, h] and
            [columns, w].
        neighbours
            Tokens of the key frame each token is compared with, int64 [rows, columns, K].
        budget
            Tokens to keep, int64 [1].
        reserves
            Tokens of the key frame and of the newest frame, by saliency, that are kept whatever
            the scores are; together at most the budget, int64 [2].
        previous_key
            Index of the key frame so far, -1 for none, int64 [1].
        hysteresis
            Share by which another frame must beat the key frame so far, float32 [1].
        alpha
            Weight of novelty against saliency, float32 [1].

        """
        frames = saliency.shape[0]
        frame = torch.arange(frames, device=saliency.device).unsqueeze(0)

        frame_scores = saliency.mean(dim=(1, 2))
        bonus = 1.0 + hysteresis * (frame == previous_key).to(torch.float32)
        # Two dimensions, because TensorRT knows no ArgMax over a vector.
        key = (frame_scores * bonus).argmax(dim=1)

        salient = resample_saliency(saliency, row_weights, column_weights).flatten(1)
        cells = functional.normalize(
            row_weights @ embedding @ column_weights.transpose(0, 1), dim=1).flatten(2)
        similarity = _similarity(cells, key, neighbours.flatten(0, 1))
        score = alpha * (1.0 - similarity) + (1.0 - alpha) * salient

        reserve = torch.where(frame == key, reserves[:1], torch.zeros_like(frame))
        newest = torch.where(frame == frames - 1, reserves[1:], torch.zeros_like(frame))
        reserve = torch.maximum(reserve, newest).transpose(0, 1)
        order = self._order(salient, score, reserve, budget)
        return WindowResult(key, frame_scores, score, order)


def _order_by_sorting(salient: Tensor, score: Tensor, reserve: Tensor, budget: Tensor) -> Tensor:
    """
    Return the order of ``WindowResult`` by three sorts; salient, score [T, N], reserve [T, 1].

    The most salient tokens of each frame as far as they are reserved, then all others by score.
    The former come first by an infinite score: an offset would cost bits and so make ties.
    """
    frames, tokens = score.shape
    total = frames * tokens
    place = torch.arange(tokens, device=score.device).expand(frames, tokens)
    rank = torch.zeros_like(place).scatter(1, _descending(salient), place)
    ranked = _descending(torch.where(rank < reserve, torch.inf, score).flatten())
    dropped = torch.arange(total, device=score.device) >= budget
    ascending = torch.sort(torch.where(dropped, ranked + total, ranked), stable=True).values
    return torch.where(dropped, ascending - total, ascending).to(torch.int32)


def _order_by_counting(salient: Tensor, score: Tensor, reserve: Tensor, budget: Tensor) -> Tensor:
    """Return the same as ``_order_by_sorting`` from comparisons of all tokens with all."""
    frames, tokens = score.shape
    index = torch.arange(frames * tokens, device=score.device)
    rank = _before(torch.where(_before(salient) < reserve, torch.inf, score).flatten())
    kept = (rank < budget).to(torch.int32)
    # How many tokens with a lower index are kept: the place of a token that is kept, and what the
    # others move down by.
    kept_before = _count((index.unsqueeze(0) < index.unsqueeze(1)) & (kept == 1).unsqueeze(0))
    place = torch.where(kept == 1, kept_before, budget + index - kept_before)
    return torch.zeros_like(kept).scatter(0, place, index.to(torch.int32))


def _before(values: Tensor) -> Tensor:
    """Return for each value of a row [..., N] how many come before it from large to small."""
    index = torch.arange(values.shape[-1], device=values.device)
    mine, other = values.unsqueeze(-1), values.unsqueeze(-2)
    return _count((other > mine)
                  | ((other == mine) & (index.unsqueeze(0) < index.unsqueeze(1))))


def _count(flags: Tensor) -> Tensor:
    """Return the number of true flags over the last axis, int64."""
    return flags.to(torch.int32).sum(dim=-1, dtype=torch.int32).to(torch.int64)


def resample_saliency(saliency: Tensor, row_weights: Tensor, column_weights: Tensor) -> Tensor:
    """
    Return the power mean of order 4 of the saliency over the area of each token.

    A token that covers four cells of which one is salient keeps 71 % of it; the mean would keep
    25 % and lose small objects, the maximum would let a token that a salient cell only touches
    win over one that is full of it. Squares and roots are exactly rounded, so runtimes agree.
    """
    power = saliency * saliency
    power = row_weights @ (power * power) @ column_weights.transpose(0, 1)
    return power.sqrt().sqrt()


def _similarity(cells: Tensor, key: Tensor, neighbours: Tensor) -> Tensor:
    """Return the best cosine [T, N] with the key frame; cells [T, C, N], neighbours [N, K]."""
    key_cells = cells.index_select(0, key).squeeze(0).transpose(0, 1)
    near = key_cells.index_select(0, neighbours.flatten()).reshape(*neighbours.shape, -1)
    return (near @ cells.permute(2, 1, 0)).amax(dim=1).transpose(0, 1)


def _descending(values: Tensor) -> Tensor:
    """Return positions over the last axis from large to small, equal ones in their order."""
    return torch.sort(values, descending=True, stable=True).indices
