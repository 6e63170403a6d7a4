# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Look for a GPU, or try a TensorRT library on it, in a process of its own; prints JSON.

Run as a script by ``vts_ros.engines.gpu``, with nothing but the standard library: without a
driver, or with one that is too old, TensorRT ends the process that asks it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from typing import Any

#: Attributes of a device in the CUDA driver API.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


def load_driver() -> ctypes.CDLL:
    """Return the library of the NVIDIA driver; raise RuntimeError where there is none."""
    try:
        return ctypes.CDLL('libcuda.so.1')
    except OSError:
        raise RuntimeError('no NVIDIA driver (libcuda.so.1 is not there)') from None


def describe_gpu() -> dict[str, Any]:
    """Return name, compute capability and memory of the first GPU, by the driver alone."""
    cuda = load_driver()
    number, value = ctypes.c_int(), ctypes.c_int()
    if status := cuda.cuInit(0):
        raise RuntimeError(f'the NVIDIA driver does not start (CUDA error {status})')
    if cuda.cuDeviceGetCount(ctypes.byref(number)) or not number.value:
        raise RuntimeError('the NVIDIA driver finds no GPU')
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    device = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return {'name': name.value.decode(errors='replace'), 'capability': capability,
            'memory_mib': memory.value >> 20}


def try_tensorrt(module_name: str) -> dict[str, Any]:
    """Build the smallest network and load it on the GPU; return the version of the library."""
    trt = importlib.import_module(module_name)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    value = network.add_input('x', trt.float32, (1,))
    network.mark_output(network.add_identity(value).get_output(0))
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError('it cannot build a network')
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None or engine.create_execution_context() is None:
        raise RuntimeError('it cannot load the network that it built')
    return {'version': trt.__version__}


def main() -> None:
    """Answer one question on stdout: ``gpu``, or ``tensorrt MODULE``."""
    # This folder is no place to import from: its modules are named like libraries.
    sys.path[:] = sys.path[1:]
    try:
        found = describe_gpu() if sys.argv[1] == 'gpu' else try_tensorrt(sys.argv[2])
    except Exception as error:
        found = {'problem': ' '.join(str(error).split())}
    print(json.dumps(found))


if __name__ == '__main__':
    main()
