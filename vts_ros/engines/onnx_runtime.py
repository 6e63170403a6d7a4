# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as an engine."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vts_ros.engines.engine_cache import default_directory
from vts_ros.engines.gpu import find_gpu
from vts_ros.engines.onnx_graph import Graph
from vts_ros.errors import EngineError

#: Packages that all bring the module `onnxruntime`: with two of them, the files of one lie over
#: those of the other.
_PACKAGES = ('onnxruntime', 'onnxruntime-gpu', 'onnxruntime-directml', 'onnxruntime-openvino',
             'onnxruntime-qnn')


class OnnxRuntimeEngine:
    """
    A graph in ONNX Runtime.

    Parameters
    ----------
    source
        ONNX file, or a graph in the precision in which it shall run.
    threads
        Threads within an operator; 0 for one per core.
    provider
        Execution provider that must be there; nothing falls back to another one in silence.

    Raises
    ------
    EngineError
        If the provider is not available or the file is not a graph.

    """

    #: Arrays go in and come out on the host, also where a GPU computes.
    device = 'cpu'

    def __init__(self, source: Path | Graph, threads: int = 0,
                 provider: str = 'CPUExecutionProvider') -> None:
        onnxruntime = _import()
        if provider not in onnxruntime.get_available_providers():
            raise EngineError(f'ONNX Runtime has no {provider} here, only '
                              f'{", ".join(onnxruntime.get_available_providers())}')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that spin while they wait take the cores from the language model.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        what = f'{source.name}.onnx' if isinstance(source, Graph) else source
        # The errors of ONNX Runtime have no common class of their own.
        try:
            self._session = onnxruntime.InferenceSession(
                source.content if isinstance(source, Graph) else source, options,
                providers=_with_fallbacks(provider))
        except Exception as error:
            raise EngineError.of(f'{what} cannot be loaded', error) from error
        # A provider that is compiled in but does not start is replaced without an error.
        if provider not in self._session.get_providers():
            raise EngineError(f'ONNX Runtime could not start {provider}, it would run on '
                              f'{", ".join(self._session.get_providers())}')
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._name = f'onnxruntime-{provider.removesuffix("ExecutionProvider").lower()}'
        self._info = {'precision': 'fp32', 'version': onnxruntime.__version__,
                      'providers': ', '.join(self._session.get_providers())}
        if isinstance(source, Graph) and source.precision != 'fp32':
            self._name += f'-{source.precision}'
            self._info['precision'] = source.precision

    @property
    def name(self) -> str:
        """Return runtime and device, and precision if it is not FP32."""
        return self._name

    @property
    def info(self) -> dict[str, str]:
        """Return precision, version, and the providers that were granted."""
        return dict(self._info)

    @property
    def metadata(self) -> dict[str, str]:
        """Return the metadata that the export wrote into the file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs by name; raise EngineError if the inputs do not fit."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise EngineError.of(f'{self.name} failed', error) from error
        return dict(zip(self._outputs, values, strict=True))


def _import() -> Any:
    """Return the module, or raise EngineError if it is missing or there twice."""
    installed = [name for name in _PACKAGES if _is_installed(name)]
    if len(installed) > 1:
        names = ' '.join(installed)
        raise EngineError(f'{" and ".join(installed)} are installed over each other: '
                          f'pip uninstall {names}, then pip install the one you want '
                          '(onnxruntime-gpu for CUDA, else onnxruntime)')
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError.of('ONNX Runtime cannot be imported (pip install "vts_ros[cpu]" or '
                             '"vts_ros[gpu]")', error) from error
    return onnxruntime


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _with_fallbacks(provider: str) -> list[Any]:
    """Return the provider, its options, and those that take the nodes it does not know."""
    if provider == 'TensorrtExecutionProvider':
        # It crashes without a driver.
        find_gpu()
        directory = default_directory() / 'onnxruntime'
        return [(provider, {'trt_engine_cache_enable': 'True', 'trt_timing_cache_enable': 'True',
                            'trt_engine_cache_path': str(directory)}), 'CUDAExecutionProvider']
    return [provider]
