# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``annotate``."""

from __future__ import annotations

import io
from pathlib import Path
import sys
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.tools.cli.options import (
    BAG_HELP,
    DeviceOption,
    ModeOption,
    token_share,
    TokensPerFrameOption,
)
from vts_ros.tools.cli.terminal import answer_head, answer_row, results

if TYPE_CHECKING:
    from vts_ros.pipeline.report import SceneReport

app = typer.Typer()

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
    tokens_per_frame: TokensPerFrameOption = 256,
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

    from vts_ros.pipeline.frames import FrameBuffer
    from vts_ros.tools.annotate import annotate as run
    from vts_ros.tools.bags import camera_topics

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

    cameras = camera_topics(bag)
    say(f'{bag}: ' + ', '.join(
        f'{camera.topic} ({camera.pictures} pictures)' for camera in cameras))
    with console.status(f'loading {model}'):
        from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

        pipeline = Pipeline.load(PipelineConfig(
            model=model, keep_ratio=keep_ratio, language=language, prompts=prompts,
            max_new_tokens=max_new_tokens, structured=structured, device=device, dtype=dtype,
            attn_implementation=attn_implementation, quantization=quantization,
            vlm_backend=backend, url=url, timeout_sec=timeout_sec, retries=retries,
            engine_backend=engine, threads=threads, mode=mode, draft=draft,
            tokens_per_frame=tokens_per_frame))
    start_ns: list[int] = []

    def progress(report: SceneReport) -> None:
        if not start_ns:
            say(answer_head())
            start_ns.append(report.frames[0].stamp)
        say(answer_row(report, start_ns[0]))

    summary = run(bag, out, pipeline, topics=topic, every=every, progress=progress,
                  buffer=FrameBuffer(frames, interval_sec))
    say(results(summary))
