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
from vts_ros.vlm.kv_cache import is_croppable
from vts_ros.vlm.model import Vlm
from vts_ros.vlm.prompt_layout import BEGINNING, Place, Prefix, Prepared, Pruned
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.video_steps import VideoStep

#: Any captions do to see how a chat template places pictures.
_TRIED = ('0.0s', '0.4s', '0.8s')
#: What is held of an opening is of use if later prompts begin with so large a part of it.
_LEAST_SHARED = 0.5
_TRIED_STEPS = (VideoStep(0.2), VideoStep(1.0, begins=False), VideoStep(1.8, begins=False))


@dataclass(frozen=True, eq=False)
class Picture:
    """
    A picture, or a step of a video, of which the same tokens are kept in every prompt.

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
    after
        Where what comes next goes on.

    """

    placed: Sequence[tuple[str, Picture]]
    pruned: Pruned | None
    after: Place

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
        self._place = BEGINNING
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

    def opening(self, prepared: Prepared) -> Prefix:
        """
        Return the text before the pictures of a prompt, as far as prompts have it in common.

        It is read once; what later prompts do not share with it, such as the caption of their
        first picture, is cut off.

        Raises
        ------
        VlmError
            If memory runs out.

        """
        opening, prefix = prepared.opening, self._prefix
        held = self.tokens
        self._placed.clear()
        shared = _shared(prefix, opening) if prefix is not None and held else 0
        if prefix is None or shared < _LEAST_SHARED * len(opening.input_ids):
            self.forget()
            return self._note(self._vlm.read(opening), 0)
        if shared < held and not is_croppable(prefix.cache):
            self.forget()
            return self._note(self._vlm.read(opening._replace(
                input_ids=opening.input_ids[:shared],
                position_ids=opening.position_ids[:, :shared])), 0)
        return self._note(prefix.cut(shared) if shared < held else prefix, shared)

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
            return Part((), None, self._place)
        return Part(placed[known:], *self._laid_out(texts[known:], new))

    def _laid_out(self, texts: Sequence[str], pictures: Sequence[Picture]
                  ) -> tuple[Pruned, Place]:
        """Return what is left of pictures after those that were read, and where to go on."""
        features = [picture.features for picture in pictures]
        layout = self._vlm.lay_out(texts, [picture.grid for picture in features], self._place)
        begins = np.cumsum([0, *(len(picture.tokens) for picture in features)])
        keep = np.concatenate([np.empty(0, np.int32), *(
            begin + picture.keep for begin, picture in zip(begins, pictures))])
        return Prepared.join(layout, features).prune(keep), layout.after

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
        self._place = part.after
        return self._note(prefix, held)

    def end(self, texts: Sequence[str], pictures: Sequence[Picture] = ()) -> Pruned:
        """
        Lay out what comes after the pictures that were read.

        Parameters
        ----------
        texts
            What is to be read, one more than pictures.
        pictures
            Those that are not read for good.

        """
        return self._laid_out(texts, pictures)[0]

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
        self._place = BEGINNING

    @property
    def tokens(self) -> int:
        """Return how many tokens are held."""
        return self._prefix.length if self._prefix and self._prefix.is_whole else 0

    @property
    def kv_bytes(self) -> int:
        """Return the size of the keys and values that are held."""
        return self._prefix.kv_bytes if self._prefix else 0


def _shared(prefix: Prefix, opening: Pruned) -> int:
    """Return with how many tokens of text both begin, at the same positions."""
    count = min(prefix.length, len(opening.input_ids))
    same = (prefix.read.input_ids[:count] == opening.input_ids[:count]) & (
        prefix.read.position_ids[:, :count] == opening.position_ids[:, :count]).all(dim=0)
    return count if same.all() else int(same.int().argmin())


def why_not_streamed(vlm: Vlm, prompt: Prompt) -> str | None:
    """Return why pictures of a prompt cannot be read as they come, or None if they can."""
    tried = _TRIED_STEPS if vlm.frames_as == 'video' else _TRIED
    try:
        texts = [vlm.texts(tried[:count], prompt) for count in (1, 2, 3)]
    except VlmError as error:
        return str(error)
    if any(longer[:len(shorter) - 1] != shorter[:-1]
           for shorter, longer in itertools.pairwise(texts)):
        return 'its chat template changes what stands before a picture when another follows'
    return None
