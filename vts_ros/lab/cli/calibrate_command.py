# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption, token_share
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()


@app.command('calibrate', epilog='Example: [bold]vts eval calibrate --model '
                                 'models/embedded --report docs[/bold], after every training.')
def eval_calibrate(
    model: ModelOption = 'embedded',
    n: Annotated[int, typer.Option(
        '--n', min=1, help='Windows of the split val to fit the confidence to.')] = 1000,
    test_n: Annotated[int, typer.Option(
        min=1, help='Windows of the split test to check the result on.')] = 1000,
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE', help='Share of the visual tokens.')] = 0.6,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the result, with a plot.',
        show_default=False)] = None,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Fit how sure the answers of a model are; the node reports it from then on.

    The result lies beside the weights, in calibration.json.
    """
    import time

    from vts_ros.lab.evaluation.calibration import calibrate, check, write_page
    from vts_ros.paths import model_path
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    checkpoint = model_path(model)
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(
            model=str(checkpoint), device=device, keep_ratio=keep_ratio))
        pipeline.calibration = calibrate(
            pipeline, n, lambda share, what: progress(share / 2.0, what))
        written = pipeline.calibration.save(checkpoint, model_path('proposal/frame.onnx'))
        found = check(pipeline, test_n, lambda share, what: progress(0.5 + share / 2.0, what))
    files = [written]
    if report is not None:
        files += write_page(found, this_run(pipeline.vlm.info['device'], start_sec), report)
    console.print(f'expected calibration error {found["without"]["ece"]} before, '
                  f'{found["calibrated"]["ece"]} after', highlight=False)
    finish(console, files, found, as_json)
