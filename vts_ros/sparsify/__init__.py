# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video token sparsification (VTS): the key frame and the visual tokens worth keeping."""

from vts_ros.sparsify.selection import (
    Proposal,
    Selection,
    token_budget,
    TokenSelector,
    WindowFeatures,
)
from vts_ros.sparsify.selector import Sparsifier

__all__ = ['Proposal', 'Selection', 'Sparsifier', 'TokenSelector', 'WindowFeatures',
           'token_budget']
