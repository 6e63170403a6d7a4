# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Models of vLLM of which each picture has the visual tokens that its keep list names, no others.

The vision encoder sees the whole picture, and the positions are those of the whole prompt: the
answer is that of the whole prompt with the other tokens masked. Everything about a prompt is known
when it comes, so chunks, batches and the cache of prefixes work as without keep lists.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
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

from vts_ros.vllm_plugin.keep_lists import KEEP, positions, PrunedPicture
from vts_ros.vllm_plugin.pruned_processors import (
    KeepListQwen3Processor,
    KeepListQwen25Processor,
)

#: What a mixin is mixed with: a model of vLLM.
_Model: Any = object


class KeepListModel(_Model):
    """Beside a model of Qwen-VL: keeps of each picture what its keep list names."""

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """Return the visual tokens of each picture or video, of pictures those that are kept."""
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
        pictures = []
        for feature in features:
            _, rows, columns = feature.data['image_grid_thw'].data.tolist()
            # The place of a picture begins with the mark before it.
            pictures.append(PrunedPicture(
                feature.mm_position.offset + 1, (rows // merge, columns // merge),
                np.asarray(feature.data[KEEP].data)))
        places = positions(len(input_tokens), pictures)
        return torch.from_numpy(places), int(places.max()) + 1 - len(input_tokens)

    def get_encoder_cudagraph_config(self) -> Any:
        """Have pictures encoded without CUDA graphs, which would pass the keep lists by."""
        config = super().get_encoder_cudagraph_config()
        return replace(config, modalities=[
            modality for modality in config.modalities if modality != 'image'])


@MULTIMODAL_REGISTRY.register_processor(
    KeepListQwen25Processor, info=Qwen2_5_VLProcessingInfo,
    dummy_inputs=Qwen2_5_VLDummyInputsBuilder)
class KeepListQwen25VL(KeepListModel, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL."""


@MULTIMODAL_REGISTRY.register_processor(
    KeepListQwen3Processor, info=Qwen3VLProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder)
class KeepListQwen3VL(KeepListModel, Qwen3VLForConditionalGeneration):
    """Qwen3-VL."""
