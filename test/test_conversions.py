# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to frames and reports to messages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vts_ros.errors import FrameError
from vts_ros.nodes.conversions import make_message, to_frame, to_ns, to_stamp
from vts_ros.pipeline import report_messages
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.vlm.answers import Answer, RiskLevel, UNKNOWN_ACTION

STAMP_NS = 1_760_000_000_123_456_789
RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def image(encoding: str, pixels: NDArray[np.uint8], padding: int = 0, big: int = 0) -> Image:
    rows = pixels.reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(header=Header(stamp=to_stamp(STAMP_NS), frame_id='front'), height=len(pixels),
                 width=pixels.shape[1], encoding=encoding, is_bigendian=big,
                 step=padded.shape[1], data=padded.tobytes())


def report(risk: RiskLevel) -> SceneReport:
    answer = Answer(description='A car brakes ahead. ' * 10, risk=risk, label='car',
                    box=(0.1, 0.2, 0.3, 0.4), explanation='the gap closes', action='brake')
    return SceneReport(
        stamp=STAMP_NS, frames=(FrameRef('front', STAMP_NS),),
        key_frame=KeyFrame('front', STAMP_NS, 0), answer=answer, keep=(0,), grid=(1, 1))


def test_stamps_keep_every_nanosecond() -> None:
    assert to_ns(to_stamp(STAMP_NS)) == STAMP_NS


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize('big', [0, 1])
@pytest.mark.parametrize(('encoding', 'channels'), [
    ('rgb8', [0, 1, 2]), ('bgr8', [2, 1, 0]), ('rgba8', [0, 1, 2, 0]), ('bgra8', [2, 1, 0, 0])])
def test_raw_colours_and_padded_rows(encoding: str, channels: list[int], padding: int,
                                     big: int) -> None:
    frame = to_frame(image(encoding, RGB[:, :, channels], padding, big), 'front', 0)
    np.testing.assert_array_equal(frame.rgb(), RGB)
    assert frame.key == ('front', STAMP_NS)


def test_grey_becomes_three_equal_channels() -> None:
    frame = to_frame(image('mono8', RGB[:, :, 0], padding=2), 'front', 0)
    np.testing.assert_array_equal(frame.rgb(), np.repeat(RGB[:, :, :1], 3, axis=2))


def test_bayer_colours_are_not_swapped() -> None:
    # A red field: only the red cells of the RGGB pattern are lit.
    mosaic = np.zeros((20, 30), np.uint8)
    mosaic[::2, ::2] = 200
    middle = to_frame(image('bayer_rggb8', mosaic), 'front', 0).rgb()[8:12, 8:12]
    assert middle[..., 0].min() == 200
    assert middle[..., 2].max() == 0


@pytest.mark.parametrize(('message', 'reason'), [
    (image('sonar', RGB), 'sonar'),
    (image('16UC1', RGB[:, :, :2]), '16UC1'),
    *((Image(encoding=encoding), '0x0') for encoding in ('rgb8', 'bgr8', 'mono8', 'yuv422')),
    (image('yuv422', RGB[:, :29, :2]), '29x20'),
    (Image(encoding='rgb8', height=20, width=30, step=90, data=bytes(100)), '100'),
    (Image(encoding='rgb8', height=20, width=30, step=60, data=bytes(1200)), 'cannot'),
    (CompressedImage(format='jpeg'), 'empty'),
])
def test_unusable_pictures_are_refused_with_the_reason(message: Image | CompressedImage,
                                                       reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        to_frame(message, 'front', 0)


def test_compressed_bytes_stay_and_no_stamp_means_now() -> None:
    frame = to_frame(CompressedImage(format='jpeg', data=b'bytes'), 'front', 42)
    assert (frame.data, frame.stamp_ns) == (b'bytes', 42)


@pytest.mark.parametrize(('risk', 'level'), [
    ('none', DiagnosticStatus.OK), ('low', DiagnosticStatus.OK),
    ('medium', DiagnosticStatus.WARN), ('high', DiagnosticStatus.ERROR),
    ('unknown', DiagnosticStatus.STALE)])
def test_risk_is_a_level_with_the_reason(risk: RiskLevel, level: bytes) -> None:
    message = report_messages.risk(make_message, report(risk), 'vts_node: risk', 'front_frame')
    status = message.status[0]
    assert (status.level, status.message) == (level, 'the gap closes')
    assert {value.key: value.value for value in status.values} == {
        'level': risk, **({'object': '', 'action': UNKNOWN_ACTION} if risk == 'unknown'
                          else {'object': 'car', 'action': 'brake'})}
    assert to_ns(message.header.stamp) == STAMP_NS
    assert message.header.frame_id == 'front_frame'


def test_the_risk_names_every_camera_that_it_may_be_seen_by() -> None:
    several = replace(report('high'), frames=(FrameRef('rear', 0), FrameRef('front', STAMP_NS)))
    for told, cameras in ((report('high'), 'front'), (several, 'front, rear')):
        message = report_messages.risk(make_message, told, 'vts_node: risk', '')
        assert message.status[0].hardware_id == cameras


def test_a_risk_that_no_longer_holds_is_stale_with_the_reason() -> None:
    message = report_messages.unknown_risk(
        make_message, 'no picture', 'vts_node: risk', STAMP_NS)
    status = message.status[0]
    assert (status.level, status.message) == (DiagnosticStatus.STALE, 'no picture')
    assert {value.key: value.value for value in status.values} == {
        'level': 'unknown', 'object': '', 'action': UNKNOWN_ACTION}
    assert to_ns(message.header.stamp) == STAMP_NS


def test_markers_wrap_the_text_and_take_the_colour_of_the_risk() -> None:
    text, lamp = report_messages.markers(make_message, report('high'), 'base_link', 10.0).markers
    assert text.text.startswith('RISK HIGH: brake\n')
    assert max(map(len, text.text.splitlines())) <= report_messages.MARKER_WIDTH
    assert lamp.color.r > 2 * lamp.color.g
    calm = report_messages.markers(make_message, report('none'), 'base_link', 10.0).markers[1]
    assert calm.color.g > 2 * calm.color.r
