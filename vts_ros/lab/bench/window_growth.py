# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an answer costs as windows grow longer and cameras become more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from vts_ros.lab.bench.measured_answers import measured_here
from vts_ros.lab.bench.window_benchmark import Bench
from vts_ros.lab.bench.workloads import DENSE, Progress, Workload

#: Stock transformers, and all that this package has.
COMPARED = (DENSE, 'drafted_0.4')
FRAMES, CAMERAS = (5, 8, 16, 32, 64), (1, 2, 4, 6)


def grow(workload: Workload, frames: Sequence[int] = FRAMES, cameras: Sequence[int] = CAMERAS,
         progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Measure windows of more and more instants of one camera, and of more and more cameras.

    All of them end at the same instants.

    Parameters
    ----------
    workload
        What is common to all of them; its frames are those of the windows of several cameras.
    frames, cameras
        Lengths of the windows, and numbers of cameras.

    Returns
    -------
    ``{'workload', 'frames': {length: {case: {'total_ms', 'ttft_ms', 'kv_bytes'}}}, 'cameras':
    the same}``; medians.

    """
    points = [(count, 1) for count in frames] + [
        (workload.frames, count) for count in cameras]
    bench = Bench(replace(workload, is_told=True))
    result: dict[str, Any] = {
        **measured_here(str(bench.vlm.model.device)),
        'workload': {**asdict(workload), 'size': list(workload.picture_size)},
        'frames': {}, 'cameras': {}}
    try:
        for index, (length, count) in enumerate(points):
            def tell(share: float, what: str, index: int = index, length: int = length,
                     count: int = count) -> None:
                progress((index + share) / len(points),
                         f'{length} instants of {count} cameras, {what}')

            bench.workload = replace(
                workload, frames=length, cameras=count, longest=max(frames))
            found = bench.run(tell, COMPARED)
            part, key = ('frames', length) if index < len(frames) else ('cameras', count)
            result[part][str(key)] = {
                name: {'total_ms': _median([sample.total_ms for sample in measured.samples]),
                       'ttft_ms': _median([sample.ttft_ms for sample in measured.samples]),
                       'kv_bytes': int(_median([sample.kv_bytes for sample in measured.samples])),
                       'n': len(measured.samples)}
                for name, measured in found.items()}
    finally:
        bench.close()
    return result


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 2)
