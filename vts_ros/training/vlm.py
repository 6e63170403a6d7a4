# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Train the embedded vision language model from scratch on rendered windows.

Two stages. First the vision encoder alone learns to see, from dense targets on single frames.
Then the whole model learns to answer, over prompts laid out and pruned by the very code that
serves them: some windows whole, some pruned by the sparsifier, some at random, at ever new keep
ratios, because a model that never saw a pruned window fails on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional
from transformers import BatchFeature

from vts_ros.frames import Frame
from vts_ros.scenes import language
from vts_ros.scenes.types import LABELS, MOTIONS, TRUE_LEVELS
from vts_ros.sparsify import Sparsifier, TokenSelector
from vts_ros.sparsify.baselines import RandomSelector
from vts_ros.training.loop import fit, in_processes, Losses, rank, Schedule
from vts_ros.training.shards import Sample, Shards
from vts_ros.training.targets import cell_targets, CellTargets, DETAILS, stack
from vts_ros.vlm import FrameFeatures, Prepared, Vlm
from vts_ros.vlm.answers import render
from vts_ros.vlm.checkpoint import (
    create_checkpoint,
    FORM_TOKENS,
    MERGE,
    NUMBER_TOKENS,
    PATCH_PX,
)
from vts_ros.vlm.families import Grid
from vts_ros.vlm.prompts import describe_prompt, Prompt, question_prompt

#: Texts that the tokenizer is trained on.
_TOKENIZER_WINDOWS = 3000
#: Share of the samples that ask questions; the others ask for the description.
_QUESTION_SHARE = 0.3
#: Share of the steps with whole windows, and of the other windows pruned by the sparsifier; what
#: is left is pruned at random.
_WHOLE_SHARE, _SPARSIFIER_SHARE = 0.2, 0.6
_KEEP_RATIOS = (0.15, 0.9)
#: Weights of the tokens that state object, box and risk, and of those of the description, which
#: is long and mostly a free choice of words; the others weigh 1.
_FACT_WEIGHT, _DESCRIPTION_WEIGHT = 3.0, 0.3
#: Standard deviation of a number of a box in training, in hundredths.
_NUMBER_SPREAD = 1.5
_IGNORED = -100
#: Steps from which on compiling the language model, half a minute, saves more than it takes.
_WORTH_COMPILING = 100
#: Layers of the language model, and after which of them motion and risk have to be known.
_LAYERS, _UNDERSTANDING_LAYER = 6, 4


class Dialogue(NamedTuple):
    """A prompt and what is to be answered, more turns included."""

    prompt: Prompt
    answer: str


class CellHeads(nn.Module):
    """Reads the dense targets off a token; dropped after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.label = nn.Linear(width, 1 + len(LABELS))
        self.box = nn.Linear(width, 4)
        self.nearness = nn.Linear(width, 1)
        self.detail = nn.Linear(width, len(DETAILS))
        self.motion = nn.Linear(width, 1 + len(MOTIONS))
        self.risk = nn.Linear(width, 1)
        self.level = nn.Linear(width, len(TRUE_LEVELS))
        self.approach = nn.Linear(width, 2)

    def seen(self, tokens: Tensor, targets: CellTargets) -> Losses:
        """Return losses on what one frame shows; tokens [n, width], targets with n cells."""
        tokens = self.norm(tokens)
        label = torch.from_numpy(targets.label)
        there = label > 0
        labels = self.label(tokens)
        losses = {'cell': functional.cross_entropy(labels, label)}
        if there.any():
            found = tokens[there]
            # Most cells are background: alone, the mean over all would say little of the others.
            losses['what'] = functional.cross_entropy(labels[there], label[there])
            losses['box'] = 4.0 * functional.smooth_l1_loss(
                self.box(found).sigmoid(), torch.from_numpy(targets.box)[there], beta=0.05)
            losses['near'] = 4.0 * functional.smooth_l1_loss(
                self.nearness(found)[:, 0].sigmoid(),
                torch.from_numpy(targets.nearness)[there], beta=0.05)
            losses['lamps'] = functional.binary_cross_entropy_with_logits(
                self.detail(found), torch.from_numpy(targets.detail)[there])
        return losses

    def understood(self, hidden: Tensor, targets: CellTargets, levels: Tensor) -> Losses:
        """
        Return losses on what only the frames before can tell.

        Parameters
        ----------
        hidden
            States of n visual tokens [n, width].
        targets
            With n cells.
        levels
            int64 [n], level of risk of the cells in the newest frame (0 where the risk object is
            not); ignored elsewhere.

        """
        hidden = self.norm(hidden)
        losses: Losses = {}
        approach = torch.from_numpy(targets.approach)
        moved = ~approach[:, 0].isnan()
        if moved.any():
            tracked = hidden[moved]
            losses['motion'] = functional.cross_entropy(
                self.motion(tracked), torch.from_numpy(targets.motion)[moved])
            losses['approach'] = 4.0 * functional.smooth_l1_loss(
                self.approach(tracked), approach[moved], beta=0.1)
        losses['where'] = functional.binary_cross_entropy_with_logits(
            self.risk(hidden)[:, 0], torch.from_numpy(targets.risk),
            pos_weight=torch.tensor(4.0))
        levels_said = self.level(hidden)
        for name, cells in (('newest', levels >= 0), ('level', levels > 0)):
            if cells.any():
                losses[name] = functional.cross_entropy(levels_said[cells], levels[cells])
        return losses


def patchify(frames: NDArray[np.uint8]) -> BatchFeature:
    """
    Cut frames into patches, as the image processor of the checkpoint does, but all at once.

    Parameters
    ----------
    frames
        uint8 (n, height, width, 3) of a size that needs no scaling.

    """
    count, height, width, _ = frames.shape
    rows, columns = height // PATCH_PX, width // PATCH_PX
    pixels = torch.from_numpy(frames.astype(np.float32)) / 127.5 - 1.0
    blocks = pixels.reshape(count, rows // MERGE, MERGE, PATCH_PX,
                            columns // MERGE, MERGE, PATCH_PX, 3)
    patches = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(count * rows * columns, -1)
    grid = torch.tensor([[1, rows, columns]] * count)
    return BatchFeature({'pixel_values': patches, 'image_grid_thw': grid})


def train_vlm(shards: Path, out: Path, work: Path, vision_steps: int = 10000, steps: int = 6000,
              batch: int = 8, seed: int = 0, workers: int = 1, start: Path | None = None) -> None:
    """
    Train the embedded model and write it as a Hugging Face checkpoint.

    Parameters
    ----------
    shards
        Rendered windows of the training split.
    out
        Folder of the checkpoint.
    work
        Folder for training state; a run with the same folder goes on where the last one stopped.
    vision_steps, steps
        Optimiser steps of the two stages.
    batch
        Windows in each step, per worker; the first stage takes twice as many frames.
    seed
        For the weights, the texts and the order of the data.
    workers
        Processes that learn together.
    start
        Checkpoint to go on from; by default one with random weights is made.

    """
    if start is None and not (work / 'start' / 'config.json').exists():
        create_checkpoint(work / 'start', _texts(Shards(shards), seed), seed=seed)
    in_processes(workers, _train, shards, start or work / 'start', out, work, vision_steps,
                 steps, batch, seed)


def _train(shards: Path, start: Path, out: Path, work: Path, vision_steps: int, steps: int,
           batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    data = Shards(shards)
    vlm = Vlm.load(start, device='cpu', dtype='float32')
    vlm.model.train()
    visual = vlm.model.model.visual
    _patches_as_matrix(visual.patch_embed)
    if steps >= _WORTH_COMPILING and shutil.which('c++'):
        for layer in vlm.model.model.language_model.layers:
            layer.compile(dynamic=True)
    trainer = _Trainer(vlm, data, batch, seed)
    fit([visual, trainer.seeing], trainer.vision_losses,
        Schedule(vision_steps, learning_rate=2e-3), work / 'vision.pt', 'vision encoder')
    fit([vlm.model, trainer.seeing, trainer.understanding], trainer.losses,
        Schedule(steps, learning_rate=1e-3), work / 'vlm.pt', 'language model')
    if rank() == 0:
        _save(vlm, out)


def _patches_as_matrix(embedding: Any) -> None:
    """Embed patches by a matrix product: the same as the convolution, four times as fast."""
    weight = embedding.proj.weight

    def forward(patches: Tensor) -> Tensor:
        return functional.linear(patches, weight.flatten(1), embedding.proj.bias)

    embedding.forward = forward


def _save(vlm: Vlm, out: Path) -> None:
    """Write the checkpoint beside its place first: what is there is never half written."""
    partial = out.with_name(f'{out.name}.part')
    parts: tuple[Any, ...] = (vlm.model, vlm.tokenizer, vlm.images)
    for part in parts:
        part.save_pretrained(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


class _Trainer:
    """Draws samples and computes losses; what it draws depends on the number of the step only."""

    def __init__(self, vlm: Vlm, data: Shards, batch: int, seed: int) -> None:
        self._vlm, self._data, self._batch, self._seed = vlm, data, batch, seed
        self._sparsifier = Sparsifier()
        self._describe = describe_prompt()
        width = vlm.model.config.text_config.hidden_size
        self.seeing, self.understanding = CellHeads(width), CellHeads(width)
        self._image_token = vlm.model.config.image_token_id
        by_text = {form: vlm.tokenizer(form)['input_ids'][0] for form in FORM_TOKENS}
        self._numbers = torch.tensor([vlm.tokenizer(number)['input_ids'][0]
                                      for number in NUMBER_TOKENS])
        self._turn_ids: list[int] = [vlm.tokenizer(mark)['input_ids'][0]
                                     for mark in ('<|im_start|>', '<|im_end|>', '\n')]
        self._facts_begin = {token for text, token in by_text.items() if '"object"' in text}
        self._facts_end = by_text['", "explanation": "']
        self._description_begin = by_text['", "description": "']

    def vision_losses(self, step: int) -> Losses:
        """Return the losses of the vision encoder alone, on single frames."""
        rng = np.random.default_rng([self._seed, 0, step, rank()])
        samples = self._draw(rng, 2 * self._batch)
        picks = rng.integers([len(sample.truths) for sample in samples])
        frames = np.stack([sample.frames[pick] for sample, pick in zip(samples, picks)])
        features = self._vlm.encode_batch(patchify(frames))
        targets = stack([cell_targets(sample.truths[pick], *features[0].grid)
                         for sample, pick in zip(samples, picks)])
        return self.seeing.seen(torch.cat([frame.tokens for frame in features]), _flat(targets))

    def losses(self, step: int) -> Losses:
        """Return the losses of the whole model on windows."""
        rng = np.random.default_rng([self._seed, 1, step, rank()])
        samples = self._draw(rng, self._batch)
        length = len(samples[0].truths)
        features = self._vlm.encode_batch(
            patchify(np.concatenate([sample.frames for sample in samples])))
        windows = [features[start:start + length] for start in range(0, len(features), length)]
        keeps = self._keeps(samples, features[0].grid, rng)
        dialogues = [self._dialogue(sample, rng) for sample in samples]
        prepared = [_prepare(self._vlm, window, sample, dialogue.prompt)
                    for window, sample, dialogue in zip(windows, samples, dialogues)]
        inputs = self._vlm.batch(prepared, keeps, [one.answer for one in dialogues])
        labels = inputs.pop('labels')
        # Padding is on the right, where a causal model never looks: without a mask to read, its
        # attention takes half the time.
        inputs['attention_mask'] = torch.ones_like(inputs['attention_mask'])
        output = self._vlm.model.model(**inputs, use_cache=False, output_hidden_states=True)
        said = self._said(output.last_hidden_state, labels)

        targets = _flat(stack([cells for sample in samples
                               for cells in _targets(sample, features[0].grid)]))
        levels = torch.from_numpy(_levels(samples, targets.risk))
        rows = _kept_rows(keeps, len(prepared[0].tokens))
        # Not of the last layer: what an answer is to read off a token must be there before.
        understanding = output.hidden_states[_UNDERSTANDING_LAYER]
        visual = understanding[inputs['input_ids'] == self._image_token]
        losses = {**self.seeing.seen(torch.cat([frame.tokens for frame in features]), targets),
                  **self.understanding.understood(visual, _rows(targets, rows), levels[rows])}
        return {'answer': said, **{name: 0.3 * loss for name, loss in losses.items()}}

    def _draw(self, rng: np.random.Generator, count: int) -> list[Sample]:
        return [self._data[int(index)] for index in rng.integers(len(self._data), size=count)]

    def _keeps(self, samples: Sequence[Sample], grid: Grid,
               rng: np.random.Generator) -> list[NDArray[np.int32] | None]:
        """Draw keep lists, all of one length: padding would be computed in vain."""
        if rng.random() < _WHOLE_SHARE:
            return [None] * len(samples)
        ratio = float(rng.uniform(*_KEEP_RATIOS))
        keeps: list[NDArray[np.int32] | None] = []
        for sample in samples:
            by_lot = rng.random() >= _SPARSIFIER_SHARE
            selector: TokenSelector = (
                RandomSelector(int(rng.integers(1 << 31))) if by_lot else self._sparsifier)
            proposals = [selector.propose(frame) for frame in sample.frames]
            keeps.append(selector.select(proposals, grid, ratio).keep)
        return keeps

    def _dialogue(self, sample: Sample, rng: np.random.Generator) -> Dialogue:
        if rng.random() >= _QUESTION_SHARE:
            return Dialogue(self._describe, render(language.answer(sample.window, rng)))
        first, *others = language.questions(sample.window, rng)
        # Several turns, because the pictures cost more than the questions.
        turns = ''.join(f'<|im_end|>\n<|im_start|>user\n{question.text}<|im_end|>\n'
                        f'<|im_start|>assistant\n{question.answer}' for question in others)
        return Dialogue(question_prompt(first.text), first.answer + turns)

    def _said(self, hidden: Tensor, labels: Tensor) -> Tensor:
        weights = torch.stack([self._weights(row) for row in labels])[:, 1:]
        wanted, spoken = labels[:, 1:], weights > 0
        logits = self._vlm.model.lm_head(hidden[:, :-1][spoken])
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

    def _weights(self, labels: Tensor) -> Tensor:
        """Return the weight of each label: 0 outside answers, more for facts."""
        start, end, line_break = self._turn_ids
        weights, weight, header = torch.zeros(len(labels)), 1.0, 0
        for place, token in enumerate(labels.tolist()):
            if token == _IGNORED:
                continue
            if token == start:
                header, weight = header + 1, 0.0
            elif token in self._facts_begin:
                weight = _FACT_WEIGHT
            elif token == self._facts_end:
                weight = 1.0
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


def _prepare(vlm: Vlm, window: Sequence[FrameFeatures], sample: Sample,
             prompt: Prompt) -> Prepared:
    frames = [Frame('camera', truth.stamp_ns, b'') for truth in sample.truths]
    return vlm.prepare(window, prompt.captions(frames), prompt)


def _targets(sample: Sample, grid: Grid) -> list[CellTargets]:
    """Return the targets of the frames of a window."""
    return [cell_targets(truth, *grid, before)
            for truth, before in zip(sample.truths, (None, *sample.truths))]


def _levels(samples: Sequence[Sample], risk: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the level of the cells of all windows, see CellHeads.understood."""
    per_window = risk.reshape(len(samples), len(samples[0].truths), -1)
    levels = np.full(per_window.shape, _IGNORED, np.int64)
    truths = [TRUE_LEVELS.index(sample.window.risk) for sample in samples]
    levels[:, -1] = np.where(per_window[:, -1] > 0, np.array(truths)[:, None], 0)
    return levels.reshape(-1)


def _kept_rows(keeps: Sequence[NDArray[np.int32] | None], tokens: int) -> NDArray[np.int64]:
    """Return which cells are left, counted through all windows of so many tokens each."""
    kept = [np.arange(tokens) if keep is None else keep.astype(np.int64) for keep in keeps]
    return np.concatenate([tokens * number + rows for number, rows in enumerate(kept)])


def _flat(targets: CellTargets) -> CellTargets:
    """Merge pictures, rows and columns into one axis."""
    cells = targets.label.size
    fields: list[Any] = [field.reshape(cells, *field.shape[3:]) for field in targets]
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
        texts.append(render(language.answer(window, rng)))
        texts += [f'{question.text}\n{question.answer}'
                  for question in language.questions(window, rng)]
    captions = [f'{-tenth / 10:.1f}s'.replace('-0.0s', '0.0s') for tenth in range(31)]
    return texts + 20 * captions
