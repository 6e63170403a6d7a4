# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page ``scores.md``: what each score keeps, with a memory and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vts_ros.lab.evaluation.fitted_measures import IMPORTANCE
from vts_ros.lab.evaluation.generated_page import (
    between,
    day_and_machine,
    head,
    Run,
    write_data,
    write_text,
)
from vts_ros.lab.evaluation.score_answers import FACTS
from vts_ros.lab.evaluation.score_recall import FIRST, STRAIGHT_DEG
from vts_ros.lab.evaluation.score_roads import STILL_FRAMES, STILL_NOISE
from vts_ros.lab.evaluation.score_verdicts import FAST, verdicts
from vts_ros.lab.evaluation.signal_evidence import NOISE
from vts_ros.lab.rivals.registry import (
    AS_ONE,
    KNOWN_MOTION,
    MEASURE,
    MEMORYLESS,
    NETWORK,
    RECURRENT,
)
from vts_ros.lab.scenes.turning_windows import ANGLE_DEG, RADIUS_M

PAGE, DATA = 'scores.md', 'scores.json'
_PARTS = {'test': 'rendered, split `test`', 'recordings': 'recordings'}


def write_scores(result: Mapping[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write page and data to a folder; returns what was written."""
    return [write_text(folder / PAGE, _lines(result, run)),
            write_data(folder / DATA, result, run)]


def _lines(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    seen, past = result['object'], result['past']
    yield from head('What scores keep', run)
    yield ('What each score keeps of the risk object, and of what only the past shows. No '
           'language model is needed for that,\nso it is known of many windows. Beside it, a '
           'score with a memory. The methods are those of\n[redundancy.md](redundancy.md) and '
           '[quality.md](quality.md); three are fitted to what hiding a token changes:\n')
    yield f'- `{MEASURE}` looks at each token and what the proposal network sees there;'
    yield (f'- `{RECURRENT}` is a ConvGRU over the cells of the proposal network, whose state '
           'goes from frame to frame, and is\n  not moved with the picture;')
    yield (f'- `{MEMORYLESS}` is the same network, trained in the same way, with its state '
           'emptied before every frame: what it\n  lacks is what the memory gives.\n')
    yield from _known_motion()
    if 'network' in result:
        yield (f'`{NETWORK}` is `{FIRST}` with another proposal network: '
               f'{result["network"]["about"]}.\n')
    yield (f'- Model `{result["model"]}`. Fitted to {result["fit"]} rendered windows of the '
           'split `train`, on which no model was trained;\n  what is kept and answered is with '
           f'seed 0, areas are the mean of {result["seeds"]} seeds.\n'
           '- Brackets are bootstrap intervals of 95 % over windows or pairs (seed 0), paired '
           'where two are compared.\n'
           f'- `{MEASURE}` needs the visual tokens of all frames. Beside the vision encoder it '
           f'takes {result["cost_ms"]:.2f} ms a frame here,\n  PyTorch and both window steps that '
           'it asks included; it has to be fitted to each language model.\n'
           f'- {day_and_machine(run)}\n')
    yield '## In short\n'
    yield from (f'- {sentence}' for sentence in verdicts(result))
    yield from _areas(result['areas'])
    if 'network' in result:
        yield from _network_areas(result['network']['areas'])
    yield '\n## The risk object\n'
    yield (f'Share of its tokens that is kept, in percent, of {seen["n"]} rendered windows of the '
           f'split `test` that have one.\n`{FIRST}` ships; in the lower table, how far others are '
           'ahead of it on the same windows, in points.\n')
    yield from _kept(seen['parts']['all'])
    yield from _bends(result['turning'])
    if 'cameras' in result:
        yield from _cameras(result['cameras'])
    yield '\n### By condition\n'
    yield (f'Ahead of `{FIRST}` at 10 and 5 % of the tokens, in points. Straight: below '
           f'{STRAIGHT_DEG:g} deg/s in all frames; turning: at least\nthat, at most '
           f'{seen["most_turning"]:.1f} deg/s; {FAST}: the windows in tight bends, which are '
           'not among all.\n')
    parts = {**seen['parts'], FAST: result['turning']}
    yield from _by_condition(parts)
    yield '\n### What knowing the motion gives\n'
    yield ('How far a score with the motion of the own car by speed and yaw rate is ahead of the '
           'same score without, on the same\nwindows, at 20, 10 and 5 % of the tokens, in '
           'points.\n')
    yield from _gains({**seen['gains'], FAST: result['turning']['gains']})
    yield '\n## What only the past shows\n'
    yield (f'{past["n"]} pairs of {past["frames"]} frames of [memory.md](memory.md), split '
           '`test`: share of the extent of what tells that lies on\nkept tokens, in the last '
           'frame that clearly shows it; in percent, hazard and twin count equally.\n')
    yield from _kept(past['parts']['all'])
    yield '\n## A car that stands still\n'
    yield (f'{result["still"]["n"]} rendered pictures of the split `test` with a risk object, '
           f'each {STILL_FRAMES} times with noise (deviation {STILL_NOISE:g}\nof 255) as one '
           'window: share of the places of the object that are kept in at least one frame.\n')
    yield from _kept(result['still'])
    if 'roads' in result:
        yield '\n## Road users of recordings\n'
        yield from _roads(result['roads'])
        yield '\n### At the tokens of the language model\n'
        yield (f'`{MEASURE}` looks at the visual tokens, which the model of this page has fewer '
               'of.\n')
        yield from _roads(result['token_roads'])
    if 'answers' in result:
        yield from _answers(result['answers'])


def _known_motion() -> Iterator[str]:
    yield ('Two take the motion of the own car from its speed and yaw rate, with no optical flow: '
           'below the horizon everything\nlies on a flat road, above it everything is far away '
           'and only turns. The camera is known, and sensors have noise\n(deviation '
           f'{NOISE["speed"]:g} m/s and {NOISE["yaw_rate"]:g} rad/s, 20 times a second):\n')
    bases = list(KNOWN_MOTION.items())
    yield (f'- `{bases[0][0]}` is `{bases[0][1]}` whose novelty is against what the key frame '
           'shows where the motion carries it;')
    yield (f'- `{bases[1][0]}` is `{bases[1][1]}` with, added to it, the difference of grey '
           'values to the frame before, moved\n  likewise: what moves by itself, or stands out '
           'of the road.\n')


def _bends(turning: Mapping[str, Any]) -> Iterator[str]:
    yield '\n### In tight bends\n'
    yield (f'{turning["n"]} other windows of the split `test` with a risk object: city streets '
           f'that turn by {ANGLE_DEG[0]:g} to {ANGLE_DEG[1]:g} degrees at a radius of\n'
           f'{RADIUS_M[0]:g} to {RADIUS_M[1]:g} m, as around a corner. The '
           f'slowest turns at {turning["slowest"]:.1f} deg/s, the fastest at '
           f'{turning["fastest"]:.1f}. The renderer draws roads as\nparabolas and turns by '
           'shifting what is far away, so angles far from the middle of the picture are too '
           'small.\n')
    yield from _kept(turning)


def _cameras(cameras: Mapping[str, Any]) -> Iterator[str]:
    yield '\n### Of three cameras\n'
    yield (f'{cameras["n"]} other windows of the split `test` with a risk object, five moments '
           'of three cameras: one looks ahead, the others\n48 to 58 degrees to the left and to '
           'the right. In every other window somebody crosses from a side road, or a vehicle\n'
           f'beside the car drifts into its lane. `{FIRST}` has a key frame of each camera and '
           f'ranks the tokens of all together,\nwith no shares; `{AS_ONE}` takes the frames for '
           'those of one camera. Scores that look at the frame before, which is of\nanother '
           'camera here, are left out.\n')
    yield from _kept(cameras['parts']['all'])
    yield '\nBy the camera that shows the object best, at 10 and 5 % of the tokens:\n'
    yield from _by_condition(cameras['parts'])


def _gains(gains: Mapping[str, Any]) -> Iterator[str]:
    yield '| ahead | ' + ' | '.join(gains) + ' |'
    yield '|---' * (1 + len(gains)) + '|'
    for name, base in KNOWN_MOTION.items():
        cells = [' / '.join(between(cell['ahead'], cell['ahead_ci'], '+.1f')
                            for cell in list(part[name].values())[-3:])
                 for part in gains.values()]
        yield f'| `{name}` of `{base}` | ' + ' | '.join(cells) + ' |'


def _areas(areas: Mapping[str, Any]) -> Iterator[str]:
    yield '\n## With a memory and without\n'
    yield ('AUC for the most important tenth of the tokens of a window; in brackets behind it, '
           f'how far `{RECURRENT}` is ahead.\n')
    yield '| | n | ' + ' | '.join(f'`{name}`' for name in (
        RECURRENT, MEMORYLESS, MEASURE, IMPORTANCE)) + ' |'
    yield '|---' * 6 + '|'
    for part, found in areas.items():
        cells = []
        for name in (RECURRENT, MEMORYLESS, MEASURE, IMPORTANCE):
            area = found['auc'][name]
            cells.append(f'{area["mean"]:.3f}' + ('' if name == RECURRENT else (
                f' ({area["ahead"]:+.3f} [{area["ahead_ci"][0]:+.3f}, '
                f'{area["ahead_ci"][1]:+.3f}])')))
        yield f'| {_PARTS[part]} | {found["n"]} | {" | ".join(cells)} |'


def _network_areas(areas: Mapping[str, Any]) -> Iterator[str]:
    yield ('\nThe same of the saliency alone, of another proposal network and of the one that '
           'ships; in brackets how far the other\nis ahead.\n')
    yield f'| | n | `{NETWORK}` | `{FIRST}` |'
    yield '|---' * 4 + '|'
    for part, found in areas.items():
        other, ships = found['auc'][NETWORK], found['auc'][IMPORTANCE]
        low, high = ships['ahead_ci']
        yield (f'| {_PARTS[part]} | {found["n"]} | {other["mean"]:.3f} | {ships["mean"]:.3f} '
               f'({ships["ahead"]:+.3f} [{low:+.3f}, {high:+.3f}]) |')


def _roads(roads: Mapping[str, Any]) -> Iterator[str]:
    yield (f'{roads["windows"]} windows of {roads["n"]} recordings: share of the area of the road '
           'users that lies on kept tokens, in all frames,\nmean over recordings; boxes of the '
           f'detector `{roads["teacher"]}`{", with tiles" if roads["tiles"] else ""}; '
           f'{roads["grid"][0]} x {roads["grid"][1]} tokens a frame. Intervals are over\n'
           'recordings.\n')
    yield from _kept(roads)
    shares = list(roads['methods'][FIRST])
    yield (f'\nHow far ahead of `{FIRST}` in each, in points, at '
           + ' / '.join(f'{float(share):.0%}' for share in shares) + ' of the tokens:\n')
    yield '| ahead | ' + ' | '.join(f'`{name}`' for name in roads['names']) + ' |'
    yield '|---' * (1 + len(roads['names'])) + '|'
    for name, kept in roads['each'].items():
        if name != FIRST:
            yield f'| `{name}` | ' + ' | '.join(' / '.join(
                f'{100 * (kept[share][number] - roads["each"][FIRST][share][number]):+.1f}'
                for share in shares) for number in range(len(roads['names']))) + ' |'


def _answers(answers: Mapping[str, Any]) -> Iterator[str]:
    parts = answers['parts']
    shares = list(parts['all']['level']['methods'][FIRST])
    columns = ' | '.join(f'{float(share):.0%}' for share in shares)
    yield '\n## Answers at equal budget\n'
    yield (f'{answers["n"]} rendered windows of the split `test`, from number '
           f'{answers["first"]} on: others than those of [quality.md](quality.md). Answers end '
           'after the\nfacts; right risk level / right risk object, in percent; hard as '
           f'there. Those with `{MEASURE}` are in [redundancy.md](redundancy.md).\n')
    for part, found in parts.items():
        dense, level, object_ = answers['dense'][part], found['level'], found['object']
        yield (f'{part.capitalize()} windows ({level["n"]}); with all tokens '
               f'{100 * dense["level"]:.1f} / {100 * dense["object"]:.1f}:\n')
        yield f'| right | {columns} |'
        yield '|---' * (1 + len(shares)) + '|'
        for name in level['methods']:
            yield f'| `{name}` | ' + ' | '.join(
                f'{100 * level["methods"][name][share]["mean"]:.1f} / '
                f'{100 * object_["methods"][name][share]["mean"]:.1f}'
                for share in shares) + ' |'
        if dense['level']:
            yield '\nOf the risk level with all tokens: ' + '; '.join(
                f'`{name}` ' + ', '.join(f'{100 * cells[share]["mean"] / dense["level"]:.1f}'
                                         for share in shares)
                for name, cells in level['methods'].items()) + ' %.'
        yield ''
    yield (f'Ahead of `{FIRST}` on all of the same windows, in points; *pooled* is the mean of '
           'both over all budgets:\n')
    yield f'| ahead | {columns} | pooled |'
    yield '|---' * (2 + len(shares)) + '|'
    both = [parts['all'][fact]['methods'] for fact in FACTS]
    for name, pooled in answers['pooled'].items():
        if name != FIRST:
            cells = [' / '.join(between(cells[name][share]['ahead'],
                                        cells[name][share]['ahead_ci'], '+.1f')
                                for cells in both) for share in shares]
            yield (f'| `{name}` | ' + ' | '.join(cells)
                   + f' | {between(pooled["ahead"], pooled["ahead_ci"], "+.1f")} |')


def _kept(part: Mapping[str, Any]) -> Iterator[str]:
    shares = list(part['methods'][FIRST])
    columns = ' | '.join(f'{float(share):.0%}' for share in shares)
    yield f'| kept | {columns} |'
    yield '|---' * (1 + len(shares)) + '|'
    for name, cells in part['methods'].items():
        yield f'| `{name}` | ' + ' | '.join(
            between(cells[share]['mean'], cells[share]['ci'], '.1f') for share in shares) + ' |'
    yield f'\n| ahead | {columns} |'
    yield '|---' * (1 + len(shares)) + '|'
    for name, cells in part['methods'].items():
        if name != FIRST:
            yield f'| `{name}` | ' + ' | '.join(
                between(cells[share]['ahead'], cells[share]['ahead_ci'], '+.1f')
                for share in shares) + ' |'


def _by_condition(parts: Mapping[str, Any]) -> Iterator[str]:
    yield '| method | ' + ' | '.join(
        f'{name} (n={part["n"]})' for name, part in parts.items()) + ' |'
    yield '|---' * (1 + len(parts)) + '|'
    last = list(parts['all']['methods'][FIRST])[-2:]
    yield f'| `{FIRST}` itself | ' + ' | '.join(' / '.join(
        f'{100 * part["methods"][FIRST][share]["mean"]:.1f}' for share in last)
        for part in parts.values()) + ' |'
    for name in parts['all']['methods']:
        if name != FIRST:
            yield f'| `{name}` | ' + ' | '.join(' / '.join(
                between(part['methods'][name][share]['ahead'],
                        part['methods'][name][share]['ahead_ci'], '+.1f') for share in last)
                for part in parts.values()) + ' |'
