# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The live page on topics of ROS, over real DDS; and cameras that send a video."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
import json
from pathlib import Path
import re
import signal
import threading
from typing import Any

import pytest

pytest.importorskip('rclpy')

from bag_maker import COMPRESSED_TOPIC, drive
from car import Car, start_node
from conftest import Process, Ros
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from test_live import events
from test_video_topics import assert_right, GAP
from video_maker import packets
from websockets.sync.client import ClientConnection, connect

from vts_ros.nodes.camera import Camera
from vts_ros.nodes.conversions import to_stamp
from vts_ros.pipeline.frames import Frame

#: Guards against hanging, on a machine where everything takes many times as long as it should.
HANGING_SEC = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * HANGING_SEC)]


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of what one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


def open_page(process: Process) -> tuple[ClientConnection, dict[str, Any]]:
    """Wait for the command, and open its page."""
    process.wait_for_output('(Ctrl-C ends)', HANGING_SEC)
    found = re.search(r'http://localhost:(\d+)', process.output)
    assert found is not None
    page = connect(f'ws://127.0.0.1:{found[1]}/ws', open_timeout=HANGING_SEC,
                   max_size=2**22)
    return page, json.loads(page.recv(timeout=HANGING_SEC))


def test_a_running_node_is_looked_at_asked_and_changed(
        own_ros: Ros, model: str, tmp_path: Path) -> None:
    node = start_node(own_ros, model, 'vlm.max_new_tokens:=8')
    node.wait_for_output('loaded', HANGING_SEC)
    own_ros.start('vts_ros.nodes.replay_node', str(drive(tmp_path / 'bag', 40)), '--loop',
                  '--wait-sec', '600')
    live = own_ros.start('vts_ros.tools.cli', 'live', '--topic', '/camera/front', '--port', '0',
                         '--keep-ratio', '0.9', '--model', 'other')
    page, hello = open_page(live)
    assert ('/vts_node runs and answers with its own parameters; not used: --keep-ratio, --model\n'
            in live.output)
    assert hello['state']['source'] == '/camera/front and /vts_node'
    report = events(page, lambda event: event['kind'] == 'report' and not event['report'][
        'partial'] and bool(event['report']['frames'][-1].get('picture')))[-1]['report']
    assert report['frames'][-1]['camera'] == 'camera_front'
    page.send(json.dumps({'ask': 'Is it safe to drive on?'}))
    told = events(page, lambda event: event['kind'] == 'answer')
    question, = (event for event in told if event['kind'] == 'question')
    assert question['question'] == 'Is it safe to drive on?'
    assert told[-1]['id'] == question['id']
    assert told[-1]['error'] is None
    page.send(json.dumps({'change': {'keep_ratio': 0.3}}))
    events(page, lambda event: event.get('state', {}).get('keep_ratio') == 0.3)
    kept = events(page, lambda event: event['kind'] == 'report' and event['report'][
        'tokens']['kept'] == round(0.3 * event['report']['tokens']['total']))
    assert kept
    # One that the node can change only while it is unconfigured; it answers again.
    page.send(json.dumps({'change': {'mode': 'causal'}}))
    events(page, lambda event: event.get('state', {}).get('mode') == 'causal')
    events(page, lambda event: event['kind'] == 'report')
    page.send(json.dumps({'change': {'keep_ratio': 7.0}}))
    refused = events(page, lambda event: event['kind'] == 'note')[-1]
    assert 'sparsify.keep_ratio' in refused['text']
    page.close()
    live.interrupt(signal.SIGINT)
    assert live.wait(HANGING_SEC) == 0, live.output
    assert 'Traceback' not in live.output


def test_without_a_node_the_command_answers_itself(
        own_ros: Ros, model: str, tmp_path: Path) -> None:
    own_ros.start('vts_ros.nodes.replay_node', str(drive(tmp_path / 'bag', 40)), '--loop',
                  '--wait-sec', '0')
    live = own_ros.start('vts_ros.tools.cli', 'live', '--topic', COMPRESSED_TOPIC, '--port', '0',
                         '--model', model, '--max-new-tokens', '8', '--threads', '1')
    page, hello = open_page(live)
    assert hello['state']['source'] == COMPRESSED_TOPIC
    assert 'not used' not in live.output
    events(page, lambda event: event['kind'] == 'report')
    page.close()
    live.interrupt(signal.SIGINT)
    assert live.wait(HANGING_SEC) == 0, live.output


def test_a_camera_of_the_node_may_send_a_video(car: Car) -> None:
    """Pictures come once each; after a loss that DDS tells of, from the next whole one on."""
    got: list[Frame] = []
    threads: dict[str, set[str]] = {'decoded': set(), 'taken': set()}

    def take(_: Camera, frame: Frame) -> None:
        threads['taken'].add(threading.current_thread().name)
        got.append(frame)

    def is_wanted(camera: str, stamp_ns: int) -> bool:
        threads['decoded'].add(threading.current_thread().name)
        return True

    camera = Camera(car.node, 'camera/front', 'compressed', take, is_wanted=is_wanted)
    car.until(lambda: bool(car.compressed.get_subscription_count()))
    stamps = [1_760_000_000_000_000_000 + 200_000_000 * number for number in range(15)]
    for number, packet in enumerate(packets(15, gap=GAP)):
        if number == 7:
            # As if it had been lost on the way.
            assert camera._number
            camera._number -= 1
        car.compressed.publish(CompressedImage(
            header=Header(stamp=to_stamp(stamps[number]), frame_id='front'), format='h264',
            data=array('B', packet)))
        seen = camera.health.counters['received']
        car.until(lambda seen=seen: camera.health.counters['received'] > seen)
    car.until(lambda: len(got) == 12 and camera.health.counters['waiting'] == 3)
    assert_right(got, [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14])
    assert camera.health.counters['lost'] == 1
    # Decoding holds up no other callback, and what it gives comes in their thread.
    assert threads['decoded'] == {'video of /camera/front/image_raw/compressed'}
    assert threads['taken'] == {threading.current_thread().name}
    camera.close()
    assert threads['decoded'].isdisjoint(thread.name for thread in threading.enumerate())
