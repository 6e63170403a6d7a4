# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a model that is always asked says of rendered drives, beside the truth.

A drive is described once, at every window. What gates would have had it say follows from that
without asking it again: what it says of a window does not depend on what it was asked before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.lab.scenes.clips import render
from vts_ros.lab.scenes.drive import draw_drive
from vts_ros.lab.scenes.scene_truth import Clip, WindowTruth
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import Proposal

#: Those of the node.
FRAMES, INTERVAL_SEC = 5, 0.4
#: Windows that are answered at once.
_BATCH = 12


@dataclass(frozen=True)
class DriveRecord:
    """
    One drive, window by window.

    Attributes
    ----------
    stamps_ns
        Of the newest frames, int64 [windows].
    truth, said
        Level and label of the risk object per window, ``''`` for no object.
    confidence
        Of the answers, float32 [windows]; NaN where there is none.
    objects
        Which object the true risk is about, int64 [windows]; -1 where there is none.
    saliency, embedding
        What the proposal network gives of the newest frames: [windows, h, w] and
        [windows, C, h, w].

    """

    seed: int
    stamps_ns: NDArray[np.int64]
    truth: tuple[tuple[str, str], ...]
    said: tuple[tuple[str, str], ...]
    confidence: NDArray[np.float32]
    objects: NDArray[np.int64]
    saliency: NDArray[np.float32]
    embedding: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write it to a file; the maps as half floats."""
        np.savez_compressed(
            path, seed=self.seed, stamps_ns=self.stamps_ns, truth=np.array(self.truth),
            said=np.array(self.said), confidence=self.confidence, objects=self.objects,
            saliency=self.saliency.astype(np.float16),
            embedding=self.embedding.astype(np.float16))

    @classmethod
    def load(cls, path: Path) -> DriveRecord:
        """Read one back."""
        with np.load(path) as data:
            truth, said = (tuple((str(level), str(label)) for level, label in data[name])
                           for name in ('truth', 'said'))
            return cls(int(data['seed']), data['stamps_ns'], truth, said, data['confidence'],
                       data['objects'], data['saliency'].astype(np.float32),
                       data['embedding'].astype(np.float32))


def drive_windows(seed: int, most: int | None = None) -> list[list[Frame]]:
    """Return the windows of a rendered drive, in the order of time; the first ones alone."""
    scene = draw_drive(seed, INTERVAL_SEC)
    if most is not None:
        scene = replace(scene, times=scene.times[:most + FRAMES - 1])
    return _windows(render(scene), seed)


def _windows(clip: Clip, seed: int) -> list[list[Frame]]:
    frames = [Frame(f'drive {seed}', truth.stamp_ns, picture)
              for picture, truth in zip(clip.frames, clip.truths)]
    return [frames[end - FRAMES:end] for end in range(FRAMES, len(frames) + 1)]


def record(pipeline: Pipeline, seed: int) -> DriveRecord:
    """Have a drive described at every window, by object and risk alone."""
    clip = render(draw_drive(seed, INTERVAL_SEC))
    windows = _windows(clip, seed)
    truths: list[WindowTruth] = [
        clip.window_truth(FRAMES - 1 + place, FRAMES) for place in range(len(windows))]
    reports: list[SceneReport] = []
    proposals: list[Proposal] = []
    pipeline.clear()
    for start in range(0, len(windows), _BATCH):
        some = windows[start:start + _BATCH]
        reports += describe_batch(pipeline, some, is_brief=True)
        proposals += [pipeline.cache.look(window[-1], Stopwatch()).proposal for window in some]
    return DriveRecord(
        seed, np.array([report.stamp for report in reports], np.int64),
        tuple((truth.risk, truth.label or '') for truth in truths),
        tuple((report.answer.risk, report.answer.label or '') for report in reports),
        np.array([np.nan if report.confidence is None else report.confidence
                  for report in reports], np.float32),
        np.array([next((actor.id for actor in truth.actors if actor.box == truth.box), -1)
                  for truth in truths], np.int64),
        np.stack([np.asarray(proposal.saliency, np.float32) for proposal in proposals]),
        np.stack([np.asarray(proposal.embedding, np.float32) for proposal in proposals]))


def records(pipeline: Pipeline, seeds: Sequence[int], folder: Path | None = None
            ) -> Iterator[DriveRecord]:
    """
    Yield what is said of drives.

    Parameters
    ----------
    folder
        What is recorded there is read, and what is not is recorded there: for another model or
        proposal network take another folder.

    """
    for seed in seeds:
        path = None if folder is None else folder / f'drive_{seed}.npz'
        if path is not None and path.is_file():
            yield DriveRecord.load(path)
            continue
        found = record(pipeline, seed)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            found.save(path)
        yield found
