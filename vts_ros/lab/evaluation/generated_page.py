# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the generated pages have in common: head, run, intervals, figures, files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
import json
import os
from pathlib import Path
import platform
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
import torch


@dataclass(frozen=True)
class Run:
    """
    Where and how a result was made.

    Attributes
    ----------
    command
        The command line.
    day
        When it was made.
    machine
        Processor, cores and what else decides about the figures.
    seconds
        How long it took.

    """

    command: str
    day: date
    machine: str
    seconds: float


def machine(device: str) -> str:
    """Return the processor, its cores, the threads of PyTorch and the device of the model."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                name = line.partition(':')[2].strip()
                break
    except OSError:
        pass  # not Linux; the name of the platform will do
    cores = os.cpu_count() or 1
    return (f'{name}, {cores} {"core" if cores == 1 else "cores"}, '
            f'{torch.get_num_threads()} of them used by PyTorch, model on {device}')


def head(title: str, run: Run, about: str = '') -> Iterator[str]:
    """Yield title, what the page is, and the command that made it."""
    yield f'# {title}\n'
    yield f'Made by the command below; do not edit.{about}\n'
    yield f'    {run.command}\n'


def day_and_machine(run: Run, with_time: bool = False) -> str:
    """Return when and where it was made, and how long it took if that is asked for."""
    took = f'; {run.seconds / 60.0:.0f} minutes for everything' if with_time else ''
    return f'{run.day.isoformat()}; {run.machine}{took}.'


def write_text(path: Path, lines: Iterable[str]) -> Path:
    """Write a page; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def write_section(path: Path, name: str, lines: Iterable[str]) -> Path:
    """
    Write a section of a page of which the rest is written by hand.

    It stands between ``<!-- name: made by the command below -->`` and ``<!-- end of name -->``.

    Raises
    ------
    ValueError
        If the page has no such place.

    """
    text = path.read_text(encoding='utf-8')
    begin, end = f'<!-- {name}: made by the command below -->', f'<!-- end of {name} -->'
    head, found, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f'{path} has no place for {name}, from {begin} to {end}')
    path.write_text('\n'.join((head + begin, *lines, end + tail)), encoding='utf-8')
    return path


def write_data(path: Path, result: Mapping[str, Any], run: Run, **about: Any) -> Path:
    """Write what a page is made of, so that it can be checked and drawn again."""
    data = {'run': {**asdict(run), 'day': run.day.isoformat()}, **about, 'result': result}
    path.write_text(json.dumps(data, indent=1) + '\n', encoding='utf-8')
    return path


def read_data(path: Path) -> tuple[dict[str, Any], Run]:
    """Return result and run of a page that was written before."""
    data = json.loads(path.read_text(encoding='utf-8'))
    run = data['run']
    return data['result'], Run(**{**run, 'day': date.fromisoformat(run['day'])})


def between(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    """Return a share in percent with its interval in brackets."""
    if value is None:
        return '-'
    text = f'{100.0 * value:{form}}'
    if interval is None:
        return text
    return f'{text} [{100.0 * interval[0]:{form}}, {100.0 * interval[1]:{form}}]'


def place(interval: Sequence[float] | None) -> str:
    """Return whether something is ahead, by the interval of the difference."""
    if interval is None:
        return ''
    return 'first' if interval[0] > 0.0 else 'behind' if interval[1] < 0.0 else 'within noise'


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), dpi=110, layout='constrained', facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def plain_axis(axis: Axes) -> None:
    """Give an axis a light grid behind what is drawn, and no frame at the top and right."""
    axis.grid(color='0.92')
    axis.set_axisbelow(True)
    axis.spines[['top', 'right']].set_visible(False)


def style(axis: Axes, shares: Iterable[float]) -> None:
    """Give an axis of quality over budget its grid, percents and ticks."""
    plain_axis(axis)
    # No steps of 2.5, which need a decimal.
    axis.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_formatter(lambda value, position: f'{100.0 * value:g}%')
    axis.set_xticks(sorted(shares), [f'{share:.0%}' for share in sorted(shares)])
