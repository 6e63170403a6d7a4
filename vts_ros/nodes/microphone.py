# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The microphone of a node: its topic, and what is heard there, in a thread of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import copy
from queue import Empty, Full, Queue
import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.subscription import Subscription

from vts_ros.errors import SoundError, VtsError
from vts_ros.nodes.conversions import message_type, to_status
from vts_ros.nodes.parameter_table import Parameters
from vts_ros.nodes.qos import INPUT_QOS, LATCHED_QOS
from vts_ros.pipeline.events import Event
from vts_ros.pipeline.report_messages import HARDWARE_ID
from vts_ros.pipeline.sound_sense import new_listener
from vts_ros.sound.listener import Listener
from vts_ros.sound.pcm import AUDIO_INFO, BARE_TYPES, Chunk, chunk_of, PcmFormat, SOUND_TYPES

#: Relative names; both can be remapped.
TOPIC, INFO_TOPIC = 'audio', 'audio_info'
#: Messages that wait at most: what is heard seconds late is of no use.
MOST_WAITING = 50
#: Nothing of sound may be lost for being sent in bursts.
_DEPTH = 50
#: How long the end waits for what is being heard.
CLOSE_SEC = 2.0


class Microphone:
    """
    Listens to a topic of sound while it is open, and only if that is asked for.

    Nothing of it can stop a picture: what cannot be heard is counted, and the first of it logged.

    Parameters
    ----------
    node
        Gets the subscriptions.
    settings
        Its parameters by name.
    add
        Takes events, from another thread.
    now_ns
        Its clock.

    Attributes
    ----------
    counters
        Messages ``received``, those ``refused``, and those ``overrun`` as they came too fast.

    """

    def __init__(self, node: Node, settings: Parameters, add: Callable[[Event], None],
                 now_ns: Callable[[], int]) -> None:
        self._node, self._settings, self._add, self._now_ns = node, settings, add, now_ns
        self._hearing: _Hearing | None = None
        self._subscription: Subscription | None = None
        self._info: Subscription | None = None
        self._is_bare = False
        self._known = PcmFormat()
        self._said: set[str] = set()
        self._problem = ''
        self.counters: Counter[str] = Counter()

    def open(self) -> None:
        """Listen, if the parameters say so."""
        if not self._settings['audio.listen']:
            return
        self._known = PcmFormat(self._settings['audio.sample_rate'])
        try:
            listener = new_listener(self._add, lambda: bool(self._settings['audio.budget']),
                                    lambda: bool(self._settings['audio.tell']))
        except (VtsError, FileNotFoundError) as error:
            self._tell_once('unable', f'nothing is heard: {error}')
            return
        self._hearing = _Hearing(listener, self._tell_once)
        packages = dict.fromkeys(kind.partition('/')[0] for kind in SOUND_TYPES)
        missing = [package for package in packages
                   if not any(_is_known(kind) for kind in SOUND_TYPES if kind.startswith(package))]
        self._node.get_logger().info(
            f'sound: waiting for {self._node.resolve_topic_name(TOPIC)}' + (
                f'; without {", ".join(missing)}, which are not installed' if missing else ''))
        self.watch()

    def close(self) -> None:
        """Listen no more."""
        for subscription in (self._subscription, self._info):
            if subscription:
                self._node.destroy_subscription(subscription)
        self._subscription = self._info = None
        hearing, self._hearing = self._hearing, None
        if hearing:
            hearing.close()

    def watch(self) -> None:
        """Look for what is published, until something is."""
        if self._hearing is None:
            return
        if self._subscription:
            self._listen_to_info()
            return
        topic = self._node.resolve_topic_name(TOPIC)
        found = {publisher.topic_type
                 for publisher in self._node.get_publishers_info_by_topic(topic)}
        kind = next((kind for kind in SOUND_TYPES if kind in found and _is_known(kind)), '')
        if not kind:
            if found:
                self._tell_once('type', f'{topic} has {", ".join(sorted(found))}, which cannot '
                                'be heard here: its package is not installed, or it is no sound')
            return
        qos = copy(INPUT_QOS)
        qos.depth = _DEPTH
        self._subscription = self._node.create_subscription(
            message_type(kind), TOPIC, self._on_sound, qos)
        self._is_bare = kind in BARE_TYPES and _is_known(AUDIO_INFO)
        self._listen_to_info()
        self._node.get_logger().info(f'sound: {topic} ({kind})')

    def status(self, name: str) -> DiagnosticStatus | None:
        """Return the status of the microphone for ``/diagnostics``; None while it is off."""
        hearing = self._hearing
        if hearing is None:
            return None
        level, text = DiagnosticStatus.OK, 'listening'
        if self._subscription is None:
            level, text = DiagnosticStatus.WARN, f'nobody publishes {TOPIC}'
        elif self._problem:
            level, text = DiagnosticStatus.WARN, self._problem
        return to_status(f'{name}: microphone', level, text, HARDWARE_ID, {
            **dict.fromkeys(('received', 'refused', 'overrun', 'gaps', 'back', 'broken'), 0),
            **self.counters, **hearing.counters})

    def _listen_to_info(self) -> None:
        """Take what says how samples are written, also where it was said only once."""
        topic = self._node.resolve_topic_name(INFO_TOPIC)
        publishers = self._node.get_publishers_info_by_topic(topic)
        # How it is said decides how it is heard, so somebody has to be there who says it.
        if self._info or not (self._is_bare and publishers):
            return
        is_latched = any(publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                         for publisher in publishers)
        # What was said before is sent again to reliable subscriptions alone.
        self._info = self._node.create_subscription(
            message_type(AUDIO_INFO), INFO_TOPIC, self._on_info,
            LATCHED_QOS if is_latched else INPUT_QOS)

    def _on_info(self, message: Any) -> None:
        try:
            self._known = PcmFormat.of(message)
        except SoundError as error:
            self._tell_once('info', str(error))

    def _on_sound(self, message: Any) -> None:
        self.counters['received'] += 1
        hearing = self._hearing
        if hearing is None:
            return
        try:
            chunk = chunk_of(message, self._known, self._now_ns())
        except Exception as error:
            # Whatever it holds: an exception that leaves a callback would end the node.
            self.counters['refused'] += 1
            self._problem = str(error) if isinstance(error, SoundError) else (
                f'{type(error).__name__}: {error}')
            self._tell_once('refused', self._problem)
            return
        self._problem = ''
        self.counters['overrun'] += hearing.put(chunk)

    def _tell_once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._node.get_logger().warning(f'sound: {text} (said once)')


class _Hearing:
    """The thread that hears: what it does takes a hundredth of the time of the sound."""

    def __init__(self, listener: Listener, tell_once: Callable[[str, str], None]) -> None:
        self._listener, self._tell_once = listener, tell_once
        self._queue: Queue[Chunk | None] = Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name='sound', daemon=True)
        self._thread.start()

    @property
    def counters(self) -> Counter[str]:
        return self._listener.counters

    def put(self, chunk: Chunk) -> int:
        """Add what comes next; return how many made room for it."""
        dropped = 0
        while True:
            try:
                self._queue.put_nowait(chunk)
                return dropped
            except Full:
                try:
                    self._queue.get_nowait()
                    dropped += 1
                except Empty:
                    pass

    def close(self) -> None:
        while self._queue.full():
            self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join(CLOSE_SEC)

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            try:
                self._listener.hear(chunk)
            except Exception as error:
                # The next chunk may be another.
                self._listener.counters['failed'] += 1
                self._tell_once('failed', f'{type(error).__name__}: {error}')


def _is_known(msgtype: str) -> bool:
    """Return whether messages of a type can be received here."""
    try:
        message_type(msgtype)
    # A package that was built for another Python or ROS is not there either.
    except Exception:
        return False
    return True
