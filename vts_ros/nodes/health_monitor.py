# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Once a second: check cameras and answers, and publish diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from vts_ros.nodes.camera import Cameras
from vts_ros.nodes.conversions import make_message, to_stamp
from vts_ros.nodes.current_pictures import CurrentPictures, list_reasons
from vts_ros.nodes.diagnostics import gpu_status
from vts_ros.nodes.jobs import format_error
from vts_ros.nodes.microphone import Microphone
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.parameter_table import Parameters
from vts_ros.nodes.qos import OUTPUT_QOS
from vts_ros.nodes.scheduler import Scheduler
from vts_ros.nodes.vehicle_state import VehicleState
from vts_ros.nodes.worker import Worker
from vts_ros.pipeline.pipeline_health import PipelineHealth

PERIOD_SEC = 1.0
#: How long to wait for a simulated time before a warning.
CLOCK_SEC = 2.0


class HealthMonitor:
    """
    Watches the parts of a node in the thread of its callbacks, also while it is inactive.

    Parameters
    ----------
    node
        Gets the publisher of ``/diagnostics`` and the timer.
    settings, clock
        Its parameters by name, and its time.
    cameras, pictures, scheduler, worker, vehicle, microphone, health
        The parts that are watched.
    outputs
        Retract answers that no longer hold.

    """

    def __init__(self, node: Node, settings: Parameters, clock: NodeClock, cameras: Cameras,
                 pictures: CurrentPictures, scheduler: Scheduler, worker: Worker,
                 vehicle: VehicleState, microphone: Microphone, health: PipelineHealth,
                 outputs: Outputs) -> None:
        self._node, self._settings, self._clock = node, settings, clock
        self._cameras, self._pictures, self._scheduler = cameras, pictures, scheduler
        self._worker, self._vehicle, self._health = worker, vehicle, health
        self._outputs, self._microphone = outputs, microphone
        self._clock_came_at = time.monotonic()
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', OUTPUT_QOS)
        # A steady timer: with use_sim_time, node timers stand still until /clock ticks.
        node.create_timer(PERIOD_SEC, self.tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def tick(self) -> None:
        """Check everything once."""
        try:
            missing = self._pictures.missing()
            self._take_back(missing)
            self._watch_clock()
            self._cameras.watch(self._settings['no_image_warn_sec'])
            self._microphone.watch()
            now_ns = self._clock.now_ns()
            self._publisher.publish(DiagnosticArray(
                header=Header(stamp=to_stamp(now_ns)), status=self._statuses(missing, now_ns)))
        except Exception as error:
            # Whatever it is: an exception that leaves a callback would end the node.
            if self._node.context.ok():
                self._node.get_logger().error(
                    f'no diagnostics: {format_error(error)} (said once)', once=True)

    def _take_back(self, missing: Mapping[str, str]) -> None:
        """Retract the answer if no camera shows the present, or if it is too old."""
        if missing and len(missing) == len(self._cameras):
            if self._settings['max_frame_age_sec']:
                self._scheduler.fall_silent(list_reasons(missing))
            else:
                # Where pictures of any age will do, so does what is being written about them.
                self._outputs.retract(list_reasons(missing))
        self._outputs.retract_if_old(self._settings['max_answer_age_sec'])

    def _watch_clock(self) -> None:
        """Warn once if simulated time is set and nobody publishes it."""
        if not self._clock.is_waited_for:
            self._clock_came_at = time.monotonic()
        elif time.monotonic() - self._clock_came_at > CLOCK_SEC:
            self._node.get_logger().warning(
                'use_sim_time is set, and nobody publishes /clock: no answers until that comes '
                '(vts replay --clock, ros2 bag play --clock)', once=True)

    def _statuses(self, missing: Mapping[str, str], now_ns: int) -> list[DiagnosticStatus]:
        # With its namespace: a car may have several, and all share the topic.
        name, info = self._node.get_fully_qualified_name().lstrip('/'), dict(self._health.info)
        vehicle = self._vehicle.signals.vehicle()
        if info and vehicle and vehicle.speed_mps is not None:
            info['vehicle_speed_mps'] = f'{vehicle.speed_mps:.1f}'
        statuses: list[DiagnosticStatus] = self._health.statuses(
            make_message, name, info, self._scheduler.state, self._warning(missing),
            self._worker.running)
        statuses += [camera.health.status(name, now_ns, self._settings['max_frame_age_sec'],
                                          '' if camera.health.arrivals else camera.publishers())
                     for camera in self._cameras]
        others = (gpu_status(name, info.get('device', '')), self._vehicle.status(name),
                  self._microphone.status(name))
        return [*statuses, *filter(None, others)]

    def _warning(self, missing: Mapping[str, str]) -> str:
        """Return why there are no answers although there should be, or ``''``."""
        limit_sec = self._settings['no_answer_warn_sec']
        if not self._cameras or not self._scheduler.is_enabled:
            return ''
        if self._clock.is_waited_for:
            return 'use_sim_time is set, and nobody publishes /clock'
        if len(missing) == len(self._cameras):
            return 'no camera shows the present'
        if missing:
            return f'without {list_reasons(missing)}'
        since_sec = time.monotonic() - self._health.answered_at
        return f'no answer for {since_sec:.0f} s' if 0 < limit_sec < since_sec else ''
