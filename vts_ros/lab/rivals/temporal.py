# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Scores of visual tokens that look at how a window changes over time.

Each returns float32 [T, N], higher for a token that is more worth keeping, from the evidence of a
window. Written from formulas and descriptions; what is not published in detail is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.rivals.known_motion import known_flow, RENDERED, unexplained
from vts_ros.lab.rivals.motion import carried, grey, motion_between, residual_motion
from vts_ros.lab.rivals.ranking import cosine, unit
from vts_ros.sparsify import Sparsifier, WindowFeatures
from vts_ros.sparsify.selector import SEARCH_RADIUS
from vts_ros.sparsify.token_grid import area_weights, neighbours

Scores = NDArray[np.float32]

#: Temperature of the attention by which a token is explained from other frames.
_TEMPERATURE = 0.05
#: Known motion of tokens is looked at for every so many pixels.
_FINE_PX = 4
#: What the oldest frame counts for beside the newest, where recency does.
_OLDEST = 0.5


def importance(sparsifier: Sparsifier, evidence: WindowFeatures) -> Scores:
    """Return the saliency alone, as the window step resamples it to tokens."""
    return _ranked(sparsifier, evidence, 0.0)


def novelty(sparsifier: Sparsifier, evidence: WindowFeatures) -> Scores:
    """Return how unlike the key frame a token is, without saliency."""
    return _ranked(sparsifier, evidence, 1.0)


def _ranked(sparsifier: Sparsifier, evidence: WindowFeatures, alpha: float) -> Scores:
    chosen = sparsifier.variant(alpha=alpha).choose(evidence.proposals, evidence.grid, 1)
    return np.asarray(chosen.score, np.float32)


def own_motion(sparsifier: Sparsifier, evidence: WindowFeatures) -> Scores:
    """
    Return novelty and saliency after the motion of the own car is taken out.

    A token is new if it is unlike what the key frame shows where optical flow carries it, and what
    still moves after the own motion counts as salient.
    """
    frames, grid = evidence.frames, evidence.grid
    key = sparsifier.choose(evidence.proposals, grid, 1).key
    pictures = [grey(frame) for frame in frames]
    new = np.stack([
        1.0 - cosine(tokens, tokens if place == key else carried(
            evidence.tokens[key], motion_between(pictures[place], pictures[key]).flow, grid))
        for place, tokens in enumerate(evidence.tokens)])
    salient = np.maximum(importance(sparsifier, evidence), residual_motion(frames, grid))
    return np.asarray(0.5 * new + 0.5 * salient, np.float32)


def known_novelty(sparsifier: Sparsifier, evidence: WindowFeatures) -> Scores:
    """
    Return the score that ships after the motion that the car says of itself is taken out.

    A token is new if it is unlike all that the key frame shows around the place where a flat road
    and the yaw carry it. While the car stands, this is the score that ships.

    Raises
    ------
    ValueError
        If the window has no path.

    """
    grid, path = evidence.grid, _path(evidence)
    key = sparsifier.choose(evidence.proposals, grid, 1).key
    height, width = evidence.frames.shape[1:3]
    cells = np.stack([_cells(proposal.embedding, grid) for proposal in evidence.proposals])
    near = neighbours(*grid, SEARCH_RADIUS).reshape(grid[0] * grid[1], -1)
    new = []
    for place, mine in enumerate(cells):
        flow = known_flow(path[place], path[key], RENDERED,
                          (height // _FINE_PX, width // _FINE_PX))
        seen = cells[key] if place == key else carried(cells[key], flow, grid)
        new.append(1.0 - cosine(mine[:, None], seen[near]).max(axis=1))
    return np.asarray(0.5 * np.stack(new) + 0.5 * importance(sparsifier, evidence), np.float32)


def _cells(embedding: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return an embedding [C, h, w] as the window step resamples it to tokens, [N, C]."""
    weights = [area_weights(tokens, cells) for tokens, cells in zip(grid, embedding.shape[1:])]
    mean = weights[0] @ embedding @ weights[1].T
    return np.asarray(mean.reshape(len(embedding), -1).T, np.float32)


def known_residual(sparsifier: Sparsifier, evidence: WindowFeatures) -> Scores:
    """
    Return saliency and, added to it, what moves other than the car says that it does.

    Raises
    ------
    ValueError
        If the window has no path.

    """
    left = unexplained(evidence.frames, _path(evidence), RENDERED, evidence.grid)
    return np.asarray(importance(sparsifier, evidence) + left, np.float32)


def _path(evidence: WindowFeatures) -> NDArray[np.float64]:
    if evidence.path is None:
        raise ValueError('known motion needs the path of the car')
    return evidence.path


def volatility(evidence: WindowFeatures) -> Scores:
    """
    Return how much a place changes over the window, more for newer frames.

    After what ST-Prune (2026, arXiv 2604.19145) says of motion volatility and temporal recency,
    as a score of each token; its selection for diversity is left out.
    """
    tokens = unit(evidence.tokens)
    change = 1.0 - (tokens[1:] * tokens[:-1]).sum(axis=-1) if len(tokens) > 1 \
        else np.zeros((1, tokens.shape[1]))
    recency = np.linspace(_OLDEST, 1.0, len(tokens))[:, None]
    return np.asarray(recency * change.mean(axis=0), np.float32)


def uniqueness(evidence: WindowFeatures) -> Scores:
    """
    Return the distance of a token to the nearest one of the whole window.

    The score by which LookWhen (2026, arXiv 2605.06809) ranks tokens, on the embeddings.
    """
    tokens = unit(evidence.tokens.reshape(-1, evidence.tokens.shape[-1]))
    like = tokens @ tokens.T
    np.fill_diagonal(like, -1.0)
    return np.asarray((1.0 - like.max(axis=1)).reshape(evidence.tokens.shape[:2]), np.float32)


def attention(evidence: WindowFeatures) -> Scores:
    """
    Return how badly the other frames explain a token.

    One layer of attention across frames, without weights: queries are the embeddings of a frame,
    keys and values those of all others; what the mean that it takes does not have in common with
    the token is not redundant.
    """
    tokens = unit(evidence.tokens)
    frames, count, width = tokens.shape
    if frames < 2:
        return np.ones((frames, count), np.float32)
    found = []
    for place in range(frames):
        others = np.delete(tokens, place, axis=0).reshape(-1, width)
        like = tokens[place] @ others.T / _TEMPERATURE
        weight = np.exp(like - like.max(axis=1, keepdims=True))
        explained = weight @ others / weight.sum(axis=1, keepdims=True)
        found.append(1.0 - cosine(tokens[place], explained))
    return np.stack(found).astype(np.float32)


def change(evidence: WindowFeatures) -> Scores:
    """Return the change since the frame before, as EVS ranks it; the first frame is all new."""
    tokens = evidence.tokens
    later = 1.0 - cosine(tokens[1:], tokens[:-1])
    return np.concatenate([np.ones_like(tokens[:1, :, 0]), later]).astype(np.float32)
