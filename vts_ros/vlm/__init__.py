# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vision language models: prompts, answers, and one adaptor to Hugging Face checkpoints."""

from vts_ros.vlm.adaptor import Generation, Layout, Prepared, Vlm, VlmError
from vts_ros.vlm.families import FrameFeatures

__all__ = ['FrameFeatures', 'Generation', 'Layout', 'Prepared', 'Vlm', 'VlmError']
