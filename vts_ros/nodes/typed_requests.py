# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The action ``~/ask`` and the service ``~/describe``, where vts_interfaces is installed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from vts_ros.nodes.conversions import make_message, message_type
from vts_ros.nodes.questions import Asked, Questions
from vts_ros.pipeline import report_messages
from vts_ros.pipeline.report import SceneReport

ASK, DESCRIBE = 'vts_interfaces/action/Ask', 'vts_interfaces/srv/Describe'


class Described(NamedTuple):
    """The result of a requested description; the report is None if it failed."""

    success: bool
    message: str
    report: SceneReport | None = None


class TypedRequests:
    """
    Serves them in the thread of the callbacks, which goes on while the worker is busy.

    Parameters
    ----------
    node
        Gets the servers.
    questions
        Takes what is asked.
    describe
        Has the newest window described.
    frame_id
        Gives the frame_id of a camera.

    """

    def __init__(self, node: Node, questions: Questions,
                 describe: Callable[[], Awaitable[Described]],
                 frame_id: Callable[[str], str]) -> None:
        self._node, self._questions = node, questions
        self._describe, self._frame_id = describe, frame_id
        self._asked: dict[bytes, Asked] = {}
        try:
            self._ask, describe_type = message_type(ASK), message_type(DESCRIBE)
        # As of ~/scene, which is of the same package: that has said so.
        except Exception:
            return
        # What awaits the worker has a group of its own, so that it holds up nothing else.
        node.create_service(describe_type, '~/describe', self._on_describe,
                            callback_group=MutuallyExclusiveCallbackGroup())
        self._server = ActionServer(
            node, self._ask, '~/ask', self._on_ask, cancel_callback=self._on_cancel,
            callback_group=MutuallyExclusiveCallbackGroup())

    async def _on_describe(self, request: Any, response: Any) -> Any:
        found = await self._describe()
        response.success, response.message = found.success, found.message
        if found.report:
            response.report = report_messages.scene(
                make_message, found.report, self._frame_id(found.report.shown_frame.camera))
        return response

    async def _on_ask(self, goal: Any) -> Any:
        executor, answered = self._node.executor, Future()
        if executor:
            answered.add_done_callback(lambda _: executor.wake())
        asked = self._questions.ask(
            goal.request.question, lambda number, text: goal.publish_feedback(
                self._ask.Feedback(id=number, text=text)))
        key = bytes(goal.goal_id.uuid)
        self._asked[key] = asked
        if goal.is_cancel_requested:
            asked.cancel()
        asked.reply.add_done_callback(lambda done: answered.set_result(done.result()))
        answer, error = await answered
        del self._asked[key]
        if not error:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return self._ask.Result(id=asked.number, answer=answer, error=error)

    def _on_cancel(self, goal: Any) -> CancelResponse:
        if asked := self._asked.get(bytes(goal.goal_id.uuid)):
            asked.cancel()
        return CancelResponse.ACCEPT
