# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Fine-tune a language model on answered windows: a LoRA adapter, whatever the checkpoint.

The vision encoder stays as it is, so pictures are encoded once and kept on disk. Prompts are
those of the product, and tokens are dropped as it drops them, at a keep ratio drawn anew for each
window: the model learns to answer from what it will see. LoRA: Hu et al., 2021, arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
import hashlib
import json
import math
from pathlib import Path
import re
import shutil
from typing import Any, NamedTuple
import warnings

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from vts_ros.errors import FrameError, VlmError
from vts_ros.lab.training.answered_windows import AnsweredWindow, with_pictures
from vts_ros.lab.training.frame_store import FrameStore, LookedAt
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.paths import checkpoint
from vts_ros.pipeline.factory import SMALL_MODEL
from vts_ros.pipeline.features import BrokenFrame, Stopwatch
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
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import Vlm
from vts_ros.vlm.adapters import add_tokens, check_adapter, save_tokens
from vts_ros.vlm.answers import AFTER_RISK, render
from vts_ros.vlm.families import FrameFeatures
from vts_ros.vlm.loading import in_one_line
from vts_ros.vlm.packed_weights import unpack
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.vehicle import SIGNAL_TOKENS, Vehicle

#: Keep ratios that windows are learned at.
_KEEP_RATIOS = (1.0, 0.6, 0.4, 0.2)
#: The one at which it is said when to stop: that of the node.
_KEEP_RATIO = 0.6
#: Windows that say it, at most.
_MOST_VALIDATION = 64
#: So often without a better one, and it ends.
_PATIENCE = 3
_WARMUP_STEPS = 20
#: Strength of an adapter: its rank times this, over its rank.
_ALPHA = 2
#: Peaks of the learning rate of models that are small, from trials with the embedded one, and of
#: others: QLoRA (Dettmers et al., 2023, arXiv 2305.14314).
_SMALL_RATE, _RATE = 4e-3, 2e-4
#: Share of the windows that say when to stop that the guard of an adapter leaves outside.
_OUTSIDE = 0.005
#: Cosine of two embeddings from which on nothing tells the tokens apart.
_ALIKE = 0.99
#: Share of the windows that are learned without what the car says of itself, where the answer does
#: not need it, and of each signal that is left out of the others.
_UNTOLD, _LEFT_OUT = 0.4, 0.3
#: Windows that are looked at to see whether all are rendered.
_RENDERED = 8
_IGNORED = -100
_BEST, _STATE, _HISTORY, _FRAMES = 'best', 'learning.pt', 'history.json', 'frames'

Progress = Callable[[int], None]


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

    """

    steps: int = 300
    batch: int = 8
    rank: int = 16
    learning_rate: float = 0.0
    every: int = 25
    seed: int = 0
    start: str = ''
    facts: float = 0.0


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


def train_adapter(pipeline: Pipeline, train: Sequence[AnsweredWindow],
                  validation: Sequence[AnsweredWindow], out: Path, work: Path,
                  course: AdapterCourse = AdapterCourse(),
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
    store = FrameStore(work / _FRAMES)
    lessons = _look(pipeline, store, train, measures, progress)
    checks = _look(pipeline, store, _spread(validation, _MOST_VALIDATION), measures, progress)
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
    untaught = untaught_tokens(vlm, [lesson.answer for lesson in lessons])
    prompt = pipeline.prompts.description
    if any(lesson.vehicle for lesson in lessons):
        prompt = replace(prompt, signal_tokens=SIGNAL_TOKENS)
        untaught += add_tokens(vlm.model, vlm.tokenizer, SIGNAL_TOKENS)
    adapted = _adapted(vlm, course, untaught)
    if course.start:
        _go_on_from(adapted, Path(course.start))
    school = _School(vlm, pipeline.sparsifier, prompt, course)
    history = _History(work, about)

    def is_enough(step: int) -> bool:
        if step % course.every and step < course.steps:
            return False
        if history.add(step, school.check(checks)):
            _save(adapted, work / _BEST, prompt.signal_tokens)
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


def _look(pipeline: Pipeline, store: FrameStore, windows: Iterable[AnsweredWindow],
          measures: Callable[[NDArray[np.uint8]], Evidence] | None, progress: Progress
          ) -> list[Lesson]:
    """Encode the frames that are not on disk yet; a window with a broken one is left out."""
    lessons = []
    watch = Stopwatch(pipeline.clock)
    for window, frames in with_pictures(windows):
        files = tuple(store.path(window.recording, *frame.key) for frame in frames)
        if not all(file.exists() for file in files):
            try:
                entries = pipeline.cache.get_all(frames, watch)
            except BrokenFrame:
                continue
            for file, entry in zip(files, entries, strict=True):
                if not file.exists():
                    assert isinstance(entry.features, FrameFeatures)
                    store.save(file, LookedAt(
                        entry.features, entry.proposal,
                        None if measures is None else measures(entry.frame.rgb())))
        seen = pipeline.vlm.seen_size(store.load(files[-1]).features)
        lessons.append(Lesson(
            tuple(Shown(frame.camera, frame.stamp_ns) for frame in frames), files,
            render(window.answer, pipeline.prompts.description.box, seen, pipeline.task.form),
            window.vehicle, window.needs))
        progress(1)
    return lessons


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


class _School:
    """Shows a model lessons, as the product would show it their windows."""

    def __init__(self, vlm: Vlm, sparsifier: Sparsifier, prompt: Prompt, course: AdapterCourse
                 ) -> None:
        self._vlm, self._sparsifier, self._course = vlm, sparsifier, course
        self._prompt = prompt

    def losses(self, lessons: Sequence[Lesson], step: int) -> Losses:
        """Return the loss of a step, which follows from its number."""
        batch = self._course.batch
        epoch, place = divmod(step * batch, max(batch, len(lessons) // batch * batch))
        order = np.random.default_rng([self._course.seed, 0, epoch]).permutation(len(lessons))
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

    def _loss(self, lessons: Sequence[Lesson], keep_ratios: Iterable[float],
              vehicles: Iterable[Vehicle | None], is_brief: bool) -> Tensor:
        vlm = self._vlm
        prepared, keeps = [], []
        for lesson, keep_ratio, vehicle in zip(lessons, keep_ratios, vehicles, strict=True):
            looked_at = [FrameStore.load(file) for file in lesson.files]
            features = [frame.features for frame in looked_at]
            prompt = self._prompt.seen_by(
                sorted({frame.camera for frame in lesson.frames})).about(vehicle)
            prepared.append(vlm.prepare(features, prompt.captions(lesson.frames), prompt))
            keeps.append(self._sparsifier.select_each(
                [frame.proposal for frame in looked_at], [frame.grid for frame in features],
                float(keep_ratio)).keep)
        answers = [lesson.answer for lesson in lessons]
        inputs = vlm.batch(prepared, keeps, [_facts(answer) for answer in answers]
                           if is_brief else answers)
        if is_brief:
            # The answer goes on there: its end is no part of what is learned.
            labels = inputs['labels']
            ends = (labels != _IGNORED).int().cumsum(dim=1).argmax(dim=1, keepdim=True)
            labels.scatter_(1, ends, _IGNORED)
        loss: Tensor = vlm.model(**inputs, use_cache=False).loss
        return loss


def _facts(answer: str) -> str:
    """Return an answer up to its explanation, and the quote that opens that."""
    facts, after, _ = answer.partition(AFTER_RISK)
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


def untaught_tokens(vlm: Vlm, answers: Iterable[str]) -> list[int]:
    """
    Return the tokens of answers that the model has never learned to tell from others.

    What a training never shows keeps an embedding that is pushed away from whatever is shown: such
    tokens come to be all alike. A small model with a vocabulary of its own has many, in which
    words are spelled that it has not learned; it could not write them without embeddings that are
    learned, too.
    """
    used = sorted({token for text in answers for token in vlm.tokenizer(
        text, add_special_tokens=False)['input_ids']})
    with torch.no_grad():
        rows = nn.functional.normalize(vlm.model.get_input_embeddings().weight.float(), dim=1)
        likeness = rows[used] @ rows.T
        likeness[torch.arange(len(used)), torch.tensor(used)] = -1.0
        alike = likeness.amax(dim=1) > _ALIKE
    return [token for token, is_alike in zip(used, alike.tolist()) if is_alike]


def _adapted(vlm: Vlm, course: AdapterCourse, untaught: Sequence[int]) -> Any:
    """Add trainable matrices to the linear layers of the language model; freeze all else."""
    try:
        from peft import get_peft_model, LoraConfig
    except ImportError as error:
        raise VlmError("adapters need peft: pip install 'vts_ros[adapters]'") from error
    unpack(vlm.model)
    decoder = vlm.model.get_decoder()
    inside = {id(module) for module in decoder.modules()}
    names = [name for name, module in vlm.model.named_modules()
             if isinstance(module, nn.Linear) and id(module) in inside]
    if not names:
        raise VlmError(f'{vlm.name} has no linear layers that an adapter can be added to')
    decoder_name, = (name for name, module in vlm.model.named_modules() if module is decoder)
    kinds = sorted({name.rpartition('.')[2] for name in names})
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        adapted = get_peft_model(vlm.model, LoraConfig(
            r=course.rank, lora_alpha=_ALPHA * course.rank, lora_dropout=0.0,
            trainable_token_indices=list(untaught) or None,
            target_modules=rf'(.*\.)?{re.escape(decoder_name)}\..*\.({"|".join(kinds)})'))
    adapted.peft_config['default'].base_model_name_or_path = _base_name(vlm)
    return adapted


def _go_on_from(adapted: Any, start: Path) -> None:
    """Take the weights of another adapter; raise VlmError if it has another shape."""
    from peft import load_peft_weights, set_peft_model_state_dict

    check_adapter(str(start), start)
    with in_one_line(f'{start} cannot be gone on from'):
        loaded: Any = set_peft_model_state_dict(
            adapted, load_peft_weights(str(start), device='cpu'))
        if loaded.unexpected_keys:
            raise VlmError(f'{start} is an adapter of another shape or of other words: take its '
                           '--rank and answers')


def _base_name(vlm: Vlm) -> str:
    """Return how an adapter names its model: a shipped one not by where it lies here."""
    path = Path(str(vlm.model.name_or_path))
    return path.name if checkpoint(path.name) == str(path) else str(path)


def _save(adapted: Any, folder: Path, tokens: Sequence[str]) -> None:
    partial = folder.with_name(f'{folder.name}.part')
    shutil.rmtree(partial, ignore_errors=True)
    # The embeddings of new tokens are saved by themselves, not all there are.
    adapted.save_pretrained(partial, save_embedding_layers=False)
    if tokens:
        save_tokens(tokens, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _spread(windows: Sequence[AnsweredWindow], most: int) -> list[AnsweredWindow]:
    """Return at most so many windows, from all over."""
    if len(windows) <= most:
        return list(windows)
    return [windows[int(index)] for index in np.linspace(0, len(windows) - 1, most)]


def _fingerprint(lessons: Sequence[Lesson]) -> str:
    text = repr([(lesson.frames, lesson.answer, lesson.vehicle, lesson.needs)
                 for lesson in lessons])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
