# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers in types of other packages: each topic exists where its package is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode

from vts_ros.nodes.conversions import make_message, message_type
from vts_ros.nodes.qos import LATCHED_QOS
from vts_ros.pipeline import report_messages as messages
from vts_ros.pipeline.report import SceneReport


class _Topic(NamedTuple):
    """A topic, and how its messages are made: of a report and a frame_id, of a reason and now."""

    name: str
    msgtype: str
    told: Callable[[SceneReport, str], Any]
    retracted: Callable[[str, int], Any]


_TOPICS = (
    _Topic('~/detections', messages.DETECTIONS,
           lambda report, frame_id: messages.detections(make_message, report, frame_id),
           lambda reason, now_ns: make_message(
               messages.DETECTIONS, header=messages.header(make_message, now_ns))),
    _Topic('~/annotations', messages.ANNOTATIONS,
           lambda report, frame_id: messages.image_annotations(make_message, report),
           lambda reason, now_ns: make_message(messages.ANNOTATIONS)),
    _Topic('~/scene', messages.SCENE,
           lambda report, frame_id: messages.scene(make_message, report, frame_id),
           lambda reason, now_ns: messages.unknown_scene(make_message, reason, now_ns)),
)


class TypedOutputs:
    """Publishers of the topics whose packages are importable, for :class:`Outputs` alone."""

    def __init__(self, node: LifecycleNode) -> None:
        self._topics: list[tuple[_Topic, Any]] = []
        missing = []
        for topic in _TOPICS:
            try:
                self._topics.append((topic, node.create_lifecycle_publisher(
                    message_type(topic.msgtype), topic.name, LATCHED_QOS)))
            # A package that was built for another Python or ROS is not there either.
            except Exception:
                missing.append(f'{topic.name} ({topic.msgtype.partition("/")[0]})')
        if missing:
            node.get_logger().info(f'without {", ".join(missing)}: these packages are not '
                                   'installed, see docs/ros.md')

    @property
    def publishers(self) -> Sequence[Any]:
        """Return the publishers."""
        return [publisher for _, publisher in self._topics]

    def publish(self, report: SceneReport, frame_id: str) -> None:
        """Publish an answer; frame_id is that of the camera that it shows."""
        for topic, publisher in self._topics:
            publisher.publish(topic.told(report, frame_id))

    def retract(self, reason: str, now_ns: int) -> None:
        """Retract the latched answer."""
        for topic, publisher in self._topics:
            publisher.publish(topic.retracted(reason, now_ns))
