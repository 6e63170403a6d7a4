# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Published ways to choose visual tokens without training, at an exact budget.

Written from the formulas. All look at the visual tokens of the language model, as it gets them,
and none at the question. They take the evidence of a window and the number of tokens to keep, and
return exactly so many positions, or None where the method cannot keep so few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.rivals.ranking import apportion, ascending, cosine, evenly, ranked, unit
from vts_ros.sparsify.selection import WindowFeatures

#: Frames of a group in DyCoke; the first of each is kept whole.
_GROUP = 4
#: Widths of the kernels of VidCom2, and the temperature of its shares of the frames.
_WIDTHS = 2.0 ** np.arange(-3, 2)
_TEMPERATURE = 0.01
#: Tokens per picture that DART compares with.
_PIVOTS = 4


def evs(evidence: WindowFeatures, budget: int) -> NDArray[np.int32] | None:
    """
    Keep the first frame and whatever differs most from the frame before it.

    Efficient Video Sampling (EVS, 2025, arXiv 2510.14624): a token is as new as 1 minus its
    cosine with the same place in the frame before, all later frames are ranked together, the
    first frame is whole. The method prunes a rate; here the ranking is cut at the budget. None
    below the tokens of one frame, which EVS never goes below.
    """
    return _changes(evidence.tokens, budget)


def evs_newest(evidence: WindowFeatures, budget: int) -> NDArray[np.int32] | None:
    """
    Keep the newest frame and whatever differs most from the frame after it.

    :func:`evs` with time reversed, so that the anchor is the newest frame instead of the oldest.
    """
    frames, tokens = evidence.tokens.shape[:2]
    keep = _changes(evidence.tokens[::-1], budget)
    if keep is None:
        return None
    frame, place = np.divmod(keep, tokens)
    return ascending((frames - 1 - frame) * tokens + place)


def _changes(tokens: NDArray[np.float32], budget: int) -> NDArray[np.int32] | None:
    per_frame = tokens.shape[1]
    if budget < per_frame:
        return None
    change = 1.0 - cosine(tokens[1:], tokens[:-1])
    anchor = np.full((1, per_frame), np.inf, np.float32)
    return ascending(ranked(np.concatenate([anchor, change]))[:budget])


def dycoke(evidence: WindowFeatures, budget: int) -> NDArray[np.int32] | None:
    """
    Keep every fourth frame, and equally many tokens of the others: those that differ most.

    Temporal token merging of DyCoke (2024, arXiv 2411.15024), which drops and does not merge: in
    groups of four frames the second and third are compared with the first, the fourth with the
    third, at the same place. The method prunes a rate of each frame; here the frames that are
    not whole share what the whole ones leave of the budget, those whose next token differs more
    give one more if it does not divide. The first frame of an incomplete group is whole too.
    None where the whole frames alone are more than the budget.
    """
    frames = len(evidence.tokens)
    return _anchored(evidence.tokens, budget, [
        None if frame % _GROUP == 0 else frame - (2 if frame % _GROUP == 2 else 1)
        for frame in range(frames)])


def dtd(evidence: WindowFeatures, budget: int) -> NDArray[np.int32] | None:
    """
    Keep the first frame, and equally many tokens of the others: those that differ most.

    Differential token dropping of TimeChat-Online (2025, arXiv 2504.17343), in features and with
    a share per frame: tokens are compared with the same place in the frame before, dropped or
    not. The method drops a rate of each frame; here the later frames share what the first leaves
    of the budget, those whose next token differs more give one more if it does not divide. None
    below the tokens of one frame.
    """
    frames = len(evidence.tokens)
    return _anchored(evidence.tokens, budget, [None, *range(frames - 1)])


def _anchored(tokens: NDArray[np.float32], budget: int,
              references: Sequence[int | None]) -> NDArray[np.int32] | None:
    """Keep frames without a reference, and of the others what least resembles theirs."""
    per_frame = tokens.shape[1]
    position = np.arange(len(tokens) * per_frame).reshape(len(tokens), per_frame)
    whole = [frame for frame, reference in enumerate(references) if reference is None]
    pairs = [(frame, reference) for frame, reference in enumerate(references)
             if reference is not None]
    rest = budget - len(whole) * per_frame
    if rest < 0:
        return None
    kept = [position[whole].ravel()]
    if pairs:
        others, compared = map(list, zip(*pairs))
        similarity = cosine(tokens[others], tokens[compared])
        kept.append(position[others].ravel()[evenly(-similarity)[:rest]])
    return ascending(np.concatenate(kept))


def vidcom2(evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
    """
    Keep what is unlike the middle of the video and of its frame; unusual frames keep more.

    Video Compression Commander (VidCom2, 2025, arXiv 2505.14454): on the half of the channels
    that varies least, tokens of length 1 are compared with the mean of the video and with that
    of their frame by a sum of Gaussian kernels; the share of a frame grows with a softmax over
    how unlike the video its tokens are. The shares are rounded to the budget by the largest
    remainder, a frame that would get more than all of its tokens leaves the rest to others.
    """
    frames, tokens, width = evidence.tokens.shape
    variance = evidence.tokens.reshape(-1, width).var(axis=0, dtype=np.float64)
    steady = np.argsort(variance, kind='stable')[:max(1, width // 2)]
    features = unit(evidence.tokens[..., steady])
    to_video = _closeness(features, features.mean(axis=(0, 1), keepdims=True))
    to_frame = _closeness(features, features.mean(axis=1, keepdims=True))
    unusual = -to_video.mean(axis=1) / _TEMPERATURE
    weight = np.exp(unusual - unusual.max())
    weight /= weight.sum()
    wanted = budget / frames * (1.0 + weight - weight.mean())
    quota = apportion(wanted, tokens, budget)
    # Rounded, so that repeated tokens are ties.
    score = -(to_video + to_frame).astype(np.float32)
    return ascending(np.concatenate([
        frame * tokens + ranked(score[frame])[:quota[frame]] for frame in range(frames)]))


def _closeness(features: NDArray[np.float64],
               centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sum of Gaussian kernels [T, N] of the distance to a centre."""
    square = ((features - centre) ** 2).sum(axis=-1)
    result: NDArray[np.float64] = np.exp(-square[..., None] / (2.0 * _WIDTHS)).sum(axis=-1)
    return result


def dart(evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
    """
    Keep a few pivots of every frame and what least resembles any of them.

    Duplication-aware reduction of tokens (DART, 2025, arXiv 2502.11494), on the embeddings as
    TensorRT Edge-LLM does and not on keys within the language model: pivots are the tokens of
    the largest L1 norm, four per picture, and a token is a duplicate by its largest cosine with a
    pivot of its picture. Pictures share the budget equally, those whose next token is less of a
    duplicate give one more if it does not divide; with fewer than four tokens per picture, the
    largest pivots alone are kept.
    """
    tokens = evidence.tokens
    norm = np.abs(tokens).sum(axis=-1, dtype=np.float64).astype(np.float32)
    pivots = np.argsort(-norm, axis=1, kind='stable')[:, :_PIVOTS]
    duplicate = cosine(
        tokens[:, :, None], np.take_along_axis(tokens, pivots[..., None], axis=1)[:, None]
    ).max(axis=2)
    score = -duplicate
    # Above any cosine, and among themselves by their norm.
    largest = max(float(norm.max()), 1e-12)
    np.put_along_axis(score, pivots, 2.0 + np.take_along_axis(norm, pivots, 1) / largest, axis=1)
    return ascending(evenly(score)[:budget])
