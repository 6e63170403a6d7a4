# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames as the models see them, on disk, so that a training looks at each once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from vts_ros.pipeline.guard import Evidence
from vts_ros.sparsify import Proposal
from vts_ros.vlm.families import FrameFeatures


class LookedAt(NamedTuple):
    """
    What is kept of a frame.

    Attributes
    ----------
    evidence
        What a guard measures of it; None where none is wanted.
    picture
        uint8 [H, W, 3], as the vision encoder is given it; None where that does not learn.

    """

    features: FrameFeatures
    proposal: Proposal
    evidence: Evidence | None = None
    picture: NDArray[np.uint8] | None = None


class FrameStore:
    """
    Frames as the vision encoder and the proposal network see them, on disk.

    Parameters
    ----------
    folder
        Where; made if needed.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, recording: str, camera: str, stamp_ns: int) -> Path:
        """Return where a frame is, or is to be."""
        name = hashlib.sha256(f'{recording}|{camera}|{stamp_ns}'.encode()).hexdigest()[:24]
        return self._folder / f'{name}.pt'

    @staticmethod
    def save(path: Path, looked_at: LookedAt) -> None:
        """Write a frame; it is there whole or not at all."""
        features, proposal, evidence, picture = looked_at
        partial = path.with_suffix('.part')
        torch.save({
            'evidence': None if evidence is None else torch.from_numpy(evidence),
            'picture': None if picture is None else torch.tensor(picture),
            'features': {name: _on_cpu(value) for name, value in features._asdict().items()
                         if value is not None},
            'proposal': {name: _on_cpu(torch.as_tensor(value))
                         for name, value in proposal._asdict().items()}},
            partial)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> LookedAt:
        """Read a frame."""
        data = torch.load(path, weights_only=True)
        return LookedAt(
            FrameFeatures(**data['features']),
            Proposal(**{name: value.numpy() for name, value in data['proposal'].items()}),
            *(None if data[name] is None else data[name].numpy()
              for name in ('evidence', 'picture')))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        # Of a part of a larger one all would be written.
        return value.cpu().clone()
    return tuple(map(_on_cpu, value)) if isinstance(value, tuple) and any(
        isinstance(item, Tensor) for item in value) else value
