# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which keep ratio and how many frames fit a road and a model, by what the model says there.

Nobody knows the truth about a recording, so a setting is judged by whether the answer stays what
it is with all tokens: level and object. That says what pruning changes, not whether it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np

from vts_ros.errors import BagError
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import new_figure, style
from vts_ros.lab.evaluation.worth_windows import prepare_recorded
from vts_ros.lab.recordings import every_window, name_of
from vts_ros.lab.rivals.registry import Method, methods
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.guard import holds
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import token_budget
from vts_ros.vlm.answers import AFTER_RISK, parse

#: Frames of a window that are tried, and shares of their tokens beside all.
FRAMES, RATIOS = (2, 3, 5, 8), (0.8, 0.6, 0.4, 0.2, 0.1)
#: Ways to choose the tokens: what ships, and what costs nothing.
WAYS = ('vts', 'newest', 'random')
#: An answer that stays the same so often is enough.
ENOUGH = 0.95
#: Tokens of an answer that are waited for: level and object.
_FACT_TOKENS = 64
_GUARD, _REFUSED = 'guard', 'refused'

Facts = tuple[str, str]
Progress = Callable[[float, str], None]


class _Asked(NamedTuple):
    """What is asked of a window: so many of its newest frames, and a share by a method."""

    frames: int
    ratio: float
    way: str

    @property
    def key(self) -> str:
        return f'{self.frames}/{self.ratio:g}/{self.way}'


def advise(pipeline: Pipeline, recordings: Sequence[Path], n: int, folder: Path,
           progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Ask a model about windows of recordings with fewer frames and tokens.

    Parameters
    ----------
    pipeline
        The model answers whatever its guard says, which is counted.
    n
        Windows in all, evenly over the recordings and their time.
    folder
        Where answers are kept; the same call goes on with them.

    Returns
    -------
    ``{'n', 'model', 'recordings', 'refused', 'levels': {level: windows}, 'same': {frames: {ratio:
    {way: [share, low, high]}}}, 'frames_same': {frames: [share, low, high]}, 'advice': {'frames',
    'keep_ratio', 'same', 'half': {'keep_ratio', 'same'}}}``. Shares are of windows whose level and
    object stay what they are with all tokens of as many frames; ``frames_same`` compares all
    tokens of fewer frames with those of the most. Intervals are of 95 %, over windows.

    Raises
    ------
    BagError
        If a recording cannot be read, or has no window of so many frames.

    """
    answers: list[dict[str, Facts]] = []
    per_drive = [len(part) for part in np.array_split(np.arange(n), len(recordings))]
    for recording, count in zip(recordings, per_drive):
        windows = [window for window in every_window(recording, max(FRAMES))
                   if len(window) == max(FRAMES)]
        if not windows:
            raise BagError(f'{recording}: too short, a window needs {max(FRAMES)} frames')
        for place in np.unique(np.linspace(0, len(windows) - 1, count).round().astype(int)):
            path = folder / f'{name_of(recording)}-{place:06d}.json'
            answers.append(_answers(pipeline, windows[place], path))
            progress(min(len(answers) / n, 1.0), f'{len(answers)} of {n} windows')
    return _figures(answers, pipeline.vlm.name, [name_of(path) for path in recordings])


def _answers(pipeline: Pipeline, window: Sequence[Frame], path: Path) -> dict[str, Facts]:
    """
    Return level and object of a window by what was asked, from the disk as far as possible.

    Under ``_GUARD``, the first is what the guard says of it.
    """
    found: dict[str, Facts] = {}
    if path.exists():
        found = {key: (level, label) for key, (level, label) in json.loads(
            path.read_text(encoding='utf-8')).items()}
    if pipeline.guard and _GUARD not in found:
        measured = [pipeline.guard.evidence(frame.rgb()) for frame in window]
        found[_GUARD] = ('known' if holds(pipeline.guard, measured) else _REFUSED, '')
    ways = methods(pipeline.sparsifier, WAYS)
    for frames in FRAMES:
        missing = [asked for asked in _questions(frames) if asked.key not in found]
        if not missing:
            continue
        evidence, prepared = prepare_recorded(pipeline, window[-frames:])
        keeps = [None if asked.ratio == 1.0 else _way(ways, asked.way).keep(
            evidence, token_budget(frames, evidence.grid, asked.ratio)) for asked in missing]
        for asked, keep in zip(missing, keeps):
            text = pipeline.vlm.generate(
                prepared, keep, max_new_tokens=_FACT_TOKENS, stop_strings=[AFTER_RISK],
                tokenizer=pipeline.vlm.tokenizer).text
            answer = parse(text.removesuffix(AFTER_RISK), pipeline.prompts.description.box)
            found[asked.key] = (answer.risk, answer.label or '')
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix('.part')
        partial.write_text(json.dumps(found), encoding='utf-8')
        partial.replace(path)
    return found


def _questions(frames: int) -> list[_Asked]:
    return [_Asked(frames, 1.0, 'vts'), *(
        _Asked(frames, ratio, way) for ratio in RATIOS for way in WAYS)]


def _way(ways: Sequence[Method], name: str) -> Method:
    return next(way for way in ways if way.name == name)


def _figures(answers: Sequence[Mapping[str, Facts]], model: str, recordings: Sequence[str]
             ) -> dict[str, Any]:
    bootstrap = Bootstrap(len(answers))

    def same(asked: _Asked, other: _Asked) -> list[float]:
        values = np.array([found[asked.key] == found[other.key] for found in answers], float)
        return [round(float(values.mean()), 4), *bootstrap.mean(values)]

    dense = {frames: _Asked(frames, 1.0, 'vts') for frames in FRAMES}
    kept = {frames: {ratio: {way: same(_Asked(frames, ratio, way), dense[frames])
                             for way in WAYS} for ratio in RATIOS} for frames in FRAMES}
    levels = [found[dense[max(FRAMES)].key][0] for found in answers]
    by_frames = {frames: same(dense[frames], dense[max(FRAMES)]) for frames in FRAMES}
    return {
        'n': len(answers), 'model': model, 'recordings': list(recordings),
        'refused': sum(found.get(_GUARD) == (_REFUSED, '') for found in answers),
        'levels': {level: levels.count(level) for level in sorted(set(levels))},
        'same': {str(frames): {f'{ratio:g}': ways for ratio, ways in part.items()}
                 for frames, part in kept.items()},
        'frames_same': {str(frames): found for frames, found in by_frames.items()},
        'advice': _advice(by_frames, kept)}


def _advice(by_frames: Mapping[int, Sequence[float]],
            kept: Mapping[int, Mapping[float, Mapping[str, Sequence[float]]]]) -> dict[str, Any]:
    """Return the fewest frames and tokens with which answers stay the same often enough."""
    frames = min(count for count, found in by_frames.items() if found[0] >= ENOUGH)
    chosen, same = 1.0, [1.0, 1.0, 1.0]
    for ratio in RATIOS:
        if kept[frames][ratio]['vts'][0] < ENOUGH:
            break
        chosen, same = ratio, list(kept[frames][ratio]['vts'])
    half = min(RATIOS, key=lambda ratio: abs(ratio - 0.5 * chosen))
    return {'frames': frames, 'keep_ratio': chosen, 'same': same,
            'half': {'keep_ratio': half, 'same': list(kept[frames][half]['vts'])}}


def in_words(result: Mapping[str, Any]) -> list[str]:
    """Return the advice as sentences."""
    advice, n = result['advice'], result['n']
    frames, ratio, half = advice['frames'], advice['keep_ratio'], advice['half']
    words = [
        f'buffer.frames: {frames}, sparsify.keep_ratio: {ratio:g}',
        f'With these, level and object stay what they are with all tokens in '
        f'{_share(advice["same"])} of {n} windows (95 % interval); at {half["keep_ratio"]:.0%} '
        f'of the tokens in {_share(half["same"])}.']
    shown = result['same'][str(frames)][f'{half["keep_ratio"]:g}']
    words.append(f'At {half["keep_ratio"]:.0%} the newest frames alone keep '
                 f'{shown["newest"][0]:.0%} of the answers and tokens at random '
                 f'{shown["random"][0]:.0%}: ' + (
                     'the choice of the tokens matters on this road.'
                     if shown['vts'][0] > max(shown['newest'][0], shown['random'][0]) else
                     'the choice of the tokens makes no difference on this road.'))
    if len(result['levels']) == 1:
        words.append(f'The model says "{next(iter(result["levels"]))}" of every window: a '
                     'recording in which more happens would tell more.')
    if result['refused']:
        words.append(f'Out of the world of this model are {result["refused"]} of {n} windows: a '
                     'node would answer "unknown" there, whatever the setting is.')
    if n < 40:
        words.append(f'{n} windows are few: --n 100 or more recordings make it surer.')
    words.append('Whether the answers are right is not measured: nobody knows the truth here.')
    return words


def _share(found: Sequence[float]) -> str:
    return f'{found[0]:.0%} [{found[1]:.0%}, {found[2]:.0%}]'


def draw_advice(result: Mapping[str, Any]) -> Figure:
    """Return how often answers stay the same, over the share of the tokens and the frames."""
    figure = new_figure(10.0, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1.0), sharey=True)
    advice = result['advice']
    part = result['same'][str(advice['frames'])]
    shares = [float(share) for share in part]
    for way, colour, line in (('vts', '#000000', '-'), ('newest', '#C060C0', '--'),
                              ('random', '#999999', '--')):
        values = np.array([part[share][way] for share in part])
        left.plot(shares, values[:, 0], line, color=colour, marker='o', label=way)
        if way == 'vts':
            left.fill_between(shares, values[:, 1], values[:, 2], color='0.85')
    left.axhline(ENOUGH, color='#D55E00', linewidth=1.0)
    if advice['keep_ratio'] < 1.0:
        left.axvline(advice['keep_ratio'], color='#D55E00', linewidth=1.0)
    left.set_xlabel(f'visual tokens kept of {advice["frames"]} frames')
    left.set_ylabel('level and object as with all')
    left.legend(frameon=False)
    style(left, shares)
    counts = [int(count) for count in result['frames_same']]
    values = np.array([result['frames_same'][str(count)] for count in counts])
    right.errorbar(counts, values[:, 0], yerr=(values[:, 0] - values[:, 1],
                                               values[:, 2] - values[:, 0]),
                   color='#000000', marker='o', capsize=3)
    style(right, [])
    right.set_xticks(counts, [str(count) for count in counts])
    right.axhline(ENOUGH, color='#D55E00', linewidth=1.0)
    right.set_xlabel(f'frames, against {max(counts)}, all tokens')
    return figure
