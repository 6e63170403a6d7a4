# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A vision language model in another process or box, behind the protocol of OpenAI.

Such a server takes pictures, not visual tokens, and makes as many tokens of a picture as it has
pixels. So each frame is sent whole, but scaled down to the share of its cells that is kept, and
frames of which nothing is kept are left out.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
import math
import os
import threading
import time
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit
import weakref

import cv2
from httpx2 import HTTPError
import numpy as np
from numpy.typing import NDArray
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    OpenAIError,
)

from vts_ros.errors import VlmError
from vts_ros.vlm.boxes import Size
from vts_ros.vlm.conventions import PLAIN
from vts_ros.vlm.language_model import Generation, Grid, OnText
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.pruning import Pruning

#: Larger pictures are scaled down: servers do the same, after the transfer.
MAX_SIDE_PX = 1280
#: About so many cells has a frame; what is kept is chosen by cell.
CELLS = 128
#: Smaller cells would say more about the grain of a picture than about what it shows.
MIN_CELL_PX = 32
#: A frame of which little is kept is sent at a quarter of its sides: less shows nothing.
LEAST_SCALE = 0.25
#: Pictures with shorter sides are refused by servers.
MIN_SIDE_PX = 32
#: Windows of a batch that a server is asked about at a time.
AT_ONCE = 4
_JPEG_QUALITY = 90
_POLL_SEC = 0.05
#: What servers answer that have no room: it is worth trying again later.
_BUSY = (429, 503)

T = TypeVar('T')


class ServedFrame(NamedTuple):
    """An RGB picture uint8 [H, W, 3] as it is sent, and its cells."""

    picture: NDArray[np.uint8]
    grid: Grid

    def at(self, share: float) -> NDArray[np.uint8]:
        """Return the picture with about such a share of its pixels, above 0 to 1."""
        height, width = self.picture.shape[:2]
        least = MIN_SIDE_PX / min(height, width)
        scale = min(1.0, max(share ** 0.5, LEAST_SCALE, least))
        if scale == 1.0:
            return self.picture
        return _resized(self.picture, scale)


@dataclass(frozen=True, eq=False)
class ServedPrompt:
    """A window with the text before each of its frames, and what is asked."""

    frames: tuple[ServedFrame, ...]
    captions: tuple[str, ...]
    prompt: Prompt

    @property
    def cells(self) -> int:
        """Return how many cells all frames have."""
        return sum(math.prod(frame.grid) for frame in self.frames)

    def messages(self, keep: NDArray[np.int32] | None) -> list[dict[str, Any]]:
        """Return the chat with what is kept [B] of the window, all if None."""
        kept = np.full(self.cells, keep is None)
        if keep is not None:
            kept[keep] = True
        ends = np.cumsum([math.prod(frame.grid) for frame in self.frames])[:-1]
        content: list[dict[str, Any]] = []
        for frame, caption, part in zip(
                self.frames, self.captions, np.split(kept, ends), strict=True):
            if part.any():
                content += [text_part(caption), picture_part(frame.at(float(part.mean())))]
        return self.chat(content)

    def chat(self, content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the chat with what is shown."""
        system = [{'role': 'system', 'content': self.prompt.system}] if self.prompt.system else []
        return [*system, {'role': 'user', 'content': [
            *content, text_part(self.prompt.instruction)]}]

    def request(self, keep: NDArray[np.int32] | None) -> dict[str, Any]:
        """Return what a request says about what is kept [B] of the window, all if None."""
        return {'messages': self.messages(keep)}


@dataclass
class _Reply:
    """What came of an answer so far."""

    pieces: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    first_sec: float | None = None


class ServedVlm:
    """
    A model behind a server; takes the place of `Vlm` in the pipeline.

    An answer is read as a stream, so that the server stops working when nobody wants it any more.

    Parameters
    ----------
    url
        Base of the server, such as ``http://localhost:8000/v1``. A key, where one is needed, is
        read from the environment variable OPENAI_API_KEY.
    model
        Name of the model on the server; empty takes the first that it has.
    timeout_sec
        Longest time for an answer, with everything: what comes later is about another scene.
    retries
        How often a request is repeated within this time when the server cannot be reached or has
        no room; it waits as long as the server says.
    schema
        JSON schema of the answers, for generations with ``in_form``.

    Attributes
    ----------
    convention
        How it is told of pictures and boxes. A server does not say of which family a model is.
    pruning
        What it means that tokens are dropped.
    root
        Folder or name of the checkpoint, as the server calls it; its name where that is not told.

    Raises
    ------
    VlmError
        If the server cannot be reached or does not have the model.

    """

    convention = PLAIN
    pruning: Pruning = 'scaled'

    def __init__(self, url: str, model: str = '', *, timeout_sec: float = 10.0, retries: int = 2,
                 schema: Mapping[str, Any] | None = None) -> None:
        # As it is told: credentials in it are nobody's business.
        self._place = _without_credentials(url)
        self._timeout_sec = timeout_sec
        self._schema = schema
        # One loop for good: the connections of the client belong to it.
        self._loop = asyncio.new_event_loop()
        self._client = AsyncOpenAI(
            base_url=url, api_key=os.environ.get('OPENAI_API_KEY') or 'none',
            timeout=timeout_sec, max_retries=retries)
        # Also at the end of a program that does not close it.
        self._finalizer = weakref.finalize(self, _close, self._loop, self._client)
        try:
            self.name = self._choose(model)
        except BaseException:
            self.close()
            raise

    def _choose(self, model: str) -> str:
        async def served() -> list[Any]:
            return [one async for one in self._client.models.list()]

        models = {one.id: one for one in self._run(served()) or []}
        if not models or (model and model not in models):
            raise VlmError(f'{self._place} does not serve {model or "any model"}; '
                           f'it has: {", ".join(models) or "none"}')
        name = model or next(iter(models))
        # Where the server has it from; said by vLLM alone.
        self.root = str(getattr(models[name], 'root', None) or name)
        return name

    @property
    def info(self) -> dict[str, Any]:
        """Return name and place of the model, for reports."""
        return {'name': self.name, 'family': 'openai', 'device': self._place,
                'pruning': self.pruning}

    def set_schema(self, schema: Mapping[str, Any]) -> None:
        """Change the JSON schema of the answers, from the next request on."""
        self._schema = schema

    def close(self) -> None:
        """Close the connections."""
        self._finalizer()

    #: A server takes pictures.
    frames_as = 'images'
    step_frames = 1

    def encode(self, *pictures: NDArray[np.uint8]) -> ServedFrame:
        """Make one RGB picture uint8 [H, W, 3] as small as it is sent."""
        picture, = pictures
        height, width = picture.shape[:2]
        scale = min(1.0, MAX_SIDE_PX / max(height, width))
        if scale < 1.0:
            picture = _resized(picture, scale)
            height, width = picture.shape[:2]
        cell_px = max(MIN_CELL_PX, (height * width / CELLS) ** 0.5)
        return ServedFrame(picture, (max(1, round(height / cell_px)),
                                     max(1, round(width / cell_px))))

    def seen_size(self, features: ServedFrame) -> Size:
        """Return width and height in pixels of a picture as it is sent."""
        height, width = features.picture.shape[:2]
        return float(width), float(height)

    def prepare(self, features: Sequence[ServedFrame], captions: Sequence[str],
                prompt: Prompt) -> ServedPrompt:
        """Put frames, oldest first, in a prompt."""
        return ServedPrompt(tuple(features), tuple(captions), prompt)

    def generate_batch(self, prepared: Sequence[ServedPrompt],
                       keeps: Sequence[NDArray[np.int32] | None], max_new_tokens: int = 160,
                       stop: Callable[[], bool] | None = None, *, in_form: bool = False,
                       on_text: OnText | None = None) -> list[Generation]:
        """
        Have the server answer several prompts, greedily.

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

        Raises
        ------
        VlmError
            If the server cannot be reached, has no room, refuses the request or takes too long;
            or if no form was given.

        """
        options: dict[str, Any] = {'model': self.name, 'max_tokens': max_new_tokens,
                                   'temperature': 0.0}
        if in_form:
            if self._schema is None:
                raise VlmError(f'{self.name} was given no form for its answers')
            options['response_format'] = {'type': 'json_schema', 'json_schema': {
                'name': 'report', 'strict': True, 'schema': self._schema}}
        start_sec = time.perf_counter()
        requests = [{**one.request(keep), **options}
                    for one, keep in zip(prepared, keeps, strict=True)]
        replies = [_Reply() for _ in requests]
        self._run(self._ask_all(requests, replies, on_text), stop)
        end_sec = time.perf_counter()
        first_sec = min((reply.first_sec for reply in replies if reply.first_sec is not None),
                        default=end_sec)
        latency_ms = {'prefill': (first_sec - start_sec) * 1e3,
                      'decode': (end_sec - first_sec) * 1e3}
        return [Generation(''.join(reply.pieces), (), reply.prompt_tokens, _count(one, keep),
                           dict(latency_ms))
                for one, keep, reply in zip(prepared, keeps, replies)]

    async def _ask_all(self, requests: Sequence[Mapping[str, Any]], replies: Sequence[_Reply],
                       on_text: OnText | None) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def ask(request: Mapping[str, Any], reply: _Reply) -> None:
            async with room:
                await self._ask(request, reply, on_text)

        tasks = [asyncio.ensure_future(work) for work in map(ask, requests, replies)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _ask(self, request: Mapping[str, Any], reply: _Reply, on_text: OnText | None
                   ) -> None:
        # The types of the client want a class for every message.
        client: Any = self._client
        async with await client.chat.completions.create(
                stream=True, stream_options={'include_usage': True}, **request) as stream:
            async for chunk in stream:
                if chunk.usage:
                    reply.prompt_tokens = chunk.usage.prompt_tokens
                piece = chunk.choices[0].delta.content if chunk.choices else None
                if piece:
                    reply.first_sec = reply.first_sec or time.perf_counter()
                    reply.pieces.append(piece)
                    if on_text is not None and on_text(piece) is False:
                        on_text = None

    def _run(self, work: Coroutine[Any, Any, T], stop: Callable[[], bool] | None = None
             ) -> T | None:
        """Run requests to their end, or until they are stopped: then None."""
        try:
            return self._loop.run_until_complete(self._limited(work, stop))
        except (APITimeoutError, asyncio.TimeoutError) as error:
            raise VlmError(
                f'{self._place} did not answer within {self._timeout_sec:g} s') from error
        except APIConnectionError as error:
            reason = _one_line(error.__cause__ or error)
            raise VlmError(f'no connection to {self._place}: {reason}') from error
        except APIStatusError as error:
            what = 'is busy' if error.status_code in _BUSY else 'refuses the request'
            raise VlmError(f'{self._place} {what}: {_one_line(error)}') from error
        except (OpenAIError, HTTPError) as error:
            raise VlmError(f'{self._place} failed: {_one_line(error)}') from error

    async def _limited(self, work: Coroutine[Any, Any, T], stop: Callable[[], bool] | None
                       ) -> T | None:
        task = asyncio.ensure_future(work)
        deadline_sec = time.monotonic() + self._timeout_sec
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_POLL_SEC)
                if task.done():
                    break
                if stop is not None and stop():
                    return None
                if time.monotonic() > deadline_sec:
                    raise asyncio.TimeoutError
            return task.result()
        finally:
            # Closes the connections, which is how a server learns that nobody waits.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _close(loop: asyncio.AbstractEventLoop, client: AsyncOpenAI) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _end(loop, client)
        return
    # The garbage collector may call this while another loop runs in this thread.
    ending = threading.Thread(target=_end, args=(loop, client))
    ending.start()
    ending.join()


def _end(loop: asyncio.AbstractEventLoop, client: AsyncOpenAI) -> None:
    async def end() -> None:
        await client.close()
        # Streams that nobody reads any more are closed by tasks of their own.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    loop.run_until_complete(end())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _count(prompt: ServedPrompt, keep: NDArray[np.int32] | None) -> int:
    return prompt.cells if keep is None else len(keep)


def text_part(text: str) -> dict[str, Any]:
    """Return a text as a part of a message."""
    return {'type': 'text', 'text': text}


def _resized(rgb: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = (max(1, round(scale * side)) for side in rgb.shape[:2])
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def picture_part(rgb: NDArray[np.uint8], suffix: str = '.jpg') -> dict[str, Any]:
    """Return an RGB picture as a part of a message; ``.png`` loses nothing."""
    kind, options = {'.jpg': ('jpeg', [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]),
                     '.png': ('png', [])}[suffix]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]), options)
    assert done
    url = f'data:image/{kind};base64,{b64encode(data.tobytes()).decode()}'
    return {'type': 'image_url', 'image_url': {'url': url}}


def _without_credentials(url: str) -> str:
    """Return the address of a server without user, password and query."""
    parts = urlsplit(url)
    port = f':{parts.port}' if parts.port else ''
    return urlunsplit((parts.scheme, f'{parts.hostname or ""}{port}', parts.path, '', ''))


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__
