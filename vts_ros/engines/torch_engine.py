# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch as an engine: the reference that compiled graphs are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from vts_ros.errors import EngineError


class TorchEngine:
    """
    A module on the CPU or on a GPU.

    Parameters
    ----------
    module
        Takes as many tensors as there are names and returns a tuple.
    inputs, outputs
        Names in the order of the module.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    EngineError
        If PyTorch cannot use the device.

    """

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str],
                 device: str = 'cpu') -> None:
        if device == 'cuda' and not torch.cuda.is_available():
            raise EngineError(f'PyTorch {torch.__version__} finds no GPU that it can use')
        self._module = module.to(device).eval()
        self._device = torch.device(device)
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self.name = f'torch-{device}'
        #: Tensors there are taken and returned as they are.
        self.device = device
        self.info = {'precision': 'fp32', 'version': str(torch.__version__)}

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[Any] | Tensor]) -> dict[str, Any]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""
        if set(inputs) != set(self._inputs):
            raise EngineError(f'{self.name} failed: expected inputs {", ".join(self._inputs)}')
        on_device = any(isinstance(value, Tensor) for value in inputs.values())
        try:
            values = self._module(*(self._tensor(inputs[name]) for name in self._inputs))
        except RuntimeError as error:
            raise EngineError.of(f'{self.name} failed', error) from error
        return {name: value if on_device else value.cpu().numpy()
                for name, value in zip(self._outputs, values, strict=True)}

    def _tensor(self, value: NDArray[Any] | Tensor) -> Tensor:
        if isinstance(value, Tensor):
            return value
        # A copy, because PyTorch takes no read-only and no reversed arrays.
        return torch.from_numpy(value.copy()).to(self._device)
