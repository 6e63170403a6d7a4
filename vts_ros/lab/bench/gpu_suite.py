# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Measure, or train, on a machine with CUDA, within 8 minutes and without ROS.

The shapes of Qwen2.5-VL-3B and -7B with random weights in bfloat16, and the embedded model:
windows of 5 and 8 frames through every case of ``vts bench``, then answers with CUDA graphs and
without, then how the time of an answer grows with the window, then a deadline. With --report the
results are added to a page and its plots.

    python -m vts_ros.lab.bench.gpu_suite --report docs

With --train it trains the embedded model instead: windows of 448x256 px are rendered on the other
cores while it goes on from the shipped weights. The checkpoint and the state of the training are
left in the folder, and the same command goes on from there.

    python -m vts_ros.lab.bench.gpu_suite --train out/large
"""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import time
from typing import Annotated, Any

from rich.console import Console
from rich.progress import Progress
import torch
import typer

from vts_ros.lab.bench import speed_report as shown
from vts_ros.lab.bench.deadline_benchmark import keep_deadline
from vts_ros.lab.bench.graph_benchmark import compare_graphs
from vts_ros.lab.bench.graph_benchmark import rows as graph_rows
from vts_ros.lab.bench.model_shapes import TOKEN_PX
from vts_ros.lab.bench.performance_page import add
from vts_ros.lab.bench.window_benchmark import suite
from vts_ros.lab.bench.window_growth import grow
from vts_ros.lab.bench.workloads import Workload
from vts_ros.lab.training.gpu_course import train_on_gpu

#: Pictures of 18 x 32 visual tokens: 896x504 px.
SIZE = (32 * TOKEN_PX, 18 * TOKEN_PX)
#: Workloads of random weights, with the time for their windows; models take time to be made, too.
PLAN = (('qwen2.5-vl-3b', 5, 35.0), ('qwen2.5-vl-3b', 8, 40.0), ('qwen2.5-vl-7b', 5, 40.0),
        ('qwen2.5-vl-7b', 8, 45.0), ('embedded', 5, 15.0))


def measure(tiny: bool, bar: Progress) -> dict[str, Any]:
    """Return everything that is measured."""
    task = bar.add_task('workloads', total=1.0)

    def tell(share: float, what: str) -> None:
        bar.update(task, completed=share, description=what)

    common = Workload(windows=16, size=SIZE, answer_tokens=48, device='cuda')
    workloads = [
        replace(common, model=model, frames=frames, budget_sec=budget_sec,
                size=(0, 0) if model == 'embedded' else SIZE)
        for model, frames, budget_sec in PLAN]
    lengths, cameras, windows = [5, 8, 16, 32], [1, 2, 4, 6], 30
    growing = replace(common, model='qwen2.5-vl-3b', windows=3, budget_sec=5.0,
                      size=(16 * TOKEN_PX, 9 * TOKEN_PX))
    if tiny:
        small = Workload('tiny', frames=2, windows=2, budget_sec=1.0, answer_tokens=4,
                         size=(4 * TOKEN_PX, 2 * TOKEN_PX), device='cpu')
        workloads, growing = [small], small
        lengths, cameras, windows = [2, 3], [1, 2], 2
    result = {'suite': suite(workloads, tell), 'graphs': [
        compare_graphs(work.model, 2 if tiny else 8, work.answer_tokens, work.seed, work.device,
                       work.size, progress=tell)
        for work in {work.model: work for work in workloads}.values()]}
    result['growth'] = grow(growing, lengths, cameras, tell)
    if not tiny:
        torch.cuda.empty_cache()
    return {**result, 'deadline': keep_deadline(
        windows=windows, device=growing.device, progress=tell)}


def main(
    report: Annotated[Path | None, typer.Option(
        help='Folder of the page that the results are added to.', show_default=False)] = None,
    as_json: Annotated[bool, typer.Option(
        '--json', help='Print one JSON object on the last line.')] = False,
    tiny: Annotated[bool, typer.Option(
        '--tiny', help='The same on the CPU with a tiny model, to see that it runs.')] = False,
    train: Annotated[Path | None, typer.Option(
        help='Train instead, and leave checkpoint and state in this folder.',
        show_default=False)] = None,
    minutes: Annotated[float, typer.Option(
        min=0.1, help='With --train: for how long.')] = 7.0,
    patch_px: Annotated[int, typer.Option(
        min=0, help='With --train: side of a patch; 0 for 4 x 7 tokens per frame, 8 for '
                    '8 x 14.')] = 0,
) -> None:
    """Measure or train on a GPU."""
    if not tiny and not torch.cuda.is_available():
        typer.echo(f'nothing to measure: PyTorch {torch.__version__} sees no CUDA device; '
                   '--tiny runs on the CPU', err=True)
        raise typer.Exit(1)
    if train is not None:
        train_on_gpu(train, minutes, patch_px, tiny)
        return
    console, start_sec = Console(stderr=True), time.perf_counter()
    with Progress(console=console) as bar:
        result = measure(tiny, bar)
    workloads = [result['suite'], *result['suite']['more']]
    for workload in workloads:
        console.print(shown.table(workload))
    for line in graph_rows(result['graphs']):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(shown.growth_table(result['growth']), shown.deadline_table(result['deadline']))
    console.print(f'{time.perf_counter() - start_sec:.0f} s in all')
    if report is not None:
        add(report, {
            shown.WORKLOADS: {shown.name_of(workload): {**workload, 'more': []}
                              for workload in workloads},
            shown.GRAPHS: result['graphs'], shown.GROWTH: result['growth'],
            shown.DEADLINE: result['deadline']})
    if as_json:
        typer.echo(json.dumps(result))


if __name__ == '__main__':
    typer.run(main)
