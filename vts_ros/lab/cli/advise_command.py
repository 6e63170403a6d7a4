# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``advise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.tools.cli.options import BAG_HELP, DeviceOption, JsonOption, ModelOption
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()


@app.command('advise', epilog='Example: [bold]vts advise --bag my_drive --model '
                              'Qwen/Qwen3-VL-4B-Instruct[/bold]')
def advise_command(
    bag: Annotated[list[Path], typer.Option(
        help=f'{BAG_HELP} May be given several times.', show_default=False)],
    n: Annotated[int, typer.Option('--n', min=2, help='Windows in all.')] = 40,
    out: Annotated[Path, typer.Option(
        help='Folder for the answers and the picture; the same command goes on there.')] = Path(
            'out/advice'),
    model: ModelOption = 'embedded',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Say which keep ratio and how many frames fit your road and your model.

    Windows of the recordings are asked about with 2 to 8 frames and 100 to 10 % of the visual
    tokens; the advice is the least with which level and object stay the same in 95 % of them.
    """
    from vts_ros.lab.evaluation.advice import advise, draw_advice, in_words
    from vts_ros.lab.recordings import check_recordings
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    check_recordings(bag)
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        answers = out / ''.join(letter if letter.isalnum() or letter in '-._' else '-'
                                for letter in pipeline.vlm.name)
        result = advise(pipeline, bag, n, answers, progress)
    for sentence in in_words(result):
        console.print(sentence, highlight=False, markup=False)
    picture = out / 'advice.png'
    draw_advice(result).savefig(picture)
    finish(console, [picture], result, as_json)
