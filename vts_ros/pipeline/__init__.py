# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a window of frames to a scene report; no ROS here."""

from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline, PipelineConfig

__all__ = ['BrokenFrame', 'Pipeline', 'PipelineConfig']
