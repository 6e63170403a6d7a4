# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import ModelOption, token_grids
from vts_ros.tools.cli.terminal import comparison_table

if TYPE_CHECKING:
    from rich.console import Console

    from vts_ros.engines.engine_cache import EngineCache

app = typer.Typer()


@app.command('compile', epilog='Example: [bold]vts compile --target sm86 --target sm89[/bold]; '
                               '[bold]vts compile --precision int8 --calibrate my_drive[/bold].')
def compile_(
    target: Annotated[list[str] | None, typer.Option(
        help='GPU: current, or a compute capability such as sm86, sm89, sm120. May be given '
             'several times; anything but current takes TensorRT-RTX. Default: current.',
        show_default=False)] = None,
    backend: Annotated[str, typer.Option(
        help='tensorrt, tensorrt_rtx, or auto for what fits the target.')] = 'auto',
    precision: Annotated[Literal['fp32', 'fp16', 'int8'], typer.Option(
        help='Of the proposal network; the window step always computes in fp32.')] = 'fp32',
    size: Annotated[list[str] | None, typer.Option(
        help='Width and height of the pictures; may be given several times. Default: 848x480.',
        show_default=False)] = None,
    batch: Annotated[int, typer.Option(
        min=1, max=64, help='Pictures that are looked at together, one per camera.')] = 1,
    frames: Annotated[int, typer.Option(
        min=1, help='Frames of the largest window, all cameras together.')] = 5,
    grid: Annotated[str, typer.Option(
        help='Rows and columns of visual tokens per frame, such as 4x7. Default: what the model '
             'makes of the sizes.', show_default=False)] = '',
    model: ModelOption = 'embedded',
    calibrate: Annotated[list[Path] | None, typer.Option(
        help='Recorded drive whose pictures calibrate int8; may be given several times.',
        show_default=False)] = None,
    eval_windows: Annotated[int, typer.Option(
        min=0, help='Rendered windows on which answers are compared with fp32 too; some '
                    'seconds each.')] = 0,
    cache: Annotated[Path | None, typer.Option(
        help='Folder of the engines. Default: where the node looks.', show_default=False)] = None,
) -> None:
    """Build the engines of the proposal network and of the window step ahead of the drive."""
    from rich.console import Console

    from vts_ros.engines.engine_cache import EngineCache
    from vts_ros.sparsify.compiled_steps import picture_size
    from vts_ros.sparsify.selector import SEARCH_RADIUS
    from vts_ros.tools.engine_builder import calibrate as make_int8
    from vts_ros.tools.engine_builder import compile_engines, compiler

    _log_engines()
    console = Console()
    engines = EngineCache(cache)
    sizes = [picture_size(text) for text in size or ['']]
    grids = token_grids(grid, sizes, model)
    if calibrate and precision != 'int8':
        raise typer.BadParameter('--calibrate is about --precision int8')
    if calibrate:
        with console.status('calibrating'):
            made = make_int8(calibrate, engines)
        console.print(f'calibrated {made}', highlight=False, markup=False, soft_wrap=True)
    for gpu in target or ['current']:
        library = compiler(backend, gpu)
        for built in compile_engines(
                library, gpu, precision, engines, sizes=sizes, batch=batch, frames=frames,
                grids=grids, search_radius=SEARCH_RADIUS):
            console.print(
                f'{"found" if built.hit else "built"} {built.key.graph} {built.key.target} '
                f'{built.key.precision} {built.path.stat().st_size * 1e-6:.1f} MB: {built.path}',
                highlight=False, markup=False, soft_wrap=True)
    if precision != 'fp32':
        _print_change(console, precision, engines, calibrate or [], frames, grids[0])
    if precision != 'fp32' and eval_windows:
        from vts_ros.lab.evaluation.engine_precision import quality

        console.print(comparison_table(f'{eval_windows} rendered windows, 60 % of the tokens',
                                        quality(precision, model, eval_windows, engines)))


def _print_change(console: Console, precision: Literal['fp16', 'int8'], cache: EngineCache,
                  bags: list[Path], frames: int, grid: tuple[int, int]) -> None:
    """Print how keep lists change against FP32, on the windows of the bags or rendered ones."""
    from itertools import chain

    from vts_ros.lab.evaluation.engine_precision import compare, rendered_windows
    from vts_ros.tools.bag_frames import read_windows

    recorded = chain.from_iterable(read_windows(bag, frames) for bag in bags)
    with console.status('comparing keep lists with fp32'):
        change = compare(precision, cache, recorded if bags else rendered_windows(), grid)
    console.print(
        f'{precision} against fp32 on {change.windows} '
        f'{"windows of the bags" if bags else "rendered windows"}: '
        f'{change.same_tokens:.1%} of the kept tokens are the same, the key frame in '
        f'{change.same_keys} of {change.windows}', highlight=False, markup=False, soft_wrap=True)


def _log_engines() -> None:
    """Show what the engines log: builds take long, and nobody should wonder."""
    import logging

    logger = logging.getLogger('vts_ros.engines')
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(message)s'))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
