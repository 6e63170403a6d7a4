# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Processors of vLLM whose pictures and videos take as many places in a prompt as is kept of them.

The keep list of a picture or a video is part of its identity: the caches of vLLM never take it for
the same with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
import torch
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLMultiModalProcessor
from vllm.model_executor.models.qwen3_vl import Qwen3VLMultiModalProcessor
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import PromptReplacement, PromptUpdateDetails

from vts_ros.vllm_plugin.keep_lists import KEEP, keep_lists, KeepList
from vts_ros.vllm_plugin.pruned_positions import counts_of_steps, timed_steps
from vts_ros.vllm_plugin.step_patches import step_patches

#: What a mixin is mixed with: a processor of vLLM.
_Processor: Any = object


class KeepListProcessor(_Processor):
    """
    Beside a processor of Qwen-VL: takes the keep lists of the pictures or videos of a request.

    The frames of a video with a keep list are prepared as pictures are. Its family says what
    stands in a prompt for what is left of it: ``_tokens_of_video``.
    """

    def _get_mm_hashes(self, inputs: Any) -> Any:
        hashes = dict(super()._get_mm_hashes(_without(inputs)))
        modality = _modality(inputs.hf_processor_mm_kwargs, hashes)
        items = hashes.get(modality, [])
        keeps = keep_lists(inputs.hf_processor_mm_kwargs, len(items), modality == 'video')
        if keeps:
            algorithm = self.info.ctx.get_mm_config().mm_hasher_algorithm
            hashes[modality] = [
                MultiModalHasher.hash_kwargs(algorithm, mm_hash=item, keep=list(keep))
                for item, keep in zip(items, keeps)]
        return hashes

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Any) -> Any:
        options = super()._get_cache_missing_processor_kwargs(_without(inputs), mm_is_cached)
        keeps = inputs.hf_processor_mm_kwargs.get(KEEP)
        if keeps is None:
            return options
        are_cached = mm_is_cached.get(_modality(inputs.hf_processor_mm_kwargs, mm_is_cached), ())
        return {**options, KEEP: [
            keep for keep, is_cached in zip(keeps, are_cached) if not is_cached]}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        videos = mm_items.get('video')
        if videos and KEEP in hf_kwargs:
            return self._prepared_videos(
                [frames for frames, _ in videos.get_all()],
                keep_lists(hf_kwargs, len(videos), is_video=True) or [], _plain(hf_kwargs))
        processed = super()._apply_hf_processor_main(mm_items, _plain(hf_kwargs))
        grids = processed.get('image_grid_thw', ())
        keeps = keep_lists(hf_kwargs, len(grids))
        if keeps:
            self._add_lists(processed, keeps, torch.as_tensor(grids))
        return processed

    def _prepared_videos(self, videos: Sequence[Any], keeps: Sequence[KeepList],
                         hf_kwargs: Mapping[str, Any]) -> Any:
        """Return what the model takes, of videos uint8 [F, H, W, 3] with keep lists."""
        moments = self.info.get_hf_config().vision_config.temporal_patch_size
        for frames, keep in zip(videos, keeps):
            if len(frames) != moments * keep.steps:
                raise ValueError(
                    f'{KEEP} is for a video of {keep.steps} steps, {moments} frames each, but '
                    f'{len(frames)} frames came: set num_frames to -1 in media_io_kwargs')
        pictures = [Image.fromarray(np.asarray(frame)) for frames in videos for frame in frames]
        processed = super()._apply_hf_processor_main(
            self.info.parse_mm_data({'image': pictures}, validate=False), hf_kwargs)
        patches, grids = (torch.as_tensor(processed.pop(name))
                          for name in ('pixel_values', 'image_grid_thw'))
        firsts = moments * np.cumsum([0, *(keep.steps for keep in keeps[:-1])])
        processed['pixel_values_videos'] = step_patches(patches, grids, moments)
        processed['video_grid_thw'] = torch.tensor([
            (keep.steps, *grids[first, 1:].tolist()) for keep, first in zip(keeps, firsts)])
        # Each family takes what it counts time by.
        processed['second_per_grid_ts'] = torch.tensor([keep.step_sec for keep in keeps])
        processed['timestamps'] = [list(keep.times_sec) for keep in keeps]
        self._add_lists(processed, keeps, processed['video_grid_thw'])
        return processed

    def _add_lists(self, processed: Any, keeps: Sequence[KeepList], grids: torch.Tensor) -> None:
        merge = self.info.get_hf_config().vision_config.spatial_merge_size
        for keep, (_, rows, columns) in zip(keeps, grids.tolist()):
            keep.check((rows // merge, columns // merge))
        processed[KEEP] = [torch.tensor(keep.keep, dtype=torch.int64) for keep in keeps]

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]
                              ) -> Mapping[str, Any]:
        modality = 'video' if 'video_grid_thw' in hf_inputs else 'image'
        return {**super()._get_mm_fields_config(hf_inputs, _plain(hf_processor_mm_kwargs)),
                KEEP: MultiModalFieldConfig.batched(modality, keep_on_cpu=True)}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any],
                            out_mm_kwargs: Any) -> Sequence[Any]:
        updates = super()._get_prompt_updates(
            mm_items, _plain(hf_processor_mm_kwargs), out_mm_kwargs)
        if KEEP not in hf_processor_mm_kwargs:
            return updates
        config = self.info.get_hf_config()
        begin, end = config.vision_start_token_id, config.vision_end_token_id

        def update_of(modality: str, token: int, tokens_of: Callable[[Any], list[int]]) -> Any:
            def left(index: int) -> Any:
                # With its marks: a picture of which nothing is left has a place, too.
                return PromptUpdateDetails.select_token_id(
                    [begin, *tokens_of(out_mm_kwargs[modality][index]), end], token)

            return PromptReplacement(modality, [begin, token, end], left)

        return [
            update_of('image', config.image_token_id,
                      lambda item: [config.image_token_id] * len(item[KEEP].data)),
            update_of('video', config.video_token_id, self._tokens_of_video)]


class KeepListQwen25Processor(KeepListProcessor, Qwen2_5_VLMultiModalProcessor):
    """That of Qwen2.5-VL."""

    def _tokens_of_video(self, item: Any) -> list[int]:
        return [self.info.get_hf_config().video_token_id] * len(item[KEEP].data)


class KeepListQwen3Processor(KeepListProcessor, Qwen3VLMultiModalProcessor):
    """That of Qwen3-VL."""

    def _tokens_of_video(self, item: Any) -> list[int]:
        config, tokenizer = self.info.get_hf_config(), self.info.get_tokenizer()
        steps, rows, columns = item['video_grid_thw'].data.tolist()
        merge = config.vision_config.spatial_merge_size
        stamps = [tokenizer.encode(f'<{time_sec:.1f} seconds>', add_special_tokens=False)
                  for time_sec in item['timestamps'].data]
        counts = counts_of_steps(
            item[KEEP].data.numpy(), (rows // merge, columns // merge), steps)
        return timed_steps(stamps, counts, config.vision_start_token_id, config.video_token_id,
                           config.vision_end_token_id)


def _modality(options: Mapping[str, Any], items: Mapping[str, Any]) -> str:
    """Return of what a request has keep lists."""
    if KEEP in options and items.get('image') and items.get('video'):
        raise ValueError(f'{KEEP} is for pictures or for videos; this prompt has both')
    return 'video' if items.get('video') else 'image'


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request that vLLM knows."""
    return {name: value for name, value in options.items() if name != KEEP}


def _without(inputs: Any) -> Any:
    return replace(inputs, hf_processor_mm_kwargs=_plain(inputs.hf_processor_mm_kwargs))
