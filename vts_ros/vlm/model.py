# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One interface to Hugging Face vision language models that takes a list of visual tokens to keep.

The whole prompt is laid out first, with the position of every token; what is dropped is then
taken out of ids, positions and features alike. So survivors keep their places, and the result is
that of the full prompt with the dropped tokens masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
import json
from pathlib import Path
import time
from typing import Any, NamedTuple

from huggingface_hub import snapshot_download
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BatchFeature,
    Cache,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
)
from transformers.generation.streamers import BaseStreamer
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils.logging import disable_progress_bar

from vts_ros.errors import VlmError
from vts_ros.vlm.compatibility import check_family
from vts_ros.vlm.drafting import Drafting
from vts_ros.vlm.families import FAMILIES, Family, FrameFeatures, Grid
from vts_ros.vlm.kv_cache import crop, growing_cache
from vts_ros.vlm.language_model import Generation, OnText
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.prunability import why_inexact
from vts_ros.vlm.structured_output import Grammar, Schema

#: What every checkpoint needs beside its weights. Without the tokenizer's files transformers
#: does not fail, it makes up another tokenizer.
_FILES = ('config.json', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json')
_WEIGHTS = ('model.safetensors', 'model.safetensors.index.json')
_IGNORED_LABEL = -100
#: What is on the disk is all that is used, and none of it is run.
_SAFE: dict[str, Any] = {'local_files_only': True, 'trust_remote_code': False}


@dataclass(frozen=True, eq=False)
class Layout:
    """
    A prompt, or a part of one, with all of its visual tokens: what each is and where it stands.

    Attributes
    ----------
    input_ids
        Token ids [S], int64.
    position_ids
        Positions [3, S] (time, height, width) or [1, S], as the model's rotary embedding takes.
    visual_slots
        Where the visual tokens are in the prompt [T * N], frame-major, row-major.
    image_slots
        Where features of the pictures go [I], ascending: the visual slots, and those of the model
        alone (such as an image newline), which are never dropped.

    """

    input_ids: Tensor
    position_ids: Tensor
    visual_slots: Tensor
    image_slots: Tensor

    def survivors(self, keep: Tensor) -> Tensor:
        """Return which prompt tokens stay [S'] when these visual tokens [B] are kept."""
        stays = torch.ones_like(self.input_ids, dtype=torch.bool)
        stays[self.visual_slots] = False
        stays[self.visual_slots[keep]] = True
        return stays.nonzero()[:, 0]

    def length_to_last_picture(self, kept: int) -> int:
        """Return the length of the prompt up to its last picture with so many visual tokens."""
        return int(self.image_slots[-1]) + 1 - len(self.visual_slots) + kept

    @property
    def next_position(self) -> int:
        """Return the position of what comes next, in time, height and width."""
        return int(self.position_ids.max()) + 1


class Pruned(NamedTuple):
    """What is left of a prompt or a part: ids [S'], positions [..., S'] and features [I', D]."""

    input_ids: Tensor
    position_ids: Tensor
    tokens: Tensor
    deepstack: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A laid-out prompt with the features [I, D] that belong in its image slots."""

    layout: Layout
    tokens: Tensor
    deepstack: tuple[Tensor, ...]

    def prune(self, keep: NDArray[np.int32] | None) -> Pruned:
        """Return what is left when these visual tokens [B] are kept, all if None."""
        stays = self.layout.survivors(_keep_tensor(keep, len(self.layout.visual_slots)))
        filled = torch.isin(self.layout.image_slots, stays).nonzero()[:, 0].to(self.tokens.device)
        return Pruned(self.layout.input_ids[stays], self.layout.position_ids[:, stays],
                      self.tokens[filled], tuple(level[filled] for level in self.deepstack))

    @classmethod
    def join(cls, layout: Layout, features: Sequence[FrameFeatures]) -> Prepared:
        """Put the features of the frames, in the order of the layout, in its slots."""
        levels = zip(*(frame.deepstack for frame in features), strict=True)
        return cls(layout, torch.cat([frame.rows for frame in features]),
                   tuple(torch.cat(level) for level in levels))

    def after(self, prefix: Prefix, keep: NDArray[np.int32] | None) -> tuple[Tensor, Tensor]:
        """
        Return ids [S'] and positions [..., S'] of the pruned prompt, whose pictures were read.

        Raises
        ------
        VlmError
            If it does not begin with what was read, or has other pictures.

        """
        prompt = self.prune(keep)
        if not prefix.begins(prompt) or prefix.features < len(prompt.tokens):
            raise VlmError('the prompt does not begin with what was read before')
        return prompt.input_ids, prompt.position_ids


class Read(NamedTuple):
    """
    What was read of a prompt: ids [S'], positions [..., S'] and features [I', D].

    The features are as many tensors as there were parts: nothing is joined that was read before.
    """

    input_ids: Tensor
    position_ids: Tensor
    tokens: tuple[Tensor, ...]

    def then(self, part: Pruned) -> Read:
        """Return what was read when a part was read after this."""
        return Read(torch.cat([self.input_ids, part.input_ids]),
                    torch.cat([self.position_ids, part.position_ids], dim=1),
                    (*self.tokens, part.tokens))


@dataclass(frozen=True, eq=False)
class Prefix:
    """
    A pruned prompt up to its last picture as the model has read it, for any number of questions.

    Attributes
    ----------
    read
        The part of the prompt that was read.
    cache
        Its keys and values.

    """

    read: Read
    cache: Cache

    def begins(self, prompt: Pruned) -> bool:
        """Return whether a prompt begins with what was read."""
        return (self.is_whole
                and torch.equal(self.read.input_ids, prompt.input_ids[:self.length])
                and torch.equal(self.read.position_ids, prompt.position_ids[:, :self.length])
                and torch.equal(torch.cat(self.read.tokens), prompt.tokens[:self.features]))

    @property
    def features(self) -> int:
        """Return how many features of pictures were read."""
        return sum(map(len, self.read.tokens))

    @property
    def is_whole(self) -> bool:
        """Return whether the cache holds what was read, not less and not more."""
        return self.length == self.cache.get_seq_length()

    @property
    def length(self) -> int:
        """Return how many tokens were read."""
        return len(self.read.input_ids)

    @property
    def kv_bytes(self) -> int:
        """Return the size of the keys and values that are held, without room for more."""
        layers: Sequence[Any] = self.cache.layers
        parts = [part for layer in layers for part in (layer.keys, layer.values)]
        return sum(int(part.nbytes) for part in parts if part is not None)


@dataclass(frozen=True, eq=False)
class Question:
    """
    A prompt whose pictures were read when they came: no more than its end is laid out.

    Attributes
    ----------
    prefix
        What was read.
    keep
        Visual tokens that were kept of it, int32 [B].
    end
        Layout of what comes after it.
    whole
        Prepares all of the prompt, for those who want it at once.

    """

    prefix: Prefix
    keep: NDArray[np.int32]
    end: Layout
    whole: Callable[[], Prepared]

    @property
    def layout(self) -> Layout:
        """Return the layout of the whole prompt."""
        return self.whole().layout

    def prune(self, keep: NDArray[np.int32] | None) -> Pruned:
        """Return what is left of the whole prompt, see Prepared."""
        return self.whole().prune(keep)

    def after(self, prefix: Prefix, keep: NDArray[np.int32] | None) -> tuple[Tensor, Tensor]:
        """Return ids and positions where the pictures were read, see Prepared."""
        if prefix is not self.prefix or keep is not self.keep or not prefix.is_whole:
            return self.whole().after(prefix, keep)
        read, end = prefix.read, self.end
        return (torch.cat([read.input_ids, end.input_ids]),
                torch.cat([read.position_ids, end.position_ids], dim=1))


Prompted = Prepared | Question


class _Progress(StoppingCriteria):
    """Notes when the first token is there, and stops when asked to."""

    def __init__(self, stop: Callable[[], bool] | None) -> None:
        self._stop = stop
        self.first_token_sec: float | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        if self.first_token_sec is None:
            # Reading the token waits for the accelerator, so that the time is that of the work.
            input_ids[0, -1].item()
            self.first_token_sec = time.perf_counter()
        stopped = self._stop is not None and self._stop()
        return torch.full((len(input_ids),), stopped, device=input_ids.device)


class _Pieces(TextStreamer):
    """Hands an answer on while it is written, whole words at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: OnText) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand a piece on."""
        if text:
            self._on_text(text)


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

    """

    # The stubs of transformers do not know the generation of a model, hence Any.
    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase,
                 images: Callable[..., BatchFeature], schema: Schema | None = None) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.images = images
        self._family: Family = FAMILIES[model.config.model_type](model, tokenizer)
        self._image_id = int(model.config.image_token_id)
        self._image_token = str(tokenizer.convert_ids_to_tokens(self._image_id))
        self._special = {token.content for token in tokenizer.added_tokens_decoder.values()
                         if token.special} | {self._image_token}
        self._end_ids = _end_ids(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad_id = self._end_ids[0] if pad is None else int(pad)
        self._grids: dict[tuple[int, int], Grid] = {}
        self._grammar: Grammar | None = None
        if schema is not None:
            self.set_schema(schema)

    def set_schema(self, schema: Schema) -> None:
        """Change the JSON schema of the answers, for generations with ``in_form``."""
        self._grammar = Grammar(schema, self.tokenizer, self._end_ids,
                                self.model.config.get_text_config().vocab_size)

    @classmethod
    def load(cls, model: str | Path, *, device: str = 'auto', dtype: str = 'auto',
             attn_implementation: str = 'auto', quantization: Mapping[str, Any] | None = None,
             local_files_only: bool = True, schema: Schema | None = None) -> Vlm:
        """
        Load a checkpoint.

        Parameters
        ----------
        model
            Directory of a checkpoint, or its name on the Hugging Face hub.
        device
            Torch device; ``auto`` takes CUDA if it is there.
        dtype
            Torch dtype; ``auto`` takes that of the checkpoint.
        attn_implementation
            Such as ``sdpa`` or ``flash_attention_2``; ``auto`` leaves the choice to transformers.
        quantization
            A ``quantization_config`` of transformers, with its ``quant_method``, to quantise the
            weights while they are loaded. A checkpoint that is quantised already has its own.
        local_files_only
            Whether a name is looked up in the local cache only, never downloaded.
        schema
            JSON schema of the answers, for generations with ``in_form``.

        Raises
        ------
        VlmError
            If the checkpoint is missing, incomplete, broken, too large, of another family, or
            has a text model with which dropping tokens is not the same as masking them; if an
            option is none, or a library that it needs is not installed.

        """
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if dtype != 'auto' and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise VlmError(f'dtype {dtype!r} is none: take auto, float32, bfloat16 or float16')
        directory = _directory(str(model), local_files_only)
        # A bar that moves does not belong in the log of a node.
        disable_progress_bar()
        with _one_line(f'{model} cannot be loaded'):
            config = json.loads((directory / 'config.json').read_bytes())
            model_type = config.get('model_type')
            if model_type not in FAMILIES:
                raise VlmError(f'{model} is a {model_type} model; '
                               f'supported are: {", ".join(FAMILIES)}')
            check_family(model_type)
            inexact = why_inexact(AutoConfig.from_pretrained(directory, **_SAFE))
            if inexact is not None:
                raise VlmError(f'{model} cannot be pruned exactly: {inexact}')
            tokenizer = AutoTokenizer.from_pretrained(directory, **_SAFE)
            images = AutoImageProcessor.from_pretrained(directory, backend='pil', **_SAFE)
            options: dict[str, Any] = {'dtype': dtype, 'use_safetensors': True, **_SAFE}
            if attn_implementation != 'auto':
                options['attn_implementation'] = attn_implementation
            if quantization:
                options['quantization_config'] = AutoQuantizationConfig.from_dict(
                    dict(quantization))
            is_quantized = bool(quantization or 'quantization_config' in config)
            if is_quantized:
                # Quantised weights cannot always be moved, so they are made where they stay.
                options['device_map'] = {'': device}
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                directory, output_loading_info=True, **options)
            network, report = loaded
            if report['missing_keys']:
                raise VlmError(f'{model} lacks weights, among them {min(report["missing_keys"])}')
            network = (network if is_quantized else network.to(device)).eval()
        if tokenizer.chat_template is None:
            tokenizer.chat_template = _processor_template(directory)
        if tokenizer.chat_template is None:
            raise VlmError(f'{model} lacks a chat template')
        return cls(Path(model).name, network, tokenizer, images, schema)

    @property
    def info(self) -> dict[str, Any]:
        """Return name, family, size, type and place of the model, for reports."""
        return {'name': self.name, 'family': self.model.config.model_type,
                'parameters': self.model.num_parameters(),
                'dtype': str(self.model.dtype).removeprefix('torch.'),
                'device': str(self.model.device),
                'attention': self.model.config.get_text_config()._attn_implementation}

    def close(self) -> None:
        """Free the memory of the model, which cannot be used afterwards."""
        del self.model, self._family
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def preprocess(self, pictures: Sequence[NDArray[np.uint8]]) -> BatchFeature:
        """Return what the vision encoder takes, for RGB pictures uint8 [H, W, 3]."""
        return self.images(images=list(pictures), input_data_format='channels_last',
                           return_tensors='pt', **self._family.picture_options)

    def token_grid(self, height: int, width: int) -> Grid:
        """Return rows and columns of visual tokens for pictures of this size in pixels."""
        if (height, width) not in self._grids:
            # Asking the processor itself: its rule of scaling is not to be written twice.
            blank = np.zeros((height, width, 3), np.uint8)
            self._grids[height, width] = self._family.grids(self.preprocess([blank]))[0]
        return self._grids[height, width]

    def encode_batch(self, pixels: BatchFeature) -> list[FrameFeatures]:
        """Encode preprocessed pictures; gradients flow."""
        return self._family.encode(pixels.to(self.model.device))

    @torch.inference_mode()
    def encode(self, picture: NDArray[np.uint8]) -> FrameFeatures:
        """Encode one RGB picture uint8 [H, W, 3]; the result can be kept and used again."""
        with _memory(f'{self.name} cannot encode'):
            return self.encode_batch(self.preprocess([picture]))[0]

    def layout(self, grids: Sequence[Grid], captions: Sequence[str], prompt: Prompt) -> Layout:
        """
        Lay a prompt out, with all visual tokens of every frame.

        Parameters
        ----------
        grids
            Rows and columns of visual tokens of each frame.
        captions
            Text before each frame.
        prompt
            What is asked.

        Raises
        ------
        VlmError
            If there are not as many captions as frames, and as :meth:`texts` does.

        """
        if not grids:
            raise VlmError('a prompt needs at least one frame')
        if len(grids) != len(captions):
            raise VlmError(f'{len(grids)} frames, {len(captions)} captions')
        return self.lay_out(self.texts(captions, prompt), grids)

    def texts(self, captions: Sequence[str], prompt: Prompt) -> list[str]:
        """
        Return what stands before each picture of a prompt, marks included, and after the last.

        Parameters
        ----------
        captions, prompt
            As for :meth:`layout`.

        Raises
        ------
        VlmError
            If a text holds a special token of the model, or the chat template of the checkpoint
            does not place the pictures or the texts.

        """
        text, image = self._text(captions, prompt), self._image_token
        texts = text.replace(image, self._family.frame(image)).split(image)
        if len(texts) != len(captions) + 1:
            raise VlmError(f'{len(captions)} captions, but the chat template of {self.name} '
                           f'places {len(texts) - 1} pictures')
        return texts

    def lay_out(self, texts: Sequence[str], grids: Sequence[Grid], position: int = 0) -> Layout:
        """
        Lay out a prompt, or a part of one that begins after a picture.

        Parameters
        ----------
        texts
            What stands before each frame, and after the last unless another follows.
        grids
            Rows and columns of visual tokens of each frame.
        position
            Of the first token; above 0 where a picture comes before.

        """
        cells = [rows * columns for rows, columns in grids]
        pinned = self._family.pinned
        text = ''.join(text + self._image_token * count for text, count in zip(
            texts, [*(count + pinned for count in cells), 0]))
        # A picture ends what the tokenizer takes together; of the one before only that is said.
        before = [self._image_token] if position else []
        ids = torch.tensor(self.tokenizer(''.join([*before, text]), add_special_tokens=False)[
            'input_ids'], dtype=torch.int64)[len(before):]
        is_image = ids == self._image_id
        slots = is_image.nonzero()[:, 0]
        in_grid = torch.tensor([cell < count for count in cells for cell in range(count + pinned)],
                               dtype=torch.bool)
        return Layout(ids, self._family.positions(ids, is_image, grids) + position,
                      slots[in_grid], slots)

    def _text(self, captions: Sequence[str], prompt: Prompt) -> str:
        """Return the prompt as the chat template writes it, an image token for each picture."""
        texts = [prompt.system, *captions, prompt.instruction]
        self._refuse_special_tokens(texts)
        content: list[dict[str, str]] = []
        for caption in captions:
            content += [{'type': 'text', 'text': caption}, {'type': 'image'}]
        content.append({'type': 'text', 'text': prompt.instruction})
        # The system text as a list of parts, too: some templates write nothing of a plain string.
        messages: list[dict[str, Any]] = [
            {'role': 'system', 'content': [{'type': 'text', 'text': prompt.system}]},
            {'role': 'user', 'content': content}]
        with _one_line(f'the chat template of {self.name} fails'):
            written = str(self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True))
        for text in texts:
            if text.strip() not in written:
                raise VlmError(f'the chat template of {self.name} leaves out {text[:40]!r}')
        return written

    def _refuse_special_tokens(self, texts: Sequence[str]) -> None:
        for token in self._special:
            if any(token in text for text in texts):
                raise VlmError(f'the prompt holds the special token {token}')

    def prepare(self, features: Sequence[FrameFeatures], captions: Sequence[str],
                prompt: Prompt) -> Prepared:
        """Lay a prompt out and put the features of the frames, oldest first, in its slots."""
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
        pruned = [one.prune(keep) for one, keep in zip(prepared, keeps, strict=True)]
        return {
            **self._padded([(one.input_ids, one.position_ids) for one in pruned], answers),
            **self._visual(
                torch.cat([one.tokens for one in pruned]),
                [torch.cat(level) for level in zip(*(one.deepstack for one in pruned),
                                                   strict=True)])}

    def _padded(self, prompts: Sequence[tuple[Tensor, Tensor]],
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
            'input_ids': _pad(ids_rows, self._pad_id, pad_left),
            # Always given: from positions with gaps alone, transformers infers packed sequences.
            'attention_mask': _pad([torch.ones_like(ids) for ids in ids_rows], 0, pad_left),
            # Models that number their tokens plainly want [B, S], not [1, B, S].
            'position_ids': position_ids[0] if len(position_ids) == 1 else position_ids,
        }
        if answers is not None:
            inputs['labels'] = _pad(label_rows, _IGNORED_LABEL, pad_left)
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    def _visual(self, tokens: Tensor, deepstack: Sequence[Tensor]) -> dict[str, Any]:
        """Return the argument of the model for features [I, D] of pictures."""
        return {'mm_encoder_outputs': {'image': self._family.encoder_outputs(tokens, deepstack)}}

    def _answer_ids(self, answer: str) -> Tensor:
        ids = self.tokenizer(answer, add_special_tokens=False)['input_ids']
        return torch.tensor([*ids, self._end_ids[0]])

    @torch.inference_mode()
    def logits(self, prepared: Prompted, keep: NDArray[np.int32] | None = None) -> Tensor:
        """Return the logits [S', V] of every token of the pruned prompt."""
        output = self.model(**self.batch([prepared], [keep]), use_cache=False)
        return output.logits[0]

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
        if begun is not None and not begun.begins(to_read):
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
                           growing_cache(self.model.config.get_text_config(decoder=True)))
        read = begun.read.then(part)
        device, positions = self.model.device, part.position_ids[:, None]
        visual = self._visual(part.tokens, part.deepstack) if len(part.tokens) else {}
        with _memory(f'{self.name} cannot read the pictures'):
            try:
                self.model(
                    input_ids=part.input_ids[None].to(device),
                    position_ids=(positions[0] if len(positions) == 1 else positions).to(device),
                    attention_mask=torch.ones_like(read.input_ids[None], device=device),
                    past_key_values=begun.cache, use_cache=True, logits_to_keep=1, **visual)
            except BaseException:
                crop(begun.cache, begun.length)
                raise
        return Prefix(read, begun.cache)

    def generate(
        self,
        prepared: Prompted,
        keep: NDArray[np.int32] | None = None,
        max_new_tokens: int = 160,
        stop: Callable[[], bool] | None = None,
        streamer: BaseStreamer | None = None,
        prefix: Prefix | None = None,
        draft: Sequence[int] = (),
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
        draft
            Tokens of an answer that this one may be like: makes it faster, not another one.
        options
            Further options of the generation, see transformers.

        Raises
        ------
        VlmError
            If the keep list does not fit, the prompt does not begin with the prefix, or memory
            runs out.

        """
        return self._generate([prepared], [keep], max_new_tokens, stop, prefix, draft,
                              streamer=streamer, **options)[0]

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
        draft: Sequence[int] = (),
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
        prefix, draft
            As in generate, if there is one prompt only.

        Raises
        ------
        VlmError
            As generate does, or if no form was given.

        """
        if in_form:
            if self._grammar is None:
                raise VlmError(f'{self.name} was loaded without a form for its answers')
            options['logits_processor'] = LogitsProcessorList([
                self._grammar.processor(len(prepared)), *options.get('logits_processor', ())])
        if on_text is not None:
            options['streamer'] = _Pieces(self.tokenizer, on_text)
        return self._generate(prepared, keeps, max_new_tokens, stop, prefix, draft, **options)

    @torch.inference_mode()
    def _generate(
        self, prepared: Sequence[Prompted], keeps: Sequence[NDArray[np.int32] | None],
        max_new_tokens: int, stop: Callable[[], bool] | None, prefix: Prefix | None,
        draft: Sequence[int], **options: Any,
    ) -> list[Generation]:
        progress = _Progress(stop)
        greedy = {'do_sample': False, 'temperature': None, 'top_p': None, 'top_k': None}
        start_sec = time.perf_counter()
        inputs: dict[str, Any]
        if prefix is None:
            inputs = self.batch(prepared, keeps)
        else:
            (one,), (kept,) = prepared, keeps
            inputs = {**self._padded([one.after(prefix, kept)]), 'past_key_values': prefix.cache}
        drafting = None
        if draft and len(prepared) == 1 and not options.get('do_sample'):
            drafting = options['custom_generate'] = Drafting(
                draft, self._end_ids, options.get('streamer'))
        with _memory(f'{self.name} cannot generate'), _given_back(prefix):
            output = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, pad_token_id=self._pad_id,
                eos_token_id=self._end_ids, stopping_criteria=StoppingCriteriaList([progress]),
                **{**greedy, **options}).cpu()
        end_sec = time.perf_counter()
        first_sec = progress.first_token_sec or end_sec
        latency_ms = {'prefill': (first_sec - start_sec) * 1e3,
                      'decode': (end_sec - first_sec) * 1e3}
        width = inputs['input_ids'].shape[1]
        lengths = inputs['attention_mask'].sum(1).tolist()
        visual = [len(one.layout.visual_slots) if keep is None else len(keep)
                  for one, keep in zip(prepared, keeps)]
        found = [self._generation(written, length, count, latency_ms) for written, length, count
                 in zip(output[:, width:].tolist(), lengths, visual, strict=True)]
        return found if drafting is None else [replace(
            found[0], drafted=drafting.drafted, accepted=drafting.accepted)]

    def _generation(self, written: list[int], prompt_tokens: int, visual_tokens: int,
                    latency_ms: dict[str, float]) -> Generation:
        ends = [index for index, token in enumerate(written) if token in self._end_ids]
        token_ids = written[:ends[0] + 1] if ends else written
        return Generation(
            text=str(self.tokenizer.decode(token_ids, skip_special_tokens=True)),
            token_ids=tuple(token_ids), prompt_tokens=prompt_tokens,
            visual_tokens=visual_tokens, latency_ms=dict(latency_ms))


@contextmanager
def _given_back(prefix: Prefix | None) -> Iterator[None]:
    """Lend the cache of a prefix: what an answer adds to it is gone afterwards."""
    try:
        yield
    finally:
        if prefix is not None:
            crop(prefix.cache, prefix.length)


def _keep_tensor(keep: NDArray[np.int32] | None, total: int) -> Tensor:
    if keep is None:
        return torch.arange(total)
    kept = torch.as_tensor(np.asarray(keep, np.int64))
    if kept.numel() and (kept[0] < 0 or kept[-1] >= total or (kept.diff() <= 0).any()):
        raise VlmError(f'keep list is not ascending within 0..{total - 1}')
    return kept


def _pad(rows: Sequence[Tensor], value: int, left: bool) -> Tensor:
    """Stack rows [..., S] of different length, filled up with a value on one side."""
    width = max(row.shape[-1] for row in rows)
    return torch.stack([
        torch.nn.functional.pad(
            row, (width - row.shape[-1], 0) if left else (0, width - row.shape[-1]), value=value)
        for row in rows])


def _end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer, that of the chat form first."""
    found = model.generation_config.eos_token_id if model.generation_config else None
    ids = [] if found is None else list(found) if isinstance(found, list) else [found]
    first = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if not first + ids:
        raise VlmError('neither the tokenizer nor the generation config names an end token')
    return list(dict.fromkeys(int(token) for token in first + ids))


def _directory(model: str, local_files_only: bool) -> Path:
    """Return where the files of a checkpoint are, and see that none is missing."""
    directory = Path(model).expanduser()
    if not directory.is_dir():
        try:
            directory = Path(snapshot_download(
                model, local_files_only=local_files_only,
                allow_patterns=['*.json', '*.jinja', '*.safetensors']))
        except (OSError, ValueError) as error:
            where = 'the local Hugging Face cache' if local_files_only else 'the Hugging Face hub'
            raise VlmError(f'model {model!r} is neither a directory nor in {where}') from error
    for name in _FILES:
        if not (directory / name).is_file():
            raise VlmError(f'{model} lacks {name}')
    if not any((directory / name).is_file() for name in _WEIGHTS):
        raise VlmError(f'{model} lacks {_WEIGHTS[0]}')
    return directory


def _processor_template(directory: Path) -> str | None:
    """Return the chat template of checkpoints that keep it beside the tokenizer."""
    path = directory / 'chat_template.json'
    if not path.is_file():
        return None
    with _one_line(f'{path} cannot be read'):
        return str(json.loads(path.read_text(encoding='utf-8'))['chat_template'])


@contextmanager
def _memory(what: str) -> Iterator[None]:
    """Turn a lack of memory, of the accelerator or of the computer, into a VlmError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has a class for accelerators only; on the CPU it is a RuntimeError like any.
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if known or "can't allocate memory" in str(error):
            raise VlmError(f'{what}: out of memory') from error
        raise


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn whatever goes wrong while files are read into a VlmError of one line."""
    try:
        with _memory(what):
            yield
    except VlmError:
        raise
    except Exception as error:  # the libraries below raise about anything over a broken file
        reason = ' '.join(str(error).split())[:200]
        raise VlmError(f'{what}: {reason or type(error).__name__}') from error
