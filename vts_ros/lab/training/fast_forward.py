# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The forward passes of a Qwen3-VL-class checkpoint, for training on a few CPU cores.

The modules and weights are those of transformers and so are the results; what differs is the
pace. Pictures of one size go through the vision encoder as one batch, matrix products run in
bfloat16 where the processor can, and attention, whose bfloat16 gradient is slow on CPUs, does not.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

_ATTENTION = 'vts_training'


def products_in_bfloat16(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which matrix products run in bfloat16 if the processor has them."""
    if device.type != 'cpu' or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor:
    """Attend; [B, heads, S, w] to [B, S, heads, w]."""
    is_slow = value.device.type == 'cpu' and torch.is_grad_enabled()
    kind = torch.float32 if is_slow else value.dtype
    with torch.autocast(value.device.type, enabled=False):
        attended = functional.scaled_dot_product_attention(
            query.to(kind), key.to(kind), value.to(kind), is_causal=causal, scale=scale)
    return attended.transpose(1, 2)


def _causal(module: nn.Module, query: Tensor, key: Tensor, value: Tensor,
            attention_mask: Tensor | None, scaling: float, **_: Any) -> tuple[Tensor, None]:
    return _attend(query, key, value, True, scaling).contiguous(), None


class FastVision(nn.Module):
    """
    The vision encoder over frames of one size.

    Parameters
    ----------
    visual
        Vision encoder of the checkpoint; trained in place.
    height, width
        Size of the frames in pixels, a multiple of a visual token.

    """

    cos: Tensor
    sin: Tensor
    corners: Tensor
    weights: Tensor

    def __init__(self, visual: Any, height: int, width: int) -> None:
        super().__init__()
        self.visual = visual
        self.patch, self.merge = visual.config.patch_size, visual.config.spatial_merge_size
        rows, columns = height // self.patch, width // self.patch
        self.grid = rows // self.merge, columns // self.merge
        size = torch.tensor([[1, rows, columns]])
        self.device = next(visual.parameters()).device
        corners, weights = get_vision_interpolation_indices_and_weights(
            size, num_grid_per_side=visual.num_grid_per_side, mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners, spatial_merge_size=self.merge,
            kwargs={})
        cos, sin = visual.rotary_pos_emb(
            torch.zeros(1, device=self.device),
            get_vision_position_ids(size, self.merge, kwargs={}).to(self.device))
        for name, value in (('corners', corners), ('weights', weights[:, :, None]),
                            ('cos', cos), ('sin', sin)):
            self.register_buffer(name, value.to(self.device), persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """
        Encode frames.

        Parameters
        ----------
        frames
            uint8 [B, H, W, 3], RGB; brought to the device of the encoder.

        Returns
        -------
        Visual tokens [B, N, D], and deepstack features, each [B, N, D].

        """
        visual, count = self.visual, len(frames)
        projection = visual.patch_embed.proj
        # The convolution has no overlap, and CPUs are faster at matrix products.
        hidden = functional.linear(patches(frames.to(self.device), self.patch, self.merge),
                                   projection.weight.flatten(1), projection.bias)
        hidden = hidden + (visual.pos_embed(self.corners) * self.weights).sum(1)
        deepstack: list[Tensor] = []
        for number, block in enumerate(visual.blocks):
            hidden = hidden + self._attention(block.attn, block.norm1(hidden))
            hidden = hidden + block.mlp(block.norm2(hidden))
            if number in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[len(deepstack)]
                deepstack.append(merger(hidden).view(count, self.grid[0] * self.grid[1], -1))
        return visual.merger(hidden).view(count, self.grid[0] * self.grid[1], -1), deepstack

    def _attention(self, attention: Any, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        query, key, value = attention.qkv(hidden).view(
            batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = _attend(self._rotate(query), self._rotate(key), value, False,
                           attention.scaling)
        projected: Tensor = attention.proj(attended.reshape(batch, length, width))
        return projected

    def _rotate(self, heads: Tensor) -> Tensor:
        first, second = heads.chunk(2, -1)
        return heads * self.cos + torch.cat([-second, first], -1) * self.sin


def patches(frames: Tensor, patch: int, merge: int) -> Tensor:
    """
    Cut frames into patches in the order of the image processor.

    Parameters
    ----------
    frames
        uint8 [B, H, W, 3].
    patch, merge
        Side of a patch in pixels, and of a visual token in patches.

    Returns
    -------
    float32 [B, patches, 3 * patch * patch], -1 to 1.

    """
    count, height, width, _ = frames.shape
    blocks = frames.view(count, height // patch // merge, merge, patch,
                         width // patch // merge, merge, patch, 3)
    ordered = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(count, -1, 3 * patch * patch)
    return ordered.to(torch.float32) / 127.5 - 1.0


def prepare_text(language_model: Any, compiled: bool) -> None:
    """Set the attention of a language model to the fast one, and compile its layers."""
    AttentionInterface.register(_ATTENTION, _causal)
    AttentionMaskInterface.register(_ATTENTION, lambda *_, **__: None)
    language_model.set_attn_implementation(_ATTENTION)
    if compiled:
        for layer in language_model.layers:
            layer.compile(dynamic=True)


def read(language_model: Any, ids: Tensor, position_ids: Tensor, visual: Tensor,
         tokens: Tensor, deepstack: list[Tensor], layers: int) -> list[Tensor]:
    """
    Run the first layers of the language model over prompts.

    Parameters
    ----------
    ids, position_ids
        int64 [B, S] and [3, B, S]; padding only on the right, where a causal model never looks.
    visual
        bool [B, S], where the visual tokens are.
    tokens, deepstack
        Features of all visual tokens of the batch [V, D].
    layers
        How many.

    Returns
    -------
    Hidden states [B, S, D] after each of the layers, not normalised.

    """
    hidden = language_model.embed_tokens(ids)
    hidden = hidden.masked_scatter(visual[..., None], tokens.to(hidden.dtype))
    rotary = language_model.rotary_emb(hidden, position_ids)
    states = []
    for number, layer in enumerate(language_model.layers[:layers]):
        hidden = layer(hidden, position_embeddings=rotary, attention_mask=None)
        if number < len(deepstack):
            more = torch.zeros_like(hidden).masked_scatter(
                visual[..., None], deepstack[number].to(hidden.dtype))
            hidden = hidden + more
        states.append(hidden)
    return states
