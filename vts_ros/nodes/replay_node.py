# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play the pictures of a recorded drive on real topics, at the pace of the recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import sys
import time

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import uninstall_signal_handlers
from rclpy.utilities import remove_ros_args
from rich.console import Console
from rich.progress import Progress
from rosgraph_msgs.msg import Clock

from vts_ros.errors import BagError
from vts_ros.nodes.conversions import message_type, to_stamp, UNKNOWN_NODE
from vts_ros.nodes.program_start import init_ros
from vts_ros.nodes.replay_command import app
from vts_ros.pipeline.picture_messages import PICTURE_TYPES
from vts_ros.tools.bags import Bag, BagTopic
from vts_ros.tools.camera_topics import CAMERA_INFO
from vts_ros.tools.cli.command_line import run

STRING = 'std_msgs/msg/String'
#: What is played: pictures, their calibration, and what a rendered drive says of itself.
TYPES = (*PICTURE_TYPES, CAMERA_INFO, STRING)
#: What a rendered drive says of itself. Another text may be a command to a car: it is not played.
TRUTH_TOPIC = '/vts/truth'
#: Answers in a bag would be mistaken for those of the nodes that listen, in whatever namespace.
_ANSWERS = re.compile('/vts_(node|overlay)/')

#: Reliable, so that it fits any subscriber; deep enough for a second of a fast camera.
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=60,
                 reliability=ReliabilityPolicy.RELIABLE)
TICK_SEC = 0.02
FLUSH_SEC = 1.0
#: A node that listens to one camera soon listens to all of its cameras.
SETTLE_SEC = 1.0
#: How long time goes on behind the last picture before a loop sets it back: to a node that hears
#: of the earlier time first, the last pictures would come from the future.
REST_SEC = 1.0
#: They look on; whoever answers may be started later. A name that is not known yet is no name.
_ONLOOKERS = re.compile(f'overlay|^rviz|^rqt|^rosbag2|^{UNKNOWN_NODE}')


@dataclass(frozen=True)
class Pace:
    """Pace of the playback: the recording began at ``bag_ns`` when the clock showed ``begin``."""

    begin: float
    bag_ns: int
    rate: float

    def now_ns(self) -> int:
        """Return the present time of the recording."""
        return self.bag_ns + round((time.monotonic() - self.begin) * self.rate * 1e9)


class Player(Node):
    """Publishes the serialised messages of a bag, when they are due."""

    def __init__(self, bag: Bag, topic_prefix: str, clock: bool, played: Counter[str]) -> None:
        super().__init__('vts_replay')
        self._played = played
        self._bag_topics: dict[str, BagTopic] = {}
        self._publishers_of: dict[str, Publisher] = {}
        for connection in bag.connections:
            if not (connection.msgcount and _is_played(connection)):
                continue
            topic, msgtype = connection.topic, connection.msgtype
            try:
                kind = message_type(msgtype)
            # A package that was built for another Python or ROS is not there either.
            except Exception:
                self.get_logger().warning(
                    f'{topic} is not played: {msgtype.partition("/")[0]} is not installed')
                continue
            self._bag_topics[topic] = connection
            self._publishers_of[topic] = self.create_publisher(kind, topic_prefix + topic, QOS)
        self._clock_publisher = self.create_publisher(Clock, '/clock', 10) if clock else None
        self._pace: Pace | None = None

    @property
    def topics(self) -> list[str]:
        """Return the topics of the bag that are played."""
        return list(self._bag_topics)

    @property
    def message_count(self) -> int:
        """Return the number of messages of one pass."""
        return sum(connection.msgcount for connection in self._bag_topics.values())

    def wait_for_listener(self, timeout_sec: float) -> bool:
        """
        Wait until a node listens to the cameras; return whether one does.

        The overlay, which does not count, is up seconds before a node that loads models.
        """
        cameras = [self._publishers_of[topic].topic_name
                   for topic, connection in self._bag_topics.items()
                   if connection.msgtype in PICTURE_TYPES]
        deadline = time.monotonic() + timeout_sec
        heard = 0
        while self.context.ok() and time.monotonic() < deadline:
            now_heard = sum(any(
                not _ONLOOKERS.search(subscription.node_name)
                for subscription in self.get_subscriptions_info_by_topic(camera))
                for camera in cameras)
            if now_heard and now_heard == len(cameras):
                return True
            if now_heard > heard:
                heard, deadline = now_heard, min(deadline, time.monotonic() + SETTLE_SEC)
            time.sleep(TICK_SEC)
        return bool(heard)

    def play(self, messages: Iterator[tuple[BagTopic, int, bytes]], rate: float
             ) -> Iterator[None]:
        """Publish the messages at their pace; yields after each, ends early on shutdown."""
        self._pace = None
        for connection, received_ns, data in messages:
            self._pace = self._pace or Pace(time.monotonic(), received_ns, rate)
            self._wait_until(received_ns, self._pace)
            if not self.context.ok():
                return
            self._publishers_of[connection.topic].publish(bytes(data))
            self._played[connection.topic] += 1
            yield

    def flush(self) -> None:
        """Wait until reliable subscribers have everything."""
        for publisher in self._publishers_of.values() if self.context.ok() else ():
            publisher.wait_for_all_acked(Duration(seconds=FLUSH_SEC))

    def rest(self) -> None:
        """Let time pass a little, so that all pictures are in the past when time goes back."""
        if self._pace:
            self._wait_until(self._pace.now_ns() + round(REST_SEC * self._pace.rate * 1e9),
                             self._pace)

    def _wait_until(self, received_ns: int, pace: Pace) -> None:
        while self.context.ok():
            now_ns = min(pace.now_ns(), received_ns)
            if self._clock_publisher:
                self._clock_publisher.publish(Clock(clock=to_stamp(now_ns)))
            if now_ns == received_ns:
                return
            time.sleep(min(TICK_SEC, (received_ns - now_ns) * 1e-9 / pace.rate))


def _is_played(topic: BagTopic) -> bool:
    return (topic.msgtype in TYPES and not _ANSWERS.search(topic.topic)
            and (topic.msgtype != STRING or topic.topic == TRUTH_TOPIC))


def replay_bag(path: str | Path, *, rate: float = 1.0, loop: bool = False, clock: bool = False,
               topic_prefix: str = '', wait_sec: float = 10.0, console: Console | None = None
               ) -> Counter[str]:
    """
    Play pictures, calibration and ground truth of a bag, nothing else, with their header stamps.

    Parameters
    ----------
    path
        Directory of the bag, or one of its files.
    rate
        Seconds of the recording per second.
    loop
        Start again at the end, until interrupted.
    clock
        Publish the time of the recording on ``/clock``.
    topic_prefix
        Put before every topic, such as ``/replay``.
    wait_sec
        How long to wait for a node that listens to the cameras before the first message; one that
        only looks on, such as the overlay, is not waited for.

    Returns
    -------
    Number of messages published per topic of the bag.

    Raises
    ------
    BagError
        If nothing can be read, or, after everything that can be read was published, where the
        bag is damaged.

    """
    if rate <= 0.0:
        raise BagError(f'rate is {rate:g}, expected more than 0')
    context = rclpy.get_default_context()
    if context.handle is None:
        rclpy.init()
    played: Counter[str] = Counter()
    try:
        with Bag(path) as bag:
            _replay(bag, played, rate=rate, loop=loop, clock=clock, topic_prefix=topic_prefix,
                    wait_sec=wait_sec, console=console or Console(stderr=True))
    except KeyboardInterrupt:
        pass
    except Exception:
        # A signal ends the context under whatever is just done with it, and even before the
        # beginning. The interrupt of Python comes later, or is lost where Python cannot raise it.
        if context.ok():
            raise
    finally:
        rclpy.try_shutdown()
        uninstall_signal_handlers()
    return played


def _replay(bag: Bag, played: Counter[str], *, rate: float, loop: bool, clock: bool,
            topic_prefix: str, wait_sec: float, console: Console) -> None:
    player = Player(bag, topic_prefix, clock, played)
    try:
        if not player.topics:
            raise BagError(f'{bag.path} has no topic that can be played')
        if not player.wait_for_listener(wait_sec) and player.context.ok():
            console.print(f'no node listens to {", ".join(player.topics)}; playing anyway')
        try:
            _play(bag, player, rate, loop, console)
        finally:
            player.flush()
        if wrong := [text for name, text in _WRONG.items() if bag.counters[name]]:
            raise BagError(f'{bag.path} {", ".join(wrong)}; everything that can be read was '
                           'played')
    finally:
        for topic, count in played.items():
            console.print(f'{count} messages on {topic_prefix}{topic}')
        player.destroy_node()


#: What can be wrong with a recording that is played nevertheless.
_WRONG = {'truncated': 'was cut off', 'damaged': 'is damaged', 'missing': 'lacks files'}


def _play(bag: Bag, player: Player, rate: float, loop: bool, console: Console) -> None:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task('playing', total=None if loop else player.message_count)
        while player.context.ok():
            for _ in player.play(bag.messages(player.topics), rate):
                progress.advance(task)
            if not loop:
                return
            player.flush()
            player.rest()


def main() -> int:
    """Run ``vts replay`` as an executable of ROS: what follows ``--ros-args`` is for ROS."""
    init_ros('vts_replay', sys.argv[1:])
    sys.argv[1:] = remove_ros_args(sys.argv)[1:]
    return run(app)


if __name__ == '__main__':
    sys.exit(main())
