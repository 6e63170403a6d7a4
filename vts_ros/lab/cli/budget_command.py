# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval budget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption, token_shares
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()

#: Budgets that a rule chooses from.
_CHOICES = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)


@app.command('budget', epilog='Example: [bold]vts eval budget --n 416 --report docs[/bold]. About '
                              'a second a window on one core; what was answered is kept, the '
                              'same command goes on.')
def eval_budget(
    n: Annotated[int, typer.Option(
        '--n', min=8, help='Rendered windows to judge by; as many fit the rule.')] = 416,
    fit: Annotated[int | None, typer.Option(
        '--fit', min=8, help='Rendered windows that the rule is fitted to, if not as many.',
        show_default=False)] = None,
    budgets: Annotated[str, typer.Option(
        help='Mean budgets at which to compare, with commas.')] = '0.4,0.2,0.1',
    out: Annotated[Path, typer.Option(help='Folder for what was answered.')] = Path(
        'out/budget'),
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write the page.', show_default=False)] = None,
    model: ModelOption = 'embedded',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Compare a keep ratio for every window with one for all, at the same mean budget.

    What a window needs is predicted from its pictures and the answer before.
    """
    import time

    from vts_ros.lab.evaluation.budget_evaluation import judge
    from vts_ros.lab.evaluation.budget_page import verdict, write_budget
    from vts_ros.lab.evaluation.budget_windows import answered_windows
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    wanted = token_shares(budgets)
    counts = {'val': n if fit is None else fit, 'test': n}
    total = sum(counts.values())
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        val, test = (answered_windows(
            pipeline, split, count, _CHOICES, out,
            lambda done, before=before: progress(  # type: ignore[misc]
                (before + done) / total, f'{before + done} of {total} windows'))
            for split, count, before in (('val', counts['val'], 0),
                                         ('test', counts['test'], counts['val'])))
        result = {'model': pipeline.vlm.name, **judge(val, test, _CHOICES, wanted)}
    console.print(verdict(result), highlight=False)
    written = [] if report is None else write_budget(
        result, this_run(pipeline.vlm.info['device'], start_sec), report)
    finish(console, written, result, as_json)
