"""The HTTP target: requests over one shared session, each within a deadline, and the faults of bad luck for it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.parse import quote_from_bytes, urljoin

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from asyncwatch.engine.current import current_worker
from asyncwatch.policies.limits import DEFAULT_CONCURRENCY
from asyncwatch.text import one_line

_log = logging.getLogger("asyncwatch.worker")

_LONGEST_HEADER = 1 << 20
"""Bytes of one header, or of the status line, that are accepted. aiohttp accepts 8 KiB by default."""
_MOST_HEADERS = 10_000
_SHOWN = 200
"""Characters, at most, of what is wrong with a response."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOR_EVERY_HOST = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
"""Headers of the config that hold no secret, and so go to the host that a redirect names."""


_SIMPLE = re.compile(r"(https?)://([a-z0-9]+(?:[-.][a-z0-9]+)*)(?::([0-9]{1,4}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """Return the host of `url`, with its port if that is not the scheme's default; empty if there is none."""
    global _last_host  # noqa: PLW0603  the URLs of one host follow one another, and each attempt asks
    origin, host = _last_host
    if type(url) is str:
        if url.startswith(origin):
            return host
        end = url.find("/", len("https://"))
        if (host := _host_of_origin(url if end < 0 else url[:end]) or "") and end > 0:
            _last_host = url[: end + 1], host
        if host:
            return host
    return _host(url)


_last_host: tuple[str, str] = "http://none.invalid/", "none.invalid"
"""The last origin, with the slash after it, and its host. One tuple: threads ask too."""


@lru_cache(1_000)
def _host_of_origin(origin: str) -> str | None:
    """Return the host of an HTTP URL without its path, None for other URLs.

    One host has many URLs, and each request asks for it.
    """
    simple = _SIMPLE.fullmatch(origin)
    if simple is None:
        return _host(origin) if origin.startswith(("http://", "https://")) else None
    # Nearly every URL looks so. To parse it takes ten times as long as this.
    scheme, host, port = simple.groups()
    return host if port is None or int(port) == _DEFAULT_PORTS[scheme] else f"{host}:{int(port)}"


def _host(url: str) -> str:
    try:
        address = URL(url)
    except ValueError:
        return ""
    if address.host is None:
        return ""
    return address.host if address.is_default_port() else f"{address.host}:{address.port}"


class HttpTarget:
    """Requests URLs over one shared session. Enter it on the event loop that calls it.

    A URL is sent as it is written; only blanks, control and non-ASCII characters are escaped. So is the URL of a
    redirect. A call is one request, and one for each redirect: no request is repeated after a disconnect.

    Cookies are not kept, so that no worker's response depends on another's. A `user:password@` in a URL is used for
    basic authentication. Neither it nor the headers follow a redirect to another host.

    Args:
        method: The method of every request.
        headers: The headers of every request.
        body: The body of every request, sent as UTF-8; no body if empty.
        raise_for_status: Whether a status of 400 or above raises an `aiohttp.ClientResponseError`.
        timeout: Seconds for one request with its redirects and its whole response; None for no limit.
        connect_timeout: Seconds for one connection to be established; None for no limit.
        read_timeout: Seconds between two parts of a response; None for no limit.
        redirects: How many redirects are followed. With 0, a redirect is a response like any other.
        proxy: The URL of a proxy; `environment` for those that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`
            name; None for no proxy.
        verify: Whether the certificate of a server must be valid.
        ca: A PEM file with the certificates to trust, in place of those of the system.
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
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        redirects: int = 10,
        proxy: str | None = "environment",
        verify: bool = True,
        ca: str | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> None:
        self._method = method
        self._headers = dict(headers or {})
        self._body = body.encode() or None
        self._raise_for_status = raise_for_status
        self._timeout = timeout
        self._pauses = aiohttp.ClientTimeout(sock_connect=connect_timeout, sock_read=read_timeout)
        self._redirects = redirects
        self._proxy = proxy
        self._proxies: _Proxies | None = None
        self._verify = verify
        self._ca = ca
        self._concurrency = concurrency
        self._deadlines: Deadlines | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._deadlines = None if self._timeout is None else Deadlines(self._timeout)
        self._proxies = None if self._proxy is None else _Proxies(self._proxy)
        trusted: ssl.SSLContext | bool = self._verify
        if self._verify and self._ca is not None:
            trusted = ssl.create_default_context(cafile=self._ca)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, ssl=trusted),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._pauses,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            max_headers=_MOST_HEADERS,
            middlewares=(_send_once,),
            auto_decompress=False,  # no one reads the body, and a broken one says nothing of the answer's status
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

    key_of = staticmethod(host_of)
    """Return the key of the circuit and the rate limit for a URL. Each attempt asks for it."""

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
        address, proxies = address_of(url), self._proxies
        method, body, headers, own = self._method, self._body, self._headers, self.own_headers()
        if own:
            headers = {**headers, **own}
        redirects = 0
        while True:
            proxy = None if proxies is None else proxies.for_url(address)
            request = session.request(method, address, data=body, headers=headers, proxy=proxy, allow_redirects=False)
            try:
                response = await request
            except _Unsent as unsent:
                raise unsent.error from unsent.error.__cause__
            except aiohttp.ClientResponseError as error:
                if type(error) is not aiohttp.ClientResponseError:
                    raise
                # It has the status 400, which is none of the server.
                problem = one_line(error.message, _SHOWN).rstrip(" ^")
                raise aiohttp.ClientError(f"malformed response: {problem}") from error
            async with response:
                location = None
                if response.status in _REDIRECTS and self._redirects:
                    location = response.headers.get("Location")
                if location is None:
                    return await self._read(response)
                redirects += 1
                if redirects > self._redirects:
                    raise aiohttp.TooManyRedirects(
                        response.request_info,
                        (),
                        status=response.status,
                        message=f"more than {self._redirects} redirects",
                    )
                status = response.status
            if (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST"):
                method, body = "GET", None
                headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
            following = _redirected(address, location)
            if is_same_site(address, following):
                if following.raw_user is None and following.raw_password is None:
                    following = following.with_user(address.user).with_password(address.password)
            else:
                headers = {name: value for name, value in headers.items() if name.lower() in _FOR_EVERY_HOST}
            address = following

    async def _read(self, response: aiohttp.ClientResponse) -> int:
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


class _Unsent(Exception):  # noqa: N818  a wrapper of an error
    """Carries an error through `ClientSession.request`, which would repeat the request by itself."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__()
        self.error = error


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Middleware that keeps aiohttp from repeating an idempotent request after a disconnect."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Unsent(error) from None


_SENT = re.compile(r"[^?#/]*//[^?#/]*([^#]*)")
"""A URL, and in its group the path and the query."""
_UNSENDABLE = re.compile(r"[^!-~]+")


def address_of(url: str) -> URL:
    """Return `url` with the path and the query as they are written, except for characters that no request can hold."""
    address = URL(url)
    if str(address) == url:
        return address
    match = _SENT.match(url)
    path = _UNSENDABLE.sub(_escape, match[1]) if match is not None else ""
    if not path.startswith("/"):
        path = f"/{path}"
    return URL.build(scheme=address.scheme, authority=address.raw_authority, path=path, encoded=True)


def _escape(match: re.Match[str]) -> str:
    return quote_from_bytes(match[0].encode("utf-8", "surrogateescape"))


def _redirected(address: URL, location: str) -> URL:
    """Return the URL of a redirect from `address`. `location` is absolute or relative.

    Raises:
        aiohttp.InvalidUrlRedirectClientError: It is no URL.
        aiohttp.NonHttpUrlRedirectClientError: It is no URL of HTTP.

    """
    location = location.strip()
    origin = f"{address.scheme}://{address.host_port_subcomponent}"
    if location.startswith("//"):
        location = f"{address.scheme}:{location}"
    elif location.startswith("/"):
        location = origin + location
    elif not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location):
        location = urljoin(origin + address.raw_path_qs, location)
    try:
        following = address_of(location)
    except ValueError:
        raise aiohttp.InvalidUrlRedirectClientError(location, "is not a URL") from None
    if following.scheme not in {"http", "https"}:
        raise aiohttp.NonHttpUrlRedirectClientError(location)
    return following


def is_same_site(before: URL, after: URL) -> bool:
    """Return whether a redirect stays at the same host and port, or goes from HTTP to HTTPS at the default ports."""
    if before.raw_host != after.raw_host:
        return False
    if before.scheme == after.scheme:
        return before.port == after.port
    return after.scheme == "https" and before.is_default_port() and after.is_default_port()


class _Proxies:
    """Says which proxy a URL is requested by: always `setting`, or the one that the environment names."""

    def __init__(self, setting: str) -> None:
        self._named: dict[str, str] = {}
        self._always: URL | None = None
        self._direct: list[_Network] = []
        """Addresses that are requested directly."""
        if setting == "environment":
            self._named = urllib.request.getproxies_environment()
            if "no" in self._named:
                direct = [entry.strip() for entry in self._named["no"].split(",")]
                self._direct = [network for entry in direct if (network := _network(entry)) is not None]
                self._named["no"] = ",".join(entry.removeprefix("*") if "." in entry else entry for entry in direct)
        else:
            self._always = URL(setting)

    def for_url(self, address: URL) -> URL | None:
        """Return the URL of the proxy for `address`, None if it is requested directly.

        Raises:
            ValueError: The environment names a proxy that is none for HTTP, such as one for SOCKS.

        """
        if not self._named:
            return self._always
        name = address.scheme if self._named.get(address.scheme) else "all"
        proxy = self._named.get(name)
        if not proxy or self._is_direct(address):
            return None
        try:
            found = URL(proxy if "://" in proxy else f"http://{proxy}")
        except ValueError:
            raise ValueError(f"{name}_proxy of the environment is no URL; set http.proxy, or unset it") from None
        if found.scheme not in {"http", "https"}:
            what = "which is none for HTTP (SOCKS is not supported)"
            raise ValueError(f"{name}_proxy of the environment is {found.with_user(None)}, {what}; set http.proxy")
        return found

    def _is_direct(self, address: URL) -> bool:
        bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed: on macOS only
        if bypass(address.host_port_subcomponent or "", self._named):
            return True
        try:
            host = ipaddress.ip_address(address.host or "") if self._direct else None
        except ValueError:
            return False
        return any(host in network for network in self._direct)


def _network(text: str) -> _Network | None:
    """Return the addresses that an entry of `no_proxy` stands for, such as `10.0.0.0/8` or `[::1]`; None for a name."""
    try:
        return ipaddress.ip_network(text.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


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
