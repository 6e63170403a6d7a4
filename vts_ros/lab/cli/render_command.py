# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog='Example: [bold]vts render drive[/bold], then vts annotate --bag drive; '
                    '[bold]vts render scenes.png[/bold] shows a dozen.')
def render(
    out: Annotated[Path, typer.Argument(
        help='A new bag with a drive; or a picture (.png) of scenes, or a film (.gif) of one.',
        show_default=False)],
    seed: Annotated[int, typer.Option(help='The same seed gives the same scenes.')] = 0,
    scenes: Annotated[int, typer.Option(min=1, help='Scenes in the picture.')] = 12,
    family: Annotated[str | None, typer.Option(
        help='Kind of hazard in the film, such as "cut-in".', show_default=False)] = None,
    cameras: Annotated[int, typer.Option(
        min=1, max=3, help='Cameras of the drive: ahead, to the left, to the right.')] = 1,
) -> None:
    """Render driving scenes with hazards and their ground truth."""
    if out.exists():
        raise FileExistsError(f'{out} exists already')
    if out.suffix == '.png':
        _render_sheet(out, seed, scenes)
    elif out.suffix == '.gif':
        _render_film(out, seed, family)
    else:
        from vts_ros.lab.scenes.drive import make_drive
        from vts_ros.lab.scenes.scene_bag import write_bag
        from vts_ros.lab.scenes.several_cameras import CAMERAS

        write_bag(out, make_drive(seed), cameras=CAMERAS[:cameras])
    typer.echo(out)


def _render_sheet(out: Path, seed: int, count: int) -> None:
    from vts_ros.lab.scenes.clips import balanced_scenes, render
    from vts_ros.lab.true_report import true_report
    from vts_ros.tools.contact_sheet import contact_sheet
    from vts_ros.tools.pictures import encode

    pictures, reports = [], []
    for scene in balanced_scenes('train', count, first=seed):
        clip = render(scene, 480, 270)
        pictures.append(clip.frames[-1])
        reports.append(true_report(clip.window_truth(), 0))
    sheet = contact_sheet(
        pictures, reports, [report.frames[0].camera for report in reports], 'Rendered scenes',
        'The newest frame of each scene, with what is really the risk and why.')
    out.write_bytes(encode(sheet, '.png'))


def _render_film(out: Path, seed: int, family: str | None) -> None:
    from PIL import Image

    from vts_ros.lab.scenes.clips import make_scene, render
    from vts_ros.lab.true_report import true_report
    from vts_ros.tools.overlay_picture import overlay

    clip = render(make_scene(seed, family, frames=20), 960, 540)
    films = []
    for index in range(4, len(clip.frames)):
        stamp_ns = clip.truths[index].stamp_ns
        report = true_report(clip.window_truth(index), stamp_ns)
        drawn = overlay(clip.frames[index], report, start_ns=clip.truths[0].stamp_ns)
        films.append(Image.fromarray(drawn).resize((640, 505)))
    films[0].save(out, save_all=True, append_images=films[1:], loop=0,
                  duration=round(1000 * clip.interval_sec))
