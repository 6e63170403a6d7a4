# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node: camera topics in; scene description, risk, report and markers out.

Callbacks only store pictures, all in one thread. One worker thread runs the pipeline, always on
the newest window, and publishes what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial, wraps
import os
import signal
import sys
import threading
import time
import traceback
from typing import NoReturn, TypeVar

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
from std_msgs.msg import Float64, Header, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from vts_ros.engines import EngineError
from vts_ros.errors import FrameError, PromptError
from vts_ros.nodes.camera import Camera
from vts_ros.nodes.conversions import to_markers, to_no_markers, to_risk, to_stamp, to_unknown_risk
from vts_ros.nodes.diagnostics import gpu_status, HARDWARE_ID, PipelineHealth
from vts_ros.nodes.log_forwarding import forward_logs
from vts_ros.nodes.qos import INPUT_QOS, LATCHED_QOS, OUTPUT_QOS
from vts_ros.nodes.vts_parameters import VtsParameters
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline, Stop
from vts_ros.pipeline.report import FrameRef, SceneReport
from vts_ros.sparsify.compiled_steps import picture_size
from vts_ros.vlm import VlmError
from vts_ros.vlm.prompts import Vehicle

T = TypeVar('T')
Transition = Callable[['VtsNode', LifecycleState], TransitionCallbackReturn]
Run = Callable[[Pipeline, list[Frame], Stop], T]

DIAGNOSTICS_PERIOD_SEC = 1.0
#: How long the end of the node waits for the step of the model that is being computed.
CLOSE_TIMEOUT_SEC = 2.0
#: So many questions may wait; each holds up the descriptions for as long as its answer takes.
MAX_QUESTIONS = 8
#: What the car said of itself longer ago is not said to the model.
VEHICLE_SEC = 1.0
MAX_QUESTION_CHARS = 500

INTERRUPTED = 'interrupted'
#: Before the reason, where a question has no answer.
NO_ANSWER = 'No answer: '
UNDECODABLE = 'the newest pictures cannot be decoded'

#: Their messages say in one line what is missing or does not fit: no traceback says more.
FORESEEN = (EngineError, FileNotFoundError, FrameError, PromptError, VlmError)


class UnansweredError(Exception):
    """There is nothing to describe, or it is no longer of interest; the message says why."""


def told(error: Exception) -> str:
    """Return what a log says about an error: one line, or a traceback if nobody foresaw it."""
    if isinstance(error, FORESEEN):
        return str(error)
    return ''.join(traceback.format_exception(error)).rstrip()


def logged(transition: Transition) -> Transition:
    """Log what goes wrong in a lifecycle transition: rclpy would not say a word."""
    @wraps(transition)
    def wrapper(self: VtsNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            self._health.failed(error)
            self.get_logger().error(f'{transition.__name__} failed: {told(error)}')
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
        self._pipeline: Pipeline | None = None
        self._is_configured = False
        self._settings = VtsParameters(self, lambda: self._is_configured)
        self._buffer = FrameBuffer()
        self._settled = 0
        self._cameras: list[Camera] = []
        self._health = PipelineHealth()
        # What the car does, and when it was told.
        self._vehicle, self._told_at = Vehicle(), float('-inf')
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix='pipeline')
        # Set to end what the worker is doing; every stretch of time has an event of its own.
        self._interrupt = threading.Event()
        # The same for descriptions that nobody asked for.
        self._give_up = threading.Event()
        self._enabled = True
        self._is_waiting = self._is_arriving = False
        self._last_start = float('-inf')
        self._question_slots = threading.Semaphore(MAX_QUESTIONS)
        self._risk_name = f'{self.get_name()}: risk'
        # The newest picture that was told about, and by camera the newest stamp of a broken one.
        self._newest_told: FrameRef | None = None
        self._broken: dict[str, int] = {}
        # Whether the last message on ~/risk says what the risk is. With the lock, nothing is
        # published that was taken back meanwhile.
        self._risk_stands = False
        self._publishing = threading.RLock()

        self._description = self.create_lifecycle_publisher(
            String, '~/scene_description', LATCHED_QOS)
        self._risk = self.create_lifecycle_publisher(DiagnosticArray, '~/risk', LATCHED_QOS)
        self._markers = self.create_lifecycle_publisher(MarkerArray, '~/markers', LATCHED_QOS)
        self._report = self.create_lifecycle_publisher(String, '~/report', OUTPUT_QOS)
        self._answer = self.create_lifecycle_publisher(String, '~/answer', OUTPUT_QOS)
        self._partial = self.create_lifecycle_publisher(String, '~/answer_partial', OUTPUT_QOS)
        self._processing_ms, self._latency_ms = (
            self.create_lifecycle_publisher(Float64, f'~/debug/{name}_ms', OUTPUT_QOS)
            for name in ('processing_time', 'pipeline_latency'))
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

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the models."""
        settings = self._settings
        self._buffer = FrameBuffer(
            settings['buffer.frames'], settings['buffer.interval_sec'],
            settings['buffer.max_skew_sec'])
        self._settled = 0
        self._load()
        self._health = PipelineHealth()
        self._is_configured = True
        return super().on_configure(state)

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        self._interrupt = threading.Event()
        try:
            if self._pipeline is None:
                self._load()
            for namespace in self._settings['cameras']:
                self._cameras.append(Camera(
                    self, namespace, self._settings['image_transport'], self._on_frame))
            self._health.due()
        except Exception:
            self._stop('the node could not be activated')
            raise
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, end what is being computed and free the models."""
        self._stop('the node was deactivated')
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let parameters be changed that are read on configure."""
        self._free()
        self._is_configured = False
        return super().on_cleanup(state)

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, end what is being computed and free the models."""
        self._stop('the node was shut down')
        return super().on_shutdown(state)

    def _load(self) -> None:
        settings = self._settings
        size = picture_size(settings['engine.frame_size'])
        self._pipeline = Pipeline.load(settings.pipeline_config())
        if settings['engine.frame_size'] or self.builds_only:
            self._pipeline.warm_up(size, settings['buffer.frames'] * len(settings['cameras']))
        self.get_logger().info('loaded: ' + ', '.join(
            f'{name} {value}' for name, value in self._pipeline.info().items()))

    def _stop(self, reason: str) -> None:
        # The interrupt comes first: the worker must not take the missing cameras for silent ones.
        with self._publishing:
            self._interrupt.set()
            self._fall_silent(reason)
        cameras, self._cameras = self._cameras, []
        for camera in cameras:
            camera.close()
        self._worker.submit(self._buffer.clear).result()
        self._worker.submit(self._clear, None).result()
        self._free()

    def _free(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline:
            self._worker.submit(pipeline.close).result()
        self._health.stats = {}

    @property
    def builds_only(self) -> bool:
        """Return whether the node is to end once it is configured."""
        return bool(self._settings['engine.build_only'])

    def start(self) -> bool:
        """Configure and activate, unless a manager is to do that; return whether that worked."""
        if self.builds_only:
            return self.trigger_configure() == TransitionCallbackReturn.SUCCESS
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

    def _on_frame(self, camera: Camera, frame: Frame) -> None:
        outcome = self._buffer.push(frame)
        camera.health.placed(outcome, frame.stamp_ns)
        if outcome == 'back':
            self._forget()
        settled = self._buffer.settled
        if settled != self._settled:
            self._settled = settled
            self._request()

    def _request(self) -> None:
        """Have the newest window described; one that is still waiting gives way to it."""
        if not self._enabled or self._buffer.window() is None:
            return
        if not self._is_heard():
            # The last answer reaches who listens later: it must not be taken for a new one.
            self._fall_silent('nobody was listening')
            self._health.due()
            return
        idle_sec = time.monotonic() - self._last_start
        if self._is_waiting or idle_sec < self._settings['pipeline.period_sec']:
            self._health.counters['skipped'] += 1
            self._have_read()
            return
        self._is_waiting = True
        self._worker.submit(self._describe_waiting, self._give_up)

    def _have_read(self) -> None:
        """In causal mode, have new pictures read although no answer is due."""
        if self._settings['sparsify.mode'] == 'causal' and not (
                self._is_waiting or self._is_arriving):
            self._is_arriving = True
            self._worker.submit(self._read_waiting)

    def _on_time_jump(self, jump: TimeJump) -> None:
        self._buffer.clear()
        self._forget()

    def _forget(self) -> None:
        """Start anew after time went back: what is being computed is about another drive."""
        with self._publishing:
            self._interrupt.set()
            self._interrupt = threading.Event()
            self._fall_silent('time went back')
        self._worker.submit(self._clear, self._pipeline)
        self.get_logger().info('time went back: starting with an empty window')

    def _fall_silent(self, reason: str) -> None:
        """Take the last answer back at once, and give up those that nobody asked for."""
        with self._publishing:
            self._give_up.set()
            self._give_up = threading.Event()
            self._is_waiting = False
            self._retract(reason)

    # Answers out; everything from here to the services runs on the worker

    def _describe_waiting(self, give_up: threading.Event) -> None:
        if give_up.is_set():
            return
        self._is_waiting = False
        self._last_start = time.monotonic()
        self._describe(True, give_up)

    def _clear(self, pipeline: Pipeline | None) -> None:
        self._newest_told = None
        self._broken.clear()
        if pipeline:
            pipeline.clear()
            self._health.stats = pipeline.stats()

    def _read_waiting(self) -> None:
        self._is_arriving = False
        self._attempt(self._read_newest)

    def _read_newest(self) -> str:
        self._look(True, lambda pipeline, window, stop: pipeline.arrive_good(window, self._drop),
                   self._stop_at())
        return 'read'

    def _describe(self, full: bool, *give_up: threading.Event) -> tuple[bool, str]:
        """Describe and publish the newest window; return as :meth:`_attempt` does."""
        done, text = self._attempt(partial(self._describe_newest, full, *give_up))
        # A camera that now and then sends a broken picture must not make the risk flicker.
        if not (done or (text == UNDECODABLE and self._last_is_of_the_present())):
            self._retract(text)
        return done, text

    def _last_is_of_the_present(self) -> bool:
        told_ns = self._newest_told.stamp if self._newest_told else 0
        age_ns = self.get_clock().now().nanoseconds - told_ns
        return age_ns <= self._settings['max_frame_age_sec'] * 1e9

    def _describe_newest(self, full: bool, *give_up: threading.Event) -> str:
        stop = self._stop_at(*give_up)
        report = self._look(full, self._describe_new, stop)
        with self._publishing:
            if stop():
                raise UnansweredError(INTERRUPTED)
            self._publish(report)
        return report.answer.description

    def _publish(self, report: SceneReport) -> None:
        self._newest_told = report.frames[-1]
        age_ns = self.get_clock().now().nanoseconds - report.stamp
        report = replace(report, age_ms=age_ns * 1e-6)
        self._health.described(report, self._pipeline.answer_tokens if self._pipeline else 0)
        frame_ids = {one.health.name: one.health.frame_id for one in self._cameras}
        frame_id = frame_ids.get(report.frames[-1].camera, '')
        self._description.publish(String(data=report.answer.description))
        self._risk.publish(to_risk(report, self._risk_name, frame_id))
        self._risk_stands = True
        self._report.publish(String(data=report.to_json()))
        self._markers.publish(to_markers(report, self._settings['markers.frame_id']))
        self._processing_ms.publish(Float64(data=report.latency_ms['total']))
        self._latency_ms.publish(Float64(data=report.age_ms))

    def _describe_new(self, pipeline: Pipeline, window: list[Frame], stop: Stop) -> SceneReport:
        newest = window[-1]
        # Without its newest frame a window has been told about already.
        if self._newest_told == FrameRef(*newest.key) and newest.stamp_ns < max(
                self._broken.values(), default=0):
            raise UnansweredError(UNDECODABLE)
        return pipeline.describe(window, stop, self._vehicle_now())

    def _retract(self, reason: str) -> None:
        """Take the last answer back once: all that reaches who joins late."""
        with self._publishing:
            if not self._risk_stands:
                return
            self._risk_stands = False
            now_ns = self.get_clock().now().nanoseconds
            self._risk.publish(to_unknown_risk(reason, self._risk_name, HARDWARE_ID, now_ns))
            self._markers.publish(to_no_markers())
            self._description.publish(String())

    def _stop_at(self, *give_up: threading.Event) -> Stop:
        """Return what ends a job that begins now."""
        events = (self._interrupt, *give_up)
        return lambda: any(event.is_set() for event in events)

    def _look(self, full: bool, run: Run[T], stop: Stop) -> T:
        """Run the pipeline on the newest window, without the frames that turn out broken."""
        pipeline = self._pipeline
        if pipeline is None or not self._cameras:
            raise UnansweredError('the node is not active')
        pipeline.set_keep_ratio(self._settings['sparsify.keep_ratio'])
        pipeline.set_deadline(self._settings['pipeline.deadline_ms'])
        pipeline.set_prompts(self._settings['vlm.language'], self._settings['vlm.prompts'])
        try:
            result = self._run_on_good(run, pipeline, full, stop)
        finally:
            # For diagnostics: another thread must not look into a pipeline that runs.
            self._health.stats = pipeline.stats()
        if stop():
            raise UnansweredError(INTERRUPTED)
        return result

    def _run_on_good(self, run: Run[T], pipeline: Pipeline, full: bool, stop: Stop) -> T:
        """Try until no frame is broken; nothing of the good ones is computed twice."""
        while True:
            # Anew each time: without the broken frames the others may be too old.
            window = self._fresh_window(full)
            try:
                return run(pipeline, window, stop)
            except BrokenFrame as broken:
                self._drop(broken)

    def _fresh_window(self, full: bool) -> list[Frame]:
        window = self._buffer.window(full)
        if not window:
            all_broken = self._broken and not self._buffer.window(full=False)
            raise UnansweredError(UNDECODABLE if all_broken else 'no window of pictures yet')
        if not self._settings['max_frame_age_sec']:
            return window
        missing = {**self._too_old(window), **self._missing()}
        fresh = [frame for frame in window if frame.camera not in missing]
        if not fresh:
            raise UnansweredError(_listed(missing))
        return fresh

    def _too_old(self, window: list[Frame]) -> dict[str, str]:
        """Return the cameras whose newest frame of a window is too old, each with the reason."""
        now_ns, limit_sec = self.get_clock().now().nanoseconds, self._settings['max_frame_age_sec']
        newest_ns = {frame.camera: frame.stamp_ns for frame in window}
        return {
            camera: UNDECODABLE if stamp_ns < self._broken.get(camera, 0)
            else f'no picture of the last {limit_sec:.1f} s is in the window'
            for camera, stamp_ns in newest_ns.items() if now_ns - stamp_ns > limit_sec * 1e9}

    def _missing(self) -> dict[str, str]:
        """Return the cameras that do not show the present, each with the reason."""
        now_ns, limit_sec = self.get_clock().now().nanoseconds, self._settings['max_frame_age_sec']
        reasons = {one.health.name: one.health.missing(now_ns, limit_sec)
                   for one in self._cameras}
        return {name: reason for name, reason in reasons.items() if reason}

    def _drop(self, broken: BrokenFrame) -> None:
        frame = broken.frame
        self._buffer.discard(frame)
        self._broken[frame.camera] = max(frame.stamp_ns, self._broken.get(frame.camera, 0))
        for camera in self._cameras:
            if camera.health.name == frame.camera:
                camera.leave_out('broken', str(broken))

    def _attempt(self, job: Callable[[], str]) -> tuple[bool, str]:
        """Run a job; return whether it worked, and its text or what was in the way."""
        try:
            return True, job()
        except UnansweredError as reason:
            self._health.counters['unanswered'] += 1
            if self.context.ok():
                self.get_logger().info(f'no answer: {reason}', throttle_duration_sec=5.0)
            return False, str(reason)
        except Exception as error:
            if not self.context.ok():
                return False, 'the node is ending'
            # The node stays up and says so. It never makes up an answer, least of all "no risk".
            failure = self._health.failed(error)
            self.get_logger().error(f'no answer: {told(error)}', throttle_duration_sec=5.0)
            return False, failure

    # Services, questions, diagnostics

    async def _on_describe_now(self, request: Trigger.Request, response: Trigger.Response
                               ) -> Trigger.Response:
        # Awaited, not waited for: pictures come in the meantime, in the same thread.
        executor, described = self.executor, Future()
        if executor:
            described.add_done_callback(lambda _: executor.wake())
        self._worker.submit(self._describe, full=False).add_done_callback(
            lambda job: described.set_result(job.result()))
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

    def _on_question(self, question: String) -> None:
        if not 0 < len(question.data.strip()) <= MAX_QUESTION_CHARS:
            self._refuse_question(f'expected 1 to {MAX_QUESTION_CHARS} characters')
        elif not self._question_slots.acquire(blocking=False):
            self._refuse_question(f'{MAX_QUESTIONS} others are waiting')
        else:
            self._worker.submit(self._reply_waiting, question.data)

    def _on_twist(self, message: TwistStamped) -> None:
        self._vehicle = Vehicle(speed_mps=message.twist.linear.x,
                                yaw_rate_radps=message.twist.angular.z)
        self._told_at = time.monotonic()

    def _vehicle_now(self) -> Vehicle | None:
        """Return what the car does, for models that are to know; None if nobody tells."""
        is_known = time.monotonic() - self._told_at < VEHICLE_SEC
        return self._vehicle if is_known and self._settings['vlm.tell_vehicle'] else None

    def _refuse_question(self, reason: str) -> None:
        self._health.counters['questions_refused'] += 1
        self.get_logger().warning(f'question refused: {reason}', throttle_duration_sec=5.0)
        self._answer.publish(String(data=f'{NO_ANSWER}{reason}'))

    def _reply_waiting(self, question: str) -> None:
        self._question_slots.release()
        done, text = self._attempt(partial(self._reply, question))
        if not done and self.context.ok():
            self._answer.publish(String(data=f'{NO_ANSWER}{text}'))

    def _reply(self, question: str) -> str:
        answer = self._look(False, lambda pipeline, window, stop: pipeline.ask(
            window, question, stop, self._vehicle_now(),
            lambda text: self._partial.publish(String(data=text))), self._stop_at())
        self._answer.publish(String(data=answer))
        return answer

    def _state(self) -> str:
        if not self._cameras:
            return 'not active'
        if not self._enabled:
            return 'disabled'
        return 'enabled' if self._is_heard() else 'idle: nobody listens'

    def _is_heard(self) -> bool:
        """Return whether somebody listens to descriptions, or nobody has to."""
        outputs = (self._description, self._risk, self._markers, self._report)
        return not self._settings['pipeline.lazy'] or any(
            one.get_subscription_count() for one in outputs)

    def _on_tick(self) -> None:
        """Once a second: look after the cameras and tell how all of it is."""
        missing = self._missing()
        if missing and len(missing) == len(self._cameras):
            # Where pictures of any age will do, so does what is being written about them.
            take_back = self._fall_silent if self._settings['max_frame_age_sec'] else self._retract
            take_back(_listed(missing))
        try:
            for camera in self._cameras:
                camera.watch(self._settings['no_image_warn_sec'])
            self._diagnose(missing)
        except Exception as error:
            # Whatever it is: an exception that leaves a callback would end the node.
            if self.context.ok():
                self.get_logger().error(f'no diagnostics: {told(error)} (said once)', once=True)

    def _diagnose(self, missing: Mapping[str, str]) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(DiagnosticArray(
            header=Header(stamp=to_stamp(now_ns)), status=self._statuses(missing, now_ns)))

    def _statuses(self, missing: Mapping[str, str], now_ns: int) -> list[DiagnosticStatus]:
        name, pipeline = self.get_name(), self._pipeline
        info = pipeline.info() if pipeline else {}
        vehicle = self._vehicle_now()
        if info and vehicle:
            info['vehicle_speed_mps'] = f'{vehicle.speed_mps:.1f}'
        statuses = self._health.statuses(name, info, self._state(), self._warning(missing))
        statuses += [one.health.status(name, now_ns, self._settings['max_frame_age_sec'],
                                       '' if one.health.arrivals else one.publishers())
                     for one in self._cameras]
        gpu = gpu_status(name, info.get('device', ''))
        return [*statuses, gpu] if gpu else statuses

    def _warning(self, missing: Mapping[str, str]) -> str:
        """Return why answers are missing that should be there, or ``''``."""
        limit_sec = self._settings['no_answer_warn_sec']
        if not self._cameras or not self._enabled:
            return ''
        if len(missing) == len(self._cameras):
            return 'no camera shows the present'
        if missing:
            return f'without {_listed(missing)}'
        since_sec = time.monotonic() - self._health.answered_at
        return f'no answer for {since_sec:.0f} s' if 0 < limit_sec < since_sec else ''


def _listed(reasons: Mapping[str, str]) -> str:
    return ', '.join(f'{name}: {reason}' for name, reason in reasons.items())


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
