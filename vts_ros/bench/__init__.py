# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast everything is on this machine: engines, windows, growth, deadlines."""
