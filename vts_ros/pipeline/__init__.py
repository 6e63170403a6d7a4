# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a window of frames to a scene report; no ROS here."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline, PipelineConfig

__all__ = ['BrokenFrame', 'Pipeline', 'PipelineConfig']


def __getattr__(name: str) -> Any:
    """Import the pipeline when it is asked for: who only reads frames needs no PyTorch."""
    if name in __all__:
        from vts_ros.pipeline import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
