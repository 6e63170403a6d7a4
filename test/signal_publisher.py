# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A car that says something of itself: a process for tests, which publishes until it is ended.

``python -m signal_publisher brake imu``: these topics, ten times a second, of a car that
brakes hard.
"""

from __future__ import annotations

from contextlib import suppress
import sys

from geometry_msgs.msg import TwistStamped
import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Imu, Joy
from std_msgs.msg import Float32


def main() -> None:
    """Publish the topics that the command line names."""
    rclpy.init()
    node = rclpy.create_node('car_signals')
    kinds = {'brake': (Float32, '/vehicle/brake'), 'imu': (Imu, '/imu'),
             'twist': (TwistStamped, '/twist'), 'joy': (Joy, '/joy')}
    publishers = {name: node.create_publisher(*kinds[name], 10) for name in sys.argv[1:]}

    def publish() -> None:
        stamp = node.get_clock().now().to_msg()
        for name, publisher in publishers.items():
            message = kinds[name][0]()
            if name == 'brake':
                message.data = 0.9
            else:
                message.header.stamp = stamp
            if name == 'imu':
                message.linear_acceleration.x = -6.0
                message.linear_acceleration.z = 9.81
            elif name == 'twist':
                message.twist.linear.x = 10.0
            publisher.publish(message)

    node.create_timer(0.1, publish)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == '__main__':
    main()
