# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The options of commands that have a teacher, and the picture that shows what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vts_ros.lab.teacher import Teacher

TeacherOption = Annotated[Path | None, typer.Option(
    help='With --bag: an object detector as ONNX file that finds the road users. Known are the '
         'outputs of YOLOX (raw grids) and of DETR and its kind (boxes and class logits).',
    show_default=False)]
TilesOption = Annotated[bool, typer.Option(
    '--tiles', help='With --teacher: look at three tiles of each picture, too, to find small road '
                    'users; takes four times as long.')]
SpeedOption = Annotated[float, typer.Option(
    min=0.0, help='With --teacher: speed of the car in m/s, which boxes do not tell.')]


def show_teacher(console: Console, teacher: Teacher, recordings: list[Path], cache: Path
                 ) -> None:
    """Draw what a teacher finds, and tell where, before anything is learned or measured by it."""
    shown = teacher.show(recordings, cache)
    console.print(f'what the teacher finds, to be looked at: {shown}', highlight=False,
                  markup=False, soft_wrap=True)
