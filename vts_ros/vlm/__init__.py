# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vision language models: prompts, answers, and one adaptor to Hugging Face checkpoints."""

from vts_ros.vlm.compatibility import check_transformers

# Before all that follows: with transformers that are too old, its imports would fail obscurely.
check_transformers()

from vts_ros.vlm.families import FrameFeatures  # noqa: E402
from vts_ros.vlm.language_model import Encoded, Generation, LanguageModel, OnText  # noqa: E402
from vts_ros.vlm.model import Layout, Prepared, Vlm, VlmError  # noqa: E402

__all__ = ['Encoded', 'FrameFeatures', 'Generation', 'LanguageModel', 'Layout', 'OnText',
           'Prepared', 'Vlm', 'VlmError']
