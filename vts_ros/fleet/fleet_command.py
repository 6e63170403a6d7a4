# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands ``fleet annotate | find | report | bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.pipeline.config import DRIVING
from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModeOption, token_share

if TYPE_CHECKING:
    from rich.table import Table

    from vts_ros.fleet.fleet_run import Totals

app = typer.Typer(no_args_is_help=True)

CarPanel = 'What the car says of itself'
ClusterPanel = 'Where it runs'
DirArgument = Annotated[Path, typer.Argument(
    help='Folder that vts fleet annotate has written.', show_default=False)]


@app.callback()
def fleet() -> None:
    """Describe thousands of recordings, and find the moments that matter."""


@app.command(epilog='Example: [bold]vts fleet annotate drives --out fleet[/bold], then vts fleet '
                    'find fleet "high risk".')
def annotate(
    sources: Annotated[list[str], typer.Argument(
        help='Recordings; folders of them; patterns in quotes; lists (.txt); s3:// and gs://.',
        show_default=False)],
    out: Annotated[Path, typer.Option(help='Folder for the results.')] = Path('fleet'),
    model: Annotated[str, typer.Option('--model', '--vlm', help=(
        'Language model: shipped name, checkpoint directory, or hub id in the local cache; with '
        '--backend openai its name on the server.'))] = 'embedded',
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE',
        help='Share of the visual tokens that the language model sees, up to 1.')] = 0.6,
    topic: Annotated[list[str] | None, typer.Option(
        help='Camera topic; may be given several times. Default: every camera.',
        show_default=False)] = None,
    every: Annotated[int, typer.Option(min=1, help='Ask at every N-th full window.')] = 1,
    frames: Annotated[int, typer.Option(min=1, help='Frames of a window, per camera.')] = 5,
    interval_sec: Annotated[float, typer.Option(
        min=0.0, help='Time between the frames of a window.')] = 0.4,
    language: Annotated[str, typer.Option(help='Language of the answers.')] = 'en',
    prompts: Annotated[str, typer.Option(
        help='Prompt file of your own, like that of the task.', show_default=False)] = '',
    task: Annotated[str, typer.Option(
        help='What the cameras are watched for: shipped task, or folder of your own.')] = DRIVING,
    max_new_tokens: Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')] = 160,
    mode: ModeOption = 'window',
    device: DeviceOption = 'auto',
    dtype: Annotated[str, typer.Option(
        help='Floats of the model: auto, float32, bfloat16 or float16.')] = 'auto',
    backend: Annotated[Literal['transformers', 'openai'], typer.Option(
        help='Where the language model runs: in each worker, or behind a server with the OpenAI '
             'protocol, which then gets the windows of all workers at once.')] = 'transformers',
    url: Annotated[str, typer.Option(
        help='The server; its key is read from OPENAI_API_KEY.')] = 'http://localhost:8000/v1',
    timeout_sec: Annotated[float, typer.Option(
        min=0.1, help='Longest time for an answer of the server.')] = 10.0,
    adapter: Annotated[str, typer.Option(
        help='Adapter of the language model: shipped name, or directory.',
        show_default=False)] = '',
    signal: Annotated[list[str] | None, typer.Option(
        rich_help_panel=CarPanel, show_default=False,
        help='A line of signals.topics; may be given several times.')] = None,
    tell_vehicle: Annotated[bool, typer.Option(
        '--tell-vehicle', rich_help_panel=CarPanel, help='Tell the model what the car does.'
    )] = False,
    evidence: Annotated[bool, typer.Option(
        '--evidence', rich_help_panel=CarPanel,
        help='Hard braking and sharp turns move visual tokens.')] = False,
    engine: Annotated[str, typer.Option(
        help='Runtime of the proposal network; auto takes the best there is.')] = 'auto',
    stretch_sec: Annotated[float, typer.Option(
        min=1.0, help='Longer recordings are cut into pieces of about so long, for several '
                      'workers; answers stay the same.')] = 600.0,
    address: Annotated[str, typer.Option(
        rich_help_panel=ClusterPanel, show_default=False,
        help='A running Ray cluster, such as auto or head:6379; none starts one here.')] = '',
    workers: Annotated[int, typer.Option(
        min=0, rich_help_panel=ClusterPanel,
        help='How many; 0 takes one per GPU, or per processor.')] = 0,
    cpus: Annotated[float, typer.Option(
        min=0.01, rich_help_panel=ClusterPanel, help='Processors of a worker.')] = 1.0,
    gpus: Annotated[float | None, typer.Option(
        min=0.0, rich_help_panel=ClusterPanel, show_default=False,
        help='GPUs of a worker; 0.5 lets two share one.')] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Describe recordings: answers as Parquet, one file per recording.

    The same command goes on where the last run has ended, however it has ended.
    """
    import json

    from rich.console import Console

    from vts_ros.fleet.answer_tables import FleetSettings
    from vts_ros.fleet.fleet_run import annotate_fleet, ClusterOptions
    from vts_ros.fleet.sources import find_recordings, FleetError
    from vts_ros.fleet.stretches import WindowSettings
    from vts_ros.pipeline.config import PipelineConfig
    from vts_ros.tools.bag_signals import SignalUse

    if signal and not (tell_vehicle or evidence):
        raise typer.BadParameter('does nothing without --tell-vehicle or --evidence',
                                 param_hint='--signal')
    config = PipelineConfig(
        model=model, adapter=adapter, keep_ratio=keep_ratio, language=language, prompts=prompts,
        task=task,
        max_new_tokens=max_new_tokens, mode=mode, device=device, dtype=dtype,
        vlm_backend=backend, url=url, timeout_sec=timeout_sec, engine_backend=engine)
    settings = FleetSettings(
        config, WindowSettings(frames, interval_sec, every, tuple(topic or ())), stretch_sec,
        SignalUse(tuple(signal or ()), tell_vehicle, evidence))
    console = Console(stderr=as_json)
    recordings = find_recordings(sources)
    gib = sum(recording.size_bytes for recording in recordings) / 2**30
    console.print(f'{len(recordings)} recordings, {gib:.1f} GiB', highlight=False)
    try:
        with console.status('starting workers') as status:
            totals = annotate_fleet(
                recordings, out, settings, ClusterOptions(address, workers, cpus, gpus),
                lambda totals: status.update(_state(totals)))
    except KeyboardInterrupt:
        raise FleetError(f'stopped; what is done is in {out}, the same command goes '
                         'on') from None
    for line in _end(totals, out):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({
            'recordings': totals.recordings, 'done': totals.done, 'before': totals.before,
            'failed': len(totals.failures), 'answers': totals.answers,
            'workers': totals.workers, 'answers_per_sec': round(totals.per_sec, 3)}))
    if len(totals.failures) == totals.recordings:
        raise FleetError(f'no recording could be described; the first: '
                         f'{next(iter(totals.failures.values()))}')


def _state(totals: Totals) -> str:
    eta = totals.eta_sec
    return (f'{totals.before + totals.done} of {totals.recordings} recordings, '
            f'{len(totals.failures)} failed; {totals.answers} answers, {totals.per_sec:.2f}/s '
            f'with {totals.workers} workers' + (f'; {eta / 60:.0f} min left' if eta else ''))


def _end(totals: Totals, out: Path) -> list[str]:
    from vts_ros.fleet.answer_tables import FAILURES, refused_text

    before = f' ({totals.before} before)' if totals.before else ''
    lines = [f'{totals.before + totals.done} of {totals.recordings} recordings are '
             f'described{before}; {totals.answers} answers, {totals.per_sec:.2f} per second']
    if totals.refused:
        lines.append(refused_text(totals.refused))
    shown = sorted(totals.failures.items())[:5]
    lines += [f'failed: {uri}: {reason}' for uri, reason in shown]
    if totals.failures:
        lines.append(f'{len(totals.failures)} failed; all reasons are in {out / FAILURES}')
    return [*lines, f'answers {out / "answers"}']


@app.command(epilog='Example: [bold]vts fleet find fleet "pedestrian, high risk, night" --page '
                    'found.html[/bold]. Parts with commas must all hold: words; high risk; risk '
                    '>= medium; object = car; camera = camera_front; latency_ms > 800; speed_mps '
                    '> 20; tokens_kept < 50; after 2026-11-27; before 2026-11-28 08:00; near '
                    '48.137 11.575 200 m.')
def find(
    folder: DirArgument,
    question: Annotated[str, typer.Argument(help='What to find, see below.')] = '',
    sql: Annotated[str, typer.Option(
        '--sql', show_default=False,
        help='A query of your own, on the tables answers, timings and failures.')] = '',
    clips: Annotated[Path | None, typer.Option(
        help='Folder for the moments, cut out of their recordings as MCAP bags.',
        show_default=False)] = None,
    page: Annotated[Path | None, typer.Option(
        help='Page (.html) that plays the moments.', show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help='Most answers to show and cut.')] = 100,
    as_json: JsonOption = False,
) -> None:
    """Find answers, as a table, as clips and as a page."""
    import json

    from rich.console import Console

    from vts_ros.fleet.answer_tables import refused_text
    from vts_ros.fleet.search import Fleet, rows
    from vts_ros.fleet.sources import FleetError

    if sql and question:
        raise FleetError('either words and conditions or --sql')
    fleet = Fleet(folder)
    found = rows(fleet.query(sql)) if sql else fleet.find(question, limit)
    count = len(found) if sql else fleet.count(question)
    console = Console(stderr=as_json)
    if found:
        console.print(_table(found[:limit]) if sql else _answers(found))
    console.print(f'{count} answers' + (f', {limit} shown' if count > limit else ''),
                  highlight=False)
    refused = refused_text(fleet.refused)
    if refused:
        console.print(refused, highlight=False, soft_wrap=True)
    written = []
    if clips or page:
        written = _show(folder, sql or question or 'all answers', count, refused, found[:limit],
                        clips, page)
    for path in written:
        console.print(f'wrote {path}', highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({'count': count, 'rows': found[:limit],
                               'wrote': list(map(str, written))}, default=str))


def _show(folder: Path, question: str, count: int, note: str, found: list[dict[str, Any]],
          clips: Path | None, page: Path | None) -> list[Path]:
    from vts_ros.fleet.moments import moments, write_clip, write_page
    from vts_ros.fleet.sources import FleetError

    if found and not {'recording', 'stamp'} <= found[0].keys():
        raise FleetError('clips and pages need the columns recording and stamp')
    parts = list(moments(folder, sorted(found, key=lambda row: (row['recording'],
                                                                row['stamp']))))
    written = []
    if clips:
        clips.mkdir(parents=True, exist_ok=True)
        written = [write_clip(moment, clips) for moment in parts]
    if page:
        write_page(question, count, parts, page, note)
        written.append(page)
    return written


def _answers(found: list[dict[str, Any]]) -> Table:
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text

    from vts_ros.pipeline.report import RISK_COLOURS
    from vts_ros.tools.remote_recordings import title_of

    table = Table('time (UTC)', 'risk', 'object', 'why', 'recording')
    for row in found:
        red, green, blue = RISK_COLOURS[row['risk']]
        # Text and not markup: the words come from a model.
        table.add_row(f'{row["time"]:%Y-%m-%d %H:%M:%S}', Text(
            row['risk'], Style(color=f'rgb({red},{green},{blue})', bold=True)),
            Text(row['object'] or '-'), Text(row['explanation'] or '-'),
            Text(title_of(row['recording'])))
    return table


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(*(found[0] if found else ()))
    for row in found:
        table.add_row(*(Text(str(value)) for value in row.values()))
    return table


@app.command(epilog='Example: [bold]vts fleet report fleet[/bold], then open fleet/report.html.')
def report(
    folder: DirArgument,
    against: Annotated[Path | None, typer.Option(
        help='Folder with answers of another model about the same recordings.',
        show_default=False)] = None,
    page: Annotated[Path | None, typer.Option(
        help='Where to write the page. Default: report.html in the folder.',
        show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page about a fleet: risk, rare and new scenes, drift, two models compared."""
    import json

    from vts_ros.fleet.fleet_report import fleet_report, write_report

    found = fleet_report(folder, against)
    path = page or folder / 'report.html'
    write_report(folder, found, path)
    typer.echo(f'wrote {path}')
    if as_json:
        typer.echo(json.dumps(found, default=str))


@app.command(epilog='Example: [bold]vts fleet bench --json[/bold].')
def bench(
    answers: Annotated[int, typer.Option(min=1, help='Made-up answers.')] = 1_000_000,
    recordings: Annotated[int, typer.Option(min=1, help='Recordings that they are from.')] = 111,
    repeats: Annotated[int, typer.Option(min=1, help='Of every question.')] = 5,
    threads: Annotated[int, typer.Option(min=1, help='Of DuckDB.')] = 2,
    seed: Annotated[int, typer.Option(help='Of the answers.')] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast answers are found."""
    import json

    from vts_ros.fleet.fleet_benchmark import measure_search

    found = measure_search(answers, recordings, repeats, seed, threads)
    for question, seconds in found['seconds'].items():
        typer.echo(f'{seconds:.3f} s  {question} ({found["found"][question]} shown)')
    if as_json:
        typer.echo(json.dumps(found))
