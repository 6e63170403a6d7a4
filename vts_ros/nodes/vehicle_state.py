# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the car does, from its twist, its IMU and the topics that ``signals.topics`` names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import Imu

from vts_ros.errors import SignalError
from vts_ros.nodes.conversions import message_type, to_status
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.qos import INPUT_QOS
from vts_ros.pipeline.report_messages import HARDWARE_ID
from vts_ros.pipeline.signal_map import check_path, parse_signals, Signal, stamp_of, value_of
from vts_ros.pipeline.vehicle_signals import VehicleSignals


class VehicleState:
    """
    Subscribes to what the car says of itself. Whatever that is, the node goes on.

    Parameters
    ----------
    node
        Gets the subscriptions.
    clock
        Its time.
    signals
        Takes what comes.

    Attributes
    ----------
    counters
        Lines of the map that were ``refused``, messages that were ``received`` and ``unreadable``.

    """

    def __init__(self, node: Node, clock: NodeClock, signals: VehicleSignals) -> None:
        self._node, self._clock, self.signals = node, clock, signals
        self.counters: Counter[str] = Counter()
        self._problem = ''
        self._of_map: dict[str, Subscription] = {}
        node.create_subscription(TwistStamped, 'twist', self.on_twist, INPUT_QOS)
        node.create_subscription(Imu, 'imu', self.on_imu, INPUT_QOS)

    def open(self, lines: Sequence[str]) -> None:
        """Subscribe to the topics of the map; a line that is wrong is said once and counted."""
        self.close()
        for signal in parse_signals(lines, self._refuse):
            try:
                check_path(signal, _fields)
                self._of_map[f'{signal.name} {signal.topic}'] = self._node.create_subscription(
                    message_type(signal.msgtype), signal.topic, partial(self._on_message, signal),
                    INPUT_QOS)
            except SignalError as error:
                self._refuse(error)
            # rclpy raises many kinds, such as for a name that no topic may have.
            except Exception as error:
                reason = ' '.join(str(error).split())
                self._refuse(SignalError(f'{signal.label} cannot be subscribed: {reason}'))

    def close(self) -> None:
        """Unsubscribe from the topics of the map."""
        for subscription in self._of_map.values():
            self._node.destroy_subscription(subscription)
        self._of_map.clear()
        self.counters.clear()
        self._problem = ''

    def on_twist(self, message: TwistStamped) -> None:
        """Take the twist of the car."""
        self._take_all(message, {'speed': message.twist.linear.x,
                                 'yaw_rate': message.twist.angular.z}, 'twist')

    def on_imu(self, message: Imu) -> None:
        """Take the IMU of the car; its x axis points ahead (REP 103), its covariance says what."""
        values = {}
        # -1 says that there is no such estimate.
        if message.linear_acceleration_covariance[0] != -1.0:
            values['acceleration'] = message.linear_acceleration.x
        if message.angular_velocity_covariance[0] != -1.0:
            values['yaw_rate'] = message.angular_velocity.z
        self._take_all(message, values, 'imu')

    def status(self, node: str) -> DiagnosticStatus | None:
        """Return the status of the map; None where there is none."""
        if not self._of_map and not self.counters:
            return None
        level = DiagnosticStatus.WARN if self._problem else DiagnosticStatus.OK
        return to_status(
            f'{node}: signals', level, self._problem or 'signals are subscribed', HARDWARE_ID,
            {'topics': ', '.join(self._of_map), **{
                name: self.counters[name] for name in ('received', 'refused', 'unreadable')}})

    def _take_all(self, message: Any, values: Mapping[str, float], source: str) -> None:
        stamp_ns = stamp_of(message, self._clock.now_ns())
        for name, value in values.items():
            self.signals.take(name, value, stamp_ns, source=source)

    def _on_message(self, signal: Signal, message: Any) -> None:
        self.counters['received'] += 1
        try:
            value = value_of(signal, message)
        except SignalError as error:
            self.counters['unreadable'] += 1
            self._problem = str(error)
            self._node.get_logger().warning(f'{error}', throttle_duration_sec=5.0)
            return
        self.signals.take(signal.name, value, stamp_of(message, self._clock.now_ns()), signal,
                          signal.topic)

    def _refuse(self, error: SignalError) -> None:
        self.counters['refused'] += 1
        self._problem = str(error)
        self._node.get_logger().error(f'{error}; the pictures are described without it')


def _fields(msgtype: str) -> Mapping[str, str] | None:
    """Return the fields of a type of message; None where there is no such type."""
    try:
        fields: Mapping[str, str] = message_type(msgtype).get_fields_and_field_types()
        return fields
    # A package may be missing, or broken in any way.
    except Exception:
        return None
