# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``vts``. Everything heavy is imported inside the commands, so that help is fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import sys
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros import __version__

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vts_ros.annotate import Summary
    from vts_ros.engines.cache import EngineCache
    from vts_ros.pipeline import Pipeline
    from vts_ros.report import SceneReport
    from vts_ros.scenes.types import WindowTruth

app = typer.Typer(
    name='vts', no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    rich_markup_mode='rich', context_settings={'help_option_names': ['-h', '--help']},
    epilog='First steps: [bold]vts render drive[/bold] makes a drive with hazards, '
           '[bold]vts annotate --bag drive[/bold] explains it. Any rosbag2 bag with a camera '
           'will do.')
eval_app = typer.Typer(no_args_is_help=True, help='Measure quality against a known truth.')
bench_app = typer.Typer()
train_app = typer.Typer(no_args_is_help=True, help='Train the shipped models from nothing.')
app.add_typer(eval_app, name='eval')
app.add_typer(bench_app, name='bench')
app.add_typer(train_app, name='train')

BAG_HELP = 'rosbag2 recording: its directory, or its .mcap or .db3 file.'
BagArgument = Annotated[Path, typer.Argument(help=BAG_HELP, show_default=False)]
ModelOption = Annotated[str, typer.Option(
    help='Language model: shipped name, checkpoint directory, or hub id in the local cache.')]
ServedPanel = 'Language model on a server'
DeviceOption = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]

ModeOption = Annotated[Literal['window', 'causal'], typer.Option(
    help='window: choose tokens anew in every window; causal: choose from and read every frame '
         'once, when it comes.')]
DraftOption = Annotated[bool, typer.Option(
    '--draft', help='Guess answers from the last one: the same answers, sooner.')]


def _share(text: str) -> float:
    """Return a share of the visual tokens; zero is none, it would be an answer about nothing."""
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise typer.BadParameter(f'{share:g} is not above 0 and at most 1')
    return share


def _shares(text: str) -> list[float]:
    """Return the shares in a list with commas, each once, in their order."""
    return list(dict.fromkeys(_share(share) for share in text.split(',') if share.strip()))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'vts_ros {__version__}')
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[bool, typer.Option(
        '--version', callback=_show_version, is_eager=True, help='Show the version.')] = False,
    _debug: Annotated[bool, typer.Option(
        '--debug', help='Show the traceback of an error.')] = False,
) -> None:
    """Explain the risks of a drive with a multimodal language model that sees fewer tokens."""


@app.command(epilog='Example: [bold]vts annotate --bag my_drive --out result --every 2[/bold], '
                    'then open result/report.html.')
def annotate(
    bag: Annotated[Path, typer.Option('--bag', help=BAG_HELP, show_default=False)],
    out: Annotated[Path, typer.Option(help='Folder for the results.')] = Path('annotated'),
    model: Annotated[str, typer.Option('--model', '--vlm', help=(
        'Language model: shipped name, checkpoint directory, or hub id in the local cache; with '
        '--backend openai its name on the server.'))] = 'embedded',
    keep_ratio: Annotated[float, typer.Option(
        parser=_share, metavar='SHARE',
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
    bag: BagArgument,
    rate: Annotated[float, typer.Option(min=0.01, help='Speed; 1 is that of the drive.')] = 1.0,
    loop: Annotated[bool, typer.Option('--loop', help='Start again at the end.')] = False,
    clock: Annotated[bool, typer.Option(
        '--clock', help='Publish the time of the drive, for nodes with use_sim_time.')] = False,
    topic_prefix: Annotated[str, typer.Option(help='Put before every topic.')] = '',
    wait_sec: Annotated[float, typer.Option(
        min=0.0, help='How long to wait for somebody who listens.')] = 10.0,
) -> None:
    """Publish the pictures of a recorded drive on ROS topics, at its pace."""
    from vts_ros.nodes.replay import replay_bag

    replay_bag(bag, rate=rate, loop=loop, clock=clock, topic_prefix=topic_prefix,
               wait_sec=wait_sec)


@eval_app.command('scenes', epilog='Example: [bold]vts eval scenes --n 100 --budgets 0.6,0.4 '
                             '--json[/bold]; [bold]vts eval scenes --methods all --brief '
                             '--report docs[/bold] compares with other methods.')
def eval_scenes(
    model: ModelOption = 'embedded',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    budgets: Annotated[str, typer.Option(
        help='Shares of the visual tokens to compare with all of them.')] = '0.6,0.4',
    methods: Annotated[str, typer.Option(
        help='Ways to choose the tokens to compare at every budget: "all", or names with commas.',
        show_default=False)] = '',
    brief: Annotated[bool, typer.Option(
        '--brief', help='Compare methods by object, risk and box alone: answers end after them, '
                        'which takes less than half the time.')] = False,
    questions: Annotated[bool, typer.Option(
        '--questions', help='Ask free questions about each window, too, and grade the answers by '
                            'the facts that they state.')] = False,
    workers: Annotated[int, typer.Option(
        min=1, help='Processes for --methods, each with a model of its own; as many as cores '
                    'where a small model runs on the CPU.')] = 1,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the methods, with plots.',
        show_default=False)] = None,
    over: Annotated[list[Path] | None, typer.Option(
        help='Recording of an empty, straight road over which to draw the hazards, too; may be '
             'given several times.', show_default=False)] = None,
    mode: ModeOption = 'window',
    device: DeviceOption = 'auto',
    as_json: Annotated[bool, typer.Option(
        '--json', help='Print one JSON object on the last line.')] = False,
) -> None:
    """Answer rendered windows with known truth, with all visual tokens and with fewer."""
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.evaluation.scenes import evaluate, evaluate_over, QUESTIONS
    from vts_ros.pipeline import Pipeline, PipelineConfig

    ratios = _shares(budgets)
    names = _method_names(methods)
    if not names and (brief or report or workers > 1):
        raise typer.BadParameter('--brief, --report and --workers are about --methods')
    if names and questions:
        raise typer.BadParameter('--questions are not asked about --methods')
    if names and mode == 'causal':
        raise typer.BadParameter('--methods choose among the frames of a window: no --mode causal')
    if names and over:
        raise typer.BadParameter('--over is not about --methods')
    if over and questions:
        raise typer.BadParameter('--questions are not asked about --over')
    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device, mode=mode))
    if over:
        with Progress(console=console) as bar:
            task = bar.add_task(f'{n} windows of {split}, twice', total=2 * n)
            result = evaluate_over(pipeline, over, split, n, ratios,
                                   lambda windows: bar.advance(task, windows))
        for kind, title in (('rendered', 'rendered'), ('over', 'over recordings')):
            console.print(_score_table(f'{result[kind]["n"]} windows, {title}', result[kind]))
        console.print(f'outside what the model knows: {result["over"]["marked"]}', highlight=False)
    elif names:
        result = _compare(pipeline, console, names, split, n, ratios, brief, workers,
                          report)
    else:
        with Progress(console=console) as bar:
            task = bar.add_task(f'{n} windows of {split}', total=n)
            result = evaluate(pipeline, split=split, n=n, budgets=ratios,
                              progress=lambda windows: bar.advance(task, windows),
                              questions=QUESTIONS if questions else 0)
        console.print(_score_table(f'{result["model"]}: {n} windows of {split}', result))
    if as_json:
        typer.echo(json.dumps(result))


VlmOption = Annotated[str, typer.Option(
    '--vlm', help='Language model: shipped name, checkpoint directory, or hub id in the local '
                  'cache.')]
BudgetsOption = Annotated[str, typer.Option(
    help='Shares of the visual tokens to compare with all of them.')]
JsonOption = Annotated[bool, typer.Option(
    '--json', help='Print one JSON object on the last line.')]
LimitOption = Annotated[int | None, typer.Option(
    min=1, help='Take the first ones only.', show_default=False)]
AnswersOption = Annotated[Path | None, typer.Option(
    '--out', help='Folder for the answers at every budget.', show_default=False)]


@eval_app.command('lingoqa', epilog='Example: [bold]vts eval lingoqa --data LingoQA --vlm '
                                    'Qwen/Qwen2.5-VL-3B-Instruct --judge wayveai/Lingo-Judge'
                                    '[/bold]. The licence of the data allows no model that is '
                                    'trained on it in a vehicle.')
def eval_lingoqa(
    data: Annotated[Path, typer.Option(
        help='Folder with evaluation/val.parquet and its pictures.', show_default=False)],
    vlm: VlmOption = 'embedded',
    budgets: BudgetsOption = '0.6,0.4',
    judge: Annotated[str, typer.Option(
        help='Checkpoint of Lingo-Judge: a directory, or a hub id in the local cache.',
        show_default=False)] = '',
    limit: LimitOption = None,
    out: AnswersOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')] = 160,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Answer the questions of LingoQA, with all visual tokens and with fewer."""
    from vts_ros.evaluation.judge import LingoJudge
    from vts_ros.evaluation.lingoqa import evaluate, PUBLISHED_QUESTIONS

    ratios = _shares(budgets)
    judging = LingoJudge.load(judge) if judge else None
    with _Benchmark(vlm, device, max_new_tokens, as_json) as run:
        run.finish(evaluate(run.pipeline, data, ratios, judging, limit, out, run.progress))
        if run.result['n'] != PUBLISHED_QUESTIONS:
            run.note(f'{run.result["n"]} questions; a result for LingoQA has '
                     f'{PUBLISHED_QUESTIONS}')


@eval_app.command('drama', epilog='Example: [bold]vts eval drama --data drama --vlm '
                                  'Qwen/Qwen2.5-VL-3B-Instruct[/bold]. The data are requested '
                                  'from the Honda Research Institute.')
def eval_drama(
    data: Annotated[Path, typer.Option(
        help='Folder with integrated_output_v2.json and the pictures.', show_default=False)],
    vlm: VlmOption = 'embedded',
    budgets: BudgetsOption = '0.6,0.4',
    split: Annotated[Literal['train', 'val', 'test', 'all'], typer.Option(
        help='Part of the complete rows: 70/15/15 in the order of the file.')] = 'test',
    ids: Annotated[Path | None, typer.Option(
        help='File with an id (<clip>_<frame>) per line to take instead.',
        show_default=False)] = None,
    clips: Annotated[bool, typer.Option(
        help='Show the frames of the clip before the picture. In some copies they are marked: '
             'look first.')] = True,
    limit: LimitOption = None,
    out: AnswersOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')] = 160,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Describe the risks of DRAMA, with all visual tokens and with fewer."""
    from vts_ros.evaluation.drama import evaluate

    ratios = _shares(budgets)
    chosen = None if ids is None else ids.read_text(encoding='utf-8').split()
    with _Benchmark(vlm, device, max_new_tokens, as_json) as run:
        run.finish(evaluate(run.pipeline, data, ratios, split, chosen, clips, limit, out,
                            run.progress))


@eval_app.command('calibrate', epilog='Example: [bold]vts eval calibrate --model '
                                      'models/embedded --bag my_drive --report docs[/bold], '
                                      'after every training.')
def eval_calibrate(
    model: ModelOption = 'embedded',
    n: Annotated[int, typer.Option(
        '--n', min=1, help='Windows of the split val to fit the confidence to.')] = 1000,
    train_n: Annotated[int, typer.Option(
        min=1, help='Windows of the split train that say what the model knows.')] = 1000,
    test_n: Annotated[int, typer.Option(
        min=1, help='Windows of the split test to check the result on.')] = 1000,
    world: Annotated[bool, typer.Option(
        help='Check whether pictures look like those of the training; only for models that were '
             'trained on rendered windows.')] = True,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording of which to count the windows that are outside; may be given several '
             'times.', show_default=False)] = None,
    keep_ratio: Annotated[float, typer.Option(
        parser=_share, metavar='SHARE', help='Share of the visual tokens.')] = 0.6,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the result, with a plot.',
        show_default=False)] = None,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Fit how sure the answers of a model are, and what it knows; the node reports both from then on.

    The result lies beside the weights, in calibration.json.
    """
    from datetime import date
    import json
    import shlex
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.evaluation.calibration import calibrate, check, write_page
    from vts_ros.evaluation.quality import machine, Run
    from vts_ros.models import model_path
    from vts_ros.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    checkpoint = model_path(model)
    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(
            model=str(checkpoint), device=device, keep_ratio=keep_ratio))
    with Progress(console=console) as bar:
        task = bar.add_task('', total=2.0)
        pipeline.calibration = calibrate(
            pipeline, n, train_n, world=world,
            progress=lambda share, what: bar.update(task, completed=share, description=what))
        written = pipeline.calibration.save(checkpoint, model_path('proposal/frame.onnx'))
        found = check(
            pipeline, test_n, bag or (),
            lambda share, what: bar.update(task, completed=1.0 + share, description=what))
    files = [written]
    if report is not None:
        run = Run(shlex.join(['vts', *sys.argv[1:]]), date.today(),
                  machine(pipeline.vlm.info['device']), time.monotonic() - start_sec)
        files += write_page(found, run, report)
    console.print(f'expected calibration error {found["without"]["ece"]} before, '
                  f'{found["calibrated"]["ece"]} after', highlight=False)
    parts = [('rendered windows', found), *found['drives'].items(), *found['bags'].items()] \
        if world else []
    for name, part in parts:
        console.print(f'outside what the model knows: {part["marked"]} of {part["n"]} {name}',
                      highlight=False, markup=False)
    for path in files:
        console.print(f'wrote {path}', highlight=False, markup=False)
    if as_json:
        typer.echo(json.dumps(found))


@eval_app.command('proposal', epilog='Example: [bold]vts eval proposal --proposal '
                                     'out/train/models/proposal --json[/bold]; [bold]vts eval '
                                     'proposal --against distilled=out/train/models/proposal '
                                     '--report docs[/bold] compares the answers, too.')
def eval_proposal(
    proposal: Annotated[Path | None, typer.Option(
        help='Folder with frame.onnx and window.onnx; by default the shipped ones.',
        show_default=False)] = None,
    against: Annotated[list[str] | None, typer.Option(
        metavar='[NAME=]FOLDER', help='Another network to compare by the answers at every budget; '
                                      'may be given several times.', show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the comparison, with a plot.',
        show_default=False)] = None,
    model: ModelOption = 'embedded',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    budgets: BudgetsOption = '0.8,0.6,0.4,0.2,0.1',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Measure how often the key frame is a good one, and how much of the risk object is kept.

    On rendered windows with known truth; the language model gives the grid of the tokens alone.
    With --against or --report it also answers, with the tokens that each network keeps.
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.evaluation.proposal import find_rate, load_sparsifier, rendered
    from vts_ros.models import model_path
    from vts_ros.training.shards import HEIGHT, WIDTH
    from vts_ros.vlm import Vlm

    ratios = _shares(budgets)
    folder = proposal or model_path('proposal/frame.onnx').parent
    if against or report:
        networks = {str(proposal) if proposal else 'shipped': folder}
        for text in against or ():
            name, _, path = text.rpartition('=')
            if (name or path) in networks:
                raise typer.BadParameter(f'two networks are called {name or path}')
            networks[name or path] = Path(path)
        _compare_networks(networks, model, split, n, ratios, device, report, as_json)
        return
    console = Console(stderr=as_json)
    sparsifier = load_sparsifier(folder)
    grid = Vlm.load(model_path(model), device='cpu').token_grid(HEIGHT, WIDTH)
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=n)
        result = find_rate(
            sparsifier, rendered(sparsifier, split, n, grid,
                                 lambda windows: bar.advance(task, windows)), grid, ratios)
    console.print(_rate_table(f'{n} windows of {split}', {'': result}))
    if as_json:
        typer.echo(json.dumps({'split': split, 'grid': list(grid), **result}))


def _compare_networks(networks: dict[str, Path], model: str, split: str, n: int,
                      ratios: list[float], device: str, report: Path | None,
                      as_json: bool) -> None:
    """Compare proposal networks, show what they find, and write the page if there is a folder."""
    from datetime import date
    import shlex
    import time

    from vts_ros.evaluation.networks import compare_networks, write_networks
    from vts_ros.evaluation.quality import machine, Run
    from vts_ros.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    with _bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        result = compare_networks(pipeline, networks, split, n, ratios, progress)
    console.print(_network_table(result))
    written = [] if report is None else write_networks(result, Run(
        shlex.join(['vts', *sys.argv[1:]]), date.today(), machine(pipeline.vlm.info['device']),
        time.monotonic() - start_sec), report)
    _finish(console, written, result, as_json)


def _network_table(result: dict[str, Any]) -> Table:
    """Return what is right and kept with each network, a row for each."""
    from rich.table import Table

    budgets = list(next(iter(result['rows'].values()))['budgets'])
    table = Table('', 'key frame good', *(f'{float(share):.0%}' for share in budgets),
                  title=f'{result["n"]} windows of {result["split"]}: risk / object right, tokens '
                        'of the object kept')
    for name, row in result['rows'].items():
        key = result['keys'].get(name)
        table.add_row(name, '-' if key is None else f'{key["good"]:.2f}', *(
            f'{found["risk_accuracy"]:.2f} / {found["object_accuracy"]:.2f}, '
            + ('-' if found['object_recall'] is None else f'{found["object_recall"]:.2f}')
            for found in row['budgets'].values()))
    return table


class _Benchmark:
    """Loads the pipeline, shows progress, and prints what an evaluation found."""

    def __init__(self, vlm: str, device: str, max_new_tokens: int, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from vts_ros.pipeline import Pipeline, PipelineConfig

        self.result: dict[str, Any] = {}
        self._as_json = as_json
        self._console = Console(stderr=as_json)
        with self._console.status(f'loading {vlm}'):
            self.pipeline = Pipeline.load(PipelineConfig(
                model=vlm, device=device, max_new_tokens=max_new_tokens))
        self._bar = Progress(console=self._console)
        self._task = self._bar.add_task('', total=1.0)

    def __enter__(self) -> _Benchmark:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        if self._as_json and self.result:
            import json

            typer.echo(json.dumps(self.result))

    def progress(self, share: float, what: str) -> None:
        """Show how far it is."""
        self._bar.update(self._task, completed=share, description=what)

    def note(self, text: str) -> None:
        """Print a remark."""
        self._console.print(f'note: {text}', highlight=False, markup=False)

    def finish(self, result: dict[str, Any]) -> None:
        """Print the table, what is missing in it, and the rows that were left out."""
        self.result = result
        self._bar.stop()
        self._console.print(_score_table(
            f'{result["model"]}: {result["n"]} rows of {result["dataset"]}', result))
        for metric, reason in result['missing'].items():
            self.note(f'no {metric}: {reason}')
        bad = result['bad']
        if bad['count']:
            self.note(f'{bad["count"]} rows left out')
            for row in bad['rows']:
                self._console.print(f'  {row["row"]}: {row["reason"]}', highlight=False,
                                    markup=False)


def _method_names(text: str) -> list[str]:
    """Return the names of methods in a list with commas; ``all`` is all of them."""
    if not text:
        return []
    from vts_ros.sparsify.methods import METHOD_NAMES

    names = [name.strip() for name in text.split(',') if name.strip()]
    if names == ['all']:
        return list(METHOD_NAMES)
    for name in names:
        if name not in METHOD_NAMES:
            raise typer.BadParameter(f'{name!r} is none of all, {", ".join(METHOD_NAMES)}')
    return names


def _compare(pipeline: Pipeline, console: Console, names: list[str], split: str, n: int,
             ratios: list[float], brief: bool, workers: int,
             report: Path | None) -> dict[str, Any]:
    """Compare methods, show the accuracy of all, and write the page if there is a folder."""
    from datetime import date
    import shlex
    import time

    from rich.progress import Progress

    from vts_ros.evaluation.comparison import compare

    start_sec = time.monotonic()
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=1.0)
        result = compare(
            pipeline, names, split, n, ratios, brief, workers,
            lambda share, what: bar.update(task, completed=share, description=what))
    for title, part in ((f'{n} windows of {split}', result),
                        (f'{result["hard"]["n"]} hard ones of them', result['hard'])):
        console.print(_method_table(title, part, ratios))
    if report is not None:
        from vts_ros.evaluation.quality import machine, Run, write_quality
        from vts_ros.sparsify.methods import methods

        run = Run(shlex.join(['vts', *sys.argv[1:]]), date.today(),
                  machine(pipeline.vlm.info['device']), time.monotonic() - start_sec)
        for path in write_quality(result, methods(pipeline.sparsifier, names), run, report):
            console.print(f'wrote {path}', highlight=False, markup=False)
    return result


def _log_engines() -> None:
    """Show what the engines log: builds take long, and nobody should wonder."""
    import logging

    logger = logging.getLogger('vts_ros.engines')
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(message)s'))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


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
    search_radius: Annotated[int, typer.Option(min=0, help='That of the node.')] = 1,
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

    from vts_ros.compile import calibrate as make_int8
    from vts_ros.compile import compile_engines, compiler
    from vts_ros.engines.cache import EngineCache
    from vts_ros.sparsify.graphs import picture_size

    _log_engines()
    console = Console()
    engines = EngineCache(cache)
    sizes = [picture_size(text) for text in size or ['']]
    grids = _grids(grid, sizes, model)
    if calibrate and precision != 'int8':
        raise typer.BadParameter('--calibrate is about --precision int8')
    if calibrate:
        with console.status('calibrating'):
            made = make_int8(calibrate, engines)
        console.print(f'calibrated {made}', highlight=False, markup=False, soft_wrap=True)
    for one in target or ['current']:
        library = compiler(backend, one)
        for built in compile_engines(
                library, one, precision, engines, sizes=sizes, batch=batch, frames=frames,
                grids=grids, search_radius=search_radius):
            console.print(
                f'{"found" if built.hit else "built"} {built.key.graph} {built.key.target} '
                f'{built.key.precision} {built.path.stat().st_size * 1e-6:.1f} MB: {built.path}',
                highlight=False, markup=False, soft_wrap=True)
    if precision != 'fp32':
        _print_change(console, precision, engines, calibrate or [], frames, grids[0],
                      search_radius)
    if precision != 'fp32' and eval_windows:
        from vts_ros.evaluation.precision import quality

        console.print(_comparison_table(f'{eval_windows} rendered windows, 60 % of the tokens',
                                        quality(precision, model, eval_windows, engines)))


def _grids(text: str, sizes: list[tuple[int, int]], model: str) -> list[tuple[int, int]]:
    """Return the token grid that was given, or those of the model for the sizes."""
    import re

    if re.fullmatch(r'[1-9]\d{0,2}x[1-9]\d{0,2}', text):
        rows, columns = map(int, text.split('x'))
        return [(rows, columns)]
    if text:
        raise typer.BadParameter(f'{text!r} is no grid, expected rows and columns such as 4x7')
    from vts_ros.pipeline import checkpoint
    from vts_ros.vlm import Vlm

    vlm = Vlm.load(checkpoint(model), device='cpu')
    return list(dict.fromkeys(vlm.token_grid(*size) for size in sizes))


def _print_change(console: Console, precision: Literal['fp16', 'int8'], cache: EngineCache,
                  bags: list[Path], frames: int, grid: tuple[int, int], search_radius: int
                  ) -> None:
    """Print how keep lists change against FP32, on the windows of the bags or rendered ones."""
    from vts_ros.evaluation.precision import compare, rendered_windows, windows_of_bags

    with console.status('comparing keep lists with fp32'):
        change = compare(
            precision, cache, windows_of_bags(bags, frames) if bags else rendered_windows(),
            grid, search_radius)
    console.print(
        f'{precision} against fp32 on {change.windows} '
        f'{"windows of the bags" if bags else "rendered windows"}: '
        f'{change.same_tokens:.1%} of the kept tokens are the same, the key frame in '
        f'{change.same_keys} of {change.windows}', highlight=False, markup=False, soft_wrap=True)


def _comparison_table(title: str, columns: dict[str, dict[str, Any]]) -> Table:
    """Return metrics side by side."""
    from rich.table import Table

    table = Table('', *columns, title=title)
    for metric in next(iter(columns.values())):
        table.add_row(metric, *(
            f'{found[metric]:.3f}' if isinstance(found[metric], float) else str(found[metric])
            for found in columns.values()))
    return table


ReportOption = Annotated[Path | None, typer.Option(
    help='Folder with performance.md: what was measured is added to its tables and plots.',
    show_default=False)]


@bench_app.callback(
    invoke_without_command=True,
    epilog='Example: [bold]vts bench --quick[/bold], or [bold]vts bench --report docs[/bold] for '
           'the page in the documentation. Models: embedded; qwen2.5-0.5b, qwen2.5-vl-3b and '
           'qwen2.5-vl-7b have the shapes of these and random weights, which cost as much; or a '
           'checkpoint of the class Qwen-VL.')
def bench(
    context: typer.Context,
    model: Annotated[list[str] | None, typer.Option(
        help='Model to measure; may be given several times. Default: qwen2.5-0.5b and embedded, '
             'on a GPU also qwen2.5-vl-3b and qwen2.5-vl-7b.', show_default=False)] = None,
    frames: Annotated[str, typer.Option(help='Lengths of the windows.')] = '5,8',
    windows: Annotated[int, typer.Option(min=2, help='Windows to measure, at most.')] = 12,
    budget_sec: Annotated[float, typer.Option(
        min=1.0, help='Time for the windows of each model and length; at least two are '
                      'measured.')] = 150.0,
    answer_tokens: Annotated[int, typer.Option(
        min=2, help='Answers of random weights are cut there.')] = 24,
    quick: Annotated[bool, typer.Option(
        '--quick', help='Windows of 5 small pictures, short answers: less than 3 minutes on two '
                        'cores.')] = False,
    seed: Annotated[int, typer.Option(help='Of the drive and of random weights.')] = 7,
    device: DeviceOption = 'auto',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
    plots: Annotated[Path | None, typer.Option(
        help='Folder for the plots alone.', show_default=False)] = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure how fast it is on this machine: the same windows in stock transformers and here.

    Every window of a rendered drive is answered by stock transformers with all tokens, from
    nothing, and by the pipeline with fewer tokens, then with features of frames kept, with frames
    read once (causal), and with the last answer as a draft. All take turns at every window, so
    ratios are those of one window of one run.
    """
    if context.invoked_subcommand is not None:
        return
    from vts_ros.bench import report as shown
    from vts_ros.bench.page import add
    from vts_ros.bench.workload import default_models, quick_workloads, suite, Workload

    common = Workload(windows=windows, budget_sec=budget_sec, answer_tokens=answer_tokens,
                      seed=seed, device=device, threads=threads)
    models = model or default_models(device)
    workloads = quick_workloads(common, models) if quick else [
        replace(common, model=one, frames=length)
        for one in models for length in _lengths(frames)]
    with _bar(as_json) as (console, progress):
        result = suite(workloads, progress)
    results = [result, *result['more']]
    for one in results:
        console.print(shown.table(one))
    by_name = {shown.name_of(one): {**one, 'more': []} for one in results}
    written = shown.draw({shown.WORKLOADS: by_name}, plots) if plots else []
    written += add(report, shown.WORKLOADS, by_name) if report else []
    _finish(console, written, result, as_json)


@bench_app.command('growth', epilog='Example: [bold]vts bench growth --report docs[/bold].')
def bench_growth(
    model: Annotated[str, typer.Option(help='Model, as for vts bench.')] = 'embedded',
    frames: Annotated[str, typer.Option(help='Lengths of the windows of one camera.')] = (
        '5,8,16,32,64'),
    cameras: Annotated[str, typer.Option(
        help='Numbers of cameras; windows have 5 instants then.')] = '1,2,4,6',
    windows: Annotated[int, typer.Option(min=2, help='Windows of each kind, at most.')] = 4,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    device: DeviceOption = 'auto',
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what an answer costs as windows grow, in stock transformers and here."""
    from vts_ros.bench import report as shown
    from vts_ros.bench.growth import grow
    from vts_ros.bench.page import add
    from vts_ros.bench.workload import Workload

    work = Workload(model=model, windows=windows, budget_sec=60.0, seed=seed, device=device)
    with _bar(as_json) as (console, progress):
        result = grow(work, _lengths(frames), _lengths(cameras), progress)
    console.print(shown.growth_table(result))
    _finish(console, add(report, shown.GROWTH, result) if report else [], result, as_json)


@bench_app.command('deadline', epilog='Example: [bold]vts bench deadline --share 0.6[/bold].')
def bench_deadline(
    model: ModelOption = 'embedded',
    windows: Annotated[int, typer.Option(min=1, help='Windows that count.')] = 60,
    share: Annotated[float, typer.Option(
        parser=_share, metavar='SHARE',
        help='The deadline, of the median time without one.')] = 0.6,
    seed: Annotated[int, typer.Option(help='Of the drive.')] = 7,
    device: DeviceOption = 'auto',
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how often answers are late under a deadline, with a fixed setting and a plan."""
    from vts_ros.bench import report as shown
    from vts_ros.bench.deadline import keep_deadline
    from vts_ros.bench.page import add

    with _bar(as_json) as (console, progress):
        result = keep_deadline(model, windows, share, seed, device, progress=progress)
    console.print(shown.deadline_table(result))
    _finish(console, add(report, shown.DEADLINE, result) if report else [], result, as_json)


def _lengths(text: str) -> list[int]:
    """Return the numbers in a list with commas, each once."""
    found = [part.strip() for part in text.split(',')]
    if not all(part.isdigit() and int(part) > 0 for part in found):
        raise typer.BadParameter(f'{text!r} is no list of numbers such as 5,8')
    return list(dict.fromkeys(map(int, found)))


@contextmanager
def _bar(as_json: bool) -> Iterator[tuple[Console, Callable[[float, str], None]]]:
    """Show a bar on stderr where stdout is for JSON; yields what tells how far a work is."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=as_json)
    with Progress(console=console) as bar:
        task = bar.add_task('loading', total=1.0)
        yield console, lambda share, what: bar.update(task, completed=share, description=what)
        bar.update(task, completed=1.0)


def _finish(console: Console, written: list[Path], result: dict[str, Any], as_json: bool) -> None:
    """Tell which files were written, and print the JSON object last."""
    import json

    for path in written:
        console.print(f'wrote {path}', highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(result))


@bench_app.command('engines', epilog='Example: [bold]vts bench engines --json[/bold].')
def bench_engines(
    runs: Annotated[int, typer.Option(min=1, help='Repetitions of each step.')] = 200,
    size: Annotated[str, typer.Option(help='Width and height of the frames.')] = '848x480',
    grid: Annotated[str, typer.Option(
        help='Rows and columns of visual tokens per frame.')] = '4x7',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads; 0 leaves the choice.')] = 0,
    backend: Annotated[list[str] | None, typer.Option(
        help='Engine to time; may be given several times. Default: all that work here.',
        show_default=False)] = None,
    generating: Annotated[bool, typer.Option(
        help='Measure again while the language model writes.')] = True,
    model: ModelOption = 'embedded',
    as_json: Annotated[bool, typer.Option(
        '--json', help='Print one JSON object on the last line.')] = False,
) -> None:
    """Time the proposal network per frame and the window step per window of five frames."""
    import json

    from rich.console import Console

    from vts_ros.bench.engines import bench_engines as run
    from vts_ros.bench.engines import sparsifiers
    from vts_ros.pipeline import Pipeline, PipelineConfig
    from vts_ros.sparsify.graphs import picture_size

    console = Console(stderr=as_json)
    height_width, rows_columns = picture_size(size), _grids(grid, [], model)[0]
    with console.status('loading') as status:
        engines, missing = sparsifiers(threads, backend or ())
        pipeline = Pipeline.load(PipelineConfig(
            model=model, engine_backend='onnxruntime', threads=threads)) if generating else None
        result = run(engines, pipeline, runs, height_width, rows_columns, status.update)
    for name, reason in missing.items():
        console.print(f'no {name}: {reason}', highlight=False, markup=False, soft_wrap=True)
    console.print(_speed_table(result))
    if as_json:
        typer.echo(json.dumps(result))


def _speed_table(result: dict[str, Any]) -> Table:
    """Return the medians of all engines, alone and beside the language model."""
    from rich.table import Table

    beside = result.get('while_generating', {})
    table = Table('', 'frame', 'window', 'frame', 'window', 'tokens/s',
                  title='ms, median: alone, then while the model writes')
    for name in result['proposal_ms']:
        table.add_row(name, *(
            str(part.get(step, {}).get(name, '-')) for part, step in (
                (result, 'proposal_ms'), (result, 'window_ms'), (beside, 'proposal_ms'),
                (beside, 'window_ms'), (beside, 'tokens_per_sec'))))
    if beside:
        table.caption = f'{beside["tokens_per_sec"]["alone"]} tokens/s with no engine running'
    return table


#: Where all training commands meet.
WORK = Path('out/train')
SHARDS = WORK / 'windows'
ShardsOption = Annotated[Path, typer.Option(help='Folder of the rendered windows.')]
WorkOption = Annotated[Path, typer.Option(
    help='Folder of the checkpoints; the same folder goes on where the last run stopped.')]
StepsOption = Annotated[int, typer.Option(min=1, help='Optimiser steps.')]
SeedOption = Annotated[int, typer.Option(help='For the weights and the order of the data.')]


@train_app.command('windows', epilog='Example: [bold]vts train windows --n 20000[/bold], once, '
                                     'before the other two; about 9 GB.')
def train_windows(
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 20000,
    shards: ShardsOption = SHARDS,
    workers: Annotated[int, typer.Option(min=1, help='Processes that render.')] = 2,
    over: Annotated[list[Path] | None, typer.Option(
        help='Recording of an empty, straight road over which to draw the hazards; may be given '
             'several times. The windows come beside those without.', show_default=False)] = None,
) -> None:
    """Render the windows to learn from; what is there already stays."""
    from rich.progress import Progress

    from vts_ros.training.shards import render_shards

    with Progress() as bar:
        task = bar.add_task(f'{n} windows', total=n)
        render_shards(shards, 'train', n, workers, lambda windows: bar.advance(task, windows),
                      over or ())


@train_app.command('proposal', epilog='Example: [bold]vts train proposal[/bold] learns from the '
                                      'truth about rendered windows, [bold]vts train proposal '
                                      '--bag my_drive --vlm Qwen/Qwen2.5-VL-3B-Instruct[/bold] '
                                      'from what a language model uses of a recording, [bold]vts '
                                      'train proposal --vlm embedded[/bold] from what it uses of '
                                      'rendered windows.')
def train_proposal(
    bag: Annotated[list[Path] | None, typer.Option(
        '--bag', help='Recording to learn from instead of rendered windows; may be given several '
                      'times.', show_default=False)] = None,
    vlm: Annotated[str, typer.Option(
        help='Learn from what this language model uses; with --bag, embedded by default.',
        show_default=False)] = '',
    windows: Annotated[int, typer.Option(
        min=1, help='With --bag or --vlm: windows to take, at most.')] = 400,
    passes: Annotated[int, typer.Option(
        min=2, help='With --bag or --vlm: how often half of a window is hidden.')] = 96,
    targets: Annotated[Literal['use', 'truth'], typer.Option(
        help='With --vlm on rendered windows: learn what it uses, or the truth about the same '
             'windows, to compare.')] = 'use',
    anew: Annotated[bool, typer.Option(
        '--anew', help='With --bag or --vlm: begin with a saliency of random weights, not with '
                       'the shipped one, which has learned the truth.')] = False,
    device: DeviceOption = 'auto',
    shards: ShardsOption = SHARDS,
    out: Annotated[Path | None, typer.Option(
        help='Folder for the ONNX graphs; by default models/proposal, and with --bag or --vlm a '
             'folder of its own.', show_default=False)] = None,
    work: WorkOption = WORK,
    steps: Annotated[int | None, typer.Option(
        min=1, help='Optimiser steps; by default 1200, and 600 with --bag or --vlm.',
        show_default=False)] = None,
    seed: SeedOption = 0,
) -> None:
    """Train the proposal network, which finds the key frame and what to keep."""
    if not bag and not vlm:
        if targets != 'use' or anew:
            raise typer.BadParameter('--targets and --anew need --vlm')
        from vts_ros.training.proposal import train_proposal as train

        train(shards, out or Path('models/proposal'), work, steps or 1200, seed=seed)
        return
    from rich.console import Console

    from vts_ros.training.distill import distill

    console = Console()
    models = work / 'models'
    target = out or models / 'proposal'
    result = distill(bag or (), vlm or 'embedded', target, work, windows, passes, steps or 600,
                     seed=seed, device=device, console=console, targets=targets, anew=anew)
    console.print(_rate_table(
        f'{result["n"]} windows held out, {result["train"]} learned from',
        {'shipped': result['shipped'], 'trained': result['trained']}))
    console.print(f'wrote {target}', highlight=False, markup=False)
    if out is None:
        console.print(f'to use it, set VTS_MODELS_DIR={models}', highlight=False, markup=False)


@train_app.command('vlm')
def train_vlm(
    shards: ShardsOption = SHARDS,
    out: Annotated[Path, typer.Option(help='Folder for the checkpoint.')] = Path(
        'models/embedded'),
    work: WorkOption = WORK,
    seeing_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which the vision encoder learns from single frames.')] = 2800,
    understanding_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which the first text layers learn what moves and matters.')] = 2400,
    answering_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which the language model learns to answer.')] = 1600,
    together_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which vision encoder and language model learn together.')] = 1200,
    batch: Annotated[int, typer.Option(min=1, help='Windows per step and worker.')] = 16,
    workers: Annotated[int, typer.Option(min=1, help='Processes that learn together.')] = 2,
    seed: SeedOption = 0,
    start: Annotated[Path | None, typer.Option(
        help='Checkpoint to go on from, such as models/embedded; by default random weights.',
        show_default=False)] = None,
    new_vision: Annotated[bool, typer.Option(
        help='Take only the language model of --start, for a vision encoder of another '
             'shape.')] = False,
) -> None:
    """Train the embedded language model; needs the proposal network."""
    from vts_ros.training.vlm import Steps
    from vts_ros.training.vlm import train_vlm as train

    steps = Steps(seeing_steps, understanding_steps, answering_steps, together_steps)
    train(shards, out, work, steps, batch, seed, workers, start, new_vision)


def _score_table(title: str, result: dict[str, Any]) -> Table:
    """Return the metrics of all budgets side by side."""
    from rich.table import Table

    columns = {'all tokens': result['dense'], **{
        f'{float(budget):.0%}': metrics for budget, metrics in result['vts'].items()}}
    table = Table(title=title)
    table.add_column('')
    for name in columns:
        table.add_column(name, justify='right')

    def add(name: str, values: Iterable[Any]) -> None:
        table.add_row(name, *(
            f'{value:.3f}' if isinstance(value, float) else '-' if value is None else str(value)
            for value in values))

    for metric in result['dense']:
        if metric != 'questions':
            add(metric, (found[metric] for found in columns.values()))
    if 'questions' in result['dense']:
        asked = [found['questions'] for found in columns.values()]
        table.add_section()
        add(_about('questions', asked[0]), (found['accuracy'] for found in asked))
        for topic, dense in asked[0]['by_topic'].items():
            add(_about(f'  {topic}', dense),
                (found['by_topic'][topic]['accuracy'] for found in asked))
    return table


def _about(name: str, asked: dict[str, Any]) -> str:
    return f'{name} ({asked["n"]}, guess {asked["guess"]:.2f})'


def _rate_table(title: str, rates: dict[str, dict[str, Any]]) -> Table:
    """Return what proposal networks find, a column for each."""
    from rich.table import Table

    table = Table(title=title)
    for name in ('', *rates):
        table.add_column(name, justify='right' if name else 'left')

    def add(text: str, values: list[float | None]) -> None:
        if any(value is not None for value in values):
            table.add_row(text, *('-' if value is None else f'{value:.3f}' for value in values))

    add('key frame good', [rate['key_frame_hit_rate'] for rate in rates.values()])
    for name, text in (('object_recall', 'of the risk object'), ('use_recall', 'of what is used')):
        for budget in next(iter(rates.values()))[name]:
            add(f'kept {text} at {float(budget):.0%}',
                [rate[name][budget] for rate in rates.values()])
    return table


def _method_table(title: str, part: dict[str, Any], ratios: list[float]) -> Table:
    """Return risk and object accuracy of all methods and budgets."""
    from rich.table import Table

    table = Table(title=f'{title}: risk / object right')
    table.add_column('method')
    for ratio in (1.0, *ratios):
        table.add_column(f'{ratio:.0%}', justify='right', no_wrap=True)
    for method, found in part['methods'].items():
        table.add_row(method, *(
            '-' if metrics is None or metrics['risk_accuracy'] is None else
            f'{metrics["risk_accuracy"]:.2f} / {metrics["object_accuracy"]:.2f}'
            for metrics in (part['dense'], *found.values())))
    return table


def answer_row(report: SceneReport, start_ns: int) -> Table:
    """Return one answer as a line for the terminal; long explanations wrap in their column."""
    from rich.style import Style
    from rich.text import Text

    from vts_ros.report import RISK_COLOURS
    from vts_ros.visuals import seconds

    answer = report.answer
    red, green, blue = RISK_COLOURS[answer.risk]
    age_ms = report.age_ms if report.age_ms is not None else report.latency_ms.get('total', 0.0)
    # Text and not markup: the words come from a model.
    return _columns(
        seconds(report.stamp, start_ns),
        Text(answer.risk.upper(), Style(color=f'rgb({red},{green},{blue})', bold=True)),
        Text(answer.label or '-'), Text(answer.explanation or '(no answer that can be read)'),
        f'{len(report.keep)}/{report.tokens_total}', f'{1e-3 * age_ms:.1f} s')


def answer_head() -> Table:
    """Return what stands above the lines of :func:`answer_row`."""
    from rich.text import Text

    names = ('time', 'risk', 'object', 'why', 'tokens', 'age')
    return _columns(*(Text(name, 'dim') for name in names))


def _columns(*cells: Text | str) -> Table:
    from rich.table import Table

    row = Table.grid(padding=(0, 2), expand=True)
    for width, justify in ((7, 'right'), (7, 'left'), (13, 'left'), (None, 'left'), (9, 'right'),
                           (6, 'right')):
        row.add_column(width=width, ratio=None if width else 1,
                       justify=justify)  # type: ignore[arg-type]
    row.add_row(*cells)
    return row


def results(summary: Summary) -> str:
    """Return what a person wants to know at the end, as a few lines for the terminal."""
    from vts_ros.annotate import ANNOTATED_BAG, ANSWERS, COUNTER_TEXTS, PAGE, SHEET, VIDEO

    risks = ', '.join(f'{count} {level}' for level, count in summary.risks.items() if count)
    kept, total = summary.tokens
    lines = [
        f'\n{len(summary.reports)} answers ({risks}); {kept:.0f} of {total:.0f} visual tokens '
        f'kept; {1e-3 * summary.latency_ms(50):.2f} s per answer (median).']
    lines += [f'note: {count} {COUNTER_TEXTS[name]}' for name, count in summary.counters.items()
              if count and name not in ('frames', 'admitted', 'thinned', 'duplicate')]
    lines += [f'page   {summary.out / PAGE}', f'sheet  {summary.out / SHEET}',
              f'video  {summary.out / VIDEO}', f'bag    {summary.out / ANNOTATED_BAG}',
              f'JSON   {summary.out / ANSWERS}']
    return '\n'.join(lines)


def main() -> int:
    """Run the command line; errors are one line on stderr and exit code 1."""
    try:
        app()
    except Exception as error:
        if '--debug' in sys.argv:
            raise
        typer.echo(f'vts: {_explain(error)}', err=True)
        return 1
    return 0


def _explain(error: Exception) -> str:
    """Return an error as one line; a surprise also says how to see where it came from."""
    message = ' '.join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        message = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if type(error).__module__.startswith('vts_ros') or isinstance(error, (OSError, ValueError)):
        return message
    return f'{type(error).__name__}: {message} (vts --debug shows where)'


if __name__ == '__main__':
    sys.exit(main())
