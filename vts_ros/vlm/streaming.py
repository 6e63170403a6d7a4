# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read prompts that begin alike once: the keys and values of their beginning are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.vlm.adaptor import Prefix, Prepared, Vlm
from vts_ros.vlm.errors import VlmError
from vts_ros.vlm.families import Grid
from vts_ros.vlm.prompts import Prompt

#: Any grid and captions do to see how a chat template places pictures.
_TRIED: tuple[Grid, Sequence[str]] = ((2, 2), ('0.0s', '0.4s', '0.8s'))


class Reader:
    """
    Reads the pictures of prompts, and of each what the one before did not have.

    Attributes
    ----------
    counters
        Tokens ``read`` and ``reused``, and how often reading ``began`` anew.

    """

    def __init__(self, vlm: Vlm) -> None:
        self._vlm = vlm
        self._prefix: Prefix | None = None
        self.counters: Counter[str] = Counter()

    def read(self, prepared: Prepared, keep: NDArray[np.int32] | None) -> Prefix:
        """
        Return a pruned prompt up to its last picture, read as far as it was not read before.

        Raises
        ------
        VlmError
            As ``Vlm.prefix`` does.

        """
        before, held = self._prefix, self.tokens
        self._prefix = self._vlm.prefix(prepared, keep, before)
        reused = held if before and before.cache is self._prefix.cache else 0
        self.counters['began'] += not reused
        self.counters['reused'] += reused
        self.counters['read'] += self.tokens - reused
        return self._prefix

    def forget(self) -> None:
        """Free the memory of what was read."""
        self._prefix = None

    @property
    def tokens(self) -> int:
        """Return how many tokens are held."""
        return self._prefix.length if self._prefix and self._prefix.is_whole else 0

    @property
    def kv_bytes(self) -> int:
        """Return the size of the keys and values that are held."""
        return self._prefix.kv_bytes if self._prefix else 0


def why_not_streamed(vlm: Vlm, prompt: Prompt) -> str | None:
    """Return why pictures of a prompt cannot be read as they come, or None if they can."""
    grid, captions = _TRIED
    try:
        layouts: list[Any] = [vlm.layout([grid] * count, captions[:count], prompt)
                              for count in (1, 2, 3)]
    except VlmError as error:
        return str(error)
    for shorter, longer in itertools.pairwise(layouts):
        length = int(shorter.image_slots[-1]) + 1
        if (shorter.input_ids[:length].tolist() != longer.input_ids[:length].tolist()
                or shorter.position_ids[:, :length].tolist()
                != longer.position_ids[:, :length].tolist()):
            return 'its chat template changes what stands before a picture when another follows'
    return None
