# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands show: lines, tables, and how far the work is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vts_ros.pipeline.report import SceneReport
    from vts_ros.tools.annotate_summary import Summary


@contextmanager
def progress_bar(as_json: bool) -> Iterator[tuple[Console, Callable[[float, str], None]]]:
    """Show a bar on stderr where stdout is for JSON; yields what tells how far a work is."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=as_json)
    with Progress(console=console) as bar:
        task = bar.add_task('loading', total=1.0)
        yield console, lambda share, what: bar.update(task, completed=share, description=what)
        bar.update(task, completed=1.0)


def finish(console: Console, written: list[Path], result: dict[str, Any] | None = None,
           as_json: bool = False) -> None:
    """Tell which files were written, and print the JSON object last."""
    import json

    for path in written:
        console.print(f'wrote {path}', highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(result))


def answer_row(report: SceneReport, start_ns: int) -> Table:
    """Return one answer as a line for the terminal; long explanations wrap in their column."""
    from rich.style import Style
    from rich.text import Text

    from vts_ros.tools.pictures import seconds

    answer = report.answer
    red, green, blue = report.colour
    age_ms = report.age_ms if report.age_ms is not None else report.latency_ms.get('total', 0.0)
    # Text and not markup: the words come from a model.
    return _columns(
        seconds(report.stamp, start_ns),
        Text(answer.risk.upper(), Style(color=f'rgb({red},{green},{blue})', bold=True)),
        Text(answer.label or '-'), Text(answer.explanation or '(no answer that can be read)'),
        f'{len(report.keep)}/{report.tokens_total}', f'{1e-3 * age_ms:.1f} s')


def answer_head() -> Table:
    """Return the heading of the lines of :func:`answer_row`."""
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
    """Return the summary of a run, as a few lines for the terminal."""
    from vts_ros.tools.annotate_summary import counter_texts
    from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS, PAGE, SHEET, VIDEO

    risks = ', '.join(f'{count} {level}' for level, count in summary.risks.items() if count)
    kept, total = summary.tokens
    lines = [
        f'\n{len(summary.reports)} answers ({risks}); {kept:.0f} of {total:.0f} visual tokens '
        f'kept; {1e-3 * summary.latency_ms(50):.2f} s per answer (median).']
    lines += [f'note: {count} {text}' for text, count in counter_texts(
        summary.counters, without=('frames', 'admitted', 'thinned', 'duplicate'))]
    lines += [f'page   {summary.out / PAGE}', f'sheet  {summary.out / SHEET}',
              f'video  {summary.out / VIDEO}', f'JSON   {summary.out / ANSWERS}']
    if (summary.out / ANNOTATED_BAG).exists():
        lines.append(f'bag    {summary.out / ANNOTATED_BAG}')
    return '\n'.join(lines)


def score_table(title: str, result: dict[str, Any]) -> Table:
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


def method_table(title: str, part: dict[str, Any], ratios: list[float]) -> Table:
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


def rate_table(title: str, rates: dict[str, dict[str, Any]]) -> Table:
    """Return a table of the recall of proposal networks, a column for each."""
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


def coverage_table(result: dict[str, Any]) -> Table:
    """Return a table of the share of road users kept, a row for each way to choose."""
    from rich.table import Table

    whole = result['groups']['all']
    budgets = list(next(iter(whole['kept'].values())))
    table = Table('', *(f'{float(budget):.0%}' for budget in budgets), 'AUC',
                  title=f'Share of {whole["users"]} road users in {whole["n"]} recordings that is '
                        'kept',
                  caption='in frames that are neither the key frame nor the newest; 95 % over '
                          'recordings')

    def cell(found: list[float | None] | None) -> str:
        if not found:
            return '-'
        mean, low, high = found
        return f'{mean:.2f}' if low is None else f'{mean:.2f} [{low:.2f}, {high:.2f}]'

    for way, shares in whole['kept'].items():
        table.add_row(way, *map(cell, (*shares.values(), whole['auc'].get(way))))
    return table


def network_table(result: dict[str, Any]) -> Table:
    """Return a table of accuracy and tokens kept, a row for each network."""
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


def comparison_table(title: str, columns: dict[str, dict[str, Any]]) -> Table:
    """Return metrics side by side."""
    from rich.table import Table

    table = Table('', *columns, title=title)
    for metric in next(iter(columns.values())):
        table.add_row(metric, *(
            f'{found[metric]:.3f}' if isinstance(found[metric], float) else str(found[metric])
            for found in columns.values()))
    return table


def speed_table(result: dict[str, Any]) -> Table:
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
