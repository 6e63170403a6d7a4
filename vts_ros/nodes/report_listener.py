# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Subscribe to the reports of a node, as any other node would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from vts_ros.nodes.conversions import to_ns
from vts_ros.pipeline.report import SceneReport

#: Deep enough for all answers of a while in which nobody listens.
QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class Listener(Node):
    """
    Passes the reports of a node on.

    Parameters
    ----------
    reporter
        Name of the node that reports.
    on_report
        Called with each report, in the course of :meth:`listen`.

    """

    def __init__(self, reporter: str, on_report: Callable[[SceneReport], None]) -> None:
        super().__init__('vts_listener')
        self._on_report = on_report
        self.create_subscription(String, f'/{reporter}/report', self._take, QOS)

    def watch(self, topic: str, on_picture: Callable[[int, bytes], None]) -> None:
        """Also pass the compressed pictures of a topic on, each with its stamp."""
        def take(message: CompressedImage) -> None:
            on_picture(to_ns(message.header.stamp), message.data.tobytes())

        self.create_subscription(CompressedImage, topic, take, QOS)

    def listen(self, timeout_sec: float) -> None:
        """Wait for messages and pass them on."""
        rclpy.spin_once(self, timeout_sec=timeout_sec)

    def _take(self, message: String) -> None:
        self._on_report(SceneReport.from_dict(json.loads(message.data)))


@contextmanager
def listening(reporter: str, on_report: Callable[[SceneReport], None]) -> Iterator[Listener]:
    """Take part in ROS with a :class:`Listener`."""
    # Ctrl-C stays an interrupt of the program, which may have other processes to end.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        listener = Listener(reporter, on_report)
        yield listener
        listener.destroy_node()
    finally:
        if rclpy.ok():
            rclpy.shutdown()
