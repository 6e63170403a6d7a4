# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.tools.cli.options import BAG_HELP

app = typer.Typer()


@app.command(epilog='Example: [bold]vts replay drive --clock --rate 0.5[/bold], beside '
                    '[bold]ros2 launch vts_ros vts.launch.py cameras:=camera/front '
                    'use_sim_time:=true[/bold].')
def replay(
    bag: Annotated[Path, typer.Argument(help=BAG_HELP, show_default=False)],
    rate: Annotated[float, typer.Option(min=0.01, help='Speed; 1 is that of the drive.')] = 1.0,
    loop: Annotated[bool, typer.Option('--loop', help='Start again at the end.')] = False,
    clock: Annotated[bool, typer.Option(
        '--clock', help='Publish the time of the drive, for nodes with use_sim_time.')] = False,
    topic_prefix: Annotated[str, typer.Option(help='Put before every topic.')] = '',
    wait_sec: Annotated[float, typer.Option(
        min=0.0, help='How long to wait for a node that listens; the overlay only looks on.'
        )] = 10.0,
) -> None:
    """
    Publish the pictures of a recorded drive on ROS topics, at its pace.

    Their calibration goes with them, and the truth of a rendered drive; no other topic does.
    """
    from vts_ros.nodes.replay_node import replay_bag

    replay_bag(bag, rate=rate, loop=loop, clock=clock, topic_prefix=topic_prefix,
               wait_sec=wait_sec)
