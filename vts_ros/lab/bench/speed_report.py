# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The measurements as tables for people, as plots, and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

#: Beside the page, all that it is made of: each command adds what it has measured.
PAGE, DATA = 'performance.md', 'performance.json'
WORKLOADS, GROWTH, DEADLINE, BUSY = 'workloads', 'growth', 'deadline', 'busy'
PEERS, GATE, GRAPHS = 'peers', 'gate', 'graphs'
SPEED_PLOT, STAGES_PLOT, GROWTH_PLOT = (
    'performance_speed.png', 'performance_stages.png', 'performance_growth.png')

#: In the order of the work.
STAGES = ('read', 'propose', 'encode', 'select', 'prepare', 'prefill_pictures', 'prefill',
          'decode')
#: After the palette of Okabe and Ito.
_COLOURS = ('#56b4e9', '#cc79a7', '#009e73', '#f0e442', '#999999', '#0072b2', '#e69f00', '#d55e00')


class Goal(NamedTuple):
    """
    What should be reached, as a ratio to stock transformers.

    Attributes
    ----------
    cases
        Of those that were measured, the best counts.
    is_most
        Whether the limit is the most that the ratio may be, and not the least.

    """

    cases: tuple[str, ...]
    metric: str
    limit: float
    is_most: bool = False

    def met(self, value: float) -> bool:
        """Return whether a ratio reaches it."""
        return value <= self.limit if self.is_most else value >= self.limit

    def best(self, result: dict[str, Any]) -> tuple[str, float] | None:
        """Return the best case of a workload and its ratio; None if none was measured."""
        ratios = [(name, ratio(result, name, self.metric)) for name in self.cases
                  if name in result['ratio_to_stock']]
        if not ratios:
            return None
        return (min if self.is_most else max)(ratios, key=lambda pair: pair[1])


#: At 60 % the figures of the paper. Frames as pictures and as a video are two ways to the same.
GOALS = (
    Goal(('window_0.6', 'window_video_0.6'), 'windows_per_s', 1.33),
    Goal(('window_0.6', 'window_video_0.6'), 'peak_bytes_above_weights', 0.72, is_most=True))
#: Of trained models, which answer as they like.
TRAINED_GOALS = (
    *GOALS,
    Goal(('drafted_0.4', 'drafted_video_0.4'), 'windows_per_s', 4.0),
    Goal(('drafted_0.4', 'drafted_video_0.4'), 'ttft_ms', 0.15, is_most=True))
#: Of shapes with random weights: all that there is at once, in the floats of stock and in int8.
SHAPE_GOALS = (
    *GOALS,
    Goal(('all_0.4',), 'windows_per_s', 5.0),
    Goal(('all_int8_0.4',), 'windows_per_s', 9.0),
    Goal(('all_0.4', 'all_int8_0.4'), 'ttft_ms', 0.10, is_most=True))
METRICS = {'windows_per_s': 'windows/s', 'ttft_ms': 'time to first token',
            'peak_bytes_above_weights': 'peak memory', 'kv_bytes': 'keys and values'}

#: What frames as pictures and as a video are called where they are compared, and their cases.
FRAMES_AS = {'stock images': 'dense', 'stock video': 'dense_video', 'pruned images': 'window_0.4',
             'pruned video': 'window_video_0.4'}


def name_of(result: dict[str, Any]) -> str:
    """Return what tells a workload from others."""
    work = result['workload']
    return f'{work["model"]}, {work["frames"]} frames'


def ratio(result: dict[str, Any], case: str, metric: str) -> float:
    """Return the median ratio of a case to stock transformers."""
    value = result['ratio_to_stock'][case][metric]
    return float(value['median'] if isinstance(value, dict) else value)


# --- for the terminal ----------------------------------------------------------------------

def table(result: dict[str, Any]) -> Table:
    """Return a workload as a table."""
    work, roofline = result['workload'], result.get('roofline')
    shown = Table(title=f'{name_of(result)}, {work["n"]} windows, seed {work["seed"]}')
    for name in ('', 'windows/s', '', 'first token', '', 'risk said', 'tokens/pass', 'KV', 'peak',
                 ''):
        shown.add_column(name, justify='right' if name or shown.columns else 'left')
    for case, figures in result['cases'].items():
        shown.add_row(*_row(result, case, figures))
    if roofline:
        shown.add_section()
        shown.add_row('prompt and answer alone', f'{roofline["windows_per_s"]:.3g}', '',
                      f'{roofline["ttft_ms"]:.0f} ms')
    return shown


def _row(result: dict[str, Any], case: str, figures: dict[str, Any]) -> Iterator[str]:
    def times(metric: str) -> str:
        return '' if case not in result['ratio_to_stock'] else \
            f'x {ratio(result, case, metric):.2f}'

    called = [name for name, other in FRAMES_AS.items() if other == case]
    yield f'{case} ({called[0]})' if called else case
    yield f'{figures["windows_per_s"]:.3g}'
    yield times('windows_per_s')
    yield f'{figures["ttft_ms"]:.0f} ms'
    yield times('ttft_ms')
    yield '' if figures.get('risk_ms') is None else f'{figures["risk_ms"]:.0f} ms'
    yield f'{figures["tokens_per_pass"]:.2f}'
    yield _mib(figures['kv_bytes'])
    yield _mib(figures['peak_bytes_above_weights'])
    yield times('peak_bytes_above_weights')


def growth_table(result: dict[str, Any]) -> Table:
    """Return the growth as a table."""
    shown = Table('', 'dense', 'drafted_0.4', 'first token, dense', 'drafted_0.4',
                  title=f'{result["workload"]["model"]}: ms per answer')
    for part, unit in (('frames', 'frames'), ('cameras', 'cameras')):
        for count, cases in result[part].items():
            shown.add_row(f'{count} {unit}', *(
                f'{cases[case][metric]:.0f}' for metric in ('total_ms', 'ttft_ms')
                for case in ('dense', 'drafted_0.4')))
        shown.add_section()
    return shown


def deadline_table(result: dict[str, Any]) -> Table:
    """Return fixed and planned windows under a deadline as a table."""
    shown = Table('', 'late', 'p50', 'p95', 'kept', 'answer', title=(
        f'{result["model"]}, deadline {result["deadline_ms"]:.0f} ms, {result["n"]} windows'))
    for name in ('fixed', 'planned'):
        case = result[name]
        shown.add_row(name, f'{case["late"]:.0%}', f'{case["p50_ms"]:.0f} ms',
                      f'{case["p95_ms"]:.0f} ms', f'{case["keep_ratio"]:.0%}',
                      f'{case["answer_tokens"]:.0f} tokens')
    return shown


def _mib(number: float) -> str:
    return f'{number / 2**20:.1f} MiB'


# --- plots ---------------------------------------------------------------------------------

def plot_speed(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw throughput and time to the first token of all cases, relative to stock transformers."""
    figure = _figure(8.6, 6.4)
    upper, lower = figure.subplots(2, 1)
    for axes, metric, label in ((upper, 'windows_per_s', 'windows per second, stock = 1'),
                                (lower, 'ttft_ms', 'time to first token, stock = 1')):
        _bars(axes, results, metric)
        axes.set_ylabel(label)
    upper.legend(fontsize='x-small')
    _save(figure, path)


def _bars(axes: Axes, results: Sequence[dict[str, Any]], metric: str) -> None:
    width = 0.8 / len(results)
    cases = list(dict.fromkeys(case for result in results for case in result['ratio_to_stock']))
    highest = 1.0
    for number, result in enumerate(results):
        # Not every model has every case.
        spreads = [result['ratio_to_stock'].get(case, {metric: dict.fromkeys(
            ('median', 'low', 'high'), 0.0)})[metric] for case in cases]
        middles = [spread['median'] for spread in spreads]
        highest = max(highest, *middles)
        errors = [[spread['median'] - spread['low'] for spread in spreads],
                  [spread['high'] - spread['median'] for spread in spreads]]
        places = [index + (number - 0.5 * (len(results) - 1)) * width
                  for index in range(len(cases))]
        axes.bar(places, middles, width, yerr=errors, label=name_of(result), capsize=1.5,
                 error_kw={'linewidth': 0.7}, color=_COLOURS[(5, 0, 7, 6, 2, 1)[number % 6]])
        axes.set_xticks(range(len(cases)), [case.replace('_', '\n') for case in cases],
                        fontsize='small')
    # A single window that something else delayed would make all bars small.
    axes.set_ylim(0.0, 1.35 * highest)
    axes.axhline(1.0, color='0.3', linewidth=0.8)
    axes.grid(axis='y', alpha=0.3)
    axes.set_axisbelow(True)


def plot_stages(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw where the time of an answer goes."""
    heights = [0.5 + 0.19 * len(result['cases']) for result in results]
    figure = _figure(8.6, 0.5 + sum(heights))
    rows = figure.subplots(len(results), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, result in zip(rows, results):
        cases = list(result['cases'])[::-1]
        begin = [0.0] * len(cases)
        for stage, colour in zip(STAGES, _COLOURS):
            values = [1e-3 * result['cases'][case]['stages_ms'].get(stage, {'p50': 0.0})['p50']
                      for case in cases]
            if any(values):
                axes.barh(cases, values, left=begin, color=colour, label=stage)
                begin = [before + value for before, value in zip(begin, values)]
        if 'roofline' in result:
            axes.axvline(1e-3 * result['roofline']['total_ms']['p50'], color='0.2',
                         linestyle='--', linewidth=1.0, label='prompt and answer alone')
        axes.set_title(name_of(result), fontsize='small', loc='left')
        axes.tick_params(labelsize='small')
    rows[-1].set_xlabel('seconds per answer (medians of the stages)')
    handles = {label: handle for axes in rows
               for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), fontsize='x-small', loc='outside right upper')
    _save(figure, path)


def plot_growth(result: dict[str, Any], path: Path) -> None:
    """Draw the time per answer against the length of the window and the number of cameras."""
    figure = _figure(8.0, 3.0)
    for axes, part, label in zip(figure.subplots(1, 2), ('frames', 'cameras'), (
            'frames of the window', f'cameras, {result["workload"]["frames"]} instants each')):
        counts = [int(count) for count in result[part]]
        for case, colour in (('dense', _COLOURS[7]), ('drafted_0.4', _COLOURS[5])):
            for metric, style, what in (('total_ms', '-o', 'answer'),
                                        ('ttft_ms', '--.', 'first token')):
                axes.plot(counts, [1e-3 * result[part][str(count)][case][metric]
                                   for count in counts], style, color=colour, markersize=4,
                          label=f'{case}, {what}')
        axes.set_xlabel(label)
        axes.set_ylabel('seconds')
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize='x-small')
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, pil_kwargs={'optimize': True})


def draw(data: dict[str, Any], folder: Path) -> list[Path]:
    """Draw all plots that the measurements are enough for; return the files."""
    drawn = []
    results = list(data.get(WORKLOADS, {}).values())
    if results:
        plot_speed(results, folder / SPEED_PLOT)
        plot_stages(results, folder / STAGES_PLOT)
        drawn += [folder / SPEED_PLOT, folder / STAGES_PLOT]
    if data.get(GROWTH):
        plot_growth(data[GROWTH], folder / GROWTH_PLOT)
        drawn.append(folder / GROWTH_PLOT)
    return drawn
