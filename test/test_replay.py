# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The player of recordings beside nodes: whom it waits for, and what time it tells them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

from bag_maker import COMPRESSED_TOPIC, drive
from car import Car, LOSSLESS, parameters, RELIABLE
from conftest import ROOT, Ros
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

pytestmark = pytest.mark.slow


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of nodes that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


def test_the_overlay_alone_is_not_waited_for(own_ros: Ros, car: Car, tmp_path: Path) -> None:
    """It is up seconds before the node, which then would miss the first pictures."""
    overlay = own_ros.start('vts_ros.nodes.overlay_node', *parameters(
        ('cameras:=[camera/front]', 'image_transport:=compressed')))
    overlay.wait_for_output('camera camera_front')
    player = own_ros.start('vts_ros.nodes.replay_node', str(drive(tmp_path / 'bag', 8)),
                           '--wait-sec', '200', '--rate', '4')
    car.until(lambda: any(publisher.node_name == 'vts_replay' for publisher in
                          car.node.get_publishers_info_by_topic(COMPRESSED_TOPIC)))
    car.spin(3.0)
    assert 'messages on' not in player.output
    node = Node('vts_node', context=car.context)
    got: list[CompressedImage] = []
    node.create_subscription(CompressedImage, COMPRESSED_TOPIC, got.append, RELIABLE)
    executor = SingleThreadedExecutor(context=car.context)
    executor.add_node(node)
    deadline = time.monotonic() + 500.0
    while len(got) < 8 and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    assert len(got) == 8
    assert player.wait(500.0) == 0
    executor.shutdown()
    node.destroy_node()


def test_no_picture_comes_from_the_future_when_a_loop_sets_time_back(
        own_ros: Ros, car: Car, tmp_path: Path) -> None:
    overlay = own_ros.start('vts_ros.nodes.overlay_node', *parameters(
        ('cameras:=[camera/front]', 'use_sim_time:=true', 'image_transport:=compressed',
         *LOSSLESS)))
    overlay.wait_for_output('camera camera_front')
    got: list[CompressedImage] = []
    car.node.create_subscription(CompressedImage, COMPRESSED_TOPIC, got.append, RELIABLE)
    own_ros.start('vts_ros.nodes.replay_node', str(drive(tmp_path / 'bag', 12)), '--clock',
                  '--loop', '--rate', '4', '--wait-sec', '60')
    car.until(lambda: len(got) >= 12 * 6)
    assert 'ahead of this node' not in overlay.output


#: A signal to this very process that is not heard of as an interrupt, which Python can lose: under
#: load, in a callback or in the middle of an import. The context has ended when it comes back.
LOST = """
import os, signal, sys, time
import rclpy
from vts_ros.nodes import replay_node

def lose(number):
    try:
        os.kill(os.getpid(), number)
        while rclpy.ok():
            time.sleep(0.01)
        time.sleep(0.1)
    except KeyboardInterrupt:
        while rclpy.ok():
            time.sleep(0.01)

def before(function, number, left=[1]):
    def do(*given, **named):
        if left:
            left.pop()
            lose(number)
        return function(*given, **named)
    return do

owner, name, number, *sys.argv[1:] = sys.argv[1:]
where = getattr(replay_node, owner, replay_node)
setattr(where, name, before(getattr(where, name), int(number)))
sys.exit(replay_node.main())
"""


@pytest.mark.parametrize(('where', 'number'), [
    ('module remove_ros_args', signal.SIGINT), ('module Bag', signal.SIGINT),
    ('Player create_publisher', signal.SIGINT),
    ('Player get_subscriptions_info_by_topic', signal.SIGINT),
    ('Player _wait_until', signal.SIGINT), ('Player _wait_until', signal.SIGTERM),
    ('Player flush', signal.SIGINT)])
def test_a_signal_ends_it_wherever_it_comes(
        own_ros: Ros, tmp_path: Path, where: str, number: int) -> None:
    bag = drive(tmp_path / 'bag', 3)
    done = subprocess.run(
        [sys.executable, '-c', LOST, *where.split(), str(int(number)), str(bag), '--loop',
         '--wait-sec', '0.1', '--rate', '100'],
        check=False, capture_output=True, text=True, env=own_ros.env, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    assert 'Error' not in done.stderr


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """As on a car, where the tools are left out."""
    for missing in ('rich', 'rosbags'):
        done = subprocess.run(
            [sys.executable, '-c', f'import sys; sys.modules[{missing!r}] = None\n'
             'sys.argv[0] = "vts_replay"\n'
             'from vts_ros.nodes.executables import vts_replay\nvts_replay()'],
            check=False, capture_output=True, text=True)
        assert done.returncode == 1
        line, = done.stderr.strip().splitlines()
        assert line == f"vts_replay: {missing} is missing: pip install 'vts_ros[tools]'"
