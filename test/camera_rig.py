# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Cameras on one trigger, as a driver publishes them: JPEG 1280x720, best effort.

``python camera_rig.py RATE_HZ SECONDS NAME ...`` waits for a listener to every camera and in the
end prints one line of JSON: the pictures it has sent per camera, and how late it was itself.
"""

from __future__ import annotations

from array import array
import json
import sys
import time

from bag_maker import jpeg
import cv2
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from vts_ros.nodes.conversions import to_stamp

QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def busy_jpeg() -> bytes:
    """Return a picture full of detail: 350 KiB, as much as a good camera gives."""
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    return jpeg(np.asarray(cv2.resize(noise, (1280, 720)), np.uint8))


def main(rate_hz: float, seconds: float, names: list[str]) -> None:
    """Publish, then tell how that went."""
    rclpy.init()
    node = rclpy.create_node(f'driver_{names[0]}')
    publishers = [node.create_publisher(CompressedImage, f'/{name}/image_raw/compressed', QOS)
                  for name in names]
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.05)
    data = array('B', busy_jpeg())
    # Counted on both sides from the first picture on: matching takes a moment.
    time.sleep(1.0)
    count, late = round(rate_hz * seconds), []
    begin = time.monotonic()
    for number in range(count):
        due = begin + number / rate_hz
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        stamp = to_stamp(time.time_ns())
        for publisher, name in zip(publishers, names):
            publisher.publish(CompressedImage(
                header=Header(stamp=stamp, frame_id=name), format='jpeg', data=data))
    print(json.dumps({'sent': count, 'late_p99_ms': 1e3 * float(np.percentile(late, 99))}),
          flush=True)
    # What is sent is still with the publisher.
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
