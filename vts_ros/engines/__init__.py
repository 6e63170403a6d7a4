# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines: what runs an exported graph, behind one interface."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

from vts_ros.engines.names import BACKEND_NAMES, Precision, PRECISIONS
from vts_ros.errors import EngineError

if TYPE_CHECKING:
    from vts_ros.engines.backends import (
        BACKENDS,
        choose,
        Engine,
        EngineOptions,
        make_engine,
        Module,
    )
    from vts_ros.engines.onnx_runtime import OnnxRuntimeEngine

__all__ = [
    'BACKENDS',
    'BACKEND_NAMES',
    'PRECISIONS',
    'Engine',
    'EngineError',
    'EngineOptions',
    'Module',
    'OnnxRuntimeEngine',
    'Precision',
    'choose',
    'make_engine',
]


def __getattr__(name: str) -> Any:
    """Import the engines when they are asked for: their names alone need no PyTorch."""
    if name == 'OnnxRuntimeEngine':
        from vts_ros.engines.onnx_runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine
    if name in __all__:
        from vts_ros.engines import backends

        return getattr(backends, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
