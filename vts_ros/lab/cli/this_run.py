# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a page says about the command that made it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vts_ros.lab.evaluation.generated_page import Run


def this_run(device: str, start_sec: float) -> Run:
    """
    Return command, day, machine and time of a run.

    Parameters
    ----------
    device
        Of the model.
    start_sec
        When it began, by ``time.monotonic``.

    """
    from datetime import date
    import shlex
    import time

    from vts_ros.lab.evaluation.generated_page import machine, Run

    return Run(shlex.join(['vts', *sys.argv[1:]]), date.today(),
               machine(device), time.monotonic() - start_sec)
