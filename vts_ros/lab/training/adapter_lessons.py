# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Lessons of an adapter: windows as the model is shown them, and the losses of what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

from vts_ros.lab.training.fast_forward import products_in_bfloat16
from vts_ros.lab.training.frame_store import FrameStore, LookedAt
from vts_ros.lab.training.loop import Losses
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import Vlm
from vts_ros.vlm.answers import AFTER_RISK
from vts_ros.vlm.boxes import BoxForm
from vts_ros.vlm.families import FrameFeatures
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.vehicle import Vehicle

#: Keep ratios that windows are learned at.
_KEEP_RATIOS = (1.0, 0.6, 0.4, 0.2)
#: The one at which it is said when to stop: that of the node.
_KEEP_RATIO = 0.6
#: Share of the windows that are learned without what the car says of itself, where the answer does
#: not need it, and of each signal that is left out of the others.
_UNTOLD, _LEFT_OUT = 0.4, 0.3
#: So many batches are sorted by the length of their windows together.
_SORTED_BATCHES = 8
_IGNORED = -100


@dataclass(frozen=True)
class AdapterCourse:
    """
    How an adapter is trained.

    Attributes
    ----------
    steps
        Optimiser steps at most.
    batch
        Windows in each.
    rank
        Of the matrices that are added.
    learning_rate
        Peak; 0 chooses by the size of the model.
    every
        Steps between two looks at the windows that say when to stop.
    seed
        For the weights, the order and the keep ratios.
    start
        Folder of an adapter of the same shape to go on from; empty begins anew.
    facts
        Share of the steps in which risk and object alone are learned, which are less than half
        of an answer; of these is the loss that says when to stop, if there are any.
    vision
        Whether the vision encoder learns, too.

    """

    steps: int = 300
    batch: int = 8
    rank: int = 16
    learning_rate: float = 0.0
    every: int = 25
    seed: int = 0
    start: str = ''
    facts: float = 0.0
    vision: bool = False


class Shown(NamedTuple):
    """Camera and stamp of a frame, as captions need them."""

    camera: str
    stamp_ns: int


class Lesson(NamedTuple):
    """A window as the model is shown it: its frames on disk, and what it is to answer."""

    frames: tuple[Shown, ...]
    files: tuple[Path, ...]
    answer: str
    vehicle: Vehicle | None = None
    needs: tuple[str, ...] = ()


class School:
    """Shows a model lessons, as the product would show it their windows."""

    def __init__(self, vlm: Vlm, sparsifier: Sparsifier, prompt: Prompt, course: AdapterCourse
                 ) -> None:
        self._vlm, self._sparsifier, self._course = vlm, sparsifier, course
        self._prompt = prompt

    def losses(self, lessons: Sequence[Lesson], step: int) -> Losses:
        """Return the loss of a step, which follows from its number."""
        batch = self._course.batch
        epoch, place = divmod(step * batch, max(batch, len(lessons) // batch * batch))
        order = _in_batches(lessons, batch, np.random.default_rng([self._course.seed, 0, epoch]))
        rng = np.random.default_rng([self._course.seed, 1, step])
        chosen = [lessons[index] for index in order[place:place + batch]]
        keep_ratios = rng.choice(_KEEP_RATIOS, len(chosen))
        is_brief = bool(rng.random() < self._course.facts)
        told = [_some_of(lesson.vehicle, lesson.needs, rng) for lesson in chosen]
        return {'answer': self._loss(chosen, keep_ratios, told, is_brief)}

    @torch.no_grad()
    def check(self, lessons: Sequence[Lesson]) -> float:
        """Return the mean loss of lessons."""
        batch = self._course.batch
        losses = [float(self._loss(some, [_KEEP_RATIO] * len(some),
                                   [lesson.vehicle for lesson in some],
                                   self._course.facts > 0.0)) * len(some)
                  for some in (lessons[start:start + batch]
                               for start in range(0, len(lessons), batch))]
        return sum(losses) / len(lessons)

    def _features(self, lesson: Lesson, looked_at: Sequence[LookedAt]) -> list[FrameFeatures]:
        """
        Return what the vision encoder sees of the frames of a lesson.

        If it learns, it does so from the newest frame of each camera; of the others gradients
        would cost several times as much.
        """
        if not self._course.vision:
            return [frame.features for frame in looked_at]
        newest = {frame.camera: place for place, frame in enumerate(lesson.frames)}.values()
        found = []
        for place, frame in enumerate(looked_at):
            assert frame.picture is not None
            with nullcontext() if place in newest else torch.no_grad():
                found += self._vlm.encode_batch(self._vlm.preprocess([frame.picture]))
        return found

    def _loss(self, lessons: Sequence[Lesson], keep_ratios: Iterable[float],
              vehicles: Iterable[Vehicle | None], is_brief: bool) -> Tensor:
        vlm = self._vlm
        prepared, keeps = [], []
        for lesson, keep_ratio, vehicle in zip(lessons, keep_ratios, vehicles, strict=True):
            looked_at = [FrameStore.load(file) for file in lesson.files]
            features = self._features(lesson, looked_at)
            prompt = self._prompt.seen_by(
                sorted({frame.camera for frame in lesson.frames})).about(vehicle)
            prepared.append(vlm.prepare(features, prompt.captions(lesson.frames), prompt))
            keeps.append(self._sparsifier.select_each(
                [frame.proposal for frame in looked_at], [frame.grid for frame in features],
                float(keep_ratio), cameras=[frame.camera for frame in lesson.frames]).keep)
        answers = [lesson.answer for lesson in lessons]
        inputs = vlm.batch(prepared, keeps, [_facts(answer, self._prompt.box)
                                             for answer in answers] if is_brief else answers)
        labels = inputs.pop('labels')
        if is_brief:
            # The answer goes on there: its end is no part of what is learned.
            ends = (labels != _IGNORED).int().cumsum(dim=1).argmax(dim=1, keepdim=True)
            labels.scatter_(1, ends, _IGNORED)
        # Logits of what is learned alone.
        first = int((labels != _IGNORED).int().argmax(dim=1).min())
        with products_in_bfloat16(labels.device) if is_brief else nullcontext():
            logits = vlm.model(**inputs, use_cache=False,
                               logits_to_keep=labels.shape[1] - first + 1).logits[:, :-1]
        return functional.cross_entropy(logits.float().transpose(1, 2), labels[:, first:],
                                        ignore_index=_IGNORED)


def _in_batches(lessons: Sequence[Lesson], batch: int, rng: np.random.Generator
                ) -> NDArray[np.int64]:
    """Return an order of lessons, with those of like lengths in a batch: padding is in vain."""
    order = rng.permutation(len(lessons))
    lengths = np.array([len(lesson.frames) for lesson in lessons])
    if len(set(lengths.tolist())) == 1:
        return order
    size = _SORTED_BATCHES * batch
    for start in range(0, len(order), size):
        some = order[start:start + size]
        some = some[np.argsort(lengths[some], kind='stable')]
        whole = len(some) // batch * batch
        parts = some[:whole].reshape(-1, batch)
        order[start:start + whole] = parts[rng.permutation(len(parts))].ravel()
        order[start + whole:start + len(some)] = some[whole:]
    return order


def _facts(answer: str, form: BoxForm) -> str:
    """
    Return an answer up to the place of its object, and how what comes next begins.

    Where the label follows the box, up to its explanation.
    """
    facts, after, _ = answer.partition(AFTER_RISK)
    before, box, sides = facts.partition(f'"{form.key}": [')
    if form.label_first and box and not sides.startswith(']'):
        # Four numbers that nobody can know exactly would be most of the loss.
        return f'{before}{box}'
    return f'{facts}{after}: "' if after else answer


def _some_of(vehicle: Vehicle | None, needs: Sequence[str], rng: np.random.Generator
             ) -> Vehicle | None:
    """Return what is told of the car this time: signals are often missing."""
    if vehicle is None:
        return None
    untold = rng.random() < _UNTOLD
    return replace(vehicle, **{
        field.name: None for field in fields(Vehicle)
        if (rng.random() < _LEFT_OUT or untold) and field.name not in needs})
