# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Speculative decoding with earlier answers as the draft.

The model checks many guessed tokens in little more than the time of one (after Leviathan et al.,
2023, arXiv 2211.17192, here for greedy decoding). The answer is that without a draft; a bad draft
costs time only.

The assisted generation of transformers drafts with another model or from the prompt, and hands
logits to processors for tokens that are then dropped. Processors with a state, such as those that
hold answers to a form or note certainties, go wrong with that. Here a processor sees each token
of the answer once, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
import time
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from vts_ros.vlm.decode_step import DecodeStep
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.fixed_step import FixedStep
from vts_ros.vlm.kv_cache import crop


class Drafting:
    """
    Writes an answer with a draft; for ``custom_generate`` of transformers, one prompt at a time.

    Parameters
    ----------
    drafts
        What is guessed; learns from how it went. The answer is not added to it.
    ends
        Tokens that end an answer.
    streamer
        Given every token as it comes.
    certain
        Called with prompt and answer so far, int64 [1, S]; returns tokens that nearly surely come
        next, such as the form of an answer has them. The guess follows them.
    step
        Reads tokens in place of the model, where there are no pictures among them.

    Attributes
    ----------
    drafted, accepted
        Tokens that were guessed, and how many of these are in the answer; not those that were
        nearly sure.
    steps
        Forward passes of the model.
    cache
        Keys and values at the end.

    """

    def __init__(self, drafts: Drafts, ends: Collection[int],
                 streamer: BaseStreamer | None = None,
                 certain: Callable[[Tensor], list[int]] | None = None,
                 step: DecodeStep | FixedStep | None = None) -> None:
        self._drafts = drafts
        self._ends = ends
        self._certain, self._step = certain, step
        # transformers hand a streamer the prompt, but do not hand it on.
        self._streamer = streamer
        self.drafted = self.accepted = self.steps = 0
        self.cache: Any = None

    def __call__(self, model: Any, input_ids: Tensor, logits_processor: LogitsProcessorList,
                 stopping_criteria: StoppingCriteriaList, generation_config: GenerationConfig,
                 **inputs: Any) -> Tensor:
        """
        Write greedily.

        Parameters
        ----------
        model, input_ids, logits_processor, stopping_criteria, generation_config, inputs
            As ``generate`` of transformers hands them to a way of decoding. The cache may hold
            the beginning of the prompt already.

        Returns
        -------
        Prompt and answer, int64 [1, S].

        """
        cache, positions = inputs['past_key_values'], inputs['position_ids']
        self.cache, longest = cache, int(generation_config.max_length)
        # What the first pass alone is told.
        visual = {name: value for name in ('mm_encoder_outputs', 'mm_token_type_ids')
                  if (value := inputs.get(name)) is not None and len(value)}
        begin, ids, finished = input_ids.shape[1], input_ids, False
        while not finished:
            # One token more than is guessed is written.
            room = longest - ids.shape[1] - 1
            sure = [] if self._certain is None else self._certain(ids)[:max(room, 0)]
            found = self._drafts.guess([*ids[0, begin:].tolist(), *sure], room - len(sure))
            guess = [*sure, *found.tokens]
            begun = None if self._step is None or visual else self._step.begin(
                cache, positions, longest)
            if begun is not None:
                self.cache = cache = begun
            started = time.perf_counter()
            trial = torch.cat([ids, ids.new_tensor([guess])], dim=1)
            ahead = torch.arange(1, trial.shape[1] - begin + 1, device=ids.device)
            known = cache.get_seq_length()
            new, keep = trial[:, known:], len(guess) + 1
            places = torch.cat([positions, positions[..., -1:] + ahead], -1)[..., known:]
            if self._step is not None and begun is not None:
                logits = self._step(new, places, cache, keep)
            else:
                logits = model(
                    input_ids=new, position_ids=places, attention_mask=torch.ones_like(trial),
                    past_key_values=cache, use_cache=True, logits_to_keep=keep,
                    **visual).logits[:, -keep:].float()
            visual = {}
            tokens = _accepted(trial, logits, guess, logits_processor, self._ends)
            ids = torch.cat([ids, ids.new_tensor([tokens])], dim=1)
            # The last token was not read yet.
            crop(cache, ids.shape[1] - 1)
            matched = len(tokens) - 1 + (len(tokens) <= len(guess)
                                         and tokens[-1] == guess[len(tokens) - 1])
            guessed = matched - len(sure)
            if guessed >= 0:
                self._drafts.note(found, guessed)
            if self.steps:
                # The first pass reads the prompt, too.
                self._drafts.note_pass(len(guess) + 1, time.perf_counter() - started)
            self.steps += 1
            self.drafted += len(found.tokens)
            self.accepted += max(guessed, 0)
            if self._streamer is not None:
                self._streamer.put(ids[0, -len(tokens):].cpu())
            nothing: Any = None
            finished = bool(stopping_criteria(ids, nothing).all())
        if self._streamer is not None:
            self._streamer.end()
        return ids


def _accepted(trial: Any, logits: Any, guess: Sequence[int],
              processors: LogitsProcessorList, ends: Collection[int]) -> list[int]:
    """Return the tokens that greedy decoding writes, up to the first that was not guessed."""
    before = trial.shape[1] - len(guess)
    picked = [] if processors else logits[0].argmax(-1).tolist()
    tokens: list[int] = []
    for index in range(len(guess) + 1):
        if processors:
            scores = processors(trial[:, :before + index], logits[:, index])
            tokens.append(int(scores.argmax(-1)))
        else:
            tokens.append(picked[index])
        if tokens[-1] in ends or index == len(guess) or tokens[-1] != guess[index]:
            break
    return tokens
