# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Weights of a language model in eight bits, for processors.

Writing an answer is bound by reading the weights, so a quarter of the bytes makes it faster. The
vision encoder stays as it is: it is bound by arithmetic, and its features by what is small.
"""

from __future__ import annotations

from typing import Any
import warnings

import torch
from torch import nn

from vts_ros.errors import VlmError

#: The plain word for it, as a setting.
INT8 = 'int8'


def to_int8(network: Any) -> None:
    """
    Quantise the linear layers of the language model and of its head, in place.

    Weights are rounded per output channel, inputs by their range in each pass (dynamic
    quantisation of PyTorch). So what a token is read as depends a little on those beside it, and
    dropping tokens is not exactly masking them.

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
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    with warnings.catch_warnings():
        # It says that it has moved; the package that it names decodes slower on processors.
        warnings.simplefilter('ignore')
        for owner, name in ((network.model, 'language_model'), (network.model, 'text_model'),
                            (network, 'lm_head')):
            if hasattr(owner, name):
                layers = nn.ModuleDict({name: getattr(owner, name)})
                quantize_dynamic(layers, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
                setattr(owner, name, layers[name])


def int8_bytes(network: Any) -> int:
    """Return the bytes of the weights that are held in eight bits, which are no parameters."""
    return sum(one.weight().numel() for one in network.modules()
               if isinstance(one, torch.ao.nn.quantized.dynamic.Linear))
