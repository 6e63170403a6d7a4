# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What ``ros2 run`` starts.

Imports take seconds. A signal that comes meanwhile ends the process at once and in silence: there
is nothing to clean up yet, and an interrupt that Python raises in the middle of an import can be
lost. Afterwards signals are the business of each program.
"""

from __future__ import annotations

from importlib import import_module
import os
from pathlib import Path
import signal
import sys
from typing import Any, NoReturn

from vts_ros.nodes.program_help import check_arguments

#: What has to be installed for what a car does without.
_EXTRAS = {'replay_node': 'tools'}


def vts_node() -> NoReturn:
    """Run the node that describes."""
    check_arguments('vts_node', sys.argv[1:])
    _run('vts_node')


def vts_overlay() -> NoReturn:
    """Run the node that draws."""
    check_arguments('vts_overlay', sys.argv[1:])
    _run('overlay_node')


def vts_replay() -> NoReturn:
    """Run the player of recordings."""
    _run('replay_node')


def _run(module: str) -> NoReturn:
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        main = import_module(f'vts_ros.nodes.{module}').main
    except ModuleNotFoundError as error:
        missing = (error.name or '').partition('.')[0]
        if module not in _EXTRAS or missing in ('vts_ros', 'rclpy'):
            raise
        sys.exit(f"{Path(sys.argv[0]).name}: {missing} is missing: "
                 f"pip install 'vts_ros[{_EXTRAS[module]}]'")
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.exit(main())


def _leave(number: int, frame: Any) -> NoReturn:
    os._exit(0)
