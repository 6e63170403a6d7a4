# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval task``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption
from vts_ros.tools.cli.terminal import finish

app = typer.Typer()
#: Page and section that the command writes. A picture beside it shows every fifth of the first 45
#: windows: four levels of risk and all families take turns.
PAGE, SECTION, WINDOWS, STEP = 'tasks.md', 'adapter', 45, 5


@app.command('task', epilog='Example: [bold]vts eval task --adapter warehouse_adapter --report '
                            'docs[/bold]; minutes on one core.')
def eval_task(
    adapter: Annotated[str, typer.Option(
        help='Adapter of the model for the task: a shipped name, or its directory.')],
    task: Annotated[str, typer.Option(help='Task with rendered windows.')] = 'warehouse',
    model: Annotated[str, typer.Option('--model', '--vlm', help='Its model.')] = 'embedded',
    n: Annotated[int, typer.Option('--n', min=1, help='Windows of the task.')] = 200,
    driving: Annotated[int, typer.Option(
        min=1, help='Windows of roads to answer before the adapter was loaded, and with it '
                    'off again.')] = 20,
    work: Annotated[Path | None, typer.Option(
        help='Folder for the answers: a run with the same folder, --model and --n goes on where '
             'the last one stopped.', show_default=False)] = None,
    device: DeviceOption = 'cpu',
    report: Annotated[Path | None, typer.Option(
        help=f'Folder with {PAGE}, in which to write the section and a picture.',
        show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what an adapter gains in its task, and that it costs nothing when it is off."""
    from functools import partial
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation import task_evaluation as measured
    from vts_ros.lab.evaluation.generated_page import write_section
    from vts_ros.paths import checkpoint
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.tools.pictures import encode
    from vts_ros.vlm.answers import Answer

    measured.check_rendered(task)
    adapter_at = checkpoint(adapter)
    console, start_sec = Console(stderr=as_json), time.monotonic()

    def load(task: str, adapter: str = '') -> Pipeline:
        return Pipeline.load(PipelineConfig(task=task, model=model, adapter=adapter,
                                            device=device, draft=False))

    def roads() -> list[Answer]:
        with console.status('windows of roads'):
            return measured.driving_answers(load('driving'), driving)

    def asked(name: str, adapter: str) -> list[Answer]:
        with Progress(console=console) as bar:
            place = bar.add_task(f'{n} windows of {task}, {name}', total=n)
            return measured.answers(load(task, adapter), list(measured.task_windows('test', n)),
                                    partial(bar.advance, place), is_brief=True)

    on_roads = measured.kept(work and work / f'roads_{driving}.json', roads)
    wanted = measured.wanted_answers('test', n)
    said = {'before': measured.kept(work and work / f'{task}_{n}.json',
                                    partial(asked, 'before', '')),
            'after': measured.kept(
                work and work / f'{task}_{n}_{measured.fingerprint(Path(adapter_at))}.json',
                partial(asked, 'after', adapter))}
    result = {
        'task': task, 'model': model, 'adapter': Path(adapter).name, 'n': n, 'driving': driving,
        'adapter_mb': measured.size_mb(Path(adapter_at)),
        **{name: measured.grades(wanted, found) for name, found in said.items()},
        'gains': measured.gains(wanted, **said),
        'driving_same': sum(first == second for first, second in zip(on_roads, roads()))}
    lines = list(measured.section(result, this_run(device, start_sec)))
    console.print('\n'.join(lines), highlight=False, markup=False, soft_wrap=True)
    written = []
    if report is not None:
        picture = report / f'{task}.jpg'
        picture.write_bytes(encode(measured.sheet(
            load(task, adapter), list(measured.task_windows('test', WINDOWS))[::STEP],
            f'{WINDOWS // STEP} windows of {task}, with {Path(adapter).name}')))
        written = [write_section(report / PAGE, SECTION, lines), picture]
    finish(console, written, result, as_json)
