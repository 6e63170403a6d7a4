# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the proposal network on rendered pictures, on real roads, and on both together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.lab.evaluation.proposal_recall import NOTE, REPORT
from vts_ros.lab.recordings import fingerprint
from vts_ros.lab.scenes.cells import overlaps, saliency
from vts_ros.lab.training.labelled_pictures import (
    KINDS,
    Labelled,
    over_name,
    render_pictures,
    RenderedPictures,
    RoadPictures,
)
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.onnx_export import write_frame, write_window_step
from vts_ros.lab.training.other_cameras import another_moment, another_view, Thing
from vts_ros.sparsify.proposal_network import (
    EMBEDDING_CHANNELS,
    INPUT_SIZE,
    load_net,
    MAP_SIZE,
    ProposalNet,
    STRIDE,
)

#: Side of the small picture of a cell that its embedding has to be able to draw.
_THUMBNAIL = 4
#: Shares of the pictures of a step that show a real road, and rendered actors over one.
_REAL_SHARE, _OVER_SHARE = 0.35, 0.2
#: Share of the rendered pictures that stay as they are: the demonstration looks like this.
_PLAIN_SHARE = 0.3
#: Weight of the loss of the place alone, which makes it a saliency in its own right.
_PLACE_WEIGHT = 0.3


class EmbeddingHeads(nn.Module):
    """
    What an embedding has to know: the kind of thing in its cell, and how the cell looks.

    The heads read the normalised embedding, so that what they need ends up in its direction and
    cosine similarity means like things looking alike. They are dropped after training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Conv2d(EMBEDDING_CHANNELS, 1 + len(KINDS), 1)
        self.thumbnail = nn.Conv2d(EMBEDDING_CHANNELS, 3 * _THUMBNAIL ** 2, 1)
        self.scale = nn.Parameter(torch.tensor(8.0))

    def losses(self, embedding: Tensor, frames: Tensor, kinds: Tensor) -> Losses:
        """Return the losses; embedding [B, C, h, w], frames [B, H, W, 3], kinds [B, h, w]."""
        direction = self.scale * functional.normalize(embedding, dim=1)
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        small = functional.avg_pool2d(pixels, STRIDE // _THUMBNAIL)
        wanted = functional.pixel_unshuffle(small, _THUMBNAIL)
        return {'kind': 0.3 * functional.cross_entropy(self.kind(direction), kinds),
                'look': functional.smooth_l1_loss(self.thumbnail(direction), wanted)}


@dataclass(frozen=True)
class Recipe:
    """
    What the network learns from, and for how long.

    Attributes
    ----------
    rendered, over
        Pictures to render, all of them and over real roads.
    steps, batch
        Optimiser steps, and pictures in each.
    learning_rate
        At its peak.
    seed
        For the weights and the order of the data.
    features
        Steps in which random weights first learn to say of the pictures what a given backbone
        says, instead of beginning with its weights; 0 begins with them.

    """

    rendered: int = 7000
    over: int = 2500
    steps: int = 1500
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    features: int = 0


def train_proposal(out: Path, work: Path, recipe: Recipe = Recipe(),
                   roads: RoadPictures | None = None, backbone: Path | None = None,
                   start: Path | None = None) -> None:
    """
    Train the proposal network and write the ONNX graphs, and ``NOTE`` about how.

    Parameters
    ----------
    out
        Folder for ``frame.onnx``, ``window.onnx``, ``window_by_counting.onnx`` and ``NOTE``.
    work
        Folder for rendered pictures and checkpoints; a run with the same folder goes on where the
        last one stopped.
    roads
        Pictures of real roads with the boxes of a detector; without, all is rendered.
    backbone
        Weights to begin with, as a PyTorch state dict of a MobileNetV2 that has learned to tell
        photographs apart: as many of its first tensors as fit.
    start
        ``frame.onnx`` of a network to go on from.

    Raises
    ------
    ValueError
        If the weights to begin with are of another network, or the work folder is of a run that
        learned from something else.

    """
    torch.manual_seed(recipe.seed)
    cv2.setNumThreads(1)
    net = load_net(start) if start else ProposalNet()
    if backbone and not recipe.features:
        begin_with(net, backbone)
    net.train()
    heads = EmbeddingHeads()
    sources = _sources(work / 'pictures', recipe, roads)
    about = {**asdict(recipe), 'roads': roads.fingerprint() if roads else '',
             'backbone': fingerprint(backbone) if backbone else '',
             'start': fingerprint(start) if start else ''}
    if backbone and recipe.features:
        learn_features(net, backbone, recipe, sources, work / 'features.pt', about)

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, step])
        return _losses(net, heads, [_draw(sources, rng) for _ in range(recipe.batch)], rng)

    fit([net, heads], losses, _schedule(recipe.steps, recipe), work / 'proposal.pt',
        'proposal network', about)
    write_frame(net.eval(), out / 'frame.onnx')
    write_window_step(out)
    note = {**asdict(recipe), 'roads': len(roads) if roads else 0,
            'backbone': backbone.name if backbone else ''}
    # What an earlier network there had learned from says nothing of this one.
    (out / REPORT).unlink(missing_ok=True)
    (out / NOTE).write_text(json.dumps(note) + '\n', encoding='utf-8')


def begin_with(net: ProposalNet, path: Path) -> None:
    """
    Take the weights of the backbone from a file.

    Raises
    ------
    ValueError
        If they are of a network of another shape.

    """
    own = net.backbone.state_dict()
    given = list(torch.load(path, map_location='cpu', weights_only=True).values())[:len(own)]
    if [value.shape for value in given] != [value.shape for value in own.values()]:
        raise ValueError(f'{path} is not of a MobileNetV2 of width 1: its first {len(own)} '
                         'tensors have other shapes')
    net.backbone.load_state_dict(dict(zip(own, given)))


Source = RoadPictures | RenderedPictures


def learn_features(net: ProposalNet, path: Path, recipe: Recipe,
                   sources: Sequence[tuple[float, Source]], checkpoint: Path,
                   about: Mapping[str, str | int | float]) -> None:
    """
    Teach a backbone to say of the pictures what one with the weights of a file says.

    Parameters
    ----------
    path
        See :func:`begin_with`.
    sources
        Where the pictures come from, each with its share.
    checkpoint, about
        See :func:`fit`.

    """
    teacher = ProposalNet().eval()
    begin_with(teacher, path)

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 1, step])
        pictures = [_augmented(_draw(sources, rng), rng)[0] for _ in range(recipe.batch)]
        frames = torch.from_numpy(np.stack(pictures))
        with torch.no_grad():
            wanted = teacher.features(frames)
        # In shares of what each channel varies: what is rare for one is usual for another.
        spread = wanted.std(dim=(0, 2, 3), keepdim=True) + 1e-3
        return {'features': functional.mse_loss(net.features(frames) / spread, wanted / spread)}

    fit([net.backbone], losses, _schedule(recipe.features, recipe), checkpoint, 'features', about)


def _schedule(steps: int, recipe: Recipe) -> Schedule:
    return Schedule(steps, recipe.learning_rate, min(200, steps // 8))


def _sources(folder: Path, recipe: Recipe, roads: RoadPictures | None
             ) -> list[tuple[float, Source]]:
    """Return where pictures come from, each with its share; render what is missing."""
    over = recipe.over if roads else 0
    with Progress() as bar:
        task = bar.add_task('pictures', total=recipe.rendered + over)
        render_pictures(folder, recipe.rendered, None, lambda count: bar.advance(task, count))
        if roads and over:
            render_pictures(folder, over, roads, lambda count: bar.advance(task, count))
    sources: list[tuple[float, Source]] = []
    if roads:
        sources.append((_REAL_SHARE, roads))
        if over:
            sources.append((_OVER_SHARE, RenderedPictures(folder, over_name(roads))))
    rest = 1.0 - sum(share for share, _ in sources)
    return [*sources, (rest, RenderedPictures(folder, 'rendered'))]


def _draw(sources: Sequence[tuple[float, Source]], rng: np.random.Generator) -> Labelled:
    shares = np.array([share for share, _ in sources])
    return sources[rng.choice(len(sources), p=shares / shares.sum())][1].draw(rng)


def _augmented(labelled: Labelled, rng: np.random.Generator
               ) -> tuple[NDArray[np.uint8], Sequence[Thing]]:
    """Return a picture at the size of the network, and what is in it."""
    if labelled.is_rendered and rng.random() < _PLAIN_SHARE:
        size = INPUT_SIZE[1], INPUT_SIZE[0]
        picture = cv2.resize(labelled.picture, size, interpolation=cv2.INTER_AREA)
        return np.asarray(picture, np.uint8), labelled.things
    picture, things = another_view(labelled.picture, labelled.things, INPUT_SIZE, rng)
    return another_moment(picture, rng), things


def _kinds(things: Sequence[Thing]) -> NDArray[np.int64]:
    """Return what each cell shows, int64 [h, w]: 0 for nothing, otherwise 1 + its kind."""
    kinds = np.zeros(MAP_SIZE, np.int64)
    for thing in sorted(things, key=lambda thing: thing.importance):
        shared, area = overlaps(thing.box, *MAP_SIZE)
        kinds[(shared >= 0.2) | (shared >= 0.25 * area)] = 1 + thing.kind
    return kinds


def _losses(net: ProposalNet, heads: EmbeddingHeads, samples: Sequence[Labelled],
            rng: np.random.Generator) -> Losses:
    pictures, things = zip(*(_augmented(sample, rng) for sample in samples))
    frames = torch.from_numpy(np.stack(pictures))
    wanted = torch.from_numpy(np.stack([saliency(
        ((thing.importance, thing.box) for thing in found), *MAP_SIZE) for found in things]))
    kinds = torch.from_numpy(np.stack([_kinds(found) for found in things]))
    raw = net.raw(frames)
    # Cells that matter are few; without the weight the network would say 0 everywhere.
    weight = 1.0 + 4.0 * wanted
    return {
        'saliency': functional.binary_cross_entropy_with_logits(
            raw.saliency_logits, wanted, weight=weight),
        'place': _PLACE_WEIGHT * functional.binary_cross_entropy_with_logits(
            raw.place, wanted, weight=weight),
        **heads.losses(raw.embedding, frames, kinds)}
