# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands of the workshop."""
