# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast the engines of this machine are, alone and beside the language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import threading
import time
from typing import Any, TYPE_CHECKING

import numpy as np

from vts_ros.engines import BACKENDS, EngineError, EngineOptions
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.compiled_steps import make_engines

if TYPE_CHECKING:
    # Takes long to import, and most engines are timed without a language model.
    from vts_ros.pipeline.pipeline import Pipeline

#: Frames of the window that is timed.
FRAMES = 5
WARM_UP = 10


def sparsifiers(threads: int = 0, only: Sequence[str] = ()
                ) -> tuple[dict[str, Sparsifier], dict[str, str]]:
    """
    Return a sparsifier on every engine that works here, by the name of the engine, and the rest.

    Parameters
    ----------
    threads
        Threads on the CPU; 0 leaves them to the runtimes.
    only
        Backends to try; by default all.

    Returns
    -------
    The sparsifiers, and for each backend that does not work the reason.

    """
    found: dict[str, Sparsifier] = {}
    missing: dict[str, str] = {}
    for backend in only or BACKENDS:
        try:
            engines = make_engines(backend, EngineOptions(threads))
            sparsifier = Sparsifier(engines.frame, engines.window)
            sparsifier.propose(np.zeros((64, 64, 3), np.uint8))
        except EngineError as error:
            missing[backend] = str(error)
        else:
            found[sparsifier.engine] = sparsifier
    return found, missing


def bench_engines(engines: dict[str, Sparsifier], pipeline: Pipeline | None, runs: int = 200,
                  size: tuple[int, int] = (480, 848), grid: tuple[int, int] = (4, 7),
                  progress: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """
    Time the proposal network per frame and the window step per window of five frames.

    Parameters
    ----------
    engines
        What to time.
    pipeline
        Its language model writes while everything is timed a second time; None leaves that out.
    runs
        Repetitions; the median of them is reported.
    size, grid
        Height and width of the frames, token rows and columns per frame.
    progress
        Told what comes next.

    Returns
    -------
    ``{'proposal_ms': {engine: median}, 'window_ms': {engine: median}, 'while_generating': ...}``;
    the last one holds the same two and ``tokens_per_sec`` of the language model, ``alone`` and
    beside each engine that runs without a pause.

    """
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    result: dict[str, Any] = {'proposal_ms': {}, 'window_ms': {}}
    for name, engine in engines.items():
        progress(name)
        _time(engine, name, frame, grid, runs, result)
    if pipeline is None:
        return result
    beside: dict[str, Any] = {'proposal_ms': {}, 'window_ms': {}, 'tokens_per_sec': {}}
    progress('language model alone')
    with writing(pipeline, frame) as tokens:
        time.sleep(3.0)
    beside['tokens_per_sec']['alone'] = round(tokens(), 1)
    for name, engine in engines.items():
        progress(f'{name} while the language model writes')
        with writing(pipeline, frame) as tokens:
            _time(engine, name, frame, grid, runs, beside)
        beside['tokens_per_sec'][name] = round(tokens(), 1)
    return {**result, 'while_generating': beside}


def _time(engine: Sparsifier, name: str, frame: Any, grid: tuple[int, int], runs: int,
          result: dict[str, Any]) -> None:
    window = [engine.propose(frame)] * FRAMES
    result['proposal_ms'][name] = median_ms(lambda: engine.propose(frame), runs, engine)
    result['window_ms'][name] = median_ms(lambda: engine.select(window, grid, 0.6), runs, engine)


def median_ms(step: Callable[[], object], runs: int, engine: Sparsifier) -> float:
    """Return the median time of a step in milliseconds, the work of a GPU included."""
    times = []
    for run in range(WARM_UP + runs):
        start = time.perf_counter()
        step()
        engine.wait()
        if run >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - start))
    return round(float(np.median(times)), 3)


@contextmanager
def writing(pipeline: Pipeline, picture: Any) -> Iterator[Callable[[], float]]:
    """Let the language model write in another thread; yields what tells tokens per second."""
    window = [Frame('front', number, picture) for number in range(FRAMES)]
    prompt = pipeline.prompts.description
    prepared = pipeline.vlm.prepare([pipeline.vlm.encode(picture)] * FRAMES,
                                    prompt.captions(window), prompt)
    ended, written = threading.Event(), 0
    start, stop = time.perf_counter(), 0.0

    def asked_to_stop() -> bool:
        nonlocal written
        written += 1
        return ended.is_set()

    def write() -> None:
        while not ended.is_set():
            pipeline.vlm.generate(prepared, stop=asked_to_stop)

    thread = threading.Thread(target=write, name='language model')
    thread.start()
    try:
        yield lambda: written / (stop - start)
    finally:
        stop = time.perf_counter()
        ended.set()
        thread.join()
