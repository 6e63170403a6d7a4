# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The truth about a window in the form of an answer, to be drawn like one."""

from __future__ import annotations

import numpy as np

from vts_ros.lab.scenes.scene_truth import WindowTruth
from vts_ros.lab.scenes.sentences import answer
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport


def true_report(truth: WindowTruth, stamp_ns: int) -> SceneReport:
    """Return the truth in the form of an answer that has seen everything."""
    return SceneReport(
        stamp=stamp_ns, frames=(FrameRef(truth.family, stamp_ns),),
        key_frame=KeyFrame(truth.family, stamp_ns, 0),
        answer=answer(truth, np.random.default_rng(truth.seed)), keep=(0,), grid=(1, 1))
