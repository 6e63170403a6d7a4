# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""By what rendered windows are told apart in tables."""

from __future__ import annotations

from vts_ros.lab.scenes.scene_truth import WindowTruth

#: Speeds that part slow, usual and fast, in metres per second.
_SLOW_MPS, _FAST_MPS = 8.0, 16.0


def conditions_of(truth: WindowTruth) -> dict[str, str]:
    """Return the value of each group of conditions, such as ``night`` of ``light``."""
    speed, light, weather = truth.ego_speed_mps, truth.light, truth.weather
    return {
        'family': truth.family, 'risk': truth.risk, 'light': light or 'not known',
        'weather': weather or 'not known',
        'sight': 'night or rain' if light == 'night' or weather == 'rain' else 'good',
        'turning': 'straight' if truth.curve == 'straight' else 'curve',
        'speed': 'slow' if speed < _SLOW_MPS else 'fast' if speed > _FAST_MPS else 'usual'}
