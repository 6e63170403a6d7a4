# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page about what is kept of recordings: means over recordings, and who is ahead where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.box_coverage import (
    DUSK,
    ELLIPSE,
    LIGHTS,
    Look,
    LOW_CONTRAST,
    Measured,
    NIGHT,
    RIVALS,
    Salient,
    SIZES,
)
from vts_ros.lab.evaluation.generated_page import head, Run, write_data, write_text
from vts_ros.lab.teacher import KINDS, SURE
from vts_ros.tools.pictures import dim_dropped, encode, Picture

PAGE, PICTURE, DATA = 'recordings.md', 'recordings.jpg', 'recordings.json'
#: Size of a frame in the picture, width and height, how many recordings, and the share of tokens.
_FRAME_PX, _MOST_SHOWN, SHOWN_SHARE = (240, 136), 6, 0.4
_BOX = (255, 210, 60)
#: Who has to be beaten everywhere: by what is kept, and by the saliency alone.
_BASELINES = ('ellipse', *RIVALS)
_PARTS = {'kept': 'As the window step keeps', 'level': 'With as many tokens of every frame'}
#: Less than this is no lead.
_LEAD = 0.005

Values = Mapping[str, Any]


def summarize(recordings: Sequence[Values], networks: Sequence[str]) -> dict[str, Any]:
    """
    Return means over recordings, with intervals, and where a baseline is ahead of a network.

    Parameters
    ----------
    recordings
        What :func:`measure` found in each.
    networks
        The ways that are proposal networks.

    Returns
    -------
    ``{'networks', 'groups': {group: {'n', 'users', 'kept', 'level', 'auc'}}, 'ahead',
    'recordings'}``; `kept`, `level` and `auc` as for a recording, with ``[mean, low, high]`` in
    place of a number, low and high None of a single recording.

    """
    groups = {group: found for group in ('all', *LIGHTS, *KINDS, *SIZES)
              if (found := _group(recordings, group))}
    return {'networks': list(networks), 'groups': groups,
            'ahead': [lead for network in networks for part in _PARTS for baseline in _BASELINES
                      for lead in _leads(recordings, groups, part, network, baseline)],
            'recordings': {values['name']: values for values in recordings}}


def _members(recordings: Sequence[Values], group: str) -> tuple[list[Values], str]:
    """Return the recordings that have a group, and what the group is called in them."""
    if group in LIGHTS:
        return [values for values in recordings if values['light'] == group], 'all'
    return [values for values in recordings if values['users'][group]], group


def _group(recordings: Sequence[Values], group: str) -> dict[str, Any] | None:
    members, own = _members(recordings, group)
    if not members:
        return None
    ways = members[0]

    def means(*keys: str) -> list[float | None] | None:
        by_group = [reduce(getitem, keys, values) for values in members]
        shares = [found[own] for found in by_group if own in found]
        return _mean(shares) if shares else None

    return {
        'n': len(members), 'users': sum(values['users'][own] for values in members),
        **{part: {way: {ratio: means(part, way, ratio) for ratio in ways[part][way]}
                  for way in ways[part]} for part in _PARTS},
        'auc': {way: means('auc', way) for way in ways['auc']}}


def _mean(shares: Sequence[float]) -> list[float | None]:
    low, high = Bootstrap(len(shares)).mean(np.array(shares)) if len(shares) > 1 else (None, None)
    return [round(float(np.mean(shares)), 4), low, high]


def _leads(recordings: Sequence[Values], groups: Mapping[str, Any], part: str, network: str,
           baseline: str) -> Iterator[dict[str, Any]]:
    """Yield where a baseline keeps more than a network, and whether that is more than chance."""
    for group in groups:
        members, own = _members(recordings, group)
        if group in LIGHTS and len(members) == len(recordings):
            continue  # the same as all
        for ratio in members[0][part][network]:
            pairs = np.array([pair for values in members if None not in (pair := tuple(
                values[part][way][ratio].get(own) for way in (baseline, network)))], float)
            if not len(pairs) or (pairs[:, 0] - pairs[:, 1]).mean() <= _LEAD:
                continue
            low = Bootstrap(len(pairs)).difference(*pairs.T)[0] if len(pairs) > 1 else 0.0
            yield {'part': part, 'network': network, 'baseline': baseline, 'group': group,
                   'budget': ratio,
                   'kept': [round(float(mean), 4) for mean in pairs.mean(axis=0)],
                   'sure': low > 0.0}


def leads_in_words(result: Values) -> Iterator[str]:
    """Yield a sentence per network and baseline: where the baseline is ahead."""
    for network in result['networks']:
        for part, title in _PARTS.items():
            for baseline in _BASELINES:
                leads = [lead for lead in result['ahead'] if (
                    lead['part'], lead['network'], lead['baseline']) == (part, network, baseline)]
                where = _where(leads) if leads else 'nowhere'
                yield f'{title}, `{baseline}` is ahead of `{network}`: {where}.'


def _where(leads: Sequence[Values]) -> str:
    budgets = dict[str, list[str]]()
    for lead in leads:
        first, second = lead['kept']
        budgets.setdefault(lead['group'], []).append(
            f'{float(lead["budget"]):.0%} ({first:.2f} against {second:.2f}'
            f'{", surely" if lead["sure"] else ""})')
    return '; '.join(f'{_called(group)} at {", ".join(where)}'
                     for group, where in budgets.items())


def _called(group: str) -> str:
    if group == 'all':
        return 'all road users'
    if group in LIGHTS:
        return f'recordings of {group}' if group != 'low contrast' else 'those of low contrast'
    return f'{group} high' if group in SIZES else group


def draw_kept(shown: Sequence[Look], way: Salient, name: str, grid: tuple[int, int]) -> Picture:
    """
    Draw what a network keeps of a window of a recording, and where the road users are.

    Returns
    -------
    Oldest frame first, uint8 [136, 5 * 240, 3].

    """
    chosen = way.sparsifier.select([look.proposals[name] for look in shown], grid, SHOWN_SHARE)
    keep = np.zeros((len(shown), *grid), bool)
    np.put(keep, chosen.keep, True)
    pictures = []
    for look, kept in zip(shown, keep):
        picture = dim_dropped(np.asarray(cv2.resize(
            look.frame.rgb(), _FRAME_PX, interpolation=cv2.INTER_AREA), np.uint8), kept)
        for user in look.users:
            left, top, right, bottom = (
                round(side * _FRAME_PX[axis % 2]) for axis, side in enumerate(user.box))
            cv2.rectangle(picture, (left, top), (right, bottom), _BOX, 1)
        pictures.append(picture)
    return np.hstack(pictures)


def worst(recordings: Sequence[Measured], network: str) -> list[Measured]:
    """Return the recordings of which a network keeps least, worst first."""
    def kept(measured: Measured) -> float:
        shares = measured.values['kept'][network]
        nearest = min(shares, key=lambda ratio: abs(float(ratio) - SHOWN_SHARE))
        return float(shares[nearest].get('all', 2.0))

    return sorted(recordings, key=kept)[:_MOST_SHOWN]


def write_recordings(result: Values, measured: Sequence[Measured], ways: Mapping[str, Salient],
                     judge: str, grid: tuple[int, int], run: Run, folder: Path,
                     has_picture: bool = True) -> list[Path]:
    """
    Write the page about recordings, its picture and its data.

    Parameters
    ----------
    result
        Of :func:`summarize`, with the names of recordings without road users as `empty`.
    measured
        What it was made of.
    judge
        Where the road users come from, in a few words.
    has_picture
        Whether frames may be shown.

    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / name for name in (PAGE, DATA, PICTURE)]
    network = result['networks'][0]
    pictures = {recording.values['name']: draw_kept(recording.shown, ways[network], network, grid)
                for recording in worst(measured, network)} if has_picture else {}
    about = {**{name: way.about for name, way in ways.items()}, **ABOUT_RIVALS}
    write_text(written[0], _page(result, list(pictures), about, judge, grid, run))
    write_data(written[1], result, run, judge=judge, grid=list(grid))
    if not pictures:
        return written[:2]
    written[2].write_bytes(encode(np.vstack(list(pictures.values()))))
    return written


def _page(result: Values, shown: Sequence[str], ways: Mapping[str, str], judge: str,
          grid: tuple[int, int], run: Run) -> Iterator[str]:
    recordings = result['recordings'].values()
    yield from head('What is kept of recordings', run)
    yield (f'{run.day.isoformat()}; {run.machine}; {run.seconds / 60:.0f} min. No language model '
           'takes part: this is about what it would be\n'
           f'given, on a grid of {grid[0]} x {grid[1]} tokens per frame and windows of 5 frames. '
           f'{len(recordings)} recordings, {sum(values["windows"] for values in recordings)} '
           'windows. Whether a network was\ntrained over one of them is told where the network is '
           f'described. Road users: {judge}.\n')
    if result['empty']:
        yield f'Without road users: {", ".join(f"`{name}`" for name in result["empty"])}.\n'
    if shown:
        yield f'![Frames of recordings with the road users in boxes]({PICTURE})\n'
        yield (f'One window at {SHOWN_SHARE:.0%} with `{result["networks"][0]}` of the recordings '
               f'of which it keeps least\n({", ".join(f"`{name}`" for name in shown)}), oldest '
               'frame first: what is grey is dropped.\n')
    yield '## Where a baseline is ahead\n'
    for sentence in leads_in_words(result):
        yield f'- {sentence}'
    yield ('\nBy the two tables that follow, from a lead of half a point; "surely": the 95 % '
           'interval of the difference over\nrecordings is above 0.\n')
    yield from _whole(result['groups']['all'], ways)
    yield from _by_group(result['groups'])
    yield from _by_recording(result['recordings'])


def _whole(whole: Values, ways: Mapping[str, str]) -> Iterator[str]:
    yield '## All road users\n'
    yield ('Mean over recordings of the share of the area of a road user that lies on tokens '
           'that are kept, in frames that are\nneither key frame nor newest (those two have '
           'shares of their own); ways without a key frame leave out only the\nnewest. In '
           'brackets 95 % intervals over recordings, not windows. AUC: how surely a place on a '
           'road user is more\nsalient than a place on none.\n')
    yield f'| | what it is | {_heads(whole["kept"])} | AUC |'
    yield f'|---|---|{"---|" * len(_budgets(whole["kept"]))}---|'
    for way, shares in whole['kept'].items():
        cells = ' | '.join(map(_cell, shares.values()))
        yield f'| `{way}` | {ways[way]} | {cells} | {_cell(whole["auc"].get(way))} |'
    yield '\n## As many tokens of every frame\n'
    yield ('The same without window step, which spends half of the budget on two frames: the most '
           'salient tokens of each frame,\nas many of every frame, in all but the newest; ways '
           'without a saliency spread the budget as above.\n')
    yield f'| | {_heads(whole["level"])} |'
    yield f'|---|{"---|" * len(_budgets(whole["level"]))}'
    for way, shares in whole['level'].items():
        yield f'| `{way}` | {" | ".join(map(_cell, shares.values()))} |'


def _by_group(groups: Values) -> Iterator[str]:
    kept = groups['all']['kept']
    yield '\n## By light, kind and size\n'
    yield f'Kept at {", ".join(_budgets(kept))}, as in the first table. {_rules()}\n'
    yield f'| | recordings | road users | {" | ".join(f"`{way}`" for way in kept)} |'
    yield f'|---|---|---|{"---|" * len(kept)}'
    for group, found in groups.items():
        cells = ' | '.join(
            ' / '.join(_two(share[0] if share else None) for share in found['kept'][way].values())
            for way in kept)
        yield f'| {group} | {found["n"]} | {found["users"]} | {cells} |'


def _by_recording(recordings: Values) -> Iterator[str]:
    ways = [way for way in next(iter(recordings.values()))['kept'] if way not in RIVALS]
    yield '\n## Recordings\n'
    yield f'| | light | windows | road users | {" | ".join(f"`{way}`" for way in ways)} |'
    yield f'|---|---|---|---|{"---|" * len(ways)}'
    for name, values in recordings.items():
        kept = [values['kept'][way].values() for way in ways]
        cells = ' | '.join(' / '.join(_two(share.get('all')) for share in shares)
                           for shares in kept)
        yield (f'| `{name}` | {values["light"]} | {values["windows"]} | '
               f'{values["users"]["all"]} | {cells} |')


def _budgets(shares: Values) -> list[str]:
    return [f'{float(budget):.0%}' for budget in next(iter(shares.values()))]


def _heads(shares: Values) -> str:
    return ' | '.join(_budgets(shares))


def _rules() -> str:
    (x, y), (width, height) = ELLIPSE
    return (f'Light by the medians over the frames of a\nrecording: night below a mean '
            f'brightness of {NIGHT:.0f} of 255; low contrast (fog, heavy rain) below '
            f'{LOW_CONTRAST:.0f} between the darkest and the\nbrightest twentieth of the pixels; '
            f'dusk below a brightness of {DUSK:.0f}; else day. Sizes are heights in shares of '
            f'the picture. The ellipse has its\nmiddle at {x} and {y} from left and top, and '
            f'widths (sigma) of {width} and {height}.')


def _cell(found: Sequence[float | None] | None) -> str:
    if found is None:
        return '-'
    mean, low, high = found
    return f'{mean:.2f}' if low is None else f'{mean:.2f} [{low:.2f}, {high:.2f}]'


def _two(share: float | None) -> str:
    return '-' if share is None else f'{share:.2f}'


#: What the ways without a saliency are, for the page and the terminal.
ABOUT_RIVALS = {
    'random': 'tokens at random, as many of every frame; mean of 5 seeds',
    'evs': 'what changed since the frame before, on the embeddings of the first network; EVS '
           '(arXiv 2510.14624)',
    'vidcom2': 'what is unlike the mean of video and frame, on the same; VidCom2 '
               '(arXiv 2505.14454)'}


def judged_by_teacher(name: str, tiles: bool) -> str:
    """Return how a teacher judges, in a few words."""
    return (f'boxes of the detector `{name}`{", with tiles," if tiles else ""} of a confidence of '
            f'{SURE} or more, which misses some and takes some other things for road users')


JUDGED_BY_HAND = 'boxes drawn by hand, not of all road users'
