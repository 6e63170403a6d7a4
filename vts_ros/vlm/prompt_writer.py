# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Write a prompt as a family and its chat template have it, and lay out its tokens.

Every visual token gets its place here, whether it is kept later or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from vts_ros.errors import VlmError
from vts_ros.vlm.families import Family, Grid
from vts_ros.vlm.loading import in_one_line
from vts_ros.vlm.prompt_layout import Layout
from vts_ros.vlm.prompts import Prompt


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
    image_id
        Token that stands for a visual token.

    """

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase, family: Family,
                 image_id: int) -> None:
        self._name, self._tokenizer, self._family = name, tokenizer, family
        self._image_id = image_id
        self._image_token = str(tokenizer.convert_ids_to_tokens(image_id))
        self._special = {token.content for token in tokenizer.added_tokens_decoder.values()
                         if token.special} | {self._image_token}

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
        placeholder = self._family.placeholder or image
        texts = text.replace(placeholder, self._family.frame(image)).split(image)
        if len(texts) != len(captions) + 1:
            raise VlmError(f'{len(captions)} captions, but the chat template of {self._name} '
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
        ids = torch.tensor(self._tokenizer(''.join([*before, text]), add_special_tokens=False)[
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
        messages: list[dict[str, Any]] = [{'role': 'user', 'content': content}]
        if prompt.system:
            messages.insert(
                0, {'role': 'system', 'content': [{'type': 'text', 'text': prompt.system}]})
        with in_one_line(f'the chat template of {self._name} fails'):
            written = str(self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True))
        for text in texts:
            if text.strip() not in written:
                raise VlmError(f'the chat template of {self._name} leaves out {text[:40]!r}')
        return written

    def _refuse_special_tokens(self, texts: Sequence[str]) -> None:
        for token in self._special:
            if any(token in text for text in texts):
                raise VlmError(f'the prompt holds the special token {token}')
