# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build engines ahead of the drive, and say what their precision costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.bags import camera_topics, read_frames
from vts_ros.engines import EngineError, EngineOptions, Precision
from vts_ros.engines.cache import EngineCache, EngineKey
from vts_ros.engines.graphs import load_graph, spans, store_int8
from vts_ros.engines.trt import compile_graph, Library, load_library
from vts_ros.evaluation.scenes import evaluate, frames_of
from vts_ros.frames import Frame, FrameBuffer, FrameError
from vts_ros.models import model_path
from vts_ros.pipeline import Pipeline, PipelineConfig
from vts_ros.scenes.clips import balanced_scenes, render
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.graphs import FRAME, make_engines, window_graph
from vts_ros.sparsify.network import EMBEDDING_CHANNELS, MAP_SIZE

#: Pictures that INT8 is calibrated with.
CALIBRATION_FRAMES = 64
#: Windows on which keep lists are compared.
COMPARED_WINDOWS = 20


class Compiled(NamedTuple):
    """
    An engine in the cache.

    Attributes
    ----------
    key
        What it is.
    hit
        Whether it was there before.
    path
        Its file.

    """

    key: EngineKey
    hit: bool
    path: Path


class Change(NamedTuple):
    """
    How another precision chooses, compared with FP32 on the same windows.

    Attributes
    ----------
    windows
        Number of windows.
    same_tokens
        Mean share of the kept tokens that FP32 keeps as well.
    same_keys
        Windows with the same key frame.

    """

    windows: int
    same_tokens: float
    same_keys: int


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
            'previous_key': (1,), 'hysteresis': (1,), 'alpha': (1,)}


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
    wanted = [(model_path(FRAME), {'frame': (batch, *size, 3)}) for size in sizes]
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


def windows_of_bags(bags: Sequence[Path], frames: int, interval_sec: float = 0.4
                    ) -> Iterator[list[Frame]]:
    """Yield the windows of recorded drives, each one frame further than the one before."""
    for bag in bags:
        buffer = FrameBuffer(frames, interval_sec)
        for frame in read_frames(bag):
            if buffer.push(frame) == 'admitted' and (window := buffer.window()):
                yield window


def rendered_windows() -> Iterator[list[Frame]]:
    """Yield windows of rendered drives that no training has seen."""
    for scene in balanced_scenes('val', COMPARED_WINDOWS):
        yield frames_of(render(scene, 848, 480), f'scene {scene.seed}')


def compare(precision: Precision, cache: EngineCache, windows: Iterable[list[Frame]],
            grid: tuple[int, int], search_radius: int = 1, keep_ratio: float = 0.6) -> Change:
    """
    Compare the keep lists of a precision with those of FP32, both in ONNX Runtime on the CPU.

    Parameters
    ----------
    windows
        At most ``COMPARED_WINDOWS`` of them are looked at.

    Raises
    ------
    EngineError
        If INT8 has not been calibrated, or there is no window.

    """
    whole, other = (
        Sparsifier(engines.frame, engines.window, search_radius=search_radius)
        for engines in (make_engines('onnxruntime', EngineOptions(precision=one,
                                                                  cache=cache.directory))
                        for one in ('fp32', precision)))
    same_tokens, same_keys = [], 0
    for window in itertools.islice(windows, COMPARED_WINDOWS):
        pictures = [frame.rgb() for frame in window]
        expected, found = (
            one.select([one.propose(picture) for picture in pictures], grid, keep_ratio)
            for one in (whole, other))
        same_tokens.append(np.isin(found.keep, expected.keep).mean())
        same_keys += found.key == expected.key
    if not same_tokens:
        raise EngineError('there is no full window to compare keep lists on')
    return Change(len(same_tokens), float(np.mean(same_tokens)), same_keys)


def quality(precision: Precision, model: str, count: int, cache: EngineCache
            ) -> dict[str, dict[str, Any]]:
    """Return the metrics of the answers at 60 % of the tokens, of FP32 and of the precision."""
    pipeline = Pipeline.load(PipelineConfig(model=model, engine_backend='onnxruntime'))
    engines = make_engines('onnxruntime', EngineOptions(
        precision=precision, cache=cache.directory))
    other = Pipeline(Sparsifier(engines.frame, engines.window), pipeline.vlm, pipeline.prompts,
                     pipeline.config)
    return {name: evaluate(one, 'val', count, (0.6,))['vts']['0.6']
            for name, one in (('fp32', pipeline), (precision, other))}
