# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, and how they are read."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

BAG_HELP = 'Recording of ROS 2 or ROS 1: its directory, or its .mcap, .db3 or .bag file.'
ModelOption = Annotated[str, typer.Option(
    help='Language model: shipped name, checkpoint directory, or hub id in the local cache.')]
AudioOption = Annotated[str, typer.Option(
    help='Sound to listen to: a WAV file that begins with the first picture, a topic of the bag, '
         'or "track" for the sound of the video.', show_default=False)]
DeviceOption = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
ModeOption = Annotated[Literal['window', 'causal'], typer.Option(
    help='window: choose tokens anew in every window; causal: choose and prefill the tokens of a '
         'frame once, on arrival.')]
TokensPerFrameOption = Annotated[int, typer.Option(
    min=0, max=16384, metavar='N', help='Most visual tokens of a frame before pruning: larger '
    'pictures are scaled down where the model takes pictures of any size; 0: as its image '
    'processor says.')]
FramesAsOption = Annotated[Literal['images', 'video'], typer.Option(
    help='video: frames are steps of a video; with Qwen two share the tokens of one picture.')]
BudgetsOption = Annotated[str, typer.Option(
    help='Shares of the visual tokens to compare with all of them.')]
JsonOption = Annotated[bool, typer.Option(
    '--json', help='Print one JSON object on the last line.')]


def token_share(text: str) -> float:
    """Return a share of the visual tokens; zero is none, it would be an answer about nothing."""
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise typer.BadParameter(f'{share:g} is not above 0 and at most 1')
    return share


def token_shares(text: str) -> list[float]:
    """Return the shares in a list with commas, each once, in their order."""
    return list(dict.fromkeys(token_share(share) for share in text.split(',') if share.strip()))


def picture_sizes(texts: list[str], cameras: int) -> list[tuple[int, int]]:
    """Return width and height of the pictures of each camera."""
    import re

    for text in texts:
        if not re.fullmatch(r'[1-9]\d{1,4}x[1-9]\d{1,4}', text):
            raise typer.BadParameter(f'{text!r} is no size of a picture, expected one such as '
                                     '1920x1080')
    if len(texts) > 1 and cameras not in (1, len(texts)):
        raise typer.BadParameter(f'--camera is given {len(texts)} times for {cameras} cameras')
    sizes = [(int(width), int(height)) for width, height in (text.split('x') for text in texts)]
    return sizes if len(sizes) > 1 else sizes * cameras


def token_grids(text: str, sizes: list[tuple[int, int]], model: str) -> list[tuple[int, int]]:
    """Return the token grid that was given, or those of the model for the sizes."""
    import re

    if re.fullmatch(r'[1-9]\d{0,2}x[1-9]\d{0,2}', text):
        rows, columns = map(int, text.split('x'))
        return [(rows, columns)]
    if text:
        raise typer.BadParameter(f'{text!r} is no grid, expected rows and columns such as 4x7')
    from vts_ros.paths import checkpoint
    from vts_ros.vlm import Vlm

    vlm = Vlm.load(checkpoint(model), device='cpu')
    return list(dict.fromkeys(vlm.token_grid(*size) for size in sizes))
