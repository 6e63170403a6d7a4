# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval twins``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()
#: Page and section that the command writes.
PAGE, SECTION = 'senses.md', 'twins'


@app.command('twins', epilog='Example: [bold]vts eval twins --adapter signals_adapter --report '
                             'docs[/bold]; minutes on one core.')
def eval_twins(
    adapter: Annotated[str, typer.Option(
        help='Adapter with learned tokens for signals: its directory.')],
    model: Annotated[str, typer.Option('--model', '--vlm', help='Its model.')] = 'embedded',
    n: Annotated[int, typer.Option('--n', min=1, help='Twins of each kind.')] = 40,
    ordinary: Annotated[int, typer.Option(
        min=0, help='Ordinary windows, without signals and with them.')] = 200,
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    kind: Annotated[Literal['all', 'speed', 'braking', 'turn signal'], typer.Option(
        help='Which twins.')] = 'all',
    device: DeviceOption = 'cpu',
    report: Annotated[Path | None, typer.Option(
        help=f'Folder with {PAGE}, in which to write the section.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask about twins with the same pictures that differ by speed, brake or turn signal."""
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.generated_page import write_section
    from vts_ros.lab.evaluation.twin_evaluation import evaluate_twins, section
    from vts_ros.lab.scenes.signal_twins import KINDS
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    if report is not None and (kind != 'all' or not ordinary):
        raise typer.BadParameter('the section has all kinds and ordinary windows: leave out '
                                 '--kind and --ordinary 0', param_hint='--report')
    console, start_sec = Console(stderr=as_json), time.monotonic()

    def load(is_adapted: bool) -> Pipeline:
        return Pipeline.load(PipelineConfig(
            model=model, adapter=adapter if is_adapted else '', device=device, draft=False))

    with Progress(console=console) as bar:
        task = bar.add_task('twins', total=None)
        result = evaluate_twins(
            load, split, n, ordinary, lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total),
            KINDS if kind == 'all' else (kind,))
    result.update(model=model, adapter=Path(adapter).name)
    lines = list(section(result, this_run(device, start_sec)))
    console.print('\n'.join(lines), highlight=False, markup=False, soft_wrap=True)
    finish(console, [] if report is None else [write_section(report / PAGE, SECTION, lines)],
           result, as_json)
