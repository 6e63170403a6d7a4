# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page about quality over budget, with its plots, from the result of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import math
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vts_ros.lab.evaluation.difficulty import HARD_TEXT
from vts_ros.lab.evaluation.generated_page import (
    between,
    day_and_machine,
    head,
    new_figure,
    place,
    read_data,
    Run,
    style,
    write_data,
    write_text,
)
from vts_ros.lab.rivals.registry import Group, Method

DATA = 'quality.json'
PAGE, METHODS_PLOT, ABLATIONS_PLOT = 'quality.md', 'quality_methods.png', 'quality_ablations.png'

_METRICS = {'risk_accuracy': 'Risk level right', 'object_accuracy': 'Risk object right'}
_OF = {'risk_accuracy': 'risk level', 'object_accuracy': 'risk object'}
_PARTS = {'all': 'All windows', 'hard': 'Hard windows'}
_ABLATIONS: dict[Group, str] = {
    'key': 'Key frame', 'share': 'Shares', 'score': 'Score', 'radius': 'Search radius'}


class _Line(NamedTuple):
    """How a method is drawn, the same in every plot."""

    colour: str
    style: str = '-'
    marker: str = 'o'
    width: float = 1.5


#: After Okabe and Ito as far as their colours go; controls without an idea are dashed.
_LINES: dict[str, _Line] = {
    'vts': _Line('#000000', marker='o', width=2.8),
    'random': _Line('#999999', '--', 's'),
    'downsample': _Line('#7F5F3F', '--', 'v'),
    'newest': _Line('#C060C0', '--', '^'),
    'evs': _Line('#E69F00', marker='D'),
    'evs-newest': _Line('#D55E00', marker='D'),
    'dycoke': _Line('#009E73', marker='X'),
    'dtd': _Line('#56B4E9', marker='P'),
    'vidcom2': _Line('#0072B2', marker='p'),
    'dart': _Line('#E0559A', marker='h'),
    'vts-key-newest': _Line('#D55E00', marker='^'),
    'vts-key-oldest': _Line('#E69F00', marker='v'),
    'vts-key-random': _Line('#999999', '--', 's'),
    'vts-key-oracle': _Line('#0072B2', marker='*'),
    'vts-share-whole': _Line('#D55E00', marker='^'),
    'vts-share-half': _Line('#0072B2', marker='*'),
    'vts-share-key': _Line('#009E73', marker='D'),
    'vts-share-newest': _Line('#E0559A', marker='P'),
    'vts-share-none': _Line('#56B4E9', marker='v'),
    'vts-score-similarity': _Line('#009E73', marker='D'),
    'vts-score-importance': _Line('#E0559A', marker='P'),
    'vts-radius-0': _Line('#56B4E9', marker='v'),
    'vts-radius-2': _Line('#0072B2', marker='^'),
}


def write_quality(result: Mapping[str, Any], known: Sequence[Method], run: Run,
                  folder: Path) -> list[Path]:
    """
    Write the page and its plots.

    Parameters
    ----------
    result
        Of ``vts_ros.lab.evaluation.method_comparison.compare``.
    known
        The methods of the result.
    run
        Where and how it was made.
    folder
        Where the files go.

    Returns
    -------
    The files, the page first and its data last; a plot without a line is left out.

    """
    written = [write_text(folder / PAGE, _page(result, known, run))]
    baselines = [method for method in known if method.group in ('baseline', 'vts')]
    ablations = [method for method in known if method.group in _ABLATIONS]
    for name, figure in (
            (METHODS_PLOT, _methods_figure(result, baselines) if baselines else None),
            (ABLATIONS_PLOT, _ablations_figure(result, ablations) if ablations else None)):
        if figure is not None:
            figure.savefig(folder / name)
            written.append(folder / name)
    return [*written, write_data(folder / DATA, result, run)]


def read_quality(folder: Path) -> tuple[dict[str, Any], Run]:
    """Return result and run of a page that was written before."""
    return read_data(folder / DATA)


def page(result: Mapping[str, Any], known: Sequence[Method], run: Run) -> str:
    """Return the text of the page; arguments as ``write_quality``."""
    return '\n'.join(_page(result, known, run)) + '\n'


def _page(result: Mapping[str, Any], known: Sequence[Method], run: Run) -> Iterator[str]:
    baselines = [method for method in known if method.group in ('baseline', 'vts')]
    ablations = [method for method in known if method.group in _ABLATIONS]
    parts = {'all': result, 'hard': result['hard']}
    yield from head('Quality over the number of visual tokens', run, (
        ' Every method keeps exactly the same number of visual tokens\nof the same features and '
        'gives them to the same model; only `vts` was trained.'))
    yield from _facts(result, run)
    if baselines:
        yield '\n## Methods\n'
        yield f'![Quality over budget, one line per method]({METHODS_PLOT})\n'
        yield from _tables(parts, baselines)
        yield from _goals(parts)
    if ablations:
        vts = [method for method in baselines if method.group == 'vts']
        yield '\n## Ablations of `vts`\n'
        yield ('Each variant changes one thing: the key frame, the shares of key and newest frame '
               'in the budget, the\nscore, or the search radius.\n')
        yield f'![Quality over budget, one line per variant]({ABLATIONS_PLOT})\n'
        yield from _tables(parts, [*vts, *ablations])
    yield '\n## What each method keeps, and how it meets the budget exactly\n'
    yield '| method | keeps | exactly the budget by | ms per window |\n|---|---|---|---|'
    for method in (*baselines, *ablations):
        took = result['select_ms'].get(method.name)
        yield (f'| `{method.name}` | {method.about} | {method.fit} | '
               f'{"" if took is None else f"{took:.2f}"} |')
    yield ('\nBudgets are `round(share * all tokens)`. Nothing is merged; kept tokens keep their '
           'positions.\nTimes are those of the selection alone, for `vts` without the proposal '
           'network.')


def _facts(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    rows, columns = result['grid']
    n, hard = result['n'], result['hard']['n']
    ends = ('end after risk and object, which come first; the texts were not evaluated'
            if result['brief'] else 'are complete')
    error = 100.0 * 0.5 / math.sqrt(n)
    yield (f'- The first {n} rendered windows of the split `{result["split"]}`, risk levels '
           f'balanced (chance is 25 %), none of them\n  trained on; {rows} x {columns} tokens per '
           'frame.')
    yield f'- {hard} of them are hard: {HARD_TEXT}.'
    yield f'- Model `{result["model"]}`, greedy decoding; answers {ends}.'
    yield f'- {day_and_machine(run, with_time=True)}'
    yield (f'- The standard error of a share of {n} windows is up to {error:.1f} points'
           + (f', of {hard} up to {100.0 * 0.5 / math.sqrt(hard):.1f}' if hard else '')
           + '. All methods saw\n  the same windows, so differences have smaller errors.')


def _tables(parts: Mapping[str, Mapping[str, Any]], known: Sequence[Method]) -> Iterator[str]:
    yield ('Accuracy of risk level / risk object in percent; ± is the standard deviation over '
           'seeds, bold the best of a\ncolumn, a dash where a method cannot keep so few.')
    for name, part in parts.items():
        budgets = _budgets(part, known)
        dense = ' / '.join(_percent(part['dense'][metric]) for metric in _METRICS)
        yield (f'\n{_PARTS[name]} ({part["n"]}); with all tokens {dense}:\n\n'
               f'| tokens kept | {" | ".join(f"{float(share):.0%}" for share in budgets)} |\n'
               f'|---|{"---|" * len(budgets)}')
        best = {(share, metric): max(
            (value for value in (_value(part, method, share, metric) for method in known)
             if value is not None), default=None) for share in budgets for metric in _METRICS}
        for method in known:
            cells = (_cell(part, method, share, best) for share in budgets)
            yield f'| `{method.name}` | {" | ".join(cells)} |'


def _goals(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield how much VTS keeps, and how it compares with the best baseline of each budget."""
    if not any(part.get('against') for part in parts.values()):
        return
    yield '\n## `vts` against the best of the others\n'
    yield ('Points ahead of the best baseline on the same windows, and accuracy relative to that '
           'with all tokens, in\npercent; in brackets the 95 % bootstrap interval over windows. '
           'First: the whole interval is above 0;\nbehind: it is below.')
    for name, part in parts.items():
        if not part.get('against'):
            continue
        yield f'\n### {_PARTS[name]}\n'
        yield ('| tokens | accuracy of | best baseline | points ahead | | of all tokens |\n'
               '|---|---|---|---|---|---|')
        for share, metrics in part['against'].items():
            for metric, found in metrics.items():
                yield (f'| {float(share):.0%} | {_OF[metric]} | '
                       f'{"-" if found["best"] is None else "`" + found["best"] + "`"} | '
                       f'{between(found["ahead"], found["ahead_ci"], "+.1f")} | '
                       f'{place(found["ahead_ci"])} | '
                       f'{between(found["kept"], found["kept_ci"], ".1f")} |')


def _cell(part: Mapping[str, Any], method: Method, share: str,
          best: Mapping[tuple[str, str], float | None]) -> str:
    found = part['methods'][method.name][share]
    if found is None:
        return '-'
    texts = []
    for metric in _METRICS:
        text = _percent(found[metric])
        if found[metric] is not None and found[metric] == best[share, metric]:
            text = f'**{text}**'
        spread = found.get(f'{metric}_sd')
        texts.append(text if spread is None else f'{text} ±{100.0 * spread:.1f}')
    return ' / '.join(texts)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100.0 * value:.1f}'


def _budgets(part: Mapping[str, Any], known: Iterable[Method]) -> list[str]:
    """Return the budgets as the result calls them, from many tokens to few."""
    shares = {share for method in known for share in part['methods'][method.name]}
    return sorted(shares, key=float, reverse=True)


def _value(part: Mapping[str, Any], method: Method, share: str, metric: str) -> float | None:
    found = part['methods'][method.name].get(share)
    return None if found is None else found[metric]


# --- plots ---------------------------------------------------------------------------------

def _methods_figure(result: Mapping[str, Any], known: Sequence[Method]) -> Figure:
    """Draw risk and object beside each other, all windows above the hard ones."""
    parts = {'all': result, 'hard': result['hard']}
    if not result['hard']['n']:
        del parts['hard']
    figure = new_figure(11.0, 1.2 + 3.6 * len(parts))
    axes = figure.subplots(len(parts), 2, squeeze=False, sharex=True, sharey='row')
    for row, (name, part) in zip(axes, parts.items()):
        for axis, (metric, title) in zip(row, _METRICS.items()):
            # The method of this project leads the legend.
            _draw(axis, part, sorted(known, key=lambda method: method.group != 'vts'), metric)
            axis.set_title(f'{title}: {_PARTS[name].lower()} ({part["n"]})', fontsize=11)
    _finish(axes[-1])
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right upper', frameon=False, fontsize=10)
    return figure


def _ablations_figure(result: Mapping[str, Any], known: Sequence[Method]) -> Figure:
    """Draw a column per thing that is changed, risk above object; all windows."""
    groups = {group: [method for method in known if method.group == group]
              for group in _ABLATIONS}
    groups = {group: members for group, members in groups.items() if members}
    figure = new_figure(1.0 + 3.4 * len(groups), 8.6)
    axes = figure.subplots(2, len(groups), squeeze=False, sharex=True, sharey='row')
    for row, (metric, title) in zip(axes, _METRICS.items()):
        for axis, (group, members) in zip(row, groups.items()):
            _draw(axis, result, members, metric)
            if 'vts' in result['methods']:
                _draw_line(axis, result, 'vts', metric)
            axis.set_title(f'{_ABLATIONS[group]}: {title.lower()}', fontsize=11)
    _finish(axes[-1])
    for axis in axes[-1]:
        # Below the plot: within it there is always a line in the way.
        axis.legend(frameon=False, fontsize=9, loc='upper center', bbox_to_anchor=(0.5, -0.2))
    return figure


def _draw(axis: Axes, part: Mapping[str, Any], known: Sequence[Method], metric: str) -> None:
    """Draw a line per method and one for all tokens."""
    dense = part['dense'][metric]
    if dense is not None:
        axis.axhline(dense, color='0.35', linewidth=1.0, linestyle=':', label='all tokens')
    for method in known:
        _draw_line(axis, part, method.name, metric)
    style(axis, {float(share) for method in known for share in part['methods'][method.name]})


def _draw_line(axis: Axes, part: Mapping[str, Any], name: str, metric: str) -> None:
    line = _LINES[name]
    points = [(float(share), found[metric], found.get(f'{metric}_sd'))
              for share, found in part['methods'][name].items()
              if found is not None and found[metric] is not None]
    if not points:
        return
    shares, values, spreads = zip(*sorted(points))
    front = 4 if name == 'vts' else 3
    axis.plot(shares, values, color=line.colour, linestyle=line.style, linewidth=line.width,
              marker=line.marker, markersize=6, markeredgecolor='white', markeredgewidth=0.6,
              label=name, zorder=front)
    if spreads[0] is not None:
        low = [value - spread for value, spread in zip(values, spreads)]
        high = [value + spread for value, spread in zip(values, spreads)]
        axis.fill_between(shares, low, high, color=line.colour, alpha=0.25, linewidth=0, zorder=2)


def _finish(bottom: Iterable[Axes]) -> None:
    for axis in bottom:
        axis.set_xlabel('visual tokens kept')
