# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Weights of a language model in eight bits, for processors.

Writing an answer is bound by reading the weights, so a quarter of the bytes makes it faster. The
vision encoder stays as it is: it is bound by arithmetic, and its features by what is small.
"""

from __future__ import annotations

from functools import cache
from typing import Any
import warnings

import torch
from torch import nn, Tensor

from vts_ros.errors import VlmError

#: The plain word for it, as a setting.
INT8 = 'int8'
#: No scale is smaller: a row, or a channel, may be all zero.
_LEAST = 1e-12


def to_int8(network: Any) -> None:
    """
    Quantise the linear layers of the language model and of its head, in place.

    Weights are rounded per output channel, inputs per token, by its own range: so what a token is
    read as does not depend on those beside it, and dropping tokens is masking them.

    Parameters
    ----------
    network
        A vision language model of transformers, float32 on a processor.

    Raises
    ------
    VlmError
        If it is elsewhere or has other floats.

    """
    if network.device.type != 'cpu' or network.dtype != torch.float32:
        raise VlmError('int8 weights are for processors: on a GPU set vlm.quantization to a '
                       'quantization_config, such as {"quant_method": "bitsandbytes", '
                       '"load_in_8bit": true}')
    for owner, name in ((network.model, 'language_model'), (network.model, 'text_model'),
                        (network, 'lm_head')):
        if hasattr(owner, name):
            layers = nn.ModuleDict({name: getattr(owner, name)})
            with warnings.catch_warnings():
                # PyTorch says that all this has moved; the package that it names decodes slower
                # on processors.
                warnings.simplefilter('ignore')
                (_replace if is_at_home() else _quantize_dynamic)(layers)
            setattr(owner, name, layers[name])


@cache
def is_at_home() -> bool:
    """Return whether this processor has what :class:`Int8Linear` is computed by, as x86 has."""
    try:
        found = Int8Linear(nn.Linear(8, 8))(torch.ones(2, 8))
    except (RuntimeError, AttributeError):
        return False
    return bool(found.isfinite().all())


class Int8Linear(nn.Module):
    """
    A linear layer whose weights are bytes.

    PyTorch's own dynamic quantisation rounds inputs by the range of all tokens of a pass, so that
    one with large values makes all others coarser, and to seven bits. Here every token has its
    own range, and eight bits where the processor can add up products of them.

    Parameters
    ----------
    layer
        What it stands for, float32 [out, in].

    """

    ones: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp_min(_LEAST) / 127.0
        rounded = torch.quantize_per_channel(
            weight, scales.double(), torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8)
        self.out_features, self.in_features = layer.out_features, layer.in_features
        self._packed = torch.ops.quantized.linear_prepack(rounded, None)
        #: Output for an input of ones, which is what moving the input to 0 takes away.
        self.register_buffer('ones', rounded.dequantize().sum(dim=1), persistent=False)
        self.bias = layer.bias
        self._has_eight_bits = bool(torch.cpu.get_capabilities().get('avx512_vnni'))

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] of [..., in]."""
        rows = x.reshape(-1, self.in_features)
        found = self._of_one(rows) if len(rows) == 1 else self._of_many(rows)
        if self.bias is not None:
            found += self.bias
        return found.reshape(*x.shape[:-1], self.out_features)

    def _of_one(self, row: Tensor) -> Tensor:
        found: Tensor = torch.ops.quantized.linear_dynamic(
            row, self._packed, not self._has_eight_bits)
        return found

    def _of_many(self, rows: Tensor) -> Tensor:
        """Bring all to the range 0 to 1, in the steps that each has when it is alone."""
        levels = 255.0 if self._has_eight_bits else 127.0
        low, high = torch.aminmax(rows, dim=1, keepdim=True)
        low = low.clamp(max=0.0)
        step = ((high.clamp(min=0.0) - low) / levels).clamp_min(_LEAST)
        # Zero is one of the steps.
        low = (low / step).round() * step
        span = levels * step
        found = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            (rows - low) / span, 1.0 / levels, 0, self._packed)
        return torch.addcmul(low * self.ones, found, span)


def _replace(network: nn.Module) -> None:
    for name, part in network.named_children():
        if type(part) is nn.Linear:
            setattr(network, name, Int8Linear(part))
        else:
            _replace(part)


def _quantize_dynamic(network: nn.Module) -> None:
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    quantize_dynamic(network, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)


def int8_bytes(network: Any) -> int:
    """Return the bytes of the weights that are held in eight bits, which are no parameters."""
    return sum(layer.in_features * layer.out_features for layer in network.modules()
               if isinstance(layer, Int8Linear | torch.ao.nn.quantized.dynamic.Linear))
