# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Processors of vLLM whose pictures take as many places in a prompt as their keep lists say.

The keep list of a picture is part of its identity: the caches of vLLM never take it for the same
picture with another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLMultiModalProcessor
from vllm.model_executor.models.qwen3_vl import Qwen3VLMultiModalProcessor
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import PromptReplacement, PromptUpdateDetails

from vts_ros.vllm_plugin.keep_lists import KEEP, keep_lists

#: What a mixin is mixed with: a processor of vLLM.
_Processor: Any = object


class KeepListProcessor(_Processor):
    """Beside a processor of Qwen-VL: takes the keep lists of the pictures of a request."""

    def _get_mm_hashes(self, inputs: Any) -> Any:
        hashes = dict(super()._get_mm_hashes(_without(inputs)))
        pictures = hashes.get('image', [])
        keeps = keep_lists(inputs.hf_processor_mm_kwargs, len(pictures))
        if keeps is not None:
            if 'video' in hashes:
                raise ValueError(f'{KEEP} is for pictures; this prompt has videos, too')
            algorithm = self.info.ctx.get_mm_config().mm_hasher_algorithm
            hashes['image'] = [
                MultiModalHasher.hash_kwargs(algorithm, mm_hash=picture, keep=list(keep.keep))
                for picture, keep in zip(pictures, keeps)]
        return hashes

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Any) -> Any:
        options = super()._get_cache_missing_processor_kwargs(_without(inputs), mm_is_cached)
        keeps = inputs.hf_processor_mm_kwargs.get(KEEP)
        if keeps is None:
            return options
        return {**options, KEEP: [
            keep for keep, is_cached in zip(keeps, mm_is_cached['image']) if not is_cached]}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        processed = super()._apply_hf_processor_main(mm_items, _plain(hf_kwargs))
        grids = processed.get('image_grid_thw', ())
        keeps = keep_lists(hf_kwargs, len(grids))
        if keeps:
            merge = self.info.get_hf_config().vision_config.spatial_merge_size
            for keep, (_, rows, columns) in zip(keeps, torch.as_tensor(grids).tolist()):
                keep.check((rows // merge, columns // merge))
            processed[KEEP] = [torch.tensor(keep.keep, dtype=torch.int64) for keep in keeps]
        return processed

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]
                              ) -> Mapping[str, Any]:
        return {**super()._get_mm_fields_config(hf_inputs, _plain(hf_processor_mm_kwargs)),
                KEEP: MultiModalFieldConfig.batched('image', keep_on_cpu=True)}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any],
                            out_mm_kwargs: Any) -> Sequence[Any]:
        updates = super()._get_prompt_updates(
            mm_items, _plain(hf_processor_mm_kwargs), out_mm_kwargs)
        if KEEP not in hf_processor_mm_kwargs:
            return updates
        config = self.info.get_hf_config()
        begin, picture, end = (config.vision_start_token_id, config.image_token_id,
                               config.vision_end_token_id)

        def left(index: int) -> Any:
            kept = len(out_mm_kwargs['image'][index][KEEP].data)
            # With its marks: a picture of which nothing is left has a place, too.
            return PromptUpdateDetails.select_token_id(
                [begin, *[picture] * kept, end], picture)

        return [update for update in updates if update.modality != 'image'] + [
            PromptReplacement('image', [begin, picture, end], left)]


class KeepListQwen25Processor(KeepListProcessor, Qwen2_5_VLMultiModalProcessor):
    """That of Qwen2.5-VL."""


class KeepListQwen3Processor(KeepListProcessor, Qwen3VLMultiModalProcessor):
    """That of Qwen3-VL."""


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request that vLLM knows."""
    return {name: value for name, value in options.items() if name != KEEP}


def _without(inputs: Any) -> Any:
    return replace(inputs, hf_processor_mm_kwargs=_plain(inputs.hf_processor_mm_kwargs))
