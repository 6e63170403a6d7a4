# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the shipped models on rendered scenes; nothing above imports this."""
