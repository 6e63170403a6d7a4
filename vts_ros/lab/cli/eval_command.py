# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands that measure quality: ``eval``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

import typer

from vts_ros.lab.cli.budget_command import app as budget
from vts_ros.lab.cli.cameras_command import app as cameras
from vts_ros.lab.cli.drives_command import app as drives
from vts_ros.lab.cli.frames_command import app as frames
from vts_ros.lab.cli.memory_run import run_memory, window_lengths, write_memory_page
from vts_ros.lab.cli.precision_command import app as precision
from vts_ros.lab.cli.quantized_command import app as quantized
from vts_ros.lab.cli.range_command import app as range_channel
from vts_ros.lab.cli.recordings_command import app as recordings
from vts_ros.lab.cli.redundancy_command import app as redundancy
from vts_ros.lab.cli.scores_command import app as scores
from vts_ros.lab.cli.server_command import app as server
from vts_ros.lab.cli.signals_command import app as signals
from vts_ros.lab.cli.sound_command import app as sound
from vts_ros.lab.cli.task_command import app as task_adapter
from vts_ros.lab.cli.teacher_options import show_teacher, TeacherOption, TilesOption
from vts_ros.lab.cli.this_run import this_run
from vts_ros.lab.cli.twins_command import app as twins
from vts_ros.lab.cli.vectors_command import app as vectors
from vts_ros.tools.cli.options import (
    BudgetsOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ModeOption,
    token_grids,
    token_share,
    token_shares,
)
from vts_ros.tools.cli.terminal import (
    coverage_table,
    finish,
    method_table,
    network_table,
    progress_bar,
    rate_table,
    score_table,
)

if TYPE_CHECKING:
    from rich.console import Console

    from vts_ros.lab.teacher import Found
    from vts_ros.pipeline.pipeline import Pipeline

app = typer.Typer(no_args_is_help=True, help='Measure quality against a known truth.')
app.add_typer(budget)
app.add_typer(cameras)
app.add_typer(drives)
app.add_typer(frames)
app.add_typer(precision)
app.add_typer(quantized)
app.add_typer(range_channel)
app.add_typer(recordings)
app.add_typer(redundancy)
app.add_typer(scores)
app.add_typer(server)
app.add_typer(signals)
app.add_typer(sound)
app.add_typer(task_adapter)
app.add_typer(twins)
app.add_typer(vectors)

VlmOption = Annotated[str, typer.Option(
    '--vlm', help='Language model: shipped name, checkpoint directory, or hub id in the local '
                  'cache.')]
LimitOption = Annotated[int | None, typer.Option(
    min=1, help='Take the first ones only.', show_default=False)]
LengthOption = Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')]
AnswersOption = Annotated[Path | None, typer.Option(
    '--out', help='Folder for the answers at every budget.', show_default=False)]


@app.command('scenes', epilog='Example: [bold]vts eval scenes --n 100 --budgets 0.6,0.4 '
                              '--json[/bold]; [bold]vts eval scenes --methods all --brief '
                              '--report docs[/bold] compares with other methods.')
def eval_scenes(
    model: ModelOption = 'embedded',
    split: Annotated[Literal['train', 'val', 'test'], typer.Option(
        help='The shipped models were trained on train: how much better they are there is what '
             'they know by heart.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    budgets: BudgetsOption = '0.6,0.4',
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
        min=1, help='Processes for --methods or --memory, each with a model of its own; as many '
                    'as cores where a small model runs on the CPU.')] = 1,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the methods, with plots, or about '
             '--memory, with a picture.',
        show_default=False)] = None,
    over: Annotated[list[Path] | None, typer.Option(
        help='Recording of an empty, straight road over which to draw the hazards, too; may be '
             'given several times.', show_default=False)] = None,
    memory: Annotated[bool, typer.Option(
        '--memory', help='Show pairs of a hazard and its harmless twin with the same newest '
                         'frame; --n counts pairs.')] = False,
    frames: Annotated[str, typer.Option(
        '--frames', help='Frames of a window for --memory: 8, 16 or 32, or several with commas.',
        show_default=False)] = '',
    answered: Annotated[int | None, typer.Option(
        min=1, help='Show the first pairs only of --memory to the language model; what is kept '
                    'of what tells is looked at in all.', show_default=False)] = None,
    adapter: Annotated[str, typer.Option(
        help='Adapter of the model: its directory; only of driving.', show_default=False)] = '',
    mode: ModeOption = 'window',
    task: Annotated[str, typer.Option(
        help='driving or warehouse; of another task than driving only --model, --split, --n, '
             '--budgets and --mode count.')] = 'driving',
    picture_size: Annotated[str, typer.Option(
        help='Width and height at which the windows are drawn, a multiple of 224x128; only '
             'without --methods, --over and --memory.')] = '224x128',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Answer rendered windows with known truth, with all visual tokens and with fewer."""
    import json
    import time

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.scenes.model_picture import ModelPicture, SHIPPED

    ratios = token_shares(budgets)
    lengths = window_lengths(frames or '8')
    if memory and (methods or over or mode == 'causal'):
        raise typer.BadParameter('--memory is not about --methods, --over or --mode causal')
    if (frames or answered) and not memory:
        raise typer.BadParameter('--frames and --answered are about --memory')
    if not methods and (brief or ((report or workers > 1) and not memory)):
        raise typer.BadParameter('--brief, --report and --workers are about --methods; --report '
                                 'and --workers about --memory, too')
    if methods and questions:
        raise typer.BadParameter('--questions are not asked about --methods')
    if methods and mode == 'causal':
        raise typer.BadParameter('--methods choose among the frames of a window: no --mode causal')
    if methods and over:
        raise typer.BadParameter('--over is not about --methods')
    if over and questions:
        raise typer.BadParameter('--questions are not asked about --over')
    if task != 'driving':
        if any((methods, memory, over, questions, report, adapter,
                picture_size != '224x128')):
            raise typer.BadParameter(f'of --task {task} only --model, --split, --n, --budgets and '
                                     '--mode count')
        _eval_task_scenes(task, model, split, n, ratios, mode, device, as_json)
        return
    picture = ModelPicture.of(picture_size)
    if picture != SHIPPED and (methods or over or memory):
        raise typer.BadParameter('--methods, --over and --memory are at 224x128: no '
                                 '--picture-size')

    # After what is wrong was said: these take seconds.
    from vts_ros.lab.evaluation.scene_evaluation import evaluate, evaluate_over, QUESTIONS
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    names = _method_names(methods)
    console = Console(stderr=as_json)
    start_sec = time.monotonic()
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(model=model, adapter=adapter, device=device,
                                                mode=mode))
    if memory:
        result = run_memory(pipeline, console, split, n, lengths, ratios, questions,
                            answered, workers)
        if report is not None:
            finish(console, write_memory_page(
                result, this_run(pipeline.vlm.info['device'], start_sec), report))
    elif over:
        with Progress(console=console) as bar:
            place = bar.add_task(f'{n} windows of {split}, twice', total=2 * n)
            result = evaluate_over(pipeline, over, split, n, ratios,
                                   lambda windows: bar.advance(place, windows))
        for kind, title in (('rendered', 'rendered'), ('over', 'over recordings')):
            console.print(score_table(f'{result[kind]["n"]} windows, {title}', result[kind]))
        console.print(f'outside what the model knows: {result["over"]["marked"]}', highlight=False)
    elif names:
        result = _compare(pipeline, console, names, split, n, ratios, brief, workers,
                          report)
    else:
        with Progress(console=console) as bar:
            place = bar.add_task(f'{n} windows of {split}', total=n)
            result = evaluate(pipeline, split=split, n=n, budgets=ratios,
                              progress=lambda windows: bar.advance(place, windows),
                              questions=QUESTIONS if questions else 0, picture=picture)
        console.print(score_table(f'{result["model"]}: {n} windows of {split}', result))
    if as_json:
        typer.echo(json.dumps(result))


def _eval_task_scenes(task: str, model: str, split: str, n: int, ratios: list[float], mode: str,
                      device: str, as_json: bool) -> None:
    """Show how often a model is right about rendered windows of another task, per budget."""
    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.cli.adapter_command import answer_table
    from vts_ros.lab.evaluation.task_evaluation import (
        answers,
        check_rendered,
        grades,
        task_windows,
    )
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    check_rendered(task)
    console = Console(stderr=as_json)
    with console.status(f'loading {model}'):
        pipeline = Pipeline.load(PipelineConfig(task=task, model=model, device=device, mode=mode,
                                                draft=False))
    shares = (1.0, *ratios)
    result = {}
    with Progress(console=console) as bar:
        place = bar.add_task(f'{n} windows of {split}', total=n * len(shares))
        windows = list(task_windows(split, n))
        for share in shares:
            pipeline.set_keep_ratio(share)
            pipeline.reset_context()
            result[f'{share:g}'] = grades([window.wanted for window in windows], answers(
                pipeline, windows, lambda done: bar.advance(place, done), is_brief=True))
    console.print(answer_table({f'{float(share):.0%} of the tokens': found
                                for share, found in result.items()},
                               f'{pipeline.vlm.name}: windows of {task} ({split})'))
    finish(console, [], {'task': task, 'split': split, 'model': model, 'budgets': result},
           as_json)


def _method_names(text: str) -> list[str]:
    """Return the names of methods in a list with commas; ``all`` is all of them."""
    if not text:
        return []
    from vts_ros.lab.rivals.registry import METHOD_NAMES

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
    import time

    from rich.progress import Progress

    from vts_ros.lab.evaluation.method_comparison import compare

    start_sec = time.monotonic()
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=1.0)
        result = compare(
            pipeline, names, split, n, ratios, brief, workers,
            lambda share, what: bar.update(task, completed=share, description=what))
    for title, part in ((f'{n} windows of {split}', result),
                        (f'{result["hard"]["n"]} hard ones of them', result['hard'])):
        console.print(method_table(title, part, ratios))
    if report is not None:
        from vts_ros.lab.evaluation.methods_page import write_quality
        from vts_ros.lab.rivals.registry import methods

        finish(console, write_quality(
            result, methods(pipeline.sparsifier, names),
            this_run(pipeline.vlm.info['device'], start_sec), report))
    return result


@app.command('lingoqa', epilog='Example: [bold]vts eval lingoqa --data LingoQA --vlm '
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
    max_new_tokens: LengthOption = 160,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Answer the questions of LingoQA, with all visual tokens and with fewer."""
    from vts_ros.lab.evaluation.lingo_judge import LingoJudge
    from vts_ros.lab.evaluation.lingoqa import evaluate, PUBLISHED_QUESTIONS

    ratios = token_shares(budgets)
    judging = LingoJudge.load(judge) if judge else None
    with _Benchmark(vlm, device, max_new_tokens, as_json) as run:
        run.finish(evaluate(run.pipeline, data, ratios, judging, limit, out, run.progress))
        if run.result['n'] != PUBLISHED_QUESTIONS:
            run.note(f'{run.result["n"]} questions; a result for LingoQA has '
                     f'{PUBLISHED_QUESTIONS}')


@app.command('drama', epilog='Example: [bold]vts eval drama --data drama --vlm '
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
    max_new_tokens: LengthOption = 160,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """Describe the risks of DRAMA, with all visual tokens and with fewer."""
    from vts_ros.lab.evaluation.drama import evaluate

    ratios = token_shares(budgets)
    chosen = None if ids is None else ids.read_text(encoding='utf-8').split()
    with _Benchmark(vlm, device, max_new_tokens, as_json) as run:
        run.finish(evaluate(run.pipeline, data, ratios, split, chosen, clips, limit, out,
                            run.progress))


class _Benchmark:
    """Loads the pipeline, shows progress, and prints what an evaluation found."""

    def __init__(self, vlm: str, device: str, max_new_tokens: int, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

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
        self._console.print(score_table(
            f'{result["model"]}: {result["n"]} rows of {result["dataset"]}', result))
        for metric, reason in result['missing'].items():
            self.note(f'no {metric}: {reason}')
        bad = result['bad']
        if bad['count']:
            self.note(f'{bad["count"]} rows left out')
            for row in bad['rows']:
                self._console.print(f'  {row["row"]}: {row["reason"]}', highlight=False,
                                    markup=False)


@app.command('calibrate', epilog='Example: [bold]vts eval calibrate --model '
                                 'models/embedded --report docs[/bold], after every training.')
def eval_calibrate(
    model: ModelOption = 'embedded',
    n: Annotated[int, typer.Option(
        '--n', min=1, help='Windows of the split val to fit the confidence to.')] = 1000,
    test_n: Annotated[int, typer.Option(
        min=1, help='Windows of the split test to check the result on.')] = 1000,
    keep_ratio: Annotated[float, typer.Option(
        parser=token_share, metavar='SHARE', help='Share of the visual tokens.')] = 0.6,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the result, with a plot.',
        show_default=False)] = None,
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Fit how sure the answers of a model are; the node reports it from then on.

    The result lies beside the weights, in calibration.json.
    """
    import time

    from vts_ros.lab.evaluation.calibration import calibrate, check, write_page
    from vts_ros.paths import model_path
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    checkpoint = model_path(model)
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(
            model=str(checkpoint), device=device, keep_ratio=keep_ratio))
        pipeline.calibration = calibrate(
            pipeline, n, lambda share, what: progress(share / 2.0, what))
        written = pipeline.calibration.save(checkpoint, model_path('proposal/frame.onnx'))
        found = check(pipeline, test_n, lambda share, what: progress(0.5 + share / 2.0, what))
    files = [written]
    if report is not None:
        files += write_page(found, this_run(pipeline.vlm.info['device'], start_sec), report)
    console.print(f'expected calibration error {found["without"]["ece"]} before, '
                  f'{found["calibrated"]["ece"]} after', highlight=False)
    finish(console, files, found, as_json)


@app.command('guard', epilog='Example: [bold]vts eval guard --bag my_drive --pictures '
                             'my_photographs --report docs[/bold]')
def eval_guard(
    model: ModelOption = 'embedded',
    n: Annotated[int, typer.Option(
        '--n', min=1, help='Rendered windows of the split test, none of which is to be '
                           'refused.')] = 2000,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording, no window of which is to be accepted; may be given several times.',
        show_default=False)] = None,
    pictures: Annotated[list[Path] | None, typer.Option(
        help='Folder of pictures, or of such folders, each a source of its own; may be given '
             'several times.', show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the result.', show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure of which pictures a model speaks: rendered ones, recordings, photographs."""
    import time

    from vts_ros.lab.evaluation.guard_evaluation import measure, write_page
    from vts_ros.paths import model_path
    from vts_ros.pipeline.guard import load_guard

    start_sec = time.monotonic()
    guard = load_guard(model_path(model))
    if guard is None:
        raise typer.BadParameter(f'{model} has no guard: it answers about any picture')
    with progress_bar(as_json) as (console, progress):
        found = measure(guard, n, bag or (), pictures or (), progress)
    for name, part in (('rendered windows', found['rendered']), *found['drives'].items()):
        console.print(f'refused: {part["refused"]} of {part["n"]} {name}, the nearest at '
                      f'{part["nearest"]}', highlight=False, markup=False)
    for name, part in found['real'].items():
        console.print(f'accepted: {part["n"] - part["refused"]} of {part["n"]} {name}, the '
                      f'nearest at {part["nearest"]}', highlight=False, markup=False)
    written = [] if report is None else [
        write_page(found, this_run('cpu', start_sec), report)]
    finish(console, written, found, as_json)


@app.command('proposal', epilog='Example: [bold]vts eval proposal --proposal '
                                'out/train/models/proposal --json[/bold]; [bold]vts eval '
                                'proposal --against distilled=out/train/models/proposal '
                                '--report docs[/bold] compares the answers, too; [bold]vts '
                                'eval proposal --bag my_drive --teacher detector.onnx '
                                '[/bold] says how much of the road users of a recording is '
                                'kept.')
def eval_proposal(
    proposal: Annotated[Path | None, typer.Option(
        help='Folder with frame.onnx and window.onnx; by default the shipped ones.',
        show_default=False)] = None,
    against: Annotated[list[str] | None, typer.Option(
        '--against', '--network', metavar='[NAME=]FOLDER',
        help='Another network to compare, by the answers at every budget, or with --bag by what '
             'it keeps; may be given several times.', show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write a page about the comparison or the recordings, with a '
             'picture.', show_default=False)] = None,
    model: ModelOption = 'embedded',
    split: Annotated[Literal['val', 'test'], typer.Option(
        help='Neither was trained on.')] = 'test',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 500,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording to look at instead of rendered windows, or a folder of pictures in the '
             'order of their names, 10 a second; may be given several times. Needs --boxes or '
             '--teacher.', show_default=False)] = None,
    boxes: Annotated[Path | None, typer.Option(
        help='With --bag: boxes of road users, drawn by hand, as JSON: {"recordings": {NAME OF '
             'BAG: {ROAD USER: [[SECOND, LEFT, TOP, RIGHT, BOTTOM], ...]}}}, boxes in shares of '
             'the picture; in between, a road user moves evenly.', show_default=False)] = None,
    teacher: TeacherOption = None,
    tiles: TilesOption = False,
    grid: Annotated[str, typer.Option(
        help='With --bag: rows and columns of visual tokens per frame.')] = '9x16',
    picture: Annotated[bool, typer.Option(
        help='With --bag and --report: show frames of the recordings; not where their licence '
             'forbids it.')] = True,
    budgets: BudgetsOption = '0.8,0.6,0.4,0.2,0.1',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Measure how often the key frame is a good one, and how much of the risk object is kept.

    On rendered windows with known truth; the language model gives the grid of the tokens alone.
    With --against or --report it also answers, with the tokens that each network keeps.

    With --bag, how much of the road users of recordings is kept, beside a fixed ellipse and other
    methods, by light, kind and size; no language model takes part, --split and --n do not count.
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vts_ros.lab.evaluation.proposal_recall import find_rate, rendered
    from vts_ros.lab.scenes.model_picture import SHIPPED
    from vts_ros.paths import model_path
    from vts_ros.sparsify import Sparsifier
    from vts_ros.vlm import Vlm

    ratios = token_shares(budgets)
    folder = proposal or model_path('proposal/frame.onnx').parent
    if bool(bag) != bool(boxes or teacher) or (boxes and teacher):
        raise typer.BadParameter('--bag needs --boxes or --teacher, and these need --bag')
    networks = _networks(proposal, folder, against or [])
    if bag:
        _judge(networks, bag, boxes, teacher, tiles, token_grids(grid, [], '')[0], ratios, report,
               picture, as_json)
        return
    if against or report:
        _compare_networks(networks, model, split, n, ratios, device, report, as_json)
        return
    console = Console(stderr=as_json)
    sparsifier = Sparsifier.load(folder)
    tokens = Vlm.load(model_path(model), device='cpu').token_grid(SHIPPED.height, SHIPPED.width)
    with Progress(console=console) as bar:
        task = bar.add_task(f'{n} windows of {split}', total=n)
        result = find_rate(
            sparsifier, rendered(sparsifier, split, n, tokens,
                                 lambda windows: bar.advance(task, windows)), tokens, ratios)
    console.print(rate_table(f'{n} windows of {split}', {'': result}))
    if as_json:
        typer.echo(json.dumps({'split': split, 'grid': list(tokens), **result}))


def _networks(proposal: Path | None, folder: Path, against: list[str]) -> dict[str, Path]:
    """Return the folders of the networks to compare, by name."""
    networks = {str(proposal) if proposal else 'shipped': folder}
    for text in against:
        name, _, path = text.rpartition('=')
        if (name or path) in networks:
            raise typer.BadParameter(f'two networks are called {name or path}')
        networks[name or path] = Path(path)
    return networks


def _judge(networks: dict[str, Path], bags: list[Path], boxes: Path | None, teacher: Path | None,
           tiles: bool, grid: tuple[int, int], ratios: list[float], report: Path | None,
           has_picture: bool, as_json: bool) -> None:
    """Show how much of the road users of recordings is kept, and write the page if asked to."""
    import time

    from vts_ros.lab.evaluation import recordings_page as page
    from vts_ros.lab.evaluation.box_coverage import measure_all, saliencies
    from vts_ros.lab.evaluation.drawn_boxes import users_by_hand
    from vts_ros.lab.recordings import check_recordings
    from vts_ros.lab.teacher import CACHE, Teacher

    start_sec = time.monotonic()
    check_recordings(bags)
    with progress_bar(as_json) as (console, progress):
        find: Callable[[Path], Found]
        if teacher:
            finder = Teacher(teacher, tiles)
            show_teacher(console, finder, bags, CACHE)
            find, judge = finder.boxes_of, page.judged_by_teacher(teacher.name, tiles)
        else:
            assert boxes
            find, judge = users_by_hand(boxes, bags), page.JUDGED_BY_HAND
        ways = saliencies(networks, grid, teacher is not None)
        measured, empty = measure_all(bags, find, ways, grid, ratios, progress)
    result = page.summarize([recording.values for recording in measured], list(networks))
    result['empty'] = empty
    console.print(coverage_table(result))
    for sentence in page.leads_in_words(result):
        console.print(sentence, highlight=False, markup=False)
    if empty:
        console.print(f'no road users in {", ".join(empty)}', highlight=False, markup=False)
    written = page.write_recordings(result, measured, ways, judge, grid, this_run(
        'cpu', start_sec), report, has_picture) if report else []
    finish(console, written, result, as_json)


def _compare_networks(networks: dict[str, Path], model: str, split: str, n: int,
                      ratios: list[float], device: str, report: Path | None,
                      as_json: bool) -> None:
    """Compare proposal networks, show what they find, and write the page if there is a folder."""
    import time

    from vts_ros.lab.evaluation.proposal_networks import compare_networks, write_networks
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    start_sec = time.monotonic()
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        result = compare_networks(pipeline, networks, split, n, ratios, progress)
    console.print(network_table(result))
    written = [] if report is None else write_networks(
        result, this_run(pipeline.vlm.info['device'], start_sec), report)
    finish(console, written, result, as_json)
