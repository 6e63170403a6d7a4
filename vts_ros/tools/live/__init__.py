# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The live page: a drive in a browser while it is driven, or played."""
