# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera topics: which of them a camera has, who publishes it, and what its messages hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, TYPE_CHECKING

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image

from vts_ros.errors import FrameError
from vts_ros.nodes.conversions import NO_CONVERTERS, to_frame, to_ns
from vts_ros.nodes.diagnostics import CameraHealth
from vts_ros.nodes.node_clock import NodeClock
from vts_ros.nodes.qos import INPUT_QOS
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.raw_images import Convert, is_video, new_decoder

if TYPE_CHECKING:
    from vts_ros.pipeline.video_packets import PacketDecoder

#: Values of the parameter ``image_transport``.
TRANSPORTS = ('auto', 'compressed', 'raw')
#: Clocks of two machines may differ by so much before a stamp counts as one of the future.
FUTURE_SEC = 1.0
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


def camera_namespace(text: str) -> str:
    """Return the namespace of a camera that may be given as one of its topics."""
    return text.removesuffix('/').removesuffix('/compressed').removesuffix('image_raw').rstrip('/')


class Camera:
    """
    One camera of a node: its subscription, its state of health, and the frames it gives.

    Parameters
    ----------
    namespace
        ``front`` for ``front/image_raw/compressed`` or ``front/image_raw``; relative, and both
        can be remapped.
    transport
        One of ``TRANSPORTS``; ``auto`` takes what is published, compressed pictures first.
    on_frame
        Called with every picture that can be used.
    converters
        See :func:`to_frame`.

    """

    def __init__(self, node: Node, namespace: str, transport: str,
                 on_frame: Callable[[Camera, Frame], None],
                 converters: Mapping[str, Convert] = NO_CONVERTERS) -> None:
        namespace = camera_namespace(namespace)
        raw = '/'.join(filter(None, (namespace, 'image_raw')))
        self._topics = {'compressed': f'{raw}/compressed', 'raw': raw}
        self._node = node
        self._on_frame, self._converters = on_frame, converters
        self._subscription: Subscription | None = None
        self._warned = self._saw_raw = False
        self._decoder: PacketDecoder | None = None
        clock = NodeClock(node)
        self._number: int | None = None
        self.health = CameraHealth(
            node.resolve_topic_name(self._topics['raw' if transport == 'raw' else 'compressed']),
            namespace.strip('/').replace('/', '_'), clock.seconds, clock.goes_on)
        self._began = self.health.seconds()
        if transport == 'auto':
            self._find_out()
        else:
            self._subscribe(transport)

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

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
                if set(IMAGE_TYPES) & set(kinds) and self._node.count_publishers(name)))
            return f'nobody publishes it; pictures are published on: {known or "no topic"}'
        publishers = '; '.join(map(_describe_publisher, found))
        qos = self._subscription and self._subscription.qos_profile
        return f'published by {publishers}' + (
            f'; this node asks for {_describe_qos(qos)}' if qos else '')

    def _find_out(self) -> None:
        compressed, raw = (self._node.count_publishers(self._node.resolve_topic_name(topic))
                           for topic in self._topics.values())
        # A driver that offers both is not discovered at one moment: look twice before taking raw.
        if compressed or (raw and self._saw_raw):
            self._subscribe('compressed' if compressed else 'raw')
        self._saw_raw = bool(raw)

    def _subscribe(self, transport: str) -> None:
        topic = self._topics[transport]
        # rclpy's annotation knows callbacks of one argument only; it looks at how many there are.
        on_image: Any = self._on_image
        self.health.topic = self._node.resolve_topic_name(topic)
        self._subscription = self._node.create_subscription(
            Image if transport == 'raw' else CompressedImage, topic, on_image,
            copy(INPUT_QOS),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self._node.get_logger().info(f'camera {self.health.name}: {self.health.topic}')

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self.health.incompatible = policy
        self._node.get_logger().warning(
            f'{self.health.topic}: a publisher does not offer the {policy} that this node asks '
            f'for, so it is not heard: {self.publishers()}; change it with qos_overrides')

    def _on_image(self, message: Image | CompressedImage, info: Mapping[str, Any]) -> None:
        self.health.received(message.header.frame_id, info['source_timestamp'])
        self._count_lost(info.get('publication_sequence_number'))
        now_ns = self._node.get_clock().now().nanoseconds
        try:
            frames = self._frames(message, now_ns)
        except Exception as error:
            # Whatever it holds: an exception that leaves a callback would end the node.
            self.leave_out('refused', str(error) if isinstance(error, FrameError)
                           else f'{type(error).__name__}: {error}')
            return
        self.health.counters['no_stamp'] += not to_ns(message.header.stamp)
        for frame in frames:
            self._offer(frame, now_ns)

    def _frames(self, message: Image | CompressedImage, now_ns: int) -> list[Frame]:
        """Return the pictures that a message completes: one, unless it is of a video."""
        name = self.health.name
        if isinstance(message, Image) or not is_video(message.format):
            return [to_frame(message, name, now_ns, self._converters)]
        # All packets are decoded, as each needs those before it; to RGB only where a window wants.
        if self._decoder is None:
            self._decoder = new_decoder(self.health.topic, message.format)
        stamp_ns = to_ns(message.header.stamp) or now_ns
        return [Frame(name, shown_ns, picture) for shown_ns, picture in
                self._decoder.decode(message.data.tobytes(), stamp_ns)]

    def _offer(self, frame: Frame, now_ns: int) -> None:
        """Hand a picture on, unless its time cannot be."""
        ahead_sec = (frame.stamp_ns - now_ns) * 1e-9
        # Before the first /clock the time is zero, and nothing can be said.
        if now_ns and ahead_sec > FUTURE_SEC:
            self.leave_out('future', f'stamp is {ahead_sec:.1f} s ahead of this node: '
                                     'synchronise the clocks, or use_sim_time')
            return
        self._on_frame(self, frame)

    def _count_lost(self, number: int | None) -> None:
        """Count what was published since the last picture; not every middleware numbers."""
        before, self._number = self._number, number
        missing = number - before - 1 if number and before else 0
        # One that starts again numbers from the beginning, and several each for themselves.
        if missing > 0 and self._decoder:
            self._decoder.lost()
        if missing > 0 and self._node.count_publishers(self.health.topic) == 1:
            self.leave_out('lost', 'pictures are lost between their publisher and this node: see '
                           'docs/dds.md', missing)

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

    def open(self, namespaces: Sequence[str], transport: str,
             on_frame: Callable[[Camera, Frame], None]) -> None:
        """Subscribe, see :class:`Camera`; after an error :meth:`close` ends what is subscribed."""
        for namespace in namespaces:
            self._cameras += (Camera(
                self._node, namespace, transport, on_frame, self._converters),)

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
    name = f'{publisher.node_namespace.rstrip("/")}/{publisher.node_name}'
    return f'{name} ({publisher.topic_type}, {_describe_qos(publisher.qos_profile)})'


def _describe_qos(qos: QoSProfile) -> str:
    return f'{qos.reliability.name.lower()}, {qos.durability.name.lower()}'
