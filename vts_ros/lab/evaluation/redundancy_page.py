# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page ``redundancy.md`` with its plots, maps and data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from vts_ros.lab.evaluation.camera_worth import section as camera_section
from vts_ros.lab.evaluation.generated_page import (
    between,
    day_and_machine,
    head,
    Run,
    write_data,
    write_text,
)
from vts_ros.lab.evaluation.redundancy import ABOUT, BINS
from vts_ros.lab.evaluation.redundancy_plots import (
    conditions_figure,
    draw_maps,
    ORACLES,
    scores_figure,
)
from vts_ros.lab.evaluation.worth_windows import WorthWindow

PAGE, DATA = 'redundancy.md', 'redundancy.json'
PLOT, CONDITIONS, MAPS = 'redundancy.png', 'redundancy_conditions.png', 'redundancy.jpg'
#: Scores that look at nothing but change.
_TIMED = ('own motion', 'residual motion', 'volatility', 'uniqueness', 'attention', 'change')
_PARTS = {'test': 'rendered, split `test`', 'recordings': 'recordings'}
#: Of the dense accuracy, what the smallest budget must keep, and the metric.
_ENOUGH, _METRIC = 0.99, 'risk_accuracy'
_QUALITY = 88


def write_redundancy(result: Mapping[str, Any], shown: Sequence[WorthWindow], run: Run,
                     folder: Path) -> list[Path]:
    """
    Write page, plot, maps and data to a folder; returns what was written.

    Parameters
    ----------
    result
        Of :func:`vts_ros.lab.evaluation.redundancy.analyse`, with ``answers`` of a comparison and
        ``cameras`` of :func:`vts_ros.lab.evaluation.camera_worth.camera_worth`.
    shown
        Windows of which maps are drawn.

    """
    page = write_text(folder / PAGE, _lines(result, shown, run))
    scores_figure(result).savefig(folder / PLOT)
    conditions_figure(result).savefig(folder / CONDITIONS)
    cv2.imwrite(str(folder / MAPS), draw_maps(shown)[:, :, ::-1],
                (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return [page, folder / PLOT, folder / CONDITIONS, folder / MAPS,
            write_data(folder / DATA, result, run)]


def _lines(result: Mapping[str, Any], shown: Sequence[WorthWindow], run: Run) -> Iterator[str]:
    counts = result['n']
    drives = {name: n for name, n in counts.items() if name not in ('val', 'test')}
    rows, columns = result['grid']
    yield from head('What a token is worth', run)
    yield ('**Importance** of a token is what happens to the answer when this token alone is '
           'hidden: the divergence\n(Kullback-Leibler, over the tokens of level, object and box) '
           'of the answer with all tokens from that without it.\nHidden is dropped, which is '
           'exactly masked ([method.md](method.md#what-is-exact)), so it is no estimate. '
           '**Redundancy** is\nhow well other frames predict the token: the largest cosine of its '
           'embedding with that of any other frame at\nthe same place, or where optical flow '
           'carries it (*carried*).\n')
    yield (f'- Model `{result["model"]}`, {result["frames"]} frames of {rows} x {columns} '
           f'tokens. {counts.get("test", 0)} rendered windows of the split `test`'
           + (f' and {sum(drives.values())} of {len(drives)} recordings' if drives else '')
           + f';\n  the measure was fitted to {counts["val"]} of the split `val`, and to none of '
           'the recordings.')
    if drives:
        yield ('- On recordings there is no truth, and the roads are not those that the model was '
               'trained for:\n  importance there is for *its* answer, whatever that is worth.')
    yield ('- Brackets are bootstrap intervals of 95 % over windows. They, the fit and the '
           'random\n  score have seed 0; windows are the first of their split.')
    yield f'- {day_and_machine(run)}\n'
    yield from _verdicts(result)
    yield (f'\n![Joint histogram of importance and redundancy, and the AUC of every score]({PLOT})'
           '\n')
    yield from _auc_table(result)
    yield from _joint_table(result)
    yield from _ages_table(result)
    yield from _distances_table(result)
    yield from _maps(shown)
    yield from _conditions_table(result)
    yield (f'\n![Share of the importance by tenth of redundancy, under each condition]'
           f'({CONDITIONS})\n')
    yield ('Each row is the histogram of the importance over the tenths of the tokens by '
           'redundancy; chance is 10 % everywhere.')
    if 'cameras' in result:
        yield from camera_section(result['cameras'])
    if 'answers' in result:
        yield from _answers(result['answers'])


def _verdicts(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the figures say, in sentences made from them."""
    correlation, auc = result['correlation']['test'], result['auc']['test']
    whole = result['conditions']['all']['all']
    yield '## In short\n'
    yield (f'- A tenth of the tokens has {whole["top_share"]:.0%} of the importance of a window, '
           f'the newest frame {whole["newest_share"]:.0%}.')
    yield (f'- Redundancy says little about importance: rank correlation '
           f'{correlation["redundancy"]:+.2f}, carried by optical\n  flow '
           f'{correlation["carried"]:+.2f}; saliency says more: {correlation["importance"]:+.2f}.')
    best = max((name for name in auc if name not in (*ORACLES, 'measure')),
               key=lambda name: float(auc[name][0]))
    timed = max(_TIMED, key=lambda name: float(auc[name][0]))
    yield (f'- The best score that is not fitted to it is *{best}* (AUC {auc[best][0]:.2f}); the '
           f'score that ships has\n  {auc["cosine"][0]:.2f}, the fitted measure '
           f'{auc["measure"][0]:.2f}. The best of those that look at time alone is\n  *{timed}* '
           f'({auc[timed][0]:.2f}).')
    yield (f'- Hiding 2 x 2 tokens together costs {whole["patch_ratio"]:.1f} times what hiding '
           'them one by one does: above 1,\n  neighbours stand in for each other; below, they '
           'do not.')


def _auc_table(result: Mapping[str, Any]) -> Iterator[str]:
    parts = list(result['auc'])
    yield '## Which score finds what matters\n'
    yield ('AUC for the most important tenth of the tokens of a window; last, for the tenth that '
           'the right answer misses\nmost. An oracle knows what nothing can know before the '
           'answer.\n')
    yield f'| score | what it is | {" | ".join(_PARTS[part] for part in parts)} | right answer |'
    yield '|---|---|' + '---|' * (len(parts) + 1)
    auc = result['auc']
    names = sorted((name for name in auc[parts[0]] if name not in ORACLES),
                   key=lambda name: -float(auc[parts[0]][name][0]))
    for name in [*names, *(name for name in ORACLES if name in auc[parts[0]])]:
        cells = [_cell(auc[part].get(name)) for part in parts]
        loss = _cell(result['loss_auc'].get('test', {}).get(name))
        label = f'{name} (oracle)' if name in ORACLES else name
        yield f'| {label} | {ABOUT[name]} | {" | ".join(cells)} | {loss} |'


def _cell(found: Sequence[float] | None) -> str:
    if found is None:
        return '-'
    return f'{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]'


def _joint_table(result: Mapping[str, Any]) -> Iterator[str]:
    yield '\n## Importance by redundancy\n'
    yield ('Share of the importance of a window, in percent, that lies in each tenth of its '
           'tokens by redundancy, from the\nleast redundant to the most; chance is 10.\n')
    yield '| | redundancy |' + ''.join(f' {tenth} |' for tenth in range(1, BINS + 1))
    yield '|---|---|' + '---|' * BINS
    for part, found in result['joint'].items():
        for name, title in (('redundancy', 'same place'), ('carried', 'carried')):
            yield (f'| {_PARTS[part]} | {title} |' + ''.join(
                f' {100.0 * share:.0f} |' for share in found[name]['worth']))


def _ages_table(result: Mapping[str, Any]) -> Iterator[str]:
    frames = range(len(next(iter(result['ages'].values()))))
    yield '\n## By age of the frame\n'
    yield f'| | |{"".join(f" {age} |" for age in frames)}'
    yield f'|---|---|{"---|" * len(frames)}'
    titles = {'worth': 'share of importance, %', 'redundancy': 'redundancy, %',
              'carried': 'carried, %'}
    for part, ages in result['ages'].items():
        for name, title in titles.items():
            yield (f'| {_PARTS[part]} | {title} |' + ''.join(
                f' {100.0 * age[name]:.0f} |' for age in ages))
    yield '\nAge counts frames: 0 is the newest.'


def _distances_table(result: Mapping[str, Any]) -> Iterator[str]:
    distances = range(1, 1 + len(next(iter(result['distances'].values()))))
    yield '\n## By distance of the other frame\n'
    yield ('How well a single other frame predicts a token, by how many frames it is away, and '
           'the rank correlation of\nthat with importance.\n')
    yield f'| | |{"".join(f" {distance} |" for distance in distances)}'
    yield f'|---|---|{"---|" * len(distances)}'
    for part, found in result['distances'].items():
        for name, title in (('redundancy', 'redundancy'), ('carried', 'carried')):
            yield f'| {_PARTS[part]} | {title}, % |' + ''.join(
                f' {100.0 * figures[name]:.0f} |' for figures in found)
            yield f'| {_PARTS[part]} | {title}, rank correlation |' + ''.join(
                f' {figures[f"{name}_correlation"]:+.2f} |' for figures in found)


def _maps(shown: Sequence[WorthWindow]) -> Iterator[str]:
    if not shown:
        return
    names = ', '.join('a rendered window' if window.source == 'test' else f'`{window.source}`'
                      for window in shown)
    yield '\n## Where it lies\n'
    yield f'![Frames of windows with the worth of their tokens below]({MAPS})\n'
    yield (f'From above: {names};\nbelow each the importance of every token, by rank within the '
           'window (bright: important).')


def _conditions_table(result: Mapping[str, Any]) -> Iterator[str]:
    yield '\n## By condition\n'
    yield ('Rendered windows. *Top tenth* and *newest* are shares of the importance, *rank* and '
           '*carried* the rank\ncorrelation of importance with redundancy, *effective rank* that '
           'of the embeddings of a window.\n')
    yield ('| | | n | top tenth | newest | rank | carried | effective rank | AUC measure | AUC '
           'cosine | AUC importance |')
    yield '|---|---|---|---|---|---|---|---|---|---|---|'
    for group, values in result['conditions'].items():
        for value, found in values.items():
            yield (f'| {group} | {value} | {found["n"]} | {found["top_share"]:.0%} | '
                   f'{found["newest_share"]:.0%} | {found["correlation"]:+.2f} | '
                   f'{found["carried_correlation"]:+.2f} | {found["effective_rank"]:.0f} | '
                   f'{found["auc_measure"]:.2f} | {found["auc_cosine"]:.2f} | '
                   f'{found["auc_importance"]:.2f} |')


def _answers(answers: Mapping[str, Any]) -> Iterator[str]:
    """Yield what methods that look at time give at equal budgets, and the smallest budgets."""
    shares = sorted(next(iter(answers['methods'].values())), key=float, reverse=True)
    yield '\n## Answers at equal budget\n'
    yield (f'{answers["n"]} rendered windows of the split `{answers["split"]}`, answers end after '
           'the facts; right risk level / right risk\nobject in percent, with the interval of the '
           f'level. With all tokens {_two(answers["dense"])}. `vts` ships; the others\nkeep the '
           'tokens with the highest score of the whole window, as `vts-share-none` does.\n')
    yield f'| method | {" | ".join(f"{float(share):.0%}" for share in shares)} |'
    yield '|---|' + '---|' * len(shares)
    for name, found in answers['methods'].items():
        yield f'| `{name}` | {" | ".join(_level(found[share]) for share in shares)} |'
    yield '\nRight risk level by condition, in percent, at the smallest two budgets:\n'
    last = shares[-2:]
    columns = [(group, value, part) for group, values in answers.get('groups', {}).items()
               for value, part in values.items()]
    yield '| method | ' + ' | '.join(
        f'{value} (n={part["n"]})' for _, value, part in columns) + ' |'
    yield '|---|' + '---|' * len(columns)
    for name in answers['methods']:
        yield f'| `{name}` | ' + ' | '.join(' / '.join(
            _percent(part['methods'][name][share], _METRIC) for share in last)
            for _, _, part in columns) + ' |'
    yield from _enough(answers, shares, columns)


def _enough(answers: Mapping[str, Any], shares: Sequence[str],
            columns: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Iterator[str]:
    yield '\n## The smallest budget that is enough\n'
    yield (f'B99: the smallest of the budgets above at which `vts` keeps {_ENOUGH:.0%} of the '
           'accuracy of the risk level with all\ntokens, and so at all larger ones; *all* if none '
           'does.\n')
    yield '| windows | n | with all tokens | B99 |'
    yield '|---|---|---|---|'
    for name, part in (('all', answers), *((value, part) for _, value, part in columns)):
        enough = 'all'
        for share in shares:
            if part['methods']['vts'][share][_METRIC] < _ENOUGH * part['dense'][_METRIC]:
                break
            enough = f'{float(share):.0%}'
        yield f'| {name} | {part["n"]} | {_percent(part["dense"], _METRIC)} | {enough} |'


def _two(found: Mapping[str, Any]) -> str:
    return f'{_percent(found, "risk_accuracy")} / {_percent(found, "object_accuracy")}'


def _level(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return '-'
    level = between(found['risk_accuracy'], found['risk_accuracy_ci'], '.1f')
    return f'{level} / {_percent(found, "object_accuracy")}'


def _percent(found: Mapping[str, Any] | None, metric: str) -> str:
    return '-' if found is None else f'{100.0 * found[metric]:.1f}'


