# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Range of a LiDAR or a radar as evidence: measured, and not used in the car."""
