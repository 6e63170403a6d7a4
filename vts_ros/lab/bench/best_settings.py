# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which engine, floats and threads are fastest on this machine, measured in a few minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
import gc
import os
from typing import Any

import numpy as np
import torch

from vts_ros.engines import BACKENDS
from vts_ros.lab.bench.benchmark_drive import drive_frames, INTERVAL_SEC, windows_of
from vts_ros.lab.bench.engine_benchmark import median_ms, sparsifiers
from vts_ros.lab.bench.measured_answers import measured_here
from vts_ros.lab.bench.workloads import EMBEDDED_SIZE, Progress
from vts_ros.pipeline.config import EMBEDDED
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm.int8_weights import INT8

#: Frames of a window, and windows that do not count.
_FRAMES, _WARM_UP = 5, 2
_ENGINE_RUNS, _ENGINE_SIZE = 20, (480, 848)
#: What is faster by less is not worth more threads or other floats.
MARGIN = 0.05

Way = dict[str, Any]


def choose(model: str = EMBEDDED, device: str = 'auto', windows: int = 8, seed: int = 7,
           size: tuple[int, int] = EMBEDDED_SIZE, progress: Progress = lambda *_: None
           ) -> dict[str, Any]:
    """
    Answer a few windows of a drive with every setting that may be the fastest.

    Thread counts take turns at every window; floats, of which each is loaded by itself, follow
    each other. Nothing is changed: what is best is said.

    Parameters
    ----------
    model, device
        As for the pipeline.
    windows
        How many count.
    size
        Width and height of the pictures.

    Returns
    -------
    ``{'engines': {backend: ms of the proposal network}, 'no_engine': {backend: reason}, 'ways':
    rows, 'settings': {name: value}, 'faster_with_int8': row or None, ...}``. A row has ``dtype``,
    ``quantization``, ``threads``, ``floats`` and, in ms, ``answer``, ``low`` and ``high``
    (median and quartiles). Settings are those that answer as before; int8 does not.

    Raises
    ------
    VlmError
        If the model cannot be loaded.

    """
    engine_ms, missing = _engines(seed)
    stream = windows_of(drive_frames(_FRAMES + windows + _WARM_UP - 1, size, seed), _FRAMES)
    config = PipelineConfig(model=model, device=device, interval_sec=INTERVAL_SEC)
    rows: list[Way] = []
    threads = torch.get_num_threads()
    try:
        for way in _precisions(config):
            if way['dtype'] in {row['floats'] for row in rows}:
                continue
            progress(len(rows) / 8, f'{way["quantization"] or way["dtype"]}: loading')
            pipeline = Pipeline.load(replace(config, **way))
            rows += _timed(pipeline, way, stream, progress)
            on = str(pipeline.vlm.model.device)
            pipeline.close()
            del pipeline
            gc.collect()
    finally:
        torch.set_num_threads(threads)
    exact = best([row for row in rows if not row['quantization']])
    small = [row for row in rows if row['quantization']]
    found = best(small) if small else None
    return {
        **measured_here(on), 'model': model, 'n': windows, 'seed': seed, 'engines': engine_ms,
        'no_engine': missing, 'ways': rows,
        'settings': {'engine.backend': min(engine_ms, key=engine_ms.__getitem__),
                     'vlm.dtype': exact['dtype'],
                     'vlm.threads': exact['threads']},
        'faster_with_int8': found if found and found['answer'] < exact['answer'] else None}


def _engines(seed: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return the time of the proposal network on each backend, or why there is none."""
    picture = np.random.default_rng(seed).integers(0, 256, (*_ENGINE_SIZE, 3), np.uint8)
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for backend in BACKENDS:
        made, reasons = sparsifiers(only=[backend])
        missing.update(reasons)
        for engine in made.values():
            found[backend] = median_ms(partial(engine.propose, picture), _ENGINE_RUNS, engine)
    return found, missing


def _precisions(config: PipelineConfig) -> list[Way]:
    """Return the floats to try, as settings: those of the checkpoint first."""
    on_gpu = config.device.startswith('cuda') or (
        config.device == 'auto' and torch.cuda.is_available())
    ways: list[Way] = [{'dtype': 'auto', 'quantization': ''}]
    return ways if on_gpu else [*ways, {'dtype': 'float32', 'quantization': ''},
                                {'dtype': 'auto', 'quantization': INT8}]


def _timed(pipeline: Pipeline, way: Way, stream: Sequence[Any], progress: Progress
           ) -> Iterator[Way]:
    """Yield a row for every number of threads, which take turns."""
    cores = len(os.sched_getaffinity(0))
    is_cpu = pipeline.vlm.model.device.type == 'cpu'
    counts = sorted({1, max(1, cores - 1), cores}) if is_cpu else [0]
    floats = str(pipeline.vlm.info['dtype'])
    # Each has a memory of its own, and all have the models.
    sharing = {count: Pipeline(
        pipeline.sparsifier, pipeline.language_model, pipeline.prompts, pipeline.config,
        pipeline.calibration, pipeline.guard, pipeline.taught) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    for index, window in enumerate(stream):
        progress(index / len(stream), f'{floats}, window {index + 1} of {len(stream)}')
        for count in counts[::1 if index % 2 else -1]:
            if count:
                torch.set_num_threads(count)
            times[count].append(sharing[count].describe(window).latency_ms['total'])
    for count in counts:
        low, middle, high = np.percentile(times[count][_WARM_UP:], (25, 50, 75))
        yield {**way, 'floats': floats, 'threads': count, 'answer': round(float(middle), 1),
               'low': round(float(low), 1), 'high': round(float(high), 1)}


def best(rows: Sequence[Way]) -> Way:
    """Return the first row, of fewest threads, that no other beats by more than a margin."""
    limit = (1.0 + MARGIN) * min(row['answer'] for row in rows)
    return min((row for row in rows if row['answer'] <= limit), key=lambda row: row['threads'])


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield what was measured and what to set, for people."""
    for name, ms in result['engines'].items():
        yield f'proposal network, {name}: {ms:.1f} ms per frame'
    for row in result['ways']:
        threads = f', threads: {row["threads"]}' if row['threads'] else ''
        yield (f'language model, {row["floats"]}{threads}: {row["answer"]:.0f} ms per answer '
               f'(quartiles {row["low"]:.0f} to {row["high"]:.0f}, n = {result["n"]})')
    yield 'The fastest here that answers as before, to put in the parameter file:'
    yield from yaml_of(result['settings']).splitlines()
    small = result['faster_with_int8']
    if small is not None:
        yield (f'vlm.quantization: int8 with vlm.threads: {small["threads"]} takes '
               f'{small["answer"]:.0f} ms, and changes answers: vts eval quantized --model '
               f'{result["model"]} measures by how much.')


def yaml_of(settings: dict[str, Any]) -> str:
    """Return settings as a parameter file has them."""
    groups: dict[str, list[str]] = {}
    for name, value in settings.items():
        group, _, own = name.partition('.')
        groups.setdefault(group, []).append(f'      {own}: {value}')
    return '\n'.join(['/**/vts_node:', '  ros__parameters:', *(
        line for group, own in groups.items() for line in (f'    {group}:', *own))])
