# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Models of vLLM that have of each picture or video the visual tokens that its keep list names.

The vision encoder sees all of it, and the positions are those of the whole prompt: the
answer is that of the whole prompt with the other tokens masked. Everything about a prompt is known
when it comes, so chunks, batches and the cache of prefixes work as without keep lists.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessingInfo,
)
from vllm.model_executor.models.qwen3_vl import (
    Qwen3VLDummyInputsBuilder,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from vts_ros.vllm_plugin.keep_lists import KEEP
from vts_ros.vllm_plugin.pruned_positions import (
    blocks_of_timed_steps,
    positions,
    PrunedBlock,
    step_times,
)
from vts_ros.vllm_plugin.pruned_processors import (
    KeepListQwen3Processor,
    KeepListQwen25Processor,
)

#: What a mixin is mixed with: a model of vLLM.
_Model: Any = object


class KeepListModel(_Model):
    """
    Beside a model of Qwen-VL: keeps of each picture or video what its keep list names.

    Its family says where a video is in a prompt: ``_blocks_of_video``.
    """

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """Return the visual tokens of each picture or video, those that are kept."""
        keeps = kwargs.pop(KEEP, None)
        encoded = super().embed_multimodal(**kwargs)
        if keeps is None:
            return encoded
        return tuple(tokens[keep.to(tokens.device)]
                     for tokens, keep in zip(encoded, keeps, strict=True))

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]
                                  ) -> tuple[torch.Tensor, int]:
        """Return the positions [3, S] of a prompt, and how far they are ahead of its length."""
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        if not any(KEEP in feature.data for feature in features):
            return super().get_mrope_input_positions(input_tokens, mm_features)
        merge = self.config.vision_config.spatial_merge_size
        blocks: list[PrunedBlock] = []
        for feature in features:
            _, rows, columns = feature.data[f'{feature.modality}_grid_thw'].data.tolist()
            grid = (rows // merge, columns // merge)
            keep = np.asarray(feature.data[KEEP].data)
            # The place of a picture or a video begins with the mark before it.
            blocks += [PrunedBlock(feature.mm_position.offset + 1, grid, keep)
                       ] if feature.modality == 'image' else self._blocks_of_video(
                           input_tokens, feature, grid, keep)
        places = positions(len(input_tokens), blocks)
        # What is written goes on from the last token.
        return torch.from_numpy(places), int(places[0, -1]) + 1 - len(input_tokens)

    def get_encoder_cudagraph_config(self) -> Any:
        """Have all encoded without CUDA graphs, which would pass the keep lists by."""
        return replace(super().get_encoder_cudagraph_config(), modalities=[])


@MULTIMODAL_REGISTRY.register_processor(
    KeepListQwen25Processor, info=Qwen2_5_VLProcessingInfo,
    dummy_inputs=Qwen2_5_VLDummyInputsBuilder)
class KeepListQwen25VL(KeepListModel, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL: a video is one block, with the time between its steps in their positions."""

    def _blocks_of_video(self, input_tokens: list[int], feature: Any, grid: tuple[int, int],
                         keep: NDArray[np.int64]) -> list[PrunedBlock]:
        steps = int(feature.data['video_grid_thw'].data[0])
        return [PrunedBlock(feature.mm_position.offset + 1, grid, keep, step_times(
            steps, float(feature.data['second_per_grid_ts'].data),
            self.config.vision_config.tokens_per_second))]


@MULTIMODAL_REGISTRY.register_processor(
    KeepListQwen3Processor, info=Qwen3VLProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder)
class KeepListQwen3VL(KeepListModel, Qwen3VLForConditionalGeneration):
    """Qwen3-VL: each step of a video is a block of its own, after its time as text."""

    def _blocks_of_video(self, input_tokens: list[int], feature: Any, grid: tuple[int, int],
                         keep: NDArray[np.int64]) -> list[PrunedBlock]:
        place = feature.mm_position
        return blocks_of_timed_steps(
            input_tokens, range(place.offset, place.offset + place.length),
            self.config.vision_start_token_id, grid, keep)
