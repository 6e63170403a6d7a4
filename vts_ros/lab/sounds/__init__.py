# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Synthesised sounds of the road, with labels: no recording of anybody is in them."""
