# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``eval scores``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vts_ros.lab.cli.teacher_options import show_teacher, TeacherOption, TilesOption
from vts_ros.lab.cli.this_run import this_run
from vts_ros.tools.cli.options import DeviceOption, JsonOption, ModelOption, token_shares
from vts_ros.tools.cli.terminal import finish, progress_bar

app = typer.Typer()

#: Methods compared by what they keep, beside those that are fitted.
_METHODS = ('vts', 'vts-share-none', 'vts-score-importance', 'vts-score-similarity', 'random')


@app.command('scores', epilog='Example: [bold]vts eval scores --n 2000 --pairs 48 --report docs'
                              '[/bold]. About half a second a window on one core, five to fit to, '
                              'two to answer; what was measured is kept, the same command '
                              'goes on.')
def eval_scores(
    n: Annotated[int, typer.Option(
        '--n', min=20, help='Rendered windows with a risk object.')] = 2000,
    turning: Annotated[int, typer.Option(
        min=20, help='Rendered windows with a risk object in tight bends.')] = 400,
    pairs: Annotated[int, typer.Option(
        min=2, help='Pairs of windows of 8 frames that need the past.')] = 48,
    fit: Annotated[int, typer.Option(
        min=2, help='Rendered windows of the split train that the measures are fitted to.')] = 120,
    judged: Annotated[int, typer.Option(
        min=2, help='Rendered windows of which the worth of tokens is measured.')] = 36,
    bag: Annotated[list[Path] | None, typer.Option(
        help='Recording of which it is measured, too; may be given several times.',
        show_default=False)] = None,
    per_bag: Annotated[int, typer.Option(min=1, help='Windows of each recording.')] = 4,
    teacher: TeacherOption = None,
    tiles: TilesOption = False,
    answered: Annotated[int, typer.Option(
        min=0, help='Rendered windows on which scores that could ship are compared by their '
                    'answers; 0 for none.')] = 0,
    budgets: Annotated[str, typer.Option(
        help='Shares of the tokens, with commas.')] = '0.6,0.4,0.2,0.1,0.05',
    out: Annotated[Path, typer.Option(help='Folder for what was found.')] = Path('out/scores'),
    worth: Annotated[Path, typer.Option(
        help='Folder for the worth of tokens, as of vts eval redundancy.')] = Path(
            'out/redundancy'),
    report: Annotated[Path | None, typer.Option(
        help='Folder in which to write the page.', show_default=False)] = None,
    model: ModelOption = 'embedded',
    device: DeviceOption = 'auto',
    as_json: JsonOption = False,
) -> None:
    """
    Compare scores by what they keep: of the risk object, and of what only the past shows.

    Scores with a memory and without are fitted to what hiding a token changes.
    """
    import itertools
    import time

    from vts_ros.lab.evaluation import score_roads
    from vts_ros.lab.evaluation.fitted_measures import (
        FITTED_NAMES,
        kept_areas,
        LazyFits,
        SEEDS,
    )
    from vts_ros.lab.evaluation.score_answers import compared_answers
    from vts_ros.lab.evaluation.score_page import CANDIDATES, write_scores
    from vts_ros.lab.evaluation.score_recall import (
        FIRST,
        object_recall,
        past_recall,
        turning_recall,
    )
    from vts_ros.lab.evaluation.score_roads import road_recall, still_recall
    from vts_ros.lab.evaluation.worth_windows import recorded, rendered
    from vts_ros.lab.recordings import check_recordings, fingerprint
    from vts_ros.lab.rivals.registry import methods, TEMPORAL_NAMES
    from vts_ros.lab.scenes.model_picture import SHIPPED
    from vts_ros.lab.teacher import CACHE, Teacher
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

    bags, start_sec = bag or [], time.monotonic()
    if teacher is not None and not bags:
        raise typer.BadParameter('--teacher needs --bag')
    check_recordings(bags)
    shares = token_shares(budgets)
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        fits = LazyFits(pipeline, fit, worth, lambda done: progress(
            0.3 * done / fit, f'{done} of {fit} windows to fit to'))
        result: dict[str, Any] = {
            'model': pipeline.vlm.name, 'fit': fit, 'seeds': SEEDS,
            'areas': kept_areas(
                pipeline.sparsifier, fits, lambda: itertools.chain(
                    rendered(pipeline, 'test', judged, worth),
                    *(recorded(pipeline, recording, per_bag, worth) for recording in bags)),
                out / f'fit{fit}' / f'areas-{judged}-{per_bag}-{fingerprint(*bags)}.json')}
        names = [*_METHODS, *TEMPORAL_NAMES, *FITTED_NAMES]
        # Measures that were fitted to other windows keep other tokens.
        result['past'] = past_recall(
            pipeline, methods(pipeline.sparsifier, names, fits.measures), pairs, shares, 8,
            out / f'fit{fit}', lambda share, what: progress(0.3 + 0.1 * share, what))
        unfitted = methods(pipeline.sparsifier, names[:-len(FITTED_NAMES)])
        result['object'] = object_recall(
            pipeline, unfitted, n, shares, out,
            lambda share, what: progress(0.4 + 0.3 * share, what))
        result['turning'] = turning_recall(
            pipeline, unfitted, turning, shares, out,
            lambda share, what: progress(0.7 + 0.1 * share, what))
        without_model = methods(pipeline.sparsifier, _METHODS)
        result['still'] = still_recall(
            pipeline.sparsifier, without_model, min(n, score_roads.STILL), shares,
            pipeline.vlm.token_grid(SHIPPED.height, SHIPPED.width), out,
            lambda share, what: progress(0.8, what))
        if teacher is not None:
            finder = Teacher(teacher, tiles)
            show_teacher(console, finder, bags, CACHE)
            result['roads'] = {'teacher': finder.name, 'tiles': tiles, **road_recall(
                pipeline.sparsifier, without_model, bags, finder.boxes_of, shares,
                out / f'roads-{finder.mark}', lambda share, what: progress(0.8, what))}
        if answered:
            result['answers'] = compared_answers(
                pipeline, methods(pipeline.sparsifier, [FIRST, *CANDIDATES]), answered,
                shares, out,
                lambda share, what: progress(0.8 + 0.2 * share, what))
    written = [] if report is None else write_scores(
        result, this_run(pipeline.vlm.info['device'], start_sec), report)
    finish(console, written, result, as_json)
