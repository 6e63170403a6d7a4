# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Time the proposal network and the window step on a GPU, with every runtime that is there.

Prints, from one run: milliseconds per frame (host picture in, maps on the GPU) and per window
(maps on the GPU, keep list on the host) for PyTorch eager and compiled, ONNX Runtime, TensorRT and
TensorRT-RTX; the floor below which no runtime can get, which is the bytes that must be moved over
the bandwidth that was measured; and what could not be run, with the reason.

    python -m vts_ros.lab.bench.gpu_engines --json
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import torch
import typer

from vts_ros.engines import Engine, EngineError
from vts_ros.engines.backends import ON_GPU
from vts_ros.engines.gpu import find_gpu
from vts_ros.engines.torch_engine import TorchEngine
from vts_ros.lab.bench.engine_benchmark import FRAMES, median_ms, sparsifiers
from vts_ros.paths import model_path
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.compiled_steps import FRAME, picture_size
from vts_ros.sparsify.proposal_network import (
    EMBEDDING_CHANNELS,
    FRAME_INPUTS,
    FRAME_OUTPUTS,
    load_net,
    MAP_SIZE,
)
from vts_ros.sparsify.window_step import WINDOW_INPUTS, WINDOW_OUTPUTS, WindowStep

BACKENDS = (*ON_GPU, 'onnxruntime-tensorrt')
#: For the bandwidth: much more than the caches of a GPU hold.
COPIED_BYTES = 1 << 30


def compiled() -> Sparsifier:
    """Return both steps through torch.compile."""
    net: Any = torch.compile(load_net(model_path(FRAME)).cuda())
    step: Any = torch.compile(WindowStep().cuda())
    engines: list[Engine] = [TorchEngine(net, FRAME_INPUTS, FRAME_OUTPUTS, 'cuda'),
                             TorchEngine(step, WINDOW_INPUTS, WINDOW_OUTPUTS, 'cuda')]
    return Sparsifier(*engines)


def copy_ms(source: torch.Tensor, target: torch.Tensor, runs: int = 20) -> float:
    """Return the time of a copy, by the clock of the GPU."""
    times = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source, non_blocking=True)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return float(np.median(times))


def floor(size: tuple[int, int]) -> dict[str, float]:
    """Return the least time of a frame: its upload, and what must be read and written."""
    large = torch.empty(COPIED_BYTES, dtype=torch.uint8, device='cuda')
    host = torch.empty(COPIED_BYTES // 8, dtype=torch.uint8, pin_memory=True)
    # A copy reads and writes.
    device_gb_s = 2e-6 * COPIED_BYTES / copy_ms(large, torch.empty_like(large))
    upload_gb_s = 1e-6 * host.numel() / copy_ms(host, large[:host.numel()])
    frame_bytes = size[0] * size[1] * 3
    weights = 4 * sum(weight.numel() for weight in load_net(model_path(FRAME)).parameters())
    maps = 4 * (1 + EMBEDDING_CHANNELS) * MAP_SIZE[0] * MAP_SIZE[1]
    return {'device_gb_per_sec': round(device_gb_s, 1), 'upload_gb_per_sec': round(upload_gb_s, 1),
            'upload_ms': round(1e-6 * frame_bytes / upload_gb_s, 4),
            'frame_ms': round(1e-6 * (frame_bytes + weights + maps) / device_gb_s, 4),
            'window_ms': round(1e-6 * FRAMES * maps / device_gb_s, 5)}


def measure(size: tuple[int, int], grid: tuple[int, int], runs: int) -> dict[str, Any]:
    """Return the medians of every runtime that works, the reasons of the others, and the floor."""
    engines, missing = sparsifiers(only=BACKENDS)
    try:
        engines['torch.compile'] = compiled()
        engines['torch.compile'].propose(np.zeros((*size, 3), np.uint8))
    # The compiler needs a C compiler and Triton, and has errors of many kinds without them.
    except Exception as error:
        engines.pop('torch.compile', None)
        missing['torch.compile'] = str(EngineError.of('it fails', error))
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    result: dict[str, Any] = {'frame_ms': {}, 'window_ms': {}}
    for name, engine in engines.items():
        window = [engine.propose(frame)] * FRAMES
        result['frame_ms'][name] = median_ms(lambda: engine.propose(frame), runs, engine)  # noqa: B023
        result['window_ms'][name] = median_ms(
            lambda: engine.select(window, grid, 0.6), runs, engine)  # noqa: B023
    return {**result, 'missing': missing, 'floor': floor(size)}


def main(
    size: Annotated[str, typer.Option(help='Width and height of the frames.')] = '848x480',
    rows: Annotated[int, typer.Option(help='Rows of visual tokens per frame.')] = 4,
    columns: Annotated[int, typer.Option(help='Columns of them.')] = 7,
    runs: Annotated[int, typer.Option(help='Repetitions; the median is reported.')] = 500,
    as_json: Annotated[bool, typer.Option('--json', help='One JSON object.')] = False,
) -> None:
    """Time the engines of a GPU."""
    try:
        gpu = find_gpu()
        if not torch.cuda.is_available():
            raise EngineError(f'PyTorch {torch.__version__} is not built for CUDA')
    except EngineError as error:
        typer.echo(f'nothing to measure: {error}', err=True)
        raise typer.Exit(1) from None
    result = {'gpu': gpu.name, 'target': gpu.target, 'torch': torch.__version__, 'size': size,
              'grid': f'{rows}x{columns}', 'runs': runs,
              **measure(picture_size(size), (rows, columns), runs)}
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(f'{gpu.name} ({gpu.target}), PyTorch {torch.__version__}, {size}, {runs} runs')
    for name, frame_ms in result['frame_ms'].items():
        typer.echo(f'{name:22} {frame_ms:8.3f} ms/frame {result["window_ms"][name]:8.3f} '
                   'ms/window')
    typer.echo('floor ' + ', '.join(f'{name} {value}' for name, value in result['floor'].items()))
    for name, reason in result['missing'].items():
        typer.echo(f'not run: {name}: {reason}')


if __name__ == '__main__':
    typer.run(main)
