# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that work beside this one, without that each of them loads the libraries anew."""

from __future__ import annotations

from multiprocessing import get_context
from multiprocessing.context import ForkServerContext

#: What takes seconds of a core to import. Not ONNX Runtime, which is to be told before it is
#: imported that it sends nothing.
_LOADED = ('torch', 'transformers.modeling_utils')


def process_context() -> ForkServerContext:
    """
    Return what starts processes that have PyTorch and transformers loaded.

    They are forks of a process that did nothing but load them, so they share nothing else with
    this one, nor with each other: no threads, no locks and no GPU. Its environment is that of the
    time when the first of them was started.
    """
    context = get_context('forkserver')
    context.set_forkserver_preload(list(_LOADED))
    return context
