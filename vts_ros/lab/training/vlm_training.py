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

from dataclasses import dataclass, field
import math
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import numpy as np
import torch

from vts_ros.lab.evaluation.guard_evaluation import fit_guard
from vts_ros.lab.scenes import sentences, window_questions
from vts_ros.lab.scenes.model_picture import ModelPicture, SHIPPED
from vts_ros.lab.training.auxiliary_heads import SeeingHeads, UnderstandingHeads
from vts_ros.lab.training.endless_windows import EndlessWindows
from vts_ros.lab.training.fast_forward import FastVision, prepare_text
from vts_ros.lab.training.frozen_features import Features, PassingFeatures
from vts_ros.lab.training.loop import fit, in_processes, rank, Schedule
from vts_ros.lab.training.new_checkpoint import (
    create_checkpoint,
    has_present_form,
    is_for,
    renew_form,
    renew_vision,
    resize,
)
from vts_ros.lab.training.shards import check_size, Shards
from vts_ros.lab.training.window_losses import Seeing, Understanding, UNDERSTANDING_LAYER
from vts_ros.pipeline.guard import Guard, save_guard, SignatureGuard
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import Vlm
from vts_ros.vlm.answers import render
from vts_ros.vlm.taught_questions import TaughtQuestions

#: Windows whose texts the tokenizer is trained on.
_TOKENIZER_WINDOWS = 3000
#: Windows that the guard of a model over recordings is fitted to, and that set its limit.
_GUARD_WINDOWS = 2000
#: Steps from which on compiling the language model, half a minute, saves more than it takes.
_WORTH_COMPILING = 100
#: Steps in which the heads for the dense targets, which no checkpoint holds, catch up with a
#: language model that goes on: without, they undo a part of it at first.
_HEADS_STEPS = 200
#: And how much of a limited time that may take, beside it.
_HEADS_SHARE = 0.1


class Steps(NamedTuple):
    """Optimiser steps of the four stages."""

    seeing: int = 2400
    understanding: int = 5500
    answering: int = 2400
    together: int = 0


@dataclass(frozen=True)
class Course:
    """
    How the embedded model is trained.

    Attributes
    ----------
    steps
        Of each stage.
    batch
        Windows in each step, per worker; the first stage takes three times as many frames.
    seed
        For the weights, the texts and the order of the data.
    workers
        Processes that learn together.
    start
        Checkpoint to go on from; by default one with random weights is made. One that is for
        pictures of another size, or cut otherwise, is changed first.
    new_vision
        Take only the language model of ``start``.
    rate
        Of the learning rates; less than 1 where a model that knows much already goes on.
    picture
        Size of the pictures and of what they are cut into.
    renderers
        Processes that render windows without end while the model learns, which then sees none
        twice; 0 to learn from those of a folder.
    device
        ``cpu`` or ``cuda``; on the latter with one worker.
    minutes
        How long at most, each stage in proportion to its steps; with one worker.

    """

    steps: Steps = field(default_factory=Steps)
    batch: int = 16
    seed: int = 0
    workers: int = 1
    start: Path | None = None
    new_vision: bool = False
    rate: float = 1.0
    picture: ModelPicture = SHIPPED
    renderers: int = 0
    device: str = 'cpu'
    minutes: float = math.inf

    def schedule(self, steps: int, learning_rate: float) -> Schedule:
        """Return that of a stage."""
        share = steps / max(1, sum(self.steps))
        return Schedule(steps, learning_rate, seconds=60.0 * self.minutes * share or math.inf)


def train_vlm(shards: Path, out: Path, work: Path, course: Course = Course()) -> None:
    """
    Train the embedded model and write it as a Hugging Face checkpoint.

    Parameters
    ----------
    shards
        Windows of the training split, rendered ones and those of recordings; where windows are
        rendered without end, the folder in which the next ones lie.
    out
        Folder of the checkpoint.
    work
        Folder for training state; a run with the same folder goes on where the last one stopped.

    Raises
    ------
    ValueError
        If a new vision encoder, or windows without end, are asked for without a start, or
        several workers on a GPU or for a limited time.
    PictureSizeError
        If the windows are of another size, or the start cannot be made for it.

    """
    if course.start is None and (course.new_vision or course.renderers):
        what = 'a new vision encoder alone needs' if course.new_vision else \
            'windows without end need'
        raise ValueError(f'{what} a checkpoint to start from (--start)')
    if course.workers > 1 and (course.device != 'cpu' or course.minutes < math.inf):
        raise ValueError('a GPU, or a time limit, are for one worker (--workers 1)')
    if not course.renderers:
        check_size(shards, course.picture)
    in_processes(course.workers, _train, shards, _begin(shards, work, course), out, work, course)


def _begin(shards: Path, work: Path, course: Course) -> Path:
    """Return the checkpoint to begin with; made in the work folder if it is not there as it is."""
    start, made, resized = course.start, work / 'start', work / 'resized'
    if (made / 'config.json').exists():
        return made
    if start is None:
        create_checkpoint(made, _texts(Shards(shards), course.seed), seed=course.seed,
                          picture=course.picture)
        return made
    if course.new_vision:
        renew_vision(start, resized, course.seed, course.picture)
    elif is_for(start, course.picture):
        resized = start
    else:
        resize(start, resized, course.picture, course.seed)
    if has_present_form(resized):
        return resized
    renew_form(resized, made)
    return made


def _train(shards: Path, start: Path, out: Path, work: Path, course: Course) -> None:
    torch.manual_seed(course.seed)
    if not course.renderers:
        _learn(Shards(shards), start, out, work, course)
        return
    data = EndlessWindows(shards, course.picture, 0 if rank() else course.renderers)
    try:
        _learn(data, start, out, work, course)
    finally:
        data.close()


def _learn(data: Shards | EndlessWindows, start: Path, out: Path, work: Path, course: Course
           ) -> None:
    steps, picture, rate, schedule = course.steps, course.picture, course.rate, course.schedule
    vlm = Vlm.load(start, device=course.device, dtype='float32')
    vlm.model.train()
    visual, language_model = vlm.model.model.visual, vlm.model.model.language_model
    vision = FastVision(visual, picture.height, picture.width)
    heads_schedule = Schedule(_HEADS_STEPS, learning_rate=3e-3,
                              seconds=60.0 * _HEADS_SHARE * course.minutes)
    width, cells = vlm.model.config.text_config.hidden_size, picture.token_cells ** 2
    seeing = SeeingHeads(width, cells).to(vlm.model.device)
    understanding = UnderstandingHeads(width, cells).to(vlm.model.device)
    see = Seeing(data, vision, seeing, picture, course.batch, course.seed)
    visual.requires_grad_(False)
    if course.start is not None and steps.seeing:
        fit([seeing], see.losses, heads_schedule, work / 'seeing_heads.pt', 'heads, seeing')
    visual.requires_grad_(True)
    fit([visual, seeing], see.losses, schedule(steps.seeing, 3e-3 * rate), work / 'seeing.pt',
        'seeing')
    visual.requires_grad_(False)
    many = steps.understanding + steps.answering + steps.together
    # Only tried on the CPU.
    compiles = course.device == 'cpu' and many >= _WORTH_COMPILING and bool(shutil.which('c++'))
    prepare_text(language_model, compiled=compiles)
    features = Features(work / 'features', data, vision, Sparsifier()) if isinstance(
        data, Shards) else PassingFeatures(data, vision, Sparsifier())
    windows = Understanding(vlm, data, vision, features, understanding, picture, course.batch,
                            course.seed)
    if course.start is not None and many:
        language_model.requires_grad_(False)
        fit([understanding], windows.understand, heads_schedule, work / 'heads.pt', 'heads')
        language_model.requires_grad_(True)
    layers = language_model.layers[:UNDERSTANDING_LAYER]
    fit([layers, understanding], windows.understand,
        schedule(steps.understanding, 3e-3 * rate), work / 'understanding.pt', 'understanding')
    fit([language_model, understanding], windows.answer,
        schedule(steps.answering, 2e-3 * rate), work / 'answering.pt', 'answering')
    visual.requires_grad_(True)
    fit([visual, language_model, understanding], windows.together,
        schedule(steps.together, 1e-3 * rate), work / 'together.pt', 'together')
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


def _guard(data: Shards | EndlessWindows) -> Guard:
    """Return the guard for a model that was trained on these windows."""
    if not isinstance(data, Shards) or not data.over:
        return SignatureGuard()
    # Recordings have no signature. Every tenth window sets the limit.
    chosen = np.linspace(0, len(data) - 1, min(len(data), _GUARD_WINDOWS)).astype(int)
    windows = [list(data.frames(int(index))) for index in chosen]
    return fit_guard([window for place, window in enumerate(windows) if place % 10],
                     windows[::10])


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
