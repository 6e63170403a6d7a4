# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All commands of ``vts``, for tests that look at them or run them in their own process."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer.testing

from vts_ros.tools.cli.command_line import command_line

app = command_line()

# Typer makes all of them anew for each that is run, which takes longer than many of them.
_made: Any = typer.testing
_made._get_command = cache(_made._get_command)
#: What Typer makes of them: a group with its ``commands``.
COMMANDS: Any = _made._get_command(app)
