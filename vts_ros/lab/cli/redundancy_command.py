# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval redundancy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TYPE_CHECKING

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption, token_shares
from vts_ros.tools.cli.terminal import finish, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()

#: Windows of which maps are drawn.
_SHOWN = 3


@app.command('redundancy', epilog='Example: [bold]vts eval redundancy --n 72 --bag drive1 --bag '
                                  'drive2 --report docs[/bold]. About 15 seconds a window on one '
                                  'core; what was measured is kept, the same command goes on.')
def eval_redundancy(
    n: Annotated[int, typer.Option(
        '--n', min=2, help='Rendered windows to judge by; as many fit the measure.')] = 72,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording to judge by, too; may be given several times.',
        show_default=False)] = None,
    per_bag: Annotated[int, typer.Option(min=1, help='Windows of each recording.')] = 4,
    answered: Annotated[int, typer.Option(
        min=0, help='Rendered windows on which methods are compared by their answers; 0 for '
                    'none.')] = 0,
    cameras: Annotated[int, typer.Option(
        min=0, help='Rendered scenes to look at with one, two and three cameras; 0 for none.'
    )] = 0,
    adapter: Annotated[str, typer.Option(
        help='What --cameras takes with the model: an adapter that has learned several cameras.'
    )] = 'cameras_adapter',
    budgets: Annotated[str, typer.Option(
        help='Shares of the tokens for --answered, with commas.')] = '0.6,0.4,0.2,0.1,0.05',
    workers: Annotated[int, typer.Option(
        min=1, help='Processes for --answered, each with a model of its own.')] = 1,
    out: Annotated[Path, typer.Option(help='Folder for what was measured.')] = Path(
        'out/redundancy'),
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write the page, with plots.', show_default=False)] = None,
    model: ModelOption = 'embedded',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Measure what each visual token is worth, and which score finds that beforehand.

    A token is worth what the answer changes when it alone is hidden.
    """
    import itertools
    import time

    from vts_ros.lab.evaluation.camera_worth import camera_worth
    from vts_ros.lab.evaluation.method_comparison import compare
    from vts_ros.lab.evaluation.redundancy import analyse
    from vts_ros.lab.evaluation.worth_windows import recorded, rendered, WorthWindow
    from vts_ros.lab.recordings import check_recordings
    from vts_ros.lab.rivals.registry import MEASURE, TEMPORAL_NAMES
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    bags, start_sec = bag or [], time.monotonic()
    check_recordings(bags)
    shares = token_shares(budgets)
    total = 2 * n + per_bag * len(bags)
    shown: list[WorthWindow] = []
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        parts = 1 + (cameras > 0) + (answered > 0)
        done = 0

        def tell(share: float, what: str) -> None:
            progress((done + share) / parts, what)

        def windows() -> Any:
            for window in itertools.chain(
                    rendered(pipeline, 'val', n, out), rendered(pipeline, 'test', n, out),
                    *(recorded(pipeline, recording, per_bag, out) for recording in bags)):
                # The last rendered one, and the first of some recordings.
                if window.source == 'test':
                    shown[:] = [window]
                elif window.source not in ('val', *(other.source for other in shown)) \
                        and len(shown) < _SHOWN:
                    shown.append(window)
                yield window

        analysis = analyse(pipeline.sparsifier, windows(), progress=lambda count: tell(
            count / total, f'{count} of {total} windows'))
        result = {'model': pipeline.vlm.name, **analysis.result}
        if cameras:
            done += 1
            several = Pipeline.load(PipelineConfig(model=model, adapter=adapter, device=device))
            result['cameras'] = {'adapter': Path(adapter).name,
                                 **camera_worth(several, cameras, out, tell)}
        if answered:
            done += 1
            result['answers'] = compare(
                pipeline, ['random', 'vts', 'vts-share-none', 'vts-score-importance',
                           *TEMPORAL_NAMES, MEASURE], 'test', answered, shares, True, workers,
                tell, ('sight', 'turning'), {MEASURE: analysis.measure})
    console.print(_table(result))
    written = []
    if report is not None:
        from vts_ros.lab.evaluation.redundancy_page import write_redundancy

        written = write_redundancy(
            result, shown, this_run(pipeline.vlm.info['device'], start_sec), report)
    finish(console, written, result, as_json)


def _table(result: dict[str, Any]) -> Table:
    from rich.table import Table

    parts = list(result['auc'])
    table = Table('score', *parts, title='AUC for the most important tenth of the tokens',
                  caption=', '.join(f'{name}: {count}' for name, count in result['n'].items()))
    first = result['auc'][parts[0]]
    for name in sorted(first, key=lambda name: -float(first[name][0])):
        table.add_row(name, *(
            '{:.3f} [{:.3f}, {:.3f}]'.format(*result['auc'][part][name])
            if name in result['auc'][part] else '-' for part in parts))
    return table
