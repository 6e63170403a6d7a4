# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands ``eval lingoqa`` and ``eval drama``: published sets of questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vts_ros.tools.cli.options import BudgetsOption, DeviceOption, JsonOption, token_shares
from vts_ros.tools.cli.terminal import score_table

app = typer.Typer()

VlmOption = Annotated[str, typer.Option(
    '--vlm', help='Language model: shipped name, checkpoint directory, or hub id in the local '
                  'cache.')]
LimitOption = Annotated[int | None, typer.Option(
    min=1, help='Take the first ones only.', show_default=False)]
LengthOption = Annotated[int, typer.Option(min=1, help='Longest answer, in tokens.')]
AnswersOption = Annotated[Path | None, typer.Option(
    '--out', help='Folder for the answers at every budget.', show_default=False)]


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
