# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page about windows that need the past: ``memory.md`` with its picture and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.generated_page import (
    between,
    day_and_machine,
    head,
    place,
    Run,
    write_data,
    write_text,
)
from vts_ros.lab.evaluation.memory_evaluation import HELD_SHARE, KEPT_METHODS
from vts_ros.lab.scenes.clips import SPLITS
from vts_ros.lab.scenes.memory_windows import LENGTHS, make_pair, render_memory

#: What is drawn: the first pair of the split test.
_FAMILY, _FRAMES = 'child behind a van', 8
_PICTURE = 'memory.jpg'
_QUALITY = 88


def write_memory(result: Mapping[str, Any], run: Run, folder: Path) -> list[Path]:
    """Write page, picture and data to a folder; returns what was written."""
    page = write_text(folder / 'memory.md', _lines(result, run))
    picture = folder / _PICTURE
    cv2.imwrite(str(picture), draw_pair()[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return [page, picture, write_data(folder / 'memory.json', result, run)]


def draw_pair() -> NDArray[np.uint8]:
    """Return the frames of a hazard over those of its twin, with what tells marked at its last."""
    rows = []
    for found in make_pair(SPLITS['test'][0], _FAMILY, _FRAMES):
        clip = render_memory(found, 224, 128)
        frames = [frame.copy() for frame in clip.frames]
        seen = found.clear[-1]
        height, width = frames[0].shape[:2]
        (left, top, right, bottom) = (round(edge * size) for edge, size in zip(
            seen.box, (width, height, width, height)))
        cv2.rectangle(frames[seen.frame], (left - 2, top - 2), (right + 1, bottom + 1),
                      (255, 230, 0), 1)
        rows.append(np.concatenate(
            [np.pad(frame, ((2, 2), (2, 2), (0, 0)), constant_values=255) for frame in frames], 1))
    return np.concatenate(rows)


def verdicts(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each length: where the learned key frame is ahead, by the intervals."""
    for frames, found in result['lengths'].items():
        parts = []
        for rival in ('newest', 'random'):
            ahead = found['ahead']
            by_place: dict[str, list[str]] = {}
            for share in ahead:
                where = place(ahead[share][f'vts-key-{rival}']['ever_ci'])
                by_place.setdefault(where, []).append(f'{float(share):.0%}')
            words = {'first': 'ahead at', 'behind': 'behind at',
                     'within noise': 'within noise at'}
            parts.append(f'against {rival} ' + ', '.join(
                f'{words[where]} {" and ".join(shares)}' for where, shares in by_place.items()))
        yield f'{frames} frames: {"; ".join(parts)}.'


def _lines(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    shares = [f'{share:g}' for share in result['budgets']]
    yield from head('Windows that need the past', run)
    yield ('Pairs of a hazard and its harmless twin: same seed, road, light, scenery, other '
           'actors and\nnoise, and **the same newest frame, pixel for pixel**. Only earlier '
           'frames show which of the two it is.\n')
    yield f'![Frames of a hazard over those of its harmless twin]({_PICTURE})\n'
    yield (f'A pair of 8 frames: above a {_FAMILY}, below its twin. The mark is where it was '
           'clearly seen last;\nthe newest frames, on the right, are equal.\n')
    yield (f'- {result["n"]} pairs of the split `{result["split"]}` of each length, eight '
           'families in turn; frames every 0.4 s, so\n  8, 16 and 32 of them span 2.8, 6.0 and '
           '12.4 s.\n'
           f'- Model `{result["model"]}`, greedy decoding, answers end after risk and object. '
           f'{_trained(result)}\n'
           f'- {day_and_machine(run, with_time=True)}\n'
           '- Brackets are bootstrap intervals of 95 % over pairs.\n')
    yield '## The newest frame alone does not tell\n'
    yield '| frames | newest frames equal | right by the nearest other newest frame | hidden for |'
    yield '|---|---|---|---|'
    for frames, found in result['lengths'].items():
        alone = found['newest_alone']
        yield (f'| {frames} | {alone["equal"]:.1%} | {alone["nearest"]:.1%} | '
               f'{found["hidden_sec"]:.1f} s on average |')
    yield ('\nAs the frames are equal, whatever sees the newest frame alone says the same of '
           'both, and is right about half.\n')
    yield '## What is kept of what tells\n'
    yield ('No language model is needed for this: it could not know what is not among its tokens. '
           'In percent of the windows,\n'
           f'**ever**: in some frame in which it is clearly seen, at least {HELD_SHARE:.0%} of '
           'its extent is on kept tokens; **last**: in the\nlast one of these. Hazard and twin '
           'count equally. The methods are those of [quality.md](quality.md);\n'
           '`vts-key-oracle` takes the frame that really shows most of what tells.\n')
    for frames, found in result['lengths'].items():
        yield f'{frames} frames, ever / last:\n'
        yield '| method | ' + ' | '.join(f'{float(share):.0%}' for share in shares) + ' |'
        yield '|---' * (len(shares) + 1) + '|'
        for method in KEPT_METHODS:
            yield f'| `{method}` | ' + ' | '.join(
                f'{between(cell["ever"], cell["ever_ci"], ".0f")} / {100 * cell["last"]:.0f}'
                for cell in (found['kept'][share][method] for share in shares)) + ' |'
        yield ''
    yield ('How far `vts`, the learned key frame, is ahead of another key frame on the same '
           'pairs, in points, ever / last:\n')
    yield '| frames | key frame | ' + ' | '.join(f'{float(share):.0%}' for share in shares) + ' |'
    yield '|---' * (len(shares) + 2) + '|'
    for frames, found in result['lengths'].items():
        for method in KEPT_METHODS:
            if method.startswith('vts-key-'):
                yield f'| {frames} | {method.removeprefix("vts-key-")} | ' + ' | '.join(
                    f'{between(cell["ever"], cell["ever_ci"], "+.0f")} / '
                    f'{between(cell["last"], cell["last_ci"], "+.0f")}'
                    for cell in (found['ahead'][share][method] for share in shares)) + ' |'
    yield '\nBy the intervals of *ever*:\n'
    yield from (f'- {sentence}' for sentence in verdicts(result))
    yield ''
    yield '| frames | learned key frame shows it clearly | a frame at random does |'
    yield '|---|---|---|'
    for frames, found in result['lengths'].items():
        key = found['key_frame']
        yield f'| {frames} | {key["learned"]:.1%} | {key["random"]:.1%} |'
    yield '\n## What the model says\n'
    yield (f'{_answered(result)} pairs of each length, the first ones. Told apart: the level of '
           'the hazard is above that of its twin; the wrong way: below. '
           'Both are equal for a model that\ncannot tell. Level and object: right for hazard / '
           'twin.\n')
    yield '| frames | tokens | told apart | the wrong way | level | object |'
    yield '|---|---|---|---|---|---|'
    for frames, found in result['lengths'].items():
        for share, said in found['answers'].items():
            yield (f'| {frames} | {float(share):.0%} | '
                   f'{between(said["told_apart"], said["told_apart_ci"], ".0f")} | '
                   f'{100 * said["wrong_way"]:.0f} | {100 * said["hazard_level"]:.0f} / '
                   f'{100 * said["twin_level"]:.0f} | {100 * said["hazard_object"]:.0f} / '
                   f'{100 * said["twin_object"]:.0f} |')
    yield from _families(result)


def _trained(result: Mapping[str, Any]) -> str:
    """Say what the model knows of such windows."""
    if ' + ' in result['model']:
        return 'What\n  it was trained on is said where its adapter is described.'
    return ('It was **not** trained on such windows,\n  and on 5 frames only: chance is to be '
            'expected.')


def _answered(result: Mapping[str, Any]) -> int:
    return int(next(iter(result['lengths'].values()))['answered'])


def _families(result: Mapping[str, Any]) -> Iterator[str]:
    yield '\n## Families\n'
    frames, found = next(iter(result['lengths'].items()))
    share = f'{min(result["budgets"], key=lambda ratio: abs(ratio - 0.2)):g}'
    yield f'{frames} frames, *last* at {float(share):.0%} of the tokens, in percent.\n'
    yield '| family | pairs | ' + ' | '.join(f'`{name}`' for name in KEPT_METHODS) + ' |'
    yield '|---' * (2 + len(KEPT_METHODS)) + '|'
    for name, family in found['families'].items():
        yield f'| {name} | {family["n"]} | ' + ' | '.join(
            f'{100 * family["kept"][share][method]:.0f}' for method in KEPT_METHODS) + ' |'
    lengths = ', '.join(map(str, LENGTHS))
    yield f'\n`--frames` takes any of {lengths}; the data of this page is in `memory.json`.'
