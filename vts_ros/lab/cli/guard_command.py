# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval guard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import JsonOption, ModelOption
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()


@app.command('guard', epilog='Example: [bold]vts eval guard --bag my_drive --pictures '
                             'my_photographs --report docs[/bold]')
def eval_guard(
    model: ModelOption = 'embedded',
    n: Annotated[int, typer.Option(
        '--n', min=1, help='Rendered windows of the split test, none of which is to be '
                           'refused.')] = 2000,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording, no window of which is to be accepted; may be given several times.',
        show_default=False)] = None,
    pictures: Annotated[list[Path] | None, typer.Option(
        help='Folder of pictures, or of such folders, each a source of its own; may be given '
             'several times.', show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the result.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure of which pictures a model speaks: rendered ones, recordings, photographs."""
    import time

    from vts_ros.lab.evaluation.guard_evaluation import measure, write_page
    from vts_ros.paths import model_path
    from vts_ros.pipeline.guard import load_guard

    start_sec = time.monotonic()
    guard = load_guard(model_path(model))
    if guard is None:
        raise typer.BadParameter(f'{model} has no guard: it answers about any picture')
    with progress_bar(as_json) as (console, progress):
        found = measure(guard, n, bag or (), pictures or (), progress)
    for name, part in (('rendered windows', found['rendered']), *found['drives'].items()):
        console.print(f'refused: {part["refused"]} of {part["n"]} {name}, the nearest at '
                      f'{part["nearest"]}', highlight=False, markup=False)
    for name, part in found['real'].items():
        console.print(f'accepted: {part["n"] - part["refused"]} of {part["n"]} {name}, the '
                      f'nearest at {part["nearest"]}', highlight=False, markup=False)
    written = [] if report is None else [
        write_page(found, this_run('cpu', start_sec), report)]
    finish(console, written, found, as_json)
