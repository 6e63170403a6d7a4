# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``annotate``."""

from __future__ import annotations

from collections.abc import Mapping
import io
from pathlib import Path
import sys
from typing import Annotated, Any, TYPE_CHECKING

import typer

from vts_ros.pipeline.settings import pipeline_config, SETTINGS
from vts_ros.tools.cli.options import AudioOption, BAG_HELP
from vts_ros.tools.cli.setting_options import with_settings
from vts_ros.tools.cli.terminal import answer_head, answer_row, results

if TYPE_CHECKING:
    from vts_ros.pipeline.report import SceneReport

app = typer.Typer()

@app.command(epilog='Example: [bold]vts annotate --bag my_drive --out result --every 2[/bold], or '
                    '[bold]vts annotate --video dashcam.mp4[/bold], then open result/report.html.')
@with_settings(SETTINGS)
def annotate(
    bag: Annotated[Path | None, typer.Option(help=BAG_HELP, show_default=False)] = None,
    video: Annotated[Path | None, typer.Option(
        help='A video instead, such as that of a dashcam; it gets no annotated bag.',
        show_default=False)] = None,
    out: Annotated[Path, typer.Option(help='Folder for the results.')] = Path('annotated'),
    topic: Annotated[list[str] | None, typer.Option(
        help='Camera topic; may be given several times. Default: every camera of the bag.',
        show_default=False)] = None,
    every: Annotated[int, typer.Option(min=1, help='Ask at every N-th full window.')] = 1,
    audio: AudioOption = '',
    *,
    settings: Mapping[str, Any],
) -> None:
    """
    Explain a recorded drive: video, report page, contact sheet, JSON lines and an annotated bag.

    Same pipeline as the node, with the same settings, without ROS.
    """
    from rich.console import Console

    from vts_ros.pipeline.frames import FrameBuffer
    from vts_ros.tools.camera_topics import camera_topics
    from vts_ros.tools.videos import video_info

    if (bag is None) == (video is None):
        raise typer.BadParameter('give either --bag or --video')
    if video and topic:
        raise typer.BadParameter('--topic is for bags; a video has one camera')
    for stream in (sys.stdout, sys.stderr):
        # A console that is not UTF-8 has no signs for many languages of the answers.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='replace')
    console = Console()

    def say(*what: Any) -> None:
        # The results are files: a pipe that nobody reads any more does not end their making.
        try:
            console.print(*what, highlight=False, markup=False)
        except (OSError, SystemExit):
            return

    source = bag or video
    assert source
    say(f'{source}: ' + ', '.join(
        f'{camera.topic} ({camera.pictures} pictures)' for camera in camera_topics(source)
    ) if bag else f'{source}: ' + ', '.join(video_info(source).values()))
    with console.status(f'loading {settings["vlm.model"]}'):
        from vts_ros.pipeline.pipeline import Pipeline
        from vts_ros.tools.annotate import annotate as run

        pipeline = Pipeline.load(pipeline_config(settings))
    start_ns: list[int] = []

    def progress(report: SceneReport) -> None:
        if not start_ns:
            say(answer_head())
            start_ns.append(report.frames[0].stamp)
        say(answer_row(report, start_ns[0]))

    summary = run(source, out, pipeline, topics=topic, every=every, progress=progress,
                  signals=settings['signals.topics'], tell_vehicle=settings['vlm.tell_vehicle'],
                  evidence=settings['signals.evidence'], audio=audio,
                  moves_tokens=settings['audio.budget'], is_told=settings['audio.tell'],
                  buffer=FrameBuffer(*(
                      settings[f'buffer.{name}']
                      for name in ('frames', 'interval_sec', 'max_skew_sec'))))
    say(results(summary))
