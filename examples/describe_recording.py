# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Describe a recording without ROS: python examples/describe_recording.py my_drive."""

import sys

from vts_ros.pipeline import Pipeline, PipelineConfig
from vts_ros.tools.bag_frames import read_windows

pipeline = Pipeline.load(PipelineConfig(keep_ratio=0.6))
for window in read_windows(sys.argv[1]):
    report = pipeline.describe(window)
    print(f'{report.stamp * 1e-9:.1f} s  {report.answer.risk}: {report.answer.explanation}')
