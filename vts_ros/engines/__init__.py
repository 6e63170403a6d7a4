# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines: what runs an exported graph, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
import onnxruntime

from vts_ros.engines.errors import EngineError
from vts_ros.engines.ort import OnnxRuntimeEngine

__all__ = ['BACKENDS', 'Engine', 'EngineError', 'OnnxRuntimeEngine', 'make_engine']


class Engine(Protocol):
    """A compiled graph; may be used from several threads."""

    @property
    def name(self) -> str:
        """Return runtime and device, such as `onnxruntime-cpu`."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""


#: Makes an engine from an ONNX file and a number of threads (0: as many as the runtime likes).
BACKENDS: dict[str, Callable[[Path, int], Engine]] = {
    'onnxruntime': partial(OnnxRuntimeEngine, provider='CPUExecutionProvider'),
    'onnxruntime-cuda': partial(OnnxRuntimeEngine, provider='CUDAExecutionProvider'),
}


def make_engine(backend: str, onnx_path: str | Path, threads: int = 0) -> Engine:
    """
    Make an engine for a graph.

    Parameters
    ----------
    backend
        One of ``BACKENDS``, or ``auto`` for the fastest one whose runtime is there.
    onnx_path
        The graph.
    threads
        Threads on the CPU; 0 leaves the number to the runtime.

    Raises
    ------
    EngineError
        If there is no such backend on this machine or the file is not usable; one line.

    """
    if backend == 'auto':
        return _fastest(onnx_path, threads)
    if backend not in BACKENDS:
        raise EngineError(f'unknown engine {backend!r}, expected one of {", ".join(BACKENDS)}')
    path = Path(onnx_path)
    if not path.is_file():
        raise EngineError(f'no such model file: {path}')
    return BACKENDS[backend](path, threads)


def _fastest(onnx_path: str | Path, threads: int) -> Engine:
    if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        # Being compiled in does not mean that there is a driver.
        with suppress(EngineError):
            return make_engine('onnxruntime-cuda', onnx_path, threads)
    return make_engine('onnxruntime', onnx_path, threads)
