# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video token sparsification (VTS): the key frame and the visual tokens worth keeping."""

from vts_ros.sparsify.selection import Evidence, Proposal, Selection, token_budget, TokenSelector
from vts_ros.sparsify.selector import Sparsifier

__all__ = ['Evidence', 'Proposal', 'Selection', 'Sparsifier', 'TokenSelector', 'token_budget']
