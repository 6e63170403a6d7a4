# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval recordings``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TYPE_CHECKING

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
