# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the car says of itself in a recording, by the same map of signals as in the node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import heapq
import logging
from pathlib import Path
from typing import Any, NamedTuple, TYPE_CHECKING

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from vts_ros.errors import FrameError, SignalError
from vts_ros.pipeline.events import EventLog
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.pipeline.signal_map import check_path, parse_signals, Signal, stamp_of, value_of
from vts_ros.pipeline.vehicle_signals import VehicleSignals
from vts_ros.tools.bag_frames import read_frames_from, until_damage
from vts_ros.tools.bags import Bag

if TYPE_CHECKING:
    from vts_ros.pipeline.pipeline import Pipeline
    from vts_ros.pipeline.report import SceneReport

LOG = logging.getLogger(__name__)
_TWIST, _IMU = 'geometry_msgs/msg/TwistStamped', 'sensor_msgs/msg/Imu'
#: What is taken of messages that the node subscribes to without a map: the topic there, the
#: signals, and what says by a -1 that there is no such estimate.
_KINDS: Mapping[str, tuple[str, Sequence[tuple[str, str, str]]]] = {
    _TWIST: ('/twist', (('speed', 'twist.linear.x', ''), ('yaw_rate', 'twist.angular.z', ''))),
    _IMU: ('/imu', (
        ('acceleration', 'linear_acceleration.x', 'linear_acceleration_covariance'),
        ('yaw_rate', 'angular_velocity.z', 'angular_velocity_covariance'))),
}
_COLLECTIONS = {Nodetype.ARRAY: '{}[{}]', Nodetype.SEQUENCE: 'sequence<{}>'}


class _Wanted(NamedTuple):
    signal: Signal
    source: str
    # Whether the signal is of the map.
    is_of_map: bool
    covariance: str = ''


class _Said(NamedTuple):
    wanted: Sequence[_Wanted]
    message: Any


class SignalUse(NamedTuple):
    """
    The settings that say what becomes of the signals of the car.

    Attributes
    ----------
    topics, tell_vehicle, evidence
        ``signals.topics``, ``vlm.tell_vehicle`` and ``signals.evidence``.

    """

    topics: tuple[str, ...] = ()
    tell_vehicle: bool = False
    evidence: bool = False

    @property
    def is_any(self) -> bool:
        """Return whether signals make a difference."""
        return self.tell_vehicle or self.evidence


NO_SIGNALS = SignalUse()


class BagSignals:
    """
    Frames of a recording, with the signals of the car up to each.

    Parameters
    ----------
    bag
        Directory or storage file.
    lines
        The map, see :mod:`vts_ros.pipeline.signal_map`.
    events
        Where events go to.
    is_told, is_evidence
        Whether the model is told what the car does, and whether events move tokens.
    counters
        Where to count signals that were ``signals_refused`` and ``signals_unreadable``.

    """

    def __init__(self, bag: str | Path, lines: Sequence[str], events: EventLog, *,
                 is_told: bool, is_evidence: bool, counters: Counter[str]) -> None:
        self._bag, self._lines, self._counters = bag, lines, counters
        self._now_ns = 0
        self.signals = VehicleSignals(lambda: self._now_ns * 1e-9, lambda: is_told,
                                      lambda: is_evidence, lambda: events)

    def describe(self, pipeline: Pipeline, window: Window) -> SceneReport:
        """Have a window described beside what the car did when its last frame was received."""
        return pipeline.describe(window, vehicle=self.signals.vehicle())

    def frames(self, topics: Sequence[str] | None = None) -> Iterator[Frame]:
        """Yield the frames as ``read_frames`` does; what was received before each is known."""
        for _, frame in self.beside(read_frames_from(0, self._bag, topics, self._counters)):
            yield frame

    def beside(self, frames: Iterable[tuple[int, Frame]]) -> Iterator[tuple[int, Frame]]:
        """Yield frames of the recording with the times at which they were received."""
        # Of the same time the signal comes first.
        for received_ns, item in heapq.merge(self._messages(), frames, key=lambda timed: timed[0]):
            self._now_ns = received_ns
            if isinstance(item, Frame):
                yield received_ns, item
            elif isinstance(item, _Said):
                self._take(item, received_ns)

    def _messages(self) -> Iterator[tuple[int, _Said]]:
        # What was wrong with the bag is counted where its pictures are read.
        with Bag(self._bag, Counter()) as opened:
            wanted = self._wanted(opened)
            for connection, received_ns, data in until_damage(
                    opened.messages(wanted), Counter()) if wanted else ():
                try:
                    yield received_ns, _Said(wanted[connection.topic], opened.deserialize(
                        data, connection.msgtype))
                except FrameError as error:
                    self._counters['signals_unreadable'] += 1
                    LOG.warning('%s: %s', connection.topic, error)

    def _wanted(self, bag: Bag) -> dict[str, list[_Wanted]]:
        """Return the signals of each topic."""
        types = {connection.topic: connection.msgtype for connection in bag.connections}
        wanted: dict[str, list[_Wanted]] = {}
        for msgtype, (usual, fields) in _KINDS.items():
            topics = sorted(topic for topic, kind in types.items() if kind == msgtype)
            # A topic that was remapped is the first one of its type.
            topic = usual if usual in topics else next(iter(topics), '')
            for name, path, covariance in fields if topic else ():
                wanted.setdefault(topic, []).append(_Wanted(
                    Signal(name, topic, msgtype, tuple(path.split('.'))), msgtype, False,
                    covariance))
        for signal in parse_signals(self._lines, self._refuse):
            recorded = types.get(signal.topic)
            try:
                if recorded is None:
                    raise SignalError(f'{signal.label} is not in the recording')
                if recorded != signal.msgtype:
                    raise SignalError(f'{signal.label} is recorded as {recorded}')
                check_path(signal, lambda kind: fields_of(bag.typestore, kind))
            except SignalError as error:
                self._refuse(error)
                continue
            wanted.setdefault(signal.topic, []).append(_Wanted(signal, signal.topic, True))
        return wanted

    def _take(self, said: _Said, received_ns: int) -> None:
        message = said.message
        for signal, source, is_of_map, covariance in said.wanted:
            if covariance and getattr(message, covariance)[0] == -1.0:
                continue
            try:
                value = value_of(signal, message)
            except SignalError as error:
                self._counters['signals_unreadable'] += 1
                LOG.warning('%s', error)
                continue
            self.signals.take(signal.name, value, stamp_of(message, received_ns),
                              signal if is_of_map else None, source)

    def _refuse(self, error: SignalError) -> None:
        self._counters['signals_refused'] += 1
        LOG.warning('%s; the pictures are described without it', error)


def fields_of(types: Typestore, msgtype: str) -> Mapping[str, str] | None:
    """Return the fields of a type and their types, as rclpy writes them; None if not known."""
    if msgtype not in types.fielddefs:
        return None
    return {name: _written(kind) for name, kind in types.fielddefs[msgtype][1]}


def _written(kind: Any) -> str:
    node, what = kind
    if node in _COLLECTIONS:
        inner, length = what
        return _COLLECTIONS[node].format(_written(inner), length)
    return str(what[0] if node == Nodetype.BASE else what)
