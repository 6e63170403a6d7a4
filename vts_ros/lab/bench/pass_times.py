# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a pass of a language model takes by its tokens: weights plain, packed and in eight bits."""

from __future__ import annotations

from collections.abc import Iterator
import copy
from itertools import pairwise
import time
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from vts_ros.errors import VlmError
from vts_ros.lab.bench.measured_answers import measured_here, quartiles
from vts_ros.lab.bench.model_shapes import make, SHAPES
from vts_ros.lab.bench.workloads import Progress, SHAPE_SIZE
from vts_ros.paths import model_path
from vts_ros.pipeline.pipeline import EMBEDDED
from vts_ros.vlm import Vlm
from vts_ros.vlm.int8_weights import to_int8
from vts_ros.vlm.kv_cache import crop
from vts_ros.vlm.packed_weights import pack

#: Of a token with its draft, which follow so many tokens; and of a prompt, which follows none.
TOKENS, BEFORE, PROMPT = (1, 2, 3, 4, 6, 8, 12, 16), 200, 300
PICTURE = 'picture'
_WARM_UP = 1


def pass_times(shape: str, rounds: int = 8, threads: int = 1, seed: int = 7,
               progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Time passes on a processor, with all kinds of weights in turns.

    Parameters
    ----------
    shape
        Key of SHAPES; the weights are random.
    rounds
        How often each is timed.
    threads
        Of PyTorch.
    seed
        Of weights and tokens.

    Returns
    -------
    ``{'passes': {what: {'ms': {kind: median}, 'ratio': {kind: {'median', 'low', 'high'}}}},
    ...}``: of the kinds ``plain``, ``packed`` and ``int8``; a ratio is that of a kind to the one
    before it, of the same round, and its edges are quartiles. What is the number of tokens, the
    length of a prompt, or the encoding of a picture.

    Raises
    ------
    VlmError
        If there is no such shape.

    """
    if shape not in SHAPES:
        raise VlmError(f'no shape {shape!r}, there are: {", ".join(SHAPES)}')
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plain = make(shape, Vlm.load(model_path(EMBEDDED), device='cpu').tokenizer, 'cpu', seed)
        packed, small = copy.deepcopy(plain.model), copy.deepcopy(plain.model)
        pack(packed)
        to_int8(small)
        pack(small)
        kinds = {'plain': plain, 'packed': plain.with_network(packed),
                 'int8': plain.with_network(small)}
        whats = [*map(str, TOKENS), f'prompt of {PROMPT}', PICTURE]
        found: dict[str, dict[str, list[float]]] = {
            what: {name: [] for name in kinds} for what in whats}
        passes = {name: _Passes(vlm, seed) for name, vlm in kinds.items()}
        for index in range(rounds + _WARM_UP):
            progress(index / (rounds + _WARM_UP), f'round {index + 1}')
            for what in whats:
                # Each is the first as often.
                for name in list(kinds) if index % 2 else reversed(list(kinds)):
                    found[what][name].append(passes[name].milliseconds(what))
        return {**measured_here('cpu'), 'shape': shape, 'rounds': rounds, 'seed': seed,
                'passes': {what: _figures(times) for what, times in found.items()}}
    finally:
        torch.set_num_threads(before)


class _Passes:
    """Passes of one model over random tokens."""

    def __init__(self, vlm: Vlm, seed: int) -> None:
        self._vlm, self._model = vlm, vlm.model
        random = np.random.default_rng(seed)
        self._ids = torch.from_numpy(random.integers(5, 200, (1, max(BEFORE, PROMPT))))
        width, height = SHAPE_SIZE
        self._picture = random.integers(0, 256, (height, width, 3), np.uint8)
        self._cache = DynamicCache(config=vlm.model.config.get_text_config())
        self._read(self._ids[:, :BEFORE], 0, self._cache)

    @torch.inference_mode()
    def milliseconds(self, what: str) -> float:
        """Return what a pass takes."""
        start_sec = time.perf_counter()
        if what == PICTURE:
            self._vlm.encode(self._picture)
        elif what.isdigit():
            self._read(self._ids[:, :int(what)], BEFORE, self._cache)
        else:
            self._read(self._ids[:, :PROMPT], 0, DynamicCache())
        took = 1e3 * (time.perf_counter() - start_sec)
        crop(self._cache, BEFORE)
        return took

    @torch.inference_mode()
    def _read(self, ids: torch.Tensor, before: int, cache: Any) -> None:
        count = ids.shape[1]
        self._model(
            input_ids=ids, position_ids=before + torch.arange(count).expand(3, 1, -1),
            attention_mask=torch.ones(1, before + count, dtype=torch.long),
            past_key_values=cache, use_cache=True, logits_to_keep=min(count, TOKENS[-1]))


def _figures(times: dict[str, list[float]]) -> dict[str, Any]:
    taken = {name: np.array(found[_WARM_UP:]) for name, found in times.items()}
    return {'ms': {name: round(float(np.median(found)), 1) for name, found in taken.items()},
            'ratio': {name: quartiles(taken[name] / taken[before])
                      for before, name in pairwise(taken)}}


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in the docs."""
    yield (f'{result["shape"]}, random weights, float32, a pass after {BEFORE} tokens, '
           f'n = {result["rounds"]} rounds, seed {result["seed"]}, {result["date"]}, '
           f'{result["machine"]}. Medians; in brackets half of the rounds.')
    yield ''
    yield '| tokens of the pass | plain | packed | packed to plain | int8 | int8 to packed |'
    yield '|---' * 6 + '|'
    for what, found in result['passes'].items():
        plain, packed, small = (f'{found["ms"][name]:.0f} ms' for name in found['ms'])
        first, second = ('{median:.2f} ({low:.2f} to {high:.2f})'.format(**ratio)
                         for ratio in found['ratio'].values())
        called = 'encoding of a picture' if what == PICTURE else what
        yield f'| {called} | {plain} | {packed} | {first} | {small} | {second} |'
