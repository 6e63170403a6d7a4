# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The time of a node: of the machine, or of a recording that is played."""

from __future__ import annotations

import time

from rclpy.node import Node


class NodeClock:
    """
    Tells stamps and durations of a node by one clock.

    With simulated time both stand still while that does: a recording that is paused does not make
    a camera silent or an answer old.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def is_simulated(self) -> bool:
        """Return whether the time comes from ``/clock``."""
        return bool(self._node.get_parameter('use_sim_time').value)

    @property
    def is_waited_for(self) -> bool:
        """Return whether the time is to come from ``/clock`` and has not come yet."""
        return self.is_simulated and self.now_ns() == 0

    def goes_on(self) -> bool:
        """Return whether time may come: of a recording that is paused, not of one that ended."""
        return not self.is_simulated or self._node.count_publishers('/clock') > 0

    def now_ns(self) -> int:
        """Return the present time in nanoseconds; 0 before the first ``/clock``."""
        return int(self._node.get_clock().now().nanoseconds)

    def seconds(self) -> float:
        """Return seconds of a clock that is right for durations: steady, or simulated."""
        return self.now_ns() * 1e-9 if self.is_simulated else time.monotonic()
