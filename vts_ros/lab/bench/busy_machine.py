# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an answer takes while other programs want the processor, too, as they do in a car."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from vts_ros.lab.bench.benchmark_drive import drive_frames, windows_of
from vts_ros.lab.bench.measured_answers import measured_here
from vts_ros.lab.bench.workloads import EMBEDDED_SIZE, Progress
from vts_ros.pipeline.pipeline import EMBEDDED, Pipeline, PipelineConfig

WARM_UP = 3
#: How much longer an answer may take beside the loops.
GOAL = 2.5


def beside_loops(model: str = EMBEDDED, windows: int = 20, loops: int = 2, frames: int = 5,
                 seed: int = 7, device: str = 'auto', progress: Progress = lambda *_: None
                 ) -> dict[str, Any]:
    """
    Answer every window of a drive twice: on the machine as it is, and beside busy loops.

    Parameters
    ----------
    model, device
        As for the pipeline; all other settings are the defaults.
    windows
        How many count, after those that warm up.
    loops
        Processes that do nothing but count.
    frames
        Of a window.
    seed
        Of the drive.

    Returns
    -------
    ``{'alone': {'p50_ms', 'p95_ms'}, 'beside': the same, 'ratio': {'median', 'low', 'high'},
    'load', ...}``; the ratio is that of the same window, its edges are quartiles; the load is
    that of the machine before anything was measured, over the last minute.

    """
    load = os.getloadavg()[0]
    alone = Pipeline.load(PipelineConfig(model=model, device=device))
    beside = Pipeline(alone.sparsifier, alone.language_model, alone.prompts, alone.config,
                      alone.calibration, alone.guard, alone.taught)
    stream = windows_of(
        drive_frames(frames + windows + WARM_UP - 1, EMBEDDED_SIZE, seed), frames)
    times: list[tuple[float, float]] = []
    for index, window in enumerate(stream):
        progress(index / len(stream), f'window {index + 1} of {len(stream)}')
        quiet_ms = alone.describe(window).latency_ms['total']
        with _busy(loops):
            times.append((quiet_ms, beside.describe(window).latency_ms['total']))
    measured = np.array(times[WARM_UP:])
    low, middle, high = np.percentile(measured[:, 1] / measured[:, 0], (25, 50, 75))
    return {**measured_here(str(alone.vlm.model.device)), 'model': model, 'n': windows,
            'loops': loops, 'frames': frames, 'seed': seed, 'load': round(load, 1),
            'alone': _percentiles(measured[:, 0]), 'beside': _percentiles(measured[:, 1]),
            'ratio': {'median': round(float(middle), 2), 'low': round(float(low), 2),
                      'high': round(float(high), 2)}}


@contextmanager
def _busy(loops: int) -> Iterator[None]:
    """Run loops that want all that they can get."""
    running = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
               for _ in range(loops)]
    try:
        # Until they have started.
        time.sleep(0.3)
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _percentiles(times: Any) -> dict[str, float]:
    return {f'p{q}_ms': round(float(np.percentile(times, q)), 1) for q in (50, 95)}


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the section in the docs."""
    spread = result['ratio']
    yield (f'{result["model"]}, windows of {result["frames"]} frames with the default settings, '
           f'n = {result["n"]}, seed {result["seed"]}, {result["date"]}, {result["machine"]}; '
           f'load before {result["load"]}. Each window is answered alone and beside '
           f'{result["loops"]} processes that do nothing but count.')
    yield ''
    yield '| | p50 | p95 |'
    yield '|---|---|---|'
    for name, what in (('alone', 'alone'), ('beside', f'beside {result["loops"]} busy loops')):
        yield f'| {what} | {result[name]["p50_ms"]:.0f} ms | {result[name]["p95_ms"]:.0f} ms |'
    yield ''
    yield (f'Of the same window {spread["median"]:.2f} times as long (half of them: '
           f'{spread["low"]:.2f} to {spread["high"]:.2f}); goal: at most {GOAL}, '
           f'{"met" if spread["median"] <= GOAL else "missed"}.')
    yield ''
