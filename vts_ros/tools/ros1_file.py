# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A bag of ROS 1, read as if it were one of ROS 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from rosbags.rosbag1 import Reader, ReaderError
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

from vts_ros.errors import BagError
from vts_ros.tools.storages import Topic

SUFFIX = '.bag'
#: Parts of a definition, the first of them without a name.
_RULE = '=' * 80 + '\n'
#: In ROS 1 it has a number more, which conversion leaves out.
_HEADER = 'MSG: std_msgs/Header\n'


class Ros1File:
    """
    A file of rosbag; its messages are converted one by one, nothing is copied.

    Parameters
    ----------
    path
        The file.
    counters
        Where to count messages that are ``damaged``.

    Raises
    ------
    BagError
        If it cannot be read.

    """

    def __init__(self, path: Path, counters: Counter[str]) -> None:
        self._counters = counters
        self._reader = Reader(path)
        try:
            self._reader.open()
        # Besides their own errors, readers let out those of struct and of the codecs.
        except Exception as error:
            advice = ' (rosbag reindex mends one that was cut off)' if isinstance(
                error, ReaderError) else ''
            raise BagError(f'{path} cannot be read: {" ".join(str(error).split())}{advice}'
                           ) from error
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._connections = {connection.id: connection for connection in self._reader.connections}
        self.topics = {id_: Topic(
            connection.topic, connection.msgtype, 'cdr',
            self._learn(connection.msgtype, connection.msgdef.data).encode(), 'ros2msg', '',
            connection.msgcount) for id_, connection in self._connections.items()}
        self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time

    def messages(self, wanted: Collection[int], since_ns: int = 0
                 ) -> Iterator[tuple[int, int, bytes]]:
        """Yield topic id, receive time and message in the order of time, from some time on."""
        chosen = [self._connections[id_] for id_ in wanted]
        for connection, received_ns, data in self._reader.messages(
                chosen, start=since_ns or None):
            try:
                message = bytes(self._types.ros1_to_cdr(data, connection.msgtype))
            # What a garbled message or an unknown type makes of it depends on the garbling.
            except Exception:
                self._counters['damaged'] += 1
                continue
            yield connection.id, received_ns, message

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _learn(self, msgtype: str, text: str) -> str:
        """Take in a type that ROS 2 has not; return its definition, in the words of ROS 2."""
        if msgtype in self._types.fielddefs:
            return ''
        definition = _RULE.join(
            part for part in text.split(_RULE) if not part.startswith(_HEADER))
        # Parsers of text that may be anything raise anything; then the topic is of no use.
        with suppress(Exception):
            found = get_types_from_msg(definition, msgtype)
            self._types.register({name: fields for name, fields in found.items()
                                  if name not in self._types.fielddefs})
        return definition
