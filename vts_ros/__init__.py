# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video token sparsification for driving scenes: a ROS 2 node that explains what it sees."""

__version__ = '0.1.0'
