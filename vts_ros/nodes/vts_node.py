# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node: camera topics in; scene description, risk, report and markers out.

Callbacks only store pictures. One worker thread runs the pipeline, always on the newest window,
and publishes what it finds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from copy import copy
from dataclasses import replace
from functools import partial, wraps
import os
import signal
import sys
import threading
import time
import traceback
from typing import NoReturn, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from vts_ros.frames import Frame, FrameBuffer, FrameError
from vts_ros.nodes.conversions import to_frame, to_markers, to_risk, to_stamp
from vts_ros.nodes.health import CameraHealth, PipelineHealth, too_old
from vts_ros.nodes.parameters import Parameters
from vts_ros.pipeline import BrokenFrame, Pipeline, Stop
from vts_ros.report import SceneReport

T = TypeVar('T')
Transition = Callable[['VtsNode', LifecycleState], TransitionCallbackReturn]

#: Sensor data as in REP 2003: a picture that is late is of no use.
INPUT_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5,
                       reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
#: Who joins late gets the last answer at once.
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                         durability=DurabilityPolicy.TRANSIENT_LOCAL)

DIAGNOSTICS_PERIOD_SEC = 1.0
#: How long the end of the node waits for the step of the model that is being computed.
CLOSE_TIMEOUT_SEC = 2.0


class UnansweredError(Exception):
    """There is nothing to describe, or it is no longer of interest; the message says why."""


def logged(transition: Transition) -> Transition:
    """Log what goes wrong in a lifecycle transition: rclpy would not say a word."""
    @wraps(transition)
    def wrapper(self: VtsNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            self.get_logger().error(f'{transition.__name__} failed: {error}\n'
                                    f'{traceback.format_exc()}')
            return TransitionCallbackReturn.FAILURE
    return wrapper


class VtsNode(LifecycleNode):
    """Lifecycle node around the pipeline: models are loaded on configure, topics on activate."""

    def __init__(self) -> None:
        super().__init__('vts_node')
        self._pipeline: Pipeline | None = None
        self._settings = Parameters(self, lambda: self._pipeline is not None)
        self._buffer = FrameBuffer()
        self._cameras: list[CameraHealth] = []
        self._subscriptions_of_cameras: list[Subscription] = []
        self._health = PipelineHealth()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix='pipeline')
        # Set to end what the worker is doing; every stretch of time has an event of its own.
        self._interrupt = threading.Event()
        self._enabled = True
        self._is_waiting = False
        self._last_start = float('-inf')

        self._description = self.create_lifecycle_publisher(
            String, '~/scene_description', LATCHED_QOS)
        self._risk = self.create_lifecycle_publisher(DiagnosticArray, '~/risk', LATCHED_QOS)
        self._markers = self.create_lifecycle_publisher(MarkerArray, '~/markers', LATCHED_QOS)
        self._report = self.create_lifecycle_publisher(String, '~/report', OUTPUT_QOS)
        self._answer = self.create_lifecycle_publisher(String, '~/answer', OUTPUT_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', OUTPUT_QOS)

        # What waits for the worker has a group of its own, so that it holds up nothing else.
        waits = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, '~/describe_now', self._on_describe_now,
                            callback_group=waits)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_subscription(String, '~/question', self._on_question, OUTPUT_QOS)
        # A steady timer: with use_sim_time, node timers stand still until /clock ticks.
        self.create_timer(DIAGNOSTICS_PERIOD_SEC, self._publish_diagnostics,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=True),
            post_callback=self._on_time_jump)

    # Lifecycle

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the models."""
        settings = self._settings
        self._buffer = FrameBuffer(
            settings['buffer.frames'], settings['buffer.interval_sec'])
        self._pipeline = Pipeline.load(settings.pipeline_config())
        self._health = PipelineHealth()
        self.get_logger().info('loaded: ' + ', '.join(
            f'{name} {value}' for name, value in self._pipeline.info().items()))
        return super().on_configure(state)

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        self._interrupt = threading.Event()
        for namespace in self._settings['cameras']:
            self._subscribe(namespace)
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and end what is being computed."""
        for subscription in self._subscriptions_of_cameras:
            self.destroy_subscription(subscription)
        self._subscriptions_of_cameras.clear()
        self._cameras = []
        self._interrupt.set()
        self._worker.submit(self._buffer.clear).result()
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the models."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline:
            self._worker.submit(pipeline.close).result()
        return super().on_cleanup(state)

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End what is being computed."""
        self._interrupt.set()
        return super().on_shutdown(state)

    def start(self) -> bool:
        """Configure and activate, unless a manager is to do that; return whether that worked."""
        return not self._settings['autostart'] or all(
            transition() == TransitionCallbackReturn.SUCCESS
            for transition in (self.trigger_configure, self.trigger_activate))

    def close(self) -> None:
        """End the worker, or leave it alone after a while."""
        self._interrupt.set()
        last = self._worker.submit(lambda: None)
        self._worker.shutdown(wait=False)
        wait([last], CLOSE_TIMEOUT_SEC)

    # Pictures in

    def _subscribe(self, namespace: str) -> None:
        raw = self._settings['image_transport'] == 'raw'
        topic = '/'.join(filter(None, (
            namespace.rstrip('/'), 'image_raw', '' if raw else 'compressed')))
        camera = CameraHealth(self.resolve_topic_name(topic))
        self._cameras.append(camera)
        self._subscriptions_of_cameras.append(self.create_subscription(
            Image if raw else CompressedImage, topic, partial(self._on_image, camera),
            copy(INPUT_QOS), qos_overriding_options=QoSOverridingOptions.with_default_policies()))
        self.get_logger().info(f'camera {camera.name}: {camera.topic}')

    def _on_image(self, camera: CameraHealth, message: Image | CompressedImage) -> None:
        camera.received(message.header.frame_id)
        try:
            frame = to_frame(message, camera.name, self.get_clock().now().nanoseconds)
        except FrameError as error:
            self._refuse(camera, str(error))
            return
        camera.stamp_ns = frame.stamp_ns
        outcome = self._buffer.push(frame)
        camera.counters[outcome] += 1
        if outcome == 'back':
            self._forget()
        if outcome in ('admitted', 'back'):
            self._request()

    def _request(self) -> None:
        """Have the newest window described; one that is still waiting gives way to it."""
        if not self._enabled or self._buffer.window() is None:
            return
        idle_sec = time.monotonic() - self._last_start
        if self._is_waiting or idle_sec < self._settings['pipeline.period_sec']:
            self._health.counters['skipped'] += 1
            return
        self._is_waiting = True
        self._worker.submit(self._describe_waiting)

    def _refuse(self, camera: CameraHealth, reason: str) -> None:
        camera.counters['refused'] += 1
        camera.problems[reason] += 1
        if camera.problems[reason] == 1:
            self.get_logger().warning(f'{camera.topic}: {reason} (said once, then only counted)')

    def _on_time_jump(self, jump: TimeJump) -> None:
        self._buffer.clear()
        self._forget()

    def _forget(self) -> None:
        """Start anew after time went back: what is being computed is about another drive."""
        self._interrupt.set()
        self._interrupt = threading.Event()
        if self._pipeline:
            self._worker.submit(self._pipeline.clear)
        self.get_logger().info('time went back: starting with an empty window')

    # Answers out; everything from here to the services runs on the worker

    def _describe_waiting(self) -> None:
        self._is_waiting = False
        self._last_start = time.monotonic()
        self._attempt(partial(self._describe, full=True))

    def _describe(self, full: bool) -> str:
        report = self._look(full, Pipeline.describe)
        age_ns = self.get_clock().now().nanoseconds - report.stamp
        report = replace(report, age_ms=age_ns * 1e-6)
        self._health.described(report)
        self._publish(report)
        return report.answer.description

    def _look(self, full: bool, run: Callable[[Pipeline, list[Frame], Stop], T]) -> T:
        """Run the pipeline on the newest window, without the frames that turn out broken."""
        interrupt, pipeline = self._interrupt, self._pipeline
        if pipeline is None or not self._cameras:
            raise UnansweredError('the node is not active')
        pipeline.set_keep_ratio(self._settings['sparsify.keep_ratio'])
        window = self._fresh_window(full)
        while window and not interrupt.is_set():
            try:
                result = run(pipeline, window, interrupt.is_set)
            except BrokenFrame as broken:
                self._drop(broken, window)
            else:
                if interrupt.is_set():
                    break
                return result
        raise UnansweredError('interrupted' if window else 'no picture can be decoded')

    def _fresh_window(self, full: bool) -> list[Frame]:
        window = self._buffer.window(full)
        if not window:
            raise UnansweredError('no window of pictures yet')
        limit_sec = self._settings['max_frame_age_sec'] or float('inf')
        now_ns = self.get_clock().now().nanoseconds
        ages_sec = {camera.name: camera.age_sec(now_ns) for camera in self._cameras}
        fresh = [frame for frame in window if ages_sec[frame.camera] <= limit_sec]
        if not fresh:
            raise UnansweredError(too_old(min(ages_sec.values())))
        return fresh

    def _drop(self, broken: BrokenFrame, window: list[Frame]) -> None:
        self._buffer.discard(broken.frame)
        window.remove(broken.frame)
        self._health.counters['broken'] += 1
        self.get_logger().warning(f'left out: {broken}', throttle_duration_sec=5.0)

    def _publish(self, report: SceneReport) -> None:
        frame_ids = {camera.name: camera.frame_id for camera in self._cameras}
        frame_id = frame_ids.get(report.frames[-1].camera, '')
        self._description.publish(String(data=report.answer.description))
        self._risk.publish(to_risk(report, f'{self.get_name()}: risk', frame_id))
        self._report.publish(String(data=report.to_json()))
        self._markers.publish(to_markers(report, self._settings['markers.frame_id']))

    def _attempt(self, job: Callable[[], str]) -> tuple[bool, str]:
        """Run a job; return whether it worked, and its text or what was in the way."""
        try:
            return True, job()
        except UnansweredError as reason:
            self._health.counters['unanswered'] += 1
            if self.context.ok():
                self.get_logger().info(f'nothing described: {reason}', throttle_duration_sec=5.0)
            return False, str(reason)
        except Exception as error:
            if not self.context.ok():
                return False, 'the node is ending'
            # The node stays up and says so. It never makes up an answer, least of all "no risk".
            self._health.failed(error)
            self.get_logger().error(f'{self._health.error}\n{traceback.format_exc()}')
            return False, self._health.error

    # Services, questions, diagnostics

    def _on_describe_now(self, request: Trigger.Request, response: Trigger.Response
                         ) -> Trigger.Response:
        job = self._worker.submit(self._attempt, partial(self._describe, full=False))
        response.success, response.message = job.result()
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response
                   ) -> SetBool.Response:
        self._enabled = request.data
        response.success, response.message = True, self._state()
        return response

    def _on_question(self, question: String) -> None:
        self._worker.submit(self._attempt, partial(self._reply, question.data))

    def _reply(self, question: str) -> str:
        answer = self._look(
            False, lambda pipeline, window, stop: pipeline.ask(window, question, stop))
        self._answer.publish(String(data=answer))
        return answer

    def _state(self) -> str:
        if not self._cameras:
            return 'not active'
        return 'enabled' if self._enabled else 'disabled'

    def _publish_diagnostics(self) -> None:
        name, now_ns = self.get_name(), self.get_clock().now().nanoseconds
        info = self._pipeline.info() if self._pipeline else {}
        limit_sec = self._settings['max_frame_age_sec']
        statuses = self._health.statuses(name, info, self._state())
        statuses += [camera.status(name, now_ns, limit_sec, self.count_publishers(camera.topic))
                     for camera in self._cameras]
        self._diagnostics.publish(
            DiagnosticArray(header=Header(stamp=to_stamp(now_ns)), status=statuses))


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM."""
    spins = False

    def interrupt(number: int, frame: object) -> None:
        # Loading models takes long and is cut short; what spins is ended by rclpy itself.
        if not spins:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    rclpy.init(args=args)
    node = None
    code = 0
    try:
        node = VtsNode()
        executor = MultiThreadedExecutor(num_threads=2)
        executor.add_node(node)
        if node.start():
            spins = True
            executor.spin()
        else:
            code = 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ParameterException as error:
        print(f'vts_node: {error}', file=sys.stderr)
        code = 1
    finally:
        if node:
            node.close()
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    # Everything is closed. To take PyTorch down object by object would cost seconds, and a model
    # inside one long step cannot be waited for.
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    main()
