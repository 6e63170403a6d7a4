# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``replay``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from vts_ros.tools.cli.options import BAG_HELP

app = typer.Typer(add_completion=False)


@app.command(epilog='Example: [bold]vts replay drive --clock --rate 0.5[/bold], beside '
                    '[bold]ros2 launch vts_ros vts.launch.py cameras:=camera/front '
                    'use_sim_time:=true[/bold]. Both at once: [bold]ros2 launch vts_ros '
                    'replay.launch.py bag:=drive[/bold].')
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
    show_inputs: Annotated[bool, typer.Option(
        '--show-inputs', help='Play nothing; print as JSON with which parameters and remappings '
        'vts_node hears the drive.')] = False,
    image_transport: Annotated[
        Literal['auto', 'compressed', 'raw', 'foxglove', 'ffmpeg'], typer.Option(
            help='With --show-inputs: which pictures of the drive the node hears.')] = 'auto',
) -> None:
    """
    Publish the pictures of a recorded drive on ROS topics, at its pace.

    Their calibration goes with them, and the truth of a rendered drive; no other topic does.
    """
    if show_inputs:
        from vts_ros.tools.camera_topics import node_inputs

        typer.echo(json.dumps(node_inputs(bag, image_transport)._asdict()))
        return
    from vts_ros.nodes.replay_node import replay_bag

    replay_bag(bag, rate=rate, loop=loop, clock=clock, topic_prefix=topic_prefix,
               wait_sec=wait_sec)
