# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands ``eval recordings`` and ``eval labels``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.lab.cli.teacher_options import show_teacher, SpeedOption, TilesOption
from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption
from vts_ros.tools.cli.terminal import finish, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


@app.command('recordings', epilog='Example: [bold]vts eval recordings --bag my_drive --teacher '
                                  'detector.onnx --speed 14[/bold]')
def eval_recordings(
    bag: Annotated[list[Path], typer.Option(
        help='Recording, or a folder of pictures in the order of their names, 10 a second; may '
             'be given several times.', show_default=False)],
    teacher: Annotated[Path, typer.Option(
        help='Object detector as ONNX file by whose boxes the windows are labelled.',
        show_default=False)],
    tiles: TilesOption = False,
    speed: SpeedOption = 20.0,
    model: ModelOption = 'embedded',
    n: Annotated[int, typer.Option('--n', min=1, help='Windows per recording, at most.')] = 40,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Measure what a model says of recordings by the labels of a teacher, with its guard off.

    The labels follow from the boxes of the teacher by the risk rule of the renderer. For this
    measurement alone the guard of the model is off: with it, the embedded model says nothing of
    any recording.
    """
    from vts_ros.lab.evaluation.road_answers import measure
    from vts_ros.lab.recordings import check_recordings
    from vts_ros.lab.teacher import CACHE, Teacher
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    check_recordings(bag)
    with progress_bar(as_json) as (console, progress):
        finder = Teacher(teacher, tiles)
        show_teacher(console, finder, bag, CACHE)
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device, keep_ratio=1.0))
        result = measure(pipeline, bag, finder.boxes_of, speed, n, progress)
    console.print(_table(result))
    finish(console, [], result, as_json)


def _table(result: dict[str, Any]) -> Table:
    from rich.table import Table

    counted = result['recordings'].values()
    windows, there = (sum(part[key] for part in counted) for key in ('n', 'with_object'))
    table = Table('', *next(iter(result['rows'].values())), title=(
        f'{result["model"]}, guard off: {windows} windows of {len(counted)} recordings, {there} '
        'with a risk object'), caption='means over recordings, 95 % over recordings')
    for row, metrics in result['rows'].items():
        table.add_row(row, *map(_cell, metrics.values()))
    return table


def _cell(found: list[float | None] | None) -> str:
    if found is None:
        return '-'
    mean, low, high = found
    return f'{mean:.2f}' if low is None else f'{mean:.2f} [{low:.2f}, {high:.2f}]'


@app.command('labels', epilog='Example: [bold]vts eval labels --n 200 --noise 0.02[/bold]')
def eval_labels(
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Which scenes; nothing is learned of them.')] = 'val',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of scenes.')] = 200,
    noise: Annotated[float, typer.Option(
        min=0.0, max=0.5, help='Error of each side of a box, in shares of the box (standard '
                               'deviation).')] = 0.0,
    speed: Annotated[float | None, typer.Option(
        min=0.0, help='Speed in m/s that is taken for that of the car; by default the true one.',
        show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure how good labels by boxes are, on rendered scenes of which the truth is known.

    The true boxes stand for those of a teacher; what a teacher misses is not in this.
    """
    from rich.table import Table

    from vts_ros.lab.evaluation.label_agreement import agreement

    with progress_bar(as_json) as (console, progress):
        done = iter(range(1, n + 1))
        result = agreement(split, n, noise, speed, lambda scenes: progress(
            next(done) / n, f'{n} scenes'))
    table = Table('', *result['all'], title=f'Labels by boxes against the truth, {split}')
    for part in ('all', 'clear', 'straight'):
        table.add_row(part, *('-' if value is None else f'{value:g}'
                              for value in result[part].values()))
    console.print(table)
    finish(console, [], result, as_json)
