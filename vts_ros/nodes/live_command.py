# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``live``: here, as pictures may come from topics of ROS."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from pathlib import Path
from typing import Annotated, Any, TYPE_CHECKING

import typer

from vts_ros.errors import VtsError
from vts_ros.pipeline.settings import pipeline_config, SETTINGS
from vts_ros.tools.cli.options import AudioOption, BAG_HELP
from vts_ros.tools.cli.setting_options import option_names, with_settings

if TYPE_CHECKING:
    from vts_ros.pipeline.frames import FrameBuffer
    from vts_ros.tools.live.live_hub import Answerer, Hub
    from vts_ros.tools.live.live_server import LiveServer
    from vts_ros.tools.live.live_sources import Source

app = typer.Typer()
HERE = '127.0.0.1'


@app.command(epilog='Example: [bold]vts live --video dashcam.mp4 --loop[/bold], or [bold]vts live '
                    '--bag drive[/bold], then open http://localhost:8090.')
@with_settings(SETTINGS)
def live(
    address: Annotated[str | None, typer.Argument(
        help='Address of a stream, such as rtsp://camera/live.', show_default=False)] = None,
    bag: Annotated[Path | None, typer.Option(help=BAG_HELP, show_default=False)] = None,
    video: Annotated[Path | None, typer.Option(
        help='Video, such as that of a dashcam.', show_default=False)] = None,
    camera: Annotated[int | None, typer.Option(
        min=0, help='Camera of this machine, by its number.', show_default=False)] = None,
    topic: Annotated[list[str] | None, typer.Option(
        help='Camera topic of ROS, or of the bag; may be given several times.',
        show_default=False)] = None,
    node: Annotated[str, typer.Option(
        help='With --topic of ROS: the node whose answers are shown where it runs; where none '
             'runs, this program answers itself.')] = '/vts_node',
    loop: Annotated[bool, typer.Option(
        '--loop', help='Start a recording again at its end.')] = False,
    also_model: Annotated[list[str] | None, typer.Option(
        help='Model that the page may change to; may be given several times.',
        show_default=False)] = None,
    host: Annotated[str, typer.Option(
        help='Where to listen. Anything but this machine shows the pictures to whoever reaches '
             'it, and lets them ask.')] = HERE,
    port: Annotated[int, typer.Option(min=0, max=65535, help='0 takes one that is free.')] = 8090,
    audio: AudioOption = '',
    *,
    settings: Mapping[str, Any],
) -> None:
    """
    Show a drive in the browser while it is driven or played: pictures, risk, reasons, questions.

    The page is served to this machine alone, and loads nothing from elsewhere.
    """
    given = [name for name, value in (('ADDRESS', address), ('--bag', bag), ('--video', video),
                                      ('--camera', camera)) if value is not None]
    if len(given) > 1 or not (given or topic):
        raise typer.BadParameter('give one of --bag, --video, --camera, --topic or an address')
    if topic and given and bag is None:
        raise typer.BadParameter(f'--topic does not go with {given[0]}')
    senses = [name for name, value in (
        ('--tell-vehicle', settings['vlm.tell_vehicle']),
        ('--evidence', settings['signals.evidence']), ('--audio', audio)) if value]
    if senses and bag is None and video is None:
        raise typer.BadParameter(f'{senses[0]} goes with a recording (--bag, --video); a node has '
                                 'parameters for it')
    from vts_ros.pipeline.frames import FrameBuffer
    from vts_ros.tools.live.live_hub import Hub
    from vts_ros.tools.live.live_server import is_loopback, LiveServer

    logging.basicConfig(format='%(levelname)s: %(message)s')
    hub = Hub({'is_open_to_others': not is_loopback(host)})
    # What is wrong with the address is told before anything large is loaded.
    server = LiveServer(hub, host, port)
    buffer = FrameBuffer(*(settings[f'buffer.{name}']
                           for name in ('frames', 'interval_sec', 'max_skew_sec')))
    if topic and not given:
        from vts_ros.nodes.live_topics import open_topics

        with open_topics(topic, node) as topics:
            answers = topics.answers_of_node(hub, also_model or [])
            if answers is not None:
                _tell_unused(topics.reporter, settings)
            _serve(server, answers or _pipeline(hub, topics, settings, buffer, also_model or []))
        return
    source = _source(address, bag, video, camera, topic, loop, settings, audio)
    _serve(server, _pipeline(hub, source, settings, buffer, also_model or []))


def _tell_unused(node: str, settings: Mapping[str, Any]) -> None:
    given = [option_names(setting)[0] for setting in SETTINGS
             if settings[setting.name] != setting.default]
    if given:
        typer.echo(f'{node} runs and answers with its own parameters; not used: '
                   f'{", ".join(given)}', err=True)


def _source(address: str | None, bag: Path | None, video: Path | None, camera: int | None,
            topics: list[str] | None, loop: bool, settings: Mapping[str, Any],
            audio: str) -> Source:
    from vts_ros.tools.bag_signals import SignalUse
    from vts_ros.tools.live.live_sources import Recording, Stream, WebCamera
    from vts_ros.tools.recorded_senses import SoundUse
    from vts_ros.tools.videos import is_stream

    signals = SignalUse(tuple(settings['signals.topics']), settings['vlm.tell_vehicle'],
                        settings['signals.evidence'])
    sound = SoundUse(audio, settings['audio.budget'], settings['audio.tell'])
    if bag is not None:
        return Recording.bag(bag, topics, loop, signals, sound)
    if video is not None:
        return Recording.video(video, loop, signals, sound)
    if camera is not None:
        return WebCamera(camera)
    assert address is not None
    if not is_stream(address):
        raise VtsError(f'{address} is no address of a stream; files go to --video or --bag')
    return Stream(address)


def _pipeline(hub: Hub, source: Source, settings: Mapping[str, Any], buffer: FrameBuffer,
              models: list[str]) -> Answerer:
    from rich.console import Console

    with Console(stderr=True).status(f'loading {settings["vlm.model"]}'):
        from vts_ros.pipeline.pipeline import Pipeline
        from vts_ros.tools.live.live_pipeline import LivePipeline

        pipeline = Pipeline.load(pipeline_config(settings))
    answerer = LivePipeline(hub, source, pipeline, buffer, models)
    answerer.start()
    return answerer


def _serve(server: LiveServer, answerer: Answerer) -> None:
    from vts_ros.tools.live.live_server import is_loopback

    if not is_loopback(server.host):
        typer.echo(f'listening at {server.host}: whoever reaches this machine sees the pictures, '
                   'asks and changes settings', err=True)
    typer.echo(f'open {server.address} (Ctrl-C ends)')
    try:
        server.run(answerer)
    finally:
        answerer.close()
