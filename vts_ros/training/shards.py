# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pre-rendered windows on disk, so that no training step waits for a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
import json
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.scenes.clips import balanced_scenes, render
from vts_ros.scenes.composite import Backdrop, render_over, scenes_over
from vts_ros.scenes.types import Actor, FrameTruth, WindowTruth
from vts_ros.scenes.world import Scene
from vts_ros.training.targets import cell_targets, CellTargets, stack, stored

WIDTH, HEIGHT = 224, 128
#: Side, rows and columns of the cells that have targets.
CELL_PX = 16
CELLS = HEIGHT // CELL_PX, WIDTH // CELL_PX
FRAMES = 5
SHARD_WINDOWS = 250
#: Share of the windows that are drawn larger and scaled down, as a camera picture is.
_SCALED_SHARE = 0.35
_CAMERA_SIZE = (480, 270)
_JPEG_SHARE = 0.5


@dataclass(frozen=True)
class Sample:
    """
    One window to learn from.

    Attributes
    ----------
    frames
        uint8 (frames, height, width, 3), RGB.
    truths
        Truth of each frame.
    window
        Truth of the window.
    cells
        Dense targets on the 16 px cells of the frames, fields (frames, rows, columns, ...), in
        the types in which they are kept.

    """

    frames: NDArray[np.uint8]
    truths: tuple[FrameTruth, ...]
    window: WindowTruth
    cells: CellTargets


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

    def __getitem__(self, index: int) -> Sample:
        """Return a window with its pictures."""
        shard, row = self._index[index]
        truths, window = _read_truths(self._truths[shard][row])
        cells: list[Any] = [field[row] for field in self._cells[shard]]
        return Sample(np.asarray(self._frames[shard][row]), truths, window, CellTargets(*cells))

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return the pictures of a window alone, without parsing its truth."""
        shard, row = self._index[index]
        return np.asarray(self._frames[shard][row])


def render_shards(folder: Path, split: str, windows: int, workers: int = 2,
                  progress: Callable[[int], None] = lambda windows: None,
                  over: Sequence[Path] = ()) -> None:
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
        Recordings over which to draw the hazards, see ``vts_ros.scenes.composite``.

    """
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-windows // SHARD_WINDOWS)
    name = f'{split}-over' if over else split
    jobs = [_Job(folder / f'{name}-{number:04d}.npy', split, number * SHARD_WINDOWS, tuple(over))
            for number in range(count)]
    missing = [job for job in jobs if not job.path.exists()]
    progress(SHARD_WINDOWS * (count - len(missing)))
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        for _ in pool.map(_render_shard, missing):
            progress(SHARD_WINDOWS)


def render_window(scene: Scene, behind: Sequence[NDArray[np.uint8]] | None = None) -> Sample:
    """
    Render a scene at model size, some by way of a larger or a compressed picture.

    Parameters
    ----------
    behind
        Pictures to draw it over, one per frame.

    """
    rng = np.random.default_rng([scene.seed, 2])
    scaled = rng.random() < _SCALED_SHARE
    size = _CAMERA_SIZE if scaled else (WIDTH, HEIGHT)
    clip = render(scene, *size) if behind is None else render_over(scene, behind, *size)
    frames = clip.frames
    if rng.random() < _JPEG_SHARE:
        frames = np.stack([through_jpeg(frame, int(rng.integers(60, 96))) for frame in frames])
    if scaled:
        frames = np.stack([cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
                           for frame in frames])
    return Sample(frames, clip.truths, clip.window_truth(), _cells(clip.truths))


def _cells(truths: Sequence[FrameTruth]) -> CellTargets:
    return stored(stack([cell_targets(truth, *CELLS, before)
                         for truth, before in zip(truths, (None, *truths))]))


class _Job(NamedTuple):
    path: Path
    split: str
    first: int
    over: tuple[Path, ...] = ()


def _render_shard(job: _Job) -> None:
    cv2.setNumThreads(1)
    path = job.path
    if job.over:
        backdrops = [Backdrop.load(bag) for bag in job.over]
        samples = [render_window(scene, behind) for scene, behind in scenes_over(
            backdrops, job.split, SHARD_WINDOWS, job.first)]
    else:
        samples = [render_window(scene) for scene in balanced_scenes(
            job.split, SHARD_WINDOWS, job.first, FRAMES)]
    path.with_suffix('.jsonl').write_text(''.join(
        json.dumps([[asdict(truth) for truth in sample.truths], asdict(sample.window)]) + '\n'
        for sample in samples))
    np.savez(path.with_suffix('.npz'), **stack([sample.cells for sample in samples])._asdict())
    # Last and in one step: a shard is there, or it is not.
    partial = path.with_suffix('.part')
    with partial.open('wb') as file:
        np.save(file, np.stack([sample.frames for sample in samples]))
    partial.rename(path)


def through_jpeg(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a picture, in whatever order of colours, as it comes out of a JPEG."""
    _, data = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


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

