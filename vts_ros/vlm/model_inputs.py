# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts, as far as they are left, as the arguments of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vts_ros.vlm.families import Family
from vts_ros.vlm.prompt_layout import Pruned

_IGNORED_LABEL = -100


class ModelInputs:
    """
    Makes the arguments of a model.

    Parameters
    ----------
    model
        The model of transformers.
    tokenizer
        Of the model.
    family
        How visual tokens are handed over.
    end_id
        Token that ends an answer.

    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, family: Family,
                 end_id: int) -> None:
        self._model, self._tokenizer, self._family = model, tokenizer, family
        self._end_id = end_id
        pad = tokenizer.pad_token_id
        self.pad_id = end_id if pad is None else int(pad)

    @property
    def is_read_on(self) -> bool:
        """Return whether pictures that were read stay as they are when others follow."""
        return not self._family.reads_together

    def batch(self, prompts: Sequence[Pruned], answers: Sequence[str] | None = None
              ) -> dict[str, Any]:
        """Return the arguments for several pruned prompts with their pictures, see ``Vlm``."""
        return {
            **self.padded([(prompt.input_ids, prompt.position_ids) for prompt in prompts],
                          answers),
            **self.visual(
                torch.cat([prompt.tokens for prompt in prompts]),
                [torch.cat(level) for level in zip(*(prompt.deepstack for prompt in prompts),
                                                   strict=True)])}

    def padded(self, prompts: Sequence[tuple[Tensor, Tensor]],
               answers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the arguments of the model for ids [S'] and positions [..., S'] of prompts."""
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for index, (ids, positions) in enumerate(prompts):
            answer = self._answer_ids(answers[index]) if answers is not None else ids[:0]
            steps = torch.arange(1, len(answer) + 1)
            rows.append((torch.cat([ids, answer]),
                         torch.cat([positions, positions[:, -1:] + steps], dim=1),
                         torch.cat([torch.full_like(ids, _IGNORED_LABEL), answer])))
        pad_left = answers is None
        ids_rows, position_rows, label_rows = zip(*rows, strict=True)
        position_ids = _pad(position_rows, 0, pad_left).transpose(0, 1)
        inputs = {
            'input_ids': _pad(ids_rows, self.pad_id, pad_left),
            # Always given: from positions with gaps alone, transformers infers packed sequences.
            'attention_mask': _pad([torch.ones_like(ids) for ids in ids_rows], 0, pad_left),
            # Models that number their tokens plainly want [B, S], not [1, B, S].
            'position_ids': position_ids[0] if len(position_ids) == 1 else position_ids,
        }
        if answers is not None:
            inputs['labels'] = _pad(label_rows, _IGNORED_LABEL, pad_left)
        inputs.update(self.told(inputs['input_ids']))
        return {name: value.to(self._model.device) for name, value in inputs.items()}

    def told(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """Return what else the model is told of prompts [B, S], from their beginning on."""
        return self._family.told(input_ids)

    def visual(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> dict[str, Any]:
        """Return the argument of the model for features [I, D] of pictures."""
        return {'mm_encoder_outputs': {
            self._family.handed_as: self._family.encoder_outputs(tokens, deepstack)}}

    def _answer_ids(self, answer: str) -> Tensor:
        ids = self._tokenizer(answer, add_special_tokens=False)['input_ids']
        return torch.tensor([*ids, self._end_id])


def _pad(rows: Sequence[Tensor], value: int, left: bool) -> Tensor:
    """Stack rows [..., S] of different length, filled up with a value on one side."""
    width = max(row.shape[-1] for row in rows)
    return torch.stack([
        torch.nn.functional.pad(
            row, (width - row.shape[-1], 0) if left else (0, width - row.shape[-1]), value=value)
        for row in rows])
