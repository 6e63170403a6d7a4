# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Describe a picture with a checkpoint of yours: python examples/own_model.py MODEL road.jpg."""

from pathlib import Path
import sys

from vts_ros.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.frames import Frame

model, picture = sys.argv[1:]
pipeline = Pipeline.load(PipelineConfig(model=model, tokens_per_frame=512))
report = pipeline.describe([Frame('front', 0, Path(picture).read_bytes())])
# Only a model with a guard knows what it does not know.
print(f'in distribution: {report.in_distribution}, {report.tokens_total} visual tokens')
print(report.to_json())
