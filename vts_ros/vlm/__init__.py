# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vision language models: prompts, answers, and one way to Hugging Face checkpoints."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TYPE_CHECKING

from vts_ros.vlm.compatibility import check_transformers

if TYPE_CHECKING:
    from vts_ros.errors import VlmError
    from vts_ros.vlm.families import FrameFeatures
    from vts_ros.vlm.language_model import Encoded, Generation, LanguageModel, OnText
    from vts_ros.vlm.model import Vlm
    from vts_ros.vlm.prompt_layout import Layout, Prepared

__all__ = ['Encoded', 'FrameFeatures', 'Generation', 'LanguageModel', 'Layout', 'OnText',
           'Prepared', 'Vlm', 'VlmError']
_MODULES = {'VlmError': 'vts_ros.errors', 'FrameFeatures': 'vts_ros.vlm.families',
            **dict.fromkeys(('Encoded', 'Generation', 'LanguageModel', 'OnText'),
                            'vts_ros.vlm.language_model'),
            'Vlm': 'vts_ros.vlm.model',
            **dict.fromkeys(('Layout', 'Prepared'), 'vts_ros.vlm.prompt_layout')}

# Before all that follows: with transformers that are too old, its imports would fail obscurely.
check_transformers()


def __getattr__(name: str) -> Any:
    """Import a part when it is asked for: who only reads answers needs no PyTorch."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
