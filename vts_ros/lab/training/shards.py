# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pre-rendered windows on disk, so that no training step waits for a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
import json
import math
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.composite import Backdrop, scenes_over
from vts_ros.lab.scenes.model_picture import ModelPicture, PictureSizeError, SHIPPED
from vts_ros.lab.scenes.rendered_windows import FRAMES, render_window
from vts_ros.lab.scenes.scene_truth import Actor, Clip, FrameTruth, WindowTruth
from vts_ros.lab.training.cell_targets import cell_targets, CellTargets, stack, stored
from vts_ros.pipeline import signature

SHARD_WINDOWS = 250
#: In the names of shards that are drawn over recordings, and that are recordings.
_OVER, REAL = '-over', '-real'


@dataclass(frozen=True)
class Sample:
    """
    One window to learn from.

    Attributes
    ----------
    frames
        uint8 (frames, height, width, 3), RGB, without the signature of the renderer.
    truths
        Truth of each frame.
    window
        Truth of the window.
    cells
        Dense targets on the cells of the frames, fields (frames, rows, columns, ...), in
        the types in which they are kept.

    """

    frames: NDArray[np.uint8]
    truths: tuple[FrameTruth, ...]
    window: WindowTruth
    cells: CellTargets


#: Says from the number of a turn and of a stage which windows are taken: of processes that learn
#: together each has a turn in every step. This module does without PyTorch, which those that
#: render would have to load.
Order = Callable[[int, int], list[int]]


class Windows(Protocol):
    """Windows to learn from, by index."""

    def __getitem__(self, index: int) -> Sample:
        """Return a window with its pictures."""

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return the pictures of a window alone."""

    def order(self, batch: int, seed: int) -> Order:
        """Return which windows are taken, so many in each turn."""


class Shards:
    """
    Windows of all shards of a folder, by index; the pictures stay on disk until asked for.

    Parameters
    ----------
    folder
        Where :func:`render_shards` wrote them.

    Raises
    ------
    FileNotFoundError
        If there is no shard.

    """

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob('*.npy'))
        if not self._paths:
            raise FileNotFoundError(f'no rendered windows in {folder}')
        self._frames = [np.load(path, mmap_mode='r') for path in self._paths]
        # Parsed when asked for: as objects, they would take more memory than there is.
        self._truths = [path.with_suffix('.jsonl').read_bytes().splitlines()
                        for path in self._paths]
        self._cells = [_read_cells(path.with_suffix('.npz')) for path in self._paths]
        self._index = [(shard, row) for shard, truths in enumerate(self._truths)
                       for row in range(len(truths))]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._index)

    @property
    def over(self) -> int:
        """Return how many of the windows are recordings, or drawn over recordings."""
        return sum(len(truths) for path, truths in zip(self._paths, self._truths)
                   if _is_over(path))

    def __getitem__(self, index: int) -> Sample:
        """Return a window with its pictures."""
        shard, row = self._index[index]
        truths, window = _read_truths(self._truths[shard][row])
        cells: list[Any] = [field[row] for field in self._cells[shard]]
        return Sample(self.frames(index), truths, window, CellTargets(*cells))

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return the pictures of a window alone, without parsing its truth."""
        shard, row = self._index[index]
        frames = np.asarray(self._frames[shard][row])
        if _is_over(self._paths[shard]):
            return frames
        # As the models are shown them: the guard takes the signature out.
        return np.stack([signature.remove(frame) for frame in frames])


    def order(self, batch: int, seed: int) -> Order:
        """Return one that takes all of them once, then all again in another order."""
        @lru_cache(2)
        def shuffled(stream: int, epoch: int) -> NDArray[np.int64]:
            return np.random.default_rng([seed, 3, stream, epoch]).permutation(len(self))

        def windows(turn: int, stream: int) -> list[int]:
            return [int(shuffled(stream, place // len(self))[place % len(self)])
                    for place in range(turn * batch, (turn + 1) * batch)]

        return windows


def render_shards(folder: Path, split: str, windows: int, workers: int = 2,
                  progress: Callable[[int], None] = lambda windows: None,
                  over: Sequence[Path] = (), first_sec: float = math.inf,
                  picture: ModelPicture = SHIPPED) -> None:
    """
    Render windows of a split with balanced risk levels; what is there already stays.

    Parameters
    ----------
    folder
        Where the shards go; made if it is not there.
    split
        ``train``, ``val`` or ``test``.
    windows
        How many, rounded up to whole shards.
    workers
        Processes.
    progress
        Called with the number of windows that were done since the last call.
    over
        Recordings over which to draw the hazards, see ``vts_ros.lab.scenes.composite``.
    first_sec
        How much of each recording to take.
    picture
        Of the model.

    Raises
    ------
    PictureSizeError
        If windows of another size are there.

    """
    check_size(folder, picture)
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-windows // SHARD_WINDOWS)
    name = f'{split}{_OVER}' if over else split
    jobs = [Job(folder / f'{name}-{number:04d}.npy', split, number * SHARD_WINDOWS,
                SHARD_WINDOWS, picture, tuple(over), first_sec)
            for number in range(count)]
    missing = [job for job in jobs if not job.path.exists()]
    progress(SHARD_WINDOWS * (count - len(missing)))
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        for _ in pool.map(render_shard, missing):
            progress(SHARD_WINDOWS)


def check_size(folder: Path, picture: ModelPicture) -> None:
    """Raise PictureSizeError if the windows of a folder are of another size."""
    for path in sorted(folder.glob('*.npy'))[:1]:
        height, width = np.load(path, mmap_mode='r').shape[2:4]
        if (width, height) != picture[:2]:
            raise PictureSizeError(f'the windows in {folder} are of {width}x{height} px: take '
                                   f'another folder, or --picture-size {width}x{height}')


def make_sample(frames: NDArray[np.uint8], truths: Sequence[FrameTruth], window: WindowTruth
                ) -> Sample:
    """Return a window to learn from: pictures, truth of each, and truth of the window."""
    cells = stack([cell_targets(truth, *SHIPPED.cells, before)
                   for truth, before in zip(truths, (None, *truths))])
    return Sample(frames, tuple(truths), window, stored(cells))


def _sample(clip: Clip) -> Sample:
    return make_sample(clip.frames, clip.truths, clip.window_truth())


def _is_over(path: Path) -> bool:
    return _OVER in path.name or REAL in path.name


class Job(NamedTuple):
    """
    A shard to be rendered.

    Attributes
    ----------
    first, windows
        Number of the first window of the split, and how many.
    over, first_sec
        See :func:`render_shards`.

    """

    path: Path
    split: str
    first: int
    windows: int
    picture: ModelPicture
    over: tuple[Path, ...] = ()
    first_sec: float = math.inf


def render_shard(job: Job) -> None:
    """Render a shard and write it."""
    cv2.setNumThreads(1)
    path = job.path
    if job.over:
        backdrops = [Backdrop.load(bag, first_sec=job.first_sec) for bag in job.over]
        samples = [_sample(render_window(scene, behind, job.picture))
                   for scene, behind in scenes_over(backdrops, job.split, job.windows, job.first)]
        if not samples:
            raise ValueError('what is taken of the recordings is too short for any scene')
    else:
        samples = [_sample(render_window(scene, picture=job.picture))
                   for scene in balanced_scenes(job.split, job.windows, job.first, FRAMES)]
    write_shard(path, samples)


def write_shard(path: Path, samples: Sequence[Sample]) -> None:
    """
    Write windows; with ``REAL`` in the name of the file they are of recordings.

    Parameters
    ----------
    path
        Ends with ``.npy``; what else there is of the windows lies beside it.

    """
    path.with_suffix('.jsonl').write_text(''.join(
        json.dumps([[asdict(truth) for truth in sample.truths], asdict(sample.window)]) + '\n'
        for sample in samples))
    np.savez(path.with_suffix('.npz'), **stack([sample.cells for sample in samples])._asdict())
    # Last and in one step: a shard is there, or it is not.
    partial = path.with_suffix('.part')
    with partial.open('wb') as file:
        np.save(file, np.stack([sample.frames for sample in samples]))
    partial.rename(path)


def _read_truths(line: bytes) -> tuple[tuple[FrameTruth, ...], WindowTruth]:
    frames, window = json.loads(line)
    return tuple(_frame_truth(frame) for frame in frames), _window_truth(window)


def _read_cells(path: Path) -> CellTargets:
    with np.load(path) as arrays:
        return CellTargets(**arrays)


def _actors(data: Sequence[dict[str, Any]]) -> tuple[Actor, ...]:
    return tuple(Actor(**{**actor, 'box': tuple(actor['box'])}) for actor in data)


def _frame_truth(data: dict[str, Any]) -> FrameTruth:
    return FrameTruth(**{**data, 'actors': _actors(data['actors'])})


def _window_truth(data: dict[str, Any]) -> WindowTruth:
    box = tuple(data['box']) if data['box'] else None
    return WindowTruth(**{**data, 'box': box, 'actors': _actors(data['actors'])})

