# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the car does, from its twist."""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import TwistStamped

from vts_ros.vlm.prompts import Vehicle

#: What the car said of itself longer ago is not said to the model.
VALID_SEC = 1.0


class VehicleState:
    """
    The last twist of the car, as long as it is true.

    Parameters
    ----------
    seconds
        The clock of the node for durations.
    is_wanted
        Whether models are to know it at the moment.

    """

    def __init__(self, seconds: Callable[[], float], is_wanted: Callable[[], bool]) -> None:
        self._seconds, self._is_wanted = seconds, is_wanted
        self._vehicle, self._received_at = Vehicle(), float('-inf')

    def update(self, message: TwistStamped) -> None:
        """Take the newest message."""
        self._vehicle = Vehicle(speed_mps=message.twist.linear.x,
                                yaw_rate_radps=message.twist.angular.z)
        self._received_at = self._seconds()

    def now(self) -> Vehicle | None:
        """Return the present motion of the car; None if models are not told or it is unknown."""
        is_known = 0.0 <= self._seconds() - self._received_at < VALID_SEC
        return self._vehicle if is_known and self._is_wanted() else None
