# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A vision language model in another process or box, behind the protocol of OpenAI.

Such a server takes pictures, not visual tokens, and makes as many tokens of a picture as it has
pixels. So each frame is sent whole, but scaled down to the share of its cells that is kept, and
frames of which nothing is kept are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import logging
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import VlmError
from vts_ros.vlm.boxes import Size
from vts_ros.vlm.chat_client import ChatClient, LateAnswer, Reply
from vts_ros.vlm.conventions import Convention
from vts_ros.vlm.language_model import Generation, OnText
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.pruning import Pruning
from vts_ros.vlm.served_families import served_family
from vts_ros.vlm.served_prompt import resized, ServedFrame, ServedPrompt

#: Larger pictures are scaled down: servers do the same, after the transfer.
MAX_SIDE_PX = 1280
#: About so many cells has a frame; what is kept is chosen by cell.
CELLS = 128
#: Smaller cells would say more about the grain of a picture than about what it shows.
MIN_CELL_PX = 32
#: To multiples of this the processor of Qwen2.5-VL scales the sides of pictures, in whose pixels
#: it alone writes boxes.
PIXEL_STEP = 28

LOG = logging.getLogger(__name__)


class ServedVlm:
    """
    A model behind a server; takes the place of `Vlm` in the pipeline.

    Parameters
    ----------
    url
        Base of the server, see :class:`ChatClient`.
    model
        Name of the model on the server; empty takes the first that it has.
    timeout_sec
        Longest time for an answer, with everything: what comes later is about another scene. Does
        not bound the first contact.
    retries
        How often a request is repeated within this time, see :class:`ChatClient`.
    schema
        JSON schema of the answers, for generations with ``in_form``.
    family
        Of the model, see :func:`served_family`; empty leaves that to its name.

    Attributes
    ----------
    asked_as
        Family in whose way it is told of pictures and boxes, or ``plain``.
    convention
        What that is.
    pruning
        What it means that tokens are dropped.
    root
        Folder or name of the checkpoint, as the server calls it; its name where that is not told.

    Raises
    ------
    ServerNotReady
        If the server cannot be reached or does not answer; it may still be loading.
    VlmError
        If it does not have the model, or if there is no such family.

    """

    pruning: Pruning = 'scaled'

    def __init__(self, url: str, model: str = '', *, timeout_sec: float = 10.0, retries: int = 2,
                 schema: Mapping[str, Any] | None = None, family: str = '') -> None:
        self._schema = schema
        self._client = ChatClient(url, timeout_sec, retries)
        try:
            models = self._client.models()
            if not models or (model and model not in models):
                raise VlmError(f'{self._client.place} does not serve {model or "any model"}; '
                               f'it has: {", ".join(models) or "none"}')
            self.name = model or next(iter(models))
            self.root, self._parent = models[self.name]
            self.asked_as, self.convention = self._recognised(family)
        except BaseException:
            self.close()
            raise

    def _recognised(self, family: str) -> tuple[str, Convention]:
        """Return as which family it is asked."""
        return served_family(self.name, filter(None, (self.root, self._parent)), family)

    @property
    def info(self) -> dict[str, Any]:
        """Return name and place of the model, for reports."""
        return {'name': self.name, 'family': 'openai', 'asked_as': self.asked_as,
                'device': self._client.place, 'pruning': self.pruning}

    def set_schema(self, schema: Mapping[str, Any]) -> None:
        """Change the JSON schema of the answers, from the next request on."""
        self._schema = schema

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    #: A server takes pictures.
    frames_as = 'images'
    step_frames = 1

    def encode(self, *pictures: NDArray[np.uint8]) -> ServedFrame:
        """Make one RGB picture uint8 [H, W, 3] as small as it is sent."""
        picture, = pictures
        height, width = picture.shape[:2]
        scale = min(1.0, MAX_SIDE_PX / max(height, width))
        if scale < 1.0:
            picture = resized(picture, scale)
            height, width = picture.shape[:2]
        cell_px = max(MIN_CELL_PX, (height * width / CELLS) ** 0.5)
        return ServedFrame(picture, (max(1, round(height / cell_px)),
                                     max(1, round(width / cell_px))))

    def seen_size(self, features: ServedFrame, kept: float = 1.0) -> Size:
        """Return width and height in pixels of a picture, sent for such a share of its cells."""
        height, width = features.size_at(kept)
        if self.convention.box.scale is None:
            # Servers scale pictures once more for models that know pixels.
            height, width = (max(1, round(side / PIXEL_STEP)) * PIXEL_STEP
                             for side in (height, width))
        return float(width), float(height)

    def prepare(self, features: Sequence[ServedFrame], captions: Sequence[str],
                prompt: Prompt) -> ServedPrompt:
        """Put frames, oldest first, in a prompt."""
        return ServedPrompt(tuple(features), tuple(captions), prompt)

    def generate_batch(self, prepared: Sequence[ServedPrompt],
                       keeps: Sequence[NDArray[np.int32] | None], max_new_tokens: int = 160,
                       stop: Callable[[], bool] | None = None, *, in_form: bool = False,
                       on_text: OnText | None = None, limit_sec: float | None = None
                       ) -> list[Generation]:
        """
        Have the server answer several prompts, greedily.

        An answer that is not complete in time ends where it is, as one that is too long does.

        Parameters
        ----------
        prepared, keeps
            The prompts, and the cells to keep of each, ascending int32 [B]; None keeps all.
        max_new_tokens
            Length at which an answer is cut off.
        stop
            Asked every 50 ms; when it returns True, the requests are given up and what has come
            so far is returned.
        in_form
            Whether the server is to enforce the form that was given to the constructor.
        on_text
            Given the answer piece by piece, if there is one prompt only.
        limit_sec
            Longest time, if not that of the constructor.

        Raises
        ------
        VlmError
            If the server cannot be reached, has no room, refuses the request, or has not begun
            an answer in time; or if no form was given.

        """
        options: dict[str, Any] = {'model': self.name, 'max_tokens': max_new_tokens,
                                   'temperature': 0.0}
        if in_form:
            if self._schema is None:
                raise VlmError(f'{self.name} was given no form for its answers')
            options['response_format'] = {'type': 'json_schema', 'json_schema': {
                'name': 'report', 'strict': True, 'schema': self._schema}}
        start_sec = time.perf_counter()
        requests = [{**window.request(keep), **options}
                    for window, keep in zip(prepared, keeps, strict=True)]
        replies = [Reply() for _ in requests]
        try:
            self._client.ask(requests, replies, stop, on_text, limit_sec)
        except LateAnswer as late:
            if not all(reply.pieces for reply in replies):
                raise
            # The risk comes first: what is there may be all that matters.
            LOG.warning('%s; what it had said by then is taken', late)
        end_sec = time.perf_counter()
        first_sec = min((reply.first_sec for reply in replies if reply.first_sec is not None),
                        default=end_sec)
        latency_ms = {'prefill': (first_sec - start_sec) * 1e3,
                      'decode': (end_sec - first_sec) * 1e3}
        return [Generation(''.join(reply.pieces), (), reply.prompt_tokens,
                           window.cells if keep is None else len(keep), dict(latency_ms))
                for window, keep, reply in zip(prepared, keeps, replies)]
