# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Keys and values of what a language model has read.

Those of transformers are copied whole for every pass of the model, in order to append to them: a
token costs more, the more was read. Here they are written into memory that has room for more.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

#: Room for new tokens is so large a part of those that are held: then each of them is copied
#: about four times in all, whatever their number, and a fifth of the memory at most lies idle.
_SPARE = 0.25


class GrowingLayer(DynamicLayer):
    """
    Keys and values of a layer, [B, H, S, D] each: views of memory with room behind them.

    What a crop has cut off is written over. Not for gradients.
    """

    _room: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
               ) -> tuple[Tensor, Tensor]:
        """Append keys and values; return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held: tuple[Any, ...] = self.keys, self.values
        new = key_states, value_states
        start = self.get_seq_length()
        length = start + key_states.shape[-2]
        if not self._room or self._room[0].shape[-2] < length:
            self._room = tuple(
                _with_room(old, more, length) for old, more in zip(held, new))
        for room, more in zip(self._room, new):
            room[..., start:length, :] = more
        self.keys, self.values = (room[..., :length, :] for room in self._room)
        return self.keys, self.values

    def reset(self) -> None:
        """Free the memory."""
        super().reset()
        self._room = ()


def _with_room(held: Tensor, new: Tensor, length: int) -> Tensor:
    """Return memory like that of new tokens for so many and some, with those that are held."""
    room = new.new_empty((*new.shape[:-2], length + int(_SPARE * length), new.shape[-1]))
    if held.numel():
        room[..., :held.shape[-2], :] = held
    return room


def growing_cache(config: PreTrainedConfig) -> Cache:
    """Return an empty cache for a text model; layers without full attention are as usual."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer
                    for layer in cache.layers]
    return cache


def crop(cache: Any, length: int) -> None:
    """Forget what a cache holds beyond so many tokens, in whatever state it was left."""
    for layer in cache.layers:
        # Layers without attention hold nothing and have no length.
        held = getattr(layer, 'keys', None)
        extra = 0 if held is None or not held.numel() else held.shape[-2] - length
        if extra > 0:
            layer.crop(-extra)
