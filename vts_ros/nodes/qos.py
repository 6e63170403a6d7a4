# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Qualities of service of what the nodes publish and take; all can be overridden for pictures."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

#: Sensor data as in REP 2003: a picture that is late is of no use.
INPUT_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5,
                       reliability=ReliabilityPolicy.BEST_EFFORT)
#: A packet that is late is decoded all the same: those after it need it.
VIDEO_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=30,
                       reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
#: Who joins late gets the last answer at once.
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                         durability=DurabilityPolicy.TRANSIENT_LOCAL)
