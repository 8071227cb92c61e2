"""What reaches the port harms nothing: neither the run, nor other clients, nor anything that is left afterwards."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from asyncwatch.metrics import MetricsError, listen
from asyncwatch.metrics import server as module
from asyncwatch.metrics.exposition import Page
from asyncwatch.metrics.server import MOST_CONNECTIONS, Server

PATIENCE = 20.0


class Site:
    """A server of a few pages on the running loop."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.large = b"x" * 8_000_000
        self.server = Server(
            self.listener,
            {
                "/metrics": lambda: Page(200, "text/x; charset=utf-8", b"y" * 5_000),
                "/large": lambda: Page(200, "text/plain", self.large),
                "/fault": self._fault,
            },
        )

    def _fault(self) -> Page:
        raise ZeroDivisionError("odd")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def ask(self, request: bytes) -> bytes:
        """Return all that is answered; the server ends the connection."""
        reader, writer = await self.connect()
        writer.write(request)
        answer = b""
        with suppress(ConnectionError):
            await writer.drain()
            async with asyncio.timeout(PATIENCE):
                while part := await reader.read(65_536):
                    answer += part
        writer.close()
        return answer

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, str, bytes]:
        """Return the status, the head and the body of an answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers, "", ""]
        head, _, body = (await self.ask("\r\n".join(lines).encode())).partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), body


@asynccontextmanager
async def opened() -> AsyncIterator[Site]:
    site = Site()
    await site.server.open()
    try:
        yield site
    finally:
        async with asyncio.timeout(PATIENCE):
            await site.server.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with opened() as site:
        yield site


async def test_page_is_answered_and_the_connection_ends(site: Site) -> None:
    status, head, body = await site.get("/metrics")
    assert (status, body) == (200, b"y" * 5_000)
    assert "\r\nContent-Type: text/x; charset=utf-8\r\n" in head
    assert "\r\nServer: asyncwatch\r\n" in head
    assert "Connection: close" in head


async def test_head_has_the_length_and_no_body(site: Site) -> None:
    status, head, body = await site.get("/metrics", method="HEAD")
    assert (status, body) == (200, b"")
    assert "\r\nContent-Length: 5000\r\n" in head


async def test_gzip_is_used_if_the_client_takes_it(site: Site) -> None:
    _, head, body = await site.get("/metrics", "Accept-Encoding: gzip, deflate")
    assert "\r\nContent-Encoding: gzip\r\n" in head
    assert gzip.decompress(body) == b"y" * 5_000


async def test_large_page_is_compressed_without_a_thread(site: Site) -> None:
    before = threading.active_count()
    _, _, body = await site.get("/large", "Accept-Encoding: gzip")
    assert gzip.decompress(body) == site.large
    assert threading.active_count() == before


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/healthz?x", "//metrics", "/%2e%2e/"])
async def test_unknown_path_is_not_found(site: Site, path: str) -> None:
    status, _, body = await site.get(path)
    assert (status, body) == (404, b"there are only /metrics, /large, /fault\n")


async def test_query_is_ignored(site: Site) -> None:
    assert (await site.get("/metrics?name[]=x"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(site: Site, method: str) -> None:
    status, head, _ = await site.get("/metrics", "Content-Length: 0", method=method)
    assert status == 405
    assert "\r\nAllow: GET, HEAD\r\n" in head


async def test_page_that_cannot_be_made_is_logged_and_answered(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = await site.get("/fault")
    assert status == 500
    assert b"odd" not in body
    assert "a page of the metrics cannot be made" in caplog.text
    assert (await site.get("/metrics"))[0] == 200


GARBAGE = {
    "noise": Random(1).randbytes(2_000) + b"\r\n\r\n",
    "zeros": b"\0" * 5_000 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500,
    "no request": b"\r\n\r\n\r\n",
    "bare": b"GET\r\n\r\n",
    "version": b"GET /metrics HTTP/9.9\r\n\r\n",
    "long path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    "long header": b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
    "many headers": b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "two lengths": b"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "false chunks": b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "large body": b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"b" * 2_000_000,
    "CONNECT": b"CONNECT a.example:443 HTTP/1.1\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("request_", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_ends_its_own_connection_and_is_not_logged(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.5)
    answer = await site.ask(request_)
    assert answer == b"" or answer.split()[1] in {b"400", b"404", b"405", b"501", b"505"} or b" 200 " in answer[:20]
    assert (await site.get("/metrics"))[0] == 200
    assert caplog.records == []


async def test_pipelined_requests_have_one_answer(site: Site) -> None:
    answer = await site.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_thousand_idle_connections_keep_no_client_out_and_few_files_open(site: Site) -> None:
    idle = []
    for _ in range(1_000):
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, site.address)
        idle.append(connection)
    try:
        assert (await site.get("/metrics"))[0] == 200
        assert site.server._http is not None
        served = [each for each in site.server._http.connections if each.transport is not None]
        assert len(served) <= MOST_CONNECTIONS
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: "])
async def test_client_that_does_not_finish_its_request_is_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.05)
    assert await site.ask(sent) == b""


async def test_client_that_does_not_read_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.1)
    with socket.create_connection(site.address) as slow:
        slow.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(slow, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert site.server._http is not None
        await until(lambda: site.server._http is not None and not site.server._http.connections)
    assert (await site.get("/metrics"))[0] == 200


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  it is about sockets
            await asyncio.sleep(0.01)


async def _idle(site: Site) -> None:
    await site.connect()


async def _reading(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readexactly(1_000)


@pytest.mark.parametrize("client", [_idle, _reading])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_end_does_not_wait_for_clients_and_leaves_nothing(client: Callable[[Site], Awaitable[None]]) -> None:
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    async with opened() as site:
        await client(site)
        await until(lambda: site.server._http is not None and site.server._http.connections)
    await until(lambda: asyncio.all_tasks() <= tasks)
    assert threading.active_count() == threads
    assert site.listener.fileno() == -1
    with socket.create_server(site.address):
        pass  # the port is free


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
async def test_forked_process_holds_no_socket_of_the_server(site: Site) -> None:
    reader, writer = await site.connect()
    await until(lambda: site.server._http is not None and site.server._http.connections)
    assert site.server._http is not None
    (connection,) = site.server._http.connections
    assert connection.transport is not None
    numbers = [site.listener.fileno(), connection.transport.get_extra_info("socket").fileno()]
    child = os.fork()
    if not child:
        for number in numbers:
            with suppress(OSError):
                os.fstat(number)
                os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222  it ends at once
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


# -- the address


def test_port_alone_and_port_0_are_of_the_loopback_interface() -> None:
    metrics = listen("0")
    try:
        host, port = metrics._listener.getsockname()
        assert host == "127.0.0.1"
        assert metrics.url == f"http://127.0.0.1:{port}/metrics"
    finally:
        metrics.discard()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_address_is_in_brackets() -> None:
    try:
        metrics = listen("[::1]:0")
    except MetricsError as error:
        pytest.skip(str(error))
    metrics.discard()
    assert metrics.url.startswith("http://[::1]:")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "localhost:0"])
def test_host_is_where_it_listens(address: str) -> None:
    metrics = listen(address)
    host = metrics._listener.getsockname()[0]
    metrics.discard()
    assert host in {"0.0.0.0", "127.0.0.1", "::1"}
    assert (host == "0.0.0.0") == (address == "0.0.0.0:0")


def test_port_in_use_and_unknown_host_are_told_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(MetricsError, match=rf"^metrics cannot be served at {address}: Address already in use$"):
            listen(address)
    with pytest.raises(MetricsError, match=r"^metrics cannot be served at host\.invalid:1: \w"):
        listen("host.invalid:1")
    with pytest.raises(MetricsError, match=r"at 198\.51\.100\.1:0: Cannot assign requested address$"):
        listen("198.51.100.1:0")
