# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Thousands of recordings: described on Ray, kept in Parquet, searched with DuckDB."""
