"""The HTTP target: requests over one shared session, each within a deadline, and the faults of bad luck for it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from asyncwatch.engine.current import current_worker
from asyncwatch.policies.limits import DEFAULT_CONCURRENCY

_log = logging.getLogger("asyncwatch.worker")


class HttpTarget:
    """Requests URLs over one shared session. Enter it on the event loop that calls it.

    Cookies are not kept, so that no worker's response depends on another's. A `user:password@` in a URL is used for
    basic authentication.

    Args:
        method: The method of every request.
        headers: The headers of every request.
        body: The body of every request, sent as UTF-8; no body if empty.
        raise_for_status: Whether a status of 400 or above raises an `aiohttp.ClientResponseError`.
        timeout: Seconds for one request with its whole response; None for no limit.
        concurrency: The maximum number of connections.

    """

    def __init__(
        self,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str = "",
        raise_for_status: bool = True,
        timeout: float | None = 30.0,
        concurrency: int = DEFAULT_CONCURRENCY,
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
        """Return the key of the circuit and the rate limit for `url`: its host, as `host_of` gives it."""
        return host_of(url)

    def own_headers(self) -> Mapping[str, str] | None:
        """Return headers for this request alone, added to those of every request."""
        return None

    async def __call__(self, url: str) -> int:
        """Request `url` and return the HTTP status.

        Raises:
            RuntimeError: The target is not entered.
            aiohttp.ClientError: There was no complete response, or `raise_for_status` refuses its status.
            TimeoutError: The response was not complete in time.

        """
        if self._session is None:
            raise RuntimeError("enter the HttpTarget before you call it: async with HttpTarget() as target")
        if self._deadlines is None:
            return await self._fetch(self._session, url)
        with Deadline(self._deadlines):
            return await self._fetch(self._session, url)

    async def _fetch(self, session: aiohttp.ClientSession, url: str) -> int:
        async with session.request(self._method, url, data=self._body, headers=self.own_headers()) as response:
            # A connection is reused only after the whole body was read. Read in pieces, the body is never in memory as
            # a whole.
            content = response.content
            if not content.is_eof():
                while await content.readany():
                    pass
            _log_status(response.status)
            if self._raise_for_status:
                response.raise_for_status()
            return response.status


_SIMPLE = re.compile(r"(https?)://([a-z0-9]+(?:[-.][a-z0-9]+)*)(?::([0-9]{1,4}))?(?:[/?#]|$)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """Return the host of `url`, with its port if that is not the scheme's default; empty if there is none."""
    # Nearly every URL looks so. To parse it takes ten times as long as this, and is a part of the cost of a request.
    simple = _SIMPLE.match(url) if type(url) is str else None
    if simple is not None:
        scheme, host, port = simple.groups()
        return host if port is None or int(port) == _DEFAULT_PORTS[scheme] else f"{host}:{int(port)}"
    try:
        address = URL(url)
    except ValueError:
        return ""
    if address.host is None:
        return ""
    return address.host if address.is_default_port() else f"{address.host}:{address.port}"


def _log_status(status: int) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        worker = current_worker()
        if worker is not None:
            _log.debug("Status: %s, %s, %.2f", status, worker.name, worker.bad_luck)


# -- deadlines


class Deadlines:
    """The deadlines of calls that may each take `seconds`, on the running event loop.

    All calls share one timer: a timer each would cost more than the rest of a deadline. They expire in the order in
    which they began, so the timer is for the oldest one.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self._pending: dict[Deadline, None] = {}  # in the order in which they expire
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: Deadline) -> None:
        """Add a deadline, the latest so far."""
        self._pending[deadline] = None
        self._set_timer()

    def remove(self, deadline: Deadline) -> None:
        """Forget a deadline that was met."""
        del self._pending[deadline]

    def close(self) -> None:
        """Stop the timer: no deadline expires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is None and self._pending:
            self._timer = self.loop.call_at(next(iter(self._pending)).due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self.loop.time()
        for deadline in list(self._pending):
            if deadline.due > now:
                break
            del self._pending[deadline]
            deadline.expire()
        self._set_timer()


class Deadline:
    """A context that is cancelled when its time is over, and then raises a `TimeoutError`, as `asyncio.timeout` does.

    Raises:
        TimeoutError: The context was not left in time. A cancellation by other code takes precedence.

    """

    __slots__ = ("_cancelled_before", "_deadlines", "_is_expired", "_task", "due")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_expired = False

    def __enter__(self) -> Self:
        deadlines = self._deadlines
        task = asyncio.current_task(deadlines.loop)
        assert task is not None  # noqa: S101  coroutines run in tasks
        self._task, self._cancelled_before = task, task.cancelling()
        self.due = deadlines.loop.time() + deadlines.seconds
        deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_expired:
            self._deadlines.remove(self)
        elif self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError(f"no complete response within {self._deadlines.seconds:g} s") from error

    def expire(self) -> None:
        """Cancel the context."""
        self._is_expired = True
        self._task.cancel()


# -- faults of bad luck


def disconnected() -> Exception:
    """Return the error of a server that closed the connection."""
    return aiohttp.ServerDisconnectedError("bad luck")


def timed_out() -> Exception:
    """Return the error of a server that did not respond."""
    return aiohttp.ServerTimeoutError("bad luck")


def broken() -> Exception:
    """Return the error of a bug in the worker."""
    return RuntimeError("bad luck")


HTTP_FAULTS = (disconnected, timed_out, broken)
"""The faults that bad luck injects into an HTTP worker by default. The first two are transient."""


def failing(status: int, *, retry_after: float | None = None) -> Callable[[], Exception]:
    """Return the fault of a response with `status`, and with a `Retry-After` of so many seconds."""

    def fault() -> Exception:
        url = URL("http://bad.luck/")
        request = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict[str]()), url)
        headers = CIMultiDict[str]() if retry_after is None else CIMultiDict({"Retry-After": f"{retry_after:.0f}"})
        return aiohttp.ClientResponseError(request, (), status=status, message="bad luck", headers=headers)

    return fault
