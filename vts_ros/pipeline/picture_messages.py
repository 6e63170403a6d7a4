# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What messages with pictures have in common, from rclpy as from rosbags: stamp, frame_id, format.

A picture is raw, compressed, or a packet of a video, of which no single one is a picture.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TYPE_CHECKING

from vts_ros.errors import FrameError

if TYPE_CHECKING:
    from vts_ros.pipeline.video_packets import PacketDecoder

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
COMPRESSED_VIDEO = 'foxglove_msgs/msg/CompressedVideo'
FFMPEG_PACKET = 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket'
#: Topics of packets of a video.
VIDEO_TYPES = (COMPRESSED_VIDEO, FFMPEG_PACKET)


class Transport(NamedTuple):
    """How pictures of a camera are sent: type, and topic below the namespace of the camera."""

    msgtype: str
    topic: str


#: By the names of image_transport; the cheapest to receive and to read first.
TRANSPORTS = {
    'compressed': Transport(COMPRESSED_IMAGE, 'image_raw/compressed'),
    'raw': Transport(IMAGE, 'image_raw'),
    'foxglove': Transport(COMPRESSED_VIDEO, 'image_raw/foxglove'),
    'ffmpeg': Transport(FFMPEG_PACKET, 'image_raw/ffmpeg'),
}
#: Messages that hold pictures, in the same order.
PICTURE_TYPES = tuple(transport.msgtype for transport in TRANSPORTS.values())

#: Formats of a CompressedImage that are packets of a video.
_VIDEO = re.compile(r'h\.?26[45]|x26[45]|hevc|av1|vp[89]', re.IGNORECASE)
DECODE = 'decode it first: ros2 run image_transport republish, and record what that publishes'


def stamp_ns(message: Any) -> int:
    """Return the stamp of a message with pictures in nanoseconds, 0 where it has none."""
    stamp = message.timestamp if hasattr(message, 'timestamp') else message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def frame_id_of(message: Any) -> str:
    """Return in which frame a message with pictures is."""
    return str(message.frame_id if hasattr(message, 'frame_id') else message.header.frame_id)


def format_of(message: Any) -> str:
    """Return what a message says of the form of its picture."""
    return str(message.encoding if hasattr(message, 'encoding') else message.format)


def is_packet(message: Any, msgtype: str) -> bool:
    """Return whether a message holds a packet of a video, and no picture by itself."""
    return msgtype in VIDEO_TYPES or (
        msgtype == COMPRESSED_IMAGE and bool(_VIDEO.search(message.format)))


def new_decoder(topic: str, name: str) -> PacketDecoder:
    """
    Return what decodes the packets of a topic.

    Parameters
    ----------
    topic
        For what is told where it cannot be decoded.
    name
        Format of its messages, such as ``h264`` or the name of an encoder.

    Raises
    ------
    FrameError
        If the format is not known, or PyAV is not installed.

    """
    try:
        from vts_ros.pipeline.video_packets import codec_of, PacketDecoder
    except ModuleNotFoundError as error:
        raise FrameError(f"{topic} is a video, which needs PyAV: pip install 'vts_ros[video]'"
                         ) from error
    codec = codec_of(name)
    if codec is None:
        raise FrameError(f'{topic} has packets of a video ({name}); {DECODE}')
    return PacketDecoder(codec)
