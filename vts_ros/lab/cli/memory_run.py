# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""``eval scenes --memory``: windows that need the past."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vts_ros.lab.evaluation.generated_page import Run
    from vts_ros.pipeline.pipeline import Pipeline


def window_lengths(text: str) -> list[int]:
    """Return lengths of windows in a list with commas."""
    from vts_ros.lab.scenes.memory_windows import LENGTHS

    known = {str(length): length for length in LENGTHS}
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f'--frames {name!r} is none of {", ".join(known)}')
    return [known[name] for name in dict.fromkeys(names)]


def run_memory(pipeline: Pipeline, console: Console, split: str, n: int, lengths: list[int],
               ratios: list[float], questions: bool, answered: int | None, workers: int
               ) -> dict[str, Any]:
    """Evaluate pairs of all lengths, and show what was found."""
    from rich.progress import Progress

    from vts_ros.lab.evaluation.memory_evaluation import evaluate_memory

    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} pairs of {split}', total=1.0)
        result = evaluate_memory(
            pipeline, split, n, lengths, ratios, questions, answered, workers,
            lambda share, what: bar.update(task, completed=share, description=what))
    for frames, found in result['lengths'].items():
        alone = found['newest_alone']
        console.print(kept_table(f'{n} pairs of {frames} frames', found))
        console.print(
            f'newest frames equal: {alone["equal"]:.1%}; told by the nearest other newest frame: '
            f'{alone["nearest"]:.1%} (chance is 50 %)', highlight=False)
        for share, said in found['answers'].items():
            console.print(
                f'{result["model"]}, {float(share):.0%} of the tokens: told apart '
                f'{said["told_apart"]:.2f}, the wrong way {said["wrong_way"]:.2f}; level of '
                f'hazard / twin {said["hazard_level"]:.2f} / {said["twin_level"]:.2f}, object '
                f'{said["hazard_object"]:.2f} / {said["twin_object"]:.2f}', highlight=False)
        if found['by_key']:
            console.print(key_table(f'{frames} frames, {found["answered"]} pairs answered',
                                    found['by_key']))
    return result


def key_table(title: str, by_key: dict[str, Any]) -> Table:
    """Return what is right in answers by what is taken as the key frame."""
    from rich.table import Table

    from vts_ros.lab.evaluation.generated_page import between

    table = Table(title=f'{title}: by the key frame, in percent')
    for column in ('tokens', 'key frame', 'level is right', 'told apart', 'learned is ahead by'):
        table.add_column(column)
    for share, keys in by_key.items():
        for name, found in keys.items():
            table.add_row(f'{float(share):.0%}', name,
                          between(found['level'], found['level_ci'], '.0f'),
                          between(found['told_apart'], found['told_apart_ci'], '.0f'),
                          '' if name == 'learned' else
                          between(found['ahead'], found['ahead_ci'], '+.0f'))
    return table


def kept_table(title: str, found: dict[str, Any]) -> Table:
    """Return what each method keeps of what tells, at every budget."""
    from rich.table import Table

    table = Table(title=f'{title}: kept of what tells, in some frame / in the last')
    table.add_column('method')
    for share in found['kept']:
        table.add_column(f'{float(share):.0%}', justify='right', no_wrap=True)
    for method in next(iter(found['kept'].values())):
        table.add_row(method, *(f'{cells[method]["ever"]:.2f} / {cells[method]["last"]:.2f}'
                                for cells in found['kept'].values()))
    return table


def write_memory_page(result: dict[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write the page about windows that need the past."""
    from vts_ros.lab.evaluation.memory_page import write_memory

    return write_memory(result, run, folder)
