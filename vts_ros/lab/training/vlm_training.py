# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Train the embedded vision language model on rendered windows, and on labelled real ones.

Three stages, from cheap to dear. The vision encoder alone learns to see, from dense targets on
single frames. With its features kept on disk, the first layers of the language model learn to
understand what moves and what is dangerous, from dense targets on windows. Then all of the
language model learns to answer. A fourth, in which all of it learns together, is there for those
who have the steps for it: in short it costs the language model more than it gives the vision
encoder (models/README.md has the figures).

Windows are laid out and pruned by the very code that serves them: some stay whole, some are
pruned by the sparsifier, some at random, at ever new keep ratios, because a model that never saw
a pruned window fails on one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import distributed, Tensor

from vts_ros.lab.evaluation.guard_evaluation import fit_guard
from vts_ros.lab.rivals.baselines import RandomSelector
from vts_ros.lab.scenes import sentences, window_questions
from vts_ros.lab.scenes.rendered_windows import HEIGHT, WIDTH
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS, WindowTruth
from vts_ros.lab.training.auxiliary_heads import Outlook, SeeingHeads, UnderstandingHeads
from vts_ros.lab.training.cell_targets import by_token, CellTargets, loaded, stack
from vts_ros.lab.training.fast_forward import FastVision, prepare_text, products_in_bfloat16, read
from vts_ros.lab.training.frozen_features import Features
from vts_ros.lab.training.loop import fit, in_processes, Losses, rank, Schedule
from vts_ros.lab.training.new_checkpoint import (
    create_checkpoint,
    FORM_TOKENS,
    has_present_form,
    NUMBER_TOKENS,
    renew_form,
    renew_vision,
    TOKEN_PX,
)
from vts_ros.lab.training.shards import CELL_PX, Sample, Shards
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.guard import Guard, save_guard, SignatureGuard
from vts_ros.sparsify import Sparsifier, token_budget
from vts_ros.vlm import FrameFeatures, Layout, Prepared, Vlm
from vts_ros.vlm.answers import render
from vts_ros.vlm.prompts import describe_prompt, Prompt, question_prompt
from vts_ros.vlm.taught_questions import TaughtQuestions

#: Windows whose texts the tokenizer is trained on.
_TOKENIZER_WINDOWS = 3000
#: Windows that the guard of a model over recordings is fitted to, and that set its limit.
_GUARD_WINDOWS = 2000
#: Share of the steps that ask questions, and how many in a row; the others ask for the
#: description.
_QUESTION_SHARE, _QUESTIONS = 0.25, 3
#: Share of the steps with whole windows, and of the other windows pruned by the sparsifier; what
#: is left is pruned at random.
_WHOLE_SHARE, _SPARSIFIER_SHARE = 0.25, 0.6
_KEEP_RATIOS = (0.15, 0.9)
#: Share of the steps in which the captions are those of causal mode.
_CAUSAL_SHARE = 0.3
#: Weights of the tokens that state object, box and risk, and of those of the description, which
#: is long and mostly a free choice of words; the others weigh 1.
_FACT_WEIGHT, _DESCRIPTION_WEIGHT = 3.0, 0.3
#: Weight of the dense losses while answers are learnt.
_DENSE_WEIGHT = 0.3
#: Standard deviation of a number of a box in training, in hundredths.
_NUMBER_SPREAD = 1.5
#: Side of a visual token in cells that have targets.
_CELLS = TOKEN_PX // CELL_PX
_IGNORED = -100
_BLANK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
#: Steps from which on compiling the language model, half a minute, saves more than it takes.
_WORTH_COMPILING = 100
#: Steps in which the heads for the dense targets, which no checkpoint holds, catch up with a
#: language model that goes on: without, they undo a part of it at first.
_HEADS_STEPS = 200
#: After which layer of the language model motion and risk have to be known: what an answer is
#: to read off a token must be there before the last layers.
_UNDERSTANDING_LAYER = 4


#: Returns the features of the frames of windows.
_Encode = Callable[[Sequence[int]], list[list[FrameFeatures]]]


class Dialogue(NamedTuple):
    """A prompt and what is to be answered, more turns included."""

    prompt: Prompt
    answer: str


class Steps(NamedTuple):
    """Optimiser steps of the four stages."""

    seeing: int = 2400
    understanding: int = 5500
    answering: int = 2400
    together: int = 0


def train_vlm(shards: Path, out: Path, work: Path, steps: Steps | None = None, batch: int = 16,
              seed: int = 0, workers: int = 1, start: Path | None = None,
              new_vision: bool = False, rate: float = 1.0) -> None:
    """
    Train the embedded model and write it as a Hugging Face checkpoint.

    Parameters
    ----------
    shards
        Windows of the training split, rendered ones and those of recordings.
    out
        Folder of the checkpoint.
    work
        Folder for training state; a run with the same folder goes on where the last one stopped.
    batch
        Windows in each step, per worker; the first stage takes three times as many frames.
    seed
        For the weights, the texts and the order of the data.
    workers
        Processes that learn together.
    start
        Checkpoint to go on from; by default one with random weights is made.
    new_vision
        Take only the language model of ``start``.
    rate
        Of the learning rates; less than 1 where a model that knows much already goes on.

    Raises
    ------
    ValueError
        If a new vision encoder is asked for without a start.

    """
    if new_vision and start is None:
        raise ValueError('a new vision encoder alone needs a checkpoint to start from (--start)')
    made = work / 'start'
    begin = made
    if start is not None and not new_vision and has_present_form(start):
        begin = start
    elif not (made / 'config.json').exists():
        if start is None:
            create_checkpoint(made, _texts(Shards(shards), seed), seed=seed)
        elif new_vision:
            renew_vision(start, made, seed)
        if start is not None:
            renew_form(made if new_vision else start, made)
    in_processes(workers, _train, shards, begin, out, work, steps or Steps(), batch, seed, rate,
                 start is not None)


def _train(shards: Path, start: Path, out: Path, work: Path, steps: Steps, batch: int,
           seed: int, rate: float, goes_on: bool) -> None:
    torch.manual_seed(seed)
    data = Shards(shards)
    vlm = Vlm.load(start, device='cpu', dtype='float32')
    vlm.model.train()
    visual, language_model = vlm.model.model.visual, vlm.model.model.language_model
    vision = FastVision(visual, HEIGHT, WIDTH)
    width = vlm.model.config.text_config.hidden_size
    seeing, understanding = SeeingHeads(width, _CELLS ** 2), UnderstandingHeads(width, _CELLS ** 2)
    see = _Seeing(data, vision, seeing, 3 * batch, seed)
    fit([visual, seeing], see.losses, Schedule(steps.seeing, learning_rate=3e-3 * rate),
        work / 'seeing.pt', 'seeing')
    visual.requires_grad_(False)
    many = steps.understanding + steps.answering + steps.together
    prepare_text(language_model, compiled=many >= _WORTH_COMPILING and bool(shutil.which('c++')))
    features = Features(work / 'features', data, vision, Sparsifier())
    windows = _Windows(vlm, data, vision, features, understanding, batch, seed)
    if goes_on:
        language_model.requires_grad_(False)
        fit([understanding], windows.understand, Schedule(_HEADS_STEPS, learning_rate=3e-3),
            work / 'heads.pt', 'heads')
        language_model.requires_grad_(True)
    layers = language_model.layers[:_UNDERSTANDING_LAYER]
    fit([layers, understanding], windows.understand,
        Schedule(steps.understanding, learning_rate=3e-3 * rate), work / 'understanding.pt',
        'understanding')
    fit([language_model, understanding], windows.answer,
        Schedule(steps.answering, learning_rate=2e-3 * rate), work / 'answering.pt', 'answering')
    visual.requires_grad_(True)
    fit([visual, language_model, understanding], windows.together,
        Schedule(steps.together, learning_rate=1e-3 * rate), work / 'together.pt', 'together')
    if rank() == 0:
        _save(vlm, _guard(data), out)


def _save(vlm: Vlm, guard: Guard, out: Path) -> None:
    """Write the checkpoint beside its place first: what is there is never half written."""
    vlm.model.set_attn_implementation('sdpa')
    partial = out.with_name(f'{out.name}.part')
    parts: tuple[Any, ...] = (vlm.model, vlm.tokenizer, vlm.images)
    for part in parts:
        part.save_pretrained(partial)
    TaughtQuestions(window_questions.TAUGHT).save(partial)
    save_guard(guard, partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


def _guard(data: Shards) -> Guard:
    """Return the guard for a model that was trained on these windows."""
    if not data.over:
        return SignatureGuard()
    # Recordings have no signature. Every tenth window sets the limit.
    chosen = np.linspace(0, len(data) - 1, min(len(data), _GUARD_WINDOWS)).astype(int)
    windows = [list(data.frames(int(index))) for index in chosen]
    return fit_guard([window for place, window in enumerate(windows) if place % 10],
                     windows[::10])


class _Order:
    """Says which windows a step takes: all of them once, then all again in another order."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self._count, self._batch, self._seed = count, batch, seed
        self._workers = distributed.get_world_size() if distributed.is_initialized() else 1
        self._shuffled = lru_cache(2)(self._shuffle)

    def _shuffle(self, stream: int, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, 3, stream, epoch]).permutation(self._count)

    def __call__(self, step: int, stream: int) -> list[int]:
        """Return the windows of a step of a stage in this process."""
        first = (step * self._workers + rank()) * self._batch
        return [int(self._shuffled(stream, place // self._count)[place % self._count])
                for place in range(first, first + self._batch)]


class _Seeing:
    """Losses of the vision encoder alone, on single frames."""

    def __init__(self, data: Shards, vision: FastVision, heads: SeeingHeads, batch: int,
                 seed: int) -> None:
        self._data, self._vision, self._heads, self._seed = data, vision, heads, seed
        self._order = _Order(len(data), batch, seed)

    def losses(self, step: int) -> Losses:
        """Return the losses of a step."""
        rng = np.random.default_rng([self._seed, 0, step, rank()])
        samples = [self._data[index] for index in self._order(step, 0)]
        picks = rng.integers([len(sample.truths) for sample in samples])
        frames = np.stack([sample.frames[pick] for sample, pick in zip(samples, picks)])
        cells = _merge(by_token(loaded(_row(stack([sample.cells for sample in samples]),
                                           np.arange(len(samples)), picks)), _CELLS))
        with products_in_bfloat16():
            tokens, _ = self._vision(torch.from_numpy(frames))
        return self._heads.losses(tokens, cells, [sample.window for sample in samples])


class _Windows:
    """Losses of the language model on windows; what a step draws depends on its number only."""

    def __init__(self, vlm: Vlm, data: Shards, vision: FastVision, features: Features,
                 heads: UnderstandingHeads, batch: int, seed: int) -> None:
        self._vlm, self._data, self._features, self._heads = vlm, data, features, heads
        self._vision = vision
        self._seed = seed
        self._order = _Order(len(data), batch, seed)
        self._text: Any = vlm.model.model.language_model
        self._image_token = vlm.model.config.image_token_id
        self._numbers = torch.tensor([vlm.tokenizer(number)['input_ids'][0]
                                      for number in NUMBER_TOKENS])
        self._weigh = _Weights(vlm)
        self._layout = lru_cache(4096)(vlm.layout)

    def understand(self, step: int) -> Losses:
        """Return the dense losses of a step: no question is asked yet."""
        drawn = self._draw(step, 4, self._features.windows)
        prepared = [self._prepare(window, describe_prompt(), drawn.is_causal)
                    for window in drawn.features]
        inputs = self._vlm.batch(prepared, drawn.keeps)
        # Up to the last picture: nothing that comes after has to be known.
        layout = prepared[0].layout
        after = len(layout.input_ids) - 1 - int(layout.image_slots[-1])
        states, visual = self._read(inputs, inputs['input_ids'].shape[1] - after,
                                    _UNDERSTANDING_LAYER)
        return self._dense(drawn, states[-1][visual])

    def answer(self, step: int) -> Losses:
        """Return the losses of a step on answers, and the dense ones."""
        return self._answer(step, 5, self._features.windows)

    def together(self, step: int) -> Losses:
        """Return the same losses on other windows, from features through which gradients flow."""
        return self._answer(step, 7, self._encode)

    def _answer(self, step: int, stream: int, encode: _Encode) -> Losses:
        drawn = self._draw(step, stream, encode)
        rng = np.random.default_rng([self._seed, 6, stream, step, rank()])
        # All of one kind in a step: padding would be computed in vain.
        asking = _question_dialogue if rng.random() < _QUESTION_SHARE else _description_dialogue
        dialogues = [asking(sample.window, rng) for sample in drawn.samples]
        prepared = [self._prepare(window, dialogue.prompt, drawn.is_causal)
                    for window, dialogue in zip(drawn.features, dialogues)]
        inputs = self._vlm.batch(prepared, drawn.keeps, [one.answer for one in dialogues])
        states, visual = self._read(inputs, None, len(self._text.layers))
        dense = self._dense(drawn, states[_UNDERSTANDING_LAYER - 1][visual])
        said = self._said(self._text.norm(states[-1]), inputs['labels'])
        return {'answer': said, **{name: _DENSE_WEIGHT * loss for name, loss in dense.items()}}

    def _read(self, inputs: dict[str, Any], length: int | None,
              layers: int) -> tuple[list[Tensor], Tensor]:
        """Return the states [B, S, D] after each layer, and where the visual tokens are."""
        ids, positions = inputs['input_ids'][:, :length], inputs['position_ids'][..., :length]
        visual = ids == self._image_token
        encoded = inputs['mm_encoder_outputs']['image']
        with products_in_bfloat16():
            states = read(self._text, ids, positions, visual, encoded.pooler_output[0],
                          [level[0] for level in encoded.deepstack_features], layers)
        return states, visual

    def _prepare(self, features: Sequence[FrameFeatures], prompt: Prompt, is_causal: bool
                 ) -> Prepared:
        layout: Layout = self._layout(tuple(frame.grid for frame in features),
                                      _captions(prompt, len(features), is_causal), prompt)
        return Prepared.join(layout, features)

    def _encode(self, indices: Sequence[int]) -> list[list[FrameFeatures]]:
        """Return the features of windows as they are now; gradients flow."""
        pictures = [self._data.frames(index) for index in indices]
        with products_in_bfloat16():
            tokens, deepstack = self._vision(torch.from_numpy(np.concatenate(pictures)))
        frames = iter(zip(tokens, *deepstack))
        return [[FrameFeatures(rows, tuple(levels), self._vision.grid)
                 for rows, *levels in islice(frames, len(window))] for window in pictures]

    def _draw(self, step: int, stream: int, encode: _Encode) -> _Drawn:
        rng = np.random.default_rng([self._seed, stream, step, rank()])
        indices = self._order(step, stream)
        features = encode(indices)
        frames, grid = len(features[0]), features[0][0].grid
        total = frames * grid[0] * grid[1]
        if rng.random() < _WHOLE_SHARE:
            keeps = [np.arange(total, dtype=np.int32)] * len(indices)
        else:
            # One budget in a step: padding would be computed in vain.
            ratio = float(rng.uniform(*_KEEP_RATIOS))
            keeps = [self._keep(index, frames, grid, ratio, rng) for index in indices]
        return _Drawn([self._data[index] for index in indices], features, keeps,
                      bool(rng.random() < _CAUSAL_SHARE))

    def _keep(self, index: int, frames: int, grid: tuple[int, int], ratio: float,
              rng: np.random.Generator) -> NDArray[np.int32]:
        if rng.random() < _SPARSIFIER_SHARE:
            return self._features.keep(index, token_budget(frames, grid, ratio))
        lots = RandomSelector(int(rng.integers(1 << 31)))
        return lots.select([lots.propose(_BLANK)] * frames, grid, ratio).keep

    def _dense(self, drawn: _Drawn, states: Tensor) -> Losses:
        cells = by_token(loaded(_merge(stack([sample.cells for sample in drawn.samples]))),
                         _CELLS)
        total = len(drawn.samples[0].truths) * cells.label.shape[1]
        rows = np.concatenate([number * total + keep.astype(np.int64)
                               for number, keep in enumerate(drawn.keeps)])
        outlook = _outlook([sample.window for sample in drawn.samples], cells.risk)
        return self._heads.losses(states, _rows(_merge(cells), rows), outlook._replace(
            level=outlook.level[rows], ttc=outlook.ttc[rows], window=outlook.window[rows]))

    def _said(self, hidden: Tensor, labels: Tensor) -> Tensor:
        weights = torch.stack([self._weigh(row) for row in labels])[:, 1:]
        wanted, spoken = labels[:, 1:], weights > 0
        logits = self._vlm.model.lm_head(hidden[:, :-1][spoken].float())
        losses = -(self._targets(wanted[spoken]) * logits.log_softmax(-1)).sum(-1)
        return (losses * weights[spoken]).sum() / weights.sum()

    def _targets(self, wanted: Tensor) -> Tensor:
        """Return what is to be said [n, vocabulary]: a word, or about a number."""
        targets = torch.zeros(len(wanted), self._vlm.model.config.text_config.vocab_size)
        targets[torch.arange(len(wanted)), wanted] = 1.0
        number = torch.isin(wanted, self._numbers)
        values = torch.searchsorted(self._numbers, wanted[number])
        # To the loss, 101 numbers are 101 words: it has to be told that 0.42 is nearly 0.43.
        apart = (torch.arange(len(self._numbers)) - values[:, None]) / _NUMBER_SPREAD
        targets[number] = 0.0
        targets[number.nonzero(), self._numbers] = (-0.5 * apart ** 2).softmax(-1)
        return targets


class _Drawn(NamedTuple):
    """
    Windows of a step, their features, and the visual tokens that are left of each.

    In causal mode the pictures have other captions; what is left of them is not chosen otherwise.
    """

    samples: list[Sample]
    features: list[list[FrameFeatures]]
    keeps: list[NDArray[np.int32]]
    is_causal: bool


class _Weights:
    """Says what each label weighs: 0 outside answers, more for facts."""

    def __init__(self, vlm: Vlm) -> None:
        by_text = {form: vlm.tokenizer(form)['input_ids'][0] for form in FORM_TOKENS}
        self._turn_ids: list[int] = [vlm.tokenizer(mark)['input_ids'][0]
                                     for mark in ('<|im_start|>', '<|im_end|>', '\n')]
        self._facts_begin = by_text['{"risk": "']
        self._facts_end = {token for text, token in by_text.items() if '"explanation"' in text}
        self._description_begin = by_text['", "description": "']

    def __call__(self, labels: Tensor) -> Tensor:
        """Return the weights of the labels of one dialogue [S]."""
        start, end, line_break = self._turn_ids
        weights, weight, header = torch.zeros(len(labels)), 1.0, 0
        for place, token in enumerate(labels.tolist()):
            if token == _IGNORED:
                continue
            if token == start:
                header, weight = header + 1, 0.0
            elif token == self._facts_begin:
                weight = _FACT_WEIGHT
            elif token in self._facts_end:
                # Whether there is an object is a fact, too.
                weights[place] = weight
                weight = 1.0
                continue
            elif token == self._description_begin:
                weight = _DESCRIPTION_WEIGHT
            weights[place] = weight
            if token == end:
                weight = 0.0
            # Turns alternate: after the second header it is the assistant's again, from the
            # line break on.
            if header == 2 and token == line_break:
                header, weight = 0, 1.0
        return weights


def _description_dialogue(window: WindowTruth, rng: np.random.Generator) -> Dialogue:
    return Dialogue(describe_prompt(), render(sentences.answer(window, rng)))


def _question_dialogue(window: WindowTruth, rng: np.random.Generator) -> Dialogue:
    first, *others = window_questions.questions(window, rng, _QUESTIONS)
    # Several turns, because the pictures cost more than the questions.
    turns = ''.join(f'<|im_end|>\n<|im_start|>user\n{question.text}<|im_end|>\n'
                    f'<|im_start|>assistant\n{question.answer}' for question in others)
    return Dialogue(question_prompt(first.text), first.answer + turns)


def _outlook(windows: Sequence[WindowTruth], risk: NDArray[np.float32]) -> Outlook:
    """Return the outlook of all tokens; risk [frames of all windows, tokens, cells]."""
    risk = risk.reshape(len(windows), -1, *risk.shape[1:])
    levels = np.full(risk.shape, -1, np.int64)
    ttc = np.full(risk.shape, np.nan, np.float32)
    owner = np.full(risk.shape[:3], -1, np.int64)
    for number, window in enumerate(windows):
        there = risk[number, -1] > 0
        levels[number, -1] = np.where(there, TRUE_LEVELS.index(window.risk), 0)
        if window.ttc_sec is not None:
            ttc[number, -1][there] = np.log(max(window.ttc_sec, 0.2))
        owner[number, -1] = number
    cells = risk.shape[-1]
    return Outlook(levels.reshape(-1, cells), ttc.reshape(-1, cells), owner.reshape(-1),
                   np.array([window.ego_speed_mps for window in windows], np.float32))


@lru_cache
def _captions(prompt: Prompt, frames: int, is_causal: bool) -> tuple[str, ...]:
    interval_ns = 400_000_000
    captions = prompt.captions_on_arrival if is_causal else prompt.captions
    return tuple(captions([Frame('camera', number * interval_ns, b'')
                           for number in range(frames)]))


def _merge(targets: CellTargets) -> CellTargets:
    """Merge the first two axes: windows and frames, or frames and tokens."""
    fields: list[Any] = [field.reshape(-1, *field.shape[2:]) for field in targets]
    return CellTargets(*fields)


def _row(targets: CellTargets, windows: NDArray[np.int64],
         frames: NDArray[np.int64]) -> CellTargets:
    fields: list[Any] = [field[windows, frames] for field in targets]
    return CellTargets(*fields)


def _rows(targets: CellTargets, rows: NDArray[np.int64]) -> CellTargets:
    fields: list[Any] = [field[rows] for field in targets]
    return CellTargets(*fields)


def _texts(data: Shards, seed: int) -> list[str]:
    """Return answers, questions and captions for the tokenizer."""
    rng = np.random.default_rng([seed, 2])
    texts = []
    for index in range(min(len(data), _TOKENIZER_WINDOWS)):
        window = data[index].window
        texts.append(render(sentences.answer(window, rng)))
        texts += [f'{question.text}\n{question.answer}'
                  for question in window_questions.questions(window, rng)]
    captions = [f'{tenth / 10:.1f}s' for tenth in range(-30, 31)]
    return texts + 20 * captions
