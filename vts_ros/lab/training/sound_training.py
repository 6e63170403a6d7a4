# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the network that hears, on synthesised soundtracks, and write it as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
from typing import NamedTuple
import warnings

import numpy as np
from numpy.typing import NDArray
import onnx
import torch
from torch import nn, Tensor
from torch.nn import functional

import vts_ros
from vts_ros.lab.sounds.sound_net import SoundNet
from vts_ros.lab.sounds.soundtrack import soundtrack, TRAINING
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.onnx_export import OPSET, weights_sha256
from vts_ros.sound.log_mel import LogMel, STEP_FRAMES, STEP_SAMPLES
from vts_ros.sound.sound_events import KINDS
from vts_ros.sound.sound_network import INPUTS, OUTPUTS

#: First numbers of the seeds of soundtracks: what one part has, no other has.
SEEDS = {'train': 1, 'val': 2, 'test': 3}
#: Length of a soundtrack to learn from; sirens with slow changes fit in.
CLIP_SEC = 8.0
#: Soundtracks in a file.
_SHARD = 250
_STEPS = int(CLIP_SEC * 10)


@dataclass(frozen=True)
class SoundRecipe:
    """
    What the network learns from, and for how long.

    Attributes
    ----------
    clips
        Soundtracks to synthesise.
    steps, batch
        Optimiser steps, and soundtracks in each.
    learning_rate
        At its peak.
    seed
        For the weights and the order of the data.

    """

    clips: int = 5000
    steps: int = 1800
    batch: int = 32
    learning_rate: float = 3e-3
    seed: int = 0


class Clips(NamedTuple):
    """Spectrograms, float32 [n, frames, bands] in dB, and truth, float32 [n, steps, kinds]."""

    levels: NDArray[np.float32]
    truth: NDArray[np.float32]


def spectrogram(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the spectrogram of whole steps, (frames, bands)."""
    mel = LogMel()
    return np.concatenate([
        mel.step(samples[start:start + STEP_SAMPLES])
        for start in range(0, len(samples) - STEP_SAMPLES + 1, STEP_SAMPLES)])


def make_clips(work: Path, count: int, progress: Callable[[int], None] = lambda done: None
               ) -> Clips:
    """Return soundtracks to learn from; what is there already is read."""
    folder = work / 'soundtracks'
    folder.mkdir(parents=True, exist_ok=True)
    levels, truth = [], []
    for start in range(0, count, _SHARD):
        path = folder / f'train-{start:06d}.npz'
        wanted = min(_SHARD, count - start)
        if not _holds(path, wanted):
            made = [soundtrack((SEEDS['train'], start + number), CLIP_SEC, TRAINING)
                    for number in range(wanted)]
            partial = path.with_suffix('.part.npz')
            np.savez(partial, levels=np.stack([
                spectrogram(track.samples) for track in made]).astype(np.float16),
                truth=np.stack([track.truth for track in made]))
            partial.replace(path)
        with np.load(path) as held:
            levels.append(held['levels'].astype(np.float32))
            truth.append(held['truth'])
        progress(min(count, start + _SHARD))
    return Clips(np.concatenate(levels)[:count], np.concatenate(truth)[:count])


def _holds(path: Path, wanted: int) -> bool:
    """Return whether a file is there with as many soundtracks: a run before may have had fewer."""
    if not path.exists():
        return False
    with np.load(path) as held:
        return len(held['truth']) >= wanted


def train_sound(out: Path, work: Path, recipe: SoundRecipe = SoundRecipe(),
                progress: Callable[[int], None] = lambda done: None) -> None:
    """
    Train the network and write it.

    Parameters
    ----------
    out
        Folder for ``hear.onnx`` and ``training.json``.
    work
        Folder for soundtracks and checkpoints; a run with the same folder goes on where the last
        one stopped.
    progress
        Called with the number of soundtracks that are ready.

    """
    torch.manual_seed(recipe.seed)
    clips = make_clips(work, recipe.clips, progress)
    net = SoundNet()
    # The logits of what is rare begin low.
    nn.init.constant_(net.heard.bias, -3.0)
    net.train()

    def losses(step: int) -> Losses:
        levels, truth = _batch(clips, recipe, step)
        logits = net(levels, *SoundNet.begin(len(levels)))[0]
        return {'heard': _loss(logits, truth)}

    fit([net], losses, Schedule(recipe.steps, recipe.learning_rate, weight_decay=0.01),
        work / 'sound.pt', 'sound', {'clips': recipe.clips, 'seed': recipe.seed})
    export_sound(net.eval(), out / 'hear.onnx')
    (out / 'training.json').write_text(json.dumps({
        **vars(recipe), 'clip_sec': CLIP_SEC, 'kinds': KINDS,
        'weights': sum(weight.numel() for weight in net.parameters())}) + '\n', encoding='utf-8')


def _batch(clips: Clips, recipe: SoundRecipe, step: int) -> tuple[Tensor, Tensor]:
    """Return levels and truth of a step, as other microphones would have heard them."""
    rng = np.random.default_rng((recipe.seed, step))
    chosen = rng.integers(0, len(clips.levels), recipe.batch)
    levels, truth = clips.levels[chosen].copy(), clips.truth[chosen].copy()
    # The colour of a microphone, and a few bands that it does not hear well.
    bands = np.linspace(-1.0, 1.0, levels.shape[2])
    levels += (rng.normal(0.0, 3.0, (recipe.batch, 1, 1)) * bands
               + rng.normal(0.0, 1.0, (recipe.batch, 1, levels.shape[2]))).astype(np.float32)
    for number in range(recipe.batch):
        # Begins anywhere, so that a sound may be there from the first step on.
        skipped = int(rng.integers(0, 20))
        levels[number] = np.roll(levels[number], -skipped * STEP_FRAMES, axis=0)
        truth[number] = np.roll(truth[number], -skipped, axis=0)
    return torch.from_numpy(levels), torch.from_numpy(truth)


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

    def forward(self, level: Tensor, before: Tensor, before_second: Tensor, memory: Tensor
                ) -> tuple[Tensor, ...]:
        logits, *state = self.net(level, before, before_second, memory)
        return torch.sigmoid(logits[:, 0]), *state


def export_sound(net: SoundNet, path: Path) -> None:
    """Write the network for one step as ONNX, all that it remembers handed in and out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    example = (torch.zeros(1, STEP_FRAMES, 48), *SoundNet.begin())
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
        'kinds': ','.join(KINDS), 'memory': str(net.memory.hidden_size),
        'weights_sha256': weights_sha256(net)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def count_weights(path: Path) -> int:
    """Return how many weights a graph has."""
    model = onnx.load(path)
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


__all__: Sequence[str] = ('Clips', 'SoundRecipe', 'count_weights', 'export_sound', 'make_clips',
                          'spectrogram', 'train_sound')
