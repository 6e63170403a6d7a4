# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What node and overlay say of an answer, or in its place, as messages of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Writer

from vts_ros.pipeline import report_messages as messages
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline_health import PipelineHealth
from vts_ros.pipeline.report import MAX_ANSWER_AGE_SEC, SceneReport
from vts_ros.tools.message_definitions import make_message, serialise, typestore

#: Where text stands in RViz: the default of the node.
_MARKER_FRAME = 'base_link'
#: The drawn pictures, called as the overlay calls them: RViz draws no annotations.
_PICTURE = 'image_annotated/compressed'
_DIAGNOSTICS = '/diagnostics'
_NUMBER, _STRING = 'std_msgs/msg/Float64', 'std_msgs/msg/String'
#: What the node publishes under its name.
_OUTPUTS = {
    'report': _STRING,
    'scene_description': _STRING,
    'risk': messages.RISK,
    'markers': messages.MARKERS,
    'detections': messages.DETECTIONS,
    'annotations': messages.ANNOTATIONS,
    'scene': messages.SCENE,
    **{f'debug/{name}': _NUMBER for name in messages.NUMBERS},
}


class Answered(NamedTuple):
    """A report, and the file of the picture that shows it (JPEG)."""

    report: SceneReport
    overlay: Path


class TimedAnswer(NamedTuple):
    """An answer, topic of its newest frame, frame_id of the one shown, and when it is there."""

    answer: Answered
    topic: str
    frame_id: str
    at_ns: int

    @property
    def latency_ns(self) -> int:
        """Return the latency of the answer."""
        return round(self.answer.report.latency_ms.get('total', 0.0) * 1e6)


class Speaker:
    """
    Puts an answer on the topics of the node and of the overlay.

    Parameters
    ----------
    writer
        Takes the messages.
    copies
        Connections of the topics that are copied.
    node, overlay
        Names of the nodes.
    info
        What runs where, for diagnostics.

    """

    def __init__(self, writer: Writer, copies: Mapping[str, Connection], node: str, overlay: str,
                 info: Mapping[str, str]) -> None:
        self._writer, self._node, self._info = writer, node.lstrip('/'), info
        self._at_ns = 0
        #: When the answer that stands was given; None if none stands.
        self._said_ns: int | None = None
        self._shown: set[str] = set()
        self._health = PipelineHealth(seconds=lambda: 1e-9 * self._at_ns)
        self._connections = {name: self._add(f'{node}/{name}', msgtype)
                             for name, msgtype in _OUTPUTS.items()}
        self._connections[_PICTURE] = self._add(f'{overlay}/{_PICTURE}', COMPRESSED_IMAGE)
        shared = copies.get(_DIAGNOSTICS)
        self._connections[_DIAGNOSTICS] = shared if shared and shared.msgtype == messages.RISK \
            else self._add(_DIAGNOSTICS, messages.RISK)

    def _add(self, topic: str, msgtype: str) -> Connection:
        return self._writer.add_connection(topic, msgtype, typestore=typestore())

    @property
    def pictures(self) -> list[str]:
        """Return the topics of the pictures that were spoken of."""
        return sorted(self._shown)

    def say(self, ready: TimedAnswer) -> None:
        """Write what the nodes would have published."""
        self._at_ns, frame_id = ready.at_ns, ready.frame_id
        self._said_ns = ready.at_ns
        self._shown.add(ready.topic)
        report = replace(ready.answer.report,
                         age_ms=1e-6 * (ready.at_ns - ready.answer.report.stamp))
        self._health.described(report)
        said = {
            'report': make_message(_STRING, data=report.to_json()),
            'scene_description': make_message(_STRING, data=report.answer.description),
            'risk': messages.risk(make_message, report, f'{self._node}: risk', frame_id),
            'markers': messages.markers(make_message, report, _MARKER_FRAME, MAX_ANSWER_AGE_SEC),
            'detections': messages.detections(make_message, report, frame_id),
            'annotations': messages.image_annotations(make_message, report),
            'scene': messages.scene(make_message, report, frame_id),
            **{f'debug/{name}': make_message(_NUMBER, data=number)
               for name, number in messages.numbers(report).items()},
            _PICTURE: make_message(
                COMPRESSED_IMAGE, header=messages.header(make_message, report.stamp, frame_id),
                format='jpeg', data=np.fromfile(ready.answer.overlay, np.uint8)),
            _DIAGNOSTICS: make_message(
                messages.RISK, header=messages.header(make_message, ready.at_ns),
                status=self._health.statuses(
                    make_message, self._node, self._info, 'of a recording')),
        }
        self._write(said, ready.at_ns)

    def retract_if_old(self, now_ns: int) -> bool:
        """Take the answer back that was too old at this time; return whether there was one."""
        if self._said_ns is None:
            return False
        at_ns = self._said_ns + round(MAX_ANSWER_AGE_SEC * 1e9)
        if at_ns >= now_ns:
            return False
        self._said_ns = None
        reason = f'no answer for {MAX_ANSWER_AGE_SEC:.1f} s'
        self._write({
            'risk': messages.unknown_risk(make_message, reason, f'{self._node}: risk', at_ns),
            'scene_description': make_message(_STRING),
            'markers': messages.no_markers(make_message),
            'detections': make_message(
                messages.DETECTIONS, header=messages.header(make_message, at_ns)),
            'annotations': make_message(messages.ANNOTATIONS),
            'scene': messages.unknown_scene(make_message, reason, at_ns),
        }, at_ns)
        return True

    def _write(self, said: Mapping[str, Any], at_ns: int) -> None:
        for name, message in said.items():
            connection = self._connections[name]
            self._writer.write(connection, at_ns, serialise(message, connection.msgtype))
