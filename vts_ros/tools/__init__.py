# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Beside the car: bags, pictures, pages, the command line."""
