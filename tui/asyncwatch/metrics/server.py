"""A small HTTP server for pages that are made at once. What reaches the port can harm nothing but its own connection.

Each connection has one answer and a few seconds. If there are too many, the oldest gives way. aiohttp reads the
requests, with limits for their size; it does not limit the number of connections, nor how slowly an answer is read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod

from aiohttp import web

if TYPE_CHECKING:
    from asyncwatch.metrics.exposition import Page

MOST_CONNECTIONS = 32
LONGEST = 10.0
"""Seconds from the beginning of a connection to its end, at most."""
_LARGEST_LINE = 8_190
_MOST_HEADERS = 64
_PAUSE = 0.1
"""Seconds without a connection after one could not be accepted."""
_LAST_CHANCE = 1.0
"""Seconds that connections get to end, once they are cut off."""
_METHODS: Final = ("GET", "HEAD")

logger = logging.getLogger("asyncwatch")
_silent = logging.Logger("asyncwatch.metrics", logging.CRITICAL + 1)  # noqa: LOG001  it is to have no handler
"""For aiohttp, which logs each request that it cannot read."""


class Server:
    """Answers GET and HEAD at `listener`. `pages` has what makes the page at a path."""

    def __init__(self, listener: socket.socket, pages: Mapping[str, Callable[[], Page]]) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._pages = pages
        self._http: web.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        close = WeakMethod(self.close_after_fork)
        os.register_at_fork(after_in_child=lambda: (method := close()) and method())

    async def open(self) -> None:
        """Accept connections from now on."""
        self._http = web.Server(
            self._answer,
            access_log=None,
            logger=_silent,
            max_line_size=_LARGEST_LINE,
            max_field_size=_LARGEST_LINE,
            max_headers=_MOST_HEADERS,
            lingering_time=_LAST_CHANCE,
        )
        self._accepting = asyncio.create_task(self._accept(self._http))

    async def close(self) -> None:
        """Cut all connections off, and stop listening."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait((self._accepting,))
        if self._http is not None:
            for connection in self._http.connections:
                _cut_off(connection)
            await self._http.shutdown(_LAST_CHANCE)
        self._listener.close()

    def close_after_fork(self) -> None:
        """Close all sockets in a forked process: the port is to be free when this one has ended."""
        connections = [] if self._http is None else self._http.connections
        sockets = [each.transport.get_extra_info("socket") for each in connections if each.transport is not None]
        for each in [*sockets, self._listener]:
            with suppress(OSError):
                os.close(each.fileno())

    async def _accept(self, http: web.Server) -> None:
        """Accept one connection after the other.

        An `asyncio.Server` would accept a hundred at once, and take the open files that the workers need.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _address = await loop.sock_accept(self._listener)
            except OSError:  # no file is left, or the client has gone
                await asyncio.sleep(_PAUSE)
                continue
            live = [each for each in http.connections if each.transport is not None]
            for oldest in live[: max(0, len(live) + 1 - MOST_CONNECTIONS)]:
                _cut_off(oldest)
            await _serve(http(), client)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        make = self._pages.get(request.path)
        if make is None:
            answer = web.Response(status=404, text=f"there are only {', '.join(self._pages)}\n")
        elif request.method not in _METHODS:
            answer = web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": ", ".join(_METHODS)})
        else:
            answer = self._page(make)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            answer.enable_compression(web.ContentCoding.gzip)
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["Server"] = "asyncwatch"
        answer.force_close()
        return answer

    def _page(self, make: Callable[[], Page]) -> web.Response:
        try:
            page = make()
        except Exception:  # a fault of ours must not end the run
            logger.exception("a page of the metrics cannot be made")
            return web.Response(status=500, text="the page cannot be made; the log of the run says why\n")
        headers = {"Content-Type": page.content_type}
        return web.Response(status=page.status, body=page.body, headers=headers, zlib_executor_size=sys.maxsize)


async def _serve(connection: web.RequestHandler, client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: connection, client)
    except OSError:
        client.close()
    else:
        loop.call_later(LONGEST, _cut_off, connection)


def _cut_off(connection: web.RequestHandler) -> None:
    """End a connection, although its client may not read what it was sent."""
    if connection.transport is not None:
        connection.transport.abort()
