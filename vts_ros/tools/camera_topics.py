# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which topics of a recording are cameras: name, encoding, frame_id and camera_info decide.

Beside pictures in colour there are depth, infrared and masks, and pictures that were made of those
of a camera: rectified, or with something drawn over them. One topic of each camera is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
import logging
from pathlib import Path
import re
from typing import Any, NamedTuple

import numpy as np

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.picture_messages import (
    format_of,
    frame_id_of,
    PICTURE_TYPES,
    stamp_ns,
    TRANSPORTS,
)
from vts_ros.pipeline.raw_images import camera_name
from vts_ros.tools.bags import Bag
from vts_ros.tools.storages import warn_once

CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
#: Image topics that are no camera: forms of image_transport that cannot be read here, beside which
#: the same pictures are recorded in others, and pictures that this package has drawn.
_NOT_A_CAMERA = re.compile(r'/(compressedDepth|theora|zstd)$|/image_annotated(/|$)')
#: What is published beside pictures in colour: by depth cameras, by night vision, by networks.
_OTHER_NAME = re.compile(
    r'(^|[/_])(depth|disparity|infra(red)?\d*|ir\d*|thermal|lwir|masks?|segmentation|semantics?|'
    r'labels?|instances?|confidence)([/_]|$)')
#: Pictures that were made of those of a camera.
_MADE = re.compile(r'[/_](rect(ified)?|undist(orted)?)(?=[/_]|$)')
_DEPTH_KIND = re.compile(r'(16[US]|32[FS]|64F)C1\b')
#: What transports append to the topic of a picture.
_TRANSPORT = re.compile(r'/(compressed|ffmpeg|foxglove|h26[45]|video)$')
#: Behind this the topics of one camera differ.
_OF_CAMERA = re.compile(r'(/image(_(raw|color|mono|rect(_(raw|color|mono))?))?)?$')
#: A picture that was made of another has its stamp. So many are compared, from the first on of
#: both: what is made begins later, and not every picture is made use of.
STAMPS = 60

#: What these are, for people.
OTHERS = 'depth, infrared or masks'

LOG = logging.getLogger(__name__)


class CameraTopic(NamedTuple):
    """An image topic of a bag."""

    topic: str
    msgtype: str
    pictures: int


class NodeInputs(NamedTuple):
    """What lets the node hear a bag: two parameters, and where its topics are remapped to."""

    image_transport: str
    cameras: list[str]
    remaps: dict[str, str]


class _Calibration(NamedTuple):
    """What the camera_info beside a topic says of it; no topic where there is none."""

    topic: str = ''
    has_distortion: bool = False


def image_topics(bag: Bag) -> list[CameraTopic]:
    """Return all image topics but drawn ones and those that only a plugin can decode."""
    return sorted(
        CameraTopic(connection.topic, connection.msgtype, connection.msgcount)
        for connection in bag.connections
        if connection.msgtype in PICTURE_TYPES and not _NOT_A_CAMERA.search(connection.topic))


def camera_topics(bag: str | Path) -> list[CameraTopic]:
    """
    Return the camera topics of a bag.

    Raises
    ------
    BagError
        If it cannot be read or has no camera topic; the message names the topics there are.

    """
    with Bag(bag) as opened:
        return require_cameras(opened)


def node_inputs(bag: str | Path, transport: str = 'auto') -> NodeInputs:
    """
    Return how the node is to be started for the cameras of a bag.

    All are to publish pictures of one kind, compressed ones if there are any; a warning names the
    topics of the other kinds, which the node does not hear.

    Parameters
    ----------
    bag
        Directory or storage file.
    transport
        One of the transports of the node takes pictures of that kind only.

    Raises
    ------
    BagError
        As :func:`camera_topics`.

    """
    with Bag(bag) as opened:
        kind = TRANSPORTS[transport].msgtype if transport in TRANSPORTS else None
        found = require_cameras(opened, msgtype=kind)
    # Not `auto`, which subscribes once somebody publishes: that is when the replay has begun, and
    # nobody could wait for the node before. Compressed pictures also arrive more surely.
    there = {camera.msgtype for camera in found}
    name, used = next((name, sent) for name, sent in TRANSPORTS.items() if sent.msgtype in there)
    topics = {camera_name(camera.topic): camera.topic for camera in found
              if camera.msgtype == used.msgtype}
    if left_out := [camera.topic for camera in found if camera.topic not in topics.values()]:
        LOG.warning('%s: the node hears the %s pictures only, not %s (vts annotate takes all)',
                    bag, name, ', '.join(left_out))
    return NodeInputs(name, list(topics), {
        f'{camera}/{used.topic}': topic for camera, topic in topics.items()})


def require_cameras(bag: Bag, topics: Sequence[str] | None = None, msgtype: str | None = None
                    ) -> list[CameraTopic]:
    """
    Return the cameras of an open bag, each once, and say in one line what is left out.

    Parameters
    ----------
    topics
        Take these, whatever they are.
    msgtype
        Take topics of this type only.

    Raises
    ------
    BagError
        If there is none, or one of the topics is not there.

    """
    images = [camera for camera in image_topics(bag) if msgtype in (None, camera.msgtype)]
    if topics:
        wanted = [camera for camera in images if camera.topic in topics]
        missing = sorted(set(topics) - {camera.topic for camera in wanted})
        if missing:
            raise BagError(f'{bag.path} has no camera topic {", ".join(missing)}; '
                           f'it has: {", ".join(camera.topic for camera in images) or "none"}')
        return wanted
    images = [camera for camera in images if camera.pictures]
    first = {camera.topic: next(_messages(bag, camera.topic), None) for camera in images}
    cameras = [camera for camera in images if not _is_other(camera.topic, first[camera.topic])]
    others = [camera.topic for camera in images if camera not in cameras]
    if not cameras:
        raise BagError(_no_cameras(bag, ', '.join(others)))
    best = _one_of_each(cameras)
    made = _made_of_others(bag, list(best.values()), {
        topic: frame_id_of(message) for topic, message in first.items() if message})
    used = [camera for camera in best.values() if camera.topic not in made]
    # The same pictures compressed and not are no news.
    shown = {_TRANSPORT.sub('', camera.topic) for camera in used}
    twins = [camera.topic for camera in cameras if _TRANSPORT.sub('', camera.topic) not in shown]
    reasons = [f'{", ".join(names)} ({why})' for names, why in (
        (others, OTHERS), (twins, 'of a camera that is used')) if names]
    if reasons:
        warn_once(f'{bag.path}: cameras are {", ".join(camera.topic for camera in used)}, not '
                  f'{", ".join(reasons)}; a topic that is named is used all the same')
    return sorted(used)


def _one_of_each(cameras: Sequence[CameraTopic]) -> dict[str, CameraTopic]:
    """
    Return the best topic of each camera by names: raw, compressed and rectified are one camera.

    What is cheaper to read is better; as it was recorded comes before rectified.
    """
    best: dict[str, CameraTopic] = {}
    for camera in sorted(cameras, key=lambda camera: (
            PICTURE_TYPES.index(camera.msgtype), bool(_MADE.search(camera.topic)), camera.topic)):
        stem = _OF_CAMERA.sub('', _TRANSPORT.sub('', camera.topic))
        best.setdefault(_MADE.sub('', stem), camera)
    return best


def _made_of_others(bag: Bag, cameras: Sequence[CameraTopic], frame_ids: Mapping[str, str]
                    ) -> set[str]:
    """
    Return the topics whose pictures were made of those of another, by what camera_info says.

    Both are in the same frame and share stamps. The one that was made has no camera_info, or one
    without distortion where the other has some.
    """
    made: set[str] = set()
    infos = {camera.topic: _calibration(bag, camera.topic) for camera in cameras}
    for camera in cameras:
        frame_id, info = frame_ids.get(camera.topic, ''), infos[camera.topic]
        origins = [
            other.topic for other in cameras
            if other != camera and frame_id and frame_ids.get(other.topic) == frame_id
            and infos[other.topic].topic and (
                not info.topic or infos[other.topic].has_distortion > info.has_distortion)]
        if origins:
            stamps = _stamps(bag, camera.topic)
            if any(stamps & _stamps(bag, origin) for origin in origins):
                made.add(camera.topic)
    return made


def _calibration(bag: Bag, topic: str) -> _Calibration:
    """Return what the camera_info says that image_transport puts beside the topic of a picture."""
    beside = f'{_TRANSPORT.sub("", topic).rpartition("/")[0]}/camera_info'
    if any(found.topic == beside and found.msgtype == CAMERA_INFO and found.msgcount
           for found in bag.connections):
        for message in _messages(bag, beside):
            return _Calibration(beside, bool(np.any(message.d)))
    return _Calibration()


def _stamps(bag: Bag, topic: str) -> set[int]:
    return {stamp_ns(message) for message in islice(_messages(bag, topic), STAMPS)} - {0}


def _messages(bag: Bag, topic: str) -> Iterator[Any]:
    """Yield the messages of a topic that can be read; damage ends them."""
    try:
        for connection, _, data in bag.messages([topic]):
            try:
                yield bag.deserialize(data, connection.msgtype)
            except FrameError:
                continue
    except BagError:
        return


def _is_other(topic: str, message: Any) -> bool:
    """Return whether pictures are none in colour, by their name or the first of them."""
    if _OTHER_NAME.search(topic):
        return True
    return message is not None and bool(
        _DEPTH_KIND.match(format_of(message)) or _OTHER_NAME.search(frame_id_of(message)))


def _no_cameras(bag: Bag, others: str) -> str:
    if others:
        return (f'{bag.path} has no pictures in colour, only {others} ({OTHERS}); a topic that '
                'is named is used all the same')
    found = sorted({connection.topic for connection in bag.connections})
    return f'{bag.path} has no camera pictures; its topics: {", ".join(found) or "none"}'
