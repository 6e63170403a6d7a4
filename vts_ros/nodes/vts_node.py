# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node: camera topics in; scene description, risk, report and markers out.

Lifecycle and wiring. Callbacks only store pictures, all in one thread; the worker runs the
pipeline, always on the newest window; the outputs say what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future as Result
from functools import wraps
from itertools import count
import os
import signal
import sys
import threading
import time
from typing import NoReturn

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool, Trigger

from vts_ros.nodes.camera import Camera
from vts_ros.nodes.conversions import to_stamp
from vts_ros.nodes.diagnostics import gpu_status, PipelineHealth
from vts_ros.nodes.jobs import format_error, INTERRUPTED, Jobs
from vts_ros.nodes.log_forwarding import forward_logs
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.present import listed, Present
from vts_ros.nodes.qos import INPUT_QOS, OUTPUT_QOS
from vts_ros.nodes.vts_parameters import VtsParameters
from vts_ros.nodes.worker import Stop, Worker
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify.compiled_steps import picture_size
from vts_ros.vlm.prompts import Vehicle

Transition = Callable[['VtsNode', LifecycleState], TransitionCallbackReturn]

DIAGNOSTICS_PERIOD_SEC = 1.0
#: How long the end of the node waits for the step of the model that is being computed.
CLOSE_TIMEOUT_SEC = 2.0
#: So many questions may wait; each holds up the descriptions for as long as its answer takes.
MAX_QUESTIONS = 8
#: What the car said of itself longer ago is not said to the model.
VEHICLE_SEC = 1.0
#: How long a simulated time may fail to come before that is said.
CLOCK_SEC = 2.0
MAX_QUESTION_CHARS = 500

#: Jobs of the worker that end when their pictures are no longer of interest.
DESCRIBE, READ, ASKED, QUESTION = JOBS = ('describe', 'read', 'describe now', 'question')
#: What must be done in any case.
CONTROL = 'control'


def log_exceptions(transition: Transition) -> Transition:
    """Log what goes wrong in a lifecycle transition: rclpy would not say a word."""
    @wraps(transition)
    def wrapper(self: VtsNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            self._health.failed(error)
            self.get_logger().error(f'{transition.__name__} failed: {format_error(error)}')
            return TransitionCallbackReturn.FAILURE
    return wrapper


class VtsNode(LifecycleNode):
    """
    Lifecycle node around the pipeline.

    On configure the models are loaded, which finds out what is wrong with them. On activate the
    cameras are subscribed; on deactivate the memory of the models is free for others.
    """

    def __init__(self) -> None:
        super().__init__('vts_node')
        forward_logs(self.get_logger())
        self._clock_of_node = NodeClock(self)
        now_ns = self._clock_of_node.now_ns
        self._is_configured = False
        self._settings = VtsParameters(self, lambda: self._is_configured)
        for warning in self._settings.unknown_names():
            self.get_logger().warning(warning)
        # What runs where; read once, as another thread must not look into a pipeline that runs.
        self._info: dict[str, str] = {}
        self._cameras: list[Camera] = []
        self._present = Present(lambda: self._cameras, now_ns,
                                lambda: float(self._settings['max_frame_age_sec']))
        self._outputs = Outputs(self, now_ns)
        self._worker = Worker()
        self._health = PipelineHealth()
        self._jobs = Jobs(
            self._settings, self._clock_of_node, self._present, self._outputs,
            lambda: self._cameras, lambda: self._health, self._vehicle_now, self.get_logger(),
            self.context.ok)
        self._enabled = True
        self._last_start = float('-inf')
        self._question_numbers = count(1)
        self._question_slots = threading.Semaphore(MAX_QUESTIONS)
        # What the car does, and when it was told.
        self._vehicle, self._vehicle_at = Vehicle(), float('-inf')
        self._clock_missed = time.monotonic()

        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', OUTPUT_QOS)
        # What awaits the worker has a group of its own, so that it holds up nothing else.
        waits = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, '~/describe_now', self._on_describe_now,
                            callback_group=waits)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_subscription(String, '~/question', self._on_question, OUTPUT_QOS)
        self.create_subscription(TwistStamped, 'twist', self._on_twist, INPUT_QOS)
        # A steady timer: with use_sim_time, node timers stand still until /clock ticks.
        self.create_timer(DIAGNOSTICS_PERIOD_SEC, self._on_tick,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=False),
            post_callback=self._on_time_jump)

    # Lifecycle

    @log_exceptions
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the models."""
        settings = self._settings
        self._present.buffer = FrameBuffer(
            settings['buffer.frames'], settings['buffer.interval_sec'],
            settings['buffer.max_skew_sec'])
        self._load()
        self._health = PipelineHealth()
        self._is_configured = True
        return super().on_configure(state)

    @log_exceptions
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        try:
            if self._jobs.pipeline is None:
                self._load()
            for namespace in self._settings['cameras']:
                self._cameras.append(Camera(
                    self, namespace, self._settings['image_transport'], self._on_frame))
            self._health.due()
        except Exception:
            self._stop('the node could not be activated')
            raise
        return super().on_activate(state)

    @log_exceptions
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, end what is being computed and free the models."""
        self._stop('the node was deactivated')
        return super().on_deactivate(state)

    @log_exceptions
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let parameters be changed that are read on configure."""
        self._free()
        self._is_configured = False
        return super().on_cleanup(state)

    @log_exceptions
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, end what is being computed and free the models."""
        self._stop('the node was shut down')
        return super().on_shutdown(state)

    def _load(self) -> None:
        settings = self._settings
        size = picture_size(settings['engine.frame_size'])
        # A configuration that failed must not leave a second model beside the next one.
        self._free()
        pipeline = Pipeline.load(settings.pipeline_config())
        try:
            if settings['engine.frame_size'] or self.builds_only:
                pipeline.warm_up(size, settings['buffer.frames'] * len(settings['cameras']))
            self._info = pipeline.info()
        except Exception:
            pipeline.close()
            raise
        self._jobs.pipeline = pipeline
        if pipeline.guard is None:
            self.get_logger().warning(
                f'{self._info["name"]} has no guard: it speaks of any picture, also of those '
                'that are unlike all that it was trained on (docs/embedded_model.md)')
        self.get_logger().info('loaded: ' + ', '.join(
            f'{name} {value}' for name, value in self._info.items()))

    def _stop(self, reason: str) -> None:
        self._interrupt(reason)
        cameras, self._cameras = self._cameras, []
        for camera in cameras:
            camera.close()
        self._worker.submit(CONTROL, lambda stop: self._present.buffer.clear()).result()
        self._worker.submit(CONTROL, lambda stop: self._jobs.clear(None)).result()
        self._free()

    def _free(self) -> None:
        pipeline, self._jobs.pipeline = self._jobs.pipeline, None
        if pipeline:
            self._worker.submit(CONTROL, lambda stop: pipeline.close()).result()
        self._info = {}
        self._health.stats = {}

    @property
    def builds_only(self) -> bool:
        """Return whether the node is to end once it is configured."""
        return bool(self._settings['engine.build_only'])

    def start(self) -> bool:
        """Configure and activate, unless a manager is to do that; return whether that worked."""
        if self.builds_only:
            return self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        if not self._settings['autostart']:
            self.get_logger().info('autostart is false: waiting for ~/change_state')
            return True
        return all(transition() == TransitionCallbackReturn.SUCCESS
                   for transition in (self.trigger_configure, self.trigger_activate))

    def close(self) -> None:
        """End the worker, or leave it alone after a while."""
        self._worker.close(CLOSE_TIMEOUT_SEC)

    # Pictures in

    def _on_frame(self, camera: Camera, frame: Frame) -> None:
        outcome, window = self._present.buffer.advance(frame)
        camera.health.placed(outcome, frame.stamp_ns)
        if outcome == 'back':
            self._forget()
        if window:
            self._request()

    def _request(self) -> None:
        """Have the newest window described, unless that is not due."""
        if not self._enabled:
            return
        if not self._is_heard():
            # The last answer reaches who listens later: it must not be taken for a new one.
            self._fall_silent('nobody was listening')
            self._health.due()
            return
        idle_sec = time.monotonic() - self._last_start
        if idle_sec < self._settings['pipeline.period_sec'] or not self._worker.offer(
                DESCRIBE, self._describe_unasked):
            self._health.counters['skipped'] += 1
            if self._settings['sparsify.mode'] == 'causal':
                # New pictures are read although no answer is due.
                self._worker.offer(READ, self._jobs.read)

    def _describe_unasked(self, stop: Stop) -> None:
        self._last_start = time.monotonic()
        self._jobs.describe(True, stop)

    def _on_time_jump(self, jump: TimeJump) -> None:
        self._present.buffer.clear()
        self._forget()

    def _forget(self) -> None:
        """Start anew after time went back: what is being computed is about another drive."""
        self._interrupt('time went back')
        pipeline = self._jobs.pipeline
        self._worker.submit(CONTROL, lambda stop: self._jobs.clear(pipeline))
        for camera in self._cameras:
            camera.health.forget()
        self.get_logger().info('time went back: starting with an empty window')

    def _interrupt(self, reason: str) -> None:
        """Take the last answer back at once, and end whatever is being computed."""
        with self._outputs.lock:
            self._worker.cancel(*JOBS)
            self._outputs.retract(reason)

    def _fall_silent(self, reason: str) -> None:
        """Take the last answer back at once, and give up the one that nobody asked for."""
        with self._outputs.lock:
            self._worker.cancel(DESCRIBE)
            self._outputs.retract(reason)

    # Services and questions

    async def _on_describe_now(self, request: Trigger.Request, response: Trigger.Response
                               ) -> Trigger.Response:
        # Awaited, not waited for: pictures come in the meantime, in the same thread.
        executor, described = self.executor, Future()
        if executor:
            described.add_done_callback(lambda _: executor.wake())
        job = self._worker.submit(ASKED, lambda stop: self._jobs.describe(False, stop))
        job.add_done_callback(lambda done: described.set_result(
            (False, INTERRUPTED) if done.cancelled() else done.result()))
        response.success, response.message = await described
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response
                   ) -> SetBool.Response:
        self._enabled = request.data
        self._health.due()
        if not self._enabled:
            self._fall_silent('the node was disabled')
        response.success, response.message = True, self._state()
        return response

    def _on_question(self, message: String) -> None:
        number, question = next(self._question_numbers), message.data
        if not 0 < len(question.strip()) <= MAX_QUESTION_CHARS:
            self._refuse(number, question, f'expected 1 to {MAX_QUESTION_CHARS} characters')
        elif not self._question_slots.acquire(blocking=False):
            self._refuse(number, question, f'{MAX_QUESTIONS} others are waiting')
        else:
            job = self._worker.submit(QUESTION, lambda stop: self._jobs.attempt(
                lambda end: self._jobs.ask(number, question, end), stop))
            job.add_done_callback(lambda done: self._reply(number, question, done))

    def _refuse(self, number: int, question: str, reason: str) -> None:
        self._health.counters['questions_refused'] += 1
        self.get_logger().warning(f'question refused: {reason}', throttle_duration_sec=5.0)
        self._outputs.reply(number, question[:MAX_QUESTION_CHARS], '', reason)

    def _reply(self, number: int, question: str, job: Result[tuple[bool, str]]) -> None:
        self._question_slots.release()
        done, text = (False, INTERRUPTED) if job.cancelled() else job.result()
        if self.context.ok():
            self._outputs.reply(number, question, text if done else '', '' if done else text)

    def _on_twist(self, message: TwistStamped) -> None:
        self._vehicle = Vehicle(speed_mps=message.twist.linear.x,
                                yaw_rate_radps=message.twist.angular.z)
        self._vehicle_at = self._clock_of_node.seconds()

    def _vehicle_now(self) -> Vehicle | None:
        """Return what the car does, for models that are to know; None if nobody tells."""
        is_known = 0.0 <= self._clock_of_node.seconds() - self._vehicle_at < VEHICLE_SEC
        return self._vehicle if is_known and self._settings['vlm.tell_vehicle'] else None

    # Diagnostics

    def _state(self) -> str:
        if not self._cameras:
            return 'not active'
        if not self._enabled:
            return 'disabled'
        return 'enabled' if self._is_heard() else 'idle: nobody listens'

    def _is_heard(self) -> bool:
        """Return whether somebody listens to descriptions, or nobody has to."""
        return not self._settings['pipeline.lazy'] or self._outputs.is_heard()

    def _on_tick(self) -> None:
        """Once a second: look after cameras and answers, and tell how all of it is."""
        try:
            missing = self._present.missing()
            if missing and len(missing) == len(self._cameras):
                if self._settings['max_frame_age_sec']:
                    self._fall_silent(listed(missing))
                else:
                    # Where pictures of any age will do, so does what is being written about them.
                    self._outputs.retract(listed(missing))
            self._outputs.retract_if_old(self._settings['max_answer_age_sec'])
            self._watch_clock()
            for camera in self._cameras:
                camera.watch(self._settings['no_image_warn_sec'])
            self._diagnose(missing)
        except Exception as error:
            # Whatever it is: an exception that leaves a callback would end the node.
            if self.context.ok():
                self.get_logger().error(
                    f'no diagnostics: {format_error(error)} (said once)', once=True)

    def _watch_clock(self) -> None:
        """Say once that a simulated time does not come."""
        if not self._clock_of_node.is_waited_for:
            self._clock_missed = time.monotonic()
        elif time.monotonic() - self._clock_missed > CLOCK_SEC:
            self.get_logger().warning(
                'use_sim_time is set, and nobody publishes /clock: no answers until that comes '
                '(vts replay --clock, ros2 bag play --clock)', once=True)

    def _diagnose(self, missing: Mapping[str, str]) -> None:
        now_ns = self._clock_of_node.now_ns()
        self._diagnostics.publish(DiagnosticArray(
            header=Header(stamp=to_stamp(now_ns)), status=self._statuses(missing, now_ns)))

    def _statuses(self, missing: Mapping[str, str], now_ns: int) -> list[DiagnosticStatus]:
        # With its namespace: a car may have several, and all share the topic.
        name, info = self.get_fully_qualified_name().lstrip('/'), dict(self._info)
        vehicle = self._vehicle_now()
        if info and vehicle:
            info['vehicle_speed_mps'] = f'{vehicle.speed_mps:.1f}'
        statuses = self._health.statuses(
            name, info, self._state(), self._warning(missing), self._worker.running)
        statuses += [camera.health.status(name, now_ns, self._settings['max_frame_age_sec'],
                                          '' if camera.health.arrivals else camera.publishers())
                     for camera in self._cameras]
        gpu = gpu_status(name, info.get('device', ''))
        return [*statuses, gpu] if gpu else statuses

    def _warning(self, missing: Mapping[str, str]) -> str:
        """Return why answers are missing that should be there, or ``''``."""
        limit_sec = self._settings['no_answer_warn_sec']
        if not self._cameras or not self._enabled:
            return ''
        if self._clock_of_node.is_waited_for:
            return 'use_sim_time is set, and nobody publishes /clock'
        if len(missing) == len(self._cameras):
            return 'no camera shows the present'
        if missing:
            return f'without {listed(missing)}'
        since_sec = time.monotonic() - self._health.answered_at
        return f'no answer for {since_sec:.0f} s' if 0 < limit_sec < since_sec else ''


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM."""
    spins = False

    def interrupt(number: int, frame: object) -> None:
        # Loading models takes long and is cut short; what spins is ended by rclpy itself.
        if not spins:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        rclpy.init(args=args)
    except Exception as error:
        # A domain id, a log folder or a parameter file that ROS refuses.
        print(f'vts_node: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(1)
    node = None
    code = 0
    try:
        node = VtsNode()
        # One thread: the executor of several hands every callback from one to another, and under
        # load (test/test_node_load.py) loses pictures and starves the model.
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if not node.start():
            code = 1
        elif not node.builds_only:
            spins = True
            executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ParameterException as error:
        print(f'vts_node: {error}', file=sys.stderr)
        code = 1
    except Exception:
        # A signal ends the context under whatever a callback is just publishing.
        if rclpy.ok():
            raise
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
