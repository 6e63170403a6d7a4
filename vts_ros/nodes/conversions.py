# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ROS messages to frames, reports to ROS messages."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
import textwrap

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, Vector3
import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vts_ros.errors import FrameError
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.raw_images import Convert, RawImage
from vts_ros.pipeline.report import RISK_COLOURS, RISK_STATUS_LEVELS, SceneReport
from vts_ros.vlm.answers import RiskLevel, UNKNOWN_ACTION

#: RViz cannot wrap text. Width in characters, height of a letter and place in metres (REP 103).
MARKER_WIDTH = 60
MARKER_LETTER_M = 0.6
MARKER_TEXT = Point(x=12.0, y=0.0, z=4.0)
MARKER_LAMP = Point(x=12.0, y=0.0, z=6.5)
NO_CONVERTERS: Mapping[str, Convert] = {}


def to_ns(stamp: Time) -> int:
    """Return a stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def to_frame(message: Image | CompressedImage, camera: str, now_ns: int,
             converters: Mapping[str, Convert] = NO_CONVERTERS) -> Frame:
    """
    Take the picture out of a message as it is: no pixel is looked at before a window needs it.

    Parameters
    ----------
    message
        Compressed, or raw in one of the encodings of ``pipeline/raw_images.py``.
    now_ns
        Stamp of a picture that has none.
    converters
        What converts raw pictures of an encoding, where that is not left to ``raw_images``.

    Raises
    ------
    FrameError
        If the message holds no usable picture.

    """
    stamp_ns = to_ns(message.header.stamp) or now_ns
    if isinstance(message, CompressedImage):
        if not message.data:
            raise FrameError('empty picture')
        return Frame(camera, stamp_ns, message.data.tobytes())
    return Frame(camera, stamp_ns, RawImage.of(message, converters.get(message.encoding)))


def to_image(rgb: NDArray[np.uint8], header: Header) -> Image:
    """Return a picture, uint8 (height, width, 3), as a message."""
    height, width, channels = rgb.shape
    return Image(header=header, height=height, width=width, encoding='rgb8',
                 step=width * channels, data=array('B', rgb.tobytes()))


def to_status(name: str, level: bytes, message: str, hardware_id: str,
              values: Mapping[str, object]) -> DiagnosticStatus:
    """Return a diagnostic status; floats are shown with two decimals."""
    texts = {key: f'{value:.2f}' if isinstance(value, float) else str(value)
             for key, value in values.items()}
    return DiagnosticStatus(
        name=name, level=level, message=message, hardware_id=hardware_id,
        values=[KeyValue(key=key, value=text) for key, text in texts.items()])


def risk_level(risk: RiskLevel) -> bytes:
    """Return the level of a status about the risk, in the form of rclpy."""
    return bytes([RISK_STATUS_LEVELS[risk]])


def to_risk(report: SceneReport, name: str, frame_id: str) -> DiagnosticArray:
    """Return level and reason of the risk, stamped with the newest picture."""
    answer = report.answer
    reason = 'the reason is being written' if report.is_partial else answer.explanation
    status = to_status(name, risk_level(answer.risk), reason,
                       ', '.join(report.cameras), report.risk_values)
    return DiagnosticArray(
        header=Header(stamp=to_stamp(report.stamp), frame_id=frame_id), status=[status])


def to_unknown_risk(reason: str, name: str, hardware_id: str, now_ns: int) -> DiagnosticArray:
    """Return what takes the place of a risk that no longer holds."""
    status = to_status(name, risk_level('unknown'), reason, hardware_id,
                       {'level': 'unknown', 'object': '', 'action': UNKNOWN_ACTION})
    return DiagnosticArray(header=Header(stamp=to_stamp(now_ns)), status=[status])


def to_markers(report: SceneReport, frame_id: str, lifetime_sec: float) -> MarkerArray:
    """Return description and reason as text, with a lamp in the colour of the risk."""
    answer = report.answer
    paragraphs = [f'RISK {answer.risk.upper()}: {answer.action}', answer.description,
                  answer.explanation]
    text = _marker(report, frame_id, lifetime_sec, 0, Marker.TEXT_VIEW_FACING, MARKER_TEXT)
    text.scale = Vector3(z=MARKER_LETTER_M)
    text.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    text.text = '\n'.join(
        line for paragraph in paragraphs for line in textwrap.wrap(paragraph, MARKER_WIDTH))
    lamp = _marker(report, frame_id, lifetime_sec, 1, Marker.SPHERE, MARKER_LAMP)
    lamp.scale = Vector3(x=1.0, y=1.0, z=1.0)
    red, green, blue = (channel / 255 for channel in RISK_COLOURS[answer.risk])
    lamp.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return MarkerArray(markers=[text, lamp])


def to_no_markers() -> MarkerArray:
    """Return what takes all markers away."""
    return MarkerArray(markers=[Marker(action=Marker.DELETEALL)])


def _marker(report: SceneReport, frame_id: str, lifetime_sec: float, number: int, kind: int,
            place: Point) -> Marker:
    return Marker(
        header=Header(stamp=to_stamp(report.stamp), frame_id=frame_id), ns='vts', id=number,
        type=kind, action=Marker.ADD, pose=Pose(position=place),
        lifetime=Duration(seconds=lifetime_sec).to_msg())
