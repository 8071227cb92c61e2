"""A run of HTTP workers against servers on the loopback interface that limit their clients, by a real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from asyncwatch import Run, ThrottlePolicy, WorkerSpec, WorkerSpecs
from asyncwatch.targets.http import HttpTarget

Refuse = Callable[[float], dict[str, str] | None]
"""Returns the headers of a refusal, None to accept a request that comes so many seconds after the first."""


class Site:
    """A server that counts."""

    def __init__(self, refuse: Refuse, status: int = 429) -> None:
        self.refuse, self.status = refuse, status
        self.accepted = self.rejected = 0
        self.url = ""
        self._first: float | None = None

    async def answer(self, _request: web.BaseRequest) -> web.Response:
        """Answer a request."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        headers = self.refuse(now - self._first)
        if headers is not None:
            self.rejected += 1
            return web.Response(status=self.status, headers=headers)
        self.accepted += 1
        return web.Response(text="ok")

    def urls(self, count: int) -> list[str]:
        """Return so many different URLs."""
        return [f"{self.url}/{number}" for number in range(count)]


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Site]:
    """Run a site inside the context."""
    runner = web.ServerRunner(web.Server(site.answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield site
    finally:
        await runner.cleanup()


def quota(number: int, window: float) -> Refuse:
    """Return a rule that accepts so many requests in each window."""
    used: dict[int, int] = {}

    def refuse(now: float) -> dict[str, str] | None:
        which = int(now / window)
        used[which] = used.get(which, 0) + 1
        return None if used[which] <= number else {}

    return refuse


async def fetch(urls: list[str], concurrency: int, throttle: ThrottlePolicy | None = None) -> tuple[int, float]:
    """Return how many URLs were fetched, and the seconds that this took."""
    start = time.monotonic()
    async with HttpTarget(concurrency=concurrency) as target:
        specs = WorkerSpecs(WorkerSpec("url", target), urls, urls)
        async with asyncio.timeout(30):
            outcomes = await Run([specs], concurrency=concurrency, throttle=throttle or ThrottlePolicy()).gather()
    return sum(outcome.is_success for outcome in outcomes), time.monotonic() - start


async def test_quota_of_a_host_loses_no_url_and_wastes_few_requests() -> None:
    async with serving(Site(quota(10, 0.3))) as site:
        succeeded, _ = await fetch(site.urls(40), 10)
    assert (succeeded, site.accepted) == (40, 40)
    assert site.rejected <= 30


async def test_host_that_asks_to_wait_is_probed_by_a_single_request_when_the_time_is_over() -> None:
    def refuse(now: float) -> dict[str, str] | None:
        return {"Retry-After": "1"} if now < 0.9 else None

    async with serving(Site(refuse, status=503)) as site:
        succeeded, seconds = await fetch(site.urls(20), 5)
    assert succeeded == 20
    assert seconds >= 1.0
    assert site.rejected == 5


async def test_free_host_goes_on_beside_a_host_that_refuses_everything() -> None:
    async with serving(Site(lambda _now: {})) as closed, serving(Site(lambda _now: None)) as free:
        urls = [*closed.urls(20), *free.urls(200)]
        succeeded, _ = await fetch(urls, 10, ThrottlePolicy(patience=0.5))
    assert (succeeded, free.accepted) == (200, 200)
    assert closed.rejected <= 10 + 10
