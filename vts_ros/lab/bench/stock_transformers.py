# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stock transformers, as a user could have them: the baseline of every benchmark."""

from __future__ import annotations

from collections.abc import Sequence
import time
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from vts_ros.lab.bench.benchmark_drive import INTERVAL_SEC
from vts_ros.lab.bench.generation_probe import GenerationProbe
from vts_ros.lab.bench.measured_answers import Sample
from vts_ros.pipeline.frames import Frame
from vts_ros.vlm import Vlm
from vts_ros.vlm.prompts import Prompt


class StockTransformers:
    """
    Stock transformers: image processor, chat template, ``generate``, nothing of earlier windows.

    Parameters
    ----------
    vlm
        Its parts are used as they were loaded, none of the code around them.
    prompt
        What is asked.
    tape
        Around the model.
    max_new_tokens
        Longest answer.
    with_pictures
        Without, only prompt and answer are left: no way can be faster but by drafts.

    """

    def __init__(self, vlm: Vlm, prompt: Prompt, tape: GenerationProbe, max_new_tokens: int,
                 with_pictures: bool = True) -> None:
        self._vlm, self._prompt, self._tape = vlm, prompt, tape
        self._max_new_tokens, self._with_pictures = max_new_tokens, with_pictures

    #: Content of a message, token of the processor, arguments of the model and their type.
    _content = ('image', 'image_token_id', 'pixel_values', 'image_grid_thw', 1)

    def pixels(self, window: Sequence[Frame]) -> dict[str, torch.Tensor]:
        """Return the pictures as the model takes them."""
        return dict(self._vlm.images(
            images=[frame.rgb() for frame in window], input_data_format='channels_last',
            return_tensors='pt'))

    def captions(self, window: Sequence[Frame]) -> list[str]:
        """Return what stands before each picture or video."""
        return self._prompt.captions(window)

    def inputs(self, window: Sequence[Frame]) -> dict[str, torch.Tensor]:
        """Return what ``generate`` takes, as the processor of the model makes it."""
        tokenizer, model = self._vlm.tokenizer, self._vlm.model
        kind, token, _, grids, token_type = self._content
        image_id = getattr(model.config, token)
        image = str(tokenizer.convert_ids_to_tokens(image_id))
        content: list[dict[str, str]] = []
        for caption in self.captions(window):
            content.append({'type': 'text', 'text': caption})
            content.extend([{'type': kind}] if self._with_pictures else [])
        content.append({'type': 'text', 'text': self._prompt.instruction})
        messages: list[dict[str, Any]] = [
            {'role': 'system', 'content': [{'type': 'text', 'text': self._prompt.system}]},
            {'role': 'user', 'content': content}]
        text = str(tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True))
        pixels: dict[str, torch.Tensor] = {}
        if self._with_pictures:
            pixels = self.pixels(window)
            merged = self._vlm.images.merge_size ** 2  # type: ignore[attr-defined]
            counts = (pixels[grids].prod(1) // merged).tolist()
            *parts, end = text.split(image)
            text = ''.join(part + image * count for part, count in zip(parts, counts)) + end
        ids = tokenizer(text, return_tensors='pt', add_special_tokens=False)['input_ids']
        inputs = {'input_ids': ids, 'attention_mask': torch.ones_like(ids),
                  'mm_token_type_ids': token_type * (ids == image_id).int(), **pixels}
        return {name: value.to(model.device) for name, value in inputs.items()}

    def answer(self, window: Sequence[Frame]) -> Sample:
        """Answer a window from nothing."""
        self._tape.reset()
        start_sec, first = time.perf_counter(), _FirstToken()
        inputs = self.inputs(window)
        prepared_sec = time.perf_counter()
        output = self._vlm.model.generate(
            **inputs, max_new_tokens=self._max_new_tokens, do_sample=False, temperature=None,
            top_p=None, top_k=None, stopping_criteria=StoppingCriteriaList([first]))
        written = output[0, inputs['input_ids'].shape[1]:].tolist()
        self.text = str(self._vlm.tokenizer.decode(written, skip_special_tokens=True))
        end_sec = time.perf_counter()
        prepare_ms, encode_ms = 1e3 * (prepared_sec - start_sec), self._tape.encode_ms
        ttft_ms, total_ms = 1e3 * (first.sec - start_sec), 1e3 * (end_sec - start_sec)
        return Sample(total_ms, ttft_ms, {
            'prepare': prepare_ms, 'encode': encode_ms,
            'prefill': ttft_ms - prepare_ms - encode_ms, 'decode': total_ms - ttft_ms,
        }, self._tape.kv_bytes, self._tape.passes, len(written))


class StockVideo(StockTransformers):
    """The same with the frames of each camera as one video, for models of two frames a step."""

    _content = ('video', 'video_token_id', 'pixel_values_videos', 'video_grid_thw', 2)

    def pixels(self, window: Sequence[Frame]) -> dict[str, torch.Tensor]:
        """
        Return the videos as the model takes them.

        The video processor of transformers needs torchvision; this is what it makes of frames
        that were scaled as pictures.
        """
        made: dict[str, list[torch.Tensor]] = {'pixel_values_videos': [], 'video_grid_thw': []}
        for camera in sorted({frame.camera for frame in window}):
            seen = [frame for frame in window if frame.camera == camera]
            seen += seen[-1:] * (len(seen) % 2)
            pictures = super().pixels(seen)
            moments = pictures['pixel_values'].unflatten(0, (len(seen) // 2, 2, -1)).unflatten(
                3, (3, 2, -1))
            made['pixel_values_videos'].append(torch.stack(
                [moments[:, 0, ..., 0, :], moments[:, 1, ..., 1, :]], dim=3).flatten(2).flatten(
                0, 1))
            grid = pictures['image_grid_thw'][:1].clone()
            grid[0, 0] = len(seen) // 2
            made['video_grid_thw'].append(grid)
        pixels = {name: torch.cat(parts) for name, parts in made.items()}
        if self._vlm.model.config.model_type == 'qwen2_5_vl':
            pixels['second_per_grid_ts'] = torch.full(
                (len(pixels['video_grid_thw']),), 2 * INTERVAL_SEC)
        return pixels

    def captions(self, window: Sequence[Frame]) -> list[str]:
        """Return the names of the cameras, nothing of a single one."""
        cameras = sorted({frame.camera for frame in window})
        return cameras if len(cameras) > 1 else ['']


class _FirstToken(StoppingCriteria):
    """Notes when the first token is there."""

    def __init__(self) -> None:
        self.sec = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self.sec:
            input_ids[0, -1].item()
            self.sec = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
