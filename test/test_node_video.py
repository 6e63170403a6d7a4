# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras that send a video, over real DDS: the node, the player and the live page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import signal

import pytest

pytest.importorskip('rclpy')

from bag_maker import START_NS, STEP_NS, times
from car import Car, parameters
from conftest import Ros
from interface_builder import without
from test_live import events
from test_live_topics import open_page
from test_video_topics import FFMPEG, FOXGLOVE, GAP, TOPICS, video_bag
from video_maker import packets

from vts_ros.nodes.video_decoding import Packet, PacketQueue
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, TRANSPORTS
from vts_ros.tools.camera_topics import node_inputs

#: The first build of the messages takes minutes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

COUNT = 36
#: It is switched on in the middle of a group of pictures, and one packet is lost later.
BEFORE, LOST = 2, 23


@pytest.fixture
def car(own_ros: Ros, built: dict[str, str]) -> Iterator[Car]:
    """Return the other side of a node; all that is started knows the messages of others."""
    own_ros.env.update(built)
    side = Car(own_ros.domain)
    # The player is the camera.
    for publisher in (side.compressed, side.raw):
        side.node.destroy_publisher(publisher)
    yield side
    side.close()


def reliable(topic: str) -> list[str]:
    """Return parameters with which DDS loses nothing: what is lost here is lost on purpose."""
    return [f'qos_overrides.{topic}.subscription.{policy}'
            for policy in ('reliability:=reliable', 'depth:=100')]


@pytest.mark.parametrize(('kind', 'codec', 'name'), [
    (FOXGLOVE, 'libx264', 'h264'), (FFMPEG, 'libx265', 'hevc_nvenc'),
    (COMPRESSED_IMAGE, 'libx264', 'h264')])
def test_the_node_watches_a_video(own_ros: Ros, model: str, car: Car, tmp_path: Path, kind: str,
                                  codec: str, name: str) -> None:
    """From the first whole picture on; what follows a lost packet is left out, not smeared."""
    data = packets(COUNT, codec, gap=GAP)
    data[:BEFORE], data[LOST] = [b''] * BEFORE, b''
    bag = video_bag(tmp_path / 'bag', kind, data, name)
    inputs = node_inputs(bag)
    remaps = [word for inside, topic in inputs.remaps.items()
              for word in ('-r', f'{inside}:={topic}')]
    process = own_ros.start(
        'vts_ros.nodes.vts_node', *parameters((
            f'vlm.model:={model}', 'vlm.max_new_tokens:=8', 'cameras:=[camera_front]',
            'max_frame_age_sec:=0.0', 'buffer.interval_sec:=0.2', 'engine.threads:=1',
            f'image_transport:={inputs.image_transport}', *reliable(TOPICS[kind]))), *remaps)
    process.wait_for_output(f'camera camera_front: {TOPICS[kind]}')
    player = own_ros.start('vts_ros.nodes.replay_node', str(bag), '--wait-sec', '60')
    report = car.wait_for_report(times(COUNT)[-1])
    assert player.wait(300.0) == 0
    assert [(frame.stamp - START_NS) // STEP_NS for frame in report.frames] == [
        *range(COUNT - 5, COUNT)]
    assert {frame.camera for frame in report.frames} == {'camera_front'}
    camera = 'camera camera_front'
    # That it lacks one is seen in the numbers of H.264 before, and by the decoder of H.265.
    is_seen = 'x264' in codec
    car.wait_for_counters(camera, received=COUNT - BEFORE - 1, admitted=COUNT - GAP - 2, lost=0,
                          waiting=GAP - BEFORE + is_seen, broken=not is_seen, refused=0)
    seen = {(frame.stamp - START_NS) // STEP_NS
            for report in car.reports for frame in report.frames}
    # The group that lacks a packet ends with it.
    assert not seen & {*range(GAP), LOST, LOST + 1}
    process.interrupt()
    assert process.wait(60.0) == 0, process.output


def test_the_live_page_shows_the_topic_of_a_video(
        own_ros: Ros, model: str, car: Car, tmp_path: Path) -> None:
    """A topic that is called as it likes; no node runs, so the command answers itself."""
    topic = TOPICS[FOXGLOVE]
    bag = video_bag(tmp_path / 'bag', FOXGLOVE, packets(40, gap=GAP))
    own_ros.start('vts_ros.nodes.replay_node', str(bag), '--loop', '--wait-sec', '0')
    live = own_ros.start('vts_ros.tools.cli', 'live', '--topic', topic, '--port', '0', '--model',
                         model, '--max-new-tokens', '8', '--threads', '1')
    page, hello = open_page(live)
    assert hello['state']['source'] == topic
    told = events(page, lambda event: event['kind'] == 'report')[-1]['report']
    assert {frame['camera'] for frame in told['frames']} == {'camera_front_video'}
    page.close()
    live.interrupt(signal.SIGINT)
    assert live.wait(60.0) == 0, live.output
    assert 'Traceback' not in live.output


def test_packets_that_come_too_fast_make_room() -> None:
    """All at once, as the next that can be decoded is a whole picture anyway."""
    queue = PacketQueue(most=3)
    packets = [Packet(bytes([number]), number, 'h264') for number in range(5)]
    assert [queue.put(packet) for packet in packets] == [0, 0, 0, 3, 0]
    assert queue.get() == packets[3]._replace(follows_loss=True)
    assert queue.get() == packets[4]
    queue.put(packets[0])
    queue.close()
    assert queue.get() is None


@pytest.mark.parametrize(('kind', 'package'), [
    ('ffmpeg', 'ffmpeg-image-transport-msgs'), ('foxglove', 'foxglove-msgs')])
def test_what_is_missing_for_a_video_is_one_line(
        own_ros: Ros, built: dict[str, str], kind: str, package: str) -> None:
    """Of a transport that was asked for; `auto` goes on without."""
    if not built:
        pytest.skip('the packages are installed here')
    own_ros.env['PYTHONPATH'] = without(built, own_ros.env.get('PYTHONPATH', ''))
    process = own_ros.start('vts_ros.nodes.overlay_node', *parameters((
        'cameras:=[front]', f'image_transport:={kind}')))
    assert process.wait(300.0) == 1
    assert process.output.strip().splitlines()[-1] == (
        f'vts_overlay: image_transport is {kind}: {TRANSPORTS[kind].msgtype} needs apt install '
        f'ros-$ROS_DISTRO-{package}')
