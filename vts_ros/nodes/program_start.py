# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the nodes begin: arguments that cannot be used are one line, and end the program."""

from __future__ import annotations

from collections.abc import Sequence
import sys

import rclpy

from vts_ros.nodes.program_help import check_arguments


def start_ros(program: str, arguments: Sequence[str] | None = None) -> None:
    """
    Take part in ROS, as a program that has no arguments of its own.

    Parameters
    ----------
    program
        The name of the executable.
    arguments
        Those of the command line without the program; None takes them from there.

    Raises
    ------
    SystemExit
        If help is asked for, or arguments are not understood or refused by ROS.

    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    check_arguments(program, given)
    init_ros(program, given)


def init_ros(program: str, arguments: Sequence[str]) -> None:
    """Take part in ROS; end the program with one line where ROS refuses that."""
    try:
        rclpy.init(args=[program, *arguments])
    except Exception as error:
        # A domain id, a log folder or a parameter file.
        sys.exit(f'{program}: {" ".join(str(error).split())}')
