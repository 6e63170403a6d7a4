# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What vLLM calls in each of its processes."""

from __future__ import annotations

_MODELS = 'vts_ros.vllm_plugin.pruned_models'
#: Architectures, as checkpoints name them, and the classes that take their place.
CLASSES = {'Qwen2_5_VLForConditionalGeneration': 'KeepListQwen25VL',
           'Qwen3VLForConditionalGeneration': 'KeepListQwen3VL'}


def register() -> None:
    """Put the classes that take keep lists in the place of those of vLLM."""
    from vllm import ModelRegistry

    for architecture, name in CLASSES.items():
        # By name: it is imported in the process that needs it.
        ModelRegistry.register_model(architecture, f'{_MODELS}:{name}')
