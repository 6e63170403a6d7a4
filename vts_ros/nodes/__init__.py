# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes: parameters, message conversion, diagnostics. Only here is rclpy imported."""
