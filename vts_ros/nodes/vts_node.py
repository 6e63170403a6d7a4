# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node: camera topics in; scene description, risk, report and markers out.

Lifecycle and wiring. Callbacks only store pictures, all in one thread; the scheduler decides when
the worker runs the pipeline, always on the newest window; the outputs say what it finds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future as Done
from functools import wraps
import os
import signal
import sys
from typing import NoReturn

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from vts_ros.nodes.camera import Cameras
from vts_ros.nodes.current_pictures import CurrentPictures
from vts_ros.nodes.cv_bridge_images import find_converters
from vts_ros.nodes.health_monitor import HealthMonitor
from vts_ros.nodes.jobs import CONTROL, format_error, INTERRUPTED, Jobs
from vts_ros.nodes.log_forwarding import forward_logs
from vts_ros.nodes.microphone import Microphone
from vts_ros.nodes.model_loading import ModelLoading
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.parameter_files import unused_files
from vts_ros.nodes.parameter_table import ParameterError
from vts_ros.nodes.program_start import start_ros
from vts_ros.nodes.qos import OUTPUT_QOS
from vts_ros.nodes.questions import Questions
from vts_ros.nodes.scheduler import Scheduler
from vts_ros.nodes.typed_requests import Described, TypedRequests
from vts_ros.nodes.vehicle_state import VehicleState
from vts_ros.nodes.vts_parameters import VtsParameters
from vts_ros.nodes.worker import Worker
from vts_ros.pipeline.events import Event
from vts_ros.pipeline.frames import FrameBuffer
from vts_ros.pipeline.pipeline_health import PipelineHealth
from vts_ros.pipeline.vehicle_signals import VehicleSignals

Transition = Callable[['VtsNode', LifecycleState], TransitionCallbackReturn]

#: How long the end of the node waits for the step of the model that is being computed.
CLOSE_TIMEOUT_SEC = 2.0


def log_exceptions(transition: Transition) -> Transition:
    """Log errors of a lifecycle transition, which rclpy would not."""
    @wraps(transition)
    def wrapper(self: VtsNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            self.health.failed(error)
            self.get_logger().error(f'{transition.__name__} failed: {format_error(error)}')
            return TransitionCallbackReturn.FAILURE
    return wrapper


class VtsNode(LifecycleNode):
    """
    Lifecycle node around the pipeline.

    On configure the models are loaded, which finds out what is wrong with them; a server that is
    not there yet is waited for. On activate the
    cameras are subscribed; on deactivate the memory of the models is free for others.

    Attributes
    ----------
    cameras, pictures, microphone
        The cameras it subscribes to, their present window, and what hears.
    worker, jobs, models, scheduler
        The thread of the models, its jobs, the models that these need, and when they run.
    outputs, questions
        Its publishers, and the questions it is asked.
    health, monitor
        The record of its answers, and what watches all parts.

    """

    def __init__(self) -> None:
        super().__init__('vts_node')
        forward_logs(self.get_logger())
        self._is_configured = False
        settings = self._settings = VtsParameters(self, lambda: self._is_configured)
        for warning in (*settings.unknown_names(),
                        *unused_files(sys.argv, self.get_fully_qualified_name())):
            self.get_logger().warning(warning)
        log, is_up, clock = self.get_logger(), self.context.ok, NodeClock(self)
        self.health, self.worker = PipelineHealth(), Worker()
        self.outputs = Outputs(self, clock.now_ns)
        self.cameras = Cameras(self, find_converters(log.info))
        self.pictures = CurrentPictures(
            self.cameras, clock.now_ns, lambda: float(settings['max_frame_age_sec']))
        signals = VehicleSignals(
            clock.seconds, lambda: bool(settings['vlm.tell_vehicle']),
            lambda: bool(settings['signals.evidence']), lambda: self.jobs.events)
        self.jobs = Jobs(settings, clock, self.pictures, self.outputs, self.cameras, self.health,
                         signals.vehicle, log, is_up)
        self._vehicle = VehicleState(self, clock, signals)
        self.models = ModelLoading(self, settings, self.worker, self.jobs, self.health)
        self.scheduler = Scheduler(settings, self.cameras, self.pictures, self.worker, self.jobs,
                                   self.outputs, self.health, log)
        self.microphone = Microphone(self, settings, self._note, clock.now_ns)
        self.questions = Questions(
            self.worker, self.jobs, self.outputs, self.health, log, is_up)
        self.monitor = HealthMonitor(
            self, settings, clock, self.cameras, self.pictures, self.scheduler, self.worker,
            self._vehicle, self.microphone, self.health, self.outputs)
        self._requests = TypedRequests(
            self, self.questions, self._describe, self.cameras.frame_id)
        self._listen()

    def _listen(self) -> None:
        # Callbacks that await the worker have their own group, so that they delay no others.
        waits = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, '~/describe_now', self._on_describe_now,
                            callback_group=waits)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_subscription(String, '~/question', self._on_question, OUTPUT_QOS)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=False),
            post_callback=lambda jump: self.scheduler.start_anew())

    @log_exceptions
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the models."""
        settings = self._settings
        self.pictures.buffer = FrameBuffer(
            settings['buffer.frames'], settings['buffer.interval_sec'],
            settings['buffer.max_skew_sec'])
        self.health.start_anew()
        self.models.load(may_wait=not self.builds_only)
        self._vehicle.open(settings['signals.topics'])
        self._is_configured = True
        return super().on_configure(state)

    @log_exceptions
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        try:
            if self.jobs.pipeline is None and not self.models.is_waiting:
                self.models.load(may_wait=True)
            self.cameras.open(self._settings['cameras'], self._settings['image_transport'],
                              self.scheduler.on_frame, self.pictures.buffer.may_take)
            self.microphone.open()
            self.health.due()
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
        """Make parameters that are read on configure changeable again."""
        self.models.free()
        self._vehicle.close()
        self._is_configured = False
        return super().on_cleanup(state)

    @log_exceptions
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, end what is being computed and free the models."""
        self._stop('the node was shut down')
        return super().on_shutdown(state)

    def _stop(self, reason: str) -> None:
        self.scheduler.interrupt(reason)
        self.cameras.close()
        self.microphone.close()
        self.worker.submit(CONTROL, lambda stop: self.pictures.buffer.clear()).result()
        self.worker.submit(CONTROL, lambda stop: self.jobs.clear(None)).result()
        self.models.free()

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
        self.worker.close(CLOSE_TIMEOUT_SEC)

    def _note(self, event: Event) -> None:
        events = self.jobs.events
        if events is not None:
            events.add(event)

    def _on_question(self, message: String) -> None:
        self.questions.ask(message.data)

    async def _on_describe_now(self, request: Trigger.Request, response: Trigger.Response
                               ) -> Trigger.Response:
        response.success, response.message, _ = await self._describe()
        return response

    def _describe(self) -> Awaitable[Described]:
        """Have the newest window described; awaited, as pictures come in the same thread."""
        executor, described = self.executor, Future()
        if executor:
            described.add_done_callback(lambda _: executor.wake())

        def note(done: Done[tuple[bool, str]]) -> None:
            # In the thread of the worker, which has begun nothing else.
            success, text = (False, INTERRUPTED) if done.cancelled() else done.result()
            described.set_result(Described(success, text, self.health.report if success else None))

        self.scheduler.describe_now().add_done_callback(note)
        return described

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response
                   ) -> SetBool.Response:
        self.scheduler.enable(request.data)
        response.success, response.message = True, self.scheduler.state
        return response


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM."""
    spins = False

    def interrupt(number: int, frame: object) -> None:
        # Loading models takes long and is cut short; what spins is ended by rclpy itself.
        if not spins:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    start_ros('vts_node', args)
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
    except (ParameterError, ParameterException) as error:
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
