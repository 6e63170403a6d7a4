# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``fleet scale``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import JsonOption
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()
#: Page and section that the command writes.
PAGE, SECTION, DATA = 'fleet.md', 'scale', 'fleet_scale.json'

AssumedPanel = 'Assumed, for the computed table'


@app.command('scale', epilog='Example: [bold]vts fleet scale --report docs[/bold] on a machine '
                             'that does nothing else; with --drives 24 --rounds 1 --tiny 20 '
                             '--tiny 60 it only shows that it works.')
def scale(
    out: Annotated[Path, typer.Option(
        help='Folder for recordings and results; the same folder goes on where the last run '
             'stopped.')] = Path('fleet_scale'),
    drives: Annotated[int, typer.Option(min=1, help='Rendered recordings.')] = 200,
    windows: Annotated[int, typer.Option(min=1, max=4, help='Answers about each.')] = 2,
    rounds: Annotated[int, typer.Option(
        min=1, help='Parts of the recordings that every way has in turn.')] = 2,
    tiny: Annotated[list[int] | None, typer.Option(
        min=1, help='Number of recordings for the memory of the command; given at least twice. '
                    'Default: 200 and 2000.', show_default=False)] = None,
    model: Annotated[str, typer.Option(help='Language model, as in vts fleet annotate.'
                                       )] = 'embedded',
    seed: Annotated[int, typer.Option(min=0, help='Of the first drive.')] = 0,
    gpu_ms: Annotated[list[float] | None, typer.Option(
        rich_help_panel=AssumedPanel, min=0.001, show_default=False,
        help='Time of a GPU for an answer; may be given several times. Default: 1000, 100, 10 '
             'and 1.')] = None,
    gpus: Annotated[int, typer.Option(
        min=1, rich_help_panel=AssumedPanel, help='GPUs of a node.')] = 1,
    cores: Annotated[int, typer.Option(
        min=1, rich_help_panel=AssumedPanel, help='Cores of a node.')] = 8,
    network_gbit: Annotated[float, typer.Option(
        min=0.001, rich_help_panel=AssumedPanel, help='Network of a node, in Gbit/s.')] = 10.0,
    store_gbit: Annotated[float, typer.Option(
        min=0.001, rich_help_panel=AssumedPanel,
        help='Storage that all nodes read from, in Gbit/s.')] = 100.0,
    hours: Annotated[float, typer.Option(
        min=0.001, rich_help_panel=AssumedPanel, help='Driving to be described.')] = 10_000.0,
    recording_min: Annotated[float, typer.Option(
        min=0.001, rich_help_panel=AssumedPanel, help='Minutes of a recording.')] = 15.0,
    gb_per_hour: Annotated[float, typer.Option(
        min=0.001, rich_help_panel=AssumedPanel, help='Size of recordings.')] = 3.6,
    report: Annotated[Path | None, typer.Option(
        help=f'Folder with {PAGE}, in which to write the section.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure answers per second with one and two workers, and the memory of the command.

    From that, and from what is assumed of GPUs and machines that are not here, it computes how
    long a fleet takes on 1, 10 and 100 nodes, and what decides.
    """
    import time

    from vts_ros.errors import VtsError
    from vts_ros.lab.bench.fleet_cost import Driving, Node
    from vts_ros.lab.bench.fleet_scale import measure_scale, ScaleSettings
    from vts_ros.lab.bench.fleet_scale_page import section
    from vts_ros.lab.evaluation.generated_page import write_data, write_section

    counts = tuple(sorted(set(tiny or ScaleSettings.tiny)))
    if len(counts) < 2:
        raise VtsError('give --tiny twice: how the memory grows takes two numbers')
    start_sec = time.monotonic()
    settings = ScaleSettings(drives, windows, rounds, counts, model, seed)
    with progress_bar(as_json) as (console, progress):
        result = measure_scale(out, settings, progress)
    run = this_run('cpu', start_sec)
    lines = list(section(
        result, gpu_ms or (1000.0, 100.0, 10.0, 1.0),
        Node(gpus, cores, network_gbit, store_gbit),
        Driving(hours, 60.0 * recording_min, gb_per_hour), run))
    console.print('\n'.join(lines), highlight=False, markup=False, soft_wrap=True)
    written = [] if report is None else [write_section(report / PAGE, SECTION, lines),
                                         write_data(report / DATA, result, run)]
    finish(console, written, result, as_json)
