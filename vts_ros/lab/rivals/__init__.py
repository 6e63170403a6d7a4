# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Other ways to prune, at the same budget, to compare with."""
