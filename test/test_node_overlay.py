# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The overlay as a process beside the node: pictures with the answers drawn over them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy')

from bag_maker import picture, START_NS
from car import Car, LOSSLESS, parameters, start_node
from conftest import Process, Ros
import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from vts_ros.nodes.conversions import to_ns
from vts_ros.nodes.overlay_node import History
from vts_ros.nodes.qos import LATCHED_QOS
from vts_ros.pipeline.frames import decode_image, Frame
from vts_ros.pipeline.report import RISK_COLOURS, SceneReport
from vts_ros.tools.overlay_picture import BAND_HEIGHT, overlay, WIDTH


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of nodes that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


def start_overlay(ros: Ros, *given: str) -> Process:
    """Start the overlay on the same camera."""
    return ros.start('vts_ros.nodes.overlay_node', *parameters(
        ('cameras:=[camera/front]', *LOSSLESS, *given)))


def test_an_answer_is_drawn_over_its_pictures(own_ros: Ros, model: str, car: Car) -> None:
    node = start_node(own_ros, model, 'vlm.max_new_tokens:=64', *LOSSLESS)
    process = start_overlay(own_ros)
    for started in (node, process):
        started.wait_for_output('camera camera_front')
    car.until(lambda: car.compressed.get_subscription_count() == 2)
    raw = car.listen(Image, '/vts_overlay/image_annotated', LATCHED_QOS)
    jpegs = car.listen(CompressedImage, '/vts_overlay/image_annotated/compressed', LATCHED_QOS)
    car.until(lambda: car.node.count_subscribers('/vts_node/report') == 2)
    # Again, if need be: the overlay draws only once it knows that somebody looks.
    reports: list[SceneReport] = []
    car.until(lambda: raw and jpegs and to_ns(raw[-1].header.stamp)
              == to_ns(jpegs[-1].header.stamp) == reports[-1].stamp,
              doing=lambda: reports.append(car.show_window()), every_sec=20.0)
    report = reports[-1]
    drawn = np.frombuffer(raw[-1].data, np.uint8).reshape(raw[-1].height, raw[-1].width, 3)
    assert (raw[-1].encoding, raw[-1].step) == ('rgb8', 3 * WIDTH)
    assert raw[-1].header.frame_id == 'camera_front'
    # The same drawing as that of the command line, of the same pictures.
    sent = [picture(number) for number in range(5)]
    expected = overlay(sent[-1], report, sent)
    assert drawn.shape == expected.shape
    assert np.abs(drawn.astype(int) - expected).mean() < 4.0
    assert tuple(drawn[BAND_HEIGHT - 2, 2]) == RISK_COLOURS[report.answer.risk]
    small = decode_image(bytes(jpegs[-1].data))
    assert np.abs(small.astype(int) - drawn).mean() < 4.0
    process.interrupt()
    assert process.wait(500.0) == 0
    assert 'Traceback' not in process.output


def test_reports_of_no_use_do_not_end_the_overlay(own_ros: Ros, car: Car) -> None:
    process = start_overlay(own_ros)
    car.node.destroy_subscription(next(
        subscription for subscription in car.node.subscriptions
        if subscription.topic_name == '/vts_node/report'))
    reports = car.publisher(String, '/vts_node/report')
    drawn = car.listen(Image, '/vts_overlay/image_annotated', LATCHED_QOS)
    car.wait_until_seen()
    stamp = car.show_good()[-1]
    for text in ('', '[]', '{"schema": 2}', '{"schema": 7}', 'null', '[' * 2000):
        reports.publish(String(data=text))
    process.wait_for_output('report cannot be read')
    good = ('{"schema": 2, "stamp": %d, "frames": [{"camera": "camera_front", "stamp": %d}], '
            '"key_frame": {"camera": "camera_front", "stamp": %d, "index": 0}, '
            '"description": "a road", "risk": {"level": "low"}, "object": null, '
            '"explanation": "all clear", "action": "go on", "tokens": {"total": 2, "kept": 1, '
            '"grid": [1, 2], "keep": [%s], "answer": 0}, "latency_ms": {}, "age_ms": null, '
            '"model": "m", '
            '"engine": "e", "confidence": 0.9, "in_distribution": true, '
            '"rejected_output": null}')
    # A token that is not in the window.
    reports.publish(String(data=good % (stamp, stamp, stamp, '99')))
    process.wait_for_output('report cannot be drawn')
    # Pictures that never came here.
    reports.publish(String(data=good % (stamp, START_NS, START_NS, '1')))
    process.wait_for_output('did not arrive here')
    car.until(lambda: drawn, doing=lambda: reports.publish(
        String(data=good % (stamp, stamp, stamp, '1'))))
    assert stamp == to_ns(drawn[0].header.stamp)


def test_history_stays_within_its_bound() -> None:
    data = cv2.imencode('.jpg', np.full((64, 64, 3), 9, np.uint8))[1].tobytes()
    history = History(10 * len(data))
    for stamp in [*range(25), 24, 24]:
        history.push(Frame('front', stamp, data))
    kept = [stamp for stamp in range(25) if history.rgb('front', stamp) is not None]
    assert kept == list(range(15, 25))
    history.push(Frame('front', 99, b'broken'))
    assert history.rgb('front', 99) is None
    assert history.rgb('rear', 20) is None
