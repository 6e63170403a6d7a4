# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A pass of the text model of Qwen3-VL over a few tokens, written out.

In a small model most of a pass is not arithmetic but what stands around it: arguments are looked
at, masks made and modules called for every layer. Here is what is left without. Linear layers are
called as the modules that they are, so quantised and adapted ones will do, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel


class DecodeStep:
    """
    Reads tokens after those that a cache holds; without pictures, one prompt at a time.

    Parameters
    ----------
    text
        The text model, a Qwen3VLTextModel in float32.
    head
        Makes logits of what it says.

    """

    def __init__(self, text: Any, head: Any) -> None:
        self._text, self._head = text, head
        self._eps = float(text.config.rms_norm_eps)

    @classmethod
    def of(cls, model: Any) -> DecodeStep | None:
        """Return that of a model of transformers, or None if it is not known to be faster."""
        text = getattr(model.model, 'language_model', None)
        if (type(text) is Qwen3VLTextModel and model.device.type == 'cpu'
                and model.dtype == torch.float32 and text.config.hidden_act == 'silu'
                and text.config._attn_implementation == 'sdpa'):
            return cls(text, model.lm_head)
        return None

    def begin(self, cache: Any, position_ids: Tensor, longest: int) -> Any:
        """Return the cache to go on with, as ``FixedStep`` does: any will do."""
        return cache

    def __call__(self, input_ids: Tensor, position_ids: Tensor, cache: Any, logits_to_keep: int
                 ) -> Tensor:
        """
        Read tokens.

        Parameters
        ----------
        input_ids
            Int64 [1, N].
        position_ids
            Of time, row and column, int64 [3, 1, N]; of four the first is not looked at.
        cache
            Keys and values of what was read, all of it; they are appended.
        logits_to_keep
            Of so many tokens at the end.

        Returns
        -------
        Logits [1, K, V].

        """
        states = self._text.embed_tokens(input_ids)
        cos, sin = (part[:, :, None] for part in self._text.rotary_emb(states, position_ids[-3:]))
        # Halves change places, and the second then has its sign changed.
        half = sin.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        length, mask = states.shape[1], None
        if length > 1:
            before = cache.get_seq_length()
            mask = torch.full((length, before + length), -torch.inf).triu_(before + 1)
        for layer, held in zip(self._text.layers, cache.layers, strict=True):
            states = states + self._attention(
                layer.self_attn, self._normed(states, layer.input_layernorm), cos, sin, mask, held)
            mlp, normed = layer.mlp, self._normed(states, layer.post_attention_layernorm)
            states = states + mlp.down_proj(
                functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        logits: Tensor = self._head(self._normed(states[:, -logits_to_keep:], self._text.norm))
        return logits

    def _attention(self, layer: Any, states: Tensor, cos: Tensor, sin: Tensor,
                   mask: Tensor | None, held: Any) -> Tensor:
        shape = (*states.shape[:2], -1, layer.head_dim)
        queries = self._normed(layer.q_proj(states).view(shape), layer.q_norm)
        keys = self._normed(layer.k_proj(states).view(shape), layer.k_norm)
        queries, keys = (torch.addcmul(part * cos, part.roll(cos.shape[-1] // 2, -1), sin)
                         for part in (queries, keys))
        all_keys, all_values = held.update(
            keys.transpose(1, 2), layer.v_proj(states).view(shape).transpose(1, 2))
        seen = functional.scaled_dot_product_attention(
            queries.transpose(1, 2), all_keys, all_values, attn_mask=mask,
            enable_gqa=layer.num_key_value_groups > 1)
        return layer.o_proj(seen.transpose(1, 2).flatten(2))

    def _normed(self, states: Tensor, norm: Any) -> Tensor:
        return functional.rms_norm(states, states.shape[-1:], norm.weight, self._eps)
