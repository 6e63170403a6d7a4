# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands that measure speed: ``bench``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vts_ros.tools.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    token_grids,
    token_share,
)
from vts_ros.tools.cli.terminal import finish, progress_bar, speed_table

app = typer.Typer()
ReportOption = Annotated[Path | None, typer.Option(
    help='Folder with performance.md: what was measured is added to its tables and plots.',
    show_default=False)]


@app.callback(
    invoke_without_command=True,
    epilog='Example: [bold]vts bench --quick[/bold], or [bold]vts bench --report docs[/bold] for '
           'the page in the documentation. Models: embedded; qwen2.5-0.5b, qwen2.5-vl-3b and '
           'qwen2.5-vl-7b have the shapes of these and random weights, which cost as much; or a '
           'checkpoint of the class Qwen-VL.')
def bench(
    context: typer.Context,
    model: Annotated[list[str] | None, typer.Option(
        help='Model to measure; may be given several times. Default: qwen2.5-0.5b and embedded, '
             'on a GPU also qwen2.5-vl-3b and qwen2.5-vl-7b.', show_default=False)] = None,
    frames: Annotated[str, typer.Option(help='Lengths of the windows.')] = '5,8',
    windows: Annotated[int, typer.Option(min=2, help='Windows to measure, at most.')] = 12,
    budget_sec: Annotated[float, typer.Option(
        min=1.0, help='Time for the windows of each model and length; at least two are '
                      'measured.')] = 150.0,
    answer_tokens: Annotated[int, typer.Option(
        min=2, help='Answers of random weights are cut there.')] = 24,
    quick: Annotated[bool, typer.Option(
        '--quick', help='Windows of 5 small pictures, short answers: less than 3 minutes on two '
                        'cores.')] = False,
    choose: Annotated[bool, typer.Option(
        '--choose', help='Measure instead which engine, floats and threads are fastest here for a '
                         'checkpoint, and say what to set; nothing is changed.')] = False,
    seed: Annotated[int, typer.Option(help='Of the drive and of random weights.')] = 7,
    device: DeviceOption = 'auto',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
    plots: Annotated[Path | None, typer.Option(
        help='Folder for the plots alone.', show_default=False)] = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure how fast it is on this machine: the same windows in stock transformers and here.

    Every window of a rendered drive is answered by stock transformers with all tokens, from
    nothing, and by the pipeline with fewer tokens, then with features of frames kept, with frames
    read once (causal), and with the last answer as a draft. All take turns at every window, so
    ratios are those of one window of one run.
    """
    if context.invoked_subcommand is not None:
        return
    if choose:
        _choose(model or ['embedded'], device, windows, seed, as_json)
        return
    # Before what takes seconds to import.
    lengths = _lengths(frames)

    from vts_ros.lab.bench import speed_report as shown
    from vts_ros.lab.bench.performance_page import add
    from vts_ros.lab.bench.window_benchmark import suite
    from vts_ros.lab.bench.workloads import default_models, quick_workloads, Workload

    common = Workload(windows=windows, budget_sec=budget_sec, answer_tokens=answer_tokens,
                      seed=seed, device=device, threads=threads)
    models = model or default_models(device)
    workloads = quick_workloads(common, models) if quick else [
        replace(common, model=model_name, frames=length)
        for model_name in models for length in lengths]
    with progress_bar(as_json) as (console, progress):
        result = suite(workloads, progress)
    results = [result, *result['more']]
    for result in results:
        console.print(shown.table(result))
    by_name = {shown.name_of(result): {**result, 'more': []} for result in results}
    written = shown.draw({shown.WORKLOADS: by_name}, plots) if plots else []
    written += add(report, {shown.WORKLOADS: by_name}) if report else []
    finish(console, written, result, as_json)


def _choose(models: list[str], device: str, windows: int, seed: int, as_json: bool) -> None:
    """Measure and say which settings are fastest."""
    from vts_ros.lab.bench.best_settings import choose, lines
    from vts_ros.lab.bench.model_shapes import SHAPES

    model, *others = models
    if others or model in SHAPES:
        raise typer.BadParameter('--choose takes one model, embedded or a checkpoint')
    with progress_bar(as_json) as (console, progress):
        result = choose(model, device, windows, seed, progress=progress)
    for line in lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)


@app.command('growth', epilog='Example: [bold]vts bench growth --report docs[/bold].')
def bench_growth(
    model: Annotated[str, typer.Option(help='Model, as for vts bench.')] = 'embedded',
    frames: Annotated[str, typer.Option(help='Lengths of the windows of one camera.')] = (
        '5,8,16,32,64'),
    cameras: Annotated[str, typer.Option(
        help='Numbers of cameras; windows have 5 instants then.')] = '1,2,4,6',
    windows: Annotated[int, typer.Option(min=2, help='Windows of each kind, at most.')] = 4,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    device: DeviceOption = 'auto',
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what an answer costs as windows grow, in stock transformers and here."""
    lengths, counts = _lengths(frames), _lengths(cameras)

    from vts_ros.lab.bench import speed_report as shown
    from vts_ros.lab.bench.performance_page import add
    from vts_ros.lab.bench.window_growth import grow
    from vts_ros.lab.bench.workloads import Workload

    work = Workload(model=model, windows=windows, budget_sec=60.0, seed=seed, device=device)
    with progress_bar(as_json) as (console, progress):
        result = grow(work, lengths, counts, progress)
    console.print(shown.growth_table(result))
    finish(console, add(report, {shown.GROWTH: result}) if report else [], result, as_json)


@app.command('deadline', epilog='Example: [bold]vts bench deadline --share 0.6[/bold].')
def bench_deadline(
    model: ModelOption = 'embedded',
    windows: Annotated[int, typer.Option(min=1, help='Windows that count.')] = 60,
    share: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE',
        help='The deadline, of the median time without one.')] = 0.6,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    device: DeviceOption = 'auto',
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how often answers are late under a deadline, with a fixed setting and a plan."""
    from vts_ros.lab.bench import speed_report as shown
    from vts_ros.lab.bench.deadline_benchmark import keep_deadline
    from vts_ros.lab.bench.performance_page import add

    with progress_bar(as_json) as (console, progress):
        result = keep_deadline(model, windows, share, seed, device, progress=progress)
    console.print(shown.deadline_table(result))
    finish(console, add(report, {shown.DEADLINE: result}) if report else [], result, as_json)


@app.command('busy', epilog='Example: [bold]vts bench busy --report docs[/bold].')
def bench_busy(
    model: ModelOption = 'embedded',
    windows: Annotated[int, typer.Option(min=1, help='Windows that count.')] = 20,
    loops: Annotated[int, typer.Option(min=1, help='Processes that keep cores busy.')] = 2,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    device: DeviceOption = 'auto',
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what an answer takes while other programs want the processor, too."""
    from vts_ros.lab.bench import speed_report as shown
    from vts_ros.lab.bench.busy_machine import beside_loops, rows
    from vts_ros.lab.bench.performance_page import add

    with progress_bar(as_json) as (console, progress):
        result = beside_loops(model, windows, loops, seed=seed, device=device, progress=progress)
    for line in rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, add(report, {shown.BUSY: result}) if report else [], result, as_json)


@app.command('instructions', epilog='Example: [bold]vts bench instructions --frames 8[/bold].')
def bench_instructions(
    model: Annotated[str, typer.Option(help='Model, as for vts bench.')] = 'qwen2.5-0.5b',
    frames: Annotated[int, typer.Option(min=1, help='Length of the windows.')] = 8,
    windows: Annotated[int, typer.Option(min=2, help='Windows that count.')] = 12,
    seed: Annotated[int, typer.Option(help='Of the drive and of random weights.')] = 7,
    device: DeviceOption = 'auto',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure what vlm.instructions gives: what is asked before the pictures, read once."""
    from vts_ros.lab.bench.instruction_order import compare_orders, rows
    from vts_ros.lab.bench.workloads import Workload

    with progress_bar(as_json) as (console, progress):
        result = compare_orders(Workload(
            model=model, frames=frames, windows=windows, seed=seed, device=device,
            threads=threads, is_told=True), progress=progress)
    for line in rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)


@app.command('passes', epilog='Example: [bold]vts bench passes --model qwen2.5-0.5b[/bold].')
def bench_passes(
    model: Annotated[str, typer.Option(
        help='Shape of a model, as for vts bench; its weights are random.')] = 'qwen2.5-0.5b',
    rounds: Annotated[int, typer.Option(min=2, help='How often each pass is timed.')] = 8,
    seed: Annotated[int, typer.Option(help='Of weights and tokens.')] = 7,
    threads: Annotated[int, typer.Option(min=1, help='CPU threads.')] = 1,
    as_json: JsonOption = False,
) -> None:
    """Time passes of a language model: weights plain, packed for oneDNN and in eight bits."""
    from vts_ros.lab.bench.pass_times import pass_times, rows

    with progress_bar(as_json) as (console, progress):
        result = pass_times(model, rounds, threads, seed, progress)
    for line in rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)


@app.command('graphs', epilog='Example: [bold]vts bench graphs --model qwen2.5-0.5b[/bold].')
def bench_graphs(
    model: Annotated[str, typer.Option(
        help='embedded, or a shape as for vts bench; its weights are random.')] = 'embedded',
    answers: Annotated[int, typer.Option(min=1, help='Answers that count.')] = 12,
    tokens: Annotated[int, typer.Option(min=2, help='Most tokens of an answer.')] = 48,
    seed: Annotated[int, typer.Option(help='Of the drive and of random weights.')] = 7,
    device: DeviceOption = 'auto',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the same answers with CUDA graphs and without; on a CPU, in fixed shapes."""
    from vts_ros.lab.bench.graph_benchmark import compare_graphs, rows

    with progress_bar(as_json) as (console, progress):
        result = compare_graphs(model, answers, tokens, seed, device, threads=threads,
                                progress=progress)
    for line in rows([result]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, [], result, as_json)


@app.command('peers', epilog='Example: [bold]vts bench peers --vllm '
                             '/opt/vllm/bin/python[/bold], see docs/vllm.md.')
def bench_peers(
    vllm: Annotated[Path | None, typer.Option(
        help='Python of an environment with vLLM; without, only what needs none is measured.',
        exists=True, show_default=False)] = None,
    n: Annotated[int, typer.Option('--n', min=1, help='Windows that count, at least.')] = 24,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure the embedded model here, in stock transformers, and in vLLM with several prunings.

    Starts three servers of vLLM, which need 2 GB of memory each.
    """
    from vts_ros.lab.bench import speed_report as shown
    from vts_ros.lab.bench.peers import measure, rows
    from vts_ros.lab.bench.performance_page import add

    with progress_bar(as_json) as (console, progress):
        result = measure(vllm, n, seed, progress=progress)
    for line in rows(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    finish(console, add(report, {shown.PEERS: result}) if report else [], result, as_json)


def _lengths(text: str) -> list[int]:
    """Return the numbers in a list with commas, each once."""
    found = [part.strip() for part in text.split(',')]
    if not all(part.isdigit() and int(part) > 0 for part in found):
        raise typer.BadParameter(f'{text!r} is no list of numbers such as 5,8')
    return list(dict.fromkeys(map(int, found)))


@app.command('engines', epilog='Example: [bold]vts bench engines --json[/bold].')
def bench_engines(
    runs: Annotated[int, typer.Option(min=1, help='Repetitions of each step.')] = 200,
    size: Annotated[str, typer.Option(help='Width and height of the frames.')] = '848x480',
    grid: Annotated[str, typer.Option(
        help='Rows and columns of visual tokens per frame.')] = '4x7',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
    backend: Annotated[list[str] | None, typer.Option(
        help='Engine to time; may be given several times. Default: all that work here.',
        show_default=False)] = None,
    generating: Annotated[bool, typer.Option(
        help='Measure again while the language model writes.')] = True,
    model: ModelOption = 'embedded',
    as_json: JsonOption = False,
) -> None:
    """Time the proposal network per frame and the window step per window of five frames."""
    import json

    from rich.console import Console

    from vts_ros.lab.bench.engine_benchmark import bench_engines as run
    from vts_ros.lab.bench.engine_benchmark import sparsifiers
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.sparsify.compiled_steps import picture_size

    console = Console(stderr=as_json)
    height_width, rows_columns = picture_size(size), token_grids(grid, [], model)[0]
    with console.status('loading') as status:
        engines, missing = sparsifiers(threads, backend or ())
        pipeline = Pipeline.load(PipelineConfig(
            model=model, engine_backend='onnxruntime', threads=threads,
            engine_threads=threads)) if generating else None
        result = run(engines, pipeline, runs, height_width, rows_columns, status.update)
    for name, reason in missing.items():
        console.print(f'no {name}: {reason}', highlight=False, markup=False, soft_wrap=True)
    console.print(speed_table(result))
    if as_json:
        typer.echo(json.dumps(result))
