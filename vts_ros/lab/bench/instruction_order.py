# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What it gives to read what is asked once, before the pictures, instead of after each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from vts_ros.lab.bench.benchmark_drive import drive_frames, windows_of
from vts_ros.lab.bench.measured_answers import measured_here, quartiles, Sample
from vts_ros.lab.bench.window_benchmark import Bench, WARM_UP
from vts_ros.lab.bench.workloads import Progress, Variant, Workload

#: Ways of the pipeline in which something is kept from window to window.
WAYS = {'cached_0.6': Variant(0.6), 'drafted_0.6': Variant(0.6, mode='causal', draft=True),
        'drafted_0.4': Variant(0.4, mode='causal', draft=True)}


def compare_orders(workload: Workload, ways: Sequence[str] = tuple(WAYS),
                   progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Answer every window of a drive with both orders of the prompt, in turns.

    Parameters
    ----------
    workload
        What is measured; the budget does not count.
    ways
        Of WAYS.

    Returns
    -------
    ``{'workload', 'instruction_tokens', 'ways': {way: {'answers', 'ttft_ms': {'median', 'low',
    'high'}, ...}}, ...}``: ratios of the same window, first to after; the edges are quartiles.

    """
    bench = Bench(workload)
    try:
        windows = windows_of(drive_frames(
            workload.frames + workload.windows + WARM_UP - 1, workload.picture_size,
            workload.seed, workload.cameras), workload.frames)
        scripts = bench.scripts(windows, progress)
        cases = {(way, order): bench.way(replace(WAYS[way], instructions=order))
                 for way in ways for order in ('after', 'first')}
        found: dict[tuple[str, str], list[Sample]] = {case: [] for case in cases}
        for index, (window, script) in enumerate(zip(windows, scripts)):
            progress(index / len(windows), f'window {index + 1} of {len(windows)}')
            # Each order is the first as often.
            for case in list(cases) if index % 2 else reversed(list(cases)):
                bench.tape.script = script
                found[case].append(cases[case].answer(window))
        tokens = len(bench.vlm.tokenizer(
            bench.prompts.description.instruction, add_special_tokens=False)['input_ids'])
        return {**measured_here(str(bench.vlm.model.device)), 'workload': asdict(workload),
                'instruction_tokens': tokens,
                'ways': {way: _ratios(*(found[way, order][WARM_UP:]
                                        for order in ('after', 'first'))) for way in ways}}
    finally:
        bench.close()


def _ratios(after: Sequence[Sample], first: Sequence[Sample]) -> dict[str, Any]:
    pairs = list(zip(after, first))
    return {
        'answers': quartiles([old.total_ms / new.total_ms for old, new in pairs]),
        'ttft': quartiles([new.ttft_ms / old.ttft_ms for old, new in pairs]),
        # Passes are as many, but for drafts whose length follows the time that they take.
        'passes': [float(np.mean([sample.passes for sample in samples]))
                   for samples in (after, first)],
        'ttft_ms': [round(float(np.median([sample.ttft_ms for sample in samples])), 1)
                    for samples in (after, first)]}


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the section in the docs."""
    work = result['workload']
    yield (f'{work["model"]}, windows of {work["frames"]} frames, instruction of '
           f'{result["instruction_tokens"]} tokens, n = {work["windows"]} windows, seed '
           f'{work["seed"]}, {result["date"]}, {result["machine"]}. Ratios of the same window, '
           'median and half of the windows.')
    yield ''
    yield '| first against after | answers per second | first token | passes, after and first |'
    yield '|---|---|---|---|'
    for way, found in result['ways'].items():
        answers, ttft = (f'{values["median"]:.2f} ({values["low"]:.2f} to {values["high"]:.2f})'
                         for values in (found['answers'], found['ttft']))
        passes = ', '.join(f'{count:.1f}' for count in found['passes'])
        yield f'| `{way}` | x {answers} | x {ttft} | {passes} |'
