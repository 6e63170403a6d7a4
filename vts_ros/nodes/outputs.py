# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the node says: the only place that latches answers, takes them back and watches their age.

An answer reaches who joins late. So it must not stay longer than it is true: it is taken back for
a reason, or because none has followed it for ``max_answer_age_sec``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
import threading

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float64, String
from visualization_msgs.msg import MarkerArray

from vts_ros.nodes.conversions import make_message
from vts_ros.nodes.qos import LATCHED_QOS, OUTPUT_QOS
from vts_ros.nodes.typed_outputs import TypedOutputs
from vts_ros.pipeline import report_messages
from vts_ros.pipeline.report import SceneReport


class Outputs:
    """
    The publishers of the node; may be used from two threads.

    Parameters
    ----------
    node
        Gets the publishers.
    now_ns
        The present time of the node in nanoseconds, simulated or not.

    """

    def __init__(self, node: LifecycleNode, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._risk_name = f'{node.get_name()}: risk'
        # Held while something is published, so that no answer follows its retraction.
        self.lock = threading.RLock()
        # When the latched answer was published; None if there is none.
        self._said_ns: int | None = None
        publisher = node.create_lifecycle_publisher
        self._description = publisher(String, '~/scene_description', LATCHED_QOS)
        self._risk = publisher(DiagnosticArray, '~/risk', LATCHED_QOS)
        self._markers = publisher(MarkerArray, '~/markers', LATCHED_QOS)
        self._report = publisher(String, '~/report', OUTPUT_QOS)
        # Not managed by the lifecycle: a reply belongs to its question, and who asks an inactive
        # node is told so, as a service call is that fails at once.
        self._answer = node.create_publisher(String, '~/answer', OUTPUT_QOS)
        self._partial = publisher(String, '~/answer_partial', OUTPUT_QOS)
        self._numbers = {name: publisher(Float64, f'~/debug/{name}', OUTPUT_QOS)
                         for name in report_messages.NUMBERS}
        self._typed = TypedOutputs(node)

    def publish(self, report: SceneReport, frame_id: str, marker_frame_id: str,
                lifetime_sec: float) -> SceneReport:
        """
        Publish an answer on all topics; return it with its age.

        Parameters
        ----------
        frame_id
            Of the camera that the report shows.
        marker_frame_id
            In which the text stands.
        lifetime_sec
            After which the text goes by itself.

        """
        with self.lock:
            now_ns = self._now_ns()
            # Before the first /clock there is no present to be older than.
            report = replace(report, age_ms=(now_ns - report.stamp) * 1e-6 if now_ns else None)
            self._said_ns = now_ns
            self._description.publish(String(data=report.answer.description))
            self._risk.publish(report_messages.risk(
                make_message, report, self._risk_name, frame_id))
            self._report.publish(String(data=report.to_json()))
            self._markers.publish(report_messages.markers(
                make_message, report, marker_frame_id, lifetime_sec))
            self._typed.publish(report, frame_id)
            for name, number in report_messages.numbers(report).items():
                self._numbers[name].publish(Float64(data=number))
            return report

    def publish_risk(self, report: SceneReport, frame_id: str) -> None:
        """Publish only the risk, of an answer that is still being written; see :meth:`publish`."""
        with self.lock:
            self._said_ns = self._now_ns()
            self._risk.publish(report_messages.risk(
                make_message, report, self._risk_name, frame_id))

    def retract(self, reason: str) -> None:
        """Retract the latched answer, once; the reason takes its place."""
        with self.lock:
            if self._said_ns is None:
                return
            self._said_ns = None
            self._risk.publish(report_messages.unknown_risk(
                make_message, reason, self._risk_name, self._now_ns()))
            self._markers.publish(report_messages.no_markers(make_message))
            self._description.publish(String())
            self._typed.retract(reason, self._now_ns())

    def retract_if_old(self, limit_sec: float) -> None:
        """Retract the answer if it is older than a limit, by the clock of the node."""
        with self.lock:
            if self._said_ns is None:
                return
            silent_sec = (self._now_ns() - self._said_ns) * 1e-9
            if silent_sec > limit_sec:
                self.retract(f'no answer for {silent_sec:.1f} s')

    def reply(self, number: int, question: str, answer: str, error: str = '') -> None:
        """Answer a question, or say why there is no answer."""
        self._answer.publish(String(data=json.dumps(
            {'id': number, 'question': question, 'answer': answer, 'error': error or None},
            ensure_ascii=False)))

    def reply_part(self, number: int, text: str) -> None:
        """Publish a piece of an answer that is being written."""
        self._partial.publish(String(data=json.dumps(
            {'id': number, 'text': text}, ensure_ascii=False)))

    @property
    def stands(self) -> bool:
        """Return whether an answer is latched and not retracted."""
        return self._said_ns is not None

    def is_heard(self) -> bool:
        """Return whether anybody subscribes to descriptions."""
        return any(publisher.get_subscription_count() for publisher in (
            self._description, self._risk, self._markers, self._report,
            *self._typed.publishers))
