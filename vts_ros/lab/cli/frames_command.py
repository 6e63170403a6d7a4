# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval frames``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import DeviceOption, JsonOption, token_shares
from vts_ros.tools.cli.terminal import finish

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


@app.command('frames', epilog='Example: [bold]vts eval frames --model '
                              '/models/Qwen2.5-VL-3B-Instruct --n 100[/bold].')
def eval_frames(
    model: Annotated[str, typer.Option(
        help='Checkpoint of Qwen2-VL, Qwen2.5-VL or Qwen3-VL: directory, or hub id in the local '
             'cache.', show_default=False)],
    shares: Annotated[str, typer.Option(
        help='Shares of the tokens of the pictures; a video is left as many.')] = '0.4,0.24',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 100,
    max_new_tokens: Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')] = 160,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Compare frames as pictures and as a video, with all tokens and with equally many."""
    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.frames_comparison import compare_frames_as
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(
            model=model, device=device, max_new_tokens=max_new_tokens))
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=n)
        result = compare_frames_as(pipeline, token_shares(shares), split, n,
                                   lambda windows: bar.advance(task, windows))
    console.print(frames_table(result))
    finish(console, [], result, as_json)


def frames_table(result: dict[str, Any]) -> Table:
    """Return the rows as a table."""
    from rich.table import Table

    table = Table(title=f'{result["model"]}: {result["n"]} windows of {result["split"]}')
    first, *_ = result['rows'].values()
    for name in ('', *(name.removesuffix('_accuracy') for name in first)):
        table.add_column(name, justify='right' if name else 'left')
    for name, row in result['rows'].items():
        table.add_row(name, *('-' if value is None else f'{value:.3g}' for value in row.values()))
    return table
