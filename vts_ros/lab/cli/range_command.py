# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval range``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import JsonOption, token_shares
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()
#: Page and section that the command writes.
PAGE, SECTION = 'senses.md', 'range'


@app.command('range', epilog='Example: [bold]vts eval range --n 400 --report docs[/bold].')
def eval_range(
    n: Annotated[int, typer.Option('--n', min=2, help='Windows.')] = 400,
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on; what is set by hand was chosen on val.')] = 'test',
    budgets: Annotated[str, typer.Option(help='Shares of the tokens, with commas.')] = '0.1,0.05',
    report: Annotated[Path | None, typer.Option(
        help=f'Folder with {PAGE}, in which to write the section.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what range as a channel of the importance keeps of the risk object."""
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation import range_evidence
    from vts_ros.lab.evaluation.generated_page import write_section
    from vts_ros.lab.scenes.clips import SPLITS
    from vts_ros.sparsify import Sparsifier

    console, start_sec = Console(stderr=as_json), time.monotonic()
    sparsifier, shares = Sparsifier(), token_shares(budgets)
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=n)
        result = range_evidence.compare(
            range_evidence.range_windows(split, n, sparsifier), sparsifier, shares,
            lambda: bar.advance(task))
    result.update(split=split, seed=SPLITS[split][0])
    lines = list(range_evidence.section(result, this_run('cpu', start_sec)))
    console.print('\n'.join(lines), highlight=False, markup=False, soft_wrap=True)
    finish(console, [] if report is None else [write_section(report / PAGE, SECTION, lines)],
           result, as_json)
