"""The HTTP target as a server sees it: what is requested, how often, from where, and with which headers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from asyncwatch.policies.classify import ErrorClass, classify, status_of
from asyncwatch.targets.http import HttpTarget, _Proxies, is_same_site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Site:
    """Answers by a function of the request's target, and keeps every head as it came."""

    def __init__(self, answer: Callable[[str], bytes | None]) -> None:
        self._answer = answer
        self.heads: list[str] = []
        self.port = 0
        self.under_way: list[asyncio.Task[None] | None] = []

    @property
    def targets(self) -> list[str]:
        """The target of each request: `/path?query`, or a whole URL for a proxy."""
        return [head.split()[1] for head in self.heads]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. The answer None closes it."""
        self.under_way.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                answer = self._answer(self.targets[-1])
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def site(answer: Callable[[str], bytes | None] = lambda _: OK) -> AsyncIterator[Site]:
    """Run a `Site` on a port of the loopback interface. Leave it after the client."""
    served = Site(answer)
    async with await asyncio.start_server(served.handle, "127.0.0.1", 0) as server:
        served.port = server.sockets[0].getsockname()[1]
        yield served
        await asyncio.gather(*filter(None, served.under_way))


def moved(location: str, status: int = 302) -> bytes:
    """Return a redirect."""
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/key%2Fpart?token=a%2Bb%3D&x=%7E'(1)", "/key%2Fpart?token=a%2Bb%3D&x=%7E'(1)"),
        ("/a/../b/./c//d", "/a/../b/./c//d"),
        ("/%7euser/%c3%a9", "/%7euser/%c3%a9"),
        ("/100%/x?q=%zz&r=a+b", "/100%/x?q=%zz&r=a+b"),
        ("/é?ä=ö", "/%C3%A9?%C3%A4=%C3%B6"),
        ("/asked?", "/asked?"),
        ("?only=query", "/?only=query"),
        ("", "/"),
        ("/page#part/é?x", "/page"),
    ],
)
async def test_url_is_requested_as_it_is_written(written: str, sent: str) -> None:
    async with site() as served, HttpTarget() as target:
        await target(f"http://127.0.0.1:{served.port}{written}")
    assert served.targets == [sent]


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/t%6Fken?sig=%2B%3d", "/t%6Fken?sig=%2B%3d"),
        ("?page=%32", "/deep/old?page=%32"),
        ("next%2Fone", "/deep/next%2Fone"),
        ("//127.0.0.1:{port}/x%41", "/x%41"),
        ("http://127.0.0.1:{port}/y%41?", "/y%41?"),
        ("/with blank", "/with%20blank"),
        ("/hé", "/h%C3%A9"),
    ],
)
async def test_redirect_is_followed_as_it_was_sent(location: str, sent: str) -> None:
    def answer(requested: str) -> bytes:
        return moved(location.format(port=served.port)) if requested == "/deep/old" else OK

    async with site(answer) as served, HttpTarget() as target:
        assert await target(f"http://127.0.0.1:{served.port}/deep/old") == 200
    assert served.targets == ["/deep/old", sent]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_server_that_hangs_up_gets_one_request(method: str) -> None:
    is_open = [True]

    def answer(_: str) -> bytes | None:
        return OK if is_open[0] else None

    async with site(answer) as served, HttpTarget(method=method, body="x") as target:
        url = f"http://127.0.0.1:{served.port}/"
        await target(url)
        is_open[0] = False  # the connection is kept: the next request goes over it
        with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
            await target(url)
    assert len(served.heads) == 2
    assert classify(caught.value) is ErrorClass.TRANSIENT


async def test_secrets_do_not_follow_a_redirect_to_another_host() -> None:
    async with site() as other, site(lambda _: moved(f"http://localhost:{other.port}/")) as served:
        headers = {"X-Api-Key": "k", "Cookie": "c", "User-Agent": "checker"}
        async with HttpTarget(headers=headers) as target:
            await target(f"http://us:pw@127.0.0.1:{served.port}/")
    assert "Authorization: Basic" in served.heads[0]
    assert "X-Api-Key: k" in served.heads[0]
    for name in ("authorization", "x-api-key", "cookie"):
        assert f"\n{name}:" not in other.heads[0].lower()
    assert "User-Agent: checker" in other.heads[0]


async def test_secrets_follow_a_redirect_on_the_same_host() -> None:
    there = site(lambda path: moved("/b") if path == "/a" else OK)
    async with there as served, HttpTarget(headers={"X-Api-Key": "k"}) as target:
        await target(f"http://u%40s:p%2Fw@127.0.0.1:{served.port}/a")
    sent = base64.b64encode(b"u@s:p/w").decode()
    assert f"Authorization: Basic {sent}" in served.heads[1]
    assert "X-Api-Key: k" in served.heads[1]


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [("POST", 302, "GET"), ("PUT", 302, "PUT"), ("PUT", 303, "GET"), ("POST", 307, "POST")],
)
async def test_method_after_a_redirect_is_that_of_the_status(method: str, status: int, then: str) -> None:
    there = site(lambda path: moved("/b", status) if path == "/a" else OK)
    async with there as served, HttpTarget(method=method) as target:
        await target(f"http://127.0.0.1:{served.port}/a")
    assert served.heads[1].split()[0] == then


async def test_redirects_are_followed_up_to_the_limit() -> None:
    async with site(lambda _: moved("/again")) as served:
        url = f"http://127.0.0.1:{served.port}/"
        async with HttpTarget(redirects=2) as target:
            with pytest.raises(aiohttp.TooManyRedirects, match="more than 2 redirects") as caught:
                await target(url)
        assert (len(served.heads), classify(caught.value)) == (3, ErrorClass.PERMANENT)
        async with HttpTarget(redirects=0) as target:
            assert await target(url) == 302
        assert len(served.heads) == 4


@pytest.mark.parametrize("location", ["ftp://a.example/", "http://a.example:port/", "http://"])
async def test_redirect_to_what_is_no_url_is_permanent(location: str) -> None:
    async with site(lambda _: moved(location)) as served, HttpTarget() as target:
        with pytest.raises(aiohttp.ClientError) as caught:
            await target(f"http://127.0.0.1:{served.port}/")
    assert classify(caught.value) is ErrorClass.PERMANENT


@pytest.mark.parametrize(
    "head",
    [
        "X-Long: " + "x" * 300_000,
        "\r\n".join(f"X-{number}: v" for number in range(500)),
        "X-Latin: caf\xe9",
        "X-Empty:",
        "Set-Cookie: =;;; no cookie",
    ],
    ids=["long", "many", "latin-1", "empty", "cookie"],
)
async def test_answer_with_large_or_odd_headers_is_judged_by_its_status(head: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    async with site(lambda _: answer) as served, HttpTarget() as target:
        assert await target(f"http://127.0.0.1:{served.port}/") == 200


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("http://a.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example:81/", "https://a.example/", False),
        ("http://a.example:81/", "http://a.example:82/", False),
        ("http://a.example/", "http://b.a.example/", False),
    ],
)
def test_same_site_is_the_same_host_and_port_or_its_https(before: str, after: str, same: bool) -> None:
    assert is_same_site(URL(before), URL(after)) is same


# -- proxies


async def test_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as proxy, site() as near:
        monkeypatch.setenv("HTTP_PROXY", f"us:pw@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{near.port}")
        async with HttpTarget() as target:
            assert await target("http://far.invalid/a%2Fb") == 200
            assert await target(f"http://127.0.0.1:{near.port}/c") == 200
    assert near.targets == ["/c"]
    assert proxy.targets == ["http://far.invalid/a%2Fb"]
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'us:pw').decode()}" in proxy.heads[0]


async def test_all_proxy_is_asked_if_the_scheme_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as proxy:
        monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{proxy.port}")
        async with HttpTarget() as target:
            assert await target("http://far.invalid/") == 200


async def test_proxy_that_is_none_for_http_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://us:hush@127.0.0.1:9")
    async with HttpTarget() as target:
        with pytest.raises(ValueError, match=r"all_proxy .* socks5://127\.0\.0\.1:9, which is none for HTTP") as caught:
            await target("http://far.invalid/")
    assert "hush" not in str(caught.value)


async def test_proxy_that_is_no_url_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://us:hush@[::1")
    async with HttpTarget() as target:
        with pytest.raises(
            ValueError, match=r"^http_proxy of the environment is no URL; set http\.proxy, or unset it$"
        ):
            await target("http://far.invalid/")


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://10.1.2.3:8080/", True),
        ("10.1.2.3/8", "http://10.200.0.1/", True),
        ("a.example, 192.168.0.0/16 ,b.example", "http://192.168.7.7/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://10.example/", False),
        ("fd00::/8", "http://[fd12::1]:81/", True),
        ("[::1]", "http://[::1]:81/", True),
        ("::1", "http://[::1]/", True),
        ("::/0", "http://10.0.0.1/", False),
        ("300.0.0.0/8", "http://10.0.0.1/", False),
        (".a.example", "http://b.a.example/", True),
        ("*.a.example", "http://b.a.example/", True),
        ("*.a.example", "http://ba.example/", False),
        ("*", "http://b.example/", True),
        ("b.example:81", "http://b.example:81/", True),
        ("b.example:81", "http://b.example/", False),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, *, is_direct: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (_Proxies("environment").for_url(URL(url)) is None) is is_direct


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "no-such"])
async def test_body_that_cannot_be_decoded_leaves_the_answer_a_success(encoding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 5\r\n\r\n"
    async with site(lambda _: head.encode() + b"hello") as served, HttpTarget() as target:
        assert await target(f"http://127.0.0.1:{served.port}/") == 200


@pytest.mark.parametrize(
    "head", ["HTTP/1.1 200 OK\r\nX A : b\r\n", "ICY 200 OK\r\n", "HTTP/1.1 200 OK\r\nnonsense\r\n"]
)
async def test_answer_that_is_no_http_has_no_status_and_is_not_repeated(head: str) -> None:
    async with site(lambda _: f"{head}Content-Length: 0\r\n\r\n".encode()) as served, HttpTarget() as target:
        with pytest.raises(aiohttp.ClientError, match="malformed response: ") as caught:
            await target(f"http://127.0.0.1:{served.port}/")
    assert (status_of(caught.value), classify(caught.value)) == (None, ErrorClass.PERMANENT)
    assert "\n" not in str(caught.value)


async def test_proxy_setting_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with site() as proxy:
        async with HttpTarget(proxy=f"http://127.0.0.1:{proxy.port}") as target:
            await target("http://far.invalid/")
        async with HttpTarget(proxy=None) as target:
            await target(f"http://127.0.0.1:{proxy.port}/near")
    assert proxy.targets == ["http://far.invalid/", "/near"]


async def test_passwords_of_netrc_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / ".netrc"
    netrc.write_text("default login us password hush\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with site() as served, HttpTarget() as target:
        await target(f"http://127.0.0.1:{served.port}/")
    assert "Authorization" not in served.heads[0]


# -- time


async def test_read_timeout_limits_the_wait_for_more() -> None:
    there = site(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    async with there as served, HttpTarget(timeout=None, read_timeout=0.01) as target:
        with pytest.raises(TimeoutError) as caught:
            await target(f"http://127.0.0.1:{served.port}/")
    assert classify(caught.value) is ErrorClass.TRANSIENT


# -- certificates


def test_certificate_that_cannot_be_verified_is_permanent() -> None:
    refused = ssl.SSLCertVerificationError(1, "self-signed certificate")
    key = aiohttp.client_reqrep.ConnectionKey("a.example", 443, True, True, None, None, None)
    assert classify(refused) is ErrorClass.PERMANENT
    assert classify(aiohttp.ClientConnectorCertificateError(key, refused)) is ErrorClass.PERMANENT


async def test_verify_decides_what_the_connector_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    connector = aiohttp.TCPConnector

    def record(**settings: object) -> aiohttp.TCPConnector:
        made.append(settings["ssl"])
        return connector(**settings)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(aiohttp, "TCPConnector", record)
    async with HttpTarget(), HttpTarget(verify=False):
        pass
    assert made == [True, False]
