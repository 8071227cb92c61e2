"""Ends what takes too long. One timer serves all that are under way, as a timer each costs more than all else here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from asyncwatch.engine.current import current_worker


class Deadlines:
    """The deadlines of all calls that may take `seconds` each, on the event loop that runs when this is made.

    They end in the order in which they began, so that only the oldest has to be waited for.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self.under_way: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def await_next(self) -> None:
        """See to the end of the oldest that is under way, if that is not seen to."""
        if self._timer is None and self.under_way:
            self._timer = self.loop.call_at(next(iter(self.under_way)).due, self._end_overdue)

    def close(self) -> None:
        """End nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_overdue(self) -> None:
        self._timer = None
        now = self.loop.time()
        for deadline in list(self.under_way):
            if deadline.due > now:
                break
            deadline.pass_by()
        self.await_next()


class Deadline:
    """A context that is cancelled when its time is over, and then raises `TimeoutError` instead, as `asyncio.timeout`.

    Raises:
        TimeoutError: it was not left in time. If somebody else cancelled the task too, that goes before.

    """

    __slots__ = ("_asked_before", "_deadlines", "_is_past", "_task", "due")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_past = False

    def __enter__(self) -> Self:
        deadlines = self._deadlines
        task = asyncio.current_task(deadlines.loop)
        assert task is not None  # noqa: S101  coroutines run in tasks
        self._task, self._asked_before = task, task.cancelling()
        self.due = deadlines.loop.time() + deadlines.seconds
        deadlines.under_way[self] = None
        deadlines.await_next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_past:
            del self._deadlines.under_way[self]
        elif self._task.uncancel() <= self._asked_before and kind is asyncio.CancelledError:
            raise TimeoutError(f"no complete answer within {self._deadlines.seconds:g} s") from error

    def pass_by(self) -> None:
        """Cancel what is not over in time."""
        del self._deadlines.under_way[self]
        self._is_past = True
        self._task.cancel()


_log = logging.getLogger("asyncwatch.worker")


def disconnected() -> Exception:
    """Return the fault of a server that closed the connection."""
    return aiohttp.ServerDisconnectedError("bad luck")


def timed_out() -> Exception:
    """Return the fault of a server that did not answer."""
    return aiohttp.ServerTimeoutError("bad luck")


def broken() -> Exception:
    """Return the fault of a program."""
    return RuntimeError("bad luck")


def failing(status: int, *, retry_after: float | None = None) -> Callable[[], Exception]:
    """Return the fault of a server that answers with `status`, and asks to wait so many seconds."""

    def fault() -> Exception:
        url = URL("http://bad.luck/")
        request = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict[str]()), url)
        headers = CIMultiDict[str]() if retry_after is None else CIMultiDict({"Retry-After": f"{retry_after:.0f}"})
        return aiohttp.ClientResponseError(request, (), status=status, message="bad luck", headers=headers)

    return fault


HTTP_FAULTS = (disconnected, timed_out, broken)
"""What bad luck injects into an HTTP worker; the first two are transient."""


def host_of(url: str) -> str:
    """Return the host of `url`, with its port if that is not the scheme's own; empty if there is none."""
    try:
        address = URL(url)
    except ValueError:
        return ""
    if address.host is None:
        return ""
    return address.host if address.is_default_port() else f"{address.host}:{address.port}"


class HttpTarget:
    """Requests URLs over one shared session. Open it in the event loop it is called in.

    Cookies are not kept, so that no worker's answer depends on another's. A `user:password@` in a URL is used
    for basic authentication.

    Args:
        method: of every request.
        headers: of every request.
        body: of every request, sent as UTF-8; none if empty.
        raise_for_status: whether an answer of 400 or above is an `aiohttp.ClientResponseError`.
        timeout: seconds for one request with its answer; None for no limit.
        concurrency: connections at the most.

    """

    def __init__(
        self,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str = "",
        raise_for_status: bool = True,
        timeout: float | None = 30.0,
        concurrency: int = 100,
    ) -> None:
        self._method = method
        self._headers = dict(headers or {})
        self._body = body.encode() or None
        self._raise_for_status = raise_for_status
        self._timeout = timeout
        self._concurrency = concurrency
        self._deadlines: Deadlines | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._deadlines = None if self._timeout is None else Deadlines(self._timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._deadlines is not None:
            self._deadlines.close()

    def key_of(self, url: str) -> str:
        """Return the host (and port, if it is not the scheme's own) that `url` asks: what its circuit is kept by."""
        return host_of(url)

    def own_headers(self) -> Mapping[str, str] | None:
        """Return the headers of this one request, beside those of the session."""
        return None

    async def __call__(self, url: str) -> int:
        """Return the HTTP status of one request of `url`.

        Raises:
            RuntimeError: the target is not open.
            aiohttp.ClientError: there was no answer, or one of 400 or above with `raise_for_status`.
            TimeoutError: the answer was not complete in time.

        """
        if self._session is None:
            raise RuntimeError("an HttpTarget has to be entered before it is called")
        if self._deadlines is None:
            return await self._fetch(self._session, url)
        with Deadline(self._deadlines):
            return await self._fetch(self._session, url)

    async def _fetch(self, session: aiohttp.ClientSession, url: str) -> int:
        async with session.request(self._method, url, data=self._body, headers=self.own_headers()) as response:
            # Until the body has come to its end the connection cannot be used again. Nobody looks at it: it is never
            # held as a whole, and what is here already is not taken out.
            content = response.content
            if not content.is_eof():
                while await content.readany():
                    pass
            _log_status(response.status)
            if self._raise_for_status:
                response.raise_for_status()
            return response.status


def _log_status(status: int) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        worker = current_worker()
        if worker is not None:
            _log.debug("Status: %s, %s, %.2f", status, worker.name, worker.bad_luck)
