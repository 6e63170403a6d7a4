# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The error of all engines."""

from __future__ import annotations


class EngineError(RuntimeError):
    """An engine that cannot be made or run; the message says why in one line."""

    @classmethod
    def of(cls, what: str, error: Exception) -> EngineError:
        """Return the first line of an error of the runtime, behind what was tried."""
        lines = str(error).splitlines() or [type(error).__name__]
        return cls(f'{what}: {lines[0]}')
