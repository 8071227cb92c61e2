"""The HTTP target against a server on the loopback interface."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from asyncwatch.engine.current import current
from asyncwatch.policies.classify import classify, is_transient, retry_after_of
from asyncwatch.targets.http import HTTP_FAULTS, HttpTarget, failing, host_of


class Server:
    """Records the requests that it gets."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None, str]] = []
        self.connections: set[int] = set()
        self.cookies: list[dict[str, str]] = []
        self.authorization: str | None = None
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Respond with the status in the path and a body larger than one read."""
        self.requests.append((request.method, request.path, request.headers.get("X-Test"), await request.text()))
        self.connections.add(id(request.transport))
        self.authorization = request.headers.get("Authorization")
        self.cookies.append(dict(request.cookies))
        response = web.Response(status=int(request.match_info["status"]), body=b"x" * 300_000)
        response.set_cookie("visits", "1")
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a server during a test."""
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{status}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield server
    await runner.cleanup()


async def test_request_has_the_method_headers_and_body(server: Server) -> None:
    async with HttpTarget(method="POST", headers={"X-Test": "1"}, body="ü") as target:
        assert await target(f"{server.url}/201") == 201
    assert server.requests == [("POST", "/201", "1", "ü")]


async def test_body_longer_than_one_read_leaves_the_connection_usable(server: Server) -> None:
    async with HttpTarget(concurrency=1, raise_for_status=False) as target:
        for status in (200, 404, 503, 200):
            assert await target(f"{server.url}/{status}") == status
    assert len(server.connections) == 1


@pytest.mark.parametrize(("status", "transient"), [(404, False), (429, True), (500, True), (501, False)])
async def test_status_of_400_or_above_is_an_error(server: Server, status: int, transient: bool) -> None:
    async with HttpTarget() as target:
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await target(f"{server.url}/{status}")
    assert caught.value.status == status
    assert is_transient(caught.value) is transient


async def test_credentials_in_the_url_are_used_and_not_in_errors(server: Server) -> None:
    url = server.url.replace("://", "://us%40er:pass%2Fword@")
    async with HttpTarget() as target:
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await target(f"{url}/403")
    assert server.authorization == f"Basic {base64.b64encode(b'us@er:pass/word').decode()}"
    assert "word" not in str(caught.value)


async def test_response_in_a_worker_is_logged_with_its_bad_luck(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asyncwatch.worker")
    token = current.set(SimpleNamespace(name="7", incarnation=1, attempt=1, bad_luck=0.4217))
    try:
        async with HttpTarget() as target:
            await target(f"{server.url}/200")
    finally:
        current.reset(token)
    assert caplog.messages == ["Status: 200, 7, 0.42"]


@asynccontextmanager
async def answering(*parts: bytes, is_open: bool = False) -> AsyncIterator[str]:
    """Respond to each request with these parts, each in a packet, then close the connection unless it `is_open`.

    The value of the context is the URL. Leave the context after that of the client.
    """
    under_way: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if is_open:
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield "http://{}:{}/".format(*server.sockets[0].getsockname()[:2])
        await asyncio.gather(*filter(None, under_way))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 10", b"short"),
        (b"Transfer-Encoding: chunked", b"5\r\nshort\r\n"),
    ],
    ids=["cut off", "cut off between chunks"],
)
async def test_body_that_is_broken_is_an_error(head: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"
    for parts in ((head + body,), (head, body)):
        async with answering(*parts) as url, HttpTarget() as target:
            with pytest.raises(aiohttp.ClientPayloadError):
                await target(url)


async def test_response_incomplete_in_time_is_a_transient_timeout() -> None:
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
    async with answering(part, is_open=True) as url, HttpTarget(timeout=0.01) as target:
        with pytest.raises(TimeoutError, match=r"no complete response within 0\.01 s") as late:
            await target(url)
    assert is_transient(late.value)


async def test_cookie_of_a_response_is_not_sent_again(server: Server) -> None:
    url = server.url.replace("127.0.0.1", "localhost")  # cookies of an IP address are never kept
    async with HttpTarget() as target:
        assert [await target(f"{url}/200"), await target(f"{url}/200")] == [200, 200]
    assert server.cookies == [{}, {}]


async def test_refused_connection_is_transient_and_invalid_url_is_not(unused_tcp_port: int) -> None:
    async with HttpTarget() as target:
        with pytest.raises(aiohttp.ClientOSError) as refused:
            await target(f"http://127.0.0.1:{unused_tcp_port}/")
        with pytest.raises(aiohttp.InvalidURL) as invalid:
            await target("http:///")
    assert is_transient(refused.value)
    assert not is_transient(invalid.value)


async def test_call_outside_the_context_says_what_to_do() -> None:
    target = HttpTarget()
    with pytest.raises(RuntimeError, match="enter the HttpTarget"):
        await target("http://127.0.0.1/")


def test_default_faults_are_two_transient_ones_and_a_bug() -> None:
    faults = [fault() for fault in HTTP_FAULTS]
    assert [type(fault) for fault in faults] == [
        aiohttp.ServerDisconnectedError,
        aiohttp.ServerTimeoutError,
        RuntimeError,
    ]
    assert [is_transient(fault) for fault in faults] == [True, True, False]


def test_failing_status_is_classified_like_a_real_one() -> None:
    throttled = failing(503, retry_after=7)()
    assert (classify(throttled), retry_after_of(throttled, 0.0)) == ("throttled", 7.0)
    assert [classify(failing(status)()) for status in (404, 500, 504)] == ["permanent", "server", "transient"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example/path", "a.example"),
        ("https://user:secret@a.example:443/", "a.example"),
        ("http://a.example:8080", "a.example:8080"),
        ("nonsense", ""),
        ("http://[", ""),
    ],
)
def test_key_is_the_host_and_an_unusual_port(url: str, host: str) -> None:
    assert HttpTarget().key_of(url) == host


@given(
    st.sampled_from(["http", "https", "HTTP", "ftp", ""]),
    st.one_of(
        st.from_regex(r"[a-z0-9.-]{0,8}", fullmatch=True),
        st.sampled_from(
            ["a.example", "A.example", "127.0.0.1", "[::1]", "bücher.example", "a..b", "-a", "u:p@a.example", "a%20b"]
        ),
    ),
    st.sampled_from(["", ":80", ":443", ":8080", ":0080", ":0", ":99999", ":", ":x"]),
    st.sampled_from(["", "/", "/a?b#c", "?q", "#f", "\\", " "]),
)
def test_host_of_a_url_is_that_of_a_parser(scheme: str, host: str, port: str, rest: str) -> None:
    url = f"{scheme}://{host}{port}{rest}"
    try:
        address = URL(url)
        expected = address.host and (address.host if address.is_default_port() else f"{address.host}:{address.port}")
    except ValueError:
        expected = ""
    assert host_of(url) == (expected or "")


def test_host_of_a_parsed_url_is_found_too() -> None:
    address: Any = URL("http://a.example:81/")
    assert host_of(address) == "a.example:81"
