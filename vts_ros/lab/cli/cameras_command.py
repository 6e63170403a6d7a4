# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval cameras``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()
#: Page and section that the command writes.
PAGE, SECTION = 'embedded_model.md', 'cameras'


@app.command('cameras', epilog='Example: [bold]vts eval cameras --adapter cameras_adapter '
                               '--report docs[/bold]; half an hour on one core.')
def eval_cameras(
    adapter: Annotated[str, typer.Option(
        help='Adapter that has learned several cameras: its name or directory.'
    )] = 'cameras_adapter',
    model: Annotated[str, typer.Option('--model', '--vlm', help='Its model.')] = 'embedded',
    n: Annotated[int, typer.Option(
        '--n', min=2, help='Windows of three cameras; half as many of two.')] = 400,
    ordinary: Annotated[int, typer.Option(min=0, help='Windows of one camera.')] = 400,
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    device: DeviceOption = 'cpu',
    report: Annotated[Path | None, typer.Option(
        help=f'Folder with {PAGE}, in which to write the section.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask about rendered windows of two and three cameras, with an adapter and without."""
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.camera_evaluation import evaluate_cameras, section
    from vts_ros.lab.evaluation.generated_page import write_section
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    console, start_sec = Console(stderr=as_json), time.monotonic()
    shipped, adapted = (Pipeline.load(PipelineConfig(
        model=model, adapter=name, device=device, draft=False)) for name in ('', adapter))
    with Progress(console=console) as bar:
        task = bar.add_task('windows', total=None)
        result = evaluate_cameras(
            shipped, adapted, split, n, ordinary,
            lambda what, done, total: bar.update(task, description=what, completed=done,
                                                 total=total))
    result.update(model=model, adapter=Path(adapter).name)
    lines = list(section(result, this_run(device, start_sec)))
    console.print('\n'.join(lines), highlight=False, markup=False, soft_wrap=True)
    finish(console, [] if report is None else [write_section(report / PAGE, SECTION, lines)],
           result, as_json)
