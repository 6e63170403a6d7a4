# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is noted around a model while it works: passes, keys and values, peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
import time
from typing import Any

import torch
from torch import Tensor
from torch.profiler import profile, ProfilerActivity
from transformers import LogitsProcessor, LogitsProcessorList


class GenerationProbe:
    """
    Notes what each generation of a model costs beside time, and may hold answers to a script.

    Parameters
    ----------
    models
        Of transformers, of which one works at a time; their ``generate`` is replaced.

    Attributes
    ----------
    script
        Tokens that the next answer is to consist of; empty leaves the answers to the model.
    kv_bytes
        Keys and values in the cache at the end of the last answer.
    passes
        How often the language model was run for it.
    encode_ms
        Time in the vision encoder since the last reset.

    """

    def __init__(self, *models: Any) -> None:
        self.script: Sequence[int] = ()
        self.kv_bytes = 0
        self.passes = 0
        self.encode_ms = 0.0
        self._models, self._hooks = models, list[Any]()
        for model in models:
            model.generate = partial(self._answer, model.generate)
            self._hooks += [
                # Whatever reads tokens looks them up first.
                model.get_input_embeddings().register_forward_hook(self._count),
                model.model.visual.register_forward_pre_hook(self._begin_encoding),
                model.model.visual.register_forward_hook(self._end_encoding)]

    def close(self) -> None:
        """Leave the models as they were."""
        for model in self._models:
            del model.generate
        for hook in self._hooks:
            hook.remove()

    def reset(self) -> None:
        """Begin anew."""
        self.kv_bytes, self.passes, self.encode_ms = 0, 0, 0.0

    def _answer(self, generate: Callable[..., Any], **inputs: Any) -> Tensor:
        # What was run before, to read pictures, wrote nothing.
        self.passes = 0
        processors = LogitsProcessorList(inputs.pop('logits_processor', None) or [])
        if self.script:
            processors.insert(0, _ForcedTokens(self.script, inputs['input_ids'].shape[1]))
        output = generate(**inputs, logits_processor=processors, return_dict_in_generate=True)
        if isinstance(output, Tensor):
            # Ways of decoding that are not those of transformers return the tokens alone.
            written = inputs['custom_generate']
            # Replayed passes look nothing up.
            self.kv_bytes, self.passes = cache_bytes(written.cache), written.steps
            return output
        self.kv_bytes = cache_bytes(output.past_key_values)
        sequences: Tensor = output.sequences
        return sequences

    def _count(self, *_: Any) -> None:
        self.passes += 1

    def _begin_encoding(self, *_: Any) -> None:
        synchronize(self._models[0].device)
        self._began = time.perf_counter()

    def _end_encoding(self, *_: Any) -> None:
        synchronize(self._models[0].device)
        self.encode_ms += 1e3 * (time.perf_counter() - self._began)


class _ForcedTokens(LogitsProcessor):
    """Leaves the token of a script as the only choice; after its end the last one again."""

    def __init__(self, script: Sequence[int], prompt_tokens: int) -> None:
        self._script, self._prompt_tokens = script, prompt_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        place = min(input_ids.shape[1] - self._prompt_tokens, len(self._script) - 1)
        held = torch.full_like(scores, -torch.inf)
        held[:, self._script[place]] = 0.0
        return held


def cache_bytes(cache: Any) -> int:
    """Return what the keys and values of a cache of transformers take."""
    return sum(part.numel() * part.element_size() for layer in cache.layers
               for part in (layer.keys, layer.values) if part is not None)


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has done what it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


@contextmanager
def tensor_peak(device: torch.device) -> Iterator[Callable[[], int]]:
    """
    Measure the most bytes that tensors take at a time, above what they took at the beginning.

    On the CPU that is by the record of PyTorch's profiler of all that is allocated and freed: the
    same at every run, unlike the resident memory of a process. What libraries below PyTorch take
    for themselves is not in it.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    recorded: list[int] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        yield lambda: recorded[0]
    taken = peak = 0
    events = [event for event in record.profiler.kineto_results.events()
              if event.name() == '[memory]']
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        peak = max(peak, taken)
    recorded.append(peak)
