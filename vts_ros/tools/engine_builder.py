# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build engines before the drive, for any GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.engines import EngineError, Precision
from vts_ros.engines.engine_cache import EngineCache, EngineKey
from vts_ros.engines.onnx_graph import load_graph, spans, store_int8
from vts_ros.engines.tensorrt_engine import compile_graph, Library, load_library
from vts_ros.errors import FrameError
from vts_ros.paths import model_path
from vts_ros.sparsify.compiled_steps import FRAME, window_graph
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.camera_topics import camera_topics

#: Pictures that INT8 is calibrated with.
CALIBRATION_FRAMES = 64


class Compiled(NamedTuple):
    """
    An engine in the cache.

    Attributes
    ----------
    key
        Its key in the cache.
    hit
        Whether it was there before.
    path
        Its file.

    """

    key: EngineKey
    hit: bool
    path: Path


def compiler(backend: str, target: str) -> Library:
    """
    Return the library that builds for a target.

    Parameters
    ----------
    backend
        ``tensorrt``, ``tensorrt_rtx``, or ``auto``: TensorRT for the GPU of this machine if it is
        there, TensorRT-RTX otherwise.

    Raises
    ------
    EngineError
        If it is not installed.

    """
    if backend not in ('auto', 'tensorrt', 'tensorrt_rtx'):
        raise EngineError(f'{backend} needs no build: expected auto, tensorrt or tensorrt_rtx')
    if backend != 'auto':
        return load_library(backend)
    if target == 'current':
        try:
            return load_library('tensorrt')
        except EngineError:
            pass
    return load_library('tensorrt_rtx')


def window_shapes(frames: int, grid: tuple[int, int], search_radius: int
                  ) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all inputs of the window step."""
    return {'saliency': (frames, *MAP_SIZE),
            'embedding': (frames, EMBEDDING_CHANNELS, *MAP_SIZE),
            'row_weights': (grid[0], MAP_SIZE[0]), 'column_weights': (grid[1], MAP_SIZE[1]),
            'neighbours': (*grid, (2 * search_radius + 1) ** 2), 'budget': (1,),
            'reserves': (2,), 'previous_key': (1,), 'hysteresis': (1,), 'alpha': (1,)}


def compile_engines(library: Library, target: str, precision: Precision, cache: EngineCache, *,
                    sizes: Sequence[tuple[int, int]], batch: int, frames: int,
                    grids: Sequence[tuple[int, int]], search_radius: int) -> Iterator[Compiled]:
    """
    Build the engines of both graphs, one after the other, unless they are in the cache.

    Parameters
    ----------
    library, target, precision
        What builds, for which GPU, and in what the proposal network computes.
    sizes, batch
        Height and width of the pictures, and how many are looked at together.
    frames, grids, search_radius
        Largest window, token rows and columns per frame, and search radius of the window step.

    Raises
    ------
    EngineError
        If the library cannot build one.

    """
    wanted: list[tuple[Path, dict[str, tuple[int, ...]]]] = [
        (model_path(FRAME), {'frame': (batch, *size, 3)}) for size in sizes]
    wanted += [(window_graph(library.name), window_shapes(frames, grid, search_radius))
               for grid in grids]
    for path, shapes in wanted:
        graph = load_graph(path, precision, cache.directory)
        key, hit = compile_graph(library, graph, spans(graph.model, shapes), cache, target)
        yield Compiled(key, hit, cache.directory / f'{key.stem}.engine')


def calibrate(bags: Sequence[Path], cache: EngineCache, count: int = CALIBRATION_FRAMES) -> Path:
    """
    Make the INT8 graph of the proposal network from pictures of recorded drives.

    Returns
    -------
    The graph, in the cache, where all INT8 engines find it.

    Raises
    ------
    BagError, EngineError
        If a bag cannot be read or none holds a picture.

    """
    return store_int8(model_path(FRAME), _pictures(bags, count), cache.directory)


def _pictures(bags: Sequence[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield so many pictures, spread evenly over the bags."""
    for bag in bags:
        there = sum(camera.pictures for camera in camera_topics(bag))
        wanted = -(-count // len(bags))
        step = max(1, there // wanted)
        for frame in itertools.islice(read_frames(bag), 0, step * wanted, step):
            try:
                yield frame.rgb()
            except FrameError:
                continue
