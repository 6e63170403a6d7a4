# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One interface to Hugging Face vision language models that takes a list of visual tokens to keep.

The whole prompt is laid out first, with the position of every token; what is dropped is then
taken out of ids, positions and features alike. So survivors keep their places, and the result is
that of the full prompt with the dropped tokens masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from vts_ros.errors import VlmError
from vts_ros.vlm.boxes import Size
from vts_ros.vlm.conventions import Convention, CONVENTIONS
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.families import FAMILIES, Family, FrameFeatures, Grid, VIDEO_FAMILIES
from vts_ros.vlm.fixed_step import FixedStep
from vts_ros.vlm.generate import end_ids, Generator
from vts_ros.vlm.int8_weights import int8_bytes
from vts_ros.vlm.language_model import Generation, OnText
from vts_ros.vlm.loading import load_checkpoint, out_of_memory_told
from vts_ros.vlm.model_inputs import ModelInputs
from vts_ros.vlm.packed_weights import packed_size
from vts_ros.vlm.picture_reduction import picture_reduction
from vts_ros.vlm.prefill import Prefill
from vts_ros.vlm.prompt_layout import (
    BEGINNING,
    Layout,
    Place,
    Prefix,
    Prepared,
    Prompted,
    Pruned,
)
from vts_ros.vlm.prompt_writer import Captions, PromptWriter
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.prunability import pruning_of
from vts_ros.vlm.pruning import Pruning
from vts_ros.vlm.structured_output import Schema


class Vlm:
    """
    A vision language model that reads a window of frames, pruned or whole.

    Use `Vlm.load`. Not safe for two threads at a time.

    Attributes
    ----------
    name
        Name of the checkpoint.
    model, tokenizer, images
        The Hugging Face parts, as loaded.
    tokens_per_frame
        Most visual tokens of a picture; 0 where its image processor alone decides.
    convention
        How it was trained to be told of pictures and boxes.
    frames_as
        ``images`` or ``video``, see :meth:`load`.

    """

    # The stubs of transformers do not know the generation of a model, hence Any.
    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase,
                 images: Callable[..., BatchFeature], convention: Convention | None = None,
                 schema: Schema | None = None, tokens_per_frame: int = 0,
                 frames_as: str = 'images', interval_sec: float = 0.0) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.images = images
        self.tokens_per_frame = tokens_per_frame
        self.convention = convention or CONVENTIONS[model.config.model_type]
        self.frames_as, self._interval_sec = frames_as, interval_sec
        self._family = _family(name, model, tokenizer, images, frames_as, interval_sec)
        self._picture_options = {
            **self._family.picture_options,
            **(self._family.limited(images, tokens_per_frame) if tokens_per_frame else {})}
        self._writer = PromptWriter(name, tokenizer, self._family, int(
            model.config.image_token_id if self._family.handed_as == 'image'
            else model.config.video_token_id))
        self._end_ids = end_ids(model, tokenizer)
        self._inputs = ModelInputs(model, tokenizer, self._family, self._end_ids[0])
        self._prefill = Prefill(name, model, self._inputs)
        self._generator = Generator(name, model, tokenizer, self._inputs, self._end_ids)
        self._grids: dict[tuple[int, int], Grid] = {}
        if schema is not None:
            self.set_schema(schema)

    def fix_shapes(self, is_wanted: bool) -> FixedStep | None:
        """Have tokens of answers read in fixed shapes, or not, see ``Generator.fix_shapes``."""
        return self._generator.fix_shapes(is_wanted)

    def set_schema(self, schema: Schema) -> None:
        """Change the JSON schema of the answers, for generations with ``in_form``."""
        self._generator.set_schema(schema)

    @classmethod
    def load(cls, model: str | Path, *, schema: Schema | None = None, tokens_per_frame: int = 0,
             frames_as: str = 'images', interval_sec: float = 0.0, adapter: str | Path = '',
             **options: Any) -> Vlm:
        """
        Load a checkpoint.

        Parameters
        ----------
        model
            Directory of a checkpoint, or its name on the Hugging Face hub.
        schema
            JSON schema of the answers, for generations with ``in_form``.
        tokens_per_frame
            Pictures are scaled down to so many visual tokens, where the family of the model takes
            pictures of any size; 0 leaves it to the image processor of the checkpoint.
        frames_as
            ``images``: each frame is a picture. ``video``: frames are steps of a video, of
            which some families make one of two frames; for VIDEO_FAMILIES.
        interval_sec
            Spacing of the frames of a video; 0 if not known.
        adapter, options
            Those of :func:`vts_ros.vlm.loading.load_checkpoint`, which also says what is raised.

        Raises
        ------
        VlmError
            If frames cannot be shown to the family as a video.

        """
        name = ' + '.join(Path(part).name for part in (model, adapter) if part)
        return cls(name, *load_checkpoint(model, adapter=adapter, **options), schema,
                   tokens_per_frame, frames_as, interval_sec)

    @property
    def info(self) -> dict[str, Any]:
        """Return name, family, size, type and place of the model, for reports."""
        small, (packed, packed_bytes) = int8_bytes(self.model), packed_size(self.model)
        floats = str(self.model.dtype).removeprefix('torch.')
        return {'name': self.name, 'family': self.model.config.model_type,
                'parameters': self.model.num_parameters() + small + packed,
                'weights_mb': round(1e-6 * (small + packed_bytes + sum(
                    weight.nbytes for weight in self.model.parameters()))),
                'dtype': f'{floats}, int8 weights' if small else floats,
                'device': str(self.model.device), 'pruning': self.pruning,
                'attention': self.model.config.get_text_config()._attn_implementation}

    @property
    def pruning(self) -> Pruning:
        """Return what it means that tokens are dropped."""
        return pruning_of(self.model.config)

    @property
    def pinned(self) -> int:
        """Return how many tokens of a picture stand beside its grid and are never dropped."""
        return self._family.pinned + self._family.whole

    @property
    def step_frames(self) -> int:
        """Return how many frames become one grid of visual tokens."""
        return self._family.step_frames

    @property
    def reads_together(self) -> str:
        """Return why pictures cannot be read before the last one is there; empty if they can."""
        return self._family.reads_together

    def reading(self, frames_as: str, interval_sec: float) -> Vlm:
        """Return one of the same parts that reads frames otherwise, see :meth:`load`."""
        return self._remade(self.model, frames_as, interval_sec)

    def with_network(self, network: Any) -> Vlm:
        """Return one with another network of the same kind, such as a copy."""
        return self._remade(network, self.frames_as, self._interval_sec)

    def _remade(self, network: Any, frames_as: str, interval_sec: float) -> Vlm:
        return Vlm(self.name, network, self.tokenizer, self.images, self.convention,
                   tokens_per_frame=self.tokens_per_frame, frames_as=frames_as,
                   interval_sec=interval_sec)

    def close(self) -> None:
        """Free the memory of the model, which cannot be used afterwards."""
        # All that knows the model: held by one of them, its weights would stay.
        del self.model, self._family, self._writer, self._inputs
        del self._prefill, self._generator
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def preprocess(self, pictures: Sequence[NDArray[np.uint8]]) -> BatchFeature:
        """Return what the vision encoder takes, for RGB pictures uint8 [H, W, 3]."""
        return self.images(images=list(pictures), input_data_format='channels_last',
                           return_tensors='pt', **self._picture_options)

    def token_grid(self, height: int, width: int) -> Grid:
        """Return rows and columns of visual tokens for pictures of this size in pixels."""
        if (height, width) not in self._grids:
            # Asking the processor itself: its rule of scaling is not to be written twice.
            blank = np.zeros((height, width, 3), np.uint8)
            self._grids[height, width] = self._family.grids(self.preprocess([blank]))[0]
        return self._grids[height, width]

    def reduction(self, height: int, width: int, least: tuple[int, int] = (0, 0)) -> int:
        """Return by what a picture can be divided, see :func:`picture_reduction`."""
        return picture_reduction(self.token_grid, self.size_of, height, width, least)

    def seen_size(self, features: FrameFeatures, kept: float = 1.0) -> Size:
        """Return width and height in pixels of an encoded picture, whatever is kept of it."""
        return self.size_of(features.grid)

    def size_of(self, grid: Grid) -> Size:
        """Return width and height in pixels of a picture with this grid, as the model gets it."""
        return self._family.seen_size(grid)

    def encode_batch(self, pixels: BatchFeature) -> list[FrameFeatures]:
        """Encode preprocessed pictures, a video two at a time; gradients flow."""
        return self._family.encode(pixels.to(self.model.device))

    @torch.inference_mode()
    def encode(self, *pictures: NDArray[np.uint8]) -> FrameFeatures:
        """
        Encode one step; the result can be kept and used again.

        Parameters
        ----------
        pictures
            One RGB picture uint8 [H, W, 3]; as a video the two of a step, or one, taken twice.

        """
        with out_of_memory_told(f'{self.name} cannot encode'):
            step, = self.encode_batch(self.preprocess(pictures))
        return step

    def layout(self, grids: Sequence[Grid], captions: Captions, prompt: Prompt) -> Layout:
        """Lay a prompt out, see ``PromptWriter.layout``."""
        return self._writer.layout(grids, captions, prompt)

    def texts(self, captions: Captions, prompt: Prompt) -> list[str]:
        """Return what stands around the pictures of a prompt, see ``PromptWriter.texts``."""
        return self._writer.texts(captions, prompt)

    def lay_out(self, texts: Sequence[str], grids: Sequence[Grid], place: Place = BEGINNING
                ) -> Layout:
        """Lay out a prompt or a part of one, see ``PromptWriter.lay_out``."""
        return self._writer.lay_out(texts, grids, place)

    def prepare(self, features: Sequence[FrameFeatures], captions: Captions,
                prompt: Prompt) -> Prepared:
        """Lay a prompt out and put the features of the steps, oldest first, in its slots."""
        return Prepared.join(self.layout([frame.grid for frame in features], captions, prompt),
                             features)

    def batch(self, prepared: Sequence[Prompted], keeps: Sequence[NDArray[np.int32] | None],
              answers: Sequence[str] | None = None) -> dict[str, Any]:
        """
        Return the arguments of the model for several pruned prompts.

        Parameters
        ----------
        prepared
            The prompts.
        keeps
            Visual tokens to keep of each, ascending int32 [B]; None keeps all.
        answers
            To train on: appended to the prompts, with labels. Prompts are padded on the left
            without answers, on the right with answers.

        Raises
        ------
        VlmError
            If a keep list is not ascending or goes beyond the visual tokens.

        """
        return self._inputs.batch([prompt.prune(keep) for prompt, keep
                                   in zip(prepared, keeps, strict=True)], answers)

    @torch.inference_mode()
    def logits(self, prepared: Prompted, keep: NDArray[np.int32] | None = None) -> Tensor:
        """Return the logits [S', V] of every token of the pruned prompt."""
        output = self.model(**self.batch([prepared], [keep]), use_cache=False)
        return output.logits[0]

    def prefix(self, prepared: Prompted, keep: NDArray[np.int32] | None = None,
               begun: Prefix | None = None) -> Prefix:
        """Read a pruned prompt up to its last picture, see ``Prefill.prefix``."""
        return self._prefill.prefix(prepared, keep, begun)

    def read(self, part: Pruned, begun: Prefix | None = None) -> Prefix:
        """Read a part of a prompt after what was read before, see ``Prefill.read``."""
        return self._prefill.read(part, begun)

    def generate(
        self,
        prepared: Prompted,
        keep: NDArray[np.int32] | None = None,
        max_new_tokens: int = 160,
        stop: Callable[[], bool] | None = None,
        streamer: BaseStreamer | None = None,
        prefix: Prefix | None = None,
        drafts: Drafts | None = None,
        **options: Any,
    ) -> Generation:
        """
        Let the model write, greedily unless options say otherwise.

        Parameters
        ----------
        prepared
            The prompt.
        keep
            Visual tokens to keep, ascending int32 [B]; None keeps all.
        max_new_tokens
            Length at which the answer is cut off.
        stop
            Asked after every token; the answer ends when it returns True.
        streamer
            Given every token as it comes, see transformers.
        prefix
            The beginning of this prompt with this keep list, read before.
        drafts
            Answers that this one may be like: they make it faster, and in float32 not another one.
        options
            Further options of the generation, see transformers.

        Raises
        ------
        VlmError
            If the keep list does not fit, the prompt does not begin with the prefix, or memory
            runs out.

        """
        return self._generator.generate([prepared], [keep], max_new_tokens, stop, prefix=prefix,
                                        drafts=drafts, streamer=streamer, **options)[0]

    def generate_batch(
        self,
        prepared: Sequence[Prompted],
        keeps: Sequence[NDArray[np.int32] | None],
        max_new_tokens: int = 160,
        stop: Callable[[], bool] | None = None,
        *,
        in_form: bool = False,
        on_text: OnText | None = None,
        prefix: Prefix | None = None,
        drafts: Drafts | None = None,
        **options: Any,
    ) -> list[Generation]:
        """
        Let the model answer several prompts at once; see generate.

        Parameters
        ----------
        in_form
            Whether the answers must be in the form that was given at loading. One that is cut off
            is the beginning of the form.
        on_text
            Given the answer piece by piece while it is written, if there is one prompt only.
        prefix, drafts
            As in generate, if there is one prompt only.

        Raises
        ------
        VlmError
            As generate does, or if no form was given.

        """
        return self._generator.generate(
            prepared, keeps, max_new_tokens, stop, in_form=in_form, on_text=on_text,
            prefix=prefix, drafts=drafts, **options)


def _family(name: str, model: Any, tokenizer: PreTrainedTokenizerBase, images: Any,
            frames_as: str, interval_sec: float) -> Family:
    """Return how a model reads frames; raise VlmError if it cannot so."""
    model_type = model.config.model_type
    if frames_as == 'images':
        return FAMILIES[model_type](model, tokenizer, images)
    if model_type not in VIDEO_FAMILIES:
        raise VlmError(
            f'{name} is a {model_type} model, to which frames cannot be shown as a video here; to '
            f'{", ".join(VIDEO_FAMILIES)} they can: set vlm.frames_as to images')
    return VIDEO_FAMILIES[model_type](model, tokenizer, images, interval_sec)
