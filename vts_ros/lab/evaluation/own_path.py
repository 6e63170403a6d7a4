# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the car of a rendered scene was in each frame, by what it says of speed and yaw rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.signal_evidence import NOISE, SIGNAL_HZ
from vts_ros.lab.rivals.known_motion import driven
from vts_ros.lab.scenes.world import Scene


def said_path(scene: Scene) -> NDArray[np.float64]:
    """
    Return where the camera was in each frame, float64 [T, 3], relative to the first frame.

    From speed and yaw rate ten times as often as frames and more, with the noise of sensors
    (:data:`vts_ros.lab.evaluation.signal_evidence.NOISE`); see
    :func:`vts_ros.lab.rivals.known_motion.driven`.
    """
    rng = np.random.default_rng([scene.seed, 8])
    begin, end = float(scene.times[0]), float(scene.times[-1])
    times = np.linspace(begin, end, max(2, round((end - begin) * SIGNAL_HZ) + 1))
    speeds, rates = np.empty((2, len(times)))
    for number, time_sec in enumerate(times.tolist()):
        s, speed, _ = scene.ego.at(time_sec)
        speeds[number] = speed
        rates[number] = speed * scene.road.curvature(s - scene.setback_m)
    path = driven(times, speeds + rng.normal(0.0, NOISE['speed'], len(times)),
                  rates + rng.normal(0.0, NOISE['yaw_rate'], len(times)))
    return np.stack([np.interp(scene.times, times, path[:, axis]) for axis in range(3)], axis=1)
