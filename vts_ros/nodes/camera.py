# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera topics: which of them a camera has, who publishes it, and what its messages hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import Any, TYPE_CHECKING

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vts_ros.errors import FrameError, VtsError
from vts_ros.nodes.conversions import message_type, NO_CONVERTERS, to_frame, UNKNOWN_NODE
from vts_ros.nodes.diagnostics import CameraHealth
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.qos import INPUT_QOS, VIDEO_QOS
from vts_ros.nodes.video_decoding import Packet, VideoDecoding
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.picture_messages import (
    COMPRESSED_IMAGE,
    format_of,
    frame_id_of,
    is_packet,
    PICTURE_TYPES,
    stamp_ns,
    TRANSPORTS,
    VIDEO_TYPES,
)
from vts_ros.pipeline.raw_images import Convert

if TYPE_CHECKING:
    from vts_ros.pipeline.video_packets import VideoPicture

#: Values of the parameter ``image_transport``.
CHOICES = ('auto', *TRANSPORTS)
#: Clocks of two machines may differ by so much before a stamp counts as one of the future.
FUTURE_SEC = 1.0
#: So long a warning about a publisher waits for its name.
NAMES_SEC = 5.0

OnFrame = Callable[['Camera', Frame], None]
#: Whether a picture of a camera, by its name, may be used that was taken at some time (ns).
IsWanted = Callable[[str, int], bool]


class CameraError(VtsError):
    """A camera that this node cannot listen to."""

    component = 'camera'


def camera_namespace(text: str) -> str:
    """Return the namespace of a camera that may be given as one of its topics."""
    text = text.removesuffix('/')
    for transport in TRANSPORTS:
        text = text.removesuffix(f'image_raw/{transport}')
    return text.removesuffix('/compressed').removesuffix('image_raw').rstrip('/')


def problem_of(msgtype: str) -> str:
    """Return why messages of a type cannot be heard here, or ``''``."""
    package = msgtype.partition('/')[0]
    try:
        message_type(msgtype)
    # A package that was built for another Python or ROS is not there either.
    except Exception:
        return f'apt install ros-$ROS_DISTRO-{package.replace("_", "-")}'
    if msgtype in VIDEO_TYPES and not find_spec('av'):
        return "pip install 'vts_ros[video]'"
    return ''


class Camera:
    """
    One camera of a node: its subscription, its state of health, and the frames it gives.

    Parameters
    ----------
    namespace
        ``front`` for ``front/image_raw/compressed``, ``front/image_raw`` and what other
        transports append; relative, and all can be remapped. With ``auto`` a topic of pictures
        itself will do.
    transport
        One of ``CHOICES``; ``auto`` takes what is published, compressed pictures first.
    on_frame
        Called with every picture that can be used.
    converters
        See :func:`to_frame`.
    is_wanted
        Lets pictures of a video be left undecoded.

    Raises
    ------
    CameraError
        If the transport needs what is not installed.

    """

    def __init__(self, node: Node, namespace: str, transport: str, on_frame: OnFrame,
                 converters: Mapping[str, Convert] = NO_CONVERTERS,
                 is_wanted: IsWanted = lambda camera, stamp_ns: True) -> None:
        given, namespace = namespace.removesuffix('/'), camera_namespace(namespace)
        topics = {name: '/'.join(filter(None, (namespace, sent.topic)))
                  for name, sent in TRANSPORTS.items()}
        # A topic that is named comes first, but image_raw, which stands for all transports.
        self._topics = list(dict.fromkeys(filter(None, (
            '' if given == topics['raw'] else given, *topics.values()))))
        self._node = node
        self._on_frame, self._converters, self._is_wanted = on_frame, converters, is_wanted
        self._subscription: Subscription | None = None
        self._msgtype = ''
        self._warned = False
        self._unsaid_since: float | None = None
        self._seen: str | None = None
        self._decoding: VideoDecoding | None = None
        clock = NodeClock(node)
        self._number: int | None = None
        self.health = CameraHealth(
            node.resolve_topic_name(topics['compressed' if transport == 'auto' else transport]),
            namespace.strip('/').replace('/', '_'), clock.seconds, clock.goes_on)
        self._began = self.health.seconds()
        if transport == 'auto':
            self._find_out()
        else:
            msgtype = TRANSPORTS[transport].msgtype
            if problem := problem_of(msgtype):
                raise CameraError(f'image_transport is {transport}: {msgtype} needs {problem}')
            self._subscribe(topics[transport], msgtype)

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        if self._decoding:
            self._decoding.close()
            self._decoding = None

    def watch(self, warn_sec: float) -> None:
        """
        Look for what is published if that is not known yet, and say once that nothing comes.

        Parameters
        ----------
        warn_sec
            Seconds without a picture that are worth a warning; 0 never warns.

        """
        if self._subscription is None:
            self._find_out()
        self._say_incompatible()
        silent_sec = self.health.seconds() - (self.health.arrivals or [self._began])[-1]
        if not warn_sec or silent_sec <= warn_sec:
            self._warned = False
        elif not self._warned:
            self._warned = True
            self._node.get_logger().warning(
                f'{self.health.topic}: no picture for {silent_sec:.1f} s: {self.publishers()}')

    def publishers(self) -> str:
        """Return who publishes the topic and how, or what could be meant instead."""
        found = self._node.get_publishers_info_by_topic(self.health.topic)
        if not found:
            known = ', '.join(sorted(
                name for name, kinds in self._node.get_topic_names_and_types()
                if set(PICTURE_TYPES) & set(kinds) and self._node.count_publishers(name)))
            return f'nobody publishes it; pictures are published on: {known or "no topic"}'
        publishers = '; '.join(map(_describe_publisher, found))
        qos = self._subscription and self._subscription.qos_profile
        return f'published by {publishers}' + (
            f'; this node asks for {_describe_qos(qos)}' if qos else '')

    def _find_out(self) -> None:
        found = next(filter(None, map(self._published, self._topics)), None)
        if not found:
            return
        topic, msgtype = found
        # A driver that offers several is not discovered at one moment: look twice before taking
        # what is not the first choice.
        if msgtype == COMPRESSED_IMAGE or topic in (self._seen, self._topics[0]):
            self._subscribe(topic, msgtype)
        self._seen = topic

    def _published(self, topic: str) -> tuple[str, str] | None:
        """Return a topic with its type, None unless it is published and can be heard here."""
        kinds = {publisher.topic_type for publisher in self._node.get_publishers_info_by_topic(
            self._node.resolve_topic_name(topic))}
        msgtype = next((kind for kind in PICTURE_TYPES if kind in kinds), None)
        if msgtype is None:
            return None
        if problem := problem_of(msgtype):
            if self.health.unusable('refused', f'{msgtype} on {topic} needs {problem}', 0):
                self._node.get_logger().warning(f'{self.health.problem} (said once)')
            return None
        return topic, msgtype

    def _subscribe(self, topic: str, msgtype: str) -> None:
        # rclpy's annotation knows callbacks of one argument only; it looks at how many there are.
        on_image: Any = self._on_image
        self.health.topic, self._msgtype = self._node.resolve_topic_name(topic), msgtype
        self._subscription = self._node.create_subscription(
            message_type(msgtype), topic, on_image,
            copy(VIDEO_QOS if msgtype in VIDEO_TYPES else INPUT_QOS),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self._node.get_logger().info(f'camera {self.health.name}: {self.health.topic}')

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        self.health.incompatible = qos_policy_name_from_kind(event.last_policy_kind).lower()
        if self._unsaid_since is None:
            self._unsaid_since = self.health.seconds()
        self._say_incompatible()

    def _say_incompatible(self) -> None:
        """Warn once the names of the publishers are known: DDS finds them after the topic."""
        if self._unsaid_since is None:
            return
        found = self._node.get_publishers_info_by_topic(self.health.topic)
        is_named = all(publisher.node_name != UNKNOWN_NODE for publisher in found)
        if is_named or self.health.seconds() - self._unsaid_since > NAMES_SEC:
            self._unsaid_since = None
            self._node.get_logger().warning(
                f'{self.health.topic}: a publisher does not offer the {self.health.incompatible} '
                f'that this node asks for, so it is not heard: {self.publishers()}; '
                f'change it with qos_overrides')

    def _on_image(self, message: Any, info: Mapping[str, Any]) -> None:
        self.health.received(frame_id_of(message), info['source_timestamp'])
        is_complete = self._count_lost(info.get('publication_sequence_number'))
        now_ns = self._node.get_clock().now().nanoseconds
        taken_ns = stamp_ns(message)
        try:
            if is_packet(message, self._msgtype):
                self._decode(Packet(message.data.tobytes(), taken_ns or now_ns,
                                    format_of(message), not is_complete))
            else:
                self._offer(to_frame(message, self.health.name, now_ns, self._converters))
        except Exception as error:
            # Whatever it holds: an exception that leaves a callback would end the node.
            self.leave_out('refused', str(error) if isinstance(error, FrameError)
                           else f'{type(error).__name__}: {error}')
            return
        self.health.counters['no_stamp'] += not taken_ns

    def _decode(self, packet: Packet) -> None:
        """Have a packet decoded elsewhere: the callbacks of all cameras share one thread."""
        if self._decoding is None:
            self._decoding = VideoDecoding(
                self._node, self.health.topic, self._on_picture, self.leave_out,
                partial(self._is_wanted, self.health.name))
        self._decoding.add(packet)

    def _on_picture(self, taken_ns: int, picture: VideoPicture) -> None:
        self._offer(Frame(self.health.name, taken_ns, picture))

    def _offer(self, frame: Frame) -> None:
        """Hand a picture on, unless its time cannot be."""
        now_ns = self._node.get_clock().now().nanoseconds
        ahead_sec = (frame.stamp_ns - now_ns) * 1e-9
        # Before the first /clock the time is zero, and nothing can be said.
        if now_ns and ahead_sec > FUTURE_SEC:
            self.leave_out('future', f'stamp is {ahead_sec:.1f} s ahead of this node: '
                                     'synchronise the clocks, or use_sim_time')
            return
        self._on_frame(self, frame)

    def _count_lost(self, number: int | None) -> bool:
        """
        Count what was published since the last picture; return whether that is nothing.

        Not every middleware numbers what is published. A publisher that starts again numbers from
        the beginning, and several number each for themselves.
        """
        before, self._number = self._number, number
        missing = number - before - 1 if number and before else 0
        if missing <= 0:
            return True
        if self._node.count_publishers(self.health.topic) == 1:
            self.leave_out('lost', 'pictures are lost between their publisher and this node: see '
                           'docs/dds.md', missing)
        return False

    def leave_out(self, kind: str, reason: str, count: int = 1) -> None:
        """Count pictures that cannot be used; the first of a row is logged."""
        if self.health.unusable(kind, reason, count):
            self._node.get_logger().warning(
                f'{self.health.topic}: {kind}: {reason} (said once, then only counted)')


class Cameras:
    """
    The cameras that a node listens to at present; may be read from two threads.

    Parameters
    ----------
    node
        Gets the subscriptions.
    converters
        See :func:`to_frame`.

    """

    def __init__(self, node: Node, converters: Mapping[str, Convert] = NO_CONVERTERS) -> None:
        self._node, self._converters = node, converters
        # Never changed, only replaced: another thread may be going through it.
        self._cameras: tuple[Camera, ...] = ()

    def __iter__(self) -> Iterator[Camera]:
        """Yield the cameras in the order of their namespaces."""
        return iter(self._cameras)

    def __len__(self) -> int:
        """Return the number of cameras; 0 while the node does not listen."""
        return len(self._cameras)

    def open(self, namespaces: Sequence[str], transport: str, on_frame: OnFrame,
             is_wanted: IsWanted = lambda camera, stamp_ns: True) -> None:
        """Subscribe, see :class:`Camera`; after an error :meth:`close` ends what is subscribed."""
        for namespace in namespaces:
            self._cameras += (Camera(
                self._node, namespace, transport, on_frame, self._converters, is_wanted),)

    def close(self) -> None:
        """Unsubscribe all."""
        cameras, self._cameras = self._cameras, ()
        for camera in cameras:
            camera.close()

    def watch(self, warn_sec: float) -> None:
        """Look after each of them, see :meth:`Camera.watch`."""
        for camera in self._cameras:
            camera.watch(warn_sec)

    def frame_id(self, name: str) -> str:
        """Return the frame_id of the last message of a camera, ``''`` where it is not known."""
        return {camera.health.name: camera.health.frame_id
                for camera in self._cameras}.get(name, '')


def _describe_publisher(publisher: TopicEndpointInfo) -> str:
    name = 'a program without a node name' if publisher.node_name == UNKNOWN_NODE else \
        f'{publisher.node_namespace.rstrip("/")}/{publisher.node_name}'
    return f'{name} ({publisher.topic_type}, {_describe_qos(publisher.qos_profile)})'


def _describe_qos(qos: QoSProfile) -> str:
    return f'{qos.reliability.name.lower()}, {qos.durability.name.lower()}'
