# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Fine-tune a language model on answered windows: a LoRA adapter, whatever the checkpoint.

The vision encoder stays as it is, so pictures are encoded once and kept on disk; if it is to
learn, too, the pictures are kept, and encoded in every step. Prompts are those of the product, and
tokens are dropped as it drops them, at a keep ratio drawn anew for each window: the model learns
to answer from what it will see. LoRA: Hu et al., 2021, arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
import hashlib
import itertools
import json
import math
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from vts_ros.errors import FrameError, VlmError
from vts_ros.lab.training.adapter_lessons import AdapterCourse, Lesson, School, Shown
from vts_ros.lab.training.adapter_weights import (
    adapted_network,
    go_on_from,
    save_adapter,
    untaught_tokens,
)
from vts_ros.lab.training.answered_windows import AnsweredWindow, with_pictures
from vts_ros.lab.training.frame_store import FrameStore, LookedAt
from vts_ros.lab.training.loop import fit, Schedule
from vts_ros.pipeline.factory import SMALL_MODEL
from vts_ros.pipeline.features import BrokenFrame, FrameLook, Stopwatch
from vts_ros.pipeline.guard import (
    Evidence,
    FittedGuard,
    Guard,
    holds,
    save_guard,
    SignatureGuard,
    structure,
)
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm import Vlm
from vts_ros.vlm.adapters import add_tokens
from vts_ros.vlm.answers import render
from vts_ros.vlm.packed_weights import unpack
from vts_ros.vlm.prompts import Prompt, Prompts
from vts_ros.vlm.tasks import prompt_file
from vts_ros.vlm.vehicle import SIGNAL_TOKENS

#: Windows that say it, at most.
_MOST_VALIDATION = 64
#: So often without a better one, and it ends.
_PATIENCE = 3
_WARMUP_STEPS = 20
#: Peaks of the learning rate of models that are small, from trials with the embedded one, and of
#: others: QLoRA (Dettmers et al., 2023, arXiv 2305.14314).
_SMALL_RATE, _RATE = 4e-3, 2e-4
#: Share of the windows that say when to stop that the guard of an adapter leaves outside.
_OUTSIDE = 0.005
#: Windows that are looked at to see whether all are rendered.
_RENDERED = 8
#: Pictures that are encoded at once, at most.
_ENCODED = 8
_COURSE = AdapterCourse()
_BEST, _STATE, _HISTORY, _FRAMES, _PICTURES = (
    'best', 'learning.pt', 'history.json', 'frames', 'pictures')

Progress = Callable[[int], None]


def train_adapter(pipeline: Pipeline, train: Sequence[AnsweredWindow],
                  validation: Sequence[AnsweredWindow], out: Path, work: Path,
                  course: AdapterCourse = _COURSE,
                  progress: Progress = lambda windows: None,
                  begin: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """
    Train an adapter for the language model of a pipeline and save it as PEFT does.

    Parameters
    ----------
    pipeline
        With the model to train, in this process. If it has a guard, the adapter gets one of its
        own, by the statistics of the pictures; but where rendered roads are learned, it gets the
        guard that knows them. Not to be used afterwards.
    train, validation
        To learn from, and to say when to stop.
    out
        Folder of the adapter; replaced.
    work
        Folder for what was seen and for checkpoints; a run with the same folder, windows and
        course goes on where the last one stopped.
    progress
        Called with the number of windows that were looked at since the last call.
    begin
        Called when all were, before the model begins to learn.

    Returns
    -------
    ``{'train', 'validation': windows, 'trained': weights, 'rendered': whether all pictures are,
    'history': [[step, loss], ...], 'best': step}``.

    Raises
    ------
    GuardError
        If there are too few windows for the guard.
    VlmError
        If PEFT is not there, or the model cannot be trained like this.
    AnswersError, BagError
        If there are no pictures.
    ValueError
        If the folder is of another run.

    """
    vlm = pipeline.vlm
    rendered = _rendered(pipeline, train)
    measures = None if pipeline.guard is None or rendered else structure
    if rendered is None:
        # What it sees is what it learns: the guard of the model may change pictures.
        pipeline.guard = None
    prompt = _prompt(pipeline, train)
    store = FrameStore(work / (_PICTURES if course.vision else _FRAMES))
    look = partial(_look, pipeline, store, prompt=prompt, measures=measures,
                   has_pictures=course.vision, progress=progress)
    lessons = look(train)
    checks = look(_spread(validation, _MOST_VALIDATION))
    if not lessons or not checks:
        raise VlmError('none of the recordings has the frames that the answers are about')
    guard: Guard | None = rendered or (_guard(lessons, checks) if measures else None)
    begin()
    if not course.learning_rate:
        is_small = vlm.model.num_parameters() < SMALL_MODEL
        course = replace(course, learning_rate=_SMALL_RATE if is_small else _RATE)
    about: dict[str, str | int | float] = {
        **asdict(course), 'model': vlm.name, 'lessons': _fingerprint(lessons)}
    torch.manual_seed(course.seed)
    unpack(vlm.model)
    untaught = untaught_tokens(vlm, [lesson.answer for lesson in lessons])
    if any(lesson.vehicle for lesson in lessons):
        prompt = replace(prompt, signal_tokens=SIGNAL_TOKENS)
        untaught += add_tokens(vlm.model, vlm.tokenizer, SIGNAL_TOKENS)
    cameras = max(len({frame.camera for frame in lesson.frames}) for lesson in lessons)
    adapted = adapted_network(vlm, course, untaught)
    if course.start:
        go_on_from(adapted, Path(course.start))
    school = School(vlm, pipeline.sparsifier, prompt, course)
    history = _History(work, about)

    def is_enough(step: int) -> bool:
        if step % course.every and step < course.steps:
            return False
        if history.add(step, school.check(checks)):
            save_adapter(adapted, work / _BEST, prompt.signal_tokens,
                  cameras if prompt.numbers_cameras else 0)
        return history.is_over

    weights = nn.ParameterList([weight for weight in vlm.model.parameters()
                                if weight.requires_grad])
    if not history.is_over:
        fit([weights], lambda step: school.losses(lessons, step),
            Schedule(course.steps, course.learning_rate, min(_WARMUP_STEPS, course.steps // 4),
                     muon=False),
            work / _STATE, 'adapter', about, is_enough)
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(work / _BEST, out)
    if guard:
        save_guard(guard, out)
    return {'train': len(lessons), 'validation': len(checks),
            'trained': sum(weight.numel() for weight in weights), 'rendered': bool(rendered),
            'history': history.steps, 'best': history.best[0]}


def _prompt(pipeline: Pipeline, windows: Iterable[AnsweredWindow]) -> Prompt:
    """Return what is asked; models that know no names of cameras learn to tell them by number."""
    convention = pipeline.vlm.convention
    if convention.names_camera or not any(
            len({frame.camera for frame in window.frames}) > 1 for window in windows):
        return pipeline.prompts.description
    config = pipeline.config
    return Prompts.load(config.language, prompt_file(config.task, config.prompts),
                        replace(convention, numbers_cameras=True)).description


def _look(pipeline: Pipeline, store: FrameStore, windows: Iterable[AnsweredWindow],
          prompt: Prompt, measures: Callable[[NDArray[np.uint8]], Evidence] | None,
          has_pictures: bool, progress: Progress) -> list[Lesson]:
    """Encode the frames that are not on disk yet; a window with a broken one is left out."""
    lessons = []
    watch = Stopwatch(pipeline.clock)
    for window, frames in with_pictures(windows):
        files = tuple(store.path(window.recording, *frame.key) for frame in frames)
        if not all(file.exists() for file in files):
            try:
                looks = pipeline.cache.look_all(frames, watch)
            except BrokenFrame:
                continue
            _encode(pipeline.vlm, store, [
                (file, look) for file, look in zip(files, looks, strict=True)
                if not file.exists()], measures, has_pictures)
        seen = pipeline.vlm.seen_size(store.load(files[-1]).features)
        names = sorted({frame.camera for frame in frames})
        said = dict(zip(names, prompt.said(names), strict=True))
        answer = replace(window.answer, camera=said.get(window.answer.camera or ''))
        lessons.append(Lesson(
            tuple(Shown(frame.camera, frame.stamp_ns) for frame in frames), files,
            render(answer, prompt.box, seen, pipeline.task.form), window.vehicle, window.needs))
        progress(1)
    return lessons


@torch.inference_mode()
def _encode(vlm: Vlm, store: FrameStore, frames: Sequence[tuple[Path, FrameLook]],
            measures: Callable[[NDArray[np.uint8]], Evidence] | None, has_pictures: bool) -> None:
    """Encode pictures, those of one size together, and keep what is seen."""
    for _, same in itertools.groupby(frames, lambda entry: entry[1].size):
        some = list(same)
        for start in range(0, len(some), _ENCODED):
            chunk = some[start:start + _ENCODED]
            pictures = [look.picture for _, look in chunk if look.picture is not None]
            seen = vlm.encode_batch(vlm.preprocess(pictures))
            for (file, look), features in zip(chunk, seen, strict=True):
                store.save(file, LookedAt(
                    features, look.proposal,
                    None if measures is None else measures(look.frame.rgb()),
                    look.picture if has_pictures else None))


def _rendered(pipeline: Pipeline, windows: Sequence[AnsweredWindow]) -> SignatureGuard | None:
    """Return the guard of the model where it knows the pictures: rendered ones of its task."""
    guard = pipeline.guard
    if not isinstance(guard, SignatureGuard) or not pipeline.task.is_driving:
        return None
    try:
        some = [[guard.evidence(frame.rgb()) for frame in frames]
                for _, frames in with_pictures(_spread(windows, _RENDERED))]
    except FrameError:
        return None
    return guard if some and all(holds(guard, evidence) for evidence in some) else None


def _guard(lessons: Sequence[Lesson], checks: Sequence[Lesson]) -> FittedGuard:
    """Return a guard that knows the pictures of lessons, with a limit that others set."""
    # Of a window the mean counts, however many frames it has.
    inside, limiting = (np.stack([np.mean([
        np.asarray(FrameStore.load(file).evidence) for file in lesson.files],
        axis=0, keepdims=True) for lesson in some]) for some in (lessons, checks))
    return FittedGuard.fit(inside, limiting, _OUTSIDE)


class _History:
    """Losses of the windows that say when to stop, kept on disk."""

    def __init__(self, work: Path, about: Mapping[str, str | int | float]) -> None:
        self._path, self._about = work / _HISTORY, dict(about)
        self.steps: list[tuple[int, float]] = []
        if self._path.exists():
            data = json.loads(self._path.read_text(encoding='utf-8'))
            if data['about'] == self._about:
                self.steps = [(int(step), float(loss)) for step, loss in data['steps']]
            else:
                raise ValueError(f'{work} is of a run with another model, other answers or '
                                 'settings: remove it, or take another --work')

    @property
    def best(self) -> tuple[int, float]:
        """Return the step with the least loss, and that."""
        return min(self.steps, key=lambda step: step[1])

    @property
    def is_over(self) -> bool:
        """Return whether it was long since that was better."""
        return bool(self.steps) and (
            len(self.steps) - 1 - self.steps.index(self.best) >= _PATIENCE
            or self.steps[-1][0] >= int(self._about['steps']))

    def add(self, step: int, loss: float) -> bool:
        """Note a loss; return whether it is the best so far."""
        if not math.isfinite(loss):
            raise VlmError('the loss is no number: take a smaller --learning-rate')
        # Of a run that was killed between two checkpoints, later ones are known already.
        self.steps = [*(known for known in self.steps if known[0] < step), (step, loss)]
        partial = self._path.with_suffix('.part')
        partial.write_text(json.dumps({'about': self._about, 'steps': self.steps}),
                           encoding='utf-8')
        partial.replace(self._path)
        return self.best[0] == step


def _spread(windows: Sequence[AnsweredWindow], most: int) -> list[AnsweredWindow]:
    """Return at most so many windows, from all over."""
    if len(windows) <= most:
        return list(windows)
    return [windows[int(index)] for index in np.linspace(0, len(windows) - 1, most)]


def _fingerprint(lessons: Sequence[Lesson]) -> str:
    text = repr([(lesson.frames, lesson.answer, lesson.vehicle, lesson.needs)
                 for lesson in lessons])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
