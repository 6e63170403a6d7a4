# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The available runtimes, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import logging
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import nn

from vts_ros.engines.engine_cache import default_directory, EngineCache
from vts_ros.engines.gpu import find_gpu
from vts_ros.engines.names import Precision
from vts_ros.engines.onnx_graph import load_graph
from vts_ros.engines.onnx_runtime import OnnxRuntimeEngine
from vts_ros.engines.torch_engine import TorchEngine
from vts_ros.errors import EngineError

LOG = logging.getLogger(__name__)
Made = TypeVar('Made')


class Engine(Protocol):
    """A graph that can be run; may be used from several threads."""

    @property
    def name(self) -> str:
        """Return runtime and device, such as `onnxruntime-cpu`."""

    @property
    def device(self) -> str:
        """
        Return the device of its arrays: `cpu` for NumPy arrays, or one such as `cuda:0`.

        An engine on a device also takes PyTorch tensors there, and then returns such tensors.
        """

    @property
    def info(self) -> dict[str, str]:
        """Return further facts, such as precision, version and build time."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""


class Module(NamedTuple):
    """A graph as PyTorch runs it: its module, and the names of inputs and outputs in order."""

    make: Callable[[Path], nn.Module]
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class EngineOptions:
    """
    How an engine is to run.

    Attributes
    ----------
    threads
        Threads on the CPU; 0 leaves the number to the runtime.
    precision
        Of the convolutions; see :func:`load_graph`.
    cache
        Folder of built engines and calibrated graphs; by default that of the user.
    module
        What PyTorch runs; without it that backend is not there.

    """

    threads: int = 0
    precision: Precision = 'fp32'
    cache: Path | None = None
    module: Module | None = None


def _onnxruntime(provider: str, path: Path, options: EngineOptions) -> Engine:
    directory = options.cache or default_directory()
    graph = load_graph(path, options.precision, directory)
    # ONNX Runtime reads a file with less memory, and its messages name it.
    return OnnxRuntimeEngine(path if graph.precision == 'fp32' else graph, options.threads,
                             provider)


def _tensorrt(library: str, path: Path, options: EngineOptions) -> Engine:
    from vts_ros.engines.tensorrt_engine import TensorRtEngine

    cache = EngineCache(options.cache)
    return TensorRtEngine(library, load_graph(path, options.precision, cache.directory), cache)


def _torch(device: str, path: Path, options: EngineOptions) -> Engine:
    if options.module is None:
        raise EngineError(f'PyTorch has no module for {path.name}')
    if load_graph(path, options.precision, options.cache or default_directory()
                  ).precision != 'fp32':
        raise EngineError(f'PyTorch runs {path.name} in fp32 only, not in {options.precision}')
    module = options.module
    try:
        return TorchEngine(module.make(path), module.inputs, module.outputs, device)
    except ValueError as error:
        raise EngineError.of(f'{path} cannot be loaded', error) from error


#: Makes an engine from an ONNX file; ``names.BACKEND_NAMES`` has the same names.
BACKENDS: dict[str, Callable[[Path, EngineOptions], Engine]] = {
    'tensorrt': partial(_tensorrt, 'tensorrt'),
    'tensorrt_rtx': partial(_tensorrt, 'tensorrt_rtx'),
    'onnxruntime-tensorrt': partial(_onnxruntime, 'TensorrtExecutionProvider'),
    'onnxruntime-cuda': partial(_onnxruntime, 'CUDAExecutionProvider'),
    'torch-cuda': partial(_torch, 'cuda'),
    'onnxruntime': partial(_onnxruntime, 'CPUExecutionProvider'),
    'torch': partial(_torch, 'cpu'),
}
#: What `auto` tries, best first. ONNX Runtime with TensorRT inside has an engine cache of its own
#: kind and is left to those who ask for it.
ON_GPU = ('tensorrt', 'tensorrt_rtx', 'torch-cuda', 'onnxruntime-cuda')
ON_CPU = ('onnxruntime', 'torch')


def make_engine(backend: str, onnx_path: str | Path, threads: int = 0, *,
                options: EngineOptions | None = None) -> Engine:
    """
    Make an engine for a graph.

    Parameters
    ----------
    backend
        One of ``BACKENDS``, which then is what runs or an error, or ``auto`` for the first of
        ``ON_GPU`` and ``ON_CPU`` that can be made.
    onnx_path
        The graph.
    threads
        Short for ``options`` with these threads.
    options
        How it is to run.

    Raises
    ------
    EngineError
        If there is no such backend on this machine or the file is not usable; one line.

    """
    options = options or EngineOptions(threads)
    path = Path(onnx_path)

    if (backend == 'auto' or backend in BACKENDS) and not path.is_file():
        raise EngineError(f'no such model file: {path}')
    return choose(backend, lambda name: BACKENDS[name](path, options))[0]


def choose(backend: str, make: Callable[[str], Made]) -> tuple[Made, str]:
    """
    Return what a backend makes, and why it was that backend.

    Parameters
    ----------
    backend
        One of ``BACKENDS``, or ``auto`` for the first of ``ON_GPU`` and ``ON_CPU`` that works.
    make
        Called with the name of a backend; an EngineError says why it does not work.

    Raises
    ------
    EngineError
        If the backend does not work, or with ``auto`` none does.

    """
    if backend != 'auto':
        if backend not in BACKENDS:
            raise EngineError(f'unknown engine {backend!r}, expected one of auto, '
                              f'{", ".join(BACKENDS)}')
        return make(backend), 'asked for'
    reasons: dict[str, str] = {}
    for name in (*_on_gpu(reasons), *ON_CPU):
        try:
            made = make(name)
        except EngineError as error:
            reasons[name] = str(error)
            continue
        why = '; '.join(f'no {other}: {reason}' for other, reason in reasons.items())
        LOG.info('engine: %s (%s)', name, why or 'the best there is')
        return made, why or 'the best there is'
    raise EngineError(f'no engine works: {"; ".join(dict.fromkeys(reasons.values()))}')


def _on_gpu(reasons: dict[str, str]) -> Sequence[str]:
    """Return the backends on a GPU, or none and add the reason why."""
    try:
        find_gpu()
    except EngineError as error:
        reasons['GPU'] = str(error)
        return ()
    return ON_GPU
