# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The channel of the importance that a sensor of range fills."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.errors import SparsifierError
from vts_ros.sparsify.selection import Proposal

#: How much a cell matters at most by range alone. Of what was tried, more costs recall
#: (docs/senses.md).
WEIGHT = 0.25


def with_closeness(proposal: Proposal, closeness: NDArray[np.float32] | None,
                   weight: float = WEIGHT) -> Proposal:
    """
    Return a proposal in which a cell matters by what is seen there or by how close it is.

    The probabilistic sum of both, ``1 - (1 - saliency) (1 - weight closeness)``: what the network
    sees is not lost for what it cannot see.

    Parameters
    ----------
    closeness
        float32 [h, w] of the maps of the proposal, 0 to 1; None where nothing is known, and then
        the proposal is the same object.
    weight
        Of the closeness, 0 to 1.

    Raises
    ------
    SparsifierError
        If it is of another size.

    """
    if closeness is None:
        return proposal
    saliency = proposal.saliency
    if closeness.shape != tuple(saliency.shape):
        raise SparsifierError(f'closeness of {closeness.shape}, but maps of '
                              f'{tuple(saliency.shape)}')
    close: NDArray[np.float32] | torch.Tensor = (weight * closeness).astype(np.float32)
    if isinstance(saliency, torch.Tensor):
        close = torch.from_numpy(close).to(saliency.device, saliency.dtype)
    return proposal._replace(saliency=saliency + (1.0 - saliency) * close)
