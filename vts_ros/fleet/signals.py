# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the car was and how fast, at the time of each answer, if its recording says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

from vts_ros.errors import FrameError
from vts_ros.tools.bag_frames import until_damage
from vts_ros.tools.bags import Bag

#: What is older says nothing about the moment of an answer.
MAX_AGE_SEC = 2.0


class _Kind(NamedTuple):
    """A kind of message: the columns that it fills, and their values."""

    columns: tuple[str, ...]
    values: Callable[[Any], tuple[float, ...]]


def _speed(linear: Any) -> tuple[float, ...]:
    return (float(np.linalg.norm((linear.x, linear.y, linear.z))),)


def _place(message: Any) -> tuple[float, ...]:
    # Without a fix the numbers mean nothing.
    is_fixed = message.status.status >= 0
    return (message.latitude, message.longitude) if is_fixed else (np.nan, np.nan)


#: The first kind that is recorded fills a column.
_KINDS = {
    'sensor_msgs/msg/NavSatFix': _Kind(('latitude', 'longitude'), _place),
    'geometry_msgs/msg/TwistStamped': _Kind(
        ('speed_mps',), lambda message: _speed(message.twist.linear)),
    'nav_msgs/msg/Odometry': _Kind(
        ('speed_mps',), lambda message: _speed(message.twist.twist.linear)),
}


def add_signals(answers: pa.Table, bag: Path) -> pa.Table:
    """
    Fill place and speed of every answer: the last value before it, unless it is too old.

    Raises
    ------
    BagError
        If the recording cannot be opened.

    """
    stamps = answers['stamp'].to_numpy()
    filled: set[str] = set()
    with Bag(bag) as opened:
        for msgtype, kind in _KINDS.items():
            topics = sorted(connection.topic for connection in opened.connections
                            if connection.msgtype == msgtype and connection.msgcount)
            if not topics or filled & set(kind.columns):
                continue
            filled |= set(kind.columns)
            for name, values in zip(kind.columns, _at(opened, topics[0], kind, stamps)):
                index = answers.schema.get_field_index(name)
                answers = answers.set_column(
                    index, answers.schema.field(index),
                    pa.array(values, pa.float64(), mask=np.isnan(values)))
    return answers


def _at(bag: Bag, topic: str, kind: _Kind, stamps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the values at some times: [columns, times], NaN where there are none."""
    times, rows = [], []
    for connection, received_ns, data in until_damage(bag.messages([topic]), Counter()):
        try:
            message = bag.deserialize(data, connection.msgtype)
        except FrameError:
            continue
        stamp = message.header.stamp
        times.append(stamp.sec * 10**9 + stamp.nanosec or received_ns)
        rows.append(kind.values(message))
    if not rows:
        return np.full((len(kind.columns), len(stamps)), np.nan)
    order = np.argsort(times, kind='stable')
    at, values = np.array(times, np.int64)[order], np.array(rows, np.float64)[order]
    found = np.searchsorted(at, stamps, side='right') - 1
    is_old = (found < 0) | (stamps - at[found] > MAX_AGE_SEC * 1e9)
    return np.where(is_old, np.nan, values[found].T)
