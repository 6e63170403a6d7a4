# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows that are rendered while a model learns, without end: it sees none of them twice."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
import shutil
import time

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes.model_picture import ModelPicture
from vts_ros.lab.training.shards import Job, Order, render_shard, Sample, Shards

#: Windows of a shard: short, so that the first is soon there.
_WINDOWS = 48
#: Number of the first window in the split ``train``, and how many a stage may take: behind those
#: of ``vts train windows`` and of the proposal network.
_FIRST, _STAGE = 20_000_000, 100_000_000
#: How long another process waits for a shard that the first one has rendered.
_WAIT_SEC, _POLL_SEC = 600.0, 0.02


class EndlessWindows:
    """
    Windows by number; the next ones are rendered ahead by other processes.

    What a step learns from follows from its number, so a run that was stopped goes on with what
    it would have seen. Windows that were seen are removed.

    Parameters
    ----------
    folder
        Where those lie that were rendered ahead; a disk in memory is best.
    picture
        Of the model.
    workers
        Processes that render; 0 for one that waits for what another has rendered: of several
        that learn together only the first has them.

    """

    def __init__(self, folder: Path, picture: ModelPicture, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._picture, self._workers = folder, picture, workers
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn')) \
            if workers else None
        self._ahead: dict[int, Future[None]] = {}
        self._shard = lru_cache(2)(self._open)

    def __getitem__(self, index: int) -> Sample:
        """Return a window with its pictures."""
        return self._shard(index // _WINDOWS)[index % _WINDOWS]

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return the pictures of a window alone."""
        return self._shard(index // _WINDOWS).frames(index % _WINDOWS)

    def order(self, batch: int, seed: int) -> Order:
        """Return one that takes one window after the other, shuffled within a shard."""
        # Seeds of other runs begin elsewhere.
        begin = _FIRST + seed % 1000 * (_STAGE // 1000)

        def windows(turn: int, stream: int) -> list[int]:
            first = begin + _STAGE * stream + turn * batch
            return [place // _WINDOWS * _WINDOWS + int(self._shuffled(place // _WINDOWS)[
                place % _WINDOWS]) for place in range(first, first + batch)]

        return windows

    def close(self) -> None:
        """End the processes that render, and remove what they have rendered."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            for number in self._ahead:
                shutil.rmtree(self._path(number).parent, ignore_errors=True)

    @staticmethod
    @lru_cache(4)
    def _shuffled(number: int) -> NDArray[np.int64]:
        # Side by side are windows of the same kind.
        return np.random.default_rng([number, 9]).permutation(_WINDOWS)

    def _open(self, number: int) -> Shards:
        path = self._path(number)
        if self._pool is None:
            give_up = time.monotonic() + _WAIT_SEC
            while not path.exists():
                if time.monotonic() > give_up:
                    raise TimeoutError(f'{path} was not rendered within {_WAIT_SEC:.0f} s')
                time.sleep(_POLL_SEC)
            return Shards(path.parent)
        # Each process has one in work and one that waits.
        for wanted in range(number, number + 1 + 2 * self._workers):
            if wanted not in self._ahead:
                self._path(wanted).parent.mkdir(exist_ok=True)
                self._ahead[wanted] = self._pool.submit(render_shard, Job(
                    self._path(wanted), 'train', wanted * _WINDOWS, _WINDOWS, self._picture))
        self._ahead[number].result()
        # Of the one before, another process may still need some.
        for seen in [before for before in self._ahead if before < number - 1]:
            if self._ahead.pop(seen).done():
                shutil.rmtree(self._path(seen).parent)
        return Shards(path.parent)

    def _path(self, number: int) -> Path:
        return self._folder / str(number) / 'train.npy'
