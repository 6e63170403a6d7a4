# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX: build engines from graphs, and run them on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
import importlib
import logging
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from vts_ros.engines.engine_cache import Built, EngineCache, EngineKey, Shapes
from vts_ros.engines.gpu import find_gpu, Gpu, try_tensorrt
from vts_ros.engines.onnx_graph import fix_shapes, Graph, spans
from vts_ros.errors import EngineError

LOG = logging.getLogger(__name__)

#: Modules of each library, and how one comes by it.
_LIBRARIES = {
    'tensorrt': (('tensorrt',), 'JetPack and DRIVE OS bring it along; elsewhere: '
                                'pip install "vts_ros[gpu]"'),
    'tensorrt_rtx': (('tensorrt_rtx', 'tensorrt_rtx_bindings'), 'pip install "vts_ros[rtx]"'),
}


class Library(NamedTuple):
    """A TensorRT library: what the project calls it, its Python module, its version."""

    name: str
    module: Any
    version: str
    log: Any

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the compute capabilities that it builds for without a GPU."""
        known = getattr(self.module, 'ComputeCapability', None)
        return tuple(sorted(
            (name.lower() for name in getattr(known, '__members__', {}) if name.startswith('SM')),
            key=lambda name: int(name[2:])))


@lru_cache(maxsize=2)
def load_library(name: str) -> Library:
    """Import TensorRT (``tensorrt``) or TensorRT-RTX (``tensorrt_rtx``), or raise EngineError."""
    modules, remedy = _LIBRARIES[name]
    for module_name in modules:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # One that is there and lacks something else should say so.
            if error.name != module_name:
                raise EngineError.of(f'{name} cannot be imported', error) from error
        # A package whose shared libraries do not load has no error of its own kind.
        except Exception as error:
            raise EngineError.of(f'{name} cannot be imported', error) from error
        else:
            return Library(name, module, str(module.__version__), _make_log(module))
    raise EngineError(f'{name} is not installed: {remedy}')


def _make_log(module: Any) -> Any:
    """Return a logger in the form of the library that remembers what went wrong."""
    base: Any = module.ILogger
    errors = (base.INTERNAL_ERROR, base.ERROR)

    class Log(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                self.errors.append(message)
            LOG.debug('TensorRT: %s', message)

        def last(self) -> str:
            """Return the first of the errors since the last call; the others follow from it."""
            first, self.errors = (self.errors or ['it does not say why'])[0], []
            return ' '.join(first.split())

    return Log()


def key_for(library: Library, graph: Graph, shapes: Shapes, target: str, gpu: str = 'any'
            ) -> EngineKey:
    """Return the key of the engine of a graph for a target."""
    return EngineKey(graph.name, graph.sha256, library.name, library.version, gpu, target,
                     graph.precision, shapes)


def current_target(library: Library, gpu: Gpu) -> tuple[str, str]:
    """
    Return target and GPU name in the keys of engines for a GPU.

    TensorRT times its kernels on the very GPU; engines of TensorRT-RTX serve all GPUs of the same
    compute capability, wherever they were built.
    """
    return gpu.target, 'any' if library.targets else gpu.name


def build(library: Library, graph: Graph, shapes: Shapes, target: str) -> Built:
    """
    Compile a graph.

    Parameters
    ----------
    target
        Compute capability such as ``sm86``. TensorRT-RTX builds for any that it knows, TensorRT
        for the GPU that is there only.

    Returns
    -------
    The engine; its notes list names, types and shapes of its inputs and outputs.

    Raises
    ------
    EngineError
        If the library refuses an operator or the target; one line.

    """
    trt = library.module
    library.log.errors.clear()
    builder = trt.Builder(library.log)
    # TensorRT 11 knows no other networks and ignores the flag.
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, library.log)
    if not parser.parse(fix_shapes(graph.model, shapes).SerializeToString()):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f'{library.name} does not take {graph.name}: '
                          + ' '.join((reasons or [library.log.last()])[0].split()))
    config = builder.create_builder_config()
    # Ten bits of mantissa would not choose the same tokens.
    config.clear_flag(trt.BuilderFlag.TF32)
    if library.targets:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__[target.upper()], 0)
    profile = builder.create_optimization_profile()
    for name, axes in shapes.items():
        profile.set_shape(name, *zip(*axes))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f'{library.name} cannot build {graph.name}: {library.log.last()}')
    return Built(bytes(plan), {'tensors': _tensors(network)})


def _tensors(network: Any) -> list[dict[str, Any]]:
    """Return the inputs and outputs of a parsed network; -1 is an axis of any size."""
    ways = (('input', network.num_inputs, network.get_input),
            ('output', network.num_outputs, network.get_output))
    return [{'name': tensor.name, 'mode': mode, 'type': tensor.dtype.name.lower(),
             'shape': list(tensor.shape)}
            for mode, count, get in ways for tensor in map(get, range(count))]


def compile_graph(library: Library, graph: Graph, shapes: Shapes, cache: EngineCache,
                  target: str = 'current') -> tuple[EngineKey, bool]:
    """
    Put the engine of a graph into a cache, unless it is there.

    Parameters
    ----------
    target
        ``current`` for the GPU of this machine, or a compute capability.

    Returns
    -------
    Key of the engine, and whether it was there.

    Raises
    ------
    EngineError
        If the target is out of reach or the graph is refused.

    """
    if target == 'current':
        gpu = find_gpu()
        try_tensorrt(library.module.__name__)
        target, gpu_name = current_target(library, gpu)
    elif not library.targets:
        raise EngineError(f'{library.name} builds for the GPU it runs on only: '
                          f'leave the target "current", or build with tensorrt_rtx')
    elif target not in library.targets:
        raise EngineError(f'{library.name} {library.version} does not build for {target}, only '
                          f'for {", ".join(library.targets)}')
    else:
        gpu_name = 'any'
    key = key_for(library, graph, shapes, target, gpu_name)
    stored = cache.get_or_build(key, partial(build, library, graph, shapes, target))
    return key, stored.hit


class TensorRtEngine:
    """
    A graph in TensorRT or TensorRT-RTX on the first GPU.

    Engines come from the cache or are built when inputs of a new shape are first seen. NumPy
    arrays in give NumPy arrays out; tensors on the GPU give tensors on the GPU, with no copy
    through the host and no wait for the GPU.

    Parameters
    ----------
    library
        ``tensorrt`` or ``tensorrt_rtx``.
    graph
        What to run.
    cache
        Where engines are kept.

    Raises
    ------
    EngineError
        If there is no GPU, or library or PyTorch cannot use it.

    """

    def __init__(self, library: str, graph: Graph, cache: EngineCache) -> None:
        self._gpu = find_gpu()
        self._library = load_library(library)
        try_tensorrt(self._library.module.__name__)
        if not torch.cuda.is_available():
            raise EngineError(f'{library} keeps its data in PyTorch, and PyTorch '
                              f'{torch.__version__} does not work with {self._gpu.name}: '
                              'install one that is built for CUDA')
        self._graph, self._cache = graph, cache
        self._device = torch.device('cuda', 0)
        self._runtime = self._library.module.Runtime(self._library.log)
        self._engines: dict[str, Any] = {}
        self._runs: dict[tuple[tuple[str, tuple[int, ...]], ...], _Run] = {}
        self._lock = threading.Lock()
        self._info = {'precision': graph.precision, 'version': self._library.version,
                      'gpu': f'{self._gpu.name} ({self._gpu.target})'}

    @property
    def name(self) -> str:
        """Return library, and precision if it is not FP32."""
        suffix = '' if self._graph.precision == 'fp32' else f'-{self._graph.precision}'
        return f'{self._library.name}{suffix}'

    @property
    def device(self) -> str:
        """Return the device whose tensors it takes and returns as they are."""
        return str(self._device)

    @property
    def info(self) -> dict[str, str]:
        """Return precision, versions, and where the last engine came from."""
        return dict(self._info)

    def run(self, inputs: Mapping[str, NDArray[Any] | Tensor]) -> dict[str, Any]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        with self._lock:
            signature = tuple(sorted(shapes.items()))
            if signature not in self._runs:
                self._runs[signature] = self._prepare(shapes)
            try:
                outputs = self._runs[signature](inputs)
                if any(isinstance(value, Tensor) for value in inputs.values()):
                    return dict(outputs)
                return {name: value.cpu().numpy() for name, value in outputs.items()}
            except (RuntimeError, TypeError, ValueError) as error:
                raise EngineError.of(f'{self.name} failed', error) from error

    def _prepare(self, shapes: dict[str, tuple[int, ...]]) -> _Run:
        try:
            wanted = spans(self._graph.model, shapes)
            key = key_for(self._library, self._graph, wanted,
                          *current_target(self._library, self._gpu))
            if key.stem not in self._engines:
                self._engines[key.stem] = self._load(key, wanted)
            return _Run(self._library, self._engines[key.stem], shapes, self._device)
        except RuntimeError as error:
            raise EngineError.of(f'{self.name} failed', error) from error

    def _load(self, key: EngineKey, shapes: Shapes) -> Any:
        make = partial(build, self._library, self._graph, shapes, key.target)
        stored = self._cache.get_or_build(key, make)
        engine = self._runtime.deserialize_cuda_engine(stored.plan)
        if engine is None and stored.hit:
            LOG.warning('%s is built again: %s', stored.path, self._library.log.last())
            self._cache.discard(key)
            stored = self._cache.get_or_build(key, make)
            engine = self._runtime.deserialize_cuda_engine(stored.plan)
        if engine is None:
            raise EngineError(f'{self._library.name} cannot load what it built: '
                              f'{self._library.log.last()}')
        self._info |= {'cache': 'hit' if stored.hit else 'built',
                       'build_sec': f'{stored.build_sec:.1f}', 'file': str(stored.path)}
        return engine


class _Run:
    """
    An engine with inputs of one shape: its memory, its own stream, and the recorded launch.

    Not for several threads at once.
    """

    def __init__(self, library: Library, engine: Any, shapes: Mapping[str, tuple[int, ...]],
                 device: torch.device) -> None:
        trt, self._log = library.module, library.log
        self._records_itself = hasattr(trt, 'CudaGraphStrategy')
        # A context reads its engine as long as it runs.
        self._engine, self._device = engine, device
        self._stream = torch.cuda.Stream(device)
        self._context = _make_context(trt, engine)
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise RuntimeError(f'input {name} of shape {shape} does not fit: '
                                   f'{self._log.last()}')
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            memory = torch.empty(tuple(self._context.get_tensor_shape(name)), device=device,
                                 dtype=_torch_type(engine.get_tensor_dtype(name)))
            (self._inputs if is_input else self._outputs)[name] = memory
            self._context.set_tensor_address(name, memory.data_ptr())
        # Arrays are put here first: the copy to the GPU then needs no copy of the driver's.
        self._staging = {name: torch.empty_like(memory, device='cpu', pin_memory=True)
                         for name, memory in self._inputs.items()}
        self._recorded = self._record()

    def __call__(self, inputs: Mapping[str, NDArray[Any] | Tensor]) -> dict[str, Tensor]:
        """Return the outputs as new tensors; they are ready in the order of the current stream."""
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            for name, memory in self._inputs.items():
                memory.copy_(self._staged(name, inputs[name]), non_blocking=True)
            if self._recorded is None:
                self._launch()
            else:
                self._recorded.replay()
            outputs = {name: memory.clone() for name, memory in self._outputs.items()}
        caller.wait_stream(self._stream)
        for value in outputs.values():
            value.record_stream(caller)
        return outputs

    def _staged(self, name: str, value: NDArray[Any] | Tensor) -> Tensor:
        staging = self._staging[name]
        if isinstance(value, Tensor):
            if value.dtype != staging.dtype:
                raise TypeError(f'input {name} is {value.dtype}, expected {staging.dtype}')
            return value
        # The copy before this one may still be on its way.
        self._stream.synchronize()
        np.copyto(staging.numpy(), value, casting='no')
        return staging

    def _launch(self) -> None:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise RuntimeError(self._log.last())

    def _record(self) -> torch.cuda.CUDAGraph | None:
        """Return the launch as a CUDA graph; None where that fails or the library does it."""
        with torch.cuda.stream(self._stream):
            for memory in self._inputs.values():
                memory.zero_()
            # The first launch may set things up that a recording must not hold.
            self._launch()
        self._stream.synchronize()
        if self._records_itself:
            return None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream,
                                  capture_error_mode='thread_local'):
                self._launch()
        except RuntimeError as error:
            LOG.info('launched without a CUDA graph: %s', str(error).splitlines()[0])
            return None
        return graph


def _make_context(trt: Any, engine: Any) -> Any:
    """Return an execution context; TensorRT-RTX records its CUDA graphs by itself."""
    if not hasattr(trt, 'CudaGraphStrategy'):
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(runtime_config=config)


def _torch_type(dtype: Any) -> torch.dtype:
    types = {'FLOAT': torch.float32, 'HALF': torch.float16, 'INT64': torch.int64,
             'INT32': torch.int32, 'INT8': torch.int8, 'UINT8': torch.uint8, 'BOOL': torch.bool}
    if dtype.name not in types:
        raise RuntimeError(f'no PyTorch type for {dtype}')
    return types[dtype.name]

