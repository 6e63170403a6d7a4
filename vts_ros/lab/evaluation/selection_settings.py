# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the numbers of the selection give: answers and recall with other values of each.

``python -m vts_ros.lab.evaluation.selection_settings --n 200`` prints a table in Markdown. A
number that changes nothing is a constant of :class:`Sparsifier`, not a parameter of the node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
import typer

from vts_ros.lab.evaluation.answer_metrics import score
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.method_comparison import answer_all, prepare_last
from vts_ros.lab.evaluation.proposal_recall import object_tokens
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render, SHORT_FRAMES
from vts_ros.lab.scenes.scene_truth import Clip
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm.answers import Answer

#: Frames of a window; a clip has some more, so that the key frame can change from window to
#: window.
WINDOW = 5
METRICS = ('risk', 'object', 'recall', 'key changes')
#: Of an answer, risk and object are enough; they come first.
ANSWER_TOKENS = 40

Values = NDArray[np.float64]


class Setting(NamedTuple):
    """One number of the selection at another value than usual."""

    name: str
    value: float
    mode: str = 'window'

    def apply(self, sparsifier: Sparsifier) -> Sparsifier:
        """Return a sparsifier with it."""
        if self.name == 'search_radius':
            return sparsifier.variant(search_radius=int(self.value))
        if self.name == 'alpha':
            return sparsifier.variant(alpha=self.value)
        return sparsifier.variant(hysteresis=self.value)


#: The usual value is in each row.
SETTINGS = (
    *(Setting('alpha', value) for value in (0.0, 0.25, 0.5, 0.75, 1.0)),
    *(Setting('search_radius', value) for value in (0, 1, 2, 3)),
    *(Setting('hysteresis', value) for value in (0.0, 0.05, 0.2, 1.0)),
    *(Setting('hysteresis', value, 'causal') for value in (0.0, 0.05, 1.0)),
)
USUAL = {'alpha': 0.5, 'search_radius': 1, 'hysteresis': 0.05}


def measure(pipeline: Pipeline, settings: Sequence[Setting], ratios: Sequence[float], n: int
            ) -> dict[tuple[Setting, float], Values]:
    """
    Answer the last window of rendered clips of the split ``test`` with every setting.

    The windows before the last are chosen from, too: the key frame of one is known to the next.

    Returns
    -------
    Float64 [n, metrics] in the order of METRICS, NaN where there is no object.

    """
    found: dict[tuple[Setting, float], list[Values]] = defaultdict(list)
    sparsifier = pipeline.sparsifier
    causal = {setting: _causal(pipeline, setting) for setting in settings
              if setting.mode == 'causal'}
    for scene in balanced_scenes('test', n, frames=SHORT_FRAMES):
        clip = render(scene)
        for ratio in ratios:
            for setting in settings:
                if setting.mode == 'causal':
                    found[setting, ratio].append(_describe_causal(causal[setting], clip, ratio))
            windows = _describe_windows(
                pipeline, clip, ratio, {setting: setting.apply(sparsifier) for setting in settings
                                        if setting.mode == 'window'})
            for setting, row in windows:
                found[setting, ratio].append(row)
    return {(setting, ratio): np.stack(found[setting, ratio])
            for setting in settings for ratio in ratios}


def _describe_windows(pipeline: Pipeline, clip: Clip, ratio: float,
                      variants: Mapping[Setting, Sparsifier]) -> Iterator[tuple[Setting, Values]]:
    last = prepare_last(pipeline, clip, WINDOW)
    grid = last.evidence.grid
    proposals = [*(pipeline.sparsifier.propose(picture) for picture in clip.frames[:-WINDOW]),
                 *last.evidence.proposals]
    keeps, changes = {}, {}
    for setting, sparsifier in variants.items():
        key: int | None = None
        changed: list[bool] = []
        for start in range(len(proposals) - WINDOW + 1):
            previous = None if key is None or key == 0 else key - 1
            selection = sparsifier.select(proposals[start:start + WINDOW], grid, ratio, previous)
            if key is not None:
                changed.append(selection.key != previous)
            key = selection.key
        keeps[setting], changes[setting] = selection.keep, float(np.mean(changed))
    # The same tokens give the same answer: decoding is greedy.
    different = {keep.tobytes(): keep for keep in keeps.values()}
    answers = dict(zip(different, answer_all(
        pipeline, [last] * len(different), list(different.values()), brief=True)))
    for setting, keep in keeps.items():
        yield setting, _row(clip, answers[keep.tobytes()], keep, WINDOW, grid, changes[setting])


def _causal(pipeline: Pipeline, setting: Setting) -> Pipeline:
    """Return a pipeline with the same models that reads every frame once."""
    return Pipeline(
        setting.apply(pipeline.sparsifier), pipeline.vlm, pipeline.prompts,
        replace(pipeline.config, mode='causal', max_new_tokens=ANSWER_TOKENS))


def _describe_causal(pipeline: Pipeline, clip: Clip, ratio: float) -> Values:
    pipeline.set_keep_ratio(ratio)
    pipeline.clear()
    frames = frames_of(clip, 'front')
    before = pipeline.stats()['groups_key']
    for end in range(WINDOW, len(frames)):
        pipeline.ingest(frames[end - WINDOW:end])
    report, = describe_batch(pipeline, [frames[-WINDOW:]])
    # The first frame begins a group for another reason.
    changes = (pipeline.stats()['groups_key'] - before) / (len(frames) - 1)
    return _row(clip, report.answer, report.keep, len(report.frames), report.grid, changes)


def _row(clip: Clip, answer: Answer, keep: Sequence[int] | NDArray[np.int32], frames: int,
         grid: tuple[int, int], changes: float) -> Values:
    """Return what is right and kept of the last frames of a clip, in the order of METRICS."""
    tokens = object_tokens(clip.truths[-frames:], grid).ravel()
    kept = np.zeros(tokens.shape, bool)
    kept[np.asarray(keep)] = True
    right = score(answer, clip.window_truth(length=WINDOW))
    recall = float(kept[tokens].mean()) if tokens.any() else float('nan')
    return np.array([right.risk, right.object, recall, changes], np.float64)


def table(found: Mapping[tuple[Setting, float], Values], ratios: Sequence[float]
          ) -> Iterator[str]:
    """Yield the lines of a table: differences to the usual value, with intervals of 95 %."""
    yield f'| setting | {" | ".join(f"{ratio:.0%} of the tokens" for ratio in ratios)} |'
    yield '|---' * (len(ratios) + 1) + '|'
    for setting in dict.fromkeys(setting for setting, _ in found):
        usual = setting._replace(value=USUAL[setting.name])
        cells = (_cell(found[setting, ratio],
                       None if setting == usual else found[usual, ratio]) for ratio in ratios)
        where = '' if setting.mode == 'window' else f', {setting.mode}'
        yield f'| `{setting.name}` {setting.value:g}{where} | {" | ".join(cells)} |'


def _cell(values: Values, usual: Values | None) -> str:
    texts = []
    for metric, column in enumerate(values.T):
        known = ~np.isnan(column)
        share = column[known]
        if not len(share):
            texts.append('-')
            continue
        if usual is None:
            texts.append(f'{100.0 * share.mean():.1f}')
            continue
        other = usual[known, metric]
        low, high = Bootstrap(len(share)).difference(share, other)
        mark = '' if low <= 0.0 <= high else '**'
        texts.append(f'{mark}{100.0 * (share.mean() - other.mean()):+.1f}{mark} '
                     f'[{100.0 * low:+.1f}, {100.0 * high:+.1f}]')
    return ' / '.join(texts)


def main(
    model: Annotated[str, typer.Option(help='Language model.')] = 'embedded',
    n: Annotated[int, typer.Option('--n', min=1, help='Number of clips.')] = 200,
    budgets: Annotated[str, typer.Option(help='Shares of the visual tokens.')] = '0.6,0.4,0.2',
) -> None:
    """Print the table."""
    ratios = [float(ratio) for ratio in budgets.split(',')]
    pipeline = Pipeline.load(PipelineConfig(model=model))
    typer.echo(f'{n} clips; {" / ".join(METRICS)}, in percent; of the usual value itself, of the '
               'others the difference to it with its bootstrap interval of 95 %\n')
    for line in table(measure(pipeline, SETTINGS, ratios, n), ratios):
        typer.echo(line)


if __name__ == '__main__':
    typer.run(main)
