# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval proposal``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TYPE_CHECKING

import typer

from vts_ros.lab.cli.teacher_options import show_teacher, TeacherOption, TilesOption
from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import (
    BudgetsOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    token_grids,
    token_shares,
)
from vts_ros.tools.cli.terminal import (
    coverage_table,
    finish,
    network_table,
    progress_bar,
    rate_table,
)

if TYPE_CHECKING:
    from vts_ros.lab.teacher import Found

app = typer.Typer()


@app.command('proposal', epilog='Example: [bold]vts eval proposal --proposal '
                                'out/train/models/proposal --json[/bold]; [bold]vts eval '
                                'proposal --against distilled=out/train/models/proposal '
                                '--report docs[/bold] compares the answers, too; [bold]vts '
                                'eval proposal --bag my_drive --teacher detector.onnx '
                                '[/bold] says how much of the road users of a recording is '
                                'kept.')
def eval_proposal(
    proposal: Annotated[Path | None, typer.Option(
        help='Folder with frame.onnx and window.onnx; by default the shipped ones.',
        show_default=False)] = None,
    against: Annotated[list[str] | None, typer.Option(
        '--against', '--network', metavar='[NAME=]FOLDER',
        help='Another network to compare, by the answers at every budget, or with --bag by what '
             'it keeps; may be given several times.', show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the comparison or the recordings, with a '
             'picture.', show_default=False)] = None,
    model: ModelOption = 'embedded',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording to look at instead of rendered windows, or a folder of pictures in the '
             'order of their names, 10 a second; may be given several times. Needs --boxes or '
             '--teacher.', show_default=False)] = None,
    boxes: Annotated[Path | None, typer.Option(
        help='With --bag: boxes of road users, drawn by hand, as JSON: {"recordings": {NAME OF '
             'BAG: {ROAD USER: [[SECOND, LEFT, TOP, RIGHT, BOTTOM], ...]}}}, boxes in shares of '
             'the picture; in between, a road user moves evenly.', show_default=False)] = None,
    teacher: TeacherOption = None,
    tiles: TilesOption = False,
    grid: Annotated[str, typer.Option(
        help='With --bag: rows and columns of visual tokens per frame.')] = '9x16',
    picture: Annotated[bool, typer.Option(
        help='With --bag and --report: show frames of the recordings; not where their licence '
             'forbids it.')] = True,
    budgets: BudgetsOption = '0.8,0.6,0.4,0.2,0.1',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Measure how often the key frame is a good one, and how much of the risk object is kept.

    On rendered windows with known truth; the language model gives the grid of the tokens alone.
    With --against or --report it also answers, with the tokens that each network keeps.

    With --bag, how much of the road users of recordings is kept, beside a fixed ellipse and other
    methods, by light, kind and size; no language model takes part, --split and --n do not count.
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.proposal_recall import find_rate, rendered
    from vts_ros.lab.scenes.model_picture import SHIPPED
    from vts_ros.paths import model_path
    from vts_ros.sparsify import Sparsifier
    from vts_ros.vlm import Vlm

    ratios = token_shares(budgets)
    folder = proposal or model_path('proposal/frame.onnx').parent
    if bool(bag) != bool(boxes or teacher) or (boxes and teacher):
        raise typer.BadParameter('--bag needs --boxes or --teacher, and these need --bag')
    networks = _networks(proposal, folder, against or [])
    if bag:
        _judge(networks, bag, boxes, teacher, tiles, token_grids(grid, [], '')[0], ratios, report,
               picture, as_json)
        return
    if against or report:
        _compare_networks(networks, model, split, n, ratios, device, report, as_json)
        return
    console = Console(stderr=as_json)
    sparsifier = Sparsifier.load(folder)
    tokens = Vlm.load(model_path(model), device='cpu').token_grid(SHIPPED.height, SHIPPED.width)
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=n)
        result = find_rate(
            sparsifier, rendered(sparsifier, split, n, tokens,
                                 lambda windows: bar.advance(task, windows)), tokens, ratios)
    console.print(rate_table(f'{n} windows of {split}', {'': result}))
    if as_json:
        typer.echo(json.dumps({'split': split, 'grid': list(tokens), **result}))


def _networks(proposal: Path | None, folder: Path, against: list[str]) -> dict[str, Path]:
    """Return the folders of the networks to compare, by name."""
    networks = {str(proposal) if proposal else 'shipped': folder}
    for text in against:
        name, _, path = text.rpartition('=')
        if (name or path) in networks:
            raise typer.BadParameter(f'two networks are called {name or path}')
        networks[name or path] = Path(path)
    return networks


def _judge(networks: dict[str, Path], bags: list[Path], boxes: Path | None, teacher: Path | None,
           tiles: bool, grid: tuple[int, int], ratios: list[float], report: Path | None,
           has_picture: bool, as_json: bool) -> None:
    """Show how much of the road users of recordings is kept, and write the page if asked to."""
    import time

    from vts_ros.lab.evaluation import recordings_page as page
    from vts_ros.lab.evaluation.box_coverage import measure_all, saliencies
    from vts_ros.lab.evaluation.drawn_boxes import users_by_hand
    from vts_ros.lab.recordings import check_recordings
    from vts_ros.lab.teacher import CACHE, Teacher

    start_sec = time.monotonic()
    check_recordings(bags)
    with progress_bar(as_json) as (console, progress):
        find: Callable[[Path], Found]
        if teacher:
            finder = Teacher(teacher, tiles)
            show_teacher(console, finder, bags, CACHE)
            find, judge = finder.boxes_of, page.judged_by_teacher(teacher.name, tiles)
        else:
            assert boxes
            find, judge = users_by_hand(boxes, bags), page.JUDGED_BY_HAND
        ways = saliencies(networks, grid, teacher is not None)
        measured, empty = measure_all(bags, find, ways, grid, ratios, progress)
    result = page.summarize([recording.values for recording in measured], list(networks))
    result['empty'] = empty
    console.print(coverage_table(result))
    for sentence in page.leads_in_words(result):
        console.print(sentence, highlight=False, markup=False)
    if empty:
        console.print(f'no road users in {", ".join(empty)}', highlight=False, markup=False)
    written = page.write_recordings(result, measured, ways, judge, grid, this_run(
        'cpu', start_sec), report, has_picture) if report else []
    finish(console, written, result, as_json)


def _compare_networks(networks: dict[str, Path], model: str, split: str, n: int,
                      ratios: list[float], device: str, report: Path | None,
                      as_json: bool) -> None:
    """Compare proposal networks, show what they find, and write the page if there is a folder."""
    import time

    from vts_ros.lab.evaluation.proposal_networks import compare_networks, write_networks
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        result = compare_networks(pipeline, networks, split, n, ratios, progress)
    console.print(network_table(result))
    written = [] if report is None else write_networks(
        result, this_run(pipeline.vlm.info['device'], start_sec), report)
    finish(console, written, result, as_json)
