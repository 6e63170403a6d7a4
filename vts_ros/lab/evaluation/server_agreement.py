# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a model behind a server says what the same model says in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from itertools import chain, islice
from pathlib import Path
import re
import time
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np

from vts_ros.lab.bench.benchmark_drive import drive_frames, windows_of
from vts_ros.lab.bench.workloads import EMBEDDED_SIZE
from vts_ros.lab.evaluation.batches import prepare
from vts_ros.lab.evaluation.generated_page import machine
from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.recordings import every_window
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.frames import Window
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import Answer

#: Counters of vLLM: tokens of prompts, and how many of these were read before.
_ASKED, _FOUND = 'vllm:prefix_cache_queries_total', 'vllm:prefix_cache_hits_total'
_METRICS_SEC = 5.0
_FRAMES = 5


class Said(NamedTuple):
    """
    What a pipeline said about a window.

    Attributes
    ----------
    text, answer
        As written, and as read.
    kept, prompt_tokens
        Visual tokens that were kept [B], and tokens of the prompt.
    sec
        With everything.

    """

    text: str
    answer: Answer
    kept: tuple[int, ...]
    prompt_tokens: int
    sec: float


def rendered_windows(split: str, n: int) -> Iterator[Window]:
    """Yield windows of a split with balanced levels of risk, each of a scene of its own."""
    for scene in balanced_scenes(split, n):
        yield frames_of(render(scene), 'front')


def drive_windows(n: int, seed: int) -> list[Window]:
    """Return the windows of a rendered drive, each a frame further than the one before."""
    return list(windows_of(drive_frames(n + _FRAMES - 1, EMBEDDED_SIZE, seed), _FRAMES))


def recorded_windows(bags: Sequence[Path], n: int) -> Iterator[Window]:
    """Yield the first windows of recordings, equally many of each as far as they have them."""
    share = -(-n // len(bags))
    return islice(chain.from_iterable(islice(every_window(bag), share) for bag in bags), n)


def say(pipeline: Pipeline, window: Window) -> Said:
    """Have a pipeline describe a window; its guard has no word in it."""
    begin_sec, watch = time.perf_counter(), Stopwatch(pipeline.clock)
    prepared = prepare(pipeline, window, pipeline.description_prompt(window), watch)
    (generation,), _ = pipeline.generate([prepared], watch, is_report=True)
    return Said(generation.text, pipeline.writer.read(prepared, generation.text),
                tuple(prepared.selection.keep.tolist()), generation.prompt_tokens,
                time.perf_counter() - begin_sec)


def agreement(process: Pipeline, served: Pipeline, windows: Iterable[Window],
              progress: Callable[[int], None] = lambda windows: None) -> dict[str, Any]:
    """
    Describe the same windows in this process and behind a server, in turns.

    Parameters
    ----------
    process, served
        The same but for where the language model runs. In window mode nothing of earlier windows
        is used.
    progress
        Called with the number of windows that were answered since the last call.

    Returns
    -------
    ``{'n', 'words', 'answer', 'risk', 'object', 'kept', 'prompt_tokens': share of the windows in
    which these are alike, 'cached': share of the tokens of prompts that the server had read
    before, None where it does not tell, 'sec': {'process', 'served'}: medians, 'differing': [up
    to 5 pairs of texts], ...}``.

    """
    pairs: list[tuple[Said, Said]] = []
    before = _counters(served)
    for window in windows:
        for pipeline in (process, served):
            if not pipeline.reader.reads_on_arrival:
                pipeline.clear()
        # Each is the first as often.
        first, second = (process, served) if len(pairs) % 2 else (served, process)
        said = {id(pipeline): say(pipeline, window) for pipeline in (first, second)}
        pairs.append((said[id(process)], said[id(served)]))
        progress(1)
    asked, found = (after - then for after, then in zip(_counters(served), before))
    alike: dict[str, Callable[[Said], Any]] = {
        'words': lambda said: said.text, 'answer': lambda said: said.answer,
        'risk': lambda said: said.answer.risk, 'object': lambda said: said.answer.label,
        'kept': lambda said: said.kept, 'prompt_tokens': lambda said: said.prompt_tokens}
    config = served.config
    return {
        'n': len(pairs),
        **{name: sum(what(own) == what(other) for own, other in pairs)
           for name, what in alike.items()},
        'cached': round(found / asked, 3) if asked else None,
        'sec': {name: round(float(np.median([pair[place].sec for pair in pairs])), 3)
                for place, name in enumerate(('process', 'served'))},
        'differing': [[own.text, other.text] for own, other in pairs
                      if own.text != other.text][:5],
        'model': process.vlm.name, 'keep_ratio': config.keep_ratio, 'mode': config.mode,
        'server_pruning': config.server_pruning, 'frames_as': config.frames_as,
        'date': date.today().isoformat(),
        'machine': machine(str(process.vlm.model.device))}


def _counters(served: Pipeline) -> tuple[float, float]:
    """Return the tokens that were asked for and found in the cache of a server, by itself."""
    parts = urlsplit(served.config.url)
    try:
        with urlopen(f'{parts.scheme}://{parts.netloc}/metrics', timeout=_METRICS_SEC) as reply:
            text = reply.read().decode()
    except (OSError, URLError):
        return 0.0, 0.0
    asked, found = (sum(map(float, re.findall(rf'^{name}{{.*}} (\S+)$', text, re.MULTILINE)))
                    for name in (_ASKED, _FOUND))
    return asked, found


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in the docs."""
    cached, sec = result['cached'], result['sec']
    yield ('| | word for word | risk | object | tokens kept | length of the prompt '
           '| read before | process | server |')
    yield '|---' * 9 + '|'
    counts = ' | '.join(f'{result[name]} of {result["n"]}' for name in (
        'words', 'risk', 'object', 'kept', 'prompt_tokens'))
    yield (f'| {result["server_pruning"]}, {result["frames_as"]}, {result["mode"]}, '
           f'{result["keep_ratio"]:.0%} '
           f'| {counts} | {"-" if cached is None else f"{cached:.0%}"} '
           f'| {sec["process"]:.2f} s | {sec["served"]:.2f} s |')
