# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Lets vLLM prune videos by its own methods on a CPU, for comparisons.

The runner of vLLM 0.32 for CPUs loads a model without noting that it prunes (what that for GPUs
does at the end of ``load_model``), so that the first video ends the server. Not needed for keep
lists, and not loaded by itself: ``vts bench peers`` names it to the servers that it starts.
"""

from __future__ import annotations

from functools import wraps
from typing import Any


def register() -> None:
    """Have the runner for CPUs note whether its model prunes."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    load_model = CPUModelRunner.load_model

    @wraps(load_model)
    def load_and_note(self: Any, *arguments: Any, **options: Any) -> None:
        load_model(self, *arguments, **options)
        settings = self.model_config.multimodal_config
        self.is_multimodal_pruning_enabled = (
            settings is not None and settings.is_multimodal_pruning_enabled())

    CPUModelRunner.load_model = load_and_note
