# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read prompts that begin alike once: the keys and values of their beginning are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
import itertools

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import VlmError
from vts_ros.vlm.families import FrameFeatures
from vts_ros.vlm.model import Vlm
from vts_ros.vlm.prompt_layout import Layout, Prefix, Prepared, Pruned
from vts_ros.vlm.prompts import Prompt

#: Any captions do to see how a chat template places pictures.
_TRIED = ('0.0s', '0.4s', '0.8s')


@dataclass(frozen=True, eq=False)
class Picture:
    """
    A picture of which the same tokens are kept in every prompt.

    Attributes
    ----------
    features
        What the vision encoder says of it.
    keep
        Which of its tokens are kept, ascending int32 [B].

    """

    features: FrameFeatures
    keep: NDArray[np.int32]


@dataclass(frozen=True)
class Part:
    """
    Pictures that were not read yet, laid out to follow those that were.

    Attributes
    ----------
    placed
        The pictures, with what stands before each of them.
    pruned
        What is left of them; None where there is nothing to read.
    position
        Of what comes after them.

    """

    placed: Sequence[tuple[str, Picture]]
    pruned: Pruned | None
    position: int

    @property
    def length(self) -> int:
        """Return how many tokens there are to read."""
        return 0 if self.pruned is None else len(self.pruned.input_ids)


class PrefixReader:
    """
    Reads the pictures of prompts, and of each what the one before did not have.

    Either prompts that are laid out anew, with :meth:`read`; or pictures that stay as they are
    while others follow, with :meth:`part` and :meth:`read_on`: of these, only what is new is laid
    out.

    Attributes
    ----------
    counters
        Tokens ``read`` and ``reused``, and how often reading ``began`` anew.

    """

    def __init__(self, vlm: Vlm) -> None:
        self._vlm = vlm
        self._prefix: Prefix | None = None
        self._placed: list[tuple[str, Picture]] = []
        self._position = 0
        self.counters: Counter[str] = Counter()

    def read(self, prepared: Prepared, keep: NDArray[np.int32] | None) -> Prefix:
        """
        Return a pruned prompt up to its last picture, read as far as it was not read before.

        Raises
        ------
        VlmError
            As ``Vlm.prefix`` does.

        """
        held = self.tokens
        self._placed.clear()
        return self._note(self._vlm.prefix(prepared, keep, self._prefix), held)

    def part(self, texts: Sequence[str], pictures: Sequence[Picture]) -> Part:
        """
        Lay out what was not read of a prompt; what was read is forgotten if it begins otherwise.

        Parameters
        ----------
        texts
            What stands before each picture.
        pictures
            All of the prompt.

        """
        placed = list(zip(texts, pictures, strict=True))
        known = len(self._placed)
        if not (known and self.tokens and placed[:known] == self._placed):
            self.forget()
            known = 0
        new = pictures[known:]
        if not new:
            return Part((), None, self._position)
        layout = self._vlm.lay_out(texts[known:], [picture.features.grid for picture in new],
                                   self._position)
        begins = np.cumsum([0, *(len(picture.features.tokens) for picture in new)])
        keep = np.concatenate([begin + picture.keep for begin, picture in zip(begins, new)])
        prepared = Prepared.join(layout, [picture.features for picture in new])
        return Part(placed[known:], prepared.prune(keep), layout.next_position)

    def read_on(self, part: Part) -> Prefix:
        """
        Read what was laid out last; return all that was read.

        Raises
        ------
        VlmError
            If memory runs out; what was read before stays.

        """
        prefix, held = self._prefix, self.tokens
        if part.pruned is not None:
            prefix = self._vlm.read(part.pruned, prefix)
        elif prefix is None:
            raise ValueError('a prompt needs at least one picture')
        self._placed += part.placed
        self._position = part.position
        return self._note(prefix, held)

    def end(self, text: str) -> Layout:
        """Lay out what comes after the pictures that were read."""
        return self._vlm.lay_out([text], [], self._position)

    def _note(self, prefix: Prefix, held: int) -> Prefix:
        """Take over what was read, and count what was held before."""
        reused = held if self._prefix and self._prefix.cache is prefix.cache else 0
        self._prefix = prefix
        self.counters['began'] += not reused
        self.counters['reused'] += reused
        self.counters['read'] += prefix.length - reused
        return prefix

    def forget(self) -> None:
        """Free the memory of what was read."""
        self._prefix = None
        self._placed.clear()
        self._position = 0

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
    try:
        texts = [vlm.texts(_TRIED[:count], prompt) for count in (1, 2, 3)]
    except VlmError as error:
        return str(error)
    if any(longer[:len(shorter) - 1] != shorter[:-1]
           for shorter, longer in itertools.pairwise(texts)):
        return 'its chat template changes what stands before a picture when another follows'
    return None
