# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The other side of the node under test: shows it pictures, collects what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import json
import time
from typing import Any

from bag_maker import COMPRESSED_TOPIC, jpeg, picture, RAW_TOPIC, START_NS
from conftest import Process, Ros
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from vts_ros.nodes.conversions import to_ns, to_stamp
from vts_ros.pipeline.report import SceneReport
from vts_ros.pipeline.report_messages import HARDWARE_ID

STEP_NS = 200_000_000
#: Between the pictures of two tests.
GAP_NS = 100 * 1_000_000_000
RELIABLE = QoSProfile(depth=100)
STATUS = 'vts_node: '
CAMERA = 'camera camera_front'
#: How long to wait for what must happen. Long, as machines may be busy; nothing waits in vain.
PATIENCE_SEC = 500.0
#: After this long a service is called once more.
ASK_AGAIN_SEC = 40.0
#: Has the node take every picture, however busy the machine: best effort would lose some.
LOSSLESS = tuple(
    f'qos_overrides.{topic}.subscription.{policy}'
    for topic in (COMPRESSED_TOPIC, RAW_TOPIC)
    for policy in ('reliability:=reliable', 'depth:=100'))


class Car:
    """Publishes pictures to a node and receives its answers; an own participant of the domain."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node('car', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._listening: list[Any] = []
        self._begin_ns = self.stamp_ns = START_NS + GAP_NS
        self.reports: list[SceneReport] = []
        self.risks: list[DiagnosticArray] = []
        #: Those of answers that were still being written.
        self.early_risks: list[DiagnosticArray] = []
        self.retracted: list[DiagnosticStatus] = []
        self.markers: list[MarkerArray] = []
        self.statuses: dict[str, DiagnosticStatus] = {}
        self._rounds = self.node_time_ns = 0
        subscribe = self.node.create_subscription
        subscribe(String, '/vts_node/report', self._on_report, RELIABLE)
        subscribe(DiagnosticArray, '/vts_node/risk', self._on_risk, RELIABLE)
        subscribe(MarkerArray, '/vts_node/markers', self.markers.append, RELIABLE)
        subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        self.compressed = self.node.create_publisher(CompressedImage, COMPRESSED_TOPIC, RELIABLE)
        self.raw = self.node.create_publisher(Image, RAW_TOPIC, RELIABLE)

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def begin(self) -> None:
        """Have the node start with nothing of earlier tests: empty window, enabled, listening."""
        # A test that failed may have left it in any state.
        state = self.call(GetState, '/vts_node/get_state', GetState.Request()).current_state.id
        if state == State.PRIMARY_STATE_UNCONFIGURED:
            self.change_state(Transition.TRANSITION_CONFIGURE)
        elif state == State.PRIMARY_STATE_ACTIVE:
            self.change_state(Transition.TRANSITION_DEACTIVATE)
        self.until(lambda: self.compressed.get_subscription_count() == 0)
        self.change_state(Transition.TRANSITION_ACTIVATE)
        self.wait_until_seen()
        # No stamp is used twice: what was seen under it may be remembered.
        self._begin_ns += GAP_NS
        self.stamp_ns = self._begin_ns
        for received in (self.reports, self.risks, self.early_risks, self.retracted, self.markers,
                         self.statuses):
            received.clear()
        for subscription in self._listening:
            self.node.destroy_subscription(subscription)
        self._listening.clear()

    def until(self, condition: Callable[[], Any], timeout_sec: float = PATIENCE_SEC,
              doing: Callable[[], object] | None = None, every_sec: float = 0.5) -> None:
        """Receive until the condition holds, doing something now and then; fail in the end."""
        now = time.monotonic()
        deadline, due = now + timeout_sec, now
        while not condition():
            now = time.monotonic()
            assert now < deadline, 'nothing came in time'
            if doing and now >= due:
                doing()
                due = now + every_sec
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Receive for a while, to see that nothing comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)

    def listen(self, kind: Any, topic: str, qos: QoSProfile = RELIABLE) -> list[Any]:
        """Return a list that gets the messages of a topic until the end of the test."""
        got: list[Any] = []
        subscription = self.node.create_subscription(kind, topic, got.append, qos)
        self._listening.append(subscription)
        self.until(subscription.get_publisher_count)
        return got

    def publisher(self, kind: Any, topic: str, qos: QoSProfile = RELIABLE) -> Publisher:
        """Return a publisher that somebody listens to."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.until(publisher.get_subscription_count)
        return publisher

    def wait_until_seen(self, publisher: Publisher | None = None) -> None:
        """Wait until the node listens to the camera."""
        publisher = publisher or self.compressed
        self.until(lambda: publisher.get_subscription_count() == 1)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        # A server that has not met the client yet drops its reply, and nobody can see when it
        # has: ask again instead of waiting for ever.
        asked: list[Any] = []
        self.until(lambda: any(answer.done() for answer in asked),
                   doing=lambda: asked.append(client.call_async(request)),
                   every_sec=ASK_AGAIN_SEC)
        self.node.destroy_client(client)
        return next(answer.result() for answer in asked if answer.done())

    def describe_now(self) -> Any:
        """Ask for a description; return success and message."""
        return self.call(Trigger, '/vts_node/describe_now', Trigger.Request())

    def set_parameter(self, name: str, value: Any) -> Any:
        """Ask for another value; return success and reason."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, '/vts_node/set_parameters', request).results[0]

    @contextmanager
    def parameter(self, name: str, value: Any) -> Iterator[None]:
        """Have another value for a while."""
        request = GetParameters.Request(names=[name])
        found = self.call(GetParameters, '/vts_node/get_parameters', request)
        result = self.set_parameter(name, value)
        assert result.successful, result.reason
        try:
            yield
        finally:
            assert self.set_parameter(
                name, parameter_value_to_python(found.values[0])).successful

    def change_state(self, *transitions: int) -> None:
        """Take the node through transitions of its lifecycle."""
        for transition in transitions:
            request = ChangeState.Request(transition=Transition(id=transition))
            assert self.call(ChangeState, '/vts_node/change_state', request).success

    def show(self, data: bytes, frame_id: str = 'camera_front') -> int:
        """Publish compressed bytes with the next stamp; return the stamp."""
        self.stamp_ns += STEP_NS
        header = Header(stamp=to_stamp(self.stamp_ns), frame_id=frame_id)
        self.compressed.publish(CompressedImage(header=header, format='jpeg', data=data))
        return self.stamp_ns

    def show_good(self, count: int = 1) -> list[int]:
        """Publish good pictures; return their stamps."""
        return [self.show(jpeg(picture(number))) for number in range(count)]

    def show_window(self) -> SceneReport:
        """Show as many pictures as a window holds; return the report about all of them."""
        return self.wait_for_report(self.show_good(5)[-1])

    def show_raw(self, encoding: str, width: int, height: int, size: int) -> int:
        """Publish a raw picture of so many bytes; return the stamp."""
        self.stamp_ns += STEP_NS
        self.raw.publish(Image(
            header=Header(stamp=to_stamp(self.stamp_ns), frame_id='camera_front'), width=width,
            height=height, encoding=encoding, step=size // height if height else 0,
            data=bytes(size)))
        return self.stamp_ns

    def wait_for_report(self, stamp_ns: int) -> SceneReport:
        """Wait for the report about the frame with this stamp."""
        self.until(lambda: stamp_ns in self.answered)
        return next(report for report in reversed(self.reports) if report.stamp == stamp_ns)

    @property
    def answered(self) -> list[int]:
        """Return the stamps of the reports so far."""
        return [report.stamp for report in self.reports]

    def status(self, name: str) -> DiagnosticStatus:
        """Return a status that was written after this call."""
        # What was written before may still be on its way.
        seen = self._rounds
        self.until(lambda: self._rounds >= seen + 2 and STATUS + name in self.statuses)
        return self.statuses[STATUS + name]

    def counter(self, status: str, name: str) -> int:
        """Return a counter from diagnostics that are newer than this call."""
        return int(values_of(self.status(status)).get(name, 0))

    def wait_for_counters(self, status: str, **expected: int) -> None:
        """Wait until the counters of a status have these values."""
        seen: dict[str, int] = {}

        def agree() -> bool:
            found = self.statuses.get(STATUS + status)
            values = values_of(found) if found else {}
            seen.update({name: int(values.get(name, 0)) for name in expected})
            return seen == expected

        try:
            self.until(agree)
        except AssertionError:
            raise AssertionError(f'{status}: {seen}, expected {expected}') from None

    def wait_for_status(self, name: str, level: bytes, message: str,
                        doing: Callable[[], object] | None = None) -> DiagnosticStatus:
        """Wait for a status of this level whose message holds these words."""
        def fits() -> bool:
            found = self.statuses.get(STATUS + name)
            return found is not None and found.level == level and message in found.message

        try:
            self.until(fits, doing=doing)
        except AssertionError:
            found = self.statuses.get(STATUS + name)
            raise AssertionError(f'{name} is not {level!r} {message!r}, but {found}') from None
        return self.statuses[STATUS + name]

    def _on_report(self, message: String) -> None:
        self.reports.append(SceneReport.from_dict(json.loads(message.data)))

    def _on_risk(self, message: DiagnosticArray) -> None:
        # A risk names the camera; that it is no longer known comes from the node itself.
        if message.status[0].hardware_id == HARDWARE_ID:
            self.retracted.append(message.status[0])
        elif 'partial' in values_of(message.status[0]):
            self.early_risks.append(message)
        else:
            self.risks.append(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if any(status.name.startswith(STATUS) for status in message.status):
            self._rounds += 1
            self.node_time_ns = to_ns(message.header.stamp)
            self.statuses.update({status.name: status for status in message.status})


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """Return the values of a status by name."""
    return {value.key: value.value for value in status.values}


def parameters(given: Sequence[str]) -> list[str]:
    """Return parameters in the form of the command line."""
    return ['--ros-args', *(word for parameter in given for word in ('-p', parameter))]


def start_node(ros: Ros, model: str, *given: str) -> Process:
    """Start the node on one camera with a short spacing of frames."""
    return ros.start('vts_ros.nodes.vts_node', *parameters((
        f'vlm.model:={model}', 'cameras:=[camera/front]', 'max_frame_age_sec:=0.0',
        'buffer.interval_sec:=0.2', 'engine.threads:=1', 'vlm.threads:=1', *given)))
