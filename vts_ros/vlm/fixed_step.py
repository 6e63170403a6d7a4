# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Passes over a few tokens in fixed shapes, so that a GPU can replay them as CUDA graphs.

A pass over a token is hundreds of kernels on a GPU, most of them shorter than the time in which
Python starts the next one. A graph starts all of them at once. It repeats what it recorded at the
same addresses. So keys and values lie in memory of fixed capacity, what is beyond those that were
written is masked, and what differs from pass to pass is read from tensors on the device.

The answers of all windows are written in the same memory, after a copy of what was read of the
prompt: that is far less to move than the weights that every pass reads. Nothing that an answer
adds has to be taken out of the cache of a prefix again.

Nobody has run it on a GPU so far. Tests run the passes on a processor, and replay their operations
there. So each recording is compared with the same pass before it is used, and where anything goes
wrong the usual way goes on.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vts_ros.vlm.fixed_cache import FixedCache
from vts_ros.vlm.kv_cache import growing_cache, is_croppable

LOG = logging.getLogger(__name__)

#: Tokens of the passes that are recorded; others are filled up to the next, which costs a GPU
#: little: over so few tokens it reads weights for longer than it computes. The last is about that
#: of the longest draft.
LENGTHS = (1, 4, 16, 64)
#: Smallest capacity in tokens. The next is twice as large, so that recording anew is rare.
LEAST = 1024
#: Passes before one is recorded, in which libraries choose kernels and allocate what they keep.
_WARM_UP = 2
#: Share of the largest logit by which a replay may differ from the same pass, not recorded.
_ALIKE = 0.02

#: Runs a pass as it is recorded, and returns its replay and where that leaves the logits.
Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


def cuda_graph(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record a pass as a CUDA graph, see Recorder."""
    with torch.cuda.device(run().device):
        side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        side.wait_stream(torch.cuda.current_stream())
        # Left for the stream of before, even where a recording does not end as it should.
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                run()
            # Other threads, such as those of engines, may allocate meanwhile.
            with torch.cuda.graph(graph, stream=side, capture_error_mode='thread_local'):
                logits = run()
        torch.cuda.current_stream().wait_stream(side)
    return graph.replay, logits


def capacity_for(longest: int) -> int:
    """Return how many tokens the memory holds where prompt and answer have so many at most."""
    return max(LEAST, 1 << (longest + LENGTHS[-1] - 1).bit_length())


class _Recorded(NamedTuple):
    """A pass, with the tensors that it reads and writes."""

    input_ids: Tensor
    position_ids: Tensor
    replay: Callable[[], None]
    logits: Tensor


class FixedStep:
    """
    Reads tokens after those that a cache holds; without pictures, one prompt at a time.

    Parameters
    ----------
    model
        Of transformers, for which ``is_possible``.
    recorder
        Records passes; without, they are run as they are.

    """

    def __init__(self, model: Any, recorder: Recorder | None = None) -> None:
        self._decoder, self._head = model.get_decoder(), model.lm_head
        self._recorder = recorder
        self._cache: FixedCache | None = None
        self._recorded: dict[int, _Recorded] = {}
        self._has_failed = False

    @staticmethod
    def is_possible(model: Any) -> bool:
        """
        Return whether a model can read so.

        Not with layers that hold a state (Qwen3.5) or a window of attention (Gemma 3), which
        cannot be masked, nor with attention that takes no mask: these are left to transformers.
        """
        text = model.config.get_text_config(decoder=True)
        return is_croppable(growing_cache(text)) and text._attn_implementation == 'sdpa'

    @classmethod
    def of(cls, model: Any) -> FixedStep | None:
        """Return that of a model on a GPU, or None if it cannot read so, or is not on one."""
        if model.device.type == 'cuda' and cls.is_possible(model):
            return cls(model, cuda_graph)
        return None

    @property
    def is_recorded(self) -> bool:
        """Return whether passes are replayed."""
        return bool(self._recorded)

    def begin(self, cache: Any, position_ids: Tensor, longest: int) -> Any:
        """
        Take over what was read of a prompt; the cache stays as it is.

        Parameters
        ----------
        cache
            Of all that was read; or that which was returned before, to go on with it.
        position_ids
            Those of the prompt, to be like them, int64 [..., S].
        longest
            Most tokens of prompt and answer.

        Returns
        -------
        The cache to go on with; None if that does not work, which is logged once.

        """
        if cache is self._cache:
            return cache
        if self._has_failed or not cache.get_seq_length():
            return None
        try:
            if self._cache is None or self._cache.capacity < longest + LENGTHS[-1]:
                self._free()
                self._cache = FixedCache(cache, capacity_for(longest))
                self._record(position_ids)
        except Exception as error:  # whatever a driver, a library or the model says
            LOG.warning('CUDA graphs are not used, answers take longer: %s',
                        ' '.join(str(error).split())[:200] or type(error).__name__)
            self._has_failed = True
            self._free()
            return None
        assert self._cache is not None
        self._cache.take(cache)
        return self._cache

    def __call__(self, input_ids: Tensor, position_ids: Tensor, cache: Any, logits_to_keep: int
                 ) -> Tensor:
        """
        Read tokens.

        Parameters
        ----------
        input_ids
            Int64 [1, N].
        position_ids
            As the text model takes them, int64 [..., N].
        cache
            What ``begin`` returned last.
        logits_to_keep
            Of so many tokens at the end.

        Returns
        -------
        Logits [1, K, V], float32.

        """
        count, slots = input_ids.shape[1], cache.slots
        slots.start.fill_(slots.length)
        recorded = next((step for length, step in self._recorded.items() if length >= count), None)
        if recorded is None:
            logits = self._read(input_ids, position_ids, logits_to_keep)
        else:
            recorded.input_ids[:, :count] = input_ids
            recorded.position_ids[..., :count] = position_ids
            recorded.replay()
            logits = recorded.logits[:, count - logits_to_keep:count]
        slots.length += count
        # The next replay writes over them.
        return logits.to(torch.float32, copy=True)

    def _free(self) -> None:
        self._recorded.clear()
        self._cache = None

    def _record(self, position_ids: Tensor) -> None:
        """Record a pass of each length, over any tokens, which the prompt is written over."""
        if self._recorder is None:
            return
        for length in LENGTHS:
            ids = position_ids.new_zeros((1, length))
            places = position_ids.new_zeros((*position_ids.shape[:-1], length))

            def run(ids: Tensor = ids, places: Tensor = places) -> Tensor:
                return self._read(ids, places, ids.shape[1])

            expected = run()
            replay, logits = self._recorder(run)
            logits.zero_()
            replay()
            if not (logits - expected).abs().max() <= _ALIKE * expected.abs().max():
                raise RuntimeError('a pass that was recorded says something else than before')
            self._recorded[length] = _Recorded(ids, places, replay, logits)

    def _read(self, input_ids: Tensor, position_ids: Tensor, logits_to_keep: int) -> Tensor:
        """Run a pass: nothing here waits for the device or depends on more than shapes."""
        cache = self._cache
        assert cache is not None
        states = self._decoder(
            input_ids=input_ids, position_ids=position_ids,
            attention_mask=cache.mask(input_ids.shape[1]),
            past_key_values=cache, use_cache=True).last_hidden_state
        logits: Tensor = self._head(states[:, -logits_to_keep:])
        return logits
