# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video token sparsification: the key frame and the visual tokens worth keeping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vts_ros.engines import Engine, make_engine
from vts_ros.frames import check_rgb
from vts_ros.models import model_path
from vts_ros.sparsify.grids import area_weights, neighbours
from vts_ros.sparsify.types import Evidence, Proposal, Selection, token_budget, TokenSelector

__all__ = ['Evidence', 'Proposal', 'Selection', 'Sparsifier', 'TokenSelector', 'token_budget']


class Sparsifier:
    """
    Choose tokens by what the proposal network sees: the method of this project.

    The frame with the highest mean saliency is the key frame and is kept whole; of the other
    frames those tokens are kept that are salient or show what the key frame does not.

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

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    EngineError, FileNotFoundError
        If the shipped graphs cannot be loaded.

    """

    def __init__(self, frame_engine: Engine | None = None, window_engine: Engine | None = None, *,
                 alpha: float = 0.5, search_radius: int = 1, hysteresis: float = 0.05) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f'alpha must be 0 to 1, not {alpha}')
        if search_radius < 0:
            raise ValueError(f'search_radius must not be negative, not {search_radius}')
        if not 0.0 <= hysteresis < float('inf'):
            raise ValueError(f'hysteresis must not be negative, not {hysteresis}')
        self._frame = frame_engine or _shipped('frame')
        self._window = window_engine or _shipped('window')
        self._radius = search_radius
        self._alpha = np.array([alpha], np.float32)
        self._hysteresis = np.array([hysteresis], np.float32)

    @property
    def engine(self) -> str:
        """Return the name of the engine that looks at the frames."""
        return self._frame.name

    def variant(self, *, alpha: float | None = None, search_radius: int | None = None,
                hysteresis: float | None = None) -> Sparsifier:
        """Return one with some other settings that runs the same graphs."""
        return Sparsifier(
            self._frame, self._window,
            alpha=float(self._alpha[0]) if alpha is None else alpha,
            search_radius=self._radius if search_radius is None else search_radius,
            hysteresis=float(self._hysteresis[0]) if hysteresis is None else hysteresis)

    def propose(self, rgb: NDArray[np.uint8]) -> Proposal:
        """Look at one frame, uint8 [H, W, 3]; raise FrameError if it is not one."""
        outputs = self._frame.run({'frame': check_rgb(rgb)[np.newaxis]})
        return Proposal(outputs['saliency'][0], outputs['embedding'][0])

    def select(self, proposals: Sequence[Proposal], grid: tuple[int, int], keep_ratio: float,
               previous_key: int | None = None) -> Selection:
        """Choose the tokens of a window; see ``TokenSelector``."""
        budget = token_budget(len(proposals), grid, keep_ratio, previous_key)
        if len({proposal.embedding.shape for proposal in proposals}) > 1:
            raise ValueError('proposals of different shapes in one window')
        saliency = np.stack([proposal.saliency for proposal in proposals])
        outputs = self._window.run({
            'saliency': saliency,
            'embedding': np.stack([proposal.embedding for proposal in proposals]),
            'row_weights': area_weights(grid[0], saliency.shape[1]),
            'column_weights': area_weights(grid[1], saliency.shape[2]),
            'neighbours': neighbours(*grid, self._radius),
            'budget': np.array([budget]),
            'previous_key': np.array([-1 if previous_key is None else previous_key]),
            'hysteresis': self._hysteresis,
            'alpha': self._alpha,
        })
        return Selection(int(outputs['key'][0]), outputs['frame_scores'],
                         outputs['order'][:budget], outputs['score'])


def _shipped(graph: str) -> Engine:
    return make_engine('onnxruntime', model_path(f'proposal/{graph}.onnx'))
