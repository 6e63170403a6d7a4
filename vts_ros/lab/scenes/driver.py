# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The driver of the ego vehicle, for clips that go on after the hazard."""

from __future__ import annotations

from collections.abc import Sequence
import math

from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.world import Body, Knot, Track

#: From the moment at which a hazard is at its head to the reaction of the driver.
REACTION_SEC = 0.7
_STEP_SEC = 0.2


def drive_on(ego: Track, bodies: Sequence[Body], start: float, end: float, cruise: float) -> Track:
    """
    Return the track of an ego vehicle whose driver looks from time ``start`` on.

    The driver keeps a distance to what is in the corridor within 2 s, or to a red light, like
    the intelligent driver model, and otherwise goes back to the cruising speed.
    """
    step = _STEP_SEC
    knots = [knot for knot in ego.knots if knot.t < start]
    s, v, _ = ego.at(start)
    t = start
    while t < end:
        a = _wish(bodies, t, s, v, cruise)
        a = max(a, -v / step)
        knots.append(Knot(t, s, v, a))
        s, v = knots[-1].at(t + step)
        v = max(0.0, v)
        t += step
    knots.append(Knot(t, s, v, 0.0))
    return Track(tuple(knots))


def _wish(bodies: Sequence[Body], t: float, s: float, v: float, cruise: float) -> float:
    """Return the acceleration that the driver wishes."""
    a_max, comfort, headway, standstill = 1.8, 3.0, 1.3, 3.0
    free = a_max * (1.0 - (v / max(cruise, 1.0)) ** 4)
    worst = free
    for body in bodies:
        if body.label == 'traffic light':
            if body.phase(t) != 'red':
                continue
            line = body.along.at(t)[0] - body.stop_line
            if line < s:
                continue
            gap, other = line - s + 1.0, 0.0
        else:
            now = body.state(t)
            gap, other = now.s - now.half_s - s, max(0.0, now.vs)
            if now.s < s or gap > 80.0 or not any(
                    risk.place(state.d, state.half_d) == 'ahead'
                    for state in (body.state(t + ahead) for ahead in (0.0, 0.5, 1.0, 1.5, 2.0))):
                continue
            if now.vs < -0.5:
                continue
        gap = max(gap, 0.3)
        desired = standstill + max(0.0, v * headway + v * (v - other)
                                   / (2 * math.sqrt(a_max * comfort)))
        worst = min(worst, free - a_max * (desired / gap) ** 2)
    return max(worst, -8.5)
