# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``vts``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        from vts_ros.tools.cli.command_line import run
    except ModuleNotFoundError as error:
        print(f"vts: {error.name} is missing: pip install 'vts_ros[tools]'", file=sys.stderr)
        return 1
    return run()
