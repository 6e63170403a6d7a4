# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered driving scenes with ground truth."""
