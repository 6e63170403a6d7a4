# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval vectors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import JsonOption, ModelOption, token_shares
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()
#: Page and section that the command writes.
PAGE, SECTION = 'method.md', 'vectors'


@app.command('vectors', epilog='Example: [bold]vts eval vectors --n 400 --report docs[/bold]. '
                               'About a second a window on one core.')
def eval_vectors(
    n: Annotated[int, typer.Option(
        '--n', min=2, help='Rendered windows with a risk object.')] = 400,
    budgets: Annotated[str, typer.Option(
        help='Shares of the tokens, with commas.')] = '0.6,0.4,0.2,0.1,0.05',
    report: Annotated[Path | None, typer.Option(
        help=f'Folder with {PAGE}, in which to write the section.', show_default=False)] = None,
    model: ModelOption = 'embedded',
    as_json: JsonOption = False,
) -> None:
    """Measure what the motion vectors of a camera's video keep of the risk object."""
    import time

    from vts_ros.lab.evaluation import vector_evaluation
    from vts_ros.lab.evaluation.generated_page import write_section
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    pipeline = Pipeline.load(PipelineConfig(model=model))
    with progress_bar(as_json) as (console, progress):
        result = vector_evaluation.compare(
            pipeline, n, token_shares(budgets), lambda done, what: progress(done / n, what))
    lines = list(vector_evaluation.section(result, this_run('cpu', start_sec)))
    console.print('\n'.join(lines), highlight=False, markup=False, soft_wrap=True)
    finish(console, [] if report is None else [write_section(report / PAGE, SECTION, lines)],
           result, as_json)
