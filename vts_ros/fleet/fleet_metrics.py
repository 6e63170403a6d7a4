# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of a fleet as metrics of Ray, which its dashboard and Prometheus read."""

from __future__ import annotations

from ray.util.metrics import Gauge

#: What is told, by the name of the metric.
METRICS = {
    'vts_fleet_recordings_done': 'Recordings whose answers are there.',
    'vts_fleet_recordings_left': 'Recordings that are not described yet.',
    'vts_fleet_recordings_failed': 'Recordings without answers, each with its reason.',
    'vts_fleet_answers_per_second': 'Answers per second since the workers began.',
    'vts_fleet_seconds_left': 'Estimated time left, if recordings are alike.'}


class FleetMetrics:
    """Tells Ray how far a run is; in a cluster without ``ray[default]`` nobody reads it."""

    def __init__(self) -> None:
        self._gauges = {name: Gauge(name, description) for name, description in METRICS.items()}

    def tell(self, done: int, left: int, failed: int, per_sec: float, eta_sec: float | None
             ) -> None:
        """Tell numbers of recordings, answers per second and, if it is known, the time left."""
        for gauge, value in zip(self._gauges.values(), (done, left, failed, per_sec, eta_sec)):
            if value is not None:
                gauge.set(float(value))
