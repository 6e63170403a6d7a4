# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A copy of a recording with the answers, as the node and the overlay would have given them."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import TypesysError

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.report import FrameRef, RISK_STATUS_LEVELS, SceneReport
from vts_ros.tools.bags import (
    Bag,
    COMPRESSED_IMAGE,
    frame_id_of,
    frame_ref,
    TYPESTORE,
    until_damage,
)


class Answered(NamedTuple):
    """A report, and the file of the picture that shows it (JPEG)."""

    report: SceneReport
    overlay: Path


class _TimedAnswer(NamedTuple):
    """An answer, the frame_id of its newest frame, and when it is there."""

    answer: Answered
    frame_id: str
    at_ns: int

    @property
    def latency_ns(self) -> int:
        """Return how long the answer took."""
        return round(self.answer.report.latency_ms.get('total', 0.0) * 1e6)


class _Worker:
    """
    When answers are there: one is worked out at a time, and the newest window waits.

    So it is in the car. A window that a newer one overtakes while it waits has no answer there.
    """

    def __init__(self) -> None:
        self._busy: _TimedAnswer | None = None
        self._waiting: _TimedAnswer | None = None
        self.overtaken = 0

    def add(self, answer: Answered, frame_id: str, received_ns: int) -> None:
        """Take a window when its newest frame is received."""
        new = _TimedAnswer(answer, frame_id, received_ns)
        if self._busy is None:
            self._busy = new._replace(at_ns=received_ns + new.latency_ns)
            return
        self.overtaken += self._waiting is not None
        self._waiting = new

    def ready(self, until_ns: float) -> Iterator[_TimedAnswer]:
        """Yield what is there until then."""
        while self._busy and self._busy.at_ns <= until_ns:
            done, following = self._busy, self._waiting
            yield done
            self._waiting = None
            self._busy = following and following._replace(
                at_ns=done.at_ns + following.latency_ns)


def write_annotated_bag(source: str | Path, target: str | Path, answers: Iterable[Answered],
                        node: str = '/vts_node', overlay: str = '/vts_overlay',
                        counters: Counter[str] | None = None) -> int:
    """
    Copy a bag and add the answers under the topics of the node and of the overlay.

    An answer is received when the node would have given it: the measured latency after its newest
    frame was received, or after the answer before. One that a newer window overtakes is left out.

    Parameters
    ----------
    source
        The bag the answers are about.
    target
        Directory of the new bag (MCAP); must not exist.
    answers
        Reports with their pictures, in the order in which they were given.
    node, overlay
        Names of the nodes, which the topics of answers and of drawn pictures begin with.
    counters
        Where to count the topics that were ``not_copied``, as nothing here knows their type, and
        the answers that were ``overtaken``.

    Returns
    -------
    Number of answers written; one whose newest frame is not in the bag is left out as well.

    Raises
    ------
    BagError
        If the source cannot be opened or the target cannot be written.

    """
    counters = Counter() if counters is None else counters
    try:
        with Bag(source) as bag, Writer(target, version=9,
                                        storage_plugin=StoragePlugin.MCAP) as writer:
            copies = _copy_connections(bag, writer, (node, overlay), counters)
            outputs = {name: writer.add_connection(
                f'{overlay if name == _PICTURE else node}/{name}', msgtype, typestore=TYPESTORE)
                for name, msgtype in _OUTPUTS.items()}
            return _copy_with_answers(bag, writer, copies, outputs, answers, counters)
    except WriterError as error:
        raise BagError(f'{target} cannot be written: {" ".join(str(error).split())}') from error


def _copy_with_answers(bag: Bag, writer: Writer, copies: dict[str, Connection],
                       outputs: dict[str, Connection], answers: Iterable[Answered],
                       counters: Counter[str]) -> int:
    # After the clock went back, a camera may have a second picture with the same stamp.
    waiting: dict[FrameRef, deque[Answered]] = defaultdict(deque)
    for answer in answers:
        waiting[answer.report.frames[-1]].append(answer)
    cameras = {camera.topic for camera in bag.image_topics()}
    worker = _Worker()
    written = 0

    def write_due(until_ns: float) -> None:
        nonlocal written
        for ready in worker.ready(until_ns):
            for name, data in _serialise(ready.answer, ready.frame_id).items():
                writer.write(outputs[name], ready.at_ns, data)
            written += 1

    for connection, received_ns, data in until_damage(bag.messages(copies), Counter()):
        write_due(received_ns)
        writer.write(copies[connection.topic], received_ns, data)
        if connection.topic not in cameras:
            continue
        try:
            message = bag.deserialize(data, connection.msgtype)
        except FrameError:
            continue
        if found := waiting.get(frame_ref(message, connection, received_ns)):
            worker.add(found.popleft(), frame_id_of(message), received_ns)
    write_due(float('inf'))
    counters['overtaken'] += worker.overtaken
    return written


def _copy_connections(bag: Bag, writer: Writer, nodes: Sequence[str], counters: Counter[str]
                      ) -> dict[str, Connection]:
    copies: dict[str, Connection] = {}
    for found in bag.connections:
        # Answers of an earlier run are replaced, and a topic with two publishers is one topic.
        if found.topic.startswith(tuple(f'{node}/' for node in nodes)) or found.topic in copies:
            continue
        try:
            copies[found.topic] = writer.add_connection(
                found.topic, found.msgtype, typestore=bag.typestore,
                offered_qos_profiles=getattr(found.ext, 'offered_qos_profiles', ()))
        except (TypesysError, KeyError):
            counters['not_copied'] += 1
    return copies


#: The drawn pictures, called as the overlay calls them.
_PICTURE = 'image_annotated/compressed'
_OUTPUTS = {
    'report': 'std_msgs/msg/String',
    'scene_description': 'std_msgs/msg/String',
    'risk': 'diagnostic_msgs/msg/DiagnosticArray',
    _PICTURE: COMPRESSED_IMAGE,
}


def _serialise(answer: Answered, frame_id: str) -> dict[str, bytes]:
    report, types = answer.report, TYPESTORE.types
    header = types['std_msgs/msg/Header'](
        stamp=types['builtin_interfaces/msg/Time'](*divmod(report.stamp, 1_000_000_000)),
        frame_id=frame_id)
    string = types['std_msgs/msg/String']
    said = report.answer
    status = types['diagnostic_msgs/msg/DiagnosticStatus'](
        level=RISK_STATUS_LEVELS[said.risk], name='vts_node: risk', message=said.explanation,
        hardware_id=', '.join(report.cameras),
        values=[types['diagnostic_msgs/msg/KeyValue'](*item)
                for item in report.risk_values.items()])
    messages = {
        'report': string(report.to_json()),
        'scene_description': string(said.description),
        'risk': types['diagnostic_msgs/msg/DiagnosticArray'](header, [status]),
        _PICTURE: types[COMPRESSED_IMAGE](
            header, 'jpeg', np.fromfile(answer.overlay, np.uint8)),
    }
    return {name: bytes(TYPESTORE.serialize_cdr(message, _OUTPUTS[name]))
            for name, message in messages.items()}
