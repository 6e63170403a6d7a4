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
_SHARE_NONE = 'vts-share-none'
_METHODS = ('vts', _SHARE_NONE, 'vts-score-importance', 'vts-score-similarity', 'random')


@app.command('scores', epilog='Example: [bold]vts eval scores --n 2000 --pairs 48 --report docs'
                              '[/bold]. About half a second a window on one core, five to fit to, '
                              'two to answer; what was measured is kept, the same command '
                              'goes on.')
def eval_scores(
    n: Annotated[int, typer.Option(
        '--n', min=8, help='Rendered windows with a risk object.')] = 2000,
    turning: Annotated[int, typer.Option(
        min=8, help='Rendered windows with a risk object in tight bends.')] = 400,
    cameras: Annotated[int, typer.Option(
        min=8, help='Rendered windows of three cameras with a risk object.')] = 400,
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
    network: Annotated[Path | None, typer.Option(
        help='Folder of a proposal network to compare with the shipped one, as of vts train '
             'proposal.', show_default=False)] = None,
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
    from collections.abc import Iterator
    from dataclasses import replace
    import time

    import numpy as np
    from numpy.typing import NDArray

    from vts_ros.lab.evaluation import score_roads
    from vts_ros.lab.evaluation.camera_recall import camera_recall
    from vts_ros.lab.evaluation.fitted_measures import (
        areas,
        cost_ms,
        FITTED_NAMES,
        kept_figures,
        LazyFits,
        network_areas,
        SEEDS,
    )
    from vts_ros.lab.evaluation.method_comparison import prepare_window
    from vts_ros.lab.evaluation.proposal_networks import about_network
    from vts_ros.lab.evaluation.score_answers import compared_answers
    from vts_ros.lab.evaluation.score_page import write_scores
    from vts_ros.lab.evaluation.score_recall import (
        FIRST,
        object_recall,
        past_recall,
        turning_recall,
    )
    from vts_ros.lab.evaluation.score_roads import road_recall, still_recall
    from vts_ros.lab.evaluation.score_verdicts import CANDIDATES
    from vts_ros.lab.evaluation.worth_windows import recorded, rendered, WorthWindow
    from vts_ros.lab.recordings import check_recordings, fingerprint
    from vts_ros.lab.rivals.registry import (
        as_one_method,
        MEASURE,
        Method,
        methods,
        network_method,
        TEMPORAL_NAMES,
    )
    from vts_ros.lab.scenes.clips import balanced_scenes
    from vts_ros.lab.scenes.model_picture import SHIPPED
    from vts_ros.lab.teacher import CACHE, Teacher
    from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
    from vts_ros.sparsify import Sparsifier

    bags, start_sec = bag or [], time.monotonic()
    if teacher is not None and not bags:
        raise typer.BadParameter('--teacher needs --bag')
    check_recordings(bags)
    shares = token_shares(budgets)
    with progress_bar(as_json) as (console, progress):
        pipeline = Pipeline.load(PipelineConfig(model=model, device=device))
        fits = LazyFits(pipeline, fit, worth, lambda done: progress(
            0.3 * done / fit, f'{done} of {fit} windows to fit to'))
        sparsifier, vlm = pipeline.sparsifier, pipeline.vlm

        def encode(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(vlm.encode(picture).tokens.float().cpu().numpy(), np.float32)

        def worths() -> Iterator[WorthWindow]:
            yield from rendered(pipeline, 'test', judged, worth)
            for recording in bags:
                yield from recorded(pipeline, recording, per_bag, worth)

        of_areas = f'areas-{judged}-{per_bag}-{fingerprint(*bags)}.json'
        result: dict[str, Any] = {
            'model': vlm.name, 'fit': fit, 'seeds': SEEDS,
            'areas': kept_figures(out / f'fit{fit}' / of_areas, lambda: areas(
                sparsifier, [fits.of(seed) for seed in range(SEEDS)], worths()))}
        # Measures that were fitted to other windows keep other tokens.
        fitted = {method.name: replace(method, learned_from=f'fit{fit}') for method in methods(
            sparsifier, FITTED_NAMES, fits.measures)}
        others: list[Method] = []
        if network is not None:
            other = Sparsifier.load(network)
            mark = f'network-{fingerprint(network / "frame.onnx")}'
            others = [network_method(other, about_network(network), mark)]
            result['network'] = {
                'about': others[0].about, 'areas': kept_figures(
                    out / mark / of_areas, lambda: network_areas(sparsifier, other, worths()))}
        with_measure = [fitted[MEASURE], *others]
        unfitted = methods(sparsifier, [*_METHODS, *TEMPORAL_NAMES])
        result['past'] = past_recall(
            pipeline, [*unfitted, *fitted.values(), *others], pairs, shares, 8, out,
            lambda share, what: progress(0.3 + 0.1 * share, what))
        result['object'] = object_recall(
            pipeline, [*unfitted, *with_measure], n, shares, out,
            lambda share, what: progress(0.4 + 0.3 * share, what))
        result['turning'] = turning_recall(
            pipeline, [*unfitted, *with_measure], turning, shares, out,
            lambda share, what: progress(0.7 + 0.1 * share, what))
        without_tokens = methods(sparsifier, _METHODS)
        result['cameras'] = camera_recall(
            pipeline, [*methods(sparsifier, [name for name in _METHODS if name != _SHARE_NONE]),
                       as_one_method(sparsifier), *others], cameras, shares, out,
            lambda share, what: progress(0.8, what))
        grid = vlm.token_grid(SHIPPED.height, SHIPPED.width)
        result['still'] = still_recall(
            sparsifier, [*without_tokens, *with_measure], min(n, score_roads.STILL), shares,
            grid, out, lambda share, what: progress(0.8, what), encode)
        if teacher is not None:
            finder = Teacher(teacher, tiles)
            show_teacher(console, finder, bags, CACHE)
            about = {'teacher': finder.name, 'tiles': tiles}
            result['roads'] = {**about, **road_recall(
                sparsifier, [*without_tokens, *others], bags, finder.boxes_of, shares,
                out / f'roads-{finder.mark}', lambda share, what: progress(0.8, what))}
            # Where the tokens of the language model are: a measure looks at them.
            result['token_roads'] = {**about, **road_recall(
                sparsifier, [*without_tokens, *with_measure], bags, finder.boxes_of, shares,
                out / f'roads-{finder.mark}-{grid[0]}x{grid[1]}',
                lambda share, what: progress(0.8, what), grid, encode)}
        if answered:
            result['answers'] = compared_answers(
                pipeline, [*methods(sparsifier, [FIRST, *CANDIDATES]), *others], answered, shares,
                out,
                lambda share, what: progress(0.8 + 0.2 * share, what))
        result['cost_ms'] = kept_figures(out / f'fit{fit}' / 'cost.json', lambda: {
            MEASURE: cost_ms(fits.one(0, MEASURE), sparsifier, prepare_window(
                pipeline, next(balanced_scenes('test', 1))).evidence)})[MEASURE]
    written = [] if report is None else write_scores(
        result, this_run(pipeline.vlm.info['device'], start_sec), report)
    finish(console, written, result, as_json)
