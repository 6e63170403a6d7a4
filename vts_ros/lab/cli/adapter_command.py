# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands ``train adapter`` and ``fleet distil``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TYPE_CHECKING

import typer

from vts_ros.pipeline.config import DRIVING
from vts_ros.tools.cli.options import DeviceOption, JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from vts_ros.lab.training.adapter_lessons import AdapterCourse

adapter_app = typer.Typer()
distil_app = typer.Typer()

OutOption = Annotated[Path, typer.Option(help='Folder for the adapter; replaced.')]
WorkOption = Annotated[Path | None, typer.Option(
    help='Folder of what was seen and of checkpoints; the same folder goes on where the last run '
         'stopped. Default: beside --out.', show_default=False)]
StepsOption = Annotated[int, typer.Option(
    min=1, help='Optimiser steps at most; it ends sooner when validation no longer gains.')]
BatchOption = Annotated[int, typer.Option(min=1, help='Windows per step.')]
RankOption = Annotated[int, typer.Option(min=1, help='Of the matrices that are added.')]
RateOption = Annotated[float, typer.Option(
    min=0.0, help='Peak of the learning rate; 0 chooses by the size of the model.')]
SeedOption = Annotated[int, typer.Option(help='For weights, order and keep ratios.')]
TokensOption = Annotated[int, typer.Option(
    min=0, help='Most visual tokens of a frame, as vlm.tokens_per_frame.')]


@adapter_app.command('adapter', epilog=(
    'Example: [bold]vts annotate --bag drive --out answers[/bold], correct answers/answers.jsonl '
    'by hand, then [bold]vts train adapter --data answers[/bold].'))
def train_adapter(
    data: Annotated[list[Path], typer.Option(
        help='Folder of vts annotate or vts fleet annotate; may be given several times.')],
    model: Annotated[str, typer.Option('--model', '--vlm', help=(
        'Language model to train: shipped name, checkpoint directory, or hub id in the local '
        'cache.'))] = 'embedded',
    out: OutOption = Path('adapter'),
    work: WorkOption = None,
    steps: StepsOption = 300,
    batch: BatchOption = 8,
    rank: RankOption = 16,
    learning_rate: RateOption = 0.0,
    tokens_per_frame: TokensOption = 256,
    task: Annotated[str, typer.Option(
        help='What the answers are about: a shipped task, or a folder of your own.')] = DRIVING,
    validation: Annotated[list[Path] | None, typer.Option(
        help='Folder of answers that say when to stop, instead of a part of --data; needs '
             '--held-out.', show_default=False)] = None,
    held_out: Annotated[list[Path] | None, typer.Option(
        help='Folder of answers to measure on, instead of a part of --data; needs '
             '--validation.', show_default=False)] = None,
    start: Annotated[Path | None, typer.Option(
        help='Adapter to go on from, of the same --rank; by default a new one.',
        show_default=False)] = None,
    facts: Annotated[float, typer.Option(
        min=0.0, max=1.0, help='Share of the steps that learn risk and object alone, which takes '
                               'less time.')] = 0.0,
    every: Annotated[int, typer.Option(
        min=1, help='Steps between two looks at the windows that say when to stop.')] = 25,
    vision: Annotated[bool, typer.Option(
        '--vision', help='Adapt the vision encoder, too, for things that it has never seen. A '
                         'step takes two to three times as long.')] = False,
    device: DeviceOption = 'auto',
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """
    Fine-tune a language model on answers that are right: a small file that vlm.adapter loads.

    Answers of vts annotate, corrected by hand or written by a larger model. Whole recordings are
    held out, and what the model says of them before and after is shown.
    """
    from vts_ros.lab.training.adapter_lessons import AdapterCourse

    if bool(validation) != bool(held_out):
        raise typer.BadParameter('--validation and --held-out go together')
    _train(data, model, out, work or out.with_name(f'{out.name}.work'),
           AdapterCourse(steps, batch, rank, learning_rate, every, seed,
                         str(start or ''), facts, vision), tokens_per_frame, device, as_json, task,
           validation or [], held_out or [])


@distil_app.command('distil', epilog=(
    'Example: [bold]vts fleet annotate drives --out fleet --vlm LARGE[/bold], then [bold]vts '
    'fleet distil fleet --student embedded[/bold].'))
def distil(
    folder: Annotated[Path, typer.Argument(
        help='Folder that vts fleet annotate has written.', show_default=False)],
    student: Annotated[str, typer.Option(
        help='Language model that learns: shipped name, checkpoint directory, or hub id in the '
             'local cache.')] = 'embedded',
    out: OutOption = Path('adapter'),
    work: WorkOption = None,
    steps: StepsOption = 300,
    batch: BatchOption = 8,
    rank: RankOption = 16,
    learning_rate: RateOption = 0.0,
    tokens_per_frame: TokensOption = 256,
    device: DeviceOption = 'auto',
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """
    Teach a small model what a large one has answered: an adapter that vlm.adapter loads.

    Whole recordings are held out, and how often the small model says what the large one said of
    them, before and after, is shown.
    """
    from vts_ros.lab.training.adapter_lessons import AdapterCourse

    _train([folder], student, out, work or out.with_name(f'{out.name}.work'),
           AdapterCourse(steps, batch, rank, learning_rate, seed=seed), tokens_per_frame, device,
           as_json)


def _train(folders: list[Path], model: str, out: Path, work: Path, course: AdapterCourse,
           tokens_per_frame: int, device: str, as_json: bool, task: str = DRIVING,
           validation: Sequence[Path] = (), held_out: Sequence[Path] = ()) -> None:
    from collections import Counter
    from dataclasses import replace
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.learned_answers import measure, most_frequent
    from vts_ros.lab.training import adapter_training
    from vts_ros.lab.training.answered_windows import read_answers, Split, split
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.tools.cli.terminal import finish

    console = Console(stderr=as_json)
    counters: Counter[str] = Counter()
    windows = [window for folder in folders for window in read_answers(folder, counters)]
    frames = max((len(window.frames) for window in windows), default=0)
    if held_out:
        parts = Split(windows, *([window for folder in some
                                  for window in read_answers(folder, counters)]
                                 for some in (validation, held_out)))
    else:
        parts = split(windows, frames)
    recordings = len({window.recording for window in windows})
    console.print(f'{len(windows)} answers about {recordings} recordings'
                  + ''.join(f', {count} {name} left out' for name, count in counters.items()),
                  highlight=False)
    if recordings == 1 and not held_out:
        console.print('of one recording the end is held out: that says nothing of other roads',
                      highlight=False)
    config = PipelineConfig(task=task, model=model, device=device,
                            tokens_per_frame=tokens_per_frame, draft=False)
    report = {}

    def with_bar(title: str, count: int) -> tuple[Progress, adapter_training.Progress]:
        bar = Progress(console=console)
        task = bar.add_task(title, total=count)
        return bar, lambda done: bar.advance(task, done)

    def measured(name: str, adapter: str) -> None:
        with console.status(f'loading {model}'):
            pipeline = Pipeline.load(replace(config, adapter=adapter))
        bar, advance = with_bar(f'held out, {name}', len(parts.held_out))
        with bar:
            report[name] = measure(pipeline, parts.held_out, advance,
                                   is_guarded=learned['rendered'])
        pipeline.close()

    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(config)
    bar, advance = with_bar('pictures', len(parts.train) + len(parts.validation))
    try:
        bar.start()
        learned = adapter_training.train_adapter(
            pipeline, parts.train, parts.validation, out, work, course, advance, bar.stop)
    finally:
        bar.stop()
    del pipeline
    measured('before', '')
    measured('after', str(out))
    report['most frequent answer'] = most_frequent(parts.train, parts.held_out)
    console.print(answer_table(report))
    result = {**learned, 'task': task, 'model': model, 'recordings': recordings,
              'left_out': dict(counters), 'held_out': report}
    (out / 'report.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    console.print(f'to use it: vlm.adapter:={out}', highlight=False, markup=False, soft_wrap=True)
    finish(console, [out], result, as_json)


def answer_table(report: dict[str, dict[str, object]],
                 title: str = 'Answers about held-out windows that are as they are to be'
                 ) -> Table:
    """Return how often answers are right, a row for each way to answer."""
    from rich.table import Table

    from vts_ros.lab.evaluation.learned_answers import METRICS

    table = Table('', *METRICS, title=title)
    for name, found in report.items():
        table.add_row(f'{name}, n = {found["n"]}', *(_cell(found[metric]) for metric in METRICS))
    return table


def _cell(value: object) -> str:
    if not isinstance(value, list):
        return '-'
    mean, (low, high) = value
    return f'{mean:.2f} [{low:.2f}, {high:.2f}]'
