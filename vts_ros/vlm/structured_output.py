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
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from vts_ros.errors import VlmError

Schema = Mapping[str, Any]

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
        Logits per token; may be more than the tokenizer has tokens.

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
            self._tokenizer = from_tokenizer(fast, vocab_size, end_ids)
            self._grammar = _LARK.format(
                schema=json.dumps({**schema, 'x-guidance': _ONE_LINE}))
            problem = LLMatcher.validate_grammar(self._grammar, self._tokenizer)
        except Exception as error:  # it raises whatever its parsers do
            problem = str(error) or type(error).__name__
        if problem:
            reason = ' '.join(problem.split())[:200]
            raise VlmError(f'the answer form cannot be enforced: {reason}')

    def processor(self, answers: int) -> LogitsProcessor:
        """Return what keeps so many answers of one generation in the form."""
        from llguidance import LLMatcher

        return _Enforce([LLMatcher(self._tokenizer, self._grammar) for _ in range(answers)],
                        self._end_ids)


class _Enforce(LogitsProcessor):
    """Rules out, for each answer, the tokens that do not continue the form."""

    def __init__(self, matchers: list[Any], end_ids: list[int]) -> None:
        self._matchers = matchers
        self._end_ids = end_ids
        self._has_begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        allowed = np.zeros(scores.shape, bool)
        for row, (matcher, last) in enumerate(zip(self._matchers, input_ids[:, -1].tolist())):
            if self._has_begun and not matcher.is_stopped():
                matcher.consume_token(last)
            if matcher.is_error():
                raise VlmError(f'the answer left its form: {matcher.get_error()}')
            if matcher.is_stopped():
                # The form is complete and takes no more, not even an end.
                allowed[row, self._end_ids] = True
            else:
                bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
                allowed[row] = np.unpackbits(bits, count=scores.shape[1], bitorder='little')
        self._has_begun = True
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), -torch.inf)
