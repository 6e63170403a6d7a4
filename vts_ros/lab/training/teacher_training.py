# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Teach the proposal network what a detector finds in recordings.

A cell matters as far as the teacher is sure of a road user in it. What the teacher misses is
taught as unimportant, so the network is judged on recordings, or a part of one, that it has not
learned from, beside the shipped one.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.errors import FrameError, VtsError
from vts_ros.lab.evaluation.box_coverage import measure_all, saliencies
from vts_ros.lab.evaluation.proposal_recall import REPORT
from vts_ros.lab.evaluation.recordings_page import summarize
from vts_ros.lab.recordings import frames_of, name_of
from vts_ros.lab.scenes.cells import overlaps
from vts_ros.lab.teacher import Found, RoadUser, SURE, Teacher
from vts_ros.lab.training.distillation import BUDGETS, train_saliency
from vts_ros.paths import model_path
from vts_ros.sparsify.proposal_network import MAP_SIZE, resample
from vts_ros.tools.cli.terminal import progress_bar

#: Share of the recordings, or of the only one, that is held out, and what is left out before.
_HOLDOUT_SHARE, _GAP_NS = 0.2, 3_000_000_000
#: A road user claims a cell that it covers by this share, or that holds this share of it.
_CELL_SHARE, _USER_SHARE = 0.2, 0.25
#: Grid of tokens on which the network is judged.
_GRID = (9, 16)


class TeachingError(VtsError, ValueError):
    """Nothing can be learned like this; the message says why in one line."""


class Lessons(NamedTuple):
    """
    What to learn from.

    Attributes
    ----------
    frames
        uint8 [n, 128, 224, 3].
    wanted
        float32 [n, 8, 14], how much each cell matters, 0 to 1.

    """

    frames: NDArray[np.uint8]
    wanted: NDArray[np.float32]


def learn_from_teacher(recordings: Sequence[Path], teacher: Teacher, out: Path, work: Path,
                       frames: int = 2000, steps: int = 600, batch: int = 16, seed: int = 0,
                       anew: bool = False) -> dict[str, Any]:
    """
    Train the shipped proposal network further with a detector as the teacher, and show how far.

    Parameters
    ----------
    recordings
        Bags or folders of pictures. The last fifth of them, at least one, is held out; of a
        single one, its last fifth.
    out
        Folder for ``frame.onnx``, ``window.onnx`` and ``REPORT``.
    work
        Folder for the checkpoint; what the teacher finds is kept beside it.
    frames
        To learn from, at most, at even distances.
    steps, batch
        Optimiser steps and frames in each, half of them mirrored.
    anew
        Begin with a saliency of random weights.

    Returns
    -------
    ``{'train', 'settings', 'result'}``: frames that were learned from, how, and what
    ``summarize`` says of what the networks `shipped` and `trained` keep of what was held out.

    Raises
    ------
    BagError
        If a recording cannot be read.
    TeachingError, TrafficError
        If there are no road users to learn from, or none in what is held out.

    """
    found: dict[Path, Found] = {}
    with progress_bar(as_json=False) as (_, progress):
        for number, recording in enumerate(recordings):
            progress(number / len(recordings), f'{name_of(recording)}: road users')
            found[recording] = teacher.boxes_of(recording, work.parent / 'boxes')
    train, held_out = split(found)
    lessons = lessons_of(train, frames)
    if not (lessons.wanted > 0.0).any():
        raise TeachingError('the teacher finds no road users in what is to be learned from')
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    both = with_mirrored(lessons)
    train_saliency(torch.from_numpy(both.frames), torch.from_numpy(both.wanted), out,
                   work / f'teacher{"_anew" if anew else ""}.pt', steps, batch, seed, anew)
    ways = saliencies({'shipped': model_path('proposal/frame.onnx').parent, 'trained': out},
                      _GRID, has_teacher=True)
    with progress_bar(as_json=False) as (_, progress):
        measured, _ = measure_all(list(held_out), held_out.__getitem__, ways, _GRID, BUDGETS,
                                  progress)
    report: dict[str, Any] = {
        'train': len(lessons.frames), 'settings': {
            'teacher': teacher.name, 'bags': [name_of(recording) for recording in train],
            'steps': steps, 'batch': batch, 'seed': seed, 'anew': anew},
        'result': summarize([recording.values for recording in measured],
                            ['shipped', 'trained'])}
    (out / REPORT).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return report


def split(found: dict[Path, Found]) -> tuple[dict[Path, Found], dict[Path, Found]]:
    """Return road users to learn from, and those that are held out, both by recording."""
    recordings = list(found)
    if len(recordings) > 1:
        last = max(1, round(_HOLDOUT_SHARE * len(recordings)))
        return ({path: found[path] for path in recordings[:-last]},
                {path: found[path] for path in recordings[-last:]})
    (path, users), = found.items()
    stamps = sorted(stamp for _, stamp in users)
    if not stamps:
        raise TeachingError(f'no picture of {path} can be read')
    begin = stamps[-1] - _HOLDOUT_SHARE * (stamps[-1] - stamps[0])
    # Of short recordings, less is left out.
    gap = min(_GAP_NS, _HOLDOUT_SHARE * (stamps[-1] - stamps[0]))
    return ({path: {key: found for key, found in users.items() if key[1] < begin - gap}},
            {path: {key: found for key, found in users.items() if key[1] >= begin}})


def lessons_of(found: dict[Path, Found], most: int) -> Lessons:
    """Return frames at even distances, and how much the cells of each matter."""
    keys = [(path, key) for path, users in found.items() for key in users]
    if len(keys) > most:
        keys = [keys[round(index)] for index in np.linspace(0, len(keys) - 1, most)]
    chosen = set(keys)
    frames, wanted = [], []
    for path, users in found.items():
        for frame in frames_of(path):
            if (path, frame.key) in chosen:
                try:
                    rgb = frame.rgb()
                except FrameError:
                    continue
                small = resample(torch.from_numpy(rgb)[None])[0].round().to(torch.uint8)
                frames.append(small.numpy())
                wanted.append(saliency_of(users[frame.key]))
    if not frames:
        raise TeachingError('there are no pictures to learn from')
    return Lessons(np.stack(frames), np.stack(wanted))


def saliency_of(users: Sequence[RoadUser]) -> NDArray[np.float32]:
    """Return how much each cell matters, float32 [8, 14]: as sure as its road user is."""
    saliency = np.zeros(MAP_SIZE, np.float32)
    for user in users:
        shared, area = overlaps(user.box, *MAP_SIZE)
        claimed = (shared >= _CELL_SHARE) | (shared >= _USER_SHARE * area)
        # Sure is enough: how much surer says more of the size than of what it is.
        value = 1.0 if user.confidence >= SURE else user.confidence
        saliency[claimed] = np.maximum(saliency[claimed], value)
    return saliency


def with_mirrored(lessons: Lessons) -> Lessons:
    """Return lessons and their mirror images."""
    return Lessons(np.concatenate([lessons.frames, lessons.frames[:, :, ::-1]]),
                   np.concatenate([lessons.wanted, lessons.wanted[:, :, ::-1]]))
