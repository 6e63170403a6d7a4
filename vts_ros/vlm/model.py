# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One interface to Hugging Face vision language models that takes a list of visual tokens to keep.

The whole prompt is laid out first, with the position of every token; what is dropped is then
taken out of ids, positions and features alike. So survivors keep their places, and the result is
that of the full prompt with the dropped tokens masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import (
    BatchFeature,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
)
from transformers.generation.streamers import BaseStreamer

from vts_ros.errors import VlmError
from vts_ros.vlm.drafting import Drafting
from vts_ros.vlm.families import FAMILIES, Family, FrameFeatures, Grid
from vts_ros.vlm.kv_cache import crop, growing_cache
from vts_ros.vlm.language_model import Generation, OnText
from vts_ros.vlm.loading import in_one_line, load_checkpoint, out_of_memory_told
from vts_ros.vlm.prompt_layout import (
    Layout,
    Prefix,
    Prepared,
    Prompted,
    Pruned,
    Read,
)
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.structured_output import Grammar, Schema

_IGNORED_LABEL = -100


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
    tokens_per_frame
        Most visual tokens of a picture; 0 where its image processor alone decides.

    """

    # The stubs of transformers do not know the generation of a model, hence Any.
    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase,
                 images: Callable[..., BatchFeature], schema: Schema | None = None,
                 tokens_per_frame: int = 0) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.images = images
        self.tokens_per_frame = tokens_per_frame
        self._family: Family = FAMILIES[model.config.model_type](model, tokenizer)
        self._picture_options = {
            **self._family.picture_options,
            **(self._family.limited(images, tokens_per_frame) if tokens_per_frame else {})}
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
    def load(cls, model: str | Path, *, schema: Schema | None = None, tokens_per_frame: int = 0,
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
        options
            Those of :func:`vts_ros.vlm.loading.load_checkpoint`, which also says what is raised.

        """
        return cls(Path(model).name, *load_checkpoint(model, **options), schema, tokens_per_frame)

    @property
    def info(self) -> dict[str, Any]:
        """Return name, family, size, type and place of the model, for reports."""
        return {'name': self.name, 'family': self.model.config.model_type,
                'parameters': self.model.num_parameters(),
                'weights_mb': round(1e-6 * sum(one.nbytes for one in self.model.parameters())),
                'dtype': str(self.model.dtype).removeprefix('torch.'),
                'device': str(self.model.device),
                'attention': self.model.config.get_text_config()._attn_implementation}

    @property
    def pinned(self) -> int:
        """Return how many tokens of a picture stand beside its grid and are never dropped."""
        return self._family.pinned

    def close(self) -> None:
        """Free the memory of the model, which cannot be used afterwards."""
        del self.model, self._family
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

    def encode_batch(self, pixels: BatchFeature) -> list[FrameFeatures]:
        """Encode preprocessed pictures; gradients flow."""
        return self._family.encode(pixels.to(self.model.device))

    @torch.inference_mode()
    def encode(self, picture: NDArray[np.uint8]) -> FrameFeatures:
        """Encode one RGB picture uint8 [H, W, 3]; the result can be kept and used again."""
        with out_of_memory_told(f'{self.name} cannot encode'):
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
        with in_one_line(f'the chat template of {self.name} fails'):
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
        with out_of_memory_told(f'{self.name} cannot read the pictures'):
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
        with out_of_memory_told(f'{self.name} cannot generate'), _given_back(prefix):
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
