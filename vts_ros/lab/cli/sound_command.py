# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval sound``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import JsonOption, ModelOption
from vts_ros.tools.cli.terminal import finish, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


@app.command('sound', epilog='Example: [bold]vts eval sound --n 60 --drives 200[/bold].')
def eval_sound(
    n: Annotated[int, typer.Option(
        '--n', min=2, help='Soundtracks of 20 s for each part.')] = 60,
    drives: Annotated[int, typer.Option(
        min=2, help='Drives of 30 s with a hidden emergency vehicle, and as many without.')] = 200,
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    network: Annotated[Path | None, typer.Option(
        help='ONNX file of another network.', show_default=False)] = None,
    recording: Annotated[list[Path] | None, typer.Option(
        help='File with real sound in which there is no warning, for false alarms; may be given '
             'several times.', show_default=False)] = None,
    windows: Annotated[int, typer.Option(
        min=0, help='Rendered windows about which a model is asked while a siren is heard that '
                    'they do not show; 0 for none.')] = 0,
    tune: Annotated[bool, typer.Option(
        '--tune', help='Only try thresholds of a siren, on drives of val with kinds that are '
                       'neither learned nor in test, and with --real on real sound of val.')
    ] = False,
    model: ModelOption = 'embedded',
    real: Annotated[Path | None, typer.Option(
        help='Only judge by real sound, or choose by it: a folder with unpacked Debian packages, '
             'each in a folder of its name (apt-get download, dpkg -x).',
        show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Judge what is heard in synthesised sound, also of kinds that were not learned.

    That says nothing about real sirens: no recording of any is in the project. With --real it is
    judged by those there are in Debian packages, and by hours of other real sound.
    """
    from vts_ros.lab.evaluation.sound_evaluation import evaluate_sound, false_alarms
    from vts_ros.lab.evaluation.sound_thresholds import try_thresholds
    from vts_ros.sound.sound_network import SoundNetwork

    if real:
        from vts_ros.lab.cli.real_sound_tables import real_tables
        from vts_ros.lab.evaluation.real_sound_evaluation import evaluate_real_sound

        with progress_bar(as_json) as (console, progress):
            found = evaluate_real_sound(SoundNetwork(network), real, 'val' if tune else split,
                                        progress)
        for table in real_tables(found):
            console.print(table)
        if not tune:
            finish(console, [], found, as_json)
            return
    if tune:
        with progress_bar(as_json) as (console, progress):
            tried = try_thresholds(SoundNetwork(network), drives, progress,
                                   found['thresholds'] if real else ())
        console.print(_tried(tried))
        finish(console, [], tried, as_json)
        return
    with progress_bar(as_json) as (console, progress):
        hears = SoundNetwork(network)
        result = evaluate_sound(hears, n, drives, split, progress)
        if recording:
            result['recordings'] = false_alarms(hears, recording)
        if windows:
            from vts_ros.lab.evaluation.sound_use import judge_use
            from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

            pipeline = Pipeline.load(PipelineConfig(model=model, keep_ratio=0.4))
            result['use'] = judge_use(pipeline, windows, lambda done: progress(
                done / windows, f'{done} of {windows} windows'))
    for table in _tables(result):
        console.print(table)
    finish(console, [], result, as_json)


def _tables(result: dict[str, Any]) -> Iterator[Table]:
    from rich.table import Table

    for part, title in (('learned', 'as learned, other seeds'),
                        ('other', 'other kinds')):
        table = Table('', 'n', 'named', 'after (s)', 'wrong per hour', 'per hour of noise',
                      title=f'{result["n"]} soundtracks, {title}')
        found = result[part]
        for kind, row in found['kinds'].items():
            delay = row['delay_sec']
            table.add_row(kind, str(row['n']), _share(row['recall']),
                          '-' if delay is None else f'{delay:.1f}', f'{row["wrong_per_hour"]:.1f}',
                          f'{found["noise"]["per_hour"][kind]:.1f}')
        yield table
        table = Table('', 'n', 'named', title=f'the same by name and loudness, {title}')
        for name, row in (*found['names'].items(), *found['snr'].items()):
            table.add_row(name, str(row['n']), f'{row["recall"]:.2f}')
        yield table
    trend = result['trend']
    table = Table('', 'n', 'share', title='"coming closer", "going away"')
    table.add_row('right where it is said', str(trend['said']), _share(trend['right']))
    yield table
    table = Table('', 'n', 'named before it is seen', 'so much before (s)', 'false alarms without',
                  title='drives with a hidden emergency vehicle, and as many without')
    for part, row in result['drives'].items():
        ahead = row['ahead_sec']
        table.add_row(part.replace('_', ' '), str(row['n']), _share(row['named_before']),
                      '-' if ahead is None else f'{ahead:.1f}', _share(row['false_alarms']))
        for name, of_name in row['names'].items():
            table.add_row(f'  {name}', str(of_name['n']), f'{of_name["named_before"]:.2f}')
        for name, of_noise in row['noises'].items():
            table.add_row(f'  over {name}', str(of_noise['n']), '', '',
                          f'{of_noise["false_alarms"]:.2f}')
    yield table
    if 'use' in result:
        use = result['use']
        table = Table('', 'risk right', title=f'{use["n"]} rendered windows, {use["model"]}, '
                                              'while a siren is heard')
        for name, share in use['risk_accuracy'].items():
            table.add_row(name, f'{share:.3f}')
        yield table
    if 'recordings' in result:
        table = Table('', 'seconds', 'heard', title='real sound without warnings')
        for name, row in result['recordings'].items():
            table.add_row(name, f'{row["seconds"]:.0f}', ', '.join(row['heard']) or '-')
        yield table


def _tried(result: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(
        'mean', 'over steps', 'as learned', 'other kinds', 'false alarms', 'other noise',
        'real, per hour', '',
        title=f'{result["n"]} drives of val of each kind, and as many without')
    for row in result['rows']:
        table.add_row(f'{row["on"]}', str(row['steps']), f'{row["learned"]:.3f}',
                      f'{row["other"]:.3f}', f'{row["false_learned"]:.3f}',
                      f'{row["false_other"]:.3f}',
                      '-' if row['per_hour'] is None else f'{row["per_hour"]:.1f}',
                      'best' if row == result['best'] else '')
    return table


def _share(found: tuple[float, float, float] | None) -> str:
    return '-' if found is None else '{:.3f} [{:.3f}, {:.3f}]'.format(*found)
