# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Keys and values in memory of a fixed capacity, which stays where it is.

New ones are written where a tensor on the device says, and all of the memory is returned: nothing
depends on how many tokens are held, but a mask has to hide the rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache


class _Slots:
    """Where tokens go in the memory of all layers: how many it holds, and places of new ones."""

    def __init__(self, device: torch.device) -> None:
        self.length = 0
        self.start = torch.zeros(1, dtype=torch.long, device=device)
        self.new = self.start


class FixedLayer:
    """
    Keys and values of a layer, [1, H, C, D] each, of a fixed capacity C.

    Parameters
    ----------
    keys, values
        Of another layer, to be like them.
    capacity
        In tokens.
    slots
        Shared by all layers of a cache.

    """

    is_sliding, is_compileable, is_initialized = False, True, True

    def __init__(self, keys: Tensor, values: Tensor, capacity: int, slots: _Slots) -> None:
        # Zeros: what is masked is multiplied by 0, which makes no number of what is none.
        self._room = tuple(states.new_zeros((*states.shape[:-2], capacity, states.shape[-1]))
                           for states in (keys, values))
        self._slots = slots

    @property
    def keys(self) -> Tensor:
        """Return the keys that are held."""
        return self._room[0][..., :self._slots.length, :]

    @property
    def values(self) -> Tensor:
        """Return the values that are held."""
        return self._room[1][..., :self._slots.length, :]

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any
               ) -> tuple[Tensor, Tensor]:
        """Write keys and values in their slots; return the whole memory."""
        for room, new in zip(self._room, (keys, values)):
            room.index_copy_(2, self._slots.new, new)
        return self._room[0], self._room[1]

    def take(self, keys: Tensor, values: Tensor) -> None:
        """Hold these from the beginning on."""
        for room, other in zip(self._room, (keys, values)):
            room[..., :other.shape[-2], :] = other

    def crop(self, tokens: int) -> None:
        """Forget so many tokens, a negative number, in all layers."""
        self._slots.length += tokens


class FixedCache(Cache):
    """
    Keys and values of all layers, of a fixed capacity.

    Parameters
    ----------
    like
        A cache of the same model, with tokens.
    capacity
        In tokens.

    """

    def __init__(self, like: Any, capacity: int) -> None:
        keys = like.layers[0].keys
        self.slots = _Slots(keys.device)
        self.capacity, self._dtype = capacity, keys.dtype
        self._fixed = [FixedLayer(held.keys, held.values, capacity, self.slots)
                       for held in like.layers]
        self._columns = torch.arange(capacity, device=keys.device)
        layers: list[Any] = list(self._fixed)
        super().__init__(layers=layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens are held."""
        return self.slots.length

    def take(self, cache: Any) -> None:
        """Hold what another cache holds."""
        for layer, other in zip(self._fixed, cache.layers, strict=True):
            layer.take(other.keys, other.values)
        self.slots.length = cache.get_seq_length()

    def mask(self, count: int) -> Tensor:
        """
        Have so many tokens written from ``slots.start`` on.

        Returns
        -------
        What is added to their scores, [1, 1, count, C]: each sees itself and those before it.

        """
        self.slots.new = self.slots.start + self._columns[:count]
        hidden = self._columns > self.slots.new[:, None]
        shown = torch.zeros(hidden.shape, dtype=self._dtype, device=hidden.device)
        return shown.masked_fill_(hidden, -torch.inf)[None, None]
