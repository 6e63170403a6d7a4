# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Topics of ROS for the live page: pictures of cameras, and what a node says about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
import json
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import GetParameters, SetParameters
import rclpy
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from vts_ros.errors import VtsError
from vts_ros.nodes.camera import Camera, Cameras
from vts_ros.nodes.conversions import UNKNOWN_NODE
from vts_ros.nodes.qos import LATCHED_QOS, OUTPUT_QOS
from vts_ros.pipeline.config import MODES
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import RISK_STATUS_LEVELS, SceneReport
from vts_ros.tools.live.live_hub import Hub, MAX_QUESTION_CHARS

#: For the topics of a node to be found once any other node is, and for any to be found: on a busy
#: machine the first one may take longer than all that follows.
DISCOVERY_SEC, NOBODY_SEC = 5.0, 15.0
#: A node that computes on a busy machine answers late.
SERVICE_SEC = 30.0
#: Loading a model on a slow disk takes a while.
TRANSITION_SEC = 180.0
WATCH_SEC = 1.0
#: What the page calls the parameters of the node.
PARAMETERS = {'keep_ratio': 'sparsify.keep_ratio', 'mode': 'sparsify.mode', 'model': 'vlm.model'}

Push = Callable[[Frame], None]


class LiveTopics(Node):
    """
    Pictures of camera topics, as a source of the live page.

    Parameters
    ----------
    topics
        Topics, or namespaces of cameras as the node has them.
    reporter
        Name of the node whose answers are shown.

    """

    senses = None

    def __init__(self, topics: Sequence[str], reporter: str) -> None:
        super().__init__('vts_live')
        self.name = ', '.join(topics)
        self.reporter = f'/{reporter.strip("/")}'
        self._push: Push | None = None
        self.cameras = Cameras(self)
        self._wanted = list(topics)

    def open(self) -> None:
        """Subscribe; the log says where nothing comes, and what there is instead."""
        self.cameras.open(self._wanted, 'auto', self._take)
        self.create_timer(WATCH_SEC, lambda: self.cameras.watch(WATCH_SEC * 5))

    def play(self, push: Push, restart: Callable[[], None], stop: threading.Event) -> None:
        """Hand over the pictures as they come, until it is stopped."""
        self._push = push
        stop.wait()
        self._push = None

    def answers_of_node(self, hub: Hub, models: Sequence[str] = ()) -> NodeAnswers | None:
        """Return the answers of a running node about the topics; None if no node runs."""
        deadline, is_alone = time.monotonic() + NOBODY_SEC, True
        while not self.count_publishers(f'{self.reporter}/report'):
            if is_alone and len(set(self.get_node_names()) - {UNKNOWN_NODE}) > 1:
                deadline, is_alone = time.monotonic() + DISCOVERY_SEC, False
            # A node that is there will be heard, however long its topics take.
            is_known = self.reporter in self.get_fully_qualified_node_names()
            if time.monotonic() > deadline + is_known * NOBODY_SEC:
                return None
            time.sleep(0.1)
        answers = NodeAnswers(self, hub, models)
        self._push = hub.show
        return answers

    def _take(self, camera: Camera, frame: Frame) -> None:
        if self._push:
            self._push(frame)


class NodeAnswers:
    """
    What a running node says, and what the page asks of it.

    Parameters
    ----------
    node
        Gets publishers and subscriptions.
    hub
        Where all is told.
    models
        Those that the page may change to.

    """

    def __init__(self, node: LiveTopics, hub: Hub, models: Sequence[str]) -> None:
        self._node, self._hub = node, hub
        self._asked: deque[str] = deque(maxlen=32)
        self._known: deque[int] = deque(maxlen=64)
        self._models = list(models)
        # Calls of services wait for what another thread receives.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix='live node')
        self._question = node.create_publisher(String, self._topic('question'), OUTPUT_QOS)
        for name, kind, take, qos in (
                ('report', String, self._take_report, OUTPUT_QOS),
                ('risk', DiagnosticArray, self._take_risk, LATCHED_QOS),
                ('answer', String, self._take_answer, OUTPUT_QOS),
                ('answer_partial', String, self._take_piece, OUTPUT_QOS)):
            node.create_subscription(kind, self._topic(name), take, qos)
        self._clients: dict[str, Client] = {
            name: node.create_client(kind, self._topic(name)) for name, kind in (
                ('get_parameters', GetParameters), ('set_parameters', SetParameters),
                ('change_state', ChangeState))}
        hub.set_state(source=f'{node.name} and {node.reporter}', status='')
        self._worker.submit(self._guarded, self._read_settings)

    def ask(self, question: str) -> None:
        """Ask the node; its reply is an event, whoever asked."""
        if not 0 < len(question.strip()) <= MAX_QUESTION_CHARS:
            self._hub.tell('note', text=f'expected 1 to {MAX_QUESTION_CHARS} characters')
            return
        self._asked.append(question)
        self._question.publish(String(data=question))

    def change(self, name: str, value: Any) -> None:
        """Set a parameter of the node, through its lifecycle where it must be unconfigured."""
        if name not in PARAMETERS:
            raise ValueError(f'{name} cannot be changed here')
        if name == 'model' and value not in self._models:
            raise ValueError('this model was not named at the start: give it to --also-model')
        if name == 'keep_ratio' and isinstance(value, int):
            value = float(value)
        if not isinstance(value, float if name == 'keep_ratio' else str):
            raise ValueError(f'{value!r} is no {name}')
        self._worker.submit(self._guarded, lambda: self._set(name, value))

    def close(self) -> None:
        """Wait for nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _topic(self, name: str) -> str:
        return f'{self._node.reporter}/{name}'

    def _take_report(self, message: String) -> None:
        try:
            self._hub.report(SceneReport.from_dict(json.loads(message.data)))
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            self._hub.tell('note', text=f'report cannot be read: {error}')

    def _take_risk(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if status.level == bytes([RISK_STATUS_LEVELS['unknown']]):
                # An answer that is unknown follows as a report; this may be one taken back.
                self._hub.retract(status.message)
            elif values.get('partial') == 'true':
                label = values.get('object')
                self._hub.tell('report', report={
                    'partial': True, 'risk': {'level': values.get('level', 'unknown')},
                    'object': {'label': label, 'box': None, 'camera': None} if label else None})

    def _take_piece(self, message: String) -> None:
        said = _object(message.data)
        if isinstance(said.get('id'), int):
            self._meet(said['id'], None)
            self._hub.tell('piece', id=said['id'], text=str(said.get('text', '')))

    def _take_answer(self, message: String) -> None:
        said = _object(message.data)
        if isinstance(said.get('id'), int):
            self._meet(said['id'], str(said.get('question', '')))
            self._hub.tell('answer', id=said['id'], text=said.get('answer'),
                           error=said.get('error'))

    def _meet(self, number: int, question: str | None) -> None:
        """Show a question when the first of its answer comes: the node has numbered it."""
        if number in self._known:
            return
        self._known.append(number)
        if question in self._asked:
            self._asked.remove(str(question))
        elif question is None:
            question = self._asked.popleft() if self._asked else '?'
        self._hub.tell('question', id=number, question=question)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except VtsError as error:
            self._hub.tell('note', text=str(error))
        except Exception as error:
            if self._node.context.ok():
                self._hub.tell('note', text=f'{type(error).__name__}: {error}')

    def _read_settings(self) -> None:
        answer = self._call('get_parameters', GetParameters.Request(
            names=list(PARAMETERS.values())), SERVICE_SEC)
        values = dict(zip(PARAMETERS, map(parameter_value_to_python, answer.values)))
        self._models = list(dict.fromkeys([values['model'], *self._models]))
        self._hub.set_state(**values, modes=list(MODES), models=self._models)

    def _set(self, name: str, value: Any) -> None:
        try:
            if name == 'keep_ratio':
                self._set_parameter(name, value)
                return
            self._hub.set_state(status=f'{self._node.reporter} is loading anew')
            for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
                self._change_state(transition)
            try:
                self._set_parameter(name, value)
            finally:
                for transition in (Transition.TRANSITION_CONFIGURE,
                                   Transition.TRANSITION_ACTIVATE):
                    self._change_state(transition)
        finally:
            self._read_settings()
            self._hub.set_state(status='')

    def _set_parameter(self, name: str, value: Any) -> None:
        parameter = Parameter(PARAMETERS[name], value=value)
        result, = self._call('set_parameters', SetParameters.Request(
            parameters=[parameter.to_parameter_msg()]), SERVICE_SEC).results
        if not result.successful:
            raise VtsError(f'{self._node.reporter} refuses {PARAMETERS[name]}: {result.reason}')

    def _change_state(self, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        if not self._call('change_state', request, TRANSITION_SEC).success:
            raise VtsError(f'{self._node.reporter} did not change its state; its log says why')

    def _call(self, name: str, request: Any, timeout_sec: float) -> Any:
        client = self._clients[name]
        if not client.wait_for_service(SERVICE_SEC):
            raise VtsError(f'{self._topic(name)} is not there')
        is_done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: is_done.set())
        if not is_done.wait(timeout_sec):
            raise VtsError(f'{self._topic(name)} did not answer for {timeout_sec:.0f} s')
        return future.result()


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


@contextmanager
def open_topics(topics: Sequence[str], reporter: str) -> Iterator[LiveTopics]:
    """Take part in ROS with :class:`LiveTopics`, which hears what comes in another thread."""
    # Ctrl-C ends the server of the page, and then this.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = LiveTopics(topics, reporter)
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def spin() -> None:
            with suppress(ExternalShutdownException):
                executor.spin()

        thread = threading.Thread(target=spin, name='live topics', daemon=True)
        node.open()
        thread.start()
        yield node
        executor.shutdown()
        thread.join(SERVICE_SEC)
        node.destroy_node()
    finally:
        if rclpy.ok():
            rclpy.shutdown()
