# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Let a model write: greedily, in a form, with a draft, stopped and streamed where wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
)

from vts_ros.errors import VlmError
from vts_ros.vlm.decode_step import DecodeStep
from vts_ros.vlm.drafting import Drafting
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.fixed_step import FixedStep
from vts_ros.vlm.kv_cache import growing_cache, Held, is_croppable
from vts_ros.vlm.language_model import Generation, OnText
from vts_ros.vlm.loading import out_of_memory_told
from vts_ros.vlm.model_inputs import ModelInputs
from vts_ros.vlm.prompt_layout import Prefix, Prompted
from vts_ros.vlm.structured_output import Grammar, HeldToForm, Schema

#: Whatever a checkpoint's generation config says.
_GREEDY = {'do_sample': False, 'temperature': None, 'top_p': None, 'top_k': None}


class _Progress(StoppingCriteria):
    """Notes when the first token is there, and stops when asked to."""

    def __init__(self, stop: Callable[[], bool] | None) -> None:
        self._stop = stop
        self.first_token_sec: float | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        if self.first_token_sec is None:
            # Reading the token waits for the accelerator, so that the time is that of the work.
            input_ids[0, -1].item()
            self.first_token_sec = time.perf_counter()
        stopped = self._stop is not None and self._stop()
        return torch.full((len(input_ids),), stopped, device=input_ids.device)

    def latency_ms(self, start_sec: float, end_sec: float) -> dict[str, float]:
        """Return the time until the first token and that for the rest."""
        first_sec = self.first_token_sec or end_sec
        return {'prefill': (first_sec - start_sec) * 1e3, 'decode': (end_sec - first_sec) * 1e3}


class _Pieces(TextStreamer):
    """Hands an answer on while it is written, whole words at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: OnText) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text
        self._is_wanted = True

    def put(self, value: Tensor) -> None:
        """Take tokens; to decode what nobody wants would only take time."""
        if self._is_wanted:
            super().put(value)

    def end(self) -> None:
        """Hand on what was held back, if somebody wants it."""
        if self._is_wanted:
            super().end()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand a piece on."""
        if text and self._on_text(text) is False:
            self._is_wanted = False


class Generator:
    """
    Writes the answers of a model.

    Parameters
    ----------
    name
        Of the model, for messages.
    model, tokenizer
        Those of transformers.
    inputs
        Makes the arguments of the model.
    end_ids
        Tokens that end an answer.

    """

    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase,
                 inputs: ModelInputs, end_ids: list[int]) -> None:
        self._name, self._model, self._tokenizer = name, model, tokenizer
        self._inputs, self._end_ids = inputs, end_ids
        self._grammar: Grammar | None = None
        # A guess that was wrong must be taken out of the cache again.
        self._takes_back = is_croppable(growing_cache(model.config.get_text_config(decoder=True)))
        self._fixed_step = FixedStep.of(model)

    def fix_shapes(self, is_wanted: bool) -> FixedStep | None:
        """
        Have the tokens of answers read in fixed shapes, or not; the answers are the same.

        On a GPU, where passes are then CUDA graphs, it is so from the beginning. Elsewhere it is
        of no use but to compare.

        Returns
        -------
        What reads them; None if it is not wanted, or not possible.

        """
        self._fixed_step = None
        if is_wanted:
            self._fixed_step = FixedStep.of(self._model) or (
                FixedStep(self._model) if FixedStep.is_possible(self._model) else None)
        return self._fixed_step

    def set_schema(self, schema: Schema) -> None:
        """Change the JSON schema of the answers that must be in form."""
        self._grammar = Grammar(schema, self._tokenizer, self._end_ids,
                                self._model.config.get_text_config().vocab_size)

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompted], keeps: Sequence[NDArray[np.int32] | None],
        max_new_tokens: int, stop: Callable[[], bool] | None = None, *, in_form: bool = False,
        on_text: OnText | None = None, prefix: Prefix | None = None, drafts: Drafts | None = None,
        **options: Any,
    ) -> list[Generation]:
        """Answer several prompts at once, see ``Vlm.generate_batch``."""
        options = {**_GREEDY, **options}
        form = self._form(len(prompts)) if in_form else None
        if form is not None:
            options['logits_processor'] = LogitsProcessorList(
                [form, *(options.get('logits_processor') or ())])
        if on_text is not None:
            options['streamer'] = _Pieces(self._tokenizer, on_text)
        progress, start_sec = _Progress(stop), time.perf_counter()
        inputs = self._arguments(prompts, keeps, prefix)
        drafting = None
        step = self._fixed_step or DecodeStep.of(self._model)
        # Strings that end an answer need the tokenizer, which transformers hand to nobody.
        is_plain = not options['do_sample'] and options.get('num_beams', 1) == 1 \
            and 'stop_strings' not in options
        if (is_plain and self._takes_back and len(prompts) == 1
                and (drafts, form, step) != (None, None, None)):
            drafting = options['custom_generate'] = Drafting(
                Drafts() if drafts is None else drafts, self._end_ids, options.get('streamer'),
                None if form is None else form.certain, step)
        with out_of_memory_told(f'{self._name} cannot generate'), _given_back(prefix):
            output = self._model.generate(
                **inputs, max_new_tokens=max_new_tokens, pad_token_id=self._inputs.pad_id,
                eos_token_id=self._end_ids, stopping_criteria=StoppingCriteriaList([progress]),
                **options).cpu()
        latency_ms = progress.latency_ms(start_sec, time.perf_counter())
        width = inputs['input_ids'].shape[1]
        lengths = inputs['attention_mask'].sum(1).tolist()
        visual = [len(prompt.layout.visual_slots) if keep is None else len(keep)
                  for prompt, keep in zip(prompts, keeps)]
        found = [self._generation(written, length, count, latency_ms) for written, length, count
                 in zip(output[:, width:].tolist(), lengths, visual, strict=True)]
        return found if drafting is None else [replace(
            found[0], drafted=drafting.drafted, accepted=drafting.accepted)]

    def _arguments(self, prompts: Sequence[Prompted],
                   keeps: Sequence[NDArray[np.int32] | None], prefix: Prefix | None
                   ) -> dict[str, Any]:
        """Return the arguments of the model, without what a prefix has read already."""
        if prefix is None:
            return {**self._inputs.batch([prompt.prune(keep) for prompt, keep
                                          in zip(prompts, keeps, strict=True)]),
                    'past_key_values': growing_cache(
                        self._model.config.get_text_config(decoder=True))}
        (prompt,), (keep,) = prompts, keeps
        rest = prompt.after(prefix, keep)
        visual = self._inputs.visual(rest.tokens, rest.deepstack) if len(rest.tokens) else {}
        return {**self._inputs.padded([(rest.input_ids, rest.position_ids)]), **visual,
                'past_key_values': prefix.cache}

    def _form(self, answers: int) -> HeldToForm:
        if self._grammar is None:
            raise VlmError(f'{self._name} was loaded without a form for its answers')
        return self._grammar.processor(answers)

    def _generation(self, written: list[int], prompt_tokens: int, visual_tokens: int,
                    latency_ms: dict[str, float]) -> Generation:
        ends = [index for index, token in enumerate(written) if token in self._end_ids]
        token_ids = written[:ends[0] + 1] if ends else written
        return Generation(
            text=str(self._tokenizer.decode(token_ids, skip_special_tokens=True)),
            token_ids=tuple(token_ids), prompt_tokens=prompt_tokens,
            visual_tokens=visual_tokens, latency_ms=dict(latency_ms))


@contextmanager
def _given_back(prefix: Prefix | None) -> Iterator[None]:
    """Lend the cache of a prefix: what an answer adds to it is gone afterwards."""
    held = None if prefix is None else Held.of(prefix.cache, prefix.length)
    try:
        yield
    finally:
        if prefix is not None and held is not None:
            held.give_back(prefix.cache)


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer, that of the chat form first."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    ids = [] if named is None else list(named) if isinstance(named, list) else [named]
    first = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    # Without a generation config there is a default of the family, perhaps of a larger vocabulary.
    vocab_size = model.config.get_text_config().vocab_size
    found = dict.fromkeys(int(token) for token in first + ids if int(token) < vocab_size)
    if not found:
        raise VlmError('neither the tokenizer nor the generation config names an end token')
    return list(found)
