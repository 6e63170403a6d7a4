# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Times and memory of answers, and how they are summed up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Protocol

import numpy as np

from vts_ros.lab.bench.workloads import DENSE, DENSE_VIDEO, ROOFLINE, Workload
from vts_ros.lab.evaluation.generated_page import machine
from vts_ros.pipeline.frames import Frame


@dataclass
class Sample:
    """
    One answer.

    Attributes
    ----------
    total_ms, ttft_ms
        From the arrival of the newest frame to the answer, and to its first token.
    stages_ms
        Where the time went.
    kv_bytes, passes, written
        Keys and values at the end, runs of the language model, tokens of the answer.
    risk_ms
        From the arrival to the level of the risk, said before the answer ends; None where it is
        not.

    """

    total_ms: float
    ttft_ms: float
    stages_ms: dict[str, float]
    kv_bytes: int = 0
    passes: int = 0
    written: int = 0
    risk_ms: float | None = None


@dataclass
class Measured:
    """The answers of a case, and the most memory that it took."""

    samples: list[Sample] = field(default_factory=list)
    peak_bytes: int = 0


class Case(Protocol):
    """A way from a window to an answer."""

    def answer(self, window: Sequence[Frame]) -> Sample:
        """Answer a window."""


def measured_here(device: str) -> dict[str, str]:
    """Return where and when something was measured."""
    return {'date': date.today().isoformat(), 'machine': machine(device)}


def summary(workload: Workload, found: dict[str, Measured]) -> dict[str, Any]:
    """Return what was measured, and the ratios to the faster of the stock cases."""
    stock = min((name for name in (DENSE, DENSE_VIDEO) if name in found), key=lambda name: sum(
        sample.total_ms for sample in found[name].samples))
    dense = found[stock]
    figures = {name: _figures(measured) for name, measured in found.items()}
    ratios = {name: _ratios(measured, dense) for name, measured in found.items()
              if name != stock}
    result: dict[str, Any] = {
        'workload': {**asdict(workload), 'size': list(workload.picture_size),
                     'n': len(dense.samples)},
        'stock': stock}
    if ROOFLINE in found:
        result['roofline'] = {**figures.pop(ROOFLINE), 'ratio_to_stock': ratios.pop(ROOFLINE)}
    return {**result, 'cases': figures, 'ratio_to_stock': ratios}


def _figures(measured: Measured) -> dict[str, Any]:
    stages: dict[str, list[float]] = defaultdict(list)
    for name in dict.fromkeys(name for sample in measured.samples for name in sample.stages_ms):
        stages[name] = [sample.stages_ms.get(name, 0.0) for sample in measured.samples]
    totals = [sample.total_ms for sample in measured.samples]
    risks = [sample.risk_ms for sample in measured.samples if sample.risk_ms is not None]
    return {
        'windows_per_s': round(1e3 / float(np.mean(totals)), 4),
        'total_ms': _percentiles(totals),
        'ttft_ms': round(float(np.median([sample.ttft_ms for sample in measured.samples])), 2),
        # Only where all answers say it, so that it is of the same windows.
        'risk_ms': round(float(np.median(risks)), 2) if len(risks) == len(totals) else None,
        'stages_ms': {name: _percentiles(values) for name, values in stages.items()},
        'kv_bytes': int(np.median([sample.kv_bytes for sample in measured.samples])),
        'peak_bytes_above_weights': measured.peak_bytes,
        'answer_tokens': float(np.median([sample.written for sample in measured.samples])),
        'tokens_per_pass': round(sum(sample.written for sample in measured.samples)
                                 / max(sum(sample.passes for sample in measured.samples), 1), 3)}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f'p{q}': round(float(np.percentile(values, q)), 2) for q in (50, 95)}


def _ratios(measured: Measured, dense: Measured) -> dict[str, Any]:
    """Return the ratios of each window to the same window, dense: median, least and most."""
    pairs = list(zip(measured.samples, dense.samples))
    return {
        'windows_per_s': _spread([whole.total_ms / part.total_ms for part, whole in pairs]),
        'ttft_ms': _spread([part.ttft_ms / whole.ttft_ms for part, whole in pairs]),
        'kv_bytes': _spread([part.kv_bytes / max(whole.kv_bytes, 1) for part, whole in pairs]),
        'peak_bytes_above_weights': round(measured.peak_bytes / max(dense.peak_bytes, 1), 4)}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return ``{'median', 'low', 'high'}``, of which the last two are the quartiles."""
    return {name: round(float(np.percentile(values, percentile)), 3)
            for name, percentile in (('median', 50), ('low', 25), ('high', 75))}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {'median': round(float(np.median(values)), 4), 'low': round(min(values), 4),
            'high': round(max(values), 4)}
