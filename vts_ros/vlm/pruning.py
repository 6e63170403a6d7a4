# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What it means that visual tokens are dropped, in one word; needs no other library."""

from typing import Literal

#: ``exact``: the answer is that to the whole prompt with these tokens masked. ``shortened``: it is
#: that of the model of transformers to the shorter prompt, in which survivors keep their
#: positions. ``scaled``: a server got smaller pictures instead of fewer tokens.
Pruning = Literal['exact', 'shortened', 'scaled']
