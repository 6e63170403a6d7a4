# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a visual token is worth: how the answer changes when it alone is hidden.

Hiding is dropping it from the prompt, which is the same as masking it (the tests of pruning prove
that), so the worth is exact for a model and an answer, and not an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

from vts_ros.errors import VlmError
from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.answers import AFTER_RISK
from vts_ros.vlm.packed_weights import unpack

#: Prompts that are read at once.
_BATCH = 35
#: Tokens of an answer that are looked at, at most: level, object and box of any family are fewer.
_ANSWER_TOKENS = 64
#: Side of the patch of cells that is hidden together.
PATCH = 2


class Worth(NamedTuple):
    """
    What the cells of a window are worth, in nats over the answer's tokens up to its facts.

    Attributes
    ----------
    divergence
        float32 [T, N], Kullback-Leibler divergence of the answer with all tokens from that without
        this one.
    patch
        float32 [T, rows - 1, columns - 1], the same of 2 x 2 cells, by their upper left one.
    loss
        float32 [T, N], how much less likely the right answer is without it; None without a truth.
    gradient
        float32 [T, N], length of the gradient of the answer's loss times the token.

    """

    divergence: NDArray[np.float32]
    patch: NDArray[np.float32]
    loss: NDArray[np.float32] | None
    gradient: NDArray[np.float32]


def worth_of_tokens(vlm: Vlm, prepared: Prepared, frames: int, grid: tuple[int, int],
                    right: str | None = None) -> Worth:
    """
    Hide each cell of a window in turn, and each patch of cells.

    Parameters
    ----------
    prepared
        The prompt with all features.
    frames, grid
        Frames of the window, rows and columns of each.
    right
        The right answer in the form of the model; None where it is not known.

    Raises
    ------
    VlmError
        If the model writes nothing, so that nothing can change.

    """
    written, dense = _dense_answer(vlm, prepared)
    everything, alone = _each_alone(frames, grid)
    patches = [np.delete(everything, cells) for cells in patch_cells(frames, grid)]
    loss = None
    if right is not None:
        expected = brief(right)
        whole = _losses(vlm, prepared, [everything], expected)[0]
        loss = (_losses(vlm, prepared, alone, expected) - whole).reshape(frames, -1)
    return Worth(
        _divergences(vlm, prepared, alone, written, dense).reshape(frames, -1),
        _divergences(vlm, prepared, patches, written, dense).reshape(
            frames, grid[0] - PATCH + 1, grid[1] - PATCH + 1),
        loss, gradient_of_tokens(vlm, prepared, written).reshape(frames, -1))


def divergence_of_tokens(vlm: Vlm, prepared: Prepared, frames: int, grid: tuple[int, int]
                         ) -> NDArray[np.float32]:
    """
    Return the ``divergence`` of :class:`Worth` alone, in a third of the time.

    Raises
    ------
    VlmError
        If the model writes nothing.

    """
    written, dense = _dense_answer(vlm, prepared)
    _, alone = _each_alone(frames, grid)
    return _divergences(vlm, prepared, alone, written, dense).reshape(frames, -1)


def _dense_answer(vlm: Vlm, prepared: Prepared) -> tuple[str, Tensor]:
    """Return what the model writes with all tokens up to its facts, and its logits [S, V]."""
    written = brief(vlm.generate(prepared, max_new_tokens=_ANSWER_TOKENS,
                                 stop_strings=[AFTER_RISK], tokenizer=vlm.tokenizer).text)
    if not len(answer_ids(vlm, written)):
        raise VlmError(f'{vlm.name} writes nothing about a window: no token is worth anything')
    with torch.inference_mode():
        return written, _answer_logits(vlm, prepared, [None], written)[0]


def _each_alone(frames: int, grid: tuple[int, int]
                ) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """Return all tokens of a window, and for each of them all others."""
    everything = np.arange(frames * grid[0] * grid[1], dtype=np.int32)
    return everything, [np.delete(everything, place) for place in everything]


def brief(answer: str) -> str:
    """Return an answer up to its facts: level, object and box."""
    facts, found, _ = answer.partition(AFTER_RISK)
    return facts.rstrip() if found else answer


def patch_cells(frames: int, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Return the cells of all patches of a window, int64 [patches, PATCH * PATCH]."""
    rows, columns = grid
    place = np.arange(frames * rows * columns).reshape(frames, rows, columns)
    parts = [place[:, top:rows - PATCH + 1 + top, left:columns - PATCH + 1 + left]
             for top in range(PATCH) for left in range(PATCH)]
    return np.stack(parts, axis=-1).reshape(-1, PATCH * PATCH)


@torch.inference_mode()
def _divergences(vlm: Vlm, prepared: Prepared, keeps: Sequence[NDArray[np.int32]], answer: str,
                 dense: Tensor) -> NDArray[np.float32]:
    found = []
    for start in range(0, len(keeps), _BATCH):
        pruned = _answer_logits(vlm, prepared, keeps[start:start + _BATCH], answer)
        found.append(functional.kl_div(
            pruned.log_softmax(-1), dense.log_softmax(-1).expand_as(pruned), reduction='none',
            log_target=True).sum(dim=(1, 2)).clamp(min=0.0).cpu())
    return torch.cat(found).numpy().astype(np.float32)


@torch.inference_mode()
def _losses(vlm: Vlm, prepared: Prepared, keeps: Sequence[NDArray[np.int32]], answer: str
            ) -> NDArray[np.float32]:
    found = []
    for start in range(0, len(keeps), _BATCH):
        some = keeps[start:start + _BATCH]
        logits = _answer_logits(vlm, prepared, some, answer)
        wanted = answer_ids(vlm, answer).to(logits.device).expand(len(some), -1)
        found.append(functional.cross_entropy(
            logits.transpose(1, 2), wanted, reduction='none').sum(dim=1).cpu())
    return torch.cat(found).numpy().astype(np.float32)


def gradient_of_tokens(vlm: Vlm, prepared: Prepared, answer: str) -> NDArray[np.float32]:
    """
    Return the length of gradient times token [all tokens] of the loss of an answer.

    The baseline of STTS: the first-order estimate of what hiding the token would change. Features
    of deeper layers stay as they are.
    """
    unpack(vlm.model)
    tokens = prepared.tokens.detach().clone().requires_grad_(True)
    some = Prepared(prepared.layout, tokens, prepared.deepstack)
    with torch.enable_grad():
        logits = _answer_logits(vlm, some, [None], answer)
        wanted = answer_ids(vlm, answer).to(logits.device)[None]
        functional.cross_entropy(logits.transpose(1, 2), wanted, reduction='sum').backward()
    assert tokens.grad is not None
    visual = torch.isin(prepared.layout.image_slots, prepared.layout.visual_slots)
    found = (tokens.grad * tokens.detach()).norm(dim=-1)[visual.to(tokens.device)]
    return np.asarray(found.float().cpu().numpy(), np.float32)


def answer_ids(vlm: Vlm, answer: str) -> Tensor:
    """Return the tokens [S] of an answer."""
    ids = vlm.tokenizer(answer, add_special_tokens=False)['input_ids']
    return torch.tensor(ids, dtype=torch.int64)


def _answer_logits(vlm: Vlm, prepared: Prepared, keeps: Sequence[NDArray[np.int32] | None],
                   answer: str) -> Tensor:
    """Return the logits [len(keeps), S, V] by which each token of an answer is chosen."""
    length = len(answer_ids(vlm, answer))
    inputs = vlm.batch([prepared] * len(keeps), keeps, [answer] * len(keeps))
    del inputs['labels']
    # After the answer comes the token that ends it; its logits and those after it do not count.
    logits = vlm.model(**inputs, use_cache=False, logits_to_keep=length + 2).logits
    return logits[:, :length].float()
