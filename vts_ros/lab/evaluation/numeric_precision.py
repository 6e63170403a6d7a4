# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What "exact" means in floats of other widths: two ways to the same answer, token by token.

Sums are rounded differently where they are made in another order or of more numbers, so that near
ties may fall the other way. How often is measured, not guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
import gc
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from vts_ros.errors import VlmError
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.frames import Window
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.int8_weights import INT8
from vts_ros.vlm.prefix_reader import Picture, PrefixReader
from vts_ros.vlm.prompt_layout import Question

#: Of the weights; the last is that of :mod:`vts_ros.vlm.int8_weights`.
PRECISIONS = ('float32', 'bfloat16', 'float16', INT8)
#: An answer, and the logits [S, V] by which it was written.
Written = tuple[tuple[int, ...], Tensor]
#: Pairs of ways: what is compared, and with what.
PAIRS = {'pruned': 'pruned against masked', 'drafted': 'drafted against plain',
         'cached': 'cached against fresh'}


@dataclass
class Compared:
    """
    Two ways over some windows.

    Attributes
    ----------
    differences
        Largest difference of logits, of each window, as a part of the largest logit.
    same, tokens
        How many tokens were the same, of how many that were chosen after the same ones.

    """

    differences: list[float] = field(default_factory=list)
    same: int = 0
    tokens: int = 0

    def add(self, found: Tensor, expected: Tensor) -> None:
        """Take in the logits [S, V] of both ways."""
        self.differences.append(float(
            (found - expected).abs().max() / expected.abs().max()))
        self.same += int((found.argmax(-1) == expected.argmax(-1)).sum())
        self.tokens += len(expected)

    @property
    def figures(self) -> dict[str, float]:
        """Return the figures for a table."""
        return {'largest': max(self.differences), 'median': float(np.median(self.differences)),
                'same': self.same / max(self.tokens, 1), 'tokens': self.tokens}


def load_options(precision: str) -> dict[str, Any]:
    """Return the options of ``Vlm.load`` for a precision; raise VlmError if there is none such."""
    if precision not in PRECISIONS:
        raise VlmError(f'no precision {precision!r}, there are: {", ".join(PRECISIONS)}')
    return {'quantization': {'quant_method': INT8}} if precision == INT8 else {'dtype': precision}


def measure(pipeline: Pipeline, load: Callable[..., Vlm], precisions: Sequence[str],
            n: int = 20, tokens: int = 24, split: str = 'val',
            progress: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """
    Compare the ways of every precision on the same windows.

    Parameters
    ----------
    pipeline
        Chooses the tokens.
    load
        Loads the model with options, such as ``dtype``.
    precisions
        Of PRECISIONS.
    n, split
        Windows.
    tokens
        Of each answer, at most.

    Returns
    -------
    ``{'n', 'split', 'tokens', 'precisions': {precision: {pair: figures}}}``; the figures are those
    of :attr:`Compared.figures`. The pairs are those of PAIRS.

    Raises
    ------
    VlmError
        If the model cannot be loaded so.

    """
    windows = [frames_of(render(scene), 'front') for scene in balanced_scenes(split, n)]
    found: dict[str, Any] = {}
    for precision in precisions:
        progress(f'{precision}: loading')
        vlm = load(**load_options(precision))
        compared: dict[str, Compared] = defaultdict(Compared)
        drafts = Drafts()
        for index, window in enumerate(windows):
            progress(f'{precision}: window {index + 1} of {n}')
            _compare(pipeline, vlm, window, tokens, drafts, compared)
        found[precision] = {pair: compared[pair].figures for pair in PAIRS}
        vlm.close()
        gc.collect()
    return {'n': n, 'split': split, 'tokens': tokens, 'model': pipeline.vlm.name,
            'keep_ratio': pipeline.config.keep_ratio, 'precisions': found}


@torch.inference_mode()
def _compare(pipeline: Pipeline, vlm: Vlm, window: Window, tokens: int, drafts: Drafts,
             compared: dict[str, Compared]) -> None:
    """Compare the ways on a window; its answer is a draft of the next ones."""
    prompt, watch = pipeline.prompts.description, Stopwatch()
    selection = pipeline.select(window)
    features = [vlm.encode(look.frame.rgb()) for look in pipeline.cache.look_all(window, watch)]
    captions = prompt.captions_on_arrival(window)
    prepared = vlm.prepare(features, captions, prompt)
    keep = selection.keep
    plain, logits = _written(vlm, prepared, keep, tokens)
    compared['pruned'].add(_pruned(vlm, prepared, keep, plain),
                           _masked(vlm, prepared, keep, plain))
    drafts.add(plain)
    drafted = _written(vlm, prepared, keep, tokens, drafts=drafts)
    compared['drafted'].add(*_decisions(drafted, (plain, logits)))
    cells = len(features[0].tokens)
    pictures = [Picture(frame, keep[(keep >= at) & (keep < at + cells)] - np.int32(at))
                for frame, at in zip(features, range(0, cells * len(features), cells))]
    reader = PrefixReader(vlm)
    texts = vlm.texts(captions, prompt)
    for count in range(1, len(pictures) + 1):
        prefix = reader.read_on(reader.part(texts[:count], pictures[:count]))
    question = Question(prefix, keep, reader.end(texts[-1:]), partial(
        vlm.prepare, features, captions, prompt))
    cached = _written(vlm, question, keep, tokens, prefix=prefix)
    compared['cached'].add(*_decisions(cached, (plain, logits)))


def _decisions(found: Written, expected: Written) -> tuple[Tensor, Tensor]:
    """Return the logits of two answers up to the first token that differs: then all is other."""
    same = next((place for place, (token, other) in enumerate(zip(found[0], expected[0]))
                 if token != other), min(len(found[0]), len(expected[0])))
    return found[1][:same + 1], expected[1][:same + 1]


class _Notes(LogitsProcessor):
    """Notes the logits of every token that is written."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logits.append(scores[0].float().clone())
        return scores


def _written(vlm: Vlm, prompt: Any, keep: NDArray[np.int32], tokens: int, **options: Any
             ) -> Written:
    """Return what a model writes, and the logits [S, V] by which it does."""
    notes = _Notes()
    generation = vlm.generate(prompt, keep, tokens, logits_processor=LogitsProcessorList([notes]),
                              **options)
    return generation.token_ids, torch.stack(notes.logits[:len(generation.token_ids)])


def _pruned(vlm: Vlm, prepared: Prepared, keep: NDArray[np.int32], answer: Sequence[int]
            ) -> Tensor:
    """Return the logits [S, V] of an answer after the pruned prompt, read at once."""
    inputs = _followed(vlm.batch([prepared], [keep]), answer)
    inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
    return _logits(vlm, inputs, answer)


def _masked(vlm: Vlm, prepared: Prepared, keep: NDArray[np.int32], answer: Sequence[int]
            ) -> Tensor:
    """Return the logits [S, V] of an answer after the whole prompt, what is dropped masked."""
    inputs = _followed(vlm.batch([prepared], [None]), answer)
    layout, length = prepared.layout, inputs['input_ids'].shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    dropped = torch.ones(len(layout.visual_slots), dtype=torch.bool)
    dropped[torch.from_numpy(keep).long()] = False
    seen[:, layout.visual_slots[dropped]] = False
    # A row that sees nothing is no number; what is dropped may see itself.
    seen |= torch.eye(length, dtype=torch.bool)
    mask = torch.zeros(length, length, dtype=vlm.model.dtype).masked_fill(
        ~seen, torch.finfo(vlm.model.dtype).min)
    inputs['attention_mask'] = mask[None, None].to(vlm.model.device)
    return _logits(vlm, inputs, answer)


def _followed(inputs: dict[str, Any], answer: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of a model with an answer after the prompt, but for its last token."""
    ids, positions = inputs['input_ids'], inputs['position_ids']
    written = ids.new_tensor([list(answer[:-1])])
    ahead = torch.arange(1, len(answer), device=ids.device)
    return {**inputs, 'input_ids': torch.cat([ids, written], 1),
            'position_ids': torch.cat([positions, positions[..., -1:] + ahead], -1)}


def _logits(vlm: Vlm, inputs: dict[str, Any], answer: Sequence[int]) -> Tensor:
    output = vlm.model(**inputs, use_cache=False, logits_to_keep=len(answer))
    return output.logits[0].float()


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in the docs."""
    yield f'| weights | {" | ".join(PAIRS.values())} |'
    yield '|---' * (len(PAIRS) + 1) + '|'
    for precision, pairs in result['precisions'].items():
        cells = [f'{figures["largest"]:.1e}, {100.0 * figures["same"]:.2f} %'
                 for figures in pairs.values()]
        yield f'| {precision} | {" | ".join(cells)} |'
