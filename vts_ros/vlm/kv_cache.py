# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Keys and values of what a language model has read, and the states of layers without.

Those of transformers are copied whole for every pass of the model, in order to append to them: a
token costs more, the more was read. Here they are written into memory that has room for more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

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


def crop(cache: Any, length: int, but: Collection[int] = ()) -> None:
    """Forget what layers hold beyond so many tokens, but for some; in whatever state they are."""
    for index, layer in enumerate(cache.layers):
        if index in but:
            continue
        # Layers without attention hold nothing and have no length.
        held = getattr(layer, 'keys', None)
        extra = 0 if held is None or not held.numel() else held.shape[-2] - length
        if extra > 0:
            layer.crop(-extra)


def is_croppable(cache: Any) -> bool:
    """Return whether what a cache holds of the last tokens can be taken out of it."""
    return not any(map(_has_state, cache.layers))


class Held(NamedTuple):
    """
    What a cache holds at one moment, to come back to it after more was read.

    Attributes
    ----------
    length
        Of the tokens that were read.
    states
        Of layers that cannot be cropped, by their index: linear attention, short convolutions and
        windows of attention.

    """

    length: int
    states: dict[int, dict[str, Any]]

    @classmethod
    def of(cls, cache: Any, length: int) -> Held:
        """Note what a cache holds of so many tokens: all that it holds."""
        return cls(length, {index: _copied(vars(layer)) for index, layer in enumerate(cache.layers)
                            if _has_state(layer)})

    def give_back(self, cache: Any) -> None:
        """Forget what a cache was given since, in whatever state it was left."""
        for index, layer in enumerate(cache.layers):
            if index in self.states:
                vars(layer).update(_copied(self.states[index]))
        crop(cache, self.length, self.states)


def _has_state(layer: Any) -> bool:
    """Return whether a layer of a cache cannot be cropped to what it held before."""
    return hasattr(layer, 'conv_states') or bool(getattr(layer, 'is_sliding', False))


def _copied(state: Any) -> Any:
    """Return a state with its tensors copied: most layers write over them."""
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


def bytes_of(cache: Any) -> int:
    """Return the size of all that a cache holds, without room for more."""
    return sum(_bytes(getattr(layer, name, None)) for layer in cache.layers
               for name in ('keys', 'values', 'conv_states', 'recurrent_states'))


def _bytes(held: Any) -> int:
    if isinstance(held, dict):
        return sum(map(_bytes, held.values()))
    return int(held.nbytes) if isinstance(held, Tensor) else 0
