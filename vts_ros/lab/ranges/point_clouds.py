# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The points of a PointCloud2, of rclpy or of a recording: both have the same fields."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import RangeError

#: Letters of NumPy for the data types of sensor_msgs/PointField.
_LETTERS = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}


def points_of(message: Any) -> NDArray[np.float64]:
    """
    Return x, y and z of the points of a message that are numbers, [N, 3] in m.

    Organised clouds, either order of bytes, rows with a padding and fields of any place and type
    are read; an empty cloud has no points.

    Raises
    ------
    RangeError
        If it has no such fields, or its data do not hold what it says.

    """
    fields = {field.name: field for field in message.fields}
    missing = [name for name in 'xyz' if name not in fields]
    if missing:
        raise RangeError(f'a cloud without {", ".join(missing)}; it has '
                         f'{", ".join(fields) or "no fields"}')
    order = '>' if message.is_bigendian else '<'
    width, height, step = int(message.width), int(message.height), int(message.point_step)
    if not width or not height:
        return np.zeros((0, 3))
    kinds, ends = [], []
    for name in 'xyz':
        letter = _LETTERS.get(int(fields[name].datatype))
        # Some drivers write 0 for a single value.
        if letter is None or int(fields[name].count) > 1:
            raise RangeError(f'the field {name} of a cloud is no single number')
        kinds.append(np.dtype(order + letter))
        ends.append(int(fields[name].offset) + kinds[-1].itemsize)
    data = np.frombuffer(message.data, np.uint8)
    # Without rows, some drivers leave out how long one is.
    row = int(message.row_step) or width * step
    if max(ends) > step or row < width * step or len(data) < (height - 1) * row + width * step:
        raise RangeError(f'a cloud of {height} x {width} points of {step} bytes, fields that end '
                         f'at {max(ends)} and rows of {row} bytes does not fit {len(data)} bytes')
    rows = np.lib.stride_tricks.as_strided(data, (height, width * step), (row, 1),
                                           writeable=False)
    packed = np.ascontiguousarray(rows).reshape(-1, step)
    points = np.stack([
        np.ascontiguousarray(packed[:, end - kind.itemsize:end]).view(kind)[:, 0]
        for kind, end in zip(kinds, ends)], axis=1).astype(np.float64)
    return points[np.isfinite(points).all(axis=1)]
