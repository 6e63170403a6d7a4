# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read the beginning of a prompt, its pictures, into keys and values that can be used again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.vlm.kv_cache import growing_cache, Held
from vts_ros.vlm.loading import out_of_memory_told
from vts_ros.vlm.model_inputs import ModelInputs
from vts_ros.vlm.prompt_layout import Prefix, Prompted, Pruned, Read


class Prefill:
    """
    Has a model read what comes before a question.

    Parameters
    ----------
    name
        Of the model, for messages.
    model
        The model of transformers.
    inputs
        Makes its arguments.

    """

    def __init__(self, name: str, model: Any, inputs: ModelInputs) -> None:
        self._name, self._model, self._inputs = name, model, inputs

    @torch.inference_mode()
    def prefix(self, prepared: Prompted, keep: NDArray[np.int32] | None = None,
               begun: Prefix | None = None) -> Prefix:
        """
        Read a pruned prompt up to its last picture, to ask several questions about it.

        Parameters
        ----------
        prepared
            A prompt with these pictures; its instruction does not count.
        keep
            Visual tokens to keep, ascending int32 [B]; None keeps all.
        begun
            What was read before. Where this prompt begins with it, only the rest is read, into
            its cache; where not, its memory is freed first. It cannot be used any more after.

        Returns
        -------
        For ``generate``, with prompts that differ after the last picture only.

        Raises
        ------
        VlmError
            If the keep list does not fit, or memory runs out; what was begun stays as it was
            where this prompt begins with it.

        """
        prompt = prepared.prune(keep)
        kept = len(prepared.layout.visual_slots) if keep is None else len(keep)
        length = prepared.layout.length_to_last_picture(kept)
        to_read = prompt._replace(input_ids=prompt.input_ids[:length],
                                  position_ids=prompt.position_ids[:, :length])
        if begun is not None and not (begun.begins(to_read) and (
                begun.length == length or self._inputs.is_read_on)):
            begun.cache.reset()
            begun = None
        start, seen = (begun.length, begun.features) if begun is not None else (0, 0)
        if begun is not None and start == length:
            return begun
        return self.read(Pruned(
            to_read.input_ids[start:], to_read.position_ids[:, start:], prompt.tokens[seen:],
            tuple(level[seen:] for level in prompt.deepstack)), begun)

    @torch.inference_mode()
    def read(self, part: Pruned, begun: Prefix | None = None) -> Prefix:
        """
        Read a part of a prompt after what was read before, into its cache.

        Parameters
        ----------
        part
            With positions that follow.
        begun
            What was read before. It cannot be used any more after.

        Raises
        ------
        VlmError
            If memory runs out; what was begun stays as it was.

        """
        if begun is None:
            begun = Prefix(Read(part.input_ids[:0], part.position_ids[:, :0], ()),
                           growing_cache(self._model.config.get_text_config(decoder=True)))
        read = begun.read.then(part)
        if not len(part.input_ids):
            # A step that goes on with a video has no text, and perhaps nothing was kept of it.
            return Prefix(read, begun.cache)
        device, positions = self._model.device, part.position_ids[:, None]
        visual = self._inputs.visual(part.tokens, part.deepstack) if len(part.tokens) else {}
        held = Held.of(begun.cache, begun.length)
        with out_of_memory_told(f'{self._name} cannot read the pictures'):
            try:
                self._model(
                    input_ids=part.input_ids[None].to(device),
                    position_ids=(positions[0] if len(positions) == 1 else positions).to(device),
                    attention_mask=torch.ones_like(read.input_ids[None], device=device),
                    past_key_values=begun.cache, use_cache=True, logits_to_keep=1, **visual,
                    **{name: value.to(device) for name, value in self._inputs.told(
                        read.input_ids[None]).items()})
            except BaseException:
                held.give_back(begun.cache)
                raise
        return Prefix(read, begun.cache)
