# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval scenes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.lab.cli.memory_run import run_memory, window_lengths, write_memory_page
from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import (
    BudgetsOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ModeOption,
    token_shares,
)
from vts_ros.tools.cli.terminal import finish, method_table, score_table

if TYPE_CHECKING:
    from rich.console import Console

    from vts_ros.pipeline.pipeline import Pipeline

app = typer.Typer()


@app.command('scenes', epilog='Example: [bold]vts eval scenes --n 100 --budgets 0.6,0.4 '
                              '--json[/bold]; [bold]vts eval scenes --methods all --brief '
                              '--report docs[/bold] compares with other methods.')
def eval_scenes(
    model: ModelOption = 'embedded',
    split: Annotated[Literal['train', 'val', 'test'], typer.Option(
        help='The shipped models were trained on train: how much better they are there is what '
             'they know by heart.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    budgets: BudgetsOption = '0.6,0.4',
    methods: Annotated[str, typer.Option(
        help='Ways to choose the tokens to compare at every budget: "all", or names with commas.',
        show_default=False)] = '',
    brief: Annotated[bool, typer.Option(
        '--brief', help='Compare methods by object, risk and box alone: answers end after them, '
                        'which takes less than half the time.')] = False,
    questions: Annotated[bool, typer.Option(
        '--questions', help='Ask free questions about each window, too, and grade the answers by '
                            'the facts that they state.')] = False,
    workers: Annotated[int, typer.Option(
        min=1, help='Processes for --methods or --memory, each with a model of its own; as many '
                    'as cores where a small model runs on the CPU.')] = 1,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the methods, with plots, or about '
             '--memory, with a picture.',
        show_default=False)] = None,
    over: Annotated[list[Path] | None, typer.Option(
        help='Recording of an empty, straight road over which to draw the hazards, too; may be '
             'given several times.', show_default=False)] = None,
    memory: Annotated[bool, typer.Option(
        '--memory', help='Show pairs of a hazard and its harmless twin with the same newest '
                         'frame; --n counts pairs.')] = False,
    frames: Annotated[str, typer.Option(
        '--frames', help='Frames of a window for --memory: 8, 16 or 32, or several with commas.',
        show_default=False)] = '',
    answered: Annotated[int | None, typer.Option(
        min=1, help='Show the first pairs only of --memory to the language model; what is kept '
                    'of what tells is looked at in all.', show_default=False)] = None,
    adapter: Annotated[str, typer.Option(
        help='Adapter of the model: its directory; only of driving.', show_default=False)] = '',
    mode: ModeOption = 'window',
    task: Annotated[str, typer.Option(
        help='driving or warehouse; of another task than driving only --model, --split, --n, '
             '--budgets and --mode count.')] = 'driving',
    picture_size: Annotated[str, typer.Option(
        help='Width and height at which the windows are drawn, a multiple of 224x128; only '
             'without --methods, --over and --memory.')] = '224x128',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Answer rendered windows with known truth, with all visual tokens and with fewer."""
    import json
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.scenes.model_picture import ModelPicture, SHIPPED

    ratios = token_shares(budgets)
    lengths = window_lengths(frames or '8')
    if memory and (methods or over or mode == 'causal'):
        raise typer.BadParameter('--memory is not about --methods, --over or --mode causal')
    if (frames or answered) and not memory:
        raise typer.BadParameter('--frames and --answered are about --memory')
    if not methods and (brief or ((report or workers > 1) and not memory)):
        raise typer.BadParameter('--brief, --report and --workers are about --methods; --report '
                                 'and --workers about --memory, too')
    if methods and questions:
        raise typer.BadParameter('--questions are not asked about --methods')
    if methods and mode == 'causal':
        raise typer.BadParameter('--methods choose among the frames of a window: no --mode causal')
    if methods and over:
        raise typer.BadParameter('--over is not about --methods')
    if over and questions:
        raise typer.BadParameter('--questions are not asked about --over')
    if task != 'driving':
        if any((methods, memory, over, questions, report, adapter,
                picture_size != '224x128')):
            raise typer.BadParameter(f'of --task {task} only --model, --split, --n, --budgets and '
                                     '--mode count')
        _eval_task_scenes(task, model, split, n, ratios, mode, device, as_json)
        return
    picture = ModelPicture.of(picture_size)
    if picture != SHIPPED and (methods or over or memory):
        raise typer.BadParameter('--methods, --over and --memory are at 224x128: no '
                                 '--picture-size')

    # After what is wrong was said: these take seconds.
    from vts_ros.lab.evaluation.scene_evaluation import evaluate, evaluate_over, QUESTIONS
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    names = _method_names(methods)
    console = Console(stderr=as_json)
    start_sec = time.monotonic()
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(model=model, adapter=adapter, device=device,
                                                mode=mode))
    if memory:
        result = run_memory(pipeline, console, split, n, lengths, ratios, questions,
                            answered, workers)
        if report is not None:
            finish(console, write_memory_page(
                result, this_run(pipeline.vlm.info['device'], start_sec), report))
    elif over:
        with Progress(console=console) as bar:
            place = bar.add_task(f'{n} windows of {split}, twice', total=2 * n)
            result = evaluate_over(pipeline, over, split, n, ratios,
                                   lambda windows: bar.advance(place, windows))
        for kind, title in (('rendered', 'rendered'), ('over', 'over recordings')):
            console.print(score_table(f'{result[kind]["n"]} windows, {title}', result[kind]))
        console.print(f'outside what the model knows: {result["over"]["marked"]}', highlight=False)
    elif names:
        result = _compare(pipeline, console, names, split, n, ratios, brief, workers,
                          report)
    else:
        with Progress(console=console) as bar:
            place = bar.add_task(f'{n} windows of {split}', total=n)
            result = evaluate(pipeline, split=split, n=n, budgets=ratios,
                              progress=lambda windows: bar.advance(place, windows),
                              questions=QUESTIONS if questions else 0, picture=picture)
        console.print(score_table(f'{result["model"]}: {n} windows of {split}', result))
    if as_json:
        typer.echo(json.dumps(result))


def _eval_task_scenes(task: str, model: str, split: str, n: int, ratios: list[float], mode: str,
                      device: str, as_json: bool) -> None:
    """Show how often a model is right about rendered windows of another task, per budget."""
    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.cli.adapter_command import answer_table
    from vts_ros.lab.evaluation.task_evaluation import (
        answers,
        check_rendered,
        grades,
        task_windows,
    )
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    check_rendered(task)
    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(task=task, model=model, device=device, mode=mode,
                                                draft=False))
    shares = (1.0, *ratios)
    result = {}
    with Progress(console=console) as bar:
        place = bar.add_task(f'{n} windows of {split}', total=n * len(shares))
        windows = list(task_windows(split, n))
        for share in shares:
            pipeline.set_keep_ratio(share)
            pipeline.reset_context()
            result[f'{share:g}'] = grades([window.wanted for window in windows], answers(
                pipeline, windows, lambda done: bar.advance(place, done), is_brief=True))
    console.print(answer_table({f'{float(share):.0%} of the tokens': found
                                for share, found in result.items()},
                               f'{pipeline.vlm.name}: windows of {task} ({split})'))
    finish(console, [], {'task': task, 'split': split, 'model': model, 'budgets': result},
           as_json)


def _method_names(text: str) -> list[str]:
    """Return the names of methods in a list with commas; ``all`` is all of them."""
    if not text:
        return []
    from vts_ros.lab.rivals.registry import METHOD_NAMES

    names = [name.strip() for name in text.split(',') if name.strip()]
    if names == ['all']:
        return list(METHOD_NAMES)
    for name in names:
        if name not in METHOD_NAMES:
            raise typer.BadParameter(f'{name!r} is none of all, {", ".join(METHOD_NAMES)}')
    return names


def _compare(pipeline: Pipeline, console: Console, names: list[str], split: str, n: int,
             ratios: list[float], brief: bool, workers: int,
             report: Path | None) -> dict[str, Any]:
    """Compare methods, show the accuracy of all, and write the page if there is a folder."""
    import time

    from rich.progress import Progress

    from vts_ros.lab.evaluation.method_comparison import compare

    start_sec = time.monotonic()
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=1.0)
        result = compare(
            pipeline, names, split, n, ratios, brief, workers,
            lambda share, what: bar.update(task, completed=share, description=what))
    for title, part in ((f'{n} windows of {split}', result),
                        (f'{result["hard"]["n"]} hard ones of them', result['hard'])):
        console.print(method_table(title, part, ratios))
    if report is not None:
        from vts_ros.lab.evaluation.methods_page import write_quality
        from vts_ros.lab.rivals.registry import methods

        finish(console, write_quality(
            result, methods(pipeline.sparsifier, names),
            this_run(pipeline.vlm.info['device'], start_sec), report))
    return result
