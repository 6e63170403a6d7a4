# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval server``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vts_ros.tools.cli.options import FramesAsOption, JsonOption, ModelOption, token_share
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()


@app.command('server', epilog='Example: [bold]vts eval server --url http://localhost:8000/v1 '
                              '--pruning exact --n 50[/bold].')
def eval_server(
    url: Annotated[str, typer.Option(help='Server of the model.')] = 'http://localhost:8000/v1',
    model: ModelOption = 'embedded',
    pruning: Annotated[Literal['scaled', 'exact'], typer.Option(
        help='What the server is sent, as vlm.server_pruning.')] = 'scaled',
    mode: Annotated[Literal['window', 'causal'], typer.Option(
        help='As sparsify.mode. In window mode every window is of another scene, in causal mode '
             'all are of one drive.')] = 'window',
    frames_as: FramesAsOption = 'images',
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE', help='Share of the tokens that is kept.')] = 0.6,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording to take the windows from; may be given several times.',
        show_default=False)] = None,
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 50,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    timeout_sec: Annotated[float, typer.Option(help='Time limit for an answer.')] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """
    Compare the words of a model behind a server with those of the same model in this process.

    The server must serve the same checkpoint in float32.
    """
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation import server_agreement as compared
    from vts_ros.lab.recordings import check_recordings
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    if bag:
        check_recordings(bag)
    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        config = PipelineConfig(model=model, keep_ratio=keep_ratio, mode=mode,
                                frames_as=frames_as, draft=False, dtype='float32')
        process = Pipeline.load(config)
        served = Pipeline.load(replace(
            config, model='embedded', vlm_backend='openai', url=url, server_pruning=pruning,
            timeout_sec=timeout_sec))
    windows = compared.recorded_windows(bag, n) if bag else (
        compared.drive_windows(n, seed) if mode == 'causal'
        else compared.rendered_windows('test', n))
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows', total=n)
        result = compared.agreement(process, served, windows,
                                    lambda answered: bar.advance(task, answered))
    for line in compared.rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)
