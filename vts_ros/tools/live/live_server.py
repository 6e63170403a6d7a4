# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The server of the live page: one page, pictures, a WebSocket; nothing from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
import ipaddress
import json
from pathlib import Path
import socket
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
import uvicorn

from vts_ros.errors import VtsError
from vts_ros.tools.live.live_hub import Answerer, Hub, Looker, ShownPicture

PAGE = Path(__file__).with_name('page')
FILES = {'/': ('index.html', 'text/html'), '/live.css': ('live.css', 'text/css'),
         '/live.js': ('live.js', 'text/javascript')}
#: Pages that may be open at once.
MOST_PAGES = 16
#: A question of the longest kind, each of its signs escaped.
MOST_MESSAGE_BYTES = 2**14
#: What the browser is told to allow: the files of this server, and pictures that the page makes.
POLICY = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
                               "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
                               "form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}


class ServerError(VtsError):
    """The page cannot be served, in one line."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == 'localhost':
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HostCheck:
    """
    Refuses requests that name another machine, and pages of others.

    A page of anybody can have its name lead to 127.0.0.1 (DNS rebinding), and a browser lets any
    page open a WebSocket anywhere. So Host must be an address or a name of this machine, and
    Origin the same as Host.

    Parameters
    ----------
    app
        What is protected.
    host
        Where the server listens.

    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._is_local = is_loopback(host)
        name = socket.gethostname().lower()
        self._names = {'localhost'} if self._is_local else {'localhost', name, f'{name}.local'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass allowed requests on, and refuse all others."""
        if scope['type'] not in ('http', 'websocket'):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist('host'), headers.get('origin')
        is_allowed = len(hosts) == 1 and self._is_here(hosts[0]) and (
            origin is None or urlsplit(origin).netloc.lower() == hosts[0].lower())
        if not is_allowed:
            if scope['type'] == 'websocket':
                await send({'type': 'websocket.close', 'code': 1008})
            else:
                await PlainTextResponse('not a name of this machine', 403)(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                MutableHeaders(scope=message).update(POLICY)
            await send(message)

        await self._app(scope, receive, send_with_policy)

    def _is_here(self, host: str) -> bool:
        try:
            name = (urlsplit(f'//{host}').hostname or '').lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local


class LiveServer:
    """
    Serves the page.

    Parameters
    ----------
    hub
        What is shown.
    host, port
        Where to listen; port 0 takes one that is free.

    Raises
    ------
    ServerError
        If that is not possible.

    """

    def __init__(self, hub: Hub, host: str = '127.0.0.1', port: int = 8090) -> None:
        self._hub, self.host = hub, host
        self._answerer: Answerer | None = None
        self._socket = _listening(host, port)
        self.port = int(self._socket.getsockname()[1])
        app = Starlette(routes=[
            *(Route(path, self._file) for path in FILES),
            Route('/picture/{number:int}', self._picture),
            Route('/near/{camera}', self._near),
            WebSocketRoute('/ws', self._page),
        ])
        self._server = uvicorn.Server(uvicorn.Config(
            HostCheck(app, host), log_level='warning', access_log=False, server_header=False,
            ws_max_size=MOST_MESSAGE_BYTES, ws_max_queue=8, ws_per_message_deflate=False,
            timeout_graceful_shutdown=1, lifespan='off'))

    @property
    def address(self) -> str:
        """Return where the page is."""
        host = 'localhost' if is_loopback(self.host) or self.host in ('0.0.0.0', '::') \
            else self.host
        return f'http://{f"[{host}]" if ":" in host else host}:{self.port}'

    def run(self, answerer: Answerer) -> None:
        """Serve until SIGINT or SIGTERM, or :meth:`stop`."""
        self._answerer = answerer
        with suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.should_exit = True

    async def _file(self, request: Request) -> Response:
        name, kind = FILES[request.url.path]
        return FileResponse(PAGE / name, media_type=kind, headers={'Cache-Control': 'no-cache'})

    async def _picture(self, request: Request) -> Response:
        return _jpeg(self._hub.picture(request.path_params['number']))

    async def _near(self, request: Request) -> Response:
        try:
            at_sec = float(request.query_params.get('at', ''))
        except ValueError:
            return PlainTextResponse('at is a number of seconds', 400)
        return _jpeg(self._hub.near(request.path_params['camera'], at_sec), is_fixed=False)

    async def _page(self, page: WebSocket) -> None:
        if self._hub.lookers >= MOST_PAGES:
            await page.close(1013, f'{MOST_PAGES} pages are open')
            return
        await page.accept()
        news, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(news.set)

        looker, hello = self._hub.open(wake)
        may_show = asyncio.Event()
        may_show.set()
        sender = asyncio.create_task(self._send(page, looker, hello, news, may_show))
        try:
            while True:
                self._take(await page.receive_text(), looker, news, may_show)
        except (WebSocketDisconnect, KeyError):
            pass
        finally:
            self._hub.close(looker)
            sender.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sender

    async def _send(self, page: WebSocket, looker: Looker, hello: Mapping[str, Any],
                    news: asyncio.Event, may_show: asyncio.Event) -> None:
        await page.send_text(json.dumps(hello))
        while True:
            await news.wait()
            news.clear()
            for event in looker.take_events():
                await page.send_text(json.dumps(event))
            # One picture at a time: a page that is slow gets fewer, not later ones.
            if may_show.is_set() and (picture := looker.take_picture()):
                may_show.clear()
                head = json.dumps({'number': picture.number, 'camera': picture.camera,
                                   'at': picture.at_sec, 'stamp': picture.stamp_ns}).encode()
                await page.send_bytes(len(head).to_bytes(4, 'big') + head + picture.data)

    def _take(self, text: str, looker: Looker, news: asyncio.Event,
              may_show: asyncio.Event) -> None:
        """Do what a page asks for; ignore anything else."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict) or self._answerer is None:
            return
        if 'shown' in said:
            may_show.set()
            news.set()
        if isinstance(said.get('watch'), str):
            looker.camera = said['watch'][:200]
        if isinstance(said.get('ask'), str):
            self._answerer.ask(said['ask'])
        if isinstance(said.get('change'), dict):
            for name, value in said['change'].items():
                try:
                    self._answerer.change(str(name), value)
                except ValueError as error:
                    looker.tell({'kind': 'note', 'at': self._hub.now_sec, 'text': str(error)})


def _jpeg(picture: ShownPicture | None, is_fixed: bool = True) -> Response:
    if picture is None:
        return PlainTextResponse('this picture is not kept', 404)
    return Response(picture.data, media_type='image/jpeg', headers={
        'Cache-Control': 'private, max-age=60' if is_fixed else 'no-store',
        'X-Picture': str(picture.number)})


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            # Before anything is loaded, so that a second program on this port is told at once.
            made.listen(64)
        except OSError:
            made.close()
            raise
    except (OSError, OverflowError) as error:
        raise ServerError(f'cannot listen at {host}:{port}: {getattr(error, "strerror", error)}; '
                          'give another --port') from error
    return made
