# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The overlay: takes reports and pictures, publishes pictures with the answers drawn on them.

It is a node of its own, so that the node with the models never draws.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
import json
import sys
import threading

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from vts_ros.errors import FrameError, VtsError
from vts_ros.nodes.camera import Camera, Cameras
from vts_ros.nodes.conversions import to_image, to_stamp
from vts_ros.nodes.cv_bridge_images import find_converters
from vts_ros.nodes.parameter_table import OVERLAY_TABLE, Parameters
from vts_ros.nodes.program_start import start_ros
from vts_ros.nodes.qos import LATCHED_QOS, OUTPUT_QOS
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.overlay_picture import overlay
from vts_ros.tools.pictures import encode, Picture

WATCH_SEC = 1.0
JPEG_QUALITY = 90
#: More than any window has; a report is text that anybody may have sent.
MAX_TOKENS = 2**20


class History:
    """
    The last pictures of all cameras, within a bound of memory; safe to use from two threads.

    Parameters
    ----------
    limit_bytes
        How much is kept; the oldest pictures make room.

    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._frames: OrderedDict[tuple[str, int], Frame] = OrderedDict()
        self._lock = threading.Lock()

    def push(self, frame: Frame) -> None:
        """Add a picture."""
        with self._lock:
            self._forget(frame.key)
            self._frames[frame.key] = frame
            self._bytes += frame.size_bytes
            while self._bytes > self._limit_bytes:
                self._forget(next(iter(self._frames)))

    def rgb(self, camera: str, stamp_ns: int) -> Picture | None:
        """Return a picture as uint8 (height, width, 3); None if it is not there or broken."""
        with self._lock:
            frame = self._frames.get((camera, stamp_ns))
        try:
            return frame.rgb() if frame else None
        except FrameError:
            return None

    def _forget(self, key: tuple[str, int]) -> None:
        if frame := self._frames.pop(key, None):
            self._bytes -= frame.size_bytes


class VtsOverlay(Node):
    """Draws the newest report as soon as the previous one is drawn."""

    def __init__(self) -> None:
        super().__init__('vts_overlay')
        settings = Parameters(self, lambda: True, OVERLAY_TABLE)
        self._history = History(settings['history_mb'] * 2**20)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix='drawing')
        self._waiting: SceneReport | None = None
        self._lock = threading.Lock()
        self._raw = self.create_publisher(Image, '~/image_annotated', LATCHED_QOS)
        self._jpeg = self.create_publisher(
            CompressedImage, '~/image_annotated/compressed', LATCHED_QOS)
        self.create_subscription(String, 'vts_node/report', self._on_report, OUTPUT_QOS)
        self._cameras = Cameras(self, find_converters(self.get_logger().info))
        self._cameras.open(settings['cameras'], settings['image_transport'], self._on_frame)
        warn_sec = settings['no_image_warn_sec']
        self.create_timer(WATCH_SEC, lambda: self._cameras.watch(warn_sec),
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Finish the current picture and end."""
        self._worker.shutdown(cancel_futures=True)

    def _on_frame(self, camera: Camera, frame: Frame) -> None:
        self._history.push(frame)

    def _on_report(self, message: String) -> None:
        try:
            report = SceneReport.from_dict(json.loads(message.data))
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            self.get_logger().warning(f'report cannot be read: {error}',
                                      throttle_duration_sec=5.0)
            return
        # At once with what takes it: a report that is put where one was just taken would lie there
        # until the next comes.
        with self._lock:
            is_busy, self._waiting = self._waiting is not None, report
        if not is_busy:
            self._worker.submit(self._draw_waiting)

    def _draw_waiting(self) -> None:
        with self._lock:
            report, self._waiting = self._waiting, None
        if report is None or not self.context.ok():
            return
        try:
            self._draw(report)
        except Exception as error:
            # A report that does not fit its pictures must not end the node.
            if self.context.ok():
                self.get_logger().error(f'report cannot be drawn: {type(error).__name__}: {error}',
                                        throttle_duration_sec=5.0)

    def _draw(self, report: SceneReport) -> None:
        heard = [publisher for publisher in (self._raw, self._jpeg)
                 if publisher.get_subscription_count()]
        if not heard:
            return
        if report.tokens_total > MAX_TOKENS:
            raise ValueError(f'{report.tokens_total} visual tokens')
        window = [self._history.rgb(frame.camera, frame.stamp) for frame in report.frames]
        frame, newest = report.shown_frame, window[report.shown]
        if newest is None:
            self.get_logger().warning(
                f'the picture of {frame.camera} at {frame.stamp * 1e-9:.3f} s did not arrive '
                'here, or history_mb is too small', throttle_duration_sec=5.0)
            return
        picture = overlay(newest, report, window)
        header = Header(stamp=to_stamp(frame.stamp),
                        frame_id=self._cameras.frame_id(frame.camera))
        if self._raw in heard:
            self._raw.publish(to_image(picture, header))
        if self._jpeg in heard:
            self._jpeg.publish(CompressedImage(
                header=header, format='rgb8; jpeg compressed bgr8',
                data=encode(picture, '.jpg', JPEG_QUALITY)))


def main(args: list[str] | None = None) -> int:
    """Run the overlay until SIGINT or SIGTERM."""
    start_ros('vts_overlay', args)
    node = None
    try:
        node = VtsOverlay()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (VtsError, ParameterException) as error:
        print(f'vts_overlay: {error}', file=sys.stderr)
        return 1
    finally:
        if node:
            node.close()
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
