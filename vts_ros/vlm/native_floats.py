# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which floats a processor computes with.

Others are computed with, too, by way of float32, and then a prompt is read several times slower
than in float32: bfloat16 on AVX-512 without AVX512-BF16, float16 nearly everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

#: Instructions for products of such numbers, as PyTorch calls them: on x86, and on Arm.
_INSTRUCTIONS = {
    torch.bfloat16: ('avx512_bf16', 'amx_bf16', 'avx10_2', 'bf16', 'sve_bf16'),
    torch.float16: ('avx512_fp16', 'amx_fp16', 'avx10_2', 'fp16_arith'),
}


def native_floats(wanted: torch.dtype, capabilities: Mapping[str, Any] | None = None
                  ) -> torch.dtype:
    """
    Return floats if the processor has instructions for them, otherwise float32.

    Parameters
    ----------
    wanted
        Such as those of a checkpoint.
    capabilities
        What the processor can do, by the names of PyTorch; by default what this one can.

    """
    has = torch.cpu.get_capabilities() if capabilities is None else capabilities
    is_native = any(has.get(name) for name in _INSTRUCTIONS.get(wanted, ()))
    return wanted if is_native else torch.float32
