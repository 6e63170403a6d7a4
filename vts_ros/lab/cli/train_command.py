# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands that train the shipped models: ``train``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TYPE_CHECKING

import typer

from vts_ros.lab.cli.adapter_command import adapter_app
from vts_ros.lab.cli.teacher_options import (
    show_teacher,
    SpeedOption,
    TeacherOption,
    TilesOption,
)
from vts_ros.tools.cli.options import DeviceOption
from vts_ros.tools.cli.terminal import coverage_table, rate_table

if TYPE_CHECKING:
    from rich.console import Console

    from vts_ros.lab.scenes.model_picture import ModelPicture
    from vts_ros.lab.training.proposal_training import Recipe

app = typer.Typer(
    no_args_is_help=True,
    help='Train the shipped models from nothing, or fine-tune a checkpoint on your answers.')
app.add_typer(adapter_app)

#: Where all training commands meet.
WORK = Path('out/train')
SHARDS = WORK / 'windows'
#: Frames of a window.
WINDOW_FRAMES = 5
Lessons = Literal['past', 'signals', 'turn signal', 'cameras', 'all']
ShardsOption = Annotated[Path, typer.Option(help='Folder of the rendered windows.')]
WorkOption = Annotated[Path, typer.Option(
    help='Folder of the checkpoints; the same folder goes on where the last run stopped.')]
PictureOption = Annotated[str, typer.Option(
    '--picture-size', help='Width and height of the pictures of the model: a multiple of '
                           '224x128.')]
SeedOption = Annotated[int, typer.Option(help='For the weights and the order of the data.')]


@app.command('windows', epilog='Example: [bold]vts train windows --n 20000[/bold], once, '
                               'before the other two; about 9 GB. [bold]vts train windows '
                               '--bag my_drive --teacher detector.onnx --speed 14[/bold] '
                               'brings windows of a recording beside them.')
def train_windows(
    n: Annotated[int, typer.Option('--n', min=1, help='Number of windows.')] = 20000,
    shards: ShardsOption = SHARDS,
    workers: Annotated[int, typer.Option(min=1, help='Processes that render.')] = 2,
    over: Annotated[list[Path] | None, typer.Option(
        help='Recording of an empty, straight road over which to draw the hazards; may be given '
             'several times. The windows come beside those without.', show_default=False)] = None,
    over_sec: Annotated[float | None, typer.Option(
        min=0.0, help='With --over: how much of each recording to take, from its begin; what is '
                      'there already stays as it is.',
        show_default=False)] = None,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording to take windows from, at most --n in all, each also mirrored; may be '
             'given several times. Needs --teacher. They come beside the rendered ones.',
        show_default=False)] = None,
    teacher: TeacherOption = None,
    tiles: TilesOption = False,
    speed: SpeedOption = 20.0,
    picture_size: PictureOption = '224x128',
    task: Annotated[str, typer.Option(
        help='driving or warehouse; those of warehouse are written as vts annotate does, for '
             'vts train adapter, and only --n, --shards and --split count.')] = 'driving',
    lessons: Annotated[Lessons | None, typer.Option(
        help='Write windows as vts annotate does, for vts train adapter: pairs that need the '
             'past, twins that differ by a signal of the car, by the turn signal alone, or both, '
             'and ordinary ones, --n in all; only --shards and --split count beside it.',
        show_default=False)] = None,
    split: Annotated[Literal['train', 'val', 'test'], typer.Option(
        help='Of --task warehouse and --lessons: which seeds.')] = 'train',
) -> None:
    """Render the windows to learn from; what is there stays. Or take them from recordings."""
    from rich.progress import Progress

    from vts_ros.lab.scenes.model_picture import ModelPicture
    from vts_ros.lab.training.shards import render_shards

    if task != 'driving' or lessons:
        if over or bag or teacher:
            raise typer.BadParameter('--over, --bag and --teacher are about --task driving '
                                     'without --lessons')
        if task != 'driving' and lessons:
            raise typer.BadParameter('--lessons are about --task driving')
        _write_task_windows(task, n, split, shards, lessons)
        return
    picture = ModelPicture.of(picture_size)
    if over_sec is not None and not over:
        raise typer.BadParameter('--over-sec needs --over')
    if bool(bag) != bool(teacher) or (bag and over):
        raise typer.BadParameter('--bag needs --teacher, and these do not go with --over')
    if bag and teacher:
        _take_windows(bag, Teaching(teacher, tiles), speed, n, shards, picture)
        return

    with Progress() as bar:
        place = bar.add_task(f'{n} windows', total=n)
        render_shards(shards, 'train', n, workers, lambda windows: bar.advance(place, windows),
                      over or (), math.inf if over_sec is None else over_sec, picture)


def _take_windows(bags: list[Path], teaching: Teaching, speed: float, most: int, shards: Path,
                  picture: ModelPicture) -> None:
    """Label windows of recordings, write them, and draw some to be looked at."""
    from vts_ros.lab.recordings import check_recordings, name_of
    from vts_ros.lab.road_windows import sheet
    from vts_ros.lab.teacher import CACHE, Teacher
    from vts_ros.lab.training.road_shards import write_road_shard
    from vts_ros.tools.cli.terminal import finish, progress_bar
    from vts_ros.tools.pictures import encode

    check_recordings(bags)
    windows = []
    with progress_bar(as_json=False) as (console, progress):
        teacher = Teacher(teaching.path, teaching.tiles)
        show_teacher(console, teacher, bags, CACHE)
        for number, bag in enumerate(bags):
            progress(number / len(bags), name_of(bag))
            windows += write_road_shard(shards, bag, teacher.boxes_of(bag), speed,
                                        -(-most // len(bags)), picture)
    shown = shards / 'windows.jpg'
    shown.write_bytes(encode(sheet(windows, teacher.name)))
    console.print(f'{len(windows)} windows, and as many mirrored; some of them, to be looked at:')
    finish(console, [shown])


@app.command('proposal', epilog='Example: [bold]vts train proposal[/bold] learns from the '
                                'truth about rendered windows, [bold]vts train proposal '
                                '--bag my_drive --vlm Qwen/Qwen2.5-VL-3B-Instruct[/bold] '
                                'from what a language model uses of a recording, [bold]vts '
                                'train proposal --vlm embedded[/bold] from what it uses of '
                                'rendered windows, [bold]vts train proposal --vlm embedded '
                                '--targets importance --windows 1200[/bold] from a measure of '
                                'what hiding a token changes, [bold]vts train proposal --bag '
                                'my_drive --teacher detector.onnx[/bold] from what a detector '
                                'finds.')
def train_proposal(
    bag: Annotated[list[Path] | None, typer.Option(
        '--bag', help='Recording to learn from instead of rendered windows; may be given several '
                      'times. With --teacher the last fifth of them is held out.',
        show_default=False)] = None,
    teacher: TeacherOption = None,
    tiles: TilesOption = False,
    vlm: Annotated[str, typer.Option(
        help='Learn from what this language model uses; with --bag, embedded by default.',
        show_default=False)] = '',
    windows: Annotated[int, typer.Option(
        min=1, help='With --bag or --vlm: windows to take, at most; with --teacher as many '
                    'frames as these have.')] = 400,
    passes: Annotated[int, typer.Option(
        min=2, help='With --bag or --vlm: how often half of a window is hidden.')] = 96,
    targets: Annotated[Literal['use', 'truth', 'importance'], typer.Option(
        help='With --vlm on rendered windows: learn what it uses, or the truth about the same '
             'windows, to compare; or how important a measure says their tokens are that was '
             'fitted to what hiding one changes, which moves the saliency alone.')] = 'use',
    fit: Annotated[int, typer.Option(
        min=2, help='With --targets importance: other rendered windows that the measure is fitted '
                    'to.')] = 63,
    worth: Annotated[Path, typer.Option(
        help='With --targets importance: folder for the worth of their tokens, as of vts eval '
             'scores.')] = Path('out/redundancy'),
    anew: Annotated[bool, typer.Option(
        '--anew', help='With --bag or --vlm: begin with a saliency of random weights, not with '
                       'the shipped one, which has learned the truth; with --teacher, with a '
                       'network that has not learned.')] = False,
    backbone: Annotated[Path | None, typer.Option(
        help='Weights of a MobileNetV2 to begin a new network with, as a PyTorch state dict; not '
             'with --vlm.', show_default=False)] = None,
    features_steps: Annotated[int, typer.Option(
        min=0, help='With --backbone: steps in which random weights first learn to say of the '
                    'pictures what that network says, instead of beginning with its '
                    'weights.')] = 0,
    device: DeviceOption = 'auto',
    out: Annotated[Path | None, typer.Option(
        help='Folder for the ONNX graphs; by default models/proposal, and with --bag or --vlm a '
             'folder of its own.', show_default=False)] = None,
    work: WorkOption = WORK,
    steps: Annotated[int | None, typer.Option(
        min=1, help='Optimiser steps; by default 1500, and 600 with --bag or --vlm.',
        show_default=False)] = None,
    seed: SeedOption = 0,
) -> None:
    """Train the proposal network, which finds the key frame and what to keep."""
    if features_steps and not backbone:
        raise typer.BadParameter('--features-steps needs --backbone')
    if teacher:
        from vts_ros.lab.training.proposal_training import Recipe

        if not bag or vlm or targets != 'use':
            raise typer.BadParameter('--teacher needs --bag, and is instead of --vlm')
        _learn_from_teacher(bag, Teaching(teacher, tiles, anew, backbone), out, work,
                            WINDOW_FRAMES * windows,
                            Recipe(steps=steps or 600, seed=seed, features=features_steps))
        return
    if not bag and not vlm:
        if targets != 'use' or anew:
            raise typer.BadParameter('--targets and --anew need --vlm')
        from vts_ros.lab.training.proposal_training import Recipe
        from vts_ros.lab.training.proposal_training import train_proposal as train

        train(out or Path('models/proposal'), work,
              Recipe(steps=steps or 1500, seed=seed, features=features_steps),
              backbone=backbone)
        return
    from rich.console import Console

    console = Console()
    models = work / 'models'
    target = out or models / 'proposal'
    if targets == 'importance':
        if bag or anew:
            raise typer.BadParameter('--targets importance is about rendered windows and the '
                                     'shipped network: no --bag or --anew')
        result = _learn_importance(vlm, device, target, work, worth, windows, fit, steps, seed)
    else:
        from vts_ros.lab.training.distillation import distill

        result = distill(bag or (), vlm or 'embedded', target, work, windows, passes,
                         steps or 600, seed=seed, device=device, console=console,
                         targets=targets, anew=anew)
    console.print(rate_table(
        f'{result["n"]} windows held out, {result["train"]} learned from',
        {name: result[name] for name in ('shipped', 'trained', 'whole way') if name in result}))
    _tell_where(console, target, None if out else models)


def _learn_importance(vlm: str, device: str, out: Path, work: Path, worth: Path, windows: int,
                      fitted: int, steps: int | None, seed: int) -> dict[str, Any]:
    """Learn what a fitted measure says of rendered windows."""
    from vts_ros.lab.training.importance_training import learn_importance
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.tools.cli.terminal import progress_bar

    with progress_bar(as_json=False) as (_, progress):
        pipeline = Pipeline.load(PipelineConfig(model=vlm, device=device))
        try:
            return learn_importance(pipeline, out, work, worth, windows, fitted, steps or 600,
                                    seed=seed, progress=progress)
        finally:
            pipeline.close()


def _write_task_windows(task: str, n: int, split: str, folder: Path, lessons: str | None
                        ) -> None:
    """Write rendered windows with their answers: of another task, or lessons of driving."""
    from rich.progress import track

    from vts_ros.lab.evaluation.task_evaluation import check_rendered
    from vts_ros.lab.scenes.answered_recording import write_shown
    from vts_ros.lab.scenes.driving_lessons import driving_lessons
    from vts_ros.lab.scenes.warehouse_answers import write_answered
    from vts_ros.lab.scenes.warehouse_clips import balanced_warehouse

    if task != 'driving':
        check_rendered(task)
    if folder.exists():
        raise typer.BadParameter(f'{folder} is there already: give another --shards')
    title = f'{n} windows of {split}'
    if lessons:
        write_shown(folder, track(driving_lessons(split, n, lessons), title, n))
    else:
        write_answered(folder, track(balanced_warehouse(split, n), title, n))
    typer.echo(f'wrote {folder}; next: vts train adapter --task {task} --data {folder}')


class Teaching(NamedTuple):
    """The detector that teaches, and what to begin with."""

    path: Path
    tiles: bool
    anew: bool = False
    backbone: Path | None = None


def _learn_from_teacher(bags: list[Path], teaching: Teaching, out: Path | None, work: Path,
                        pictures: int, recipe: Recipe) -> None:
    """Learn what a detector finds in recordings, and show what is kept of those held out."""
    from rich.console import Console

    from vts_ros.lab.recordings import check_recordings
    from vts_ros.lab.teacher import Teacher
    from vts_ros.lab.training.teacher_training import learn_from_teacher

    check_recordings(bags)
    target = out or work / 'models' / 'proposal'
    console, teacher = Console(), Teacher(teaching.path, teaching.tiles)
    show_teacher(console, teacher, bags, work.parent / 'boxes')
    report = learn_from_teacher(bags, teacher, target, work, pictures, recipe, teaching.anew,
                                teaching.backbone)
    console.print(coverage_table(report['result']))
    _tell_where(console, target, None if out else work / 'models')


def _tell_where(console: Console, target: Path, models: Path | None) -> None:
    console.print(f'wrote {target}', highlight=False, markup=False, soft_wrap=True)
    if models:
        console.print(f'to use it, set VTS_MODELS_DIR={models}', highlight=False, markup=False,
                      soft_wrap=True)


@app.command('sound', epilog='Example: [bold]vts train sound[/bold]; 3 hours on two cores, '
             '7 GB of memory.')
def train_sound(
    out: Annotated[Path, typer.Option(help='Folder for the ONNX graph.')] = Path('models/sound'),
    work: WorkOption = WORK,
    sounds: Annotated[int, typer.Option(
        min=100, help='Sounds of 10 s to synthesise; soundtracks are mixed of them.')] = 30_000,
    recorded: Annotated[int, typer.Option(
        min=2, help='Pieces of 10 s of speech (flite, espeak-ng) and of music (fluidsynth), which '
        'must not be taken for a warning.')] = 10_000,
    steps: Annotated[int, typer.Option(
        min=1, help='Optimiser steps with what is synthesised.')] = 22_000,
    recorded_steps: Annotated[int, typer.Option(
        min=0, help='Optimiser steps with speech and music, too; 0: none, and none of these '
        'programs.')] = 24_000,
    seed: SeedOption = 0,
) -> None:
    """Train the network that hears sirens and other warnings."""
    from rich.progress import Progress

    from vts_ros.lab.training.sound_parts import parts_in_all
    from vts_ros.lab.training.sound_training import SoundRecipe
    from vts_ros.lab.training.sound_training import train_sound as train

    recipe = SoundRecipe(sounds=sounds, recorded=recorded, steps=steps,
                         recorded_steps=recorded_steps, seed=seed)
    with Progress() as bar:
        total, made = parts_in_all(sounds, recorded if recorded_steps else 0), 0
        task = bar.add_task(f'{total} sounds', total=total)

        def progress(more: int) -> None:
            nonlocal made
            made += more
            bar.update(task, completed=made)
            if made >= total:
                bar.stop()

        train(out, work, recipe, progress)


@app.command('vlm')
def train_vlm(
    shards: ShardsOption = SHARDS,
    out: Annotated[Path, typer.Option(help='Folder for the checkpoint.')] = Path(
        'models/embedded'),
    work: WorkOption = WORK,
    seeing_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which the vision encoder learns from single frames.')] = 2400,
    understanding_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which the first text layers learn what moves and matters.')] = 5500,
    answering_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which the language model learns to answer.')] = 2400,
    together_steps: Annotated[int, typer.Option(
        min=0, help='Steps in which vision encoder and language model learn together.')] = 0,
    batch: Annotated[int, typer.Option(min=1, help='Windows per step and worker.')] = 16,
    workers: Annotated[int, typer.Option(min=1, help='Processes that learn together.')] = 2,
    seed: SeedOption = 0,
    start: Annotated[Path | None, typer.Option(
        help='Checkpoint to go on from, such as models/embedded; by default random weights.',
        show_default=False)] = None,
    new_vision: Annotated[bool, typer.Option(
        help='Take only the language model of --start, for a vision encoder of another '
             'shape.')] = False,
    rate: Annotated[float, typer.Option(
        min=0.01, max=1.0, help='Of the learning rates: less than 1 where --start knows much '
        'already.')] = 1.0,
    picture_size: PictureOption = '224x128',
    patch_px: Annotated[int, typer.Option(
        min=0, help='Side of a patch of the vision encoder; 0 for 16 x 28 patches at every '
                    'size.')] = 0,
    merge: Annotated[int, typer.Option(
        min=1, help='Side of a visual token in patches: 4 for 4 x 7 tokens of 16 x 28 '
                    'patches, 2 for 8 x 14.')] = 4,
    renderers: Annotated[int, typer.Option(
        min=0, help='Processes that render windows without end while the model learns, which '
                    'then sees none twice; with 0 it learns from those in --shards. Needs '
                    '--start.')] = 0,
    minutes: Annotated[float | None, typer.Option(
        min=0.1, help='How long at most, each stage in proportion to its steps; the same command '
                      'goes on for as long again.', show_default=False)] = None,
    device: DeviceOption = 'cpu',
) -> None:
    """Train the embedded language model; needs the proposal network."""
    from vts_ros.lab.scenes.model_picture import ModelPicture
    from vts_ros.lab.training.vlm_training import Course, Steps
    from vts_ros.lab.training.vlm_training import train_vlm as train

    steps = Steps(seeing_steps, understanding_steps, answering_steps, together_steps)
    train(shards, out, work, Course(steps, batch, seed, workers, start, new_vision, rate,
                                    ModelPicture.of(picture_size, patch_px, merge), renderers,
                                    device, minutes or math.inf))
