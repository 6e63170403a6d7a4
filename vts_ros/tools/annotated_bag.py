# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A copy of a recording with the answers, as the node and the overlay would have given them."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import TypesysError

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.picture_messages import frame_id_of
from vts_ros.pipeline.report import FrameRef
from vts_ros.tools.bag_frames import frame_ref, until_damage
from vts_ros.tools.bags import Bag
from vts_ros.tools.camera_topics import image_topics
from vts_ros.tools.foxglove_layout import FILE, foxglove_layout
from vts_ros.tools.recorded_answers import Answered, Speaker, TimedAnswer


class _Worker:
    """
    When answers are published: one is computed at a time, and only the newest window waits.

    As in the car: a window that a newer one replaces while it waits gets no answer.
    """

    def __init__(self) -> None:
        self._busy: TimedAnswer | None = None
        self._waiting: TimedAnswer | None = None
        self.overtaken = 0

    def add(self, answer: Answered, topic: str, frame_id: str, received_ns: int) -> None:
        """Take a window when its newest frame is received."""
        new = TimedAnswer(answer, topic, frame_id, received_ns)
        if self._busy is None:
            self._busy = new._replace(at_ns=received_ns + new.latency_ns)
            return
        self.overtaken += self._waiting is not None
        self._waiting = new

    def ready(self, until_ns: float) -> Iterator[TimedAnswer]:
        """Yield what is there until then."""
        while self._busy and self._busy.at_ns <= until_ns:
            done, following = self._busy, self._waiting
            yield done
            self._waiting = None
            self._busy = following and following._replace(
                at_ns=done.at_ns + following.latency_ns)


def write_annotated_bag(source: str | Path, target: str | Path, answers: Iterable[Answered],
                        node: str = '/vts_node', overlay: str = '/vts_overlay',
                        counters: Counter[str] | None = None,
                        info: Mapping[str, str] | None = None) -> int:
    """
    Copy a bag and add the answers under the topics of the node and of the overlay.

    An answer is received when the node would have given it: the measured latency after its newest
    frame was received, or after the answer before. One that a newer window overtakes is left out,
    and one that none follows for ``MAX_ANSWER_AGE_SEC`` is taken back. The definitions of all
    messages are in the file, and beside it is a layout for Foxglove.

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
        Where to count the topics that were ``not_copied``, as nothing here knows their type, the
        answers that were ``overtaken``, and those that were ``retracted``.
    info
        What runs where, for diagnostics.

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
            speaker = Speaker(writer, copies, node, overlay, info or {})
            written = _copy_with_answers(bag, writer, copies, speaker, answers, counters)
        namespace = node.rpartition('/')[0]
        (Path(target) / FILE).write_text(foxglove_layout(namespace, speaker.pictures), 'utf-8')
        return written
    except WriterError as error:
        raise BagError(f'{target} cannot be written: {" ".join(str(error).split())}') from error


def _copy_with_answers(bag: Bag, writer: Writer, copies: dict[str, Connection],
                       speaker: Speaker, answers: Iterable[Answered], counters: Counter[str]
                       ) -> int:
    # After the clock went back, a camera may have a second picture with the same stamp.
    waiting: dict[FrameRef, deque[Answered]] = defaultdict(deque)
    for answer in answers:
        waiting[answer.report.frames[-1]].append(answer)
    cameras = {camera.topic for camera in image_topics(bag)}
    frame_ids: dict[str, str] = {}
    worker = _Worker()
    written = 0

    def write_due(until_ns: float) -> None:
        nonlocal written
        for ready in worker.ready(until_ns):
            counters['retracted'] += speaker.retract_if_old(ready.at_ns)
            speaker.say(ready)
            written += 1

    for connection, received_ns, data in until_damage(bag.messages(copies), Counter()):
        write_due(received_ns)
        counters['retracted'] += speaker.retract_if_old(received_ns)
        writer.write(copies[connection.topic], received_ns, data)
        if connection.topic not in cameras:
            continue
        try:
            message = bag.deserialize(data, connection.msgtype)
        except FrameError:
            continue
        ref = frame_ref(message, connection, received_ns)
        frame_ids[ref.camera] = frame_id_of(message)
        if found := waiting.get(ref):
            answer = found.popleft()
            shown = answer.report.shown_frame.camera
            worker.add(answer, connection.topic, frame_ids.get(shown, frame_ids[ref.camera]),
                       received_ns)
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
