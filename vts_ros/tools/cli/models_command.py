# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``models``."""

from __future__ import annotations

from typing import Annotated, Any, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import (
    DeviceOption,
    FramesAsOption,
    JsonOption,
    picture_sizes,
    token_share,
    TokensPerFrameOption,
)

if TYPE_CHECKING:
    from rich.table import Table

    from vts_ros.pipeline.cost import Cost

app = typer.Typer()


@app.command(epilog='Example: [bold]vts models --explain /models/Qwen3-VL-4B-Instruct '
                    '--camera 1920x1080 --cameras 3[/bold].')
def models(
    explain: Annotated[str, typer.Option(
        '--explain', metavar='CHECKPOINT', help='Tell what this one costs: shipped name, '
        'checkpoint directory, or hub id in the local cache. Its weights need not be there.',
        show_default=False)] = '',
    camera: Annotated[list[str] | None, typer.Option(
        metavar='SIZE', help='Width and height of the pictures; once for each camera where they '
                             'differ.', show_default='1280x720')] = None,
    cameras: Annotated[int, typer.Option(
        min=1, help='How many cameras, where all have the same size.')] = 1,
    frames: Annotated[int, typer.Option(min=1, help='Frames of a window, per camera.')] = 5,
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE',
        help='Share of the visual tokens that the language model sees, up to 1.')] = 0.6,
    tokens_per_frame: TokensPerFrameOption = 256,
    frames_as: FramesAsOption = 'images',
    device: DeviceOption = 'auto',
    dtype: Annotated[str, typer.Option(
        help='Floats of the model: auto, float32, bfloat16 or float16.')] = 'auto',
    quantization: Annotated[str, typer.Option(
        metavar='JSON', help='Quantised at loading: a quantization_config of transformers.',
        show_default=False)] = '',
    memory_gb: Annotated[float | None, typer.Option(
        min=0.1, help='Memory of the device that it is for, in 10^9 bytes; by default that of '
                      'this computer.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """
    List the supported families of models, or tell what a checkpoint costs before it is loaded.

    Read are its settings alone: config.json, tokenizer and image processor.
    """
    import json

    from rich.console import Console

    console = Console(stderr=as_json)
    if not explain:
        rows = families()
        console.print(family_table(rows))
        if as_json:
            typer.echo(json.dumps({'families': rows}))
        return
    from vts_ros.pipeline.config import PipelineConfig
    from vts_ros.pipeline.cost import explain as cost_of
    from vts_ros.pipeline.factory import quantization_settings

    sizes = picture_sizes(camera or ['1280x720'], cameras)
    cost = cost_of(
        explain, sizes,
        PipelineConfig(keep_ratio=keep_ratio, tokens_per_frame=tokens_per_frame, device=device,
                       dtype=dtype, frames_as=frames_as),
        frames, None if memory_gb is None else round(1e9 * memory_gb),
        quantization_settings(quantization))
    console.print(cost_table(cost))
    if as_json:
        typer.echo(json.dumps(cost.to_dict()))


def families() -> list[dict[str, str]]:
    """Return the supported families, and the oldest transformers for each."""
    from vts_ros.vlm.compatibility import LATER, MINIMUM_TRANSFORMERS
    from vts_ros.vlm.families import FAMILIES

    return [{'model_type': name, 'transformers': LATER.get(name, MINIMUM_TRANSFORMERS)}
            for name in sorted(FAMILIES)]


def family_table(rows: list[dict[str, str]]) -> Table:
    """Return the families as a table."""
    from rich.table import Table

    table = Table(title='Supported checkpoints', caption='model_type is in config.json; '
                  'vts models --explain CHECKPOINT tells what one costs')
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*row.values())
    return table


def cost_table(cost: Cost) -> Table:
    """Return the cost of a checkpoint as a table of two columns."""
    from rich.table import Table

    table = Table(title=f'{cost.model} ({cost.family})', show_header=False)
    for name, text in cost_rows(cost):
        table.add_row(name, text)
    return table


def cost_rows(cost: Cost) -> list[tuple[str, str]]:
    """Return names and values of :func:`cost_table`."""
    import itertools

    from vts_ros.pipeline.cost import readable, size

    rows: list[tuple[str, Any]] = [('parameters', f'{cost.parameters / 1e9:.2f} * 10^9')]
    number = 0
    for camera, alike in itertools.groupby(cost.cameras):
        first, number = number + 1, number + len(list(alike))
        text = (f'{size(camera.picture)} px, used at {size(camera.used)} px: '
                f'{camera.grid[0]} x {camera.grid[1]} = {camera.tokens} tokens')
        if camera.full_tokens > camera.tokens:
            text += f' ({camera.full_tokens} without vlm.tokens_per_frame)'
        rows.append((f'camera {number}' if first == number else f'cameras {first} to {number}',
                     text))
    weights = ', '.join(f'{name} {readable(count)}' for name, count in cost.weights.items()
                        if name != 'used')
    there = (f'{readable(cost.memory_bytes)} on {cost.device}: '
             f'{"fits" if cost.fits else "does NOT fit"}'
             if cost.memory_bytes else f'no {cost.device} here: give --memory-gb')
    steps = f' in {cost.steps * len(cost.cameras)} steps of a video' \
        if cost.steps < cost.frames else ''
    rows += [
        ('window', f'{cost.frames * len(cost.cameras)} frames{steps}, {cost.visual_tokens} visual '
                   f'tokens, {cost.kept_tokens} kept; {cost.text_tokens} others, such as '
                   'those of text'),
        ('keys and values', f'{readable(cost.kv_bytes)} ({readable(cost.kv_bytes_unpruned)} '
                            f'without pruning), {readable(cost.kv_token_bytes)} per token'),
        ('cached features', readable(cost.feature_bytes)),
        ('weights', f'{readable(cost.weights["used"])} as loaded; {weights}'),
        ('one pass', f'about {readable(cost.pass_bytes)} beside that, '
                     f'{readable(cost.answer_bytes)} for the longest answer'),
        *([('CUDA graphs', f'{readable(cost.graph_bytes)}: memory of a fixed size in which '
                           'answers are written')] if cost.graph_bytes else []),
        ('at most', f'about {readable(cost.peak_bytes)}, without the libraries'),
        ('memory', there)]
    return rows
