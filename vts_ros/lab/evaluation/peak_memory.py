# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a stretch of work, on the device that does it."""

from __future__ import annotations

from pathlib import Path
import re

import torch

_CLEAR, _STATUS = Path('/proc/self/clear_refs'), Path('/proc/self/status')
_RESET_PEAK = '5'


class PeakMemory:
    """
    Measures from one call of ``reset`` on.

    On an accelerator that is what tensors take; on the CPU it is the resident memory of the
    process, weights and libraries included. The C library seldom gives memory back, so what is
    measured after something larger is too much: measure from small to large.

    Parameters
    ----------
    device
        Torch device of the work.

    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """Begin anew."""
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        elif _CLEAR.exists():
            _CLEAR.write_text(_RESET_PEAK, encoding='ascii')

    def mebibytes(self) -> float | None:
        """Return the peak in MiB, None where this system does not tell."""
        if self._device.type == 'cuda':
            return float(torch.cuda.max_memory_allocated(self._device)) / 2 ** 20
        if not _CLEAR.exists():
            return None
        found = re.search(r'^VmHWM:\s+(\d+) kB', _STATUS.read_text(encoding='ascii'), re.M)
        return int(found[1]) / 1024 if found else None
