# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Messages of other packages, and those of ``vts_interfaces``, for recordings without ROS.

A recording holds the definitions of what is in it, so that whoever opens it needs no package.
Field names and types are copied, comments are not:

- ``vision_msgs`` 4.1 (Apache-2.0), https://github.com/ros-perception/vision_msgs
- ``foxglove_msgs`` 3.2 (MIT), https://github.com/foxglove/foxglove-sdk
- ``ffmpeg_image_transport_msgs`` 1.2 (Apache-2.0),
  https://github.com/ros-misc-utilities/ffmpeg_image_transport_msgs
- ``audio_common_msgs`` 0.3 (BSD), https://github.com/ros-drivers/audio_common
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

from vts_ros.paths import share_path
from vts_ros.pipeline.picture_messages import COMPRESSED_VIDEO, FFMPEG_PACKET

#: Packets of a video: what cameras send, and older recordings do not define.
VIDEO_DEFINITIONS = {
    COMPRESSED_VIDEO:
        'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format',
    FFMPEG_PACKET:
        'std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n'
        'uint8 flags\nbool is_bigendian\nuint8[] data',
}
#: Sound, as microphones send it.
SOUND_DEFINITIONS = {
    'audio_common_msgs/msg/AudioData': 'uint8[] data',
    'audio_common_msgs/msg/AudioDataStamped':
        'std_msgs/Header header\naudio_common_msgs/AudioData audio',
    'audio_common_msgs/msg/AudioInfo':
        'uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n'
        'string coding_format',
    'foxglove_msgs/msg/RawAudio':
        'builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n'
        'uint32 number_of_channels',
}
DEFINITIONS = {
    **VIDEO_DEFINITIONS,
    **SOUND_DEFINITIONS,
    'vision_msgs/msg/Point2D': 'float64 x\nfloat64 y',
    'vision_msgs/msg/Pose2D': 'vision_msgs/Point2D position\nfloat64 theta',
    'vision_msgs/msg/BoundingBox2D':
        'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y',
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score',
    'vision_msgs/msg/ObjectHypothesisWithPose':
        'ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose',
    'vision_msgs/msg/Detection2D':
        'std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\n'
        'string id',
    'vision_msgs/msg/Detection2DArray': 'std_msgs/Header header\nDetection2D[] detections',
    'foxglove_msgs/msg/Color': 'float64 r\nfloat64 g\nfloat64 b\nfloat64 a',
    'foxglove_msgs/msg/Point2': 'float64 x\nfloat64 y',
    'foxglove_msgs/msg/CircleAnnotation':
        'builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nfloat64 diameter\n'
        'float64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color',
    'foxglove_msgs/msg/PointsAnnotation':
        'builtin_interfaces/Time timestamp\nuint8 UNKNOWN=0\nuint8 POINTS=1\nuint8 LINE_LOOP=2\n'
        'uint8 LINE_STRIP=3\nuint8 LINE_LIST=4\nuint8 type\nfoxglove_msgs/Point2[] points\n'
        'foxglove_msgs/Color outline_color\nfoxglove_msgs/Color[] outline_colors\n'
        'foxglove_msgs/Color fill_color\nfloat64 thickness',
    'foxglove_msgs/msg/TextAnnotation':
        'builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nstring text\n'
        'float64 font_size\nfoxglove_msgs/Color text_color\n'
        'foxglove_msgs/Color background_color',
    'foxglove_msgs/msg/ImageAnnotations':
        'foxglove_msgs/CircleAnnotation[] circles\nfoxglove_msgs/PointsAnnotation[] points\n'
        'foxglove_msgs/TextAnnotation[] texts',
}
#: Messages of ``vts_interfaces`` that recordings hold.
OWN = ('Event', 'FrameRef', 'RiskObject', 'StageTime', 'Step', 'SceneReport')


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the messages of ROS 2 Jazzy and those above."""
    store = get_typestore(Stores.ROS2_JAZZY)
    texts = dict(DEFINITIONS)
    for name in OWN:
        path = share_path(f'vts_interfaces/msg/{name}.msg')
        texts[f'vts_interfaces/msg/{name}'] = path.read_text(encoding='utf-8')
    found: dict[str, Any] = {}
    for name, text in texts.items():
        found.update(get_types_from_msg(text, name))
    store.register(found)
    return store


def make_message(msgtype: str, /, **fields: Any) -> Any:
    """Return a message of rosbags; fields that are not given are zero, empty or false."""
    store = typestore()
    _, defined = store.fielddefs[msgtype]
    unknown = fields.keys() - {name for name, _ in defined}
    if unknown:
        raise TypeError(f'{msgtype} has no {", ".join(sorted(unknown))}')
    return store.types[msgtype](**{
        name: _fitting(kind, fields[name]) if name in fields else _empty(kind)
        for name, kind in defined})


def serialise(message: Any, msgtype: str) -> bytes:
    """Return a message of rosbags as CDR."""
    return bytes(typestore().serialize_cdr(message, msgtype))


def _fitting(kind: Any, value: Any) -> Any:
    """Return a value as rosbags wants it: arrays of numbers are those of NumPy."""
    number = _number(kind)
    return value if number is None else np.asarray(value, number)


def _empty(kind: Any) -> Any:
    what, detail = kind
    if what == Nodetype.NAME:
        return make_message(detail)
    if what == Nodetype.BASE:
        return '' if detail[0] in ('string', 'wstring') else np.dtype(_dtype(detail[0])).type(0)
    length = detail[1] if what == Nodetype.ARRAY else 0
    number = _number(kind)
    if number is not None:
        return np.zeros(length, number)
    return [_empty(detail[0]) for _ in range(length)]


def _number(kind: Any) -> Any:
    """Return the type of the numbers of an array; None of anything else."""
    what, detail = kind
    if what not in (Nodetype.ARRAY, Nodetype.SEQUENCE) or detail[0][0] != Nodetype.BASE:
        return None
    name = detail[0][1][0]
    return None if name in ('string', 'wstring') else _dtype(name)


def _dtype(name: str) -> Any:
    return np.dtype({'byte': 'uint8', 'octet': 'uint8', 'char': 'uint8'}.get(name, name))
