# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Print the risk whenever the node says it: python examples/subscribe_to_risk.py."""

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import DurabilityPolicy, QoSProfile

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def tell(message: DiagnosticArray) -> None:
    """Print level, object and reason; `unknown` is never `none`."""
    status = message.status[0]
    values = {value.key: value.value for value in status.values}
    print(f'{values["level"]} {values["object"]}: {status.message}', flush=True)


rclpy.init()
node = rclpy.create_node('listener_to_risk')
node.create_subscription(DiagnosticArray, '/vts_node/risk', tell, LATCHED)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
