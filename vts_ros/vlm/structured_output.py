# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Answers that are in a form whatever the model is: only tokens that continue it may be written.

Done by llguidance: it is ready at once with a large vocabulary and needs no other library.
xgrammar takes seconds and outlines-core minutes to compile texts of bounded length.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from vts_ros.errors import VlmError

Schema = Mapping[str, Any]

#: How many tokens before a text may change how it is cut into tokens.
_CONTEXT = 8

#: The form is written in one line, with the spaces that models are trained on.
_ONE_LINE = {'whitespace_flexible': False, 'item_separator': ', ', 'key_separator': ': '}
#: Where the form leaves no choice of text, llguidance would leave none of tokens either, and shut
#: out those that reach further than the text that is certain.
_LARK = '%llguidance {{"no_forcing": true}}\nstart: %json {schema}'


def check_structured() -> None:
    """
    See that forms can be enforced, before anything large is loaded.

    Raises
    ------
    VlmError
        If llguidance is not installed.

    """
    if find_spec('llguidance') is None:
        raise VlmError('structured answers need llguidance: pip install llguidance, or set '
                       'vlm.structured to false')


class Grammar:
    """
    A form in terms of the tokens of a model.

    Parameters
    ----------
    schema
        JSON schema of the form.
    tokenizer
        Of the model; a fast one.
    end_ids
        Tokens that end an answer.
    vocab_size
        Logits per token; may be more or fewer than the tokenizer has tokens.

    Raises
    ------
    VlmError
        If llguidance is missing or cannot use the schema or the tokenizer.

    """

    def __init__(self, schema: Schema, tokenizer: PreTrainedTokenizerBase, end_ids: list[int],
                 vocab_size: int) -> None:
        check_structured()
        self._end_ids = end_ids
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        try:
            fast: Any = tokenizer
            # Tokens of pictures may be beyond those that have logits.
            self._tokenizer = from_tokenizer(fast, max(vocab_size, len(fast)), end_ids)
            self._grammar = _LARK.format(
                schema=json.dumps({**schema, 'x-guidance': _ONE_LINE}))
            problem = LLMatcher.validate_grammar(self._grammar, self._tokenizer)
        except Exception as error:  # it raises whatever its parsers do
            problem = str(error) or type(error).__name__
        if problem:
            reason = ' '.join(problem.split())[:200]
            raise VlmError(f'the answer form cannot be enforced: {reason}')

    def processor(self, answers: int) -> HeldToForm:
        """Return what keeps so many answers of one generation in the form."""
        from llguidance import LLMatcher

        return HeldToForm([LLMatcher(self._tokenizer, self._grammar) for _ in range(answers)],
                          self._tokenizer, self._end_ids)


class HeldToForm(LogitsProcessor):
    """Rules out, for each answer, the tokens that do not continue the form."""

    def __init__(self, matchers: list[Any], tokenizer: Any, end_ids: list[int]) -> None:
        self._matchers = matchers
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        # Packed bits of the tokens that may come next in each answer.
        self._masks: dict[int, bytes] = {}
        # Where the answers begin, and how far they were read.
        self._begin = self._end = -1

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores of the next tokens, minus infinity for those that are ruled out."""
        self._read(input_ids)
        allowed = np.zeros(scores.shape, bool)
        for row, matcher in enumerate(self._matchers):
            if matcher.is_stopped():
                # The form is complete and takes no more, not even an end.
                allowed[row, self._end_ids] = True
            else:
                allowed[row] = self._allowed(row, scores.shape[1])
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), -torch.inf)

    def certain(self, input_ids: Tensor) -> list[int]:
        """
        Return the tokens that come next whatever the model would rather write.

        The text is certain. That it comes in these tokens is not: models may cut it otherwise,
        though they do not as a rule.

        Parameters
        ----------
        input_ids
            Prompt and answer so far, int64 [1, S]; that of a single answer.

        """
        self._read(input_ids)
        matcher, = self._matchers
        if matcher.is_stopped():
            return []
        text = matcher.compute_ff_bytes()
        if not text or self._may_reach_over(text):
            return []
        written = input_ids[0, max(self._begin, self._end - _CONTEXT):].tolist()
        tokens, _ = self._tokenizer.tokenize_partial(text, recent_tokens=written)
        return list(tokens)

    def _may_reach_over(self, text: bytes) -> bool:
        """Return whether a token may come next that is longer than the text that is certain."""
        allowed = np.flatnonzero(self._allowed(0, self._tokenizer.vocab_size))
        # All that are not longer are beginnings of the text.
        return len(allowed) > len(text) or any(
            len(self._tokenizer.decode_bytes([token])) > len(text) for token in allowed.tolist())

    def _allowed(self, row: int, count: int) -> NDArray[np.bool_]:
        if row not in self._masks:
            self._masks[row] = self._matchers[row].compute_bitmask()
        bits = np.frombuffer(self._masks[row], np.uint8)
        return np.unpackbits(bits, count=count, bitorder='little').astype(bool)

    def _read(self, input_ids: Tensor) -> None:
        """Go on with what was written since."""
        length = input_ids.shape[1]
        if self._begin < 0:
            self._begin = self._end = length
        for matcher, row in zip(self._matchers, input_ids[:, self._end:].tolist()):
            for token in row:
                if not matcher.is_stopped():
                    matcher.consume_token(token)
            if matcher.is_error():
                raise VlmError(f'the answer left its form: {matcher.get_error()}')
        if length > self._end:
            self._masks.clear()
        self._end = length
