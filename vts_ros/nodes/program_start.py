# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the nodes begin: arguments that cannot be used are one line, and end the program."""

from __future__ import annotations

from collections.abc import Sequence
import sys

import rclpy

from vts_ros.nodes.program_help import help_if_asked, own_arguments


def start_ros(program: str, arguments: Sequence[str] | None = None) -> None:
    """
    Take part in ROS.

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
    help_if_asked(program, given)
    if unknown := own_arguments(given):
        # It would have no effect, and nobody would notice.
        sys.exit(f'{program}: {unknown[0]!r} is not understood; parameters are given as '
                 f'--ros-args -p NAME:=VALUE, see {program} --help')
    try:
        rclpy.init(args=[program, *given])
    except Exception as error:
        # A domain id, a log folder or a parameter file that ROS refuses.
        sys.exit(f'{program}: {" ".join(str(error).split())}')
