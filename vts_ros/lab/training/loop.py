# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop of both models: schedule, processes, progress bar, checkpoints, resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import math
import os
from pathlib import Path
import tempfile
import time
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
import torch
from torch import distributed, multiprocessing, nn, Tensor

from vts_ros.lab.new_processes import process_context

#: Losses of one step by name; their sum is minimised.
Losses = dict[str, Tensor]
_LAST_RATE = 1 / 30
_KEEP_MEMORY = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(1 << 33),
                'MALLOC_TOP_PAD_': str(1 << 28)}
#: Parts of names of matrices that are no maps from features to features, or too large for the
#: iterations of Muon to pay.
_NOT_FOR_MUON = ('embed', 'head', 'merger')


@dataclass(frozen=True)
class Schedule:
    """
    How long and how fast to learn.

    Attributes
    ----------
    steps
        Optimiser steps in all.
    learning_rate
        Peak, reached after ``warmup`` steps, then falling in a straight line to a thirtieth.
    checkpoint_sec
        Seconds between checkpoints.
    seconds
        How long at most; the learning rate falls with what is used up sooner, time or steps.
    muon
        Whether matrices are learned by Muon, and not by AdamW like the rest: not where they are
        too narrow for it, as those of adapters.

    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    checkpoint_sec: float = 120.0
    seconds: float = math.inf
    muon: bool = True

    def rate(self, step: int, spent_sec: float = 0.0) -> float:
        """Return the learning rate of a step, after so many seconds."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = max((step - self.warmup) / max(1, self.steps - self.warmup),
                   spent_sec / self.seconds)
        return self.learning_rate * (_LAST_RATE + (1.0 - _LAST_RATE) * (1.0 - min(done, 1.0)))


def in_processes(workers: int, train: Callable[..., None], *arguments: Any) -> None:
    """
    Run a training function in several processes that average their gradients.

    On a few cores this is much faster than as many threads: the models are small, and threads
    would wait for each other in every operation instead of once per step.
    """
    if workers == 1:
        train(*arguments)
        return
    # By default the C library gives large blocks back to the kernel after every operation and
    # fetches them anew for the next, which showed in profiles.
    for name, value in _KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as folder:
        start = process_context().get_start_method()
        multiprocessing.start_processes(
            _process, (workers, f'file://{folder}/store', train, arguments), workers,
            start_method=start)


def _process(rank: int, workers: int, store: str, train: Callable[..., None],
             arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=workers)
    try:
        train(*arguments)
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process; 0 is the one that shows and saves."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def ranks() -> int:
    """Return how many processes learn together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def fit(modules: Sequence[nn.Module], losses: Callable[[int], Losses], schedule: Schedule,
        checkpoint: Path, title: str,
        about: Mapping[str, str | int | float] = MappingProxyType({}),
        is_enough: Callable[[int], bool] = lambda step: False) -> None:
    """
    Train until the schedule ends; go on where a checkpoint of the same file left off.

    A run whose time was used up is gone on with for as long again.

    Parameters
    ----------
    modules
        All that is trained.
    losses
        Computes the losses of a step from its number, which also decides its data: a resumed
        run sees what an unbroken one would have seen.
    checkpoint
        State of modules and optimiser; written in one step, kept at the end.
    title
        Shown before the progress bar.
    about
        What else decides about the result: a run that began with something else is not gone on
        with.
    is_enough
        Asked after each step, with the number of steps done, whether to end here.

    Raises
    ------
    ValueError
        If the checkpoint is of other modules, or of a run about something else.

    """
    together = nn.ModuleList(modules)
    optimizers = _optimizers(together, schedule)
    step = _resume(checkpoint, together, optimizers, about)
    console = Console(quiet=rank() > 0)
    means: dict[str, float] = {}
    saved = begin = time.monotonic()
    first, begin_cpu = step, time.process_time()
    with _progress(console) as progress:
        task = progress.add_task(title, total=schedule.steps, completed=step, losses='')
        is_over = step >= schedule.steps
        while not is_over:
            spent_sec = time.monotonic() - begin
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group['lr'] = schedule.rate(step, spent_sec)
            parts = losses(step)
            torch.stack(list(parts.values())).sum().backward()
            _average_gradients(together)
            nn.utils.clip_grad_norm_(together.parameters(), schedule.clip_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            for name, value in parts.items():
                means[name] = 0.97 * means.get(name, value.item()) + 0.03 * value.item()
            shown = ' '.join(f'{name} {value:.3f}' for name, value in means.items())
            progress.update(task, completed=step, losses=shown)
            due = time.monotonic() - saved > schedule.checkpoint_sec
            is_over = (is_enough(step) or step >= schedule.steps
                       or time.monotonic() - begin > schedule.seconds)
            if rank() == 0 and (due or is_over):
                _save(checkpoint, together, optimizers, step, about)
                cpu_sec = (time.process_time() - begin_cpu) / (step - first)
                console.print(f'{title}: step {step} of {schedule.steps}, {cpu_sec:.2f} s of '
                              f'computing time each, {shown}', highlight=False)
                saved = time.monotonic()


def _average_gradients(modules: nn.Module) -> None:
    if not distributed.is_initialized():
        return
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    # A loss that does not apply to the data of one process leaves no gradient there.
    gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                 for parameter in parameters]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    for parameter, part in zip(parameters, parts):
        parameter.grad = part.view_as(parameter)


def _optimizers(modules: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """
    Return Muon for the matrices inside the networks and AdamW for the rest.

    Muon (Jordan et al., 2024) is there to need fewer steps; it was not compared with AdamW alone
    here. With the update scaled to that of AdamW, both take one learning rate. Norms, biases and
    scales do not decay: they are to stay free.
    """
    named = [(name, p) for name, p in modules.named_parameters() if p.requires_grad]
    inner = [p for name, p in named
             if schedule.muon and p.ndim == 2 and not any(part in name for part in _NOT_FOR_MUON)]
    taken = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in taken]
    groups = [{'params': [p for p in rest if p.ndim > 1], 'weight_decay': schedule.weight_decay},
              {'params': [p for p in rest if p.ndim <= 1], 'weight_decay': 0.0}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.98))]
    if inner:
        optimizers.append(torch.optim.Muon(
            inner, weight_decay=schedule.weight_decay, adjust_lr_fn='match_rms_adamw'))
    return optimizers


def _save(path: Path, modules: nn.Module, optimizers: Sequence[torch.optim.Optimizer],
          step: int, about: Mapping[str, str | int | float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.part')
    torch.save({'modules': modules.state_dict(), 'step': step, 'about': dict(about),
                'optimizers': [optimizer.state_dict() for optimizer in optimizers]}, partial)
    partial.replace(path)


def _resume(path: Path, modules: nn.Module,
            optimizers: Sequence[torch.optim.Optimizer],
            about: Mapping[str, str | int | float]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    before = state.get('about', {})
    changed = [name for name in about if before.get(name) != about[name]]
    if changed:
        raise ValueError(f'{path} is of a run with other {", ".join(changed)}: remove it, or '
                         'take another folder')
    try:
        modules.load_state_dict(state['modules'])
    except RuntimeError as error:
        raise ValueError(f'{path} is of another model: remove it') from error
    for optimizer, saved in zip(optimizers, state['optimizers'], strict=True):
        optimizer.load_state_dict(saved)
    return int(state['step'])


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn('{task.fields[losses]}'), console=console)
