# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the vision encoder and the language model are to say of windows, as losses of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from vts_ros.lab.rivals.baselines import RandomSelector
from vts_ros.lab.scenes import sentences, window_questions
from vts_ros.lab.scenes.model_picture import ModelPicture
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS, WindowTruth
from vts_ros.lab.training.auxiliary_heads import Outlook, SeeingHeads, UnderstandingHeads
from vts_ros.lab.training.cell_targets import by_token, CellTargets, loaded, stack
from vts_ros.lab.training.fast_forward import FastVision, products_in_bfloat16, read
from vts_ros.lab.training.frozen_features import TokenFeatures
from vts_ros.lab.training.loop import Losses, rank, ranks
from vts_ros.lab.training.new_checkpoint import FORM_TOKENS, NUMBER_TOKENS
from vts_ros.lab.training.shards import Sample, Shards, Windows
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import token_budget
from vts_ros.vlm import FrameFeatures, Layout, Prepared, Vlm
from vts_ros.vlm.answers import render
from vts_ros.vlm.prompts import describe_prompt, Prompt, question_prompt

#: Frames that the vision encoder learns from in a step, for each window of the other stages.
_FRAMES_OF_WINDOW = 3
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
_IGNORED = -100
#: No picture is needed to draw lots.
_BLANK = np.zeros((16, 16, 3), np.uint8)
#: After which layer of the language model motion and risk have to be known: what an answer is
#: to read off a token must be there before the last layers.
UNDERSTANDING_LAYER = 4

#: Returns the features of the frames of windows.
_Encode = Callable[[Sequence[int]], list[list[FrameFeatures]]]


class Dialogue(NamedTuple):
    """A prompt and what is to be answered, more turns included."""

    prompt: Prompt
    answer: str


class Seeing:
    """
    Losses of the vision encoder alone, on single frames.

    Of windows that are kept, one frame each; of those that come once, all that a step takes.
    """

    def __init__(self, data: Windows, vision: FastVision, heads: SeeingHeads,
                 picture: ModelPicture, batch: int, seed: int) -> None:
        self._data, self._vision, self._heads, self._seed = data, vision, heads, seed
        self._cells = picture.token_cells
        self._frames = 1 if isinstance(data, Shards) else _FRAMES_OF_WINDOW
        self._order = data.order(_FRAMES_OF_WINDOW // self._frames * batch, seed)

    def losses(self, step: int) -> Losses:
        """Return the losses of a step."""
        rng = np.random.default_rng([self._seed, 0, step, rank()])
        samples = [self._data[index] for index in self._order(_turn(step), 0)]
        # Each window several times: to render one takes longer than to learn from it.
        rows = np.repeat(np.arange(len(samples)), self._frames)
        picks = np.concatenate([rng.permutation(len(sample.truths))[:self._frames]
                                for sample in samples])
        frames = np.stack([samples[row].frames[pick] for row, pick in zip(rows, picks)])
        cells = _merge(by_token(loaded(_row(stack([sample.cells for sample in samples]),
                                           rows, picks)), self._cells))
        with products_in_bfloat16(self._vision.device):
            tokens, _ = self._vision(torch.from_numpy(frames))
        return self._heads.losses(tokens, cells, [samples[row].window for row in rows])


class Understanding:
    """Losses of the language model on windows; what a step draws depends on its number only."""

    def __init__(self, vlm: Vlm, data: Windows, vision: FastVision, features: TokenFeatures,
                 heads: UnderstandingHeads, picture: ModelPicture, batch: int, seed: int
                 ) -> None:
        self._vlm, self._data, self._features, self._heads = vlm, data, features, heads
        self._vision = vision
        self._seed = seed
        self._cells = picture.token_cells
        self._order = data.order(batch, seed)
        self._text: Any = vlm.model.model.language_model
        self._image_token = vlm.model.config.image_token_id
        self._device = vlm.model.device
        self._numbers = torch.tensor([vlm.tokenizer(number)['input_ids'][0]
                                      for number in NUMBER_TOKENS], device=self._device)
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
                                    UNDERSTANDING_LAYER)
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
        inputs = self._vlm.batch(prepared, drawn.keeps,
                                 [dialogue.answer for dialogue in dialogues])
        states, visual = self._read(inputs, None, len(self._text.layers))
        dense = self._dense(drawn, states[UNDERSTANDING_LAYER - 1][visual])
        said = self._said(self._text.norm(states[-1]), inputs['labels'])
        return {'answer': said, **{name: _DENSE_WEIGHT * loss for name, loss in dense.items()}}

    def _read(self, inputs: dict[str, Any], length: int | None,
              layers: int) -> tuple[list[Tensor], Tensor]:
        """Return the states [B, S, D] after each layer, and where the visual tokens are."""
        ids, positions = inputs['input_ids'][:, :length], inputs['position_ids'][..., :length]
        visual = ids == self._image_token
        encoded = inputs['mm_encoder_outputs']['image']
        with products_in_bfloat16(self._device):
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
        with products_in_bfloat16(self._device):
            tokens, deepstack = self._vision(torch.from_numpy(np.concatenate(pictures)))
        frames = iter(zip(tokens, *deepstack))
        return [[FrameFeatures(rows, tuple(levels), self._vision.grid)
                 for rows, *levels in islice(frames, len(window))] for window in pictures]

    def _draw(self, step: int, stream: int, encode: _Encode) -> _Drawn:
        rng = np.random.default_rng([self._seed, stream, step, rank()])
        indices = self._order(_turn(step), stream)
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
                         self._cells)
        total = len(drawn.samples[0].truths) * cells.label.shape[1]
        rows = np.concatenate([number * total + keep.astype(np.int64)
                               for number, keep in enumerate(drawn.keeps)])
        outlook = _outlook([sample.window for sample in drawn.samples], cells.risk)
        return self._heads.losses(states, _rows(_merge(cells), rows), outlook._replace(
            level=outlook.level[rows], ttc=outlook.ttc[rows], window=outlook.window[rows]))

    def _said(self, hidden: Tensor, labels: Tensor) -> Tensor:
        weights = torch.stack([self._weigh(row) for row in labels.cpu()]).to(labels.device)[:, 1:]
        wanted, spoken = labels[:, 1:], weights > 0
        logits = self._vlm.model.lm_head(hidden[:, :-1][spoken].float())
        losses = -(self._targets(wanted[spoken]) * logits.log_softmax(-1)).sum(-1)
        return (losses * weights[spoken]).sum() / weights.sum()

    def _targets(self, wanted: Tensor) -> Tensor:
        """Return what is to be said [n, vocabulary]: a word, or about a number."""
        targets = torch.zeros(len(wanted), self._vlm.model.config.text_config.vocab_size,
                              device=wanted.device)
        targets[torch.arange(len(wanted), device=wanted.device), wanted] = 1.0
        number = torch.isin(wanted, self._numbers)
        values = torch.searchsorted(self._numbers, wanted[number])
        # To the loss, 101 numbers are 101 words: it has to be told that 0.42 is nearly 0.43.
        apart = (torch.arange(len(self._numbers), device=wanted.device)
                 - values[:, None]) / _NUMBER_SPREAD
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


def _turn(step: int) -> int:
    """Return the number of the turn that this process has in a step."""
    return step * ranks() + rank()


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
