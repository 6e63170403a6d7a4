# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands ``fleet annotate | find | report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModeOption, token_share

if TYPE_CHECKING:
    from vts_ros.fleet.fleet_run import Totals

app = typer.Typer(no_args_is_help=True)

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
        help='Prompt file of your own, like config/prompts.yaml.', show_default=False)] = '',
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
    engine: Annotated[str, typer.Option(
        help='Runtime of the proposal network; auto takes the best there is.')] = 'auto',
    stretch_sec: Annotated[float, typer.Option(
        min=1.0, help='Longer recordings are cut into pieces of about so long, for several '
                      'workers; answers stay the same.')] = 600.0,
    address: Annotated[str, typer.Option(
        rich_help_panel=ClusterPanel, show_default=False,
        help='A running Ray cluster, such as auto or ray://head:10001; none starts one '
             'here.')] = '',
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
    from vts_ros.fleet.recordings import find_recordings, FleetError
    from vts_ros.fleet.stretches import WindowSettings
    from vts_ros.pipeline.config import PipelineConfig

    config = PipelineConfig(
        model=model, keep_ratio=keep_ratio, language=language, prompts=prompts,
        max_new_tokens=max_new_tokens, mode=mode, device=device, dtype=dtype,
        vlm_backend=backend, url=url, timeout_sec=timeout_sec, engine_backend=engine)
    settings = FleetSettings(
        config, WindowSettings(frames, interval_sec, every, tuple(topic or ())), stretch_sec)
    console = Console(stderr=as_json)
    recordings = find_recordings(sources)
    gib = sum(one.size_bytes for one in recordings) / 2**30
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
    from vts_ros.fleet.answer_tables import FAILURES

    before = f' ({totals.before} before)' if totals.before else ''
    lines = [f'{totals.before + totals.done} of {totals.recordings} recordings are '
             f'described{before}; {totals.answers} answers, {totals.per_sec:.2f} per second']
    shown = sorted(totals.failures.items())[:5]
    lines += [f'failed: {uri}: {reason}' for uri, reason in shown]
    if totals.failures:
        lines.append(f'{len(totals.failures)} failed; all reasons are in {out / FAILURES}')
    return [*lines, f'answers {out / "answers"}']


