# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``layout``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog='Example: [bold]vts layout --namespace car1 --picture '
                    '/car1/camera/front/image_raw/compressed > car1.json[/bold].')
def layout(
    namespace: Annotated[str, typer.Option(
        help='Namespace of the node.', show_default=False)] = '',
    picture: Annotated[list[str] | None, typer.Option(
        metavar='TOPIC', help='Picture topic to show; once for each camera. Without, the viewer '
                              'takes the first that there is.', show_default=False)] = None,
) -> None:
    """Print a layout for Foxglove and Lichtblick; they import it from a file."""
    from vts_ros.tools.foxglove_layout import foxglove_layout

    typer.echo(foxglove_layout(namespace, picture or ()), nl=False)
