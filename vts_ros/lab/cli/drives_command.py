# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval drives``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import JsonOption, ModelOption, token_share

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()

_WAYS = {'always': 'always', 'gate': 'change or risk', 'periodic': 'every {every} windows'}


@app.command('drives', epilog='Example: [bold]vts eval drives --split val --n 20 --tune[/bold], '
                              'after every training of the proposal network; then '
                              '[bold]vts eval drives[/bold].')
def eval_drives(
    model: ModelOption = 'embedded',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on; a gate is tuned on val alone.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Drives of about 45 s.')] = 40,
    every_sec: Annotated[float, typer.Option(
        '--every', min=0.4, help='pipeline.speak_every_sec.')] = 5.0,
    recorded: Annotated[Path | None, typer.Option(
        help='Folder of what the model says when it is always asked: what is there is not asked '
             'again. Another model or network needs another folder.', show_default=False)] = None,
    costs: Annotated[int, typer.Option(
        min=0, help='Drives at whose beginning the pipeline really runs in every way, for the '
                    'time of the processor.')] = 6,
    tune: Annotated[bool, typer.Option(
        '--tune', help='Fit the gate and write it beside the proposal network.')] = False,
    share: Annotated[float | None, typer.Option(
        parser=token_share, metavar='SHARE', help='With --tune: share of the windows at which '
        'the model is to be asked; by default the smallest at which no hazard is missed.',
        show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(
        help='Folder with performance.md: what it costs is added.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure on rendered drives with hazards what it saves to speak when the scene changes."""
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation import drives
    from vts_ros.lab.evaluation.drive_records import INTERVAL_SEC, records
    from vts_ros.lab.scenes.clips import SPLITS
    from vts_ros.paths import model_path
    from vts_ros.pipeline.change_gate import ChangeGate
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.sparsify.compiled_steps import FRAME

    if tune and split != 'val':
        raise typer.BadParameter('--tune wants --split val: test is for what is reported')
    if tune and n < drives.FOLDS:
        raise typer.BadParameter(f'--tune wants at least {drives.FOLDS} drives')
    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(model=model))
    result: dict[str, Any] = {}
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} drives of {split}', total=n)
        found = []
        for record in records(pipeline, SPLITS[split][:n], recorded):
            found.append(record)
            bar.advance(task)
        if tune:
            gate, result['tuned'] = drives.tune(
                found, share, every_sec, INTERVAL_SEC)
        else:
            kept = ChangeGate.load(model_path(FRAME))
            if kept is None:
                raise typer.BadParameter('the proposal network has no gate of its own: --tune')
            gate = kept
        result.update(split=split, model=pipeline.vlm.name, **drives.compare(
            found, gate, every_sec, INTERVAL_SEC))
        if costs:
            costing = bar.add_task('', total=1.0)
            result['costs'] = drives.costs(
                pipeline, found[:costs], gate, every_sec, INTERVAL_SEC,
                lambda share, what: bar.update(costing, completed=share, description=what))
            result['projected'] = drives.projected(result)
    for table in _tables(result):
        console.print(table)
    if tune:
        for asked, missed, later in result['tuned']['curve']:
            console.print(f'asked at {asked:.1%} of the windows: {missed} hazards missed, '
                          f'{later:+.2f} s at the 95th percentile', highlight=False)
        console.print(f'wrote {gate.save(model_path(FRAME))}', highlight=False, markup=False)
    if report is not None and costs:
        from vts_ros.lab.bench import speed_report
        from vts_ros.lab.bench.performance_page import add

        add(report, {speed_report.GATE: _costs(result)})
    if as_json:
        typer.echo(json.dumps(result))


def _costs(result: dict[str, Any]) -> dict[str, Any]:
    """Return what the page about speed says of drives."""
    from vts_ros.lab.bench.measured_answers import measured_here

    always = result['costs']['always']
    return {**measured_here('cpu'),
            **{name: result[name] for name in ('model', 'drives', 'minutes', 'hazards',
                                               'projected')},
            'asked': result['ways']['gate']['asked'], 'windows': always['windows'],
            'cpu_sec_per_minute': always['cpu_sec_per_minute'],
            'cpu_ms': {speak: cost['cpu_ms'] for speak, cost in result['costs'].items()}}


def _tables(result: dict[str, Any]) -> list[Table]:
    from rich.table import Table

    rows = Table(title=f'{result["drives"]} drives of {result["split"]}, {result["minutes"]} '
                       f'minutes, {result["hazards"]} hazards', title_justify='left')
    for name in ('', 'asked', 'answers per minute', 'delay p50, p95', 'p95 later (95 %)',
                 'hazards missed (that always finds)', 'changes missed',
                 'false changes per minute', 'level right'):
        rows.add_column(name)
    for name, way in result['ways'].items():
        low, high = way['later_sec_interval']
        rows.add_row(
            _WAYS[name].format(every=result['every']), f'{way["asked"]:.1%}',
            f'{way["asked_per_minute"]:.0f}',
            f'{way["delay_sec"]["p50"]:.2f} s, {way["delay_sec"]["p95"]:.2f} s',
            f'{way["later_sec"]:+.2f} s ({low:+.2f} to {high:+.2f})',
            f'{way["hazards_missed"]} ({way["missed_that_always_finds"]})',
            f'{way["changes_missed"]} of {way["changes"]}',
            f'{way["false_changes_per_minute"]:.1f}', f'{way["level_right"]:.3f}')
    tables = [rows]
    if 'costs' in result:
        spent = Table(title='the pipeline itself', title_justify='left')
        for name in ('', 'CPU s per minute of driving', 'share of always', 'over all drives',
                     'whole answers', 'risk alone', 'confirmed', 'as in the replay'):
            spent.add_column(name)
        for speak, cost in result['costs'].items():
            low, high = cost['share_range']
            spent.add_row(
                speak, f'{cost["cpu_sec_per_minute"]:.1f}',
                f'{cost["share"]:.1%} ({low:.1%} to {high:.1%})',
                f'{result["projected"].get(speak, 1.0):.1%}',
                *(f'{cost["count"][what]}' + (f' of {cost["cpu_ms"][what]:.0f} ms'
                                              if cost['count'][what] else '')
                  for what in ('whole', 'risk', 'confirmed')),
                f'{cost["agree"]} of {cost["windows"]}')
        tables.append(spent)
    return tables
