# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A prompt as tokens: what each is, where it stands, what is left when visual tokens are dropped.

The whole prompt is laid out first, with the position of every token; what is dropped is then
taken out of ids, positions and features alike, so that survivors keep their places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import Cache

from vts_ros.errors import VlmError
from vts_ros.vlm.families import FrameFeatures, Grid
from vts_ros.vlm.kv_cache import bytes_of, crop


class Place(NamedTuple):
    """
    Where a part of a prompt goes on.

    Attributes
    ----------
    position
        Of its first token.
    video
        Grids of the steps of the video that stands right before it; none where text does.
    begin
        Position at which that video begins.

    """

    position: int = 0
    video: tuple[Grid, ...] = ()
    begin: int = 0


#: Where a prompt begins.
BEGINNING = Place()


@dataclass(frozen=True, eq=False)
class Layout:
    """
    A prompt, or a part of one, with all of its visual tokens: what each is and where it stands.

    Attributes
    ----------
    input_ids
        Token ids [S], int64.
    position_ids
        Positions [3, S] (time, height, width) or [1, S], as the model's rotary embedding takes.
    visual_slots
        Where the visual tokens are in the prompt [T * N], frame-major, row-major.
    image_slots
        Where features of the pictures go [I], ascending: the visual slots, and those of the model
        alone (such as an image newline), which are never dropped.
    after
        Where what comes next goes on.
    tail
        How many tokens after its last slot belong to a picture.
    ends
        Which steps end a picture or a video: these have their pinned features.

    """

    input_ids: Tensor
    position_ids: Tensor
    visual_slots: Tensor
    image_slots: Tensor
    after: Place
    tail: int = 0
    ends: tuple[bool, ...] = ()

    def survivors(self, keep: Tensor) -> Tensor:
        """Return which prompt tokens stay [S'] when these visual tokens [B] are kept."""
        stays = torch.ones_like(self.input_ids, dtype=torch.bool)
        stays[self.visual_slots] = False
        stays[self.visual_slots[keep]] = True
        return stays.nonzero()[:, 0]

    def length_to_last_picture(self, kept: int) -> int:
        """Return the length of the prompt up to its last picture with so many visual tokens."""
        return int(self.image_slots[-1]) + 1 + self.tail - len(self.visual_slots) + kept


class Pruned(NamedTuple):
    """What is left of a prompt or a part: ids [S'], positions [..., S'] and features [I', D]."""

    input_ids: Tensor
    position_ids: Tensor
    tokens: Tensor
    deepstack: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A laid-out prompt with the features [I, D] that belong in its image slots."""

    layout: Layout
    tokens: Tensor
    deepstack: tuple[Tensor, ...]

    def prune(self, keep: NDArray[np.int32] | None) -> Pruned:
        """Return what is left when these visual tokens [B] are kept, all if None."""
        stays = self.layout.survivors(keep_tensor(keep, len(self.layout.visual_slots)))
        filled = torch.isin(self.layout.image_slots, stays).nonzero()[:, 0].to(self.tokens.device)
        return Pruned(self.layout.input_ids[stays], self.layout.position_ids[:, stays],
                      self.tokens[filled], tuple(level[filled] for level in self.deepstack))

    @classmethod
    def join(cls, layout: Layout, features: Sequence[FrameFeatures]) -> Prepared:
        """Put the features of the steps, in the order of the layout, in its slots."""
        if not features:
            return cls(layout, torch.empty(0), ())
        levels = zip(*(frame.deepstack for frame in features), strict=True)
        rows = [frame.rows if is_end else frame.rows_within
                for frame, is_end in zip(features, layout.ends, strict=True)]
        return cls(layout, torch.cat(rows), tuple(torch.cat(level) for level in levels))

    def after(self, prefix: Prefix, keep: NDArray[np.int32] | None) -> Pruned:
        """
        Return the pruned prompt with the features of its pictures that were not read.

        Raises
        ------
        VlmError
            If it does not begin with what was read, or has other pictures than were read.

        """
        prompt = self.prune(keep)
        if not prefix.begins(prompt) or 0 < prefix.features < len(prompt.tokens):
            raise VlmError('the prompt does not begin with what was read before')
        seen = prefix.features
        return prompt._replace(tokens=prompt.tokens[seen:],
                               deepstack=tuple(level[seen:] for level in prompt.deepstack))

    @property
    def opening(self) -> Pruned:
        """Return the text before the first picture, whatever is kept."""
        length = int(self.layout.image_slots[0])
        return Pruned(self.layout.input_ids[:length], self.layout.position_ids[:, :length],
                      self.tokens[:0], tuple(level[:0] for level in self.deepstack))


class Read(NamedTuple):
    """
    What was read of a prompt: ids [S'], positions [..., S'] and features [I', D].

    The features are as many tensors as there were parts: nothing is joined that was read before.
    """

    input_ids: Tensor
    position_ids: Tensor
    tokens: tuple[Tensor, ...]

    def then(self, part: Pruned) -> Read:
        """Return what was read when a part was read after this."""
        return Read(torch.cat([self.input_ids, part.input_ids]),
                    torch.cat([self.position_ids, part.position_ids], dim=1),
                    (*self.tokens, part.tokens))


@dataclass(frozen=True, eq=False)
class Prefix:
    """
    A pruned prompt up to its last picture as the model has read it, for any number of questions.

    Attributes
    ----------
    read
        The part of the prompt that was read.
    cache
        Its keys and values.

    """

    read: Read
    cache: Cache

    def begins(self, prompt: Pruned) -> bool:
        """Return whether a prompt begins with what was read."""
        return (self.is_whole
                and torch.equal(self.read.input_ids, prompt.input_ids[:self.length])
                and torch.equal(self.read.position_ids, prompt.position_ids[:, :self.length])
                and (not self.features or torch.equal(
                    torch.cat(self.read.tokens), prompt.tokens[:self.features])))

    def cut(self, length: int) -> Prefix:
        """
        Return the first so many tokens, which are all text; this cannot be used any more.

        Only where nothing but keys and values is held, see ``is_croppable``.
        """
        crop(self.cache, length)
        return Prefix(Read(self.read.input_ids[:length], self.read.position_ids[:, :length], ()),
                      self.cache)

    @property
    def features(self) -> int:
        """Return how many features of pictures were read."""
        return sum(map(len, self.read.tokens))

    @property
    def is_whole(self) -> bool:
        """Return whether the cache holds what was read, not less and not more."""
        return self.length == self.cache.get_seq_length()

    @property
    def length(self) -> int:
        """Return how many tokens were read."""
        return len(self.read.input_ids)

    @property
    def kv_bytes(self) -> int:
        """Return the size of the keys and values that are held, without room for more."""
        return bytes_of(self.cache)


@dataclass(frozen=True, eq=False)
class Question:
    """
    A prompt whose pictures were read when they came: no more than its end is laid out.

    Attributes
    ----------
    prefix
        What was read.
    keep
        Visual tokens that were kept of it, int32 [B].
    end
        What comes after it: text, and before it perhaps pictures that are not yet read for good.
    whole
        Prepares all of the prompt, for those who want it at once.

    """

    prefix: Prefix
    keep: NDArray[np.int32]
    end: Pruned
    whole: Callable[[], Prepared]

    @property
    def layout(self) -> Layout:
        """Return the layout of the whole prompt."""
        return self.whole().layout

    def prune(self, keep: NDArray[np.int32] | None) -> Pruned:
        """Return what is left of the whole prompt, see Prepared."""
        return self.whole().prune(keep)

    def after(self, prefix: Prefix, keep: NDArray[np.int32] | None) -> Pruned:
        """Return the pruned prompt with the features that were not read, see Prepared."""
        if prefix is not self.prefix or keep is not self.keep or not prefix.is_whole:
            return self.whole().after(prefix, keep)
        read, end = prefix.read, self.end
        return end._replace(
            input_ids=torch.cat([read.input_ids, end.input_ids]),
            position_ids=torch.cat([read.position_ids, end.position_ids], dim=1))


Prompted = Prepared | Question


def keep_tensor(keep: NDArray[np.int32] | None, total: int) -> Tensor:
    """Return a keep list [B] as a tensor, that of all of so many tokens if None."""
    if keep is None:
        return torch.arange(total)
    kept = torch.as_tensor(np.asarray(keep, np.int64))
    if kept.numel() and (kept[0] < 0 or kept[-1] >= total or (kept.diff() <= 0).any()):
        raise VlmError(f'keep list is not ascending within 0..{total - 1}')
    return kept
