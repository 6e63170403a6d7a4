# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video token sparsification for driving scenes: a ROS 2 node that explains what it sees."""

import os

__version__ = '0.1.0'

# Both are read when the libraries are first imported, so nothing later can set them.
# ONNX Runtime would write an id of the machine to the home folder and look its vendor up.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
# Threads of OpenMP spin when they wait; where another program needs the core, everything is then
# several times slower.
os.environ.setdefault('GOMP_SPINCOUNT', '1000')
