# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Write a prompt as a family and its chat template have it, and lay out its tokens.

Every visual token gets its place here, whether it is kept later or not.
"""

from __future__ import annotations

from collections.abc import Sequence
import itertools
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vts_ros.errors import VlmError
from vts_ros.vlm.families import Family, Grid, Span, VideoFamily
from vts_ros.vlm.loading import in_one_line
from vts_ros.vlm.prompt_layout import BEGINNING, Layout, Place
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.video_steps import VideoStep

#: What is said of each frame, or of each step of a video.
Captions = Sequence[str] | Sequence[VideoStep]


class PromptWriter:
    """
    Writes the prompts of a model.

    Parameters
    ----------
    name
        Of the model, for messages.
    tokenizer
        With the chat template.
    family
        How pictures stand in a prompt.
    visual_id
        Token that stands for a visual token.

    """

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase, family: Family,
                 visual_id: int) -> None:
        self._name, self._tokenizer, self._family = name, tokenizer, family
        self._visual_id = visual_id
        self._visual_token = str(tokenizer.convert_ids_to_tokens(visual_id))
        self._special = {token.content for token in tokenizer.added_tokens_decoder.values()
                         if token.special} | {self._visual_token}

    def layout(self, grids: Sequence[Grid], captions: Captions, prompt: Prompt) -> Layout:
        """
        Lay a prompt out, with all visual tokens of every step.

        Parameters
        ----------
        grids
            Rows and columns of visual tokens of each step.
        captions
            Text before each frame; of steps of a video what :func:`video_steps` says.
        prompt
            What is asked.

        Raises
        ------
        VlmError
            If there are not as many captions as grids, and as :meth:`texts` does.

        """
        if not grids:
            raise VlmError('a prompt needs at least one frame')
        if len(grids) != len(captions):
            raise VlmError(f'{len(grids)} frames, {len(captions)} captions')
        ends = [not (isinstance(later, VideoStep) and not later.begins)
                for later in (*captions[1:], None)]
        return self.lay_out(self.texts(captions, prompt), grids, ends=ends)

    def texts(self, captions: Captions, prompt: Prompt) -> list[str]:
        """
        Return what stands before each step of a prompt, marks included, and after the last.

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
        steps = [caption for caption in captions if isinstance(caption, VideoStep)]
        if self._family.modality == 'video':
            return self._texts_of_video(steps, prompt)
        return self._written([str(caption) for caption in captions], prompt)

    def _texts_of_video(self, steps: Sequence[VideoStep], prompt: Prompt) -> list[str]:
        family: VideoFamily = self._family  # type: ignore[assignment]
        first, *others = self._written(
            [step.title(family.tells_time) for step in steps if step.begins], prompt)
        begins = [index for index, step in enumerate(steps) if step.begins]
        if family.is_alone and len(begins) > 1:
            raise VlmError(f'{self._name} reads one video at a time, so that of one camera: set '
                           'vlm.frames_as to images')
        texts = [first]
        for begin, end, after in zip(begins, [*begins[1:], len(steps)], others):
            times = [step.time_sec for step in steps[begin:end]]
            opened, closed = family.around_video(times)
            texts[-1] += opened
            for place, time_sec in enumerate(times):
                before, behind = family.around_step(place, time_sec)
                texts[-1] += before
                texts.append(behind)
            texts[-1] += closed + after
        return texts

    def _written(self, captions: Sequence[str], prompt: Prompt) -> list[str]:
        """Return what stands before each picture or video, and after the last."""
        text, mark = self._text(captions, prompt), self._visual_token
        texts = text.replace(self._family.placeholder or mark,
                             self._family.frame(mark)).split(mark)
        if len(texts) != len(captions) + 1:
            raise VlmError(f'{len(captions)} captions, but the chat template of {self._name} '
                           f'places {len(texts) - 1} '
                           f'{"pictures" if self._family.modality == "image" else "videos"}')
        return texts

    def lay_out(self, texts: Sequence[str], grids: Sequence[Grid], place: Place = BEGINNING,
                ends: Sequence[bool] = ()) -> Layout:
        """
        Lay out a prompt, or a part of one that begins after a picture.

        Parameters
        ----------
        texts
            What stands before each step, and after the last unless another follows.
        grids
            Rows and columns of visual tokens of each step.
        place
            Where it goes on; the default is the beginning.
        ends
            Which steps end a picture or a video; all if empty.

        """
        family = self._family
        ends = tuple(ends) or (True,) * len(grids)
        pictures = [family.image_tokens(self._visual_token, grid)
                    + self._visual_token * (family.pinned if is_end else 0)
                    for grid, is_end in zip(grids, ends)]
        text = ''.join(itertools.chain.from_iterable(
            itertools.zip_longest(texts, pictures, fillvalue='')))
        # A picture ends what the tokenizer takes together; of the one before only that is said.
        before = [self._visual_token] if place.position else []
        ids = torch.tensor(self._tokenizer(''.join([*before, text]), add_special_tokens=False)[
            'input_ids'], dtype=torch.int64)[len(before):]
        is_visual = ids == self._visual_id
        slots = is_visual.nonzero()[:, 0]
        in_grid = torch.tensor(
            [is_cell for (rows, columns), is_end in zip(grids, ends) for is_cell in (
                *[False] * family.whole, *[True] * (rows * columns),
                *[False] * (family.pinned if is_end else 0))], dtype=torch.bool)
        positions, after = self._positions(ids, is_visual, texts, grids, place)
        return Layout(ids, positions, slots[in_grid], slots, after, family.tail, ends)

    def _positions(self, ids: Tensor, is_visual: Tensor, texts: Sequence[str],
                   grids: Sequence[Grid], place: Place) -> tuple[Tensor, Place]:
        """Return the positions [..., S] of a part, and where what comes next goes on."""
        is_video = self._family.modality == 'video'
        # Steps without text between them are one video: so the model counts them, too.
        goes_on = bool(place.video and grids and not texts[0])
        known, begin = (place.video, place.begin) if goes_on else ((), place.position)
        spans: list[Span] = [(len(known), *known[0])] if known else []
        for index, (text, grid) in enumerate(zip(texts, grids)):
            if is_video and not text and (index or goes_on):
                steps, *of_video = spans[-1]
                if tuple(of_video) != grid:
                    raise VlmError('pictures of different sizes cannot be one video')
                spans[-1] = (steps + 1, *grid)
            else:
                spans.append((1, *grid))
        # Once more what came before of a video that goes on, and a text token of what comes next.
        before = sum(rows * columns for rows, columns in known)
        positions = begin + self._family.positions(
            torch.cat([ids.new_full((before,), self._visual_id), ids, ids.new_zeros(1)]),
            torch.cat([is_visual.new_ones(before), is_visual, is_visual.new_zeros(1)]), spans)
        after = Place(int(positions[0, -1]))
        if is_video and len(ids) and bool(is_visual[-1]):
            steps, rows, columns = spans[-1]
            after = after._replace(video=((rows, columns),) * steps, begin=int(
                positions[0, -1 - steps * rows * columns]))
        return positions[:, before:-1], after

    def _text(self, captions: Sequence[str], prompt: Prompt) -> str:
        """Return the prompt as the chat template writes it, a token for each picture or video."""
        texts = [prompt.system, prompt.before, *captions, prompt.instruction]
        self._refuse_special_tokens(texts)
        content = [{'type': 'text', 'text': f'{prompt.before}\n'}] if prompt.before else []
        for caption in captions:
            if caption or self._family.modality == 'image':
                content.append({'type': 'text', 'text': caption})
            content.append({'type': self._family.modality})
        if prompt.instruction or not prompt.before:
            content.append({'type': 'text', 'text': prompt.instruction})
        # The system text as a list of parts, too: some templates write nothing of a plain string.
        messages: list[dict[str, Any]] = [{'role': 'user', 'content': content}]
        if prompt.system:
            messages.insert(
                0, {'role': 'system', 'content': [{'type': 'text', 'text': prompt.system}]})
        with in_one_line(f'the chat template of {self._name} fails'):
            written = str(self._tokenizer.apply_chat_template(
                messages, chat_template=self._family.chat_template, tokenize=False,
                add_generation_prompt=True))
        if not written.startswith(self._family.opening):
            written = self._family.opening + written
        for text in texts:
            if text.strip() not in written:
                raise VlmError(f'the chat template of {self._name} leaves out {text[:40]!r}')
        return written

    def _refuse_special_tokens(self, texts: Sequence[str]) -> None:
        for token in self._special:
            if any(token in text for text in texts):
                raise VlmError(f'the prompt holds the special token {token}')
