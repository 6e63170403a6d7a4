# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
import onnxruntime

from vts_ros.engines.errors import EngineError


class OnnxRuntimeEngine:
    """
    A graph in ONNX Runtime.

    Parameters
    ----------
    path
        ONNX file.
    threads
        Threads within an operator; 0 for one per core.
    provider
        Execution provider that must be there; nothing falls back to another one in silence.

    Raises
    ------
    EngineError
        If the provider is not available or the file is not a graph.

    """

    def __init__(self, path: Path, threads: int = 0,
                 provider: str = 'CPUExecutionProvider') -> None:
        if provider not in onnxruntime.get_available_providers():
            raise EngineError(f'ONNX Runtime has no {provider} here, only '
                              f'{", ".join(onnxruntime.get_available_providers())}')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that spin while they wait take the cores from the language model.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        # The errors of ONNX Runtime have no common class of their own.
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=[provider])
        except Exception as error:
            raise EngineError.of(f'{path} cannot be loaded', error) from error
        # A provider that is compiled in but does not start is replaced without an error.
        if provider not in self._session.get_providers():
            raise EngineError(f'ONNX Runtime could not start {provider}')
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._name = f'onnxruntime-{provider.removesuffix("ExecutionProvider").lower()}'

    @property
    def name(self) -> str:
        """Return runtime and device."""
        return self._name

    @property
    def metadata(self) -> dict[str, str]:
        """Return what the export noted in the file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise EngineError.of(f'{self.name} failed', error) from error
        return dict(zip(self._outputs, values, strict=True))
