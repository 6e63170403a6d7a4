# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch as an engine: the reference that compiled graphs are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
import torch
from torch import nn

from vts_ros.engines.errors import EngineError


class TorchEngine:
    """
    A module on the CPU.

    Parameters
    ----------
    module
        Takes as many tensors as there are names and returns a tuple.
    inputs, outputs
        Names in the order of the module.

    """

    name = 'torch-cpu'

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._module = module.cpu().eval()
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""
        if set(inputs) != set(self._inputs):
            raise EngineError(f'{self.name} failed: expected inputs {", ".join(self._inputs)}')
        # A copy, because PyTorch takes no read-only and no reversed arrays.
        tensors = [torch.from_numpy(inputs[name].copy()) for name in self._inputs]
        try:
            values = self._module(*tensors)
        except RuntimeError as error:
            raise EngineError.of(f'{self.name} failed', error) from error
        return {name: value.numpy() for name, value in zip(self._outputs, values, strict=True)}
