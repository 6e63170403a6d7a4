# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The time of a node: that of the machine, or of a recording that is played."""

from __future__ import annotations

import time

from rclpy.node import Node


class NodeClock:
    """
    One clock for the stamps and durations of a node.

    Simulated time stops both when it stops: a paused recording makes no camera silent and no
    answer old.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def is_simulated(self) -> bool:
        """Return whether the time comes from ``/clock``."""
        return bool(self._node.get_parameter('use_sim_time').value)

    @property
    def is_waited_for(self) -> bool:
        """Return whether time comes from ``/clock``, and none has come yet."""
        return self.is_simulated and self.now_ns() == 0

    def goes_on(self) -> bool:
        """Return whether time may go on: it may if a recording is paused, not if it has ended."""
        return not self.is_simulated or self._node.count_publishers('/clock') > 0

    def now_ns(self) -> int:
        """Return the present time in nanoseconds; 0 before the first ``/clock``."""
        return int(self._node.get_clock().now().nanoseconds)

    def seconds(self) -> float:
        """Return the seconds of a clock for durations: steady, or simulated."""
        return self.now_ns() * 1e-9 if self.is_simulated else time.monotonic()
