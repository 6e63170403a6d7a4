# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Names of engines and precisions, without importing any of them."""

from __future__ import annotations

from typing import get_args, Literal

Precision = Literal['fp32', 'fp16', 'int8']
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
#: The keys of ``backends.BACKENDS``.
BACKEND_NAMES = ('tensorrt', 'tensorrt_rtx', 'onnxruntime-tensorrt', 'onnxruntime-cuda',
                 'torch-cuda', 'onnxruntime', 'torch')
