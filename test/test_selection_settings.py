# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The measurement of what the numbers of the selection give."""

from __future__ import annotations

import numpy as np
import pytest

from vts_ros.lab.evaluation.selection_settings import measure, METRICS, Setting, table
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

pytestmark = pytest.mark.slow

RECALL, CHANGES = METRICS.index('recall'), METRICS.index('key changes')


def test_settings_are_applied_and_compared_on_the_same_windows(model: str) -> None:
    settings = [Setting('alpha', 0.5), Setting('alpha', 1.0), Setting('hysteresis', 0.05),
                Setting('hysteresis', 9.0), Setting('hysteresis', 0.05, 'causal'),
                Setting('hysteresis', 0.0, 'causal')]
    pipeline = Pipeline.load(PipelineConfig(model=model, threads=1))
    found = measure(pipeline, settings, [0.4], 4)
    usual, novelty, same, never, causal, always = (
        found[setting, 0.4] for setting in settings)
    assert np.array_equal(usual, same, equal_nan=True)
    # Novelty alone does not know what matters.
    assert np.nanmean(novelty[:, RECALL]) < np.nanmean(usual[:, RECALL])
    # Only a key frame that has left the window is replaced.
    assert never[:, CHANGES].mean() <= usual[:, CHANGES].mean()
    assert always[:, CHANGES].mean() > causal[:, CHANGES].mean()
    lines = list(table(found, [0.4]))
    assert len(lines) == 2 + len(settings)
    assert lines[2].startswith('| `alpha` 0.5 | ')
    assert lines[3].count('[') == len(METRICS)
    assert lines[6].startswith('| `hysteresis` 0.05, causal | ')
