# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the proposal network on rendered frames, some of them over the road of a recording."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.lab.evaluation.proposal_recall import NOTE, REPORT
from vts_ros.lab.scenes.cells import true_saliency
from vts_ros.lab.scenes.scene_truth import LABELS
from vts_ros.lab.training.cell_targets import cell_targets
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.onnx_export import export_frame, export_window
from vts_ros.lab.training.other_cameras import another_camera
from vts_ros.lab.training.shards import Sample, Shards
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE, ProposalNet, STRIDE

#: Side of the small picture of a cell that its embedding has to be able to draw.
_THUMBNAIL = 4


class EmbeddingHeads(nn.Module):
    """
    What an embedding has to know: the kind of thing in its cell, and how the cell looks.

    The heads read the normalised embedding, so that what they need ends up in its direction and
    cosine similarity means like things looking alike. They are dropped after training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Conv2d(EMBEDDING_CHANNELS, 1 + len(LABELS), 1)
        self.thumbnail = nn.Conv2d(EMBEDDING_CHANNELS, 3 * _THUMBNAIL ** 2, 1)
        self.scale = nn.Parameter(torch.tensor(8.0))

    def losses(self, embedding: Tensor, frames: Tensor, labels: Tensor) -> Losses:
        """Return the losses; embedding [B, C, h, w], frames [B, H, W, 3], labels [B, h, w]."""
        direction = self.scale * functional.normalize(embedding, dim=1)
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        small = functional.avg_pool2d(pixels, STRIDE // _THUMBNAIL)
        wanted = functional.pixel_unshuffle(small, _THUMBNAIL)
        return {'label': 0.5 * functional.cross_entropy(self.label(direction), labels),
                'look': functional.smooth_l1_loss(self.thumbnail(direction), wanted)}


def train_proposal(shards: Path, out: Path, work: Path, steps: int = 1800, batch: int = 24,
                   seed: int = 0) -> None:
    """
    Train the proposal network and write the ONNX graphs, and ``NOTE`` about how.

    Parameters
    ----------
    shards
        Rendered windows of the training split.
    out
        Folder for ``frame.onnx``, ``window.onnx``, ``window_by_counting.onnx`` and ``NOTE``.
    work
        Folder for checkpoints; a run with the same folder goes on where the last one stopped.
    steps, batch
        Optimiser steps and frames in each.
    seed
        For the weights and the order of the data.

    """
    torch.manual_seed(seed)
    data = Shards(shards)
    net, heads = ProposalNet().train(), EmbeddingHeads()

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        samples = [data[int(index)] for index in rng.integers(len(data), size=batch)]
        return _losses(net, heads, samples, rng)

    fit([net, heads], losses, Schedule(steps, learning_rate=3e-3), work / 'proposal.pt',
        'proposal network')
    export_frame(net.eval(), out / 'frame.onnx')
    export_window(out / 'window.onnx')
    export_window(out / 'window_by_counting.onnx', by_counting=True)
    note = {'windows': len(data), 'over': data.over, 'steps': steps, 'batch': batch, 'seed': seed}
    # What an earlier network there had learned from says nothing of this one.
    (out / REPORT).unlink(missing_ok=True)
    (out / NOTE).write_text(json.dumps(note) + '\n', encoding='utf-8')


def _losses(net: ProposalNet, heads: EmbeddingHeads, samples: Sequence[Sample],
            rng: np.random.Generator) -> Losses:
    picks = rng.integers([len(sample.truths) for sample in samples])
    pictures, truths = zip(*(another_camera(sample.frames[pick], sample.truths[pick], rng)
                             for sample, pick in zip(samples, picks)))
    frames = torch.from_numpy(np.stack(pictures))
    wanted = torch.from_numpy(np.stack([true_saliency(truth, *MAP_SIZE) for truth in truths]))
    labels = torch.from_numpy(np.stack(
        [cell_targets(truth, *MAP_SIZE).label for truth in truths]))
    raw = net.raw(frames)
    # Cells that matter are few; without the weight the network would say 0 everywhere.
    saliency = functional.binary_cross_entropy_with_logits(
        raw.saliency_logits, wanted, weight=1.0 + 4.0 * wanted)
    return {'saliency': saliency, **heads.losses(raw.embedding, frames, labels)}
