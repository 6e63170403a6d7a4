# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the network that hears, on soundtracks that are mixed, and write it as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
import json
from pathlib import Path
import warnings

import numpy as np
import onnx
import torch
from torch import nn, Tensor
from torch.nn import functional

import vts_ros
from vts_ros.lab.sounds.recorded_noise import require_programs
from vts_ros.lab.sounds.sound_net import SoundNet
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.onnx_export import OPSET, weights_sha256
from vts_ros.lab.training.sound_mixing import Mixer
from vts_ros.lab.training.sound_parts import (
    make_parts,
    make_recorded_parts,
    more_common_sirens,
    PART_SEC,
    Parts,
)
from vts_ros.sound.log_spectrum import BANDS, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS
from vts_ros.sound.sound_network import INPUTS, OUTPUTS


@dataclass(frozen=True)
class SoundRecipe:
    """
    What the network learns from, and for how long.

    Attributes
    ----------
    sounds
        Sounds to synthesise, of which soundtracks are mixed.
    recorded
        Pieces of speech and music of programs that play recordings.
    steps, batch
        Optimiser steps with synthesised sounds alone, and soundtracks in each.
    recorded_steps
        Optimiser steps after these, with all; common sirens come more often in them. Without any,
        no such programs are needed.
    learning_rate, recorded_learning_rate
        Their peaks.
    seed
        For the weights and the order of the data.

    """

    sounds: int = 30_000
    recorded: int = 10_000
    steps: int = 22_000
    recorded_steps: int = 24_000
    batch: int = 32
    learning_rate: float = 3e-3
    recorded_learning_rate: float = 2e-3
    seed: int = 0


def train_sound(out: Path, work: Path, recipe: SoundRecipe = SoundRecipe(),
                progress: Callable[[int], None] = lambda done: None) -> None:
    """
    Train the network and write it.

    Parameters
    ----------
    out
        Folder for ``hear.onnx`` and ``training.json``.
    work
        Folder for sounds and checkpoints; a run with the same folder goes on where the last one
        stopped.
    progress
        Called with how many more sounds are ready.

    Raises
    ------
    SoundError
        If a program that speaks or plays is not installed.

    """
    if recipe.recorded_steps:
        require_programs()
    torch.manual_seed(recipe.seed)
    parts = make_parts(work, recipe.sounds, progress)
    recorded = (make_recorded_parts(work, recipe.recorded, progress) if recipe.recorded_steps
                else None)
    # Twice as fast as in the order of PyTorch.
    net: SoundNet = SoundNet().to(  # type: ignore[call-overload]
        memory_format=torch.channels_last)
    # The logits of what is rare begin low.
    nn.init.constant_(net.heard.bias, -3.0)
    net.train()
    about: dict[str, int] = {'sounds': recipe.sounds, 'seed': recipe.seed}
    _fit(net, Mixer(parts), (recipe.seed,), recipe.batch,
         Schedule(recipe.steps, recipe.learning_rate, weight_decay=0.01), work / 'sound.pt',
         about)
    if recorded is not None:
        parts['harmless'] = Parts(*(torch.cat(both) for both in zip(
            parts['harmless'], recorded, strict=True)))
        likely = {'siren': more_common_sirens(len(parts['siren'].std))}
        _fit(net, Mixer(parts, likely), (recipe.seed, 1), recipe.batch,
             Schedule(recipe.recorded_steps, recipe.recorded_learning_rate, weight_decay=0.01),
             work / 'sound_recorded.pt',
             {**about, 'recorded': recipe.recorded, 'steps': recipe.steps})
    export_sound(net.eval(), out / 'hear.onnx')
    (out / 'training.json').write_text(json.dumps({
        **vars(recipe), 'part_sec': PART_SEC, 'kinds': KINDS,
        'weights': sum(weight.numel() for weight in net.parameters())}) + '\n', encoding='utf-8')


def _fit(net: SoundNet, mixer: Mixer, seed: tuple[int, ...], size: int, schedule: Schedule,
         checkpoint: Path, about: Mapping[str, int]) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        return mixer.batch(np.random.default_rng((*seed, step)), size)

    # The next batch is mixed while one is learned from.
    with ThreadPoolExecutor(1) as thread:
        coming: dict[int, Future[tuple[Tensor, Tensor]]] = {}

        def losses(step: int) -> Losses:
            found = coming.pop(step, None)
            coming[step + 1] = thread.submit(batch, step + 1)
            levels, truth = found.result() if found else batch(step)
            logits = net(levels, *SoundNet.begin(len(levels)))[0]
            return {'heard': _loss(logits, truth)}

        fit([net], losses, schedule, checkpoint, 'sound', about)


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    known = ~torch.isnan(truth)
    every = functional.binary_cross_entropy_with_logits(
        logits, torch.nan_to_num(truth), reduction='none')
    return (every * known).sum() / known.sum()


class _Step(nn.Module):
    """The network for one step, with probabilities."""

    def __init__(self, net: SoundNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, level: Tensor, before: Tensor, before_second: Tensor, before_third: Tensor,
                memory: Tensor) -> tuple[Tensor, ...]:
        logits, *state = self.net(level, before, before_second, before_third, memory)
        return torch.sigmoid(logits[:, 0]), *state


def export_sound(net: SoundNet, path: Path) -> None:
    """Write the network for one step as ONNX, all that it remembers handed in and out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    example = (torch.zeros(1, STEP_FRAMES, BANDS), *SoundNet.begin())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            _Step(net).eval(), example, dynamo=True, verbose=False, opset_version=OPSET,
            input_names=INPUTS, output_names=OUTPUTS)
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                 *graph.initializer):
        part.ClearField('metadata_props')
    onnx.helper.set_model_props(model, {
        'project': 'vts_ros', 'version': vts_ros.__version__, 'graph': 'hear',
        'kinds': ','.join(KINDS),
        'state': json.dumps({name: list(value.shape) for name, value in zip(
            INPUTS[1:], SoundNet.begin(), strict=True)}),
        'weights_sha256': weights_sha256(net)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
