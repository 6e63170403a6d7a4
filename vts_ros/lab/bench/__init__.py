# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast everything is on this machine: engines, windows, growth, deadlines."""

import os

# The profiler of PyTorch, which records memory, would tell on stderr whenever it starts and stops.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
