# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record a camera only while the risk is high: record_while_risky.py TOPIC NEW_BAG [LEVEL]."""

from contextlib import suppress
import sys

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from sensor_msgs.msg import CompressedImage

topic, path, wanted = (*sys.argv[1:], 'high')[:3]
rclpy.init()
node, levels = rclpy.create_node('recorder'), ['']
with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
    kind, types = 'sensor_msgs/msg/CompressedImage', get_typestore(Stores.ROS2_JAZZY)
    recorded = writer.add_connection(topic, kind, typestore=types)
    def on_risk(message: DiagnosticArray) -> None:
        levels[:] = [value.value for value in message.status[0].values if value.key == 'level']
    def on_picture(data: bytes) -> None:
        if wanted in levels:
            writer.write(recorded, node.get_clock().now().nanoseconds, data)
    node.create_subscription(DiagnosticArray, '/vts_node/risk', on_risk, 10)
    node.create_subscription(CompressedImage, topic, on_picture, qos_profile_sensor_data, raw=True)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
