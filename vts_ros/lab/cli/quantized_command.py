# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval quantized``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()


@app.command('quantized', epilog='Example: [bold]vts eval quantized --n 500[/bold].')
def eval_quantized(
    model: ModelOption = 'embedded',
    quantization: Annotated[str, typer.Option(
        help='As for vlm.quantization: int8, or JSON of a quantization_config.')] = 'int8',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Measure what quantised weights cost in quality and give in speed, on rendered windows."""
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.quantization_price import price, rows
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        config = PipelineConfig(model=model, device=device)
        quantized = Pipeline.load(replace(config, quantization=quantization))
        plain = Pipeline.load(config)
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=n)
        result = price(plain, quantized, split, n, lambda windows: bar.advance(task, windows))
    for line in rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)
