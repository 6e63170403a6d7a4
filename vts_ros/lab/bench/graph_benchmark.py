# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What CUDA graphs give: the same answers with and without, what a token takes, how near to memory.

On a processor there are no graphs. There it is the memory of fixed capacity that is compared with
memory that grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.lab.bench.benchmark_drive import drive_frames, windows_of
from vts_ros.lab.bench.generation_probe import synchronize
from vts_ros.lab.bench.measured_answers import measured_here, quartiles
from vts_ros.lab.bench.model_shapes import make, SHAPES
from vts_ros.lab.bench.workloads import EMBEDDED_SIZE, Progress, SHAPE_SIZE
from vts_ros.pipeline.pipeline import EMBEDDED, Pipeline, PipelineConfig
from vts_ros.vlm import Generation, Prepared, Vlm, VlmError
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.packed_weights import pack, packed_size
from vts_ros.vlm.prompt_layout import Prefix

#: Whether passes are in fixed shapes, by the name of the way.
WAYS = {'graphs off': False, 'graphs on': True}
#: Share of the memory bandwidth that decoding is to reach on a GPU.
GOAL = 0.7
#: Frames of a window, every so manieth of whose visual tokens is kept.
_FRAMES, _EVERY = 5, 2
#: Answers before those that count: graphs are recorded.
_WARM_UP = 2
_COPIES = 9
#: Random weights repeat a token otherwise, which proves little.
_LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}


def compare_graphs(model: str, answers: int = 12, tokens: int = 48, seed: int = 7,
                   device: str = 'auto', size: tuple[int, int] = (0, 0), threads: int = 0,
                   progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Write answers about the windows of a drive in both ways, which take turns.

    Parameters
    ----------
    model
        ``embedded`` or a key of SHAPES, whose weights are random.
    answers, tokens
        How many count, and how long they are at most.
    size
        Width and height of the pictures; (0, 0) takes the usual size of the model.
    device, threads
        As for the pipeline.

    Returns
    -------
    ``{'ways': {name: figures}, 'ratio': {'wall', 'cpu'}, 'same', 'drafted_same', ...}``. Figures
    are medians: ``ms_per_token`` and ``cpu_ms_per_token`` after the first, and
    ``bandwidth_share``, of what copying reaches on the device, for what a token has to read.
    Ratios are off to on of the same window, median and quartiles. ``same`` counts answers that
    are alike token by token, ``drafted_same`` those with a draft that is right.

    Raises
    ------
    VlmError
        If there is no such model, or it cannot be read in fixed shapes.

    """
    before = torch.get_num_threads()
    try:
        pipeline = Pipeline.load(PipelineConfig(device=device, threads=threads))
        plain, prompt = pipeline.vlm, pipeline.prompts.description
        if model in SHAPES:
            plain = make(model, plain.tokenizer, str(plain.model.device), seed)
            pack(plain.model)
        elif model != EMBEDDED:
            raise VlmError(f'no shape {model!r}, there are: {EMBEDDED}, {", ".join(SHAPES)}')
        size = size if any(size) else SHAPE_SIZE if model in SHAPES else EMBEDDED_SIZE
        ways = {name: plain.with_network(plain.model) for name in WAYS}
        steps = [vlm.fix_shapes(WAYS[name]) for name, vlm in ways.items()]
        if steps[-1] is None:
            raise VlmError(f'{model} cannot be read in fixed shapes')
        copied = _copied_per_sec(plain.model.device)
        pairs = []
        windows = windows_of(drive_frames(_FRAMES + answers + _WARM_UP - 1, size, seed), _FRAMES)
        for index, window in enumerate(windows):
            progress(index / len(windows), f'window {index + 1}')
            features = [plain.encode(frame.rgb()) for frame in window]
            prepared = plain.prepare(features, [''] * len(features), prompt)
            keep = np.arange(0, len(prepared.layout.visual_slots), _EVERY, dtype=np.int32)
            prefix = plain.prefix(prepared, keep)
            # Each is the first as often.
            names = list(WAYS) if index % 2 else list(reversed(WAYS))
            pairs.append({name: _answer(ways[name], prepared, keep, prefix, tokens)
                          for name in names})
        return {**measured_here(str(plain.model.device)), 'model': model, 'seed': seed,
                'size': list(size), 'n': answers, 'tokens': tokens,
                'dtype': plain.info['dtype'], 'is_recorded': steps[-1].is_recorded,
                'copied_gb_per_s': round(1e-9 * copied, 1),
                **_figures(pairs[_WARM_UP:], copied)}
    finally:
        torch.set_num_threads(before)


class _Answer:
    """
    An answer, one without a token twice, and that with a draft; and what the first took.

    Attributes
    ----------
    ms, cpu_ms
        Per token after the first.
    read_bytes
        What a token has to read: the weights, and keys and values at half of the answer.

    """

    def __init__(self, plain: Generation, lively: Generation, drafted: Generation,
                 cpu_sec: float, read_bytes: float) -> None:
        self.token_ids = plain.token_ids + lively.token_ids
        self.drafted_ids = drafted.token_ids
        passes = max(len(plain.token_ids) - 1, 1)
        self.ms, self.cpu_ms = plain.latency_ms['decode'] / passes, 1e3 * cpu_sec / passes
        self.read_bytes = read_bytes


def _answer(vlm: Vlm, prepared: Prepared, keep: NDArray[np.int32], prefix: Prefix, tokens: int
            ) -> _Answer:
    synchronize(vlm.model.device)
    first = _Clock()
    plain = vlm.generate(prepared, keep, tokens, first, prefix=prefix)
    cpu_sec = time.process_time() - first.sec
    lively = vlm.generate(prepared, keep, tokens, prefix=prefix, **_LIVELY)
    drafted = vlm.generate(prepared, keep, tokens, prefix=prefix,
                           drafts=Drafts([lively.token_ids]), **_LIVELY)
    length = plain.prompt_tokens + len(plain.token_ids) / 2
    return _Answer(plain, lively, drafted, cpu_sec,
                   _weight_bytes(vlm.model) + prefix.kv_bytes / prefix.length * length)


def _weight_bytes(network: Any) -> int:
    """Return the bytes of all weights that a token needs: of its embedding only a row."""
    decoder = network.get_decoder()
    table = decoder.get_input_embeddings().weight
    # A head that is tied to the table is read whole.
    weights = [network.lm_head.weight, *(
        weight for weight in decoder.parameters() if weight is not table)]
    return packed_size(decoder)[1] + sum(
        weight.numel() * weight.element_size() for weight in weights)


class _Clock:
    """Notes the computing time at the first token; never stops an answer."""

    sec = 0.0

    def __call__(self) -> bool:
        self.sec = self.sec or time.process_time()
        return False


def _figures(pairs: Sequence[dict[str, _Answer]], copied: float) -> dict[str, Any]:
    ways = {}
    for name in WAYS:
        ms = float(np.median([pair[name].ms for pair in pairs]))
        read = float(np.median([pair[name].read_bytes for pair in pairs]))
        ways[name] = {
            'ms_per_token': round(ms, 3),
            'cpu_ms_per_token': round(float(np.median([pair[name].cpu_ms for pair in pairs])), 3),
            'bandwidth_share': round(read / (1e-3 * ms) / copied, 3)}
    off, on = WAYS
    return {
        'ways': ways,
        'ratio': {what: quartiles([getattr(pair[off], name) / getattr(pair[on], name)
                                 for pair in pairs])
                  for what, name in (('wall', 'ms'), ('cpu', 'cpu_ms'))},
        'same': sum(pair[off].token_ids == pair[on].token_ids for pair in pairs),
        'drafted_same': sum(pair[off].drafted_ids == pair[on].drafted_ids for pair in pairs)}


def _copied_per_sec(device: torch.device) -> float:
    """Return how many bytes are read and written per second when memory is copied."""
    source = torch.ones(1 << (30 if device.type == 'cuda' else 27), dtype=torch.uint8,
                        device=device)
    target, seconds = torch.empty_like(source), []
    for _ in range(_COPIES):
        synchronize(device)
        start_sec = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        seconds.append(time.perf_counter() - start_sec)
    return 2 * source.nbytes / float(np.median(seconds))


def rows(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table in the docs."""
    first = results[0]
    yield (f'Windows of {_FRAMES} frames, half of their visual tokens, answers of up to '
           f'{first["tokens"]} tokens, n = {first["n"]}, seed {first["seed"]}, {first["date"]}, '
           f'{first["machine"]}. Both ways take turns at every window. Medians of a token after '
           'the first; off to on in brackets with half of the windows. The share is of what '
           f'copying memory reaches ({first["copied_gb_per_s"]:.0f} GB/s), goal with graphs on a '
           f'GPU: {GOAL:.0%}.')
    yield ''
    yield ('| | off, per token | share | on, per token | share | off to on | CPU time | same '
           'answers | with a draft |')
    yield '|---|---|---|---|---|---|---|---|---|'
    for result in results:
        off, on = (result['ways'][name] for name in WAYS)
        wall, cpu = (_ratio(result['ratio'][what]) for what in ('wall', 'cpu'))
        n, what = result['n'], '' if result['is_recorded'] else ', fixed shapes without graphs'
        yield (f'| {result["model"]}, {result["dtype"]}{what} | {off["ms_per_token"]:.2f} ms | '
               f'{off["bandwidth_share"]:.0%} | {on["ms_per_token"]:.2f} ms | '
               f'{on["bandwidth_share"]:.0%} | {wall} | {cpu} | {result["same"]} of {n} | '
               f'{result["drafted_same"]} of {n} |')


def _ratio(spread: dict[str, float]) -> str:
    return f'x {spread["median"]:.2f} ({spread["low"]:.2f} to {spread["high"]:.2f})'
