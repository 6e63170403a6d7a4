# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Weights of linear layers in the layout in which a processor multiplies.

PyTorch hands a product in float32 to a library that sorts the weights for its kernels in every
pass. That is little beside a long prompt. For the few tokens of a draft it takes about as long as
the product itself, and for two or three of them longer, so that to check these costs what to write
them one by one would. oneDNN, which comes with PyTorch, multiplies with weights that were sorted
once, and reads them faster.
"""

from __future__ import annotations

import copy
import platform
from typing import Any, cast

import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.vlm.native_floats import native_floats

#: Weights of the smallest layer for which it pays: the calls of smaller ones cost more than their
#: products, and plain ones have cheaper calls.
SMALLEST = 1 << 18
#: Rows that the layout is made for: a token and its draft. Prompts gain less.
_ROWS = 8
#: Of fewer rows a product takes longer than of so many, so rows of zeros are added.
_LEAST_ROWS = 4


class PackedLinear(nn.Module):
    """
    A linear layer whose weights are sorted for oneDNN; without gradients.

    Parameters
    ----------
    layer
        Whose weights it takes, in float32 or bfloat16 on a processor.
    is_shared
        Whether an embedding has the same weights, which stay there as they are.

    """

    def __init__(self, layer: nn.Linear, is_shared: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        # In a tuple it is no parameter of this layer.
        self.shared = (layer.weight,) if is_shared else ()
        # No parameter either: what looks at these expects numbers in rows and columns.
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(
            layer.weight.detach().contiguous(), _ROWS)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        """Return a copy, which tensors in this layout do not have by themselves."""
        return PackedLinear(copy.deepcopy(self.plain(), memo), bool(self.shared))

    @property
    def weight(self) -> Tensor:
        """Return the packed weights, of which some models ask the type."""
        return self.packed

    def forward(self, states: Tensor) -> Tensor:
        """Return the product of states [..., in_features] with the weights."""
        rows = states.numel() // self.in_features
        if rows >= _LEAST_ROWS:
            return self._product(states)
        padded = functional.pad(states.reshape(rows, -1), (0, 0, 0, _LEAST_ROWS - rows))
        return self._product(padded)[:rows].view(*states.shape[:-1], -1)

    def _product(self, states: Tensor) -> Tensor:
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(
            states, self.packed, self.bias, 'none', [], ''))

    def plain(self) -> nn.Linear:
        """Return the layer as it was, to the last bit."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device='meta')
        layer.weight = self.shared[0] if self.shared else nn.Parameter(
            self.packed.to_dense(), requires_grad=False)
        layer.bias = self.bias
        return layer


def pays(layer: nn.Module, device: str) -> bool:
    """
    Return whether a layer is packed on a device.

    Not with floats that the processor has no instructions for, nor if it is small or quantised,
    nor on processors of other makes, of which that was not measured.
    """
    # Quantised layers of libraries are of classes below this one.
    return (type(layer) is nn.Linear and layer.weight.numel() >= SMALLEST
            and layer.weight.dtype in (torch.float32, torch.bfloat16)
            and native_floats(layer.weight.dtype) == layer.weight.dtype
            and device == 'cpu' and platform.machine() in ('x86_64', 'AMD64')
            and torch.backends.mkldnn.is_available())


def pack(network: nn.Module) -> None:
    """Sort the weights of all layers for which it pays, in place; a tied head is held twice."""
    embedded = {id(layer.weight) for layer in network.modules() if isinstance(layer, nn.Embedding)}
    for owner, name, layer in _linear_layers(network):
        if type(layer) is nn.Linear and pays(layer, layer.weight.device.type):
            setattr(owner, name, PackedLinear(layer, id(layer.weight) in embedded))


def unpack(network: nn.Module) -> None:
    """Undo :func:`pack`, for what needs gradients or the weights themselves."""
    for owner, name, layer in _linear_layers(network):
        if isinstance(layer, PackedLinear):
            setattr(owner, name, layer.plain())


def packed_size(network: nn.Module) -> tuple[int, int]:
    """
    Return how many weights are packed, and their bytes.

    They are no parameters. Those of a tied head are not counted, as the embedding has them, too;
    their bytes are.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, PackedLinear)]
    return (sum(layer.packed.numel() for layer in layers if not layer.shared),
            sum(layer.packed.numel() * layer.packed.element_size() for layer in layers))


def _linear_layers(network: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Return whose part each linear layer is, under which name, and the layer."""
    return [(owner, name, layer) for owner in list(network.modules())
            for name, layer in list(owner.named_children())
            if isinstance(layer, (nn.Linear, PackedLinear))]
