# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands on drives: ``annotate``, ``render`` and ``replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TYPE_CHECKING

import typer

from vts_ros.cli.options import DeviceOption, ModeOption, token_share
from vts_ros.cli.terminal import answer_head, answer_row, results

if TYPE_CHECKING:
    from vts_ros.report import SceneReport
    from vts_ros.scenes.types import WindowTruth

app = typer.Typer()

BAG_HELP = 'rosbag2 recording: its directory, or its .mcap or .db3 file.'
ServedPanel = 'Language model on a server'
DraftOption = Annotated[bool, typer.Option(
    '--draft', help='Guess answers from the last one: the same answers, sooner.')]


@app.command(epilog='Example: [bold]vts annotate --bag my_drive --out result --every 2[/bold], '
                    'then open result/report.html.')
def annotate(
    bag: Annotated[Path, typer.Option('--bag', help=BAG_HELP, show_default=False)],
    out: Annotated[Path, typer.Option(help='Folder for the results.')] = Path('annotated'),
    model: Annotated[str, typer.Option('--model', '--vlm', help=(
        'Language model: shipped name, checkpoint directory, or hub id in the local cache; with '
        '--backend openai its name on the server.'))] = 'embedded',
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE',
        help='Share of the visual tokens that the language model sees, up to 1.')] = 0.6,
    topic: Annotated[list[str] | None, typer.Option(
        help='Camera topic; may be given several times. Default: every camera of the bag.',
        show_default=False)] = None,
    every: Annotated[int, typer.Option(min=1, help='Ask at every N-th full window.')] = 1,
    frames: Annotated[int, typer.Option(min=1, help='Frames of a window, per camera.')] = 5,
    interval_sec: Annotated[float, typer.Option(
        min=0.0, help='Time between the frames of a window.')] = 0.4,
    language: Annotated[str, typer.Option(help='Language of the answers.')] = 'en',
    prompts: Annotated[str, typer.Option(
        help='Prompt file of your own, like config/prompts.yaml.', show_default=False)] = '',
    max_new_tokens: Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')] = 160,
    structured: Annotated[bool, typer.Option(
        '--structured', help='Hold answers to their form while they are written; needs '
                             'llguidance.')] = False,
    mode: ModeOption = 'window',
    draft: DraftOption = False,
    device: DeviceOption = 'auto',
    dtype: Annotated[str, typer.Option(
        help='Floats of the model: auto, float32, bfloat16 or float16.')] = 'auto',
    attn_implementation: Annotated[str, typer.Option(
        help='Attention of the model: auto, sdpa, eager or flash_attention_2.')] = 'auto',
    quantization: Annotated[str, typer.Option(
        metavar='JSON', help='Quantise at loading: a quantization_config of transformers.',
        show_default=False)] = '',
    backend: Annotated[Literal['transformers', 'openai'], typer.Option(
        rich_help_panel=ServedPanel,
        help='Where it runs: in this process, or behind a server with the OpenAI protocol.'
        )] = 'transformers',
    url: Annotated[str, typer.Option(
        rich_help_panel=ServedPanel, help='The server; its key is read from OPENAI_API_KEY.'
        )] = 'http://localhost:8000/v1',
    timeout_sec: Annotated[float, typer.Option(
        min=0.1, rich_help_panel=ServedPanel, help='Longest time for an answer.')] = 10.0,
    retries: Annotated[int, typer.Option(
        min=0, rich_help_panel=ServedPanel, help='Repeats when it cannot be reached.')] = 2,
    engine: Annotated[str, typer.Option(
        help='Runtime of the proposal network; auto takes the best there is.')] = 'auto',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
) -> None:
    """
    Explain a recorded drive: video, report page, contact sheet, JSON lines and an annotated bag.

    The way is that of the node, without ROS.
    """
    from rich.console import Console

    from vts_ros.annotate import annotate as run
    from vts_ros.bags import camera_topics
    from vts_ros.frames import FrameBuffer

    console = Console()
    cameras = camera_topics(bag)
    console.print(f'{bag}: ' + ', '.join(
        f'{camera.topic} ({camera.pictures} pictures)' for camera in cameras),
        highlight=False, markup=False)
    with console.status(f'loading {model}'):
        from vts_ros.pipeline import Pipeline, PipelineConfig

        pipeline = Pipeline.load(PipelineConfig(
            model=model, keep_ratio=keep_ratio, language=language, prompts=prompts,
            max_new_tokens=max_new_tokens, structured=structured, device=device, dtype=dtype,
            attn_implementation=attn_implementation, quantization=quantization,
            vlm_backend=backend, url=url, timeout_sec=timeout_sec, retries=retries,
            engine_backend=engine, threads=threads, mode=mode, draft=draft))
    start_ns: list[int] = []

    def progress(report: SceneReport) -> None:
        if not start_ns:
            console.print(answer_head())
            start_ns.append(report.frames[0].stamp)
        console.print(answer_row(report, start_ns[0]))

    summary = run(bag, out, pipeline, topics=topic, every=every, progress=progress,
                  buffer=FrameBuffer(frames, interval_sec))
    console.print(results(summary), highlight=False, markup=False)


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
) -> None:
    """Render driving scenes with hazards and their ground truth."""
    if out.exists():
        raise FileExistsError(f'{out} exists already')
    if out.suffix == '.png':
        _render_sheet(out, seed, scenes)
    elif out.suffix == '.gif':
        _render_film(out, seed, family)
    else:
        from vts_ros.scenes.clips import write_bag
        from vts_ros.scenes.drive import make_drive

        write_bag(out, make_drive(seed))
    typer.echo(out)


def _true_report(truth: WindowTruth, stamp_ns: int) -> SceneReport:
    """Return the truth in the form of an answer that has seen everything."""
    import numpy as np

    from vts_ros.report import FrameRef, KeyFrame, SceneReport
    from vts_ros.scenes.language import answer

    return SceneReport(
        stamp=stamp_ns, frames=(FrameRef(truth.family, stamp_ns),),
        key_frame=KeyFrame(truth.family, stamp_ns, 0),
        answer=answer(truth, np.random.default_rng(truth.seed)), keep=(0,), grid=(1, 1))


def _render_sheet(out: Path, seed: int, count: int) -> None:
    from vts_ros import visuals
    from vts_ros.scenes.clips import balanced_scenes, render

    pictures, reports = [], []
    for scene in balanced_scenes('train', count, first=seed):
        clip = render(scene, 480, 270)
        pictures.append(clip.frames[-1])
        reports.append(_true_report(clip.window_truth(), 0))
    sheet = visuals.contact_sheet(
        pictures, reports, [report.frames[0].camera for report in reports], 'Rendered scenes',
        'The newest frame of each scene, with what is really the risk and why.')
    out.write_bytes(visuals.encode(sheet, '.png'))


def _render_film(out: Path, seed: int, family: str | None) -> None:
    from PIL import Image

    from vts_ros import visuals
    from vts_ros.scenes.clips import make_scene, render

    clip = render(make_scene(seed, family, frames=20), 960, 540)
    films = []
    for index in range(4, len(clip.frames)):
        stamp_ns = clip.truths[index].stamp_ns
        report = _true_report(clip.window_truth(index), stamp_ns)
        drawn = visuals.overlay(clip.frames[index], report, start_ns=clip.truths[0].stamp_ns)
        films.append(Image.fromarray(drawn).resize((640, 505)))
    films[0].save(out, save_all=True, append_images=films[1:], loop=0,
                  duration=round(1000 * clip.interval_sec))


@app.command(epilog='Example: [bold]vts replay drive --clock --rate 0.5[/bold], beside '
                    '[bold]ros2 launch vts_ros vts.launch.py use_sim_time:=true[/bold].')
def replay(
    bag: Annotated[Path, typer.Argument(help=BAG_HELP, show_default=False)],
    rate: Annotated[float, typer.Option(min=0.01, help='Speed; 1 is that of the drive.')] = 1.0,
    loop: Annotated[bool, typer.Option('--loop', help='Start again at the end.')] = False,
    clock: Annotated[bool, typer.Option(
        '--clock', help='Publish the time of the drive, for nodes with use_sim_time.')] = False,
    topic_prefix: Annotated[str, typer.Option(help='Put before every topic.')] = '',
    wait_sec: Annotated[float, typer.Option(
        min=0.0, help='How long to wait for somebody who listens.')] = 10.0,
) -> None:
    """
    Publish the pictures of a recorded drive on ROS topics, at its pace.

    Their calibration goes with them, and the truth of a rendered drive; no other topic does.
    """
    from vts_ros.nodes.replay import replay_bag

    replay_bag(bag, rate=rate, loop=loop, clock=clock, topic_prefix=topic_prefix,
               wait_sec=wait_sec)
