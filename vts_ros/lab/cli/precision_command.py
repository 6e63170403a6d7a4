# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval precision``."""

from __future__ import annotations

from typing import Annotated

import typer

from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption, token_share
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()


@app.command('precision', epilog='Example: [bold]vts eval precision --model '
                                 '/models/Qwen2.5-VL-3B-Instruct --device cuda[/bold].')
def eval_precision(
    model: ModelOption = 'embedded',
    precisions: Annotated[str, typer.Option(
        help='Of the weights; int8 is that of vlm.quantization.'
    )] = 'float32,bfloat16,float16,int8',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 20,
    tokens: Annotated[int, typer.Option(min=2, help='Tokens of each answer, at most.')] = 24,
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE', help='Share of the visual tokens.')] = 0.4,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Measure what "exact" means in other floats than float32: largest difference, equal tokens.

    Pruned against masked, drafted against plain and cached against fresh, on the same windows.
    """
    from functools import partial

    from rich.console import Console

    from vts_ros.lab.evaluation.numeric_precision import load_options, measure, rows
    from vts_ros.paths import checkpoint
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.vlm import Vlm

    wanted = [name.strip() for name in precisions.split(',')]
    for name in wanted:
        # Told before anything is loaded.
        load_options(name)
    console = Console(stderr=as_json)
    with console.status(f'loading {model}') as status:
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device,
                                                keep_ratio=keep_ratio))
        result = measure(pipeline, partial(Vlm.load, checkpoint(model), device=device), wanted,
                         n, tokens, progress=status.update)
    for line in rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)
