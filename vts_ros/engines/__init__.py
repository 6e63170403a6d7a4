# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines: what runs an exported graph, behind one interface."""

from vts_ros.engines.backends import BACKENDS, choose, Engine, EngineOptions, make_engine, Module
from vts_ros.engines.onnx_graph import Precision, PRECISIONS
from vts_ros.engines.onnx_runtime import OnnxRuntimeEngine
from vts_ros.errors import EngineError

__all__ = [
    'BACKENDS',
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
