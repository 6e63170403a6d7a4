# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Requests to a server with the chat protocol of OpenAI: limits, endings, errors of one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
import os
import threading
import time
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit
import weakref

from httpx2 import HTTPError
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    OpenAIError,
)

from vts_ros.errors import ServerNotReady, VlmError
from vts_ros.vlm.language_model import OnText

#: Requests that a server works on at a time.
AT_ONCE = 4
#: A server that does not list its models within this time is not ready.
CONTACT_SEC = 10.0
_POLL_SEC = 0.05
#: What servers answer that have no room: it is worth trying again later.
_BUSY = (429, 503)

T = TypeVar('T')


@dataclass
class Reply:
    """
    What came of an answer so far.

    Attributes
    ----------
    pieces
        Of its text.
    prompt_tokens
        Length of the prompt, 0 if the server does not tell.
    first_sec
        When the first piece came, as ``time.perf_counter`` tells it.

    """

    pieces: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    first_sec: float | None = None


class LateAnswer(VlmError):
    """An answer that was not complete in time."""


class ServedModel(NamedTuple):
    """
    A model of a server.

    Attributes
    ----------
    root
        Where the server has it from; its name where the server does not tell: vLLM alone does.
    parent
        Of an adapter the name of its model; otherwise empty.

    """

    root: str
    parent: str


class ChatClient:
    """
    Asks a server; an answer is read as a stream, so the server stops when nobody wants it.

    Parameters
    ----------
    url
        Base of the server, such as ``http://localhost:8000/v1``. A key, where one is needed, is
        read from the environment variable OPENAI_API_KEY.
    timeout_sec
        Longest time for an answer, with everything.
    retries
        How often a request is repeated within this time when the server cannot be reached or has
        no room; it waits as long as the server says.

    Attributes
    ----------
    place
        Address of the server without credentials.

    """

    def __init__(self, url: str, timeout_sec: float, retries: int) -> None:
        # As it is told: credentials in it are nobody's business.
        self.place = _without_credentials(url)
        self.timeout_sec = timeout_sec
        # One loop for good: the connections of the client belong to it.
        self._loop = asyncio.new_event_loop()
        self._client = AsyncOpenAI(
            base_url=url, api_key=os.environ.get('OPENAI_API_KEY') or 'none',
            timeout=timeout_sec, max_retries=retries)
        # Also at the end of a program that does not close it.
        self._finalizer = weakref.finalize(self, _close, self._loop, self._client)

    @property
    def is_closed(self) -> bool:
        """Return whether the connections are closed."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Close the connections."""
        self._finalizer()

    def models(self) -> dict[str, ServedModel]:
        """
        Return the models of the server by their names there.

        Raises
        ------
        ServerNotReady
            If the server cannot be reached, does not answer or has no room: whatever the time
            for an answer, as it may still be loading.
        VlmError
            If it refuses the request.

        """
        client = self._client.with_options(timeout=CONTACT_SEC)

        async def served() -> list[Any]:
            return [model async for model in client.models.list()]

        try:
            found = self._run(served(), CONTACT_SEC) or []
        except LateAnswer as late:
            raise ServerNotReady(f'{late}: it may still be loading') from late
        return {model.id: ServedModel(str(getattr(model, 'root', None) or model.id),
                                      str(getattr(model, 'parent', None) or ''))
                for model in found}

    def ask(self, requests: Sequence[Mapping[str, Any]], replies: Sequence[Reply],
            stop: Callable[[], bool] | None = None, on_text: OnText | None = None,
            limit_sec: float | None = None) -> None:
        """
        Have several requests answered.

        Parameters
        ----------
        requests
            Arguments of a chat completion.
        replies
            Filled with what comes.
        stop
            Asked every 50 ms; when it returns True, the requests are given up.
        on_text
            Given the text piece by piece.
        limit_sec
            Longest time for all of them, if not the usual one.

        Raises
        ------
        LateAnswer
            If the time is over.
        ServerNotReady
            If the server cannot be reached or has no room.
        VlmError
            If it refuses a request or fails.

        """
        self._run(self._ask_all(requests, replies, on_text, limit_sec),
                  limit_sec or self.timeout_sec, stop)

    async def _ask_all(self, requests: Sequence[Mapping[str, Any]], replies: Sequence[Reply],
                       on_text: OnText | None, limit_sec: float | None) -> None:
        room = asyncio.Semaphore(AT_ONCE)
        # The types of the client want a class for every message.
        client: Any = self._client.with_options(timeout=limit_sec) if limit_sec else self._client

        async def ask(request: Mapping[str, Any], reply: Reply) -> None:
            async with room:
                await _ask(client, request, reply, on_text)

        tasks = [asyncio.ensure_future(work) for work in map(ask, requests, replies)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _run(self, work: Coroutine[Any, Any, T], limit_sec: float,
             stop: Callable[[], bool] | None = None) -> T | None:
        """Run requests to their end, or until they are stopped: then None."""
        try:
            return self._loop.run_until_complete(_limited(work, limit_sec, stop))
        except (APITimeoutError, asyncio.TimeoutError) as error:
            raise LateAnswer(f'{self.place} did not answer within {limit_sec:g} s') from error
        except APIConnectionError as error:
            reason = _one_line(error.__cause__ or error)
            raise ServerNotReady(f'no connection to {self.place}: {reason}') from error
        except APIStatusError as error:
            reason = _one_line(error)
            if error.status_code in _BUSY:
                raise ServerNotReady(f'{self.place} is busy: {reason}') from error
            raise VlmError(f'{self.place} refuses the request: {reason}') from error
        except (OpenAIError, HTTPError) as error:
            raise VlmError(f'{self.place} failed: {_one_line(error)}') from error


async def _ask(client: Any, request: Mapping[str, Any], reply: Reply, on_text: OnText | None
               ) -> None:
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


async def _limited(work: Coroutine[Any, Any, T], limit_sec: float,
                   stop: Callable[[], bool] | None) -> T | None:
    task = asyncio.ensure_future(work)
    deadline_sec = time.monotonic() + limit_sec
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


def _without_credentials(url: str) -> str:
    """Return the address of a server without user, password and query."""
    parts = urlsplit(url)
    port = f':{parts.port}' if parts.port else ''
    return urlunsplit((parts.scheme, f'{parts.hostname or ""}{port}', parts.path, '', ''))


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__
