# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Proposal networks on the same windows: what they find, what answers are worth, and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.answer_metrics import score
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.difficulty import object_area
from vts_ros.lab.evaluation.generated_page import (
    between,
    day_and_machine,
    head,
    new_figure,
    place,
    Run,
    style,
    write_data,
    write_text,
)
from vts_ros.lab.evaluation.method_comparison import (
    answer_all,
    EvaluatedWindow,
    prepare_window,
    Progress,
)
from vts_ros.lab.evaluation.proposal_recall import HIT_SHARE, NOTE, object_tokens, REPORT
from vts_ros.lab.rivals.registry import Method, methods
from vts_ros.lab.scenes.cells import true_saliency
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Sparsifier, token_budget, WindowFeatures

PAGE, PLOT, DATA = 'proposal.md', 'proposal.png', 'proposal.json'
METRICS = {'risk_accuracy': 'Risk level right', 'object_accuracy': 'Risk object right',
           'object_recall': 'Tokens of the risk object kept'}
_ANSWERS = ('risk_accuracy', 'object_accuracy')
#: Windows of which features are held at once.
_CHUNK = 16
#: After Okabe and Ito, the networks in their order.
_COLOURS = ('#000000', '#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00')

Values = NDArray[np.float64]


class Row(NamedTuple):
    """
    One way to choose tokens.

    Attributes
    ----------
    about
        In a few words, for the page.
    is_network
        Whether it is one of the networks that are compared, not a reference.
    method
        How it chooses.
    sparsifier
        Of the network that looks at the frames; None where none does.
    is_key_found
        Whether the key frame is the most salient one; otherwise it is given.
    is_saliency_true
        Whether the truth stands in the place of the saliency.

    """

    about: str
    is_network: bool
    method: Method
    sparsifier: Sparsifier | None
    is_key_found: bool = False
    is_saliency_true: bool = False


def compare_networks(pipeline: Pipeline, networks: Mapping[str, Path], split: str = 'test',
                     n: int = 500, budgets: Sequence[float] = (0.8, 0.6, 0.4, 0.2, 0.1),
                     progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Answer windows of a split with the tokens that each network keeps, and compare with the truth.

    Everything but the saliency is the same for all: windows, features, budgets, the window step
    and the language model. Answers end after risk and object.

    Parameters
    ----------
    networks
        Folders with ``frame.onnx`` and ``window.onnx`` by the name of the network; the others
        are compared with the first.
    split
        ``val`` or ``test``; risk levels are balanced.
    n
        Windows.
    budgets
        Keep ratios beside 1.0, which is ``dense``.

    Returns
    -------
    ``{'n', 'objects': windows with a risk object, 'split', 'model', 'grid', 'dense': metrics,
    'rows': {name: {'about', 'is_network', 'budgets': {budget: metrics}}}, 'ahead': {name:
    {budget: metrics}}, 'keys': {name: {'good', 'good_ci', 'share'}}}``. Metrics are those of
    ``METRICS``, each with its bootstrap interval of 95 % as ``*_ci``; ``ahead`` is how far the
    first network is ahead of another row on the same windows. A key frame is good if it shows
    ``HIT_SHARE`` of the largest area of the risk object in any frame; ``share`` is the mean share
    of that area.

    Raises
    ------
    EngineError, FileNotFoundError
        If a network cannot be loaded.
    ValueError
        If a network has the name of a reference.

    """
    rows = _rows({name: Sparsifier.load(folder) for name, folder in networks.items()},
                 {name: about_network(folder) for name, folder in networks.items()})
    ratios = tuple(dict.fromkeys(budgets))
    tally = _Tally()
    for first in range(0, n, _CHUNK):
        progress(first / n, f'windows {first + 1} to {min(first + _CHUNK, n)} of {n}')
        scenes = balanced_scenes(split, min(_CHUNK, n - first), first)
        _add(tally, pipeline, [prepare_window(pipeline, scene) for scene in scenes], rows, ratios)
    progress(1.0, f'{n} windows')
    return {'n': n, 'split': split, 'model': pipeline.vlm.name, 'grid': list(tally.grid),
            **_figures(tally, rows, ratios)}


@dataclass
class _Tally:
    """
    What was found in all windows so far, in their order.

    Attributes
    ----------
    dense
        What is right with all tokens, as of ``_judge``.
    values
        The same by row and keep ratio.
    areas
        As of ``_area_shares``.
    keys
        Index of the key frame, by row.

    """

    dense: list[Values] = field(default_factory=list)
    values: dict[tuple[str, float], list[Values]] = field(default_factory=dict)
    areas: list[Values] = field(default_factory=list)
    keys: dict[str, list[int]] = field(default_factory=dict)
    grid: tuple[int, int] = (0, 0)


def _add(tally: _Tally, pipeline: Pipeline, windows: Sequence[EvaluatedWindow],
         rows: Mapping[str, Row], ratios: Sequence[float]) -> None:
    """Add some windows."""
    count, tally.grid = len(windows), windows[0].evidence.grid
    tally.dense += _judge(pipeline, windows, [None] * count)
    tally.areas += [_area_shares(window) for window in windows]
    evidence_of = _propose(windows, rows)
    for name, row in rows.items():
        if row.is_key_found and row.sparsifier is not None:
            tally.keys.setdefault(name, []).extend(
                row.sparsifier.select(window.proposals, window.grid, 1.0).key
                for window in evidence_of[name])
    for ratio in ratios:
        budget = token_budget(len(windows[0].frames), tally.grid, ratio)
        # All rows together: what several of them keep alike is asked once.
        found = _judge(pipeline, [*windows] * len(rows), [
            row.method.keep(evidence, budget) for name, row in rows.items()
            for evidence in evidence_of[name]])
        for index, name in enumerate(rows):
            tally.values.setdefault((name, ratio), []).extend(
                found[index * count:(index + 1) * count])


def _figures(tally: _Tally, rows: Mapping[str, Row], ratios: Sequence[float]) -> dict[str, Any]:
    """Return means, differences and intervals."""
    dense = np.stack(tally.dense)
    values = {key: np.stack(found) for key, found in tally.values.items()}
    means = _Means(dense)
    main, *others = rows
    return {
        'objects': int(means.has_object.sum()), 'dense': means.of(dense),
        'rows': {name: {'about': row.about, 'is_network': row.is_network, 'budgets': {
            f'{ratio:g}': means.of(values[name, ratio]) for ratio in ratios}}
            for name, row in rows.items()},
        'ahead': {name: {f'{ratio:g}': means.of(values[main, ratio] - values[name, ratio])
                         for ratio in ratios} for name in others},
        'keys': _keys(np.stack(tally.areas)[means.has_object], {
            name: np.array(found)[means.has_object] for name, found in tally.keys.items()},
            means)}


def _rows(networks: Mapping[str, Sparsifier], about: Mapping[str, str]) -> dict[str, Row]:
    """Return the networks, and what they are to be evidence_of against."""
    main = next(iter(networks.values()))
    rows = {name: Row(about[name], True, methods(sparsifier, ('vts',))[0], sparsifier,
                      is_key_found=True) for name, sparsifier in networks.items()}
    by_name = {method.name: method for method in methods(
        main, ('vts', 'vts-key-newest', 'vts-key-oracle', 'random'))}

    references = {
        'oracle saliency': Row(
            'saliency from the truth, as the training on the truth aims at', False,
            by_name['vts'], main, is_key_found=True, is_saliency_true=True),
        'newest key frame': Row('the first network; the newest frame is the key frame', False,
                                by_name['vts-key-newest'], main),
        'oracle key frame': Row('the first network; the key frame is the one that really shows '
                                'most of the risk object', False, by_name['vts-key-oracle'], main),
        'random': Row('at random, equally many of every frame', False, by_name['random'], None)}
    for name in rows.keys() & references.keys():
        raise ValueError(f'{name!r} is the name of a reference: name the network otherwise')
    return {**rows, **references}


def _propose(windows: Sequence[EvaluatedWindow], rows: Mapping[str, Row]
             ) -> dict[str, list[WindowFeatures]]:
    """Return what each row looks at; several rows share a network, which looks once."""
    proposed: dict[int, list[WindowFeatures]] = {id(None): [window.evidence for window in windows]}
    evidence_of = {}
    for name, row in rows.items():
        sparsifier = row.sparsifier
        if sparsifier is not None and id(sparsifier) not in proposed:
            proposed[id(sparsifier)] = [_proposals_of(sparsifier, window) for window in windows]
        found = proposed[id(sparsifier)]
        evidence_of[name] = (list(map(_with_true_saliency, found, windows))
                             if row.is_saliency_true else found)
    return evidence_of


def _proposals_of(sparsifier: Sparsifier, window: EvaluatedWindow) -> WindowFeatures:
    return window.evidence._replace(proposals=tuple(
        sparsifier.propose(picture) for picture in window.evidence.frames))


def _with_true_saliency(evidence: WindowFeatures, window: EvaluatedWindow) -> WindowFeatures:
    """Put the truth in the place of the saliency."""
    return evidence._replace(proposals=tuple(
        proposal._replace(saliency=true_saliency(truth, *proposal.saliency.shape))
        for proposal, truth in zip(evidence.proposals, window.frames)))


def about_network(folder: Path) -> str:
    """Return how a network was trained, as far as it is noted beside it."""
    note, report = _read(folder / NOTE), _read(folder / REPORT)
    how = report.get('settings')
    if how is None and 'rendered' in note:
        return _about_training(note)
    if how is None:
        return 'not known: nothing is noted beside it'
    bags = ', '.join(f'`{bag}`' for bag in how['bags'])
    if how.get('targets') == 'importance':
        return (f'what a measure, fitted to {how["fitted"]} windows, says hiding a token of '
                f'{report["train"]} rendered windows changes for `{how["model"]}`; '
                f'{how["steps"]} steps of {how["batch"]} frames, the saliency alone of the '
                'shipped network')
    if 'teacher' in how:
        return (f'road users that the detector `{how["teacher"]}` finds in {report["train"]} '
                f'frames of {bags}; {how["steps"]} steps of {how["batch"]} frames')
    windows = f'{report["train"]} windows of {bags}' if bags else (
        f'{report["train"]} rendered windows')
    what = (f'the truth about {windows}' if how['targets'] == 'truth' else
            f'what `{how["model"]}` uses of {windows}, each hidden by halves '
            f'{how["passes"]} times')
    start = 'its saliency begun anew' if how['anew'] else 'begun with the shipped network'
    return f'{what}; {how["steps"]} steps of {how["batch"]} frames, {start}'


def _about_training(note: Mapping[str, Any]) -> str:
    """Return what ``train_proposal`` has noted, in a few words."""
    parts = [f'{note["rendered"]:,} rendered pictures']
    if note['roads']:
        parts.append(f'{note["roads"]:,} of real roads with the boxes of a detector')
    if note['over']:
        parts.append(f'{note["over"]:,} with rendered actors over a real road')
    begin = f'; begun with `{note["backbone"]}`' if note['backbone'] else ''
    if note.get('features'):
        begin = (f'; in {note["features"]} steps before these it learned to say what '
                 f'`{note["backbone"]}` says of them')
    return f'{", ".join(parts)}; {note["steps"]} steps of {note["batch"]}{begin}'


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


def _judge(pipeline: Pipeline, windows: Sequence[EvaluatedWindow],
           keeps: Sequence[NDArray[np.int32] | None]) -> list[Values]:
    """Return for each window and keep list what is right and kept, in the order of METRICS."""
    asked: dict[tuple[int, bytes], int] = {}
    jobs = [(id(window), b'' if keep is None else keep.tobytes())
            for window, keep in zip(windows, keeps)]
    for index, job in enumerate(jobs):
        # The same tokens of a window give the same answer: decoding is greedy.
        asked.setdefault(job, index)
    answers = dict(zip(asked, answer_all(
        pipeline, [windows[index] for index in asked.values()],
        [keeps[index] for index in asked.values()], brief=True)))
    found = []
    for window, keep, job in zip(windows, keeps, jobs):
        right = score(answers[job], window.truth)
        found.append(np.array([right.risk, right.object, _recall(window, keep)], np.float64))
    return found


def _recall(window: EvaluatedWindow, keep: NDArray[np.int32] | None) -> float:
    """Return which share of the tokens of the risk object is kept; NaN without one."""
    tokens = object_tokens(window.frames, window.evidence.grid).ravel()
    if not tokens.any():
        return float('nan')
    return 1.0 if keep is None else float(tokens[keep].sum() / tokens.sum())


def _area_shares(window: EvaluatedWindow) -> Values:
    """Return the area of the risk object in each frame as a share of the largest; 0 without."""
    area = object_area(window.frames).astype(np.float64)
    return np.asarray(area / max(float(area.max()), 1e-12))


class _Means:
    """Means of values [windows, metrics] with their intervals, in the form of the result."""

    def __init__(self, values: Values) -> None:
        self.has_object = ~np.isnan(values[:, list(METRICS).index('object_recall')])
        self.of_objects = Bootstrap(int(self.has_object.sum())) if self.has_object.any() else None
        self._of_all = Bootstrap(len(values))

    def of(self, values: Values) -> dict[str, Any]:
        """Return mean and interval of each metric."""
        found: dict[str, Any] = {}
        for column, name in zip(values.T, METRICS):
            bootstrap: Bootstrap | None = self._of_all
            if name == 'object_recall':
                bootstrap, column = self.of_objects, column[self.has_object]
            found[name] = None if bootstrap is None else round(float(column.mean()), 4)
            found[f'{name}_ci'] = None if bootstrap is None else bootstrap.mean(column)
        return found


def _keys(shares: Values, keys: Mapping[str, NDArray[np.int64]], means: _Means
          ) -> dict[str, Any]:
    """Return how good the key frames are, by networks and by simple rules; shares [windows, T]."""
    if means.of_objects is None:
        return {}
    everywhere = np.arange(len(shares))
    chosen = {name: shares[everywhere, key] for name, key in keys.items()}
    chosen['newest'], chosen['oldest'] = shares[:, -1], shares[:, 0]
    found = {name: {'good': share >= HIT_SHARE, 'share': share}
             for name, share in chosen.items()}
    # At random, any frame: the mean over the frames is what to expect.
    found['at random'] = {'good': (shares >= HIT_SHARE).mean(axis=1), 'share': shares.mean(axis=1)}
    return {name: {'good': round(float(values['good'].mean()), 4),
                   'good_ci': means.of_objects.mean(values['good'].astype(np.float64)),
                   'share': round(float(values['share'].mean()), 4)}
            for name, values in found.items()}


# --- the page ------------------------------------------------------------------------------

def write_networks(result: Mapping[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write the page about a result of ``compare_networks``, its plot and its data."""
    path = write_text(folder / PAGE, _page(result, run))
    _figure(result).savefig(folder / PLOT)
    return [path, folder / PLOT, write_data(folder / DATA, result, run)]


def page(result: Mapping[str, Any], run: Run) -> str:
    """Return the text of the page."""
    return '\n'.join(_page(result, run)) + '\n'


def _page(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    rows, budgets = result['rows'], _budgets(result)
    main = next(iter(rows))
    yield from head('Proposal networks', run, (
        ' All rows keep the same number of tokens of the same features of\nthe same windows and '
        'give them to the same language model; only the selection differs.'))
    yield (f'- The first {result["n"]} rendered windows of the split `{result["split"]}`, risk '
           f'levels balanced, none of them trained on;\n  {result["objects"]} have a risk '
           f'object. {result["grid"][0]} x {result["grid"][1]} tokens per frame.')
    yield (f'- Model `{result["model"]}`, greedy decoding; answers end after risk and object. In '
           'brackets the bootstrap interval\n  of 95 % over windows (seed 0).')
    yield f'- {day_and_machine(run, with_time=True)}'
    yield f'\n![Recall, answers and key frames of each network]({PLOT})\n'
    yield '| row | what chooses |\n|---|---|'
    for name, row in rows.items():
        yield f'| `{name}` | {row["about"]} |'
    budget_head = (f'| tokens kept | {" | ".join(f"{float(share):.0%}" for share in budgets)} |\n'
                   f'|---|{"---|" * len(budgets)}')
    dense = ' / '.join(f'{100.0 * result["dense"][name]:.1f}' for name in _ANSWERS)
    yield ('\n## Answers\n\nAccuracy of risk level / risk object, in percent. With all tokens '
           f'{dense}.\n')
    yield budget_head
    for name, row in rows.items():
        cells = (' / '.join(f'{100.0 * row["budgets"][share][metric]:.1f}'
                            for metric in _ANSWERS) for share in budgets)
        yield f'| `{name}` | {" | ".join(cells)} |'
    yield (f'\nPoints that `{main}` is ahead of the others on the same windows. Ahead: the whole '
           'interval is above 0;\nbehind: it is below.\n')
    yield f'| `{main}` against | tokens | risk level | | risk object | |'
    yield '|---|---|---|---|---|---|'
    for name, ahead in result['ahead'].items():
        for share in budgets:
            cells = (f'{between(ahead[share][metric], ahead[share][f"{metric}_ci"], "+.1f")} | '
                     f'{_ahead(ahead[share][f"{metric}_ci"])}' for metric in _ANSWERS)
            yield f'| `{name}` | {float(share):.0%} | {" | ".join(cells)} |'
    yield ('\n## Tokens of the risk object\n\nShare of its tokens that is kept, in percent, over '
           'all frames of the windows with a risk object.\n')
    yield budget_head
    for name, row in rows.items():
        cells = (between(row['budgets'][share]['object_recall'],
                         row['budgets'][share]['object_recall_ci'], '.1f') for share in budgets)
        yield f'| `{name}` | {" | ".join(cells)} |'
    yield from _key_page(result)


def _key_page(result: Mapping[str, Any]) -> Iterator[str]:
    yield (f'\n## Key frames\n\nA key frame is good if the risk object covers at least '
           f'{HIT_SHARE:.0%} of the largest area in it that it covers in any\nframe of the '
           'window. Networks choose the frame with the highest mean saliency. `oracle saliency` '
           'is the limit of\nbetter training: its saliency is exactly the training target. The '
           'effect of another key frame on the\nanswers is above, in `newest key frame` and '
           '`oracle key frame`.\n')
    yield '| key frame by | good | mean share of the largest area |\n|---|---|---|'
    for name, key in result['keys'].items():
        yield (f'| {_key_name(result, name)} | {between(key["good"], key["good_ci"], ".1f")} | '
               f'{100.0 * key["share"]:.1f} |')


def _key_name(result: Mapping[str, Any], name: str) -> str:
    return f'`{name}`' if name in result['rows'] else f'the rule: {name}'


def _ahead(interval: Sequence[float]) -> str:
    found = place(interval)
    return 'ahead' if found == 'first' else found


def _budgets(result: Mapping[str, Any]) -> list[str]:
    """Return the budgets as the result calls them, from many tokens to few."""
    return sorted(next(iter(result['rows'].values()))['budgets'], key=float, reverse=True)


def _figure(result: Mapping[str, Any]) -> Figure:
    """Draw recall and answers over the budget, and how often key frames are good."""
    figure = new_figure(11.5, 8.0)
    axes = figure.subplots(2, 2)
    networks = [name for name, row in result['rows'].items() if row['is_network']]
    references = [name for name in result['rows'] if name not in networks]
    colours = {**{name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(networks)},
               **dict(zip(references, ('#56B4E9', '#8C6D31', '#B07AA1', '#999999')))}
    shares = [float(share) for share in _budgets(result)]
    for axis, (metric, title) in zip((axes[0, 0], axes[1, 0], axes[1, 1]), (
            (name, METRICS[name]) for name in ('object_recall', *_ANSWERS))):
        axis.axhline(result['dense'][metric] or 0.0, color='0.35', linewidth=1.0, linestyle=':',
                     label='all tokens')
        for name, row in result['rows'].items():
            found = [row['budgets'][share] for share in _budgets(result)]
            if found[0][metric] is None:
                continue
            is_network = name in networks
            axis.plot(shares, [figures[metric] for figures in found], color=colours[name],
                      linestyle='-' if is_network else '--', linewidth=2.2 if is_network else 1.3,
                      marker='o', markersize=5, markeredgecolor='white', label=name,
                      zorder=4 if is_network else 3)
            if is_network:
                axis.fill_between(shares, *zip(*(figures[f'{metric}_ci'] for figures in found)),
                                  color=colours[name], alpha=0.1, linewidth=0, zorder=2)
        style(axis, shares)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel('visual tokens kept')
    keys = result['keys']
    bars, axis = list(keys), axes[0, 1]
    good = np.array([keys[name]['good'] for name in bars])
    # The bootstrap keeps the mean within, but both are rounded.
    edges = np.array([keys[name]['good_ci'] for name in bars]).reshape(-1, 2)
    axis.barh(bars, good, color=[colours.get(name, '0.75') for name in bars],
              xerr=np.abs(edges.T - good), error_kw={'ecolor': '0.35', 'elinewidth': 1.0})
    axis.invert_yaxis()
    axis.set(xlim=(0.0, 1.0))
    axis.xaxis.set_major_formatter(lambda value, position: f'{100.0 * value:g}%')
    axis.spines[['top', 'right']].set_visible(False)
    axis.set_title('Key frame good', fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right upper', frameon=False, fontsize=10)
    figure.suptitle(f'{result["n"]} windows, model {result["model"]}; bands and bars: 95 %',
                    fontsize=10, color='0.35')
    return figure
