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
from dataclasses import dataclass
import json
from pathlib import Path
import time
from typing import Any

from huggingface_hub import snapshot_download
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BatchFeature,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer
from transformers.utils.logging import disable_progress_bar

from vts_ros.vlm.families import FAMILIES, Family, FrameFeatures, Grid
from vts_ros.vlm.prompts import Prompt

#: What every checkpoint needs beside its weights. Without the tokenizer's files transformers
#: does not fail, it makes up another tokenizer.
_FILES = ('config.json', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json')
_WEIGHTS = ('model.safetensors', 'model.safetensors.index.json')
_IGNORED_LABEL = -100
#: What is on the disk is all that is used, and none of it is run.
_SAFE = {'local_files_only': True, 'trust_remote_code': False}


class VlmError(RuntimeError):
    """A model that cannot be loaded or used as asked; the message says why in one line."""


@dataclass(frozen=True, eq=False)
class Layout:
    """
    A prompt with all of its visual tokens: what each token is and where it stands.

    Attributes
    ----------
    input_ids
        Token ids [S], int64.
    position_ids
        Positions [3, S] (time, height, width) or [1, S], as the model's rotary embedding takes.
    visual_slots
        Where the visual tokens are in the prompt [T * N], frame-major, row-major.

    """

    input_ids: Tensor
    position_ids: Tensor
    visual_slots: Tensor

    def survivors(self, keep: Tensor) -> Tensor:
        """Return which prompt tokens stay [S'] when these visual tokens [B] are kept."""
        stays = torch.ones_like(self.input_ids, dtype=torch.bool)
        stays[self.visual_slots] = False
        stays[self.visual_slots[keep]] = True
        return stays.nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A laid-out prompt with the features [T * N, D] that belong in its visual slots."""

    layout: Layout
    tokens: Tensor
    deepstack: tuple[Tensor, ...]

    @classmethod
    def join(cls, layout: Layout, features: Sequence[FrameFeatures]) -> Prepared:
        """Put the features of the frames, in the order of the layout, in its slots."""
        levels = zip(*(frame.deepstack for frame in features), strict=True)
        return cls(layout, torch.cat([frame.tokens for frame in features]),
                   tuple(torch.cat(level) for level in levels))


@dataclass(frozen=True)
class Generation:
    """
    What the model wrote.

    Attributes
    ----------
    text
        Decoded, without special tokens.
    token_ids
        As generated, the end token included.
    prompt_tokens, visual_tokens
        Length of the prompt after sparsification, and how many of it were visual.
    latency_ms
        ``prefill`` until the first token, ``decode`` for the rest; of the whole batch.

    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    visual_tokens: int
    latency_ms: dict[str, float]


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
                 images: Callable[..., BatchFeature]) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.images = images
        self._family: Family = FAMILIES[model.config.model_type](model)
        self._image_token = int(model.config.image_token_id)
        self._special = {token.content for token in tokenizer.added_tokens_decoder.values()
                         if token.special}
        self._end_ids = _end_ids(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad_id = self._end_ids[0] if pad is None else int(pad)
        self._grids: dict[tuple[int, int], Grid] = {}

    @classmethod
    def load(cls, model: str | Path, *, device: str = 'auto', dtype: str = 'auto',
             local_files_only: bool = True) -> Vlm:
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
        local_files_only
            Whether a name is looked up in the local cache only, never downloaded.

        Raises
        ------
        VlmError
            If the checkpoint is missing, incomplete, broken, too large or of another family.

        """
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        directory = _directory(str(model), local_files_only)
        # A bar that moves does not belong in the log of a node.
        disable_progress_bar()
        with _one_line(f'{model} cannot be loaded'):
            model_type = json.loads((directory / 'config.json').read_bytes()).get('model_type')
            if model_type not in FAMILIES:
                raise VlmError(f'{model} is a {model_type} model; '
                               f'supported are: {", ".join(FAMILIES)}')
            tokenizer = AutoTokenizer.from_pretrained(directory, **_SAFE)
            images = AutoImageProcessor.from_pretrained(directory, backend='pil', **_SAFE)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                directory, dtype=dtype, use_safetensors=True, output_loading_info=True, **_SAFE)
            network, report = loaded
            if report['missing_keys']:
                raise VlmError(f'{model} lacks weights, among them {min(report["missing_keys"])}')
            network = network.to(device).eval()
        if tokenizer.chat_template is None:
            tokenizer.chat_template = _processor_template(directory)
        if tokenizer.chat_template is None:
            raise VlmError(f'{model} lacks a chat template')
        return cls(Path(model).name, network, tokenizer, images)

    @property
    def info(self) -> dict[str, Any]:
        """Return name, family, size, type and place of the model, for reports."""
        return {'name': self.name, 'family': self.model.config.model_type,
                'parameters': self.model.num_parameters(),
                'dtype': str(self.model.dtype).removeprefix('torch.'),
                'device': str(self.model.device)}

    def preprocess(self, pictures: Sequence[NDArray[np.uint8]]) -> BatchFeature:
        """Return what the vision encoder takes, for RGB pictures uint8 [H, W, 3]."""
        return self.images(images=list(pictures), input_data_format='channels_last',
                           return_tensors='pt')

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
            If a text holds a special token of the model, or the chat template of the checkpoint
            does not place the pictures.

        """
        if not grids:
            raise VlmError('a prompt needs at least one frame')
        content: list[dict[str, str]] = []
        for caption in captions:
            content += [{'type': 'text', 'text': caption}, {'type': 'image'}]
        content.append({'type': 'text', 'text': prompt.instruction})
        self._refuse_special_tokens([prompt.system, prompt.instruction, *captions])
        messages: list[dict[str, Any]] = [{'role': 'system', 'content': prompt.system},
                                          {'role': 'user', 'content': content}]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor(self.tokenizer(text, add_special_tokens=False)['input_ids'])
        is_image = ids == self._image_token
        if int(is_image.sum()) != len(grids) or len(captions) != len(grids):
            raise VlmError(f'{len(grids)} frames, {len(captions)} captions, but the chat '
                           f'template of {self.name} places {int(is_image.sum())} pictures')
        repeats = torch.ones_like(ids)
        repeats[is_image] = torch.tensor([rows * columns for rows, columns in grids])
        ids = ids.repeat_interleave(repeats)
        visual = ids == self._image_token
        return Layout(ids, self._family.positions(ids, visual, grids), visual.nonzero()[:, 0])

    def _refuse_special_tokens(self, texts: Sequence[str]) -> None:
        for token in self._special:
            if any(token in text for text in texts):
                raise VlmError(f'the prompt holds the special token {token}')

    def prepare(self, features: Sequence[FrameFeatures], captions: Sequence[str],
                prompt: Prompt) -> Prepared:
        """Lay a prompt out and put the features of the frames, oldest first, in its slots."""
        return Prepared.join(self.layout([frame.grid for frame in features], captions, prompt),
                             features)

    def batch(self, prepared: Sequence[Prepared], keeps: Sequence[NDArray[np.int32] | None],
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
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        tokens: list[Tensor] = []
        deepstack: list[tuple[Tensor, ...]] = []
        for index, (one, keep) in enumerate(zip(prepared, keeps, strict=True)):
            kept = _keep_tensor(keep, len(one.tokens))
            stays = one.layout.survivors(kept)
            ids, positions = one.layout.input_ids[stays], one.layout.position_ids[:, stays]
            answer = self._answer_ids(answers[index]) if answers is not None else ids[:0]
            steps = torch.arange(1, len(answer) + 1)
            rows.append((torch.cat([ids, answer]),
                         torch.cat([positions, positions[:, -1:] + steps], dim=1),
                         torch.cat([torch.full_like(ids, _IGNORED_LABEL), answer])))
            kept = kept.to(one.tokens.device)
            tokens.append(one.tokens[kept])
            deepstack.append(tuple(level[kept] for level in one.deepstack))
        pad_left = answers is None
        ids_rows, position_rows, label_rows = zip(*rows, strict=True)
        inputs: dict[str, Any] = {
            'input_ids': _pad(ids_rows, self._pad_id, pad_left),
            # Always given: from positions with gaps alone, transformers infers packed sequences.
            'attention_mask': _pad([torch.ones_like(ids) for ids in ids_rows], 0, pad_left),
            'position_ids': _pad(position_rows, 0, pad_left).transpose(0, 1),
        }
        if answers is not None:
            inputs['labels'] = _pad(label_rows, _IGNORED_LABEL, pad_left)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        inputs['mm_encoder_outputs'] = {'image': self._family.encoder_outputs(
            torch.cat(tokens), [torch.cat(level) for level in zip(*deepstack, strict=True)])}
        return inputs

    def _answer_ids(self, answer: str) -> Tensor:
        ids = self.tokenizer(answer, add_special_tokens=False)['input_ids']
        return torch.tensor([*ids, self._end_ids[0]])

    @torch.inference_mode()
    def logits(self, prepared: Prepared, keep: NDArray[np.int32] | None = None) -> Tensor:
        """Return the logits [S', V] of every token of the pruned prompt."""
        output = self.model(**self.batch([prepared], [keep]), use_cache=False)
        return output.logits[0]

    def generate(
        self,
        prepared: Prepared,
        keep: NDArray[np.int32] | None = None,
        max_new_tokens: int = 160,
        stop: Callable[[], bool] | None = None,
        streamer: BaseStreamer | None = None,
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
        options
            Further options of the generation, see transformers.

        Raises
        ------
        VlmError
            If the keep list does not fit, or memory runs out.

        """
        return self.generate_batch([prepared], [keep], max_new_tokens, stop,
                                   streamer=streamer, **options)[0]

    @torch.inference_mode()
    def generate_batch(
        self,
        prepared: Sequence[Prepared],
        keeps: Sequence[NDArray[np.int32] | None],
        max_new_tokens: int = 160,
        stop: Callable[[], bool] | None = None,
        **options: Any,
    ) -> list[Generation]:
        """Let the model answer several prompts at once; see generate."""
        progress = _Progress(stop)
        greedy = {'do_sample': False, 'temperature': None, 'top_p': None, 'top_k': None}
        start_sec = time.perf_counter()
        inputs = self.batch(prepared, keeps)
        with _memory(f'{self.name} cannot generate'):
            output = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, pad_token_id=self._pad_id,
                eos_token_id=self._end_ids, stopping_criteria=StoppingCriteriaList([progress]),
                **{**greedy, **options}).cpu()
        end_sec = time.perf_counter()
        first_sec = progress.first_token_sec or end_sec
        latency_ms = {'prefill': (first_sec - start_sec) * 1e3,
                      'decode': (end_sec - first_sec) * 1e3}
        prompts = inputs['input_ids'].cpu()
        lengths = inputs['attention_mask'].sum(1).tolist()
        return [self._generation(written, length, prompt, latency_ms) for written, length, prompt
                in zip(output[:, prompts.shape[1]:].tolist(), lengths, prompts, strict=True)]

    def _generation(self, written: list[int], prompt_tokens: int, prompt: Tensor,
                    latency_ms: dict[str, float]) -> Generation:
        ends = [index for index, token in enumerate(written) if token in self._end_ids]
        token_ids = written[:ends[0] + 1] if ends else written
        return Generation(
            text=str(self.tokenizer.decode(token_ids, skip_special_tokens=True)),
            token_ids=tuple(token_ids), prompt_tokens=prompt_tokens,
            visual_tokens=int((prompt == self._image_token).sum()), latency_ms=dict(latency_ms))


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
